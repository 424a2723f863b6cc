//! Rule 12, *policy*, and rule 11, *cut*: how another document comes into force.
//!
//! 1. Every node compiles the document and loads it beside the one in force; its reports say so.
//! 2. Once all that take part have it, or a majority of voters for a while, the next proposal is
//!    made under it: that generation is where it begins. A node that has it ready enforces it then,
//!    one that has not runs on what it holds, and soon on its floors.
//! 3. Once that proposal, or a later one, is committed, a majority of voters has the version in
//!    the register. `policy/current` is written under the check of `term`, until it is known to be.
//!
//! A leader that dies before the last step leaves the version in the register. Its successor adopts
//! it, and does not propose by an older one. Without that, nodes go back to a budget which has been
//! lowered, and which was promised.
//!
//! A limit whose units have changed begins with an empty bucket at every node, and with what is
//! [left](crate::carry) of the node's lease: less than the book says that it may hold.
//!
//! A lowered limit is proposed at once. What nodes hold above it, floors above all, stays in the
//! book until they acknowledge less; the limit is *pending* while the book adds up to too much, or
//! while there is a member that has not acknowledged anything under this policy. Without that, the
//! new budget is promised while a node that is cut off still spends a floor of the old one.
//!
//! What each member gives a key of a strict limit by itself, a part of `max_members`, is in no book. So
//! a policy with room for fewer members than there are does not begin before enough of them have
//! left; and while a member may still go by one that had room for fewer than this one, nobody is
//! admitted beyond that. `policy/current` has that number, so that a leader which takes over knows it,
//! and a larger one once nobody goes by an older policy. Until it names a policy that has begun, it has
//! the number of the one before, and whoever leads by the new one keeps to that until all members have
//! acknowledged something under it.
//!
//! A leader reads `policy/current` after it has written `term`. A policy that is newer than its own it
//! has yet to hear of, as if a register said so; one that is older it writes anew.

use weir_model::{
    Generation, Limit, LimitId, Nanos, NodeId, Policy, PolicyVersion, policy::Promise,
};

use super::{Command, Leader, coordinated, debt::lend_twice, roster::Stage};
use crate::{commit::CommitBackend, record::PolicyRecord, rules::Mutation};

/// A document that is to come into force.
#[derive(Clone, Debug, Hash)]
pub(super) struct Prepared {
    version: PolicyVersion,
    policy: Policy,
    /// Since when a majority of voters has it.
    since: Option<Nanos>,
}

/// For how many members there is room, as the policies say that members may go by: each gives the
/// keys of a strict limit by itself what is one part of so many.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Room {
    /// In the policy that this leader leads by.
    own: u32,
    /// In those before it, for as long as a member may go by them.
    before: u32,
    /// What ZooKeeper is known to say.
    recorded: PolicyRecord,
    /// When it was last to be told of this policy.
    asked: Option<Nanos>,
}

impl Room {
    /// Of a leader that begins with this policy.
    pub(super) fn new(recorded: PolicyRecord, (version, policy): (PolicyVersion, &Policy)) -> Self {
        let is_followed = recorded.version < version && recorded.version > PolicyVersion(0);
        // How much an older policy has is known to nobody here if its record does not say so.
        let unknown = if is_followed { 0 } else { u32::MAX };
        Self {
            own: keyed_places(policy),
            before: recorded.places.unwrap_or(unknown),
            recorded,
            asked: None,
        }
    }

    /// ZooKeeper says so.
    pub(super) fn note(&mut self, record: PolicyRecord) {
        if record.version >= self.recorded.version {
            self.recorded = record;
        }
    }

    /// Whether ZooKeeper says that there is less in this policy than there is.
    fn is_more_than_recorded(&self, version: PolicyVersion) -> bool {
        let recorded = self.recorded.places;
        self.recorded.version == version && recorded.is_none_or(|recorded| recorded < self.own)
    }

    /// In all policies that a member may go by.
    fn places(&self, is_pending: bool) -> u32 {
        if is_pending {
            self.own.min(self.before)
        } else {
            self.own
        }
    }

    /// Another policy is in force; one before it may still be pending.
    fn follow(&mut self, policy: &Policy, is_pending: bool) {
        self.before = self.places(is_pending);
        self.own = keyed_places(policy);
        self.asked = None;
    }
}

impl<B: CommitBackend> Leader<B> {
    /// A document is to come into force as soon as nodes have it ready. The newest one counts.
    pub(super) fn prepare_policy(&mut self, version: PolicyVersion, policy: Policy, now: Nanos) {
        let is_news = self
            .prepared
            .as_ref()
            .is_none_or(|known| known.version < version);
        if version > self.policy_version && is_news {
            self.prepared = Some(Prepared {
                version,
                policy,
                since: None,
            });
            self.activate(now);
        }
    }

    /// ZooKeeper says which policy is in force. One that is older is what it has yet to be told.
    pub(super) fn policy_in_force(&mut self, version: PolicyVersion, policy: Policy) {
        if self
            .activation
            .is_some_and(|activation| activation <= version)
        {
            self.activation = None;
        }
        if version > self.policy_version {
            self.set_policy(version, policy);
        }
    }

    /// Begins with the document that nodes have ready, if it is time, and asks for what is
    /// committed to be written down.
    pub(super) fn activate(&mut self, now: Nanos) {
        self.ask_for_activation(now);
        if self.succession.is_some() {
            return;
        }
        let (is_wanted, is_ready) = match &self.prepared {
            // The leader before has begun with it already.
            Some(prepared) if self.is_behind() => (prepared.version >= self.adopted_policy, true),
            Some(prepared) => (self.voters_have(prepared.version), false),
            None => return,
        };
        let all_have_it = self.all_have_prepared(now);
        let patience = self.timing.idle();
        let has_places = self.has_places();
        let Some(prepared) = &mut self.prepared else {
            return;
        };
        if !is_wanted {
            prepared.since = None;
            return;
        }
        let since = *prepared.since.get_or_insert(now);
        let has_begun = is_ready && prepared.version == self.adopted_policy;
        if !has_places && !has_begun {
            return;
        }
        if (is_ready || all_have_it || now - since >= patience)
            && let Some(prepared) = self.prepared.take()
        {
            self.activation = Some(prepared.version);
            self.set_policy(prepared.version, prepared.policy);
        }
    }

    /// Whether all members, and those that are to be, have a place under the policy that is to come
    /// into force.
    fn has_places(&self) -> bool {
        let prepared = self.prepared.as_ref();
        prepared.is_none_or(|prepared| self.places_taken() <= places(&prepared.policy))
    }

    /// How many members there may be: as many as all policies have room for that anybody may go by.
    pub(super) fn places(&self) -> usize {
        let now = places(&self.policy);
        let is_forgetful = self.rules.breaks(Mutation::PlacesForgotten);
        let is_pending = self.pending().next().is_some() && !is_forgetful;
        let keyed = usize::try_from(self.room.places(is_pending)).unwrap_or(usize::MAX);
        now.min(keyed)
    }

    fn voters_have(&self, version: PolicyVersion) -> bool {
        if !self.backend.is_voted() {
            return true;
        }
        self.electorate.has_majority(|voter| {
            let heard = self.members.get(&voter).and_then(|member| member.heard);
            heard.is_some_and(|heard| heard.has(version))
        })
    }

    fn all_have_prepared(&self, now: Nanos) -> bool {
        let Some(prepared) = &self.prepared else {
            return false;
        };
        let has_it = |heard: super::member::Heard| heard.has(prepared.version);
        self.participating(now)
            .all(|(_, member)| member.heard.is_some_and(has_it))
    }

    /// Asks for what ZooKeeper does not say yet of the policy that is in force, once it is committed.
    fn ask_for_activation(&mut self, now: Nanos) {
        if self.committed < self.policy_since || self.committed == Generation(0) {
            return;
        }
        let is_news = self.activation.is_some();
        let patience = self.timing.patience();
        let is_asked = self.room.asked.is_some_and(|asked| now - asked < patience);
        if is_asked || !(is_news || self.room.is_more_than_recorded(self.policy_version)) {
            return;
        }
        let is_pending = self.pending().next().is_some();
        if is_news || !is_pending {
            let places = self.room.places(is_pending);
            let command = Command::Activate(self.policy_version, places);
            self.room.asked = Some(now);
            self.commands.push_back(command);
        }
    }

    pub(super) fn set_policy(&mut self, version: PolicyVersion, policy: Policy) {
        let is_pending = self.pending().next().is_some();
        self.room.follow(&policy, is_pending);
        self.policy_version = version;
        self.policy = if self.rules.breaks(Mutation::LentTwice) {
            lend_twice(policy)
        } else {
            policy
        };
        self.policy_since = self.generation.next();
        if self
            .prepared
            .as_ref()
            .is_some_and(|prepared| prepared.version <= version)
        {
            self.prepared = None;
        }
        // Nodes begin a limit whose units have changed with an empty bucket, and what is left of its lease.
        self.renewal_forced = true;
        self.book.set_limits(coordinated(&self.policy));
        self.reheat();
        self.debts.follow(coordinated(&self.policy));
        if self.rules.breaks(Mutation::CutUnacknowledged) {
            self.book.lower_floors(coordinated(&self.policy));
        }
        if self.places_taken() > self.places() {
            // Who waits has been let in by the room of another policy; it asks again.
            let members = &self.members;
            self.joining.retain(|node, joining| {
                members.contains_key(node) || joining.stage != Stage::Waiting
            });
        }
        self.arrange();
    }

    /// Whether this leader has yet to hear of a policy that the one before led by: nodes enforce
    /// it, and its floors are not known here.
    pub fn is_behind(&self) -> bool {
        self.policy_version < self.adopted_policy && !self.rules.breaks(Mutation::PolicyForgotten)
    }

    /// Rule 11, *cut*: the members that may still go by another policy. The budgets of this one are
    /// promised once there are none, and [`Leader::over_budget`] has none.
    pub fn pending(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().filter_map(|(node, member)| {
            let has_taken_it = member
                .acknowledged
                .is_some_and(|(generation, _)| generation >= self.policy_since);
            (!has_taken_it).then_some(*node)
        })
    }

    /// Whether the budget of a limit is promised: it is [acknowledged](Self::is_acknowledged), and
    /// ZooKeeper says that the policy is in force.
    ///
    /// Voters alone would forget it: a majority that starts anew, and then abstains for W, knows
    /// leases no more that have ended, but a budget does not end.
    pub fn is_promised(&self, limit: LimitId) -> bool {
        self.activation.is_none() && self.is_acknowledged(limit)
    }

    /// Whether nothing is above the budget of a limit, as long as a majority of voters remembers
    /// the policy: it is committed, everybody goes by it, and the book adds up.
    pub fn is_acknowledged(&self, limit: LimitId) -> bool {
        self.succession.is_none()
            && self.committed >= self.policy_since
            && self.pending().next().is_none()
            && !self.book.is_over_budget(limit)
    }
}

/// How many members a policy has room for, if it has keys that are merged: strict ones of which each has a share
/// by itself, or elastic ones of which each has a floor while they are hot; else they are none of its business.
fn keyed_places(policy: &Policy) -> u32 {
    let has_shares = |limit: &Limit| limit.per.is_some() && limit.promise != Promise::Local;
    if policy.limits.iter().any(has_shares) {
        policy.fleet.max_members
    } else {
        u32::MAX
    }
}

/// How many members a policy has room for.
fn places(policy: &Policy) -> usize {
    usize::try_from(policy.fleet.max_members).unwrap_or(usize::MAX)
}
