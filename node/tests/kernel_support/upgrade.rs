//! Data planes of several layouts, loaded here or in a process that is killed.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use weir_model::{LimitId, Policy, PolicyVersion};
use weir_node::dataplane::{self, Dataplane, LoadOptions, Sizes, Step};
use weir_other_dataplane::dataplane as other;

use super::TestHost;

/// The version of the policy in these tests.
pub const VERSION: PolicyVersion = PolicyVersion(7);

/// Which program loads, and with which sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// A later version, whose maps have other values.
    pub is_other: bool,
    pub limit_slots: u32,
    pub key_slots: u32,
}

impl Build {
    pub const fn own(limit_slots: u32, key_slots: u32) -> Self {
        Self {
            is_other: false,
            limit_slots,
            key_slots,
        }
    }

    pub const fn other(limit_slots: u32, key_slots: u32) -> Self {
        Self {
            is_other: true,
            limit_slots,
            key_slots,
        }
    }

    /// What it calls its layout.
    pub fn layout(self) -> String {
        let version = if self.is_other {
            weir_other_dataplane::LAYOUT_VERSION
        } else {
            weir_abi::LAYOUT_VERSION
        };
        format!("v{version}-{}-{}", self.limit_slots, self.key_slots)
    }

    pub fn options(self, host: &TestHost, policy: Option<Policy>) -> LoadOptions {
        self.fit(host.options(&["near"]), policy)
    }

    fn fit(self, options: LoadOptions, policy: Option<Policy>) -> LoadOptions {
        LoadOptions {
            sizes: Sizes {
                limit_slots: self.limit_slots,
                key_slots: self.key_slots,
            },
            policy: policy.map(|policy| (policy, VERSION)),
            ..options
        }
    }

    /// Loads in this process; the error as text.
    pub fn load(self, options: &LoadOptions) -> Result<Loaded, String> {
        if !self.is_other {
            let loaded = dataplane::load(options).map(Loaded::Own);
            return loaded.map_err(|error| error.to_string());
        }
        let options = other::LoadOptions {
            interfaces: options.interfaces.clone(),
            group: options.group.clone(),
            bpffs: options.bpffs.clone(),
            mode: other::AttachMode::Native,
            management: Vec::new(),
            clock: other::Clock::Boot,
            sizes: other::Sizes {
                limit_slots: self.limit_slots,
                key_slots: self.key_slots,
            },
            policy: options.policy.clone(),
        };
        let loaded = other::load(&options).map(Loaded::Other);
        loaded.map_err(|error| error.to_string())
    }
}

/// A data plane of either version.
#[derive(Debug)]
pub enum Loaded {
    Own(Dataplane),
    Other(other::Dataplane),
}

/// What was counted of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub offered: u64,
    pub passed: u64,
}

macro_rules! either {
    ($loaded:expr, $dataplane:ident => $what:expr) => {
        match $loaded {
            Loaded::Own($dataplane) => $what,
            Loaded::Other($dataplane) => $what,
        }
    };
}

impl Loaded {
    pub fn activate(&mut self, policy: &Policy) {
        either!(self, dataplane => dataplane.activate(policy, VERSION).unwrap());
    }

    pub fn active_policy(&self) -> PolicyVersion {
        either!(self, dataplane => dataplane.active_policy())
    }

    pub fn passes(&self, frame: &[u8]) -> bool {
        either!(self, dataplane => dataplane.run_frame(frame).unwrap())
    }

    /// Packets received; they must be as many as have a verdict.
    pub fn received(&self) -> u64 {
        either!(self, dataplane => {
            let totals = dataplane.counters().unwrap().totals;
            let decided: u64 = totals.by_reason.iter().map(|tally| tally.packets).sum();
            assert_eq!(totals.received.packets, decided);
            decided
        })
    }

    pub fn counted(&self, limit: &str) -> Counted {
        either!(self, dataplane => {
            let count = dataplane.count(LimitId::of(limit)).unwrap().unwrap();
            Counted { offered: count.offered_tokens(), passed: count.admitted_tokens() }
        })
    }

    /// Grant, floor and end of a limit, as text, for they are of two versions.
    pub fn held(&self, limit: &str) -> String {
        either!(self, dataplane => {
            let held = dataplane.held(LimitId::of(limit)).unwrap().unwrap();
            format!("{:?} {:?} {:?}", held.amount, held.floor, held.expires)
        })
    }
}

const ARGUMENTS: &str = "WEIR_TEST_LOADER";
const LOADED: &str = "loaded: ";

/// Starts a process that loads, and then waits for its end. With a step it kills itself there.
pub fn start(options: &LoadOptions, build: Build, step: Option<Step>) -> Child {
    let arguments = [
        options.bpffs.display().to_string(),
        options.interfaces.join("+"),
        build.is_other.to_string(),
        build.limit_slots.to_string(),
        build.key_slots.to_string(),
        step.map_or(0, |step| step as u32).to_string(),
    ];
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "another_process", "--ignored", "--nocapture"])
        .env(ARGUMENTS, arguments.join(" "))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the process says of its loading; `None` if it dies first.
pub fn outcome(child: &mut Child) -> Option<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The harness prints the test's name in front.
    lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once(LOADED)?.1.to_owned()))
}

/// The other process. To be called by an ignored test of the name `another_process`.
pub fn be_started(policy: Policy) {
    let Ok(arguments) = env::var(ARGUMENTS) else {
        return;
    };
    // While it hands over nothing passes: a busy machine is to keep it from that as little as it
    // keeps packets from coming in.
    // SAFETY: no pointers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
    let words: Vec<&str> = arguments.split(' ').collect();
    let number = |index: usize| -> u32 { words[index].parse().unwrap() };
    let build = Build {
        is_other: words[2] == "true",
        limit_slots: number(3),
        key_slots: number(4),
    };
    if let Some(step) = Step::ALL.into_iter().find(|step| *step as u32 == number(5)) {
        dataplane::kill_after(step);
        let index = Step::ALL.iter().position(|one| *one == step).unwrap();
        other::kill_after(other::Step::ALL[index]);
    }
    let options = LoadOptions {
        interfaces: words[1].split('+').map(str::to_owned).collect(),
        group: "test".to_owned(),
        bpffs: words[0].into(),
        mode: dataplane::AttachMode::Native,
        management: Vec::new(),
        clock: dataplane::Clock::Boot,
        sizes: Sizes::default(),
        policy: None,
    };
    let loaded = build.load(&build.fit(options, Some(policy)));
    let said = match &loaded {
        Ok(_) => "yes",
        Err(error) => error,
    };
    println!("{LOADED}{said}");
    let _ = std::io::stdin().read(&mut [0]);
}
