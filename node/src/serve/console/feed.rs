//! Live data: what many look at is asked for once a second, made once, and shared.
//!
//! Nothing is asked while nobody looks. Of a listener that does not keep up nothing is queued: it gets
//! the latest, in full.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::body::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, Sleep, interval, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use weir_proto::admin::v1::{self, admin_server::Admin as _};

use super::{
    picture::{Picture, rates},
    topic::Topic,
};
use crate::serve::admin::AdminService;

/// Open streams. Beyond it: 503, and the page tries again. Half of all connections, so that metrics
/// and health keep their place.
pub(super) const STREAMS: usize = 32;
/// Topics that are followed; as many as there are streams to follow them.
const TOPICS: usize = STREAMS;
/// From one picture to the next.
pub(in crate::serve) const PERIOD: Duration = Duration::from_secs(1);
/// A topic without a listener is followed for so long: browsers connect again.
const LINGERS: Duration = Duration::from_secs(5);
/// A stream ends so long before its connection does, and the browser opens the next.
const BEFORE_ITS_CONNECTION: Duration = Duration::from_secs(5);
/// Comes first, so that the next stream follows at once, in milliseconds.
const RETRY: &[u8] = b"retry: 300\n\n";
/// Points that are remembered of a limit that somebody looks at, 32 bytes each. The oldest goes.
const POINTS: usize = 600;

const _: () = assert!(LINGERS.as_secs() > PERIOD.as_secs());

/// One moment of a topic, as it is sent.
#[derive(Debug)]
struct Frame {
    number: u64,
    full: Bytes,
    /// Since the frame before.
    change: Bytes,
}

type Frames = Arc<watch::Sender<Option<Arc<Frame>>>>;

/// What a response consists of.
pub(super) type Events = ReceiverStream<Result<Bytes, Infallible>>;

/// All topics that are followed.
#[derive(Debug)]
pub(super) struct Feed {
    service: AdminService,
    topics: Mutex<BTreeMap<Topic, Frames>>,
    places: Arc<Semaphore>,
    period: Duration,
}

impl Feed {
    pub(super) fn new(service: AdminService, period: Duration) -> Arc<Self> {
        Arc::new(Self {
            service,
            topics: Mutex::default(),
            places: Arc::new(Semaphore::new(STREAMS)),
            period,
        })
    }

    /// Events from now on, over a connection that comes to its `end`; `None` if too many listen
    /// already.
    pub(super) fn listen(self: &Arc<Self>, topic: Topic, end: Instant) -> Option<Events> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let frames = self.follow(topic);
        let (events, receiver) = mpsc::channel(1);
        events
            .try_send(Ok(Bytes::from_static(RETRY)))
            .expect("there is room for the first");
        let end = sleep_until(end - BEFORE_ITS_CONNECTION);
        tokio::spawn(pass_on(frames, events, end, place));
        Some(ReceiverStream::new(receiver))
    }

    fn follow(self: &Arc<Self>, topic: Topic) -> watch::Receiver<Option<Arc<Frame>>> {
        let mut topics = self.topics();
        if let Some(frames) = topics.get(&topic) {
            return frames.subscribe();
        }
        if topics.len() >= TOPICS {
            topics.retain(|_, frames| frames.receiver_count() > 0);
        }
        let (frames, receiver) = watch::channel(None);
        let frames = Arc::new(frames);
        topics.insert(topic.clone(), frames.clone());
        tokio::spawn(self.clone().look(topic, frames));
        receiver
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<Topic, Frames>> {
        // It holds no more than who listens, which is whole at every moment.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks each period, until nobody listens.
    async fn look(self: Arc<Self>, topic: Topic, frames: Frames) {
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut film = Film::default();
        let mut heard = Instant::now();
        loop {
            ticks.tick().await;
            if frames.receiver_count() > 0 {
                heard = Instant::now();
            } else if heard.elapsed() > LINGERS && self.forget(&topic, &frames) {
                return;
            }
            let asked = self.service.overview(Request::new(topic.request())).await;
            // While the daemon does not answer the page says how old its numbers are.
            let Ok(reply) = asked else {
                continue;
            };
            let about = topic.clone();
            let made = spawn_blocking(move || film.advance(&about, &reply.into_inner())).await;
            let Ok((next, frame)) = made else {
                self.topics().remove(&topic);
                return;
            };
            film = next;
            frames.send_replace(Some(Arc::new(frame)));
        }
    }

    /// Whether it is forgotten: it is not if somebody has come meanwhile.
    fn forget(&self, topic: &Topic, frames: &Frames) -> bool {
        let mut topics = self.topics();
        if frames.receiver_count() > 0 {
            return false;
        }
        if topics
            .get(topic)
            .is_some_and(|known| Arc::ptr_eq(known, frames))
        {
            topics.remove(topic);
        }
        true
    }
}

/// What there was.
#[derive(Debug, Default)]
struct Film {
    number: u64,
    last: Picture,
    /// Of one limit: seconds since 1970, offered, admitted, dropped.
    past: VecDeque<[f64; 4]>,
}

impl Film {
    /// It makes milliseconds of work of a thousand limits, beside which the daemon ticks on.
    fn advance(mut self, topic: &Topic, reply: &v1::OverviewReply) -> (Self, Frame) {
        let at = seconds();
        let picture = Picture::of(topic, reply, at);
        if let Some([offered, admitted, dropped]) = rates(topic, reply) {
            if self.past.len() == POINTS {
                self.past.pop_front();
            }
            self.past.push_back([at, offered, admitted, dropped]);
        }
        let full = picture.full(self.past.make_contiguous());
        let full = event("all", &full);
        let change = picture.change(&self.last);
        let change = change.map_or_else(|| full.clone(), |change| event("change", &change));
        self.number += 1;
        self.last = picture;
        let frame = Frame {
            number: self.number,
            full,
            change,
        };
        (self, frame)
    }
}

/// The wall clock, for the axis of a picture.
fn seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_millis() as f64 / 1e3)
}

/// <https://html.spec.whatwg.org/multipage/server-sent-events.html>; JSON text has no line breaks.
fn event(name: &str, json: &str) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {json}\n\n"))
}

async fn pass_on(
    mut frames: watch::Receiver<Option<Arc<Frame>>>,
    events: mpsc::Sender<Result<Bytes, Infallible>>,
    end: Sleep,
    _place: OwnedSemaphorePermit,
) {
    tokio::pin!(end);
    let mut sent = None;
    loop {
        let frame = frames.borrow_and_update().clone();
        if let Some(frame) = frame {
            let follows = sent == Some(frame.number.wrapping_sub(1));
            let bytes = if follows { &frame.change } else { &frame.full };
            sent = Some(frame.number);
            let send = events.send(Ok(bytes.clone()));
            tokio::select! {
                sent = send => if sent.is_err() { return },
                () = &mut end => return,
            }
        }
        tokio::select! {
            changed = frames.changed() => if changed.is_err() { return },
            () = events.closed() => return,
            () = &mut end => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    const UPDATES: u32 = 3_600;

    #[tokio::test]
    async fn a_stream_ends_before_its_connection_and_says_when_to_come_again() {
        let (asker, _questions) = mpsc::channel(1);
        let service = AdminService::new(asker, weir_coord::grpc::Security::Plain);
        let feed = Feed::new(service, PERIOD);
        let end = Instant::now() + BEFORE_ITS_CONNECTION;
        let mut events = feed.listen(Topic::Fleet, end).expect("nobody listens");
        let first = events.next().await.expect("something").expect("bytes");
        assert_eq!(&first[..], RETRY);
        assert!(events.next().await.is_none(), "the daemon says nothing");
    }

    /// `moving` of so many limits differ from moment to moment.
    fn fleet(limits: u32, moving: u32, moment: u32) -> v1::OverviewReply {
        let row = |number: u32| v1::LimitRow {
            name: format!("limit-{number:04}"),
            unit: v1::Unit::Packets.into(),
            rate: 30_000.0,
            offered: 10_000.0 + f64::from(if number < moving { moment % 7 * 10 } else { 0 }),
            admitted: 10_000.0,
            ..v1::LimitRow::default()
        };
        let limit = |number| v1::OverviewLimit {
            row: Some(row(number)),
            promise_kept: true,
            ..v1::OverviewLimit::default()
        };
        let share = |number: u32| v1::NodeRow {
            node: Some(v1::Node {
                name: format!("node-{number:03}"),
                ..v1::Node::default()
            }),
            live: true,
            limits: vec![v1::NodeLimit {
                limit: "limit-0000".to_owned(),
                share: 300.0,
                ..v1::NodeLimit::default()
            }],
            ..v1::NodeRow::default()
        };
        v1::OverviewReply {
            limits: (0..limits).map(limit).collect(),
            nodes: (0..100).map(share).collect(),
            ..v1::OverviewReply::default()
        }
    }

    /// The last frame of so many, and how long each took on average, in microseconds.
    fn filmed(topic: &Topic, limits: u32, moving: u32, updates: u32) -> (Film, Frame, u128) {
        let replies: Vec<_> = (0..7).map(|moment| fleet(limits, moving, moment)).collect();
        let mut film = Film::default();
        let mut last = None;
        let begun = std::time::Instant::now();
        for reply in replies.iter().cycle().take(updates as usize) {
            let (next, frame) = film.advance(topic, reply);
            film = next;
            last = Some(frame);
        }
        let each = begun.elapsed().as_micros() / u128::from(updates);
        (film, last.expect("an update"), each)
    }

    /// An hour of somebody looking at one limit. What is kept, and sent to who comes next, is
    /// bounded by ten minutes.
    #[test]
    fn an_hour_is_kept_and_sent_no_longer_than_ten_minutes_are() {
        let topic = Topic::Limit("limit-0000".to_owned());
        let points = u32::try_from(POINTS).expect("a few");
        let (_, ten_minutes, _) = filmed(&topic, 1_000, 1_000, points);
        let (film, hour, each) = filmed(&topic, 1_000, 1_000, UPDATES);
        println!(
            "one limit on 100 nodes: {each} us an update, {} bytes",
            hour.full.len()
        );
        assert_eq!(film.past.len(), POINTS);
        assert!(
            film.past.capacity() <= 2 * POINTS,
            "{}",
            film.past.capacity()
        );
        let ratio = hour.full.len() as f64 / ten_minutes.full.len() as f64;
        assert!((0.99..1.01).contains(&ratio), "{ratio}");
    }

    /// What is sent grows with what has changed, and not with what there is.
    #[test]
    fn an_update_is_as_long_as_what_has_changed() {
        let bytes = |limits, moving| {
            let (_, frame, each) = filmed(&Topic::Fleet, limits, moving, 14);
            let (full, change) = (frame.full.len(), frame.change.len());
            println!(
                "{limits} limits, {moving} moving: {each} us an update, {full} and {change} bytes"
            );
            (full as f64, change as f64)
        };
        let (full, ten) = bytes(1_000, 10);
        let (_, hundred) = bytes(1_000, 100);
        let (_, of_few) = bytes(100, 10);
        assert!(hundred / ten < 10.0, "{ten} and {hundred} bytes");
        assert!((of_few - ten).abs() < 64.0, "{of_few} and {ten} bytes");
        assert!(ten < full / 20.0, "{ten} of {full} bytes");
    }
}
