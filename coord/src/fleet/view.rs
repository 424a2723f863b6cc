//! What is known of the fleet here, to look at.

use tokio::sync::watch;
use weir_coord_core::{
    commit::FleetCommit,
    leader::Leader,
    record::{MemberRecord, TermRecord},
};

use super::{CommitBy, Connection, Fleet};
use crate::{
    trial::Countdown,
    zookeeper::{Keeper, Live},
};

impl Fleet {
    /// The term in force, as far as this node knows.
    #[must_use]
    pub const fn term(&self) -> Option<&TermRecord> {
        self.term.as_ref()
    }

    /// The leader, if it is this node.
    #[must_use]
    pub const fn leader(&self) -> Option<&Leader<FleetCommit>> {
        self.leader.as_ref()
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &[MemberRecord] {
        &self.roster.members
    }

    /// The members, whenever the roster changes.
    #[must_use]
    pub fn watch_members(&self) -> watch::Receiver<Vec<MemberRecord>> {
        self.roster_seen.subscribe()
    }

    /// The daemons that seem to run.
    #[must_use]
    pub fn live(&self) -> &[Live] {
        &self.live
    }

    /// The connection to ZooKeeper.
    #[must_use]
    pub const fn connection(&self) -> Connection {
        self.connection
    }

    /// The change that waits to be confirmed.
    #[must_use]
    pub const fn trial(&self) -> Option<&Countdown> {
        self.trial.as_ref()
    }

    /// What makes a leader's decisions last.
    #[must_use]
    pub const fn commit_by(&self) -> CommitBy {
        self.host.commit
    }

    /// For changes of the policy, which the shell performs by itself.
    #[must_use]
    pub const fn keeper(&self) -> &Keeper {
        &self.keeper
    }
}
