//! Every command that a document shows is run, in the order and with the files that a reader would
//! have: a document whose commands do not work is a defect like any other.
//!
//! Commands in blocks are typed on a host of a fleet, unless a comment before the block says
//! otherwise:
//!
//! | `<!-- test: … -->` | its commands |
//! | --- | --- |
//! | none | on `edge-1` of a fleet of three |
//! | `first machine`, `second machine`, `both machines` | on clean machines with `eth0`; whatever they change is forgotten |
//! | `by CHORE` | are run by that chore |
//!
//! Chores (`cargo xtask …`) and commands in the middle of a sentence are not run, but have to be known,
//! with all of their options: they are asked for their help. So is what a chore runs in a container of
//! `deploy/compose`, if it is Weir's.

mod markdown;
mod place;
mod shell;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use self::{
    markdown::{Piece, Shown},
    place::Machines,
    shell::{Outcome, Shell},
};
use crate::{fleet::Fleet, interrupt::Interrupt, progress::Progress};

/// Documents with commands. One that is not listed and has some is a failure.
const DOCUMENTS: [&str; 20] = [
    "README.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "SPECIFICATION.md",
    "docs/chaos.md",
    "docs/concepts.md",
    "docs/console.md",
    "docs/faq.md",
    "docs/limits.md",
    "docs/metrics.md",
    "docs/runbook.md",
    "docs/tutorial.md",
    "docs/bench/README.md",
    "deploy/compose/README.md",
    "deploy/examples/README.md",
    "deploy/examples/one-host/README.md",
    "deploy/examples/five-hosts/README.md",
    "deploy/examples/fifty-hosts/README.md",
    "deploy/kubernetes/README.md",
];
/// Chores that run a document's commands themselves.
const ELSEWHERE: [&str; 1] = ["cargo xtask compose test"];
/// Where files are written, below the directory that is worked in.
const WORKSHOP: &str = "target/documents";
/// What the fleet enforces before anybody types anything.
const LIMITS: &str = "version = 1\n[[limit]]\nname = \"dns\"\nproto = \"udp\"\nports = [53]\n\
                      rate = \"30k packets/s\"\n";

/// What was done with the documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands that were run as they are shown.
    pub run: usize,
    /// Commands that exist, with all their options.
    pub known: usize,
    /// What did not work: document, line, command, what it said.
    pub failures: Vec<String>,
}

/// Runs the commands of these documents; of all, if none is named.
///
/// # Errors
///
/// If the fleet cannot be made or a document cannot be read. A command that fails is no error: it is
/// in the tally.
pub fn run(only: &[String], interrupt: &Interrupt, progress: &mut Progress) -> Result<Tally> {
    let mut tally = Tally {
        failures: unlisted()?,
        ..Tally::default()
    };
    let mut documents = Vec::new();
    let is_wanted = |document: &&str| only.is_empty() || only.iter().any(|one| one == document);
    for document in DOCUMENTS.into_iter().filter(is_wanted) {
        let text = fs::read_to_string(document).context(document)?;
        documents.push((document, markdown::pieces(&text)));
    }
    let pieces = documents.iter().flat_map(|(_, pieces)| pieces);
    let known: BTreeSet<String> = pieces.filter_map(asked_for_help).collect();
    progress.step("commands that are only named", || {
        for command in known {
            interrupt.check()?;
            tally.known += 1;
            if let Err(error) = place::here(&command) {
                tally.failures.push(format!("{error:#}"));
            }
        }
        Ok(())
    })?;
    let workshop = std::path::absolute(WORKSHOP)?;
    fs::create_dir_all(&workshop)?;
    let limits = workshop.join("at-first.toml");
    fs::write(&limits, LIMITS)?;
    let fleet = place::fleet(&limits, interrupt, progress)?;
    for (document, pieces) in &documents {
        interrupt.check()?;
        let directory = workshop.join(document.replace('/', "-"));
        progress.step(document, || {
            perform(document, pieces, &fleet, &directory, &mut tally)
        })?;
    }
    Ok(tally)
}

/// Types a document's commands where they belong.
fn perform(
    document: &str,
    pieces: &[Piece],
    fleet: &Fleet,
    directory: &Path,
    tally: &mut Tally,
) -> Result<()> {
    // A reader begins with nothing.
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)?;
    let mut desk = Desk::new(fleet, directory);
    for piece in pieces {
        match piece {
            Piece::File { name, text } => desk.files.push((name, text)),
            Piece::Command(shown) if !is_chore(&shown.text) => {
                let Some(outcome) = desk.enter(shown, &mut tally.run)? else {
                    continue;
                };
                let how = match outcome.status {
                    Some(status) => format!("exit code {status}"),
                    None => "it did not end".to_owned(),
                };
                let Shown { line, text, .. } = shown;
                let output = outcome.output.trim_end();
                tally
                    .failures
                    .push(format!("{document}:{line}: {text}: {how}\n{output}"));
                // What follows builds on it.
                return Ok(());
            }
            Piece::Command(_) | Piece::Mention(_) => {}
        }
    }
    Ok(())
}

/// The shells that a reader of one document has open, each opened when it is first needed.
struct Desk<'a> {
    fleet: &'a Fleet,
    directory: &'a Path,
    /// Files that the document has shown so far.
    files: Vec<(&'a String, &'a String)>,
    /// So many of them have been written where the reader was.
    written: usize,
    // In this order: shells end before their machines are removed.
    shells: BTreeMap<Where, Shell>,
    machines: Option<Machines>,
}

/// Whose keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Where {
    Fleet,
    Machine(usize),
}

impl<'a> Desk<'a> {
    fn new(fleet: &'a Fleet, directory: &'a Path) -> Self {
        Self {
            fleet,
            directory,
            files: Vec::new(),
            written: 0,
            shells: BTreeMap::new(),
            machines: None,
        }
    }

    /// Types a command wherever it belongs, and counts how often; the first outcome that is bad.
    fn enter(&mut self, shown: &Shown, typed: &mut usize) -> Result<Option<Outcome>> {
        for place in places_of(shown)? {
            let outcome = self.enter_at(*place, &shown.text)?;
            *typed += 1;
            if outcome.status != Some(0) {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    fn enter_at(&mut self, place: Where, command: &str) -> Result<Outcome> {
        let mut files = Vec::new();
        if !self.shells.contains_key(&place) {
            let shell = match place {
                Where::Fleet => place::on_fleet(self.fleet, self.directory)?,
                Where::Machine(number) => {
                    if self.machines.is_none() {
                        self.machines = Some(Machines::two(self.directory)?);
                    }
                    let machines = self.machines.as_ref().context("they were just made")?;
                    machines.shell(number)?
                }
            };
            self.shells.insert(place, shell);
            // Who goes to another machine takes along what is not that machine's own.
            let earlier = self.files.iter().take(self.written);
            let taken = earlier.filter(|(name, _)| !name.starts_with('/'));
            files = taken.copied().collect();
        }
        let shell = self.shells.get_mut(&place).context("it was just opened")?;
        // A file is written where the next command is typed.
        files.extend(self.files.iter().skip(self.written).copied());
        self.written = self.files.len();
        for (name, text) in files {
            let written = shell.file(name, text)?;
            if written.status != Some(0) {
                return Ok(written);
            }
        }
        shell.command(command)
    }
}

/// Where a command is typed; nowhere if another chore runs it.
fn places_of(shown: &Shown) -> Result<&'static [Where]> {
    let remark = match shown.remark.as_deref() {
        None => return Ok(&[Where::Fleet]),
        Some("first machine") => return Ok(&[Where::Machine(0)]),
        Some("second machine") => return Ok(&[Where::Machine(1)]),
        Some("both machines") => return Ok(&[Where::Machine(0), Where::Machine(1)]),
        Some(remark) => remark,
    };
    let chore = remark.strip_prefix("by ");
    ensure!(
        chore.is_some_and(|chore| ELSEWHERE.contains(&chore)),
        "line {}: no such place or chore: {remark}",
        shown.line
    );
    Ok(&[])
}

fn is_chore(command: &str) -> bool {
    command.starts_with("cargo xtask ")
}

/// The command line that says whether a command is known.
fn asked_for_help(piece: &Piece) -> Option<String> {
    let command = match piece {
        Piece::Mention(command) => command,
        Piece::Command(shown) if is_chore(&shown.text) => &shown.text,
        Piece::Command(shown) => in_container(&shown.text)?,
        Piece::File { .. } => return None,
    };
    // What follows is another program's, or a shell's.
    let own = command.split(" -- ").next().unwrap_or(command);
    let own = own.split(" > ").next().unwrap_or(own);
    Some(format!("{} --help", without_placeholders(own)))
}

/// Weir's command that is typed into a daemon's container.
fn in_container(command: &str) -> Option<&str> {
    let inside = command.strip_prefix("docker-compose exec ")?;
    let (_, own) = inside.split_once(' ')?;
    own.starts_with("weir ").then_some(own)
}

/// What stands for an argument, such as `NODE`, need not be of the form that the argument has.
fn without_placeholders(command: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for word in command.split(' ') {
        let is_value = kept.last().is_some_and(|before| before.starts_with("--"));
        let is_placeholder = word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
        if is_value || !is_placeholder {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// Documents with commands that are not in the list.
fn unlisted() -> Result<Vec<String>> {
    let mut unlisted = Vec::new();
    let mut directories = vec![
        PathBuf::from("."),
        PathBuf::from("docs"),
        PathBuf::from("docs/bench"),
        PathBuf::from("deploy"),
    ];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() && path.starts_with("deploy") {
                directories.push(path);
                continue;
            }
            let name = path
                .strip_prefix(".")
                .unwrap_or(&path)
                .display()
                .to_string();
            if !name.ends_with(".md") || DOCUMENTS.contains(&name.as_str()) {
                continue;
            }
            let pieces = markdown::pieces(&fs::read_to_string(&path)?);
            if pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Command(_)))
            {
                unlisted.push(format!("{name} shows commands that nobody runs"));
            }
        }
    }
    Ok(unlisted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str, remark: Option<&str>) -> Piece {
        Piece::Command(Shown {
            line: 7,
            text: text.to_owned(),
            remark: remark.map(str::to_owned),
        })
    }

    #[test]
    fn each_command_has_one_place() {
        let places = |remark| match command("weir status", remark) {
            Piece::Command(shown) => places_of(&shown),
            other => panic!("{other:?}"),
        };
        assert_eq!(places(None).unwrap(), [Where::Fleet]);
        let second = places(Some("second machine")).unwrap();
        assert_eq!(second, [Where::Machine(1)]);
        assert_eq!(places(Some("by cargo xtask compose test")).unwrap(), []);
        let error = places(Some("by nobody")).unwrap_err();
        assert!(error.to_string().contains("line 7"), "{error}");
    }

    #[test]
    fn what_is_not_run_is_asked_for_its_help() {
        let help = |piece: &Piece| asked_for_help(piece);
        let chore = command("cargo xtask bench control --markdown > tables.md", None);
        let asked = Some("cargo xtask bench control --markdown --help".to_owned());
        assert_eq!(help(&chore), asked);
        assert_eq!(help(&command("weir status", None)), None);
        let chore = Some("by cargo xtask compose test");
        let inside = command(
            "docker-compose exec node1 weir apply /etc/limits.toml",
            chore,
        );
        let asked = Some("weir apply /etc/limits.toml --help".to_owned());
        assert_eq!(help(&inside), asked);
        let another = command("docker-compose exec host1 awk 1 /proc/net/snmp", chore);
        assert_eq!(help(&another), None);
        let mention = Piece::Mention("weir remove NODE".to_owned());
        assert_eq!(help(&mention), Some("weir remove --help".to_owned()));
    }
}
