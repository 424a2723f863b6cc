//! The bounded queue of events: a state replaces its older self, answers wait for room.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::event::Event;

/// Most answers that wait to be read. At the bound, commands are not performed until one is.
pub const ANSWERS_MAX: usize = 64;

/// The receiving end: what the ZooKeeper shell tells its owner.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
}

impl Events {
    /// The next event, in the order in which they last changed. `None` once the session has been
    /// closed, after every `Keeper` was dropped. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let arrived = self.shared.arrived.notified();
            {
                let mut queue = self.shared.queue();
                if let Some(event) = queue.events.pop_front() {
                    if event.kind().is_none() {
                        queue.answers -= 1;
                        self.shared.room.notify_one();
                    }
                    return Some(event);
                }
                if queue.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.room.notify_waiters();
    }
}

/// The sending end.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    shared: Arc<Shared>,
}

impl Outbox {
    /// Tells a state: it takes the place of an older one that has not been read.
    pub(super) fn tell(&self, event: Event) {
        let kind = event.kind();
        debug_assert!(kind.is_some(), "an answer must not be replaced: {event:?}");
        let mut queue = self.shared.queue();
        if !queue.closed {
            queue.events.retain(|older| older.kind() != kind);
            queue.events.push_back(event);
            self.shared.arrived.notify_one();
        }
    }

    /// Answers a command, when there is room.
    pub(super) async fn answer(&self, event: Event) {
        debug_assert!(event.kind().is_none(), "a state must not wait: {event:?}");
        loop {
            let room = self.shared.room.notified();
            {
                let mut queue = self.shared.queue();
                if queue.closed {
                    return;
                }
                if queue.answers < ANSWERS_MAX {
                    queue.answers += 1;
                    queue.events.push_back(event);
                    self.shared.arrived.notify_one();
                    return;
                }
            }
            room.await;
        }
    }

    /// There will be no more events.
    pub(super) fn close(&self) {
        self.shared.queue().closed = true;
        self.shared.arrived.notify_one();
    }
}

/// A new queue.
pub(super) fn mailbox() -> (Outbox, Events) {
    let shared = Arc::new(Shared::default());
    (
        Outbox {
            shared: Arc::clone(&shared),
        },
        Events { shared },
    )
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    answers: usize,
    closed: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use weir_coord_core::commit::StoreOutcome;
    use weir_model::{Generation, Incarnation};

    use super::*;

    fn registered(number: u64) -> Event {
        Event::Registered {
            incarnation: Incarnation(number),
        }
    }

    fn stored(number: u64) -> Event {
        Event::Stored {
            generation: Generation(number),
            outcome: StoreOutcome::Committed,
        }
    }

    #[tokio::test]
    async fn a_state_replaces_its_older_self_and_answers_stay() {
        let (outbox, mut events) = mailbox();
        outbox.tell(registered(1));
        outbox.answer(stored(1)).await;
        outbox.tell(Event::Connected);
        outbox.tell(registered(2));
        outbox.answer(stored(2)).await;
        outbox.tell(Event::Disconnected);
        outbox.close();
        let mut read = Vec::new();
        while let Some(event) = events.next().await {
            read.push(event);
        }
        assert_eq!(
            read,
            [stored(1), registered(2), stored(2), Event::Disconnected]
        );
    }

    #[tokio::test]
    async fn answers_wait_for_room_and_none_is_lost() {
        let (outbox, mut events) = mailbox();
        let total = 2 * ANSWERS_MAX as u64;
        let writer = tokio::spawn(async move {
            for number in 0..total {
                outbox.answer(stored(number)).await;
                assert!(outbox.shared.queue().answers <= ANSWERS_MAX);
            }
            outbox.close();
        });
        for number in 0..total {
            assert_eq!(events.next().await, Some(stored(number)));
        }
        assert_eq!(events.next().await, None);
        writer.await.unwrap();
    }
}
