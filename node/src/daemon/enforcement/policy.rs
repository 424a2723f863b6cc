//! Which policy is enforced, and which one is ready to be.

use std::{io, time::Duration};

use tracing::{error, info, warn};
use weir_coord::broken;
use weir_coord_core::{
    carry::{carried, lowered},
    follower::Grant,
};
use weir_model::{Nanos, Policy, PolicyVersion, file};

use super::{Enforcement, trace::PolicyTrace};
use crate::{
    daemon::memory::OwnTrial,
    dataplane::{self, DataplaneError, Prepared},
};

/// Another policy that can be enforced from one packet to the next, or nearly so.
pub(super) struct Ready {
    version: PolicyVersion,
    document: String,
    /// It lies beside the one in force, unless that has changed since.
    aside: Option<(Policy, Prepared)>,
    /// It could not be remembered, and is not tried before [`Enforcement::catch_up`].
    is_held_up: bool,
    trace: PolicyTrace,
}

/// A policy that could not be enforced when it came.
pub(super) struct Wanted {
    version: PolicyVersion,
    document: String,
    pub(super) at: Nanos,
}

/// The pause before it is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Enforcement {
    /// ZooKeeper says which document is in force. One that is older than what is enforced here is
    /// kept ready: whoever leads has begun with the newer one, and has yet to write so.
    pub fn follow_policy(&mut self, version: PolicyVersion, document: &str) {
        if version < self.policy_version() {
            self.make_ready(version, document);
        } else {
            self.set_policy(version, document);
        }
    }

    /// Writes another document beside the one in force, so that a leader can begin with it at any
    /// moment. `None` if it is no policy.
    pub fn make_ready(&mut self, version: PolicyVersion, document: &str) -> Option<Policy> {
        let policy = match file::parse(document) {
            Ok(policy) => policy,
            Err(problems) => {
                for problem in problems {
                    error!(%version, "the limits document has a problem: {problem}");
                }
                return None;
            }
        };
        self.unready = None;
        if let Err(error) = self.memory.make_room(version, document) {
            error!(%version, %error, "the next policy could not be remembered; it is tried again");
            self.unready = Some((version, document.to_owned()));
            return Some(policy);
        }
        self.give_up_aside();
        let trace = if version > self.policy_version() {
            PolicyTrace::begin(self.node, version)
        } else {
            PolicyTrace::none()
        };
        let preparing = trace.prepare();
        let prepared = self.dataplane.prepare(&policy, version);
        drop(preparing);
        match prepared {
            Ok(prepared) => {
                info!(%version, limits = policy.limits.len(), "policy ready");
                self.ready = Some(Ready {
                    version,
                    document: document.to_owned(),
                    aside: Some((policy.clone(), prepared)),
                    is_held_up: false,
                    trace,
                });
                if let Some(follower) = &mut self.follower {
                    follower.prepare_policy(version);
                }
            }
            Err(error) => {
                error!(%version, %error, "the next policy cannot be enforced here");
                trace.end(false);
            }
        }
        Some(policy)
    }

    /// What lies beside the policy in force is about to be overwritten, and if that fails it is
    /// neither.
    pub(super) fn give_up_aside(&mut self) {
        if let Some(ready) = &mut self.ready {
            ready.aside = None;
        }
    }

    /// Begins with a policy that is ready, because a leader has.
    pub(super) fn enforce(&mut self, version: PolicyVersion) {
        let Some(mut ready) = self.ready.take_if(|ready| ready.version == version) else {
            warn!(%version, "a policy that is not ready was asked for");
            return;
        };
        let before = self.memory.policy();
        if ready.is_held_up || !self.remember(version, &ready.document) {
            ready.is_held_up = true;
            self.ready = Some(ready);
            return;
        }
        let activating = ready.trace.activate();
        let is_enforced = match ready.aside {
            Some((policy, prepared)) => {
                let left = self.left_of_leases(&policy);
                let done = self.dataplane.activate_prepared(&policy, prepared);
                self.has_activated(version, policy, &left, done)
            }
            None => self.activate(version, &ready.document),
        };
        drop(activating);
        ready.trace.end(is_enforced);
        if !is_enforced {
            self.memory.restore_policy(before);
            return;
        }
        // What ZooKeeper asked for before a leader began with this one.
        self.wanted.take_if(|wanted| wanted.version <= version);
        let held = self.held();
        if let Some(follower) = &mut self.follower {
            follower.enforced(version, held, dataplane::now());
        }
        self.keep_ready(before);
    }

    /// Rule 12, *policy*: what is acknowledged outlives this daemon. `false` if it would not.
    ///
    /// A host that came back without ZooKeeper would go by the policy before, of which there is no
    /// lease that ends: what it gives keys of a strict limit by itself.
    fn remember(&mut self, version: PolicyVersion, document: &str) -> bool {
        let remembered = self.memory.set_policy(version, document);
        if let Err(error) = &remembered {
            error!(
                %version, %error,
                "the policy could not be remembered, so it is not enforced; it is tried again"
            );
        }
        remembered.is_ok()
    }

    /// The change that waits to be confirmed on a host alone.
    pub fn remembered_trial(&self) -> Option<OwnTrial> {
        self.memory.trial()
    }

    /// Remembers it, or that there is none.
    ///
    /// # Errors
    ///
    /// The system's word if it could not be saved: then it is as before.
    pub fn remember_trial(&mut self, trial: Option<OwnTrial>) -> io::Result<()> {
        let remembered = self.memory.set_trial(trial);
        if let Err(error) = &remembered {
            error!(%error, "a change that waits to be confirmed could not be remembered");
        }
        remembered
    }

    /// Tries once more to remember what could not be. To be called now and then.
    pub fn catch_up(&mut self) {
        self.memory.catch_up();
        if let Some(ready) = &mut self.ready {
            ready.is_held_up = false;
        }
        if let Some((version, document)) = self.unready.take()
            && version != self.policy_version()
            && self
                .ready
                .as_ref()
                .is_none_or(|ready| ready.version < version)
        {
            self.make_ready(version, &document);
        }
    }

    /// The one before stays ready, for a leader that has not heard of this one, unless the next one is.
    fn keep_ready(&mut self, before: Option<(PolicyVersion, String)>) {
        let version = self.policy_version();
        if let Some(next) = self.ready.as_ref().filter(|ready| ready.version > version) {
            if let Some(follower) = &mut self.follower {
                follower.prepare_policy(next.version);
            }
            return;
        }
        self.ready = before.map(|(version, document)| Ready {
            version,
            document,
            aside: None,
            is_held_up: false,
            trace: PolicyTrace::none(),
        });
    }

    /// Enforces another document. One that this host cannot enforce leaves the one in force, and
    /// is tried again by [`Self::retry_policy`]: what failed may have been memory.
    pub fn set_policy(&mut self, version: PolicyVersion, document: &str) {
        self.wanted = None;
        if version == self.policy_version() {
            return;
        }
        let before = self.memory.policy();
        let trace = PolicyTrace::begin(self.node, version);
        let activating = trace.activate();
        let is_remembered = self.remember(version, document);
        let is_enforced = is_remembered && self.adopt_policy(version, document);
        drop(activating);
        trace.end(is_enforced);
        if is_enforced {
            self.keep_ready(before);
        } else {
            if is_remembered {
                self.memory.restore_policy(before);
            }
            let at = dataplane::now() + RETRY_PAUSE;
            self.wanted = Some(Wanted {
                version,
                document: document.to_owned(),
                at,
            });
        }
    }

    /// Whoever asked for a policy that failed was told so: it is not to come into force later.
    pub fn give_up_wanted(&mut self) {
        self.wanted = None;
    }

    /// Tries a policy that failed once more, if there is one and its time has come. `true` if it
    /// is in force now.
    pub fn retry_policy(&mut self) -> bool {
        let is_due = |wanted: &Wanted| wanted.at <= dataplane::now();
        let Some(wanted) = self.wanted.take_if(|wanted| is_due(wanted)) else {
            return false;
        };
        self.set_policy(wanted.version, &wanted.document);
        self.policy_version() == wanted.version
    }

    pub(super) fn adopt_policy(&mut self, version: PolicyVersion, document: &str) -> bool {
        if !self.activate(version, document) {
            return false;
        }
        self.read_back();
        true
    }

    fn activate(&mut self, version: PolicyVersion, document: &str) -> bool {
        let policy = match file::parse(document) {
            Ok(policy) => policy,
            Err(problems) => {
                for problem in problems {
                    error!(%version, "the limits document has a problem: {problem}");
                }
                return false;
            }
        };
        self.give_up_aside();
        let left = self.left_of_leases(&policy);
        let done = self.dataplane.activate(&policy, version);
        self.has_activated(version, policy, &left, done)
    }

    fn has_activated(
        &mut self,
        version: PolicyVersion,
        policy: Policy,
        left: &[Grant],
        done: Result<(), DataplaneError>,
    ) -> bool {
        if let Err(error) = done {
            error!(%version, %error, "the policy cannot be enforced here; keeping the last one");
            return false;
        }
        info!(%version, limits = policy.limits.len(), "policy in force");
        self.rates.set_policy(&policy);
        self.observation.set_policy(&policy);
        let hot = self.dataplane.hot_keys();
        self.hot_wanted = Some(hot.filter(|key| policy.hot_limit(key).is_some()).collect());
        self.set_hot_keys();
        self.policy = Some((version, policy));
        // Floors first: what is remembered of them is what buckets hold once anything is installed,
        // and a bucket that is new holds nothing.
        if self.is_member {
            self.ensure_floors();
        }
        self.is_lowered = false;
        self.install_outside_protocol(left);
        self.lower_keys();
        true
    }

    /// Has hot keys have no more than the policy in force gives them. `false` if some may have more: nothing
    /// is acknowledged until that is mended, and it is tried again with what a leader proposes next.
    pub(super) fn lower_keys(&mut self) -> bool {
        if !self.is_lowered {
            let grants = self.lowered_keys();
            let installed = self.put(&grants).unwrap_or_default();
            self.is_lowered = installed.len() == grants.len();
            if let Some(follower) = &mut self.follower {
                follower.installed(&installed, None, dataplane::now());
            }
        }
        self.is_lowered
    }

    /// What hot keys may have by the policy in force, where they have larger floors.
    fn lowered_keys(&self) -> Vec<Grant> {
        let now = dataplane::now();
        let policy = self.policy.iter().map(|(_, policy)| policy);
        let limits = policy.flat_map(|policy| {
            let keys = self.dataplane.hot_keys();
            keys.filter_map(|key| policy.hot_limit(&key))
        });
        limits
            .filter_map(|limit| lowered(&self.held_of(&limit), &limit, now))
            .collect()
    }

    /// What leases leave of limits whose buckets will be others by this policy.
    fn left_of_leases(&self, next: &Policy) -> Vec<Grant> {
        let now = dataplane::now();
        let changed = self.strict_limits().filter_map(|before| {
            let after = next.limit(before.id)?;
            (after.revision != before.revision).then_some((before, after))
        });
        changed
            .filter_map(|(before, after)| {
                let left = carried(&self.held_of(before), before, after, now, broken::rules())?;
                let floor = left.floor.min(self.reserved_floor(after));
                Some(Grant { floor, ..left })
            })
            .collect()
    }
}
