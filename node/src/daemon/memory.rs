//! What a host remembers across reboots: the policy, and whether it is a member.
//!
//! By the term that it has known, a daemon that starts notices that ZooKeeper was restored from an old backup.
//!
//! A host that comes up while ZooKeeper is away enforces the last policy, and spends nothing of shared
//! limits until it has read what the roster reserves for it. The file
//! is also how a copied state directory is noticed: it names the node that it belongs to.
//!
//! A policy is remembered before it is enforced, or it is not enforced: a host that came back with the one
//! before would give the keys of a strict limit what that gave them, long after the fleet was told that it
//! goes by a lower one. Anything else that could not be saved is saved as soon as it can be.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::error;
use weir_coord::trial::Trial;
use weir_model::{Amount, Cost, LimitId, NodeId, PolicyVersion, Scale, Term};

const FILE: &str = "node.json";

/// The remembered state, written through to its file.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    content: Content,
    /// What is in the file may be older than `content`.
    is_behind: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Content {
    node: NodeId,
    /// Whose membership, policy and floors these are.
    fleet: String,
    is_member: bool,
    /// It was told that nothing is its own, and no commit has said otherwise since.
    #[serde(default)]
    has_given_up: bool,
    policy: Option<(PolicyVersion, String)>,
    /// What the kernel was last given, which is what the fleet has reserved: a document alone may
    /// promise more than there was room for.
    #[serde(default)]
    floors: BTreeMap<LimitId, Floor>,
    /// The newest term that ZooKeeper has said.
    #[serde(default)]
    term: Term,
    /// Of a host alone.
    #[serde(default)]
    trial: Option<OwnTrial>,
}

/// A change that waits to be confirmed, on a host alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnTrial {
    /// Which, and for how long.
    pub trial: Trial,
    /// What was in force before.
    pub document: String,
}

/// A floor that this node has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// What a token was.
    pub cost: Cost,
    /// The units of `amount`.
    pub scale: Scale,
    /// How much.
    pub amount: Amount,
}

/// Why the state directory cannot be used.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// It cannot be made, read or written.
    #[error("state directory {directory}: {source}; make it writable for weir-node")]
    Unusable {
        /// Which.
        directory: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// It was copied from another host.
    #[error(
        "state directory {directory} belongs to node {found}, but this is node {expected}: it was \
         copied from another host, or `node.id` has changed; empty it to start as a new node"
    )]
    Foreign {
        /// Which.
        directory: PathBuf,
        /// The node in the file.
        found: NodeId,
        /// This node.
        expected: NodeId,
    },
}

impl Memory {
    /// Reads what `node` remembers of `fleet` in `directory`, which is made if it is missing. A file that
    /// cannot be understood counts as none: what it held comes again from ZooKeeper.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] if the directory is unusable or another node's.
    pub fn open(directory: &Path, node: NodeId, fleet: &str) -> Result<Self, MemoryError> {
        let unusable = |source| MemoryError::Unusable {
            directory: directory.to_owned(),
            source,
        };
        fs::create_dir_all(directory).map_err(unusable)?;
        let path = directory.join(FILE);
        let content = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Content>(&bytes)
                .inspect_err(|error| error!(%error, path = %path.display(), "ignored: malformed"))
                .ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unusable(error)),
        };
        if let Some(content) = &content
            && content.node != node
        {
            let directory = directory.to_owned();
            return Err(MemoryError::Foreign {
                directory,
                found: content.node,
                expected: node,
            });
        }
        let content = content
            .filter(|content| content.fleet == fleet)
            .unwrap_or(Content {
                node,
                fleet: fleet.to_owned(),
                is_member: false,
                has_given_up: false,
                policy: None,
                floors: BTreeMap::new(),
                term: Term(0),
                trial: None,
            });
        let memory = Self {
            path,
            content,
            is_behind: false,
        };
        memory.write().map_err(unusable)?;
        Ok(memory)
    }

    /// Whether the roster had this node when it was last seen.
    pub fn is_member(&self) -> bool {
        self.content.is_member
    }

    /// Whether a leader has said that nothing is this node's own, and none has granted it anything since.
    pub fn has_given_up(&self) -> bool {
        self.content.has_given_up
    }

    /// Remembers. `false` if it could not be written: then it is not so.
    pub fn set_given_up(&mut self, has_given_up: bool) -> bool {
        if self.content.has_given_up == has_given_up {
            return true;
        }
        let written = self.change(|content| content.has_given_up = has_given_up);
        if let Err(error) = &written {
            error!(%error, path = %self.path.display(), "state was not saved");
        }
        written.is_ok()
    }

    /// The policy that was last in force.
    pub fn policy(&self) -> Option<(PolicyVersion, String)> {
        self.content.policy.clone()
    }

    /// Remembers.
    pub fn set_member(&mut self, is_member: bool) {
        self.content.is_member = is_member;
        self.save();
    }

    /// Remembers the policy that is to be enforced.
    ///
    /// # Errors
    ///
    /// The system's word if it could not be saved: then the one before is remembered still.
    pub fn set_policy(&mut self, version: PolicyVersion, document: &str) -> io::Result<()> {
        self.change(|content| content.policy = Some((version, document.to_owned())))
    }

    /// Remembers the policy that is enforced still, after another one could not be.
    pub fn restore_policy(&mut self, before: Option<(PolicyVersion, String)>) {
        self.content.policy = before;
        self.save();
    }

    /// Makes sure that a policy can be remembered, and keeps the room for it.
    ///
    /// # Errors
    ///
    /// The system's word if there is no room, or the directory cannot be written.
    pub fn make_room(&self, version: PolicyVersion, document: &str) -> io::Result<()> {
        let content = Content {
            policy: Some((version, document.to_owned())),
            ..self.content.clone()
        };
        self.write_aside(&content).map(drop)
    }

    /// The floors that this node has had.
    pub fn floors(&self) -> &BTreeMap<LimitId, Floor> {
        &self.content.floors
    }

    /// Remembers, if they are others.
    pub fn set_floors(&mut self, floors: BTreeMap<LimitId, Floor>) {
        if self.content.floors != floors {
            self.content.floors = floors;
            self.save();
        }
    }

    /// The newest term that ZooKeeper has said to any daemon of this node.
    pub fn term(&self) -> Term {
        self.content.term
    }

    /// Remembers a term that ZooKeeper has said, if it is newer. What only other nodes say is not
    /// remembered: one that lies would keep this host from leading for good.
    pub fn set_term(&mut self, term: Term) {
        if term > self.content.term {
            self.content.term = term;
            self.save();
        }
    }

    /// The change that waits to be confirmed.
    pub fn trial(&self) -> Option<OwnTrial> {
        self.content.trial.clone()
    }

    /// Remembers it, or that there is none.
    ///
    /// # Errors
    ///
    /// The system's word if it could not be saved: then it is as before.
    pub fn set_trial(&mut self, trial: Option<OwnTrial>) -> io::Result<()> {
        self.change(|content| content.trial = trial)
    }

    /// Saves what could not be saved before.
    pub fn catch_up(&mut self) {
        if self.is_behind {
            self.save();
        }
    }

    /// Remembers a change, or what was before it if that could not be written.
    fn change(&mut self, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let before = self.content.clone();
        change(&mut self.content);
        let written = self.write();
        if written.is_err() {
            self.content = before;
        }
        // The file may have it, if only the directory could not be written.
        self.is_behind = written.is_err();
        written
    }

    fn save(&mut self) {
        let saved = self.write();
        if let Err(error) = &saved {
            error!(%error, path = %self.path.display(), "state was not saved; it is tried again");
        }
        self.is_behind = saved.is_err();
    }

    /// Replaces the file as a whole, so that a crash leaves the old or the new one.
    fn write(&self) -> io::Result<()> {
        fs::rename(self.write_aside(&self.content)?, &self.path)?;
        // Without it a loss of power could bring the old one back, after this one was acknowledged.
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::File::open(directory)?.sync_all()
    }

    /// Writes the file that is to replace it. What a file of that name has room for stays its own.
    fn write_aside(&self, content: &Content) -> io::Result<PathBuf> {
        let bytes = serde_json::to_vec_pretty(content)?;
        let next = self.path.with_extension("json.next");
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(&next)?;
        io::Write::write_all(&mut &file, &bytes)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_and_knows_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let node = NodeId::from_u128(1);
        let mut memory = Memory::open(directory.path(), node, "edge").unwrap();
        assert!(!memory.is_member() && memory.policy().is_none());
        memory.set_member(true);
        memory.set_policy(PolicyVersion(3), "version = 1").unwrap();
        memory.set_term(Term(9));
        memory.set_term(Term(3));
        let memory = Memory::open(directory.path(), node, "edge").unwrap();
        assert!(memory.is_member());
        assert_eq!(memory.term(), Term(9), "the newest that there ever was");
        assert_eq!(
            memory.policy(),
            Some((PolicyVersion(3), "version = 1".to_owned()))
        );
        let elsewhere = Memory::open(directory.path(), node, "core").unwrap();
        assert!(
            !elsewhere.is_member(),
            "membership of another fleet is none of this one"
        );
        assert_eq!(elsewhere.term(), Term(0));
        let other = Memory::open(directory.path(), NodeId::from_u128(2), "edge");
        assert!(matches!(other, Err(MemoryError::Foreign { .. })));
    }

    #[test]
    fn what_could_not_be_saved_is_saved_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let reopened = || Memory::open(directory.path(), NodeId::from_u128(1), "edge").unwrap();
        let mut memory = reopened();
        memory.set_policy(PolicyVersion(1), "one").unwrap();
        let full = directory.path().join("node.json.next");
        std::os::unix::fs::symlink("/dev/full", &full).unwrap();
        memory.make_room(PolicyVersion(2), "two").unwrap_err();
        memory.set_policy(PolicyVersion(2), "two").unwrap_err();
        memory.set_term(Term(9));
        memory.catch_up();
        fs::remove_file(full).unwrap();
        memory.catch_up();
        let one = Some((PolicyVersion(1), "one".to_owned()));
        assert_eq!(memory.policy(), one, "it is no policy that may be enforced");
        let memory = reopened();
        assert_eq!((memory.policy(), memory.term()), (one, Term(9)));
    }

    #[test]
    fn room_that_was_made_is_no_policy() {
        let directory = tempfile::tempdir().unwrap();
        let reopened = || Memory::open(directory.path(), NodeId::from_u128(1), "edge").unwrap();
        let mut memory = reopened();
        memory.set_policy(PolicyVersion(1), "one").unwrap();
        memory
            .make_room(PolicyVersion(2), "a longer one, whose end must not remain")
            .unwrap();
        memory.set_term(Term(9));
        let one = Some((PolicyVersion(1), "one".to_owned()));
        assert_eq!((reopened().policy(), reopened().term()), (one, Term(9)));
    }

    #[test]
    fn a_torn_file_is_no_reason_to_stay_down() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "{").unwrap();
        assert!(Memory::open(directory.path(), NodeId::from_u128(1), "edge").is_ok());
    }
}
