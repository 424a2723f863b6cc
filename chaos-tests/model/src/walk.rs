//! At random, where there is more than can be explored.

use crate::{
    action::Action,
    explore::Violation,
    invariant,
    scope::{HOSTS_MAX, LEADERS_MAX, Scope},
    start::settled,
    store::{Part, Store, Wire},
    trace::readable,
    world::World,
};

/// After so many actions a walk begins anew.
const LENGTH_MAX: usize = 400;
/// And after so many since the clock has last advanced, if it does so no more.
const LENGTH_AT_THE_END: usize = 60;
/// After so many parts their store does, so that it stays within some hundred megabytes.
const PARTS_MAX: usize = 200_000;

/// Deterministic choices (xorshift64*, Vigna 2016).
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    const fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % sides
    }
}

/// What was found.
#[derive(Debug)]
pub struct Walked {
    /// How many actions.
    pub steps: u64,
    /// How many walks.
    pub walks: u64,
    /// A way to a violation, shortened.
    pub violation: Option<Violation>,
    /// That way, for people.
    pub trace: String,
}

/// How likely what is, drawn anew for each walk: runs that are alike in something find what runs
/// that are alike in nothing miss (*swarm testing*: Groce and others, 2012).
struct Weights {
    time: u64,
    take_over: u64,
    down: [u64; HOSTS_MAX * LEADERS_MAX],
    up: [u64; HOSTS_MAX * LEADERS_MAX],
    report: [u64; HOSTS_MAX * LEADERS_MAX],
    tick: u64,
    write: u64,
    fault: u64,
    go_on: u64,
    operator: u64,
    unanswered: u64,
    reads: u64,
}

impl Weights {
    fn draw(dice: &mut Dice) -> Self {
        const LIKELY: [u64; 4] = [4, 16, 16, 32];
        const RARE: [u64; 4] = [1, 1, 4, 8];
        const PERHAPS: [u64; 4] = [0, 1, 4, 8];
        const MOSTLY: [u64; 8] = [0, 4, 8, 16, 16, 16, 32, 32];
        let mut any = |from: &[u64]| from[dice.roll(from.len() as u64) as usize];
        Self {
            time: any(&RARE),
            take_over: any(&RARE),
            down: [(); HOSTS_MAX * LEADERS_MAX].map(|()| any(&MOSTLY)),
            up: [(); HOSTS_MAX * LEADERS_MAX].map(|()| any(&MOSTLY)),
            report: [(); HOSTS_MAX * LEADERS_MAX].map(|()| any(&PERHAPS)),
            tick: any(&RARE),
            write: any(&LIKELY),
            fault: any(&PERHAPS),
            go_on: any(&LIKELY),
            operator: any(&RARE),
            unanswered: any(&PERHAPS),
            reads: any(&PERHAPS),
        }
    }

    fn of(&self, action: Action, store: &Store) -> u64 {
        match action {
            Action::Time => self.time,
            Action::TakeOver(_) => self.take_over,
            Action::Deliver(wire) | Action::Duplicate(wire) => self.of_wire(wire, store),
            Action::Unanswered(_) => self.unanswered,
            Action::GoOn(_) => self.go_on,
            Action::Report(host, lead) => self.report[pair(host, lead)],
            Action::Tick(_) => self.tick,
            Action::Write(..) => self.write,
            Action::Restart(_) | Action::Reboot(_) | Action::NewSession(_) | Action::Hunger(_) => {
                self.fault
            }
            Action::Publish | Action::Remove(..) | Action::SwitchOff(_) => self.operator,
            Action::ReadTerm(_)
            | Action::ReadRoster(_)
            | Action::PrepareHost(_)
            | Action::PrepareLead(_)
            | Action::HostReadsPolicy(_)
            | Action::LeadReadsPolicy(_) => self.reads,
        }
    }

    fn of_wire(&self, wire: Part, store: &Store) -> u64 {
        match store.wires.at(wire) {
            Wire::Down(lead, host, _) => self.down[pair(*host, *lead)],
            Wire::Up(host, lead, _) => self.up[pair(*host, *lead)],
            Wire::Write { .. } => self.write,
        }
    }
}

fn pair(host: u8, lead: u8) -> usize {
    usize::from(host) * LEADERS_MAX + usize::from(lead)
}

/// Takes so many random steps in a scope, or fewer if one breaks an invariant.
#[must_use]
pub fn walk(scope: &Scope, steps: u64, seed: u64) -> Walked {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut store = Store::new(scope.clone());
    let mut start = settled(&mut store);
    let mut walked = Walked {
        steps: 0,
        walks: 0,
        violation: None,
        trace: String::new(),
    };
    let mut actions = Vec::new();
    while walked.steps < steps {
        if store.parts() > PARTS_MAX {
            store = Store::new(scope.clone());
            start = settled(&mut store);
        }
        walked.walks += 1;
        let weights = Weights::draw(&mut dice);
        let mut world = start.clone();
        let mut done = Vec::new();
        let mut length_max = LENGTH_MAX;
        for length in 0..LENGTH_MAX {
            if length >= length_max {
                break;
            }
            world.actions(&store, &mut actions);
            let Some(action) = choose(&actions, &weights, &store, &mut dice) else {
                break;
            };
            let Some((next, broken)) = world.after(action, &mut store) else {
                continue;
            };
            walked.steps += 1;
            let is_same = next == world;
            if !is_same {
                done.push(action);
            }
            let broken = broken.or_else(|| {
                if is_same {
                    None
                } else {
                    invariant::of_a_state(&store, &next)
                }
            });
            if broken.is_some() {
                walked.violation = shortened(&mut store, &start, done);
                if let Some(violation) = &walked.violation {
                    walked.trace = readable(&mut store, violation);
                }
                return walked;
            }
            if next.step > world.step && next.is_last_step(scope) {
                length_max = length + LENGTH_AT_THE_END;
            }
            world = next;
        }
    }
    walked
}

fn choose(actions: &[Action], weights: &Weights, store: &Store, dice: &mut Dice) -> Option<Action> {
    let total: u64 = actions
        .iter()
        .map(|action| weights.of(*action, store))
        .sum();
    if total == 0 {
        return None;
    }
    let mut at = dice.roll(total);
    actions.iter().copied().find(|action| {
        let weight = weights.of(*action, store);
        let is_here = at < weight;
        at = at.saturating_sub(weight);
        is_here
    })
}

/// Leaves out what the violation does not need.
fn shortened(store: &mut Store, start: &World, mut actions: Vec<Action>) -> Option<Violation> {
    let mut violation = violates(store, start, &actions)?;
    let mut length = actions.len() / 2;
    while length > 0 {
        let mut at = 0;
        let mut has_shrunk = false;
        while at < actions.len() {
            let mut fewer = actions.clone();
            fewer.drain(at..(at + length).min(actions.len()));
            if let Some(found) = violates(store, start, &fewer) {
                actions.clone_from(&found.actions);
                violation = found;
                has_shrunk = true;
            } else {
                at += length;
            }
        }
        if !has_shrunk || length > 1 {
            length /= 2;
        }
    }
    Some(violation)
}

/// The violation that these actions lead to, as far as they can happen.
fn violates(store: &mut Store, start: &World, actions: &[Action]) -> Option<Violation> {
    let mut world = start.clone();
    let mut done = Vec::new();
    for action in actions {
        let Some((next, broken)) = world.after(*action, store) else {
            continue;
        };
        if next != world || broken.is_some() {
            done.push(*action);
        }
        if let Some(broken) = broken.or_else(|| invariant::of_a_state(store, &next)) {
            return Some(Violation {
                broken,
                actions: done,
            });
        }
        world = next;
    }
    None
}
