//! Breadth first, so that the first violation found is one of the shortest.

use crate::{
    action::Action,
    fingerprint::fingerprint,
    invariant::{self, Broken},
    start::settled,
    store::Store,
    visited::Visited,
    world::World,
};

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most states.
    pub states: usize,
    /// Most bytes for the table of states. As much again may go to what is still to be explored.
    pub bytes: usize,
}

/// What was found.
#[derive(Debug)]
pub struct Explored {
    /// How many different states.
    pub states: usize,
    /// How many actions away the last of them are.
    pub depth: usize,
    /// Whether these are all.
    pub is_complete: bool,
    /// A shortest way to a violation.
    pub violation: Option<Violation>,
}

/// How an invariant is broken, and how it comes to that.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What is broken.
    pub broken: Broken,
    /// What happened, from the settled fleet on.
    pub actions: Vec<Action>,
}

/// Explores a scope. The store is new, or one that was used for this scope before.
#[must_use]
pub fn explore(store: &mut Store, bounds: Bounds) -> Explored {
    let start = settled(store);
    let mut visited = Visited::new(bounds.bytes);
    let mut explored = Explored {
        states: 0,
        depth: 0,
        is_complete: false,
        violation: None,
    };
    let first = fingerprint(&start);
    let mut frontier = vec![start.clone()];
    if visited.insert(first, 0).is_err() {
        return explored;
    }
    if let Some(broken) = invariant::of_a_state(store, &start) {
        explored.violation = Some(Violation {
            broken,
            actions: Vec::new(),
        });
        return explored;
    }
    let mut actions = Vec::new();
    while !frontier.is_empty() {
        let mut further = Vec::new();
        for world in frontier {
            let from = fingerprint(&world);
            world.actions(store, &mut actions);
            for action in &actions {
                let Some((next, broken)) = world.after(*action, store) else {
                    continue;
                };
                let print = fingerprint(&next);
                let broken = match visited.insert(print, from) {
                    Ok(true) => broken.or_else(|| invariant::of_a_state(store, &next)),
                    Ok(false) => broken,
                    Err(_) => {
                        explored.states = visited.len();
                        return explored;
                    }
                };
                if let Some(broken) = broken {
                    let mut way = replay(store, &start, &visited.way_to(from));
                    way.push(*action);
                    explored.states = visited.len();
                    explored.violation = Some(Violation {
                        broken,
                        actions: way,
                    });
                    return explored;
                }
                if print != from && visited.len() > explored.states {
                    explored.states = visited.len();
                    further.push(next);
                }
            }
            if explored.states >= bounds.states {
                return explored;
            }
        }
        frontier = further;
        if !frontier.is_empty() {
            explored.depth += 1;
        }
    }
    explored.states = visited.len();
    explored.is_complete = true;
    explored
}

/// The actions that lead from state to state.
fn replay(store: &mut Store, start: &World, way: &[u64]) -> Vec<Action> {
    let mut world = start.clone();
    let mut done = Vec::new();
    let mut actions = Vec::new();
    for print in way.iter().skip(1) {
        world.actions(store, &mut actions);
        for action in &actions {
            let Some((next, _)) = world.after(*action, store) else {
                continue;
            };
            if fingerprint(&next) == *print {
                done.push(*action);
                world = next;
                break;
            }
        }
    }
    done
}
