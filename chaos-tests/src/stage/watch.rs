//! Who leads: asked over and over through `weir status`, beside everything else.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use super::recording::LeaderSeen;
use crate::{clock, fleet::Operator, interrupt::Interrupt};

/// Time between two questions.
const PERIOD: Duration = Duration::from_millis(150);

/// Asks until it is dropped.
#[derive(Debug)]
pub(super) struct LeaderWatch {
    seen: Arc<Mutex<Vec<LeaderSeen>>>,
    stop: Interrupt,
    thread: Option<JoinHandle<()>>,
}

impl LeaderWatch {
    pub(super) fn start(operator: &Operator) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Interrupt::default();
        let thread = std::thread::spawn({
            let (operator, seen, stop) = (operator.clone(), Arc::clone(&seen), stop.clone());
            move || {
                while !stop.is_raised() {
                    ask(&operator, &seen);
                    std::thread::sleep(PERIOD);
                }
            }
        });
        Self {
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// Everybody who was seen leading, in the order of terms.
    pub(super) fn seen(&self) -> Vec<LeaderSeen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A node may lag behind, so only a higher term is news. Nodes that do not answer are skipped.
fn ask(operator: &Operator, seen: &Mutex<Vec<LeaderSeen>>) {
    for status in operator.status_of_each().flatten() {
        let Some(leader) = status.leader else {
            continue;
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen
            .last()
            .is_none_or(|last: &LeaderSeen| status.term > last.term)
        {
            let (bin, term, name) = (clock::this_bin(), status.term, leader.name);
            seen.push(LeaderSeen { bin, term, name });
        }
    }
}

impl Drop for LeaderWatch {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            // A panic in there was already printed.
            let _ended = thread.join();
        }
    }
}
