//! One host alone: `weir run`.

use std::{os::unix::net::UnixListener, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    sync::{mpsc, oneshot},
    time::interval,
};
use tracing::warn;
use weir_coord::grpc::Security;
use weir_coord_core::timing::Timing;
use weir_model::{NodeId, PolicyVersion, file};
use weir_proto::admin::v1;

use super::{
    attach_mode, descriptors, management, prepared, runtime, serve_locally, signals, sizes,
    supervise::{self, Ended, Lifeline, Side},
};
use crate::{
    attachment::Attachments,
    config::{self, XdpMode},
    daemon::{Coordination, Daemon, Enforcement, Facts, Inputs, Memory, Ticks},
    dataplane::{self, Clock, Dataplane, LoadOptions, Sizes},
    privileges::Unprivileged,
    serve::{Answer, Asker, QUESTIONS, Question, sockets},
};

/// What is printed is printed so often.
const PRINT_PERIOD: Duration = Duration::from_secs(1);
/// Before the interface's name in the name of the pins' group.
const ALONE: &str = "alone-";
/// The version that the given document gets; each `weir apply` counts on.
const FIRST_VERSION: PolicyVersion = PolicyVersion(1);

/// What to enforce where.
#[derive(Clone, Debug)]
pub struct Alone {
    /// On which interface.
    pub interface: String,
    /// The text of a limits file without errors.
    pub document: String,
    /// Where in the driver's path.
    pub mode: XdpMode,
    /// Where bpffs is, or is to be, mounted.
    pub bpffs: PathBuf,
    /// How much there is room for, at least.
    pub sizes: Sizes,
    /// Where `weir` reaches this process.
    pub admin_socket: PathBuf,
    /// One line of JSON each period instead of text.
    pub json: bool,
}

/// Enforces until interrupted, prints what happens, and takes the program off again. Returns what
/// the process is to exit with.
///
/// What ticks is a child without privileges, which could not take the program off; this process
/// waits for it, and does. To be called while there is one thread. It returns in both processes.
///
/// # Errors
///
/// What keeps it from starting, or made it end.
pub fn alone(how: &Alone) -> anyhow::Result<ExitCode> {
    // From here on a signal is kept until it is asked for, so that what was attached is detached.
    signals::hold()?;
    descriptors::raise();
    dataplane::preflight()?;
    let user = Unprivileged::choose(None)?;
    let state = tempfile::tempdir()?;
    let node = NodeId::from_u128(1);
    let mut memory = prepared::memory(state.path(), node, &how.interface, &user)?;
    user.acting(|| memory.set_policy(FIRST_VERSION, &how.document))??;
    let socket = sockets::unix(&how.admin_socket, &user)?;
    let unlink = sockets::Unlink::on_drop(&how.admin_socket);
    let policy = file::parse(&how.document).ok();
    let options = LoadOptions {
        // Not the group of a daemon: its limits and grants are not to be tried with.
        group: format!("{ALONE}{}", how.interface),
        interfaces: vec![how.interface.clone()],
        bpffs: how.bpffs.clone(),
        mode: attach_mode(how.mode),
        management: management(&config::default_management(&[])),
        clock: Clock::Boot,
        sizes: sizes(how.sizes, policy.as_ref()),
        policy: policy.map(|policy| (policy, FIRST_VERSION)),
    };
    warn!(
        "SSH, BGP and BFD ports pass from any source: whoever forges one bypasses every limit; a \
         node file can name the sources"
    );
    let dataplane = dataplane::load(&options)?;
    let ended = match supervise::split() {
        Ok(Side::Child(lifeline)) => {
            // The parent cleans up, for it can.
            let _directory = state.keep();
            std::mem::forget(unlink);
            user.drop_privileges()?;
            let ticking = enforce(how, node, dataplane, memory, socket, lifeline);
            runtime()?.block_on(ticking)?;
            return Ok(ExitCode::SUCCESS);
        }
        Ok(Side::Parent(child)) => child.wait(),
        Err(error) => Err(error),
    };
    // Until here it held the lock.
    drop(dataplane);
    // Whatever came of it, nothing stays: this is how a policy is tried, not how a host is run.
    dataplane::detach(&options.bpffs, &options.group)?;
    match ended? {
        // It has said why.
        Ended::With(code) => Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)),
        Ended::By(signal) => bail!("the ticking process was ended by {signal}; nothing was left"),
    }
}

async fn enforce(
    how: &Alone,
    node: NodeId,
    dataplane: Dataplane,
    memory: Memory,
    socket: UnixListener,
    lifeline: Lifeline,
) -> anyhow::Result<()> {
    let (told, cut) = (signals::stop()?, lifeline.cut()?);
    let stop = async {
        tokio::select! {
            () = told => {}
            () = cut => {}
        }
    };
    let attachments = Attachments::new(how.mode, std::slice::from_ref(&how.interface))?;
    let enforcement = Enforcement::new(node, dataplane, memory);
    if enforcement.policy().is_none() {
        bail!("the kernel cannot hold this policy; see above");
    }
    let (asker, questions) = mpsc::channel(QUESTIONS);
    serve_locally(socket, asker.clone(), Security::Plain)?;
    let printer = tokio::spawn(print(asker, how.json));
    let facts = Facts {
        node,
        name: how.interface.clone(),
        address: String::new(),
        zookeeper_servers: String::new(),
        tick: Timing::DEFAULT.tick,
        management: config::default_management(&[]),
    };
    let coordination = Coordination::Embedded {
        node,
        name: how.interface.clone(),
        timing: Timing::DEFAULT,
        embedded: None,
    };
    let mut daemon = Daemon::new(facts, enforcement, coordination, attachments);
    let mut inputs = Inputs {
        ticks: Ticks::new(Timing::DEFAULT.tick).context("no timer")?,
        events: None,
        inbound: None,
        questions,
    };
    let ended = daemon.run(&mut inputs, stop).await;
    printer.abort();
    Ok(ended?)
}

/// Prints every limit each period, until there is nobody to ask.
async fn print(asker: Asker, json: bool) {
    let mut periods = interval(PRINT_PERIOD);
    periods.tick().await;
    loop {
        periods.tick().await;
        let (answer, answered) = oneshot::channel();
        if asker
            .send(Question::Limits { top: 0, answer })
            .await
            .is_err()
        {
            return;
        }
        let Ok(Answer::Here(reply)) = answered.await else {
            continue;
        };
        if json {
            println!("{}", json_line(&reply));
        } else {
            for row in &reply.limits {
                println!("{}", text_line(row));
            }
        }
    }
}

fn text_line(row: &v1::LimitRow) -> String {
    format!(
        "{:<24} rate {:>12.0}/s  offered {:>12.0}/s  admitted {:>12.0}/s  dropped {:>12.0}/s",
        row.name, row.rate, row.offered, row.admitted, row.dropped
    )
}

fn json_line(reply: &v1::LimitsReply) -> String {
    let limits: Vec<_> = reply
        .limits
        .iter()
        .map(|row| {
            serde_json::json!({
                "name": row.name,
                "rate": row.rate,
                "burst": row.burst,
                "offered": row.offered,
                "admitted": row.admitted,
                "dropped": row.dropped,
            })
        })
        .collect();
    serde_json::json!({ "limits": limits }).to_string()
}
