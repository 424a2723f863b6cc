//! What must hold in every state. I7 is about windows of time, and is the simulator's.

use std::fmt;

use weir_model::{Amount, message::Position};

use crate::{
    host::Host,
    scope::{FINEST, Scope, amount, place_of, tokens},
    store::{LeadFacts, Store},
    world::World,
};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its name in the design.
    pub invariant: &'static str,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// **I5**: promised and seen never go back within an incarnation.
#[must_use]
pub fn of_a_step(before: &Host, after: &Host, scope: &Scope) -> Option<Broken> {
    let (was, is) = (&before.follower, &after.follower);
    if scope.budget_only || was.incarnation() != is.incarnation() {
        return None;
    }
    let goes_back = is.promised() < was.promised() || is.seen() < was.seen();
    let is_ahead = is.seen().term > is.promised();
    (goes_back || is_ahead).then(|| Broken {
        invariant: "I5",
        what: format!(
            "host {} had promised {} and seen {}, and now {} and {}",
            after.index,
            was.promised(),
            place(was.seen()),
            is.promised(),
            place(is.seen()),
        ),
    })
}

fn place(position: Position) -> String {
    format!("{}.{}", position.term, position.generation)
}

/// What is broken in a state.
#[must_use]
pub fn of_a_state(store: &Store, world: &World) -> Option<Broken> {
    let leads: Vec<&LeadFacts> = world.leads().map(|lead| store.facts(lead)).collect();
    let hosts = || world.hosts(&store.scope).map(|host| store.hosts.at(host));

    let effective: Amount = hosts().map(|host| host.effective(world.step)).sum();
    // A lowered budget is promised once everybody has acknowledged it (rule 11).
    let published = place_of(world.zookeeper(store).published);
    let budget = store.scope.largest_budget(world.promised..=published);
    if !effective.fits(budget) {
        return broken(
            "I1",
            format!(
                "the hosts may spend {} of {}",
                tokens(effective),
                tokens(budget)
            ),
        );
    }

    if store.scope.budget_only {
        return None;
    }

    let newest = leads
        .iter()
        .filter_map(|lead| lead.active_since.map(|since| (lead, since)))
        .max_by_key(|(lead, _)| lead.term);
    for (later, lead) in leads.iter().enumerate() {
        if leads[..later].iter().any(|other| other.term == lead.term) {
            return broken("I0", format!("two leaders of term {}", lead.term));
        }
        // Who is deposed may hear of a member that its successor has admitted.
        let is_deposed = newest.is_some_and(|(newest, _)| newest.term > lead.term);
        let own = &store.scope.policies[usize::from(place_of(lead.policy))];
        let own = amount(own.budget, FINEST);
        let is_cut = own != store.scope.largest_budget(0..=place_of(lead.policy));
        let sum: Amount = lead.envelopes.iter().copied().sum();
        let is_rounding = sum.fits(own.saturating_add(store.scope.rounding()));
        let is_exempt = is_deposed || is_cut || lead.is_behind || is_rounding;
        if lead.is_over_budget && !is_exempt {
            return broken(
                "I4",
                format!(
                    "the envelopes of term {} add up to {}",
                    lead.term,
                    tokens(sum)
                ),
            );
        }
        let holds = |host: &Host| host.recorded.get(&lead.term) >= Some(&lead.committed);
        let seen = hosts().filter(|host| lead.voters.contains(&host.index) && holds(host));
        let seen = seen.count();
        if lead.committed.0 > 0 && seen <= lead.voters.len() / 2 {
            return broken(
                "I2",
                format!(
                    "{}.{} is committed, and {seen} of {} voters have its register",
                    lead.term,
                    lead.committed,
                    lead.voters.len()
                ),
            );
        }
    }

    let (newest, since) = newest?;
    for host in hosts() {
        let held = host.effective(world.step);
        let is_leased = host.is_leased(world.step);
        let envelope = newest.envelopes[usize::from(host.index)];
        if !held.fits(envelope) {
            return broken(
                "I3",
                format!(
                    "host {} holds {}, and the book of term {} has {} for it",
                    host.index,
                    tokens(held),
                    newest.term,
                    tokens(envelope)
                ),
            );
        }
        let is_over = world.step >= since + store.scope.pace.steps_per_lease;
        if is_leased && is_over && host.lease_term < newest.term {
            return broken(
                "I6",
                format!(
                    "host {} has a lease of term {} when those before term {} are over",
                    host.index, host.lease_term, newest.term
                ),
            );
        }
    }
    None
}

#[allow(clippy::unnecessary_wraps)]
const fn broken(invariant: &'static str, what: String) -> Option<Broken> {
    Some(Broken { invariant, what })
}
