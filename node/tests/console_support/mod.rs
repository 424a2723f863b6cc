//! A daemon that is made up, and the listener that it serves the console on.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod browser;
#[path = "../../../ctl/tests/support/feed.rs"]
pub(crate) mod feed;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use feed::Feed;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use weir_coord::grpc::Security;
use weir_node::serve::{
    Answer, QUESTIONS, Question, TimeLine,
    http::{self, Guard, Secret},
};
use weir_proto::admin::v1;

/// How the made-up fleet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// The daemon that serves does not answer.
    Silent,
    /// Nobody leads.
    Leaderless,
    /// Somebody leads, whom the daemon that serves cannot ask.
    CutOff,
    /// Nothing is limited.
    Idle,
    /// A promise is broken, ZooKeeper lost, and a change waits to be confirmed.
    Troubled,
}

/// Who serves, and how often it was asked for an overview.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) asked: Arc<AtomicU64>,
    mood: Arc<Mutex<Mood>>,
}

impl Served {
    pub(crate) fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

/// Serves a made-up fleet on a port of its own.
pub(crate) async fn serve(feed: Feed, token: Option<&str>, period: Duration) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let mood = Arc::default();
    let (asker, questions) = mpsc::channel(QUESTIONS);
    tokio::spawn(answer(feed, questions, asked.clone(), Arc::clone(&mood)));
    let guard = Guard {
        token: token.map(Secret::new),
        ..Guard::default()
    };
    tokio::spawn(http::serve_each(
        listener,
        guard,
        asker,
        Security::Plain,
        period,
    ));
    Served {
        address,
        asked,
        mood,
    }
}

async fn answer(
    feed: Feed,
    mut questions: mpsc::Receiver<Question>,
    asked: Arc<AtomicU64>,
    mood: Arc<Mutex<Mood>>,
) {
    while let Some(question) = questions.recv().await {
        match question {
            Question::Overview(request, answer) => {
                let moment = asked.fetch_add(1, Ordering::Relaxed);
                let mood = *mood.lock().unwrap();
                if mood != Mood::Silent {
                    let reply = in_mood(mood, feed.overview(moment, &request));
                    let _ = answer.send(Answer::Here(reply));
                }
            }
            Question::History(answer) => {
                let _ = answer.send(Answer::Here(history()));
            }
            Question::TimeLine(limit, answer) => {
                let _ = answer.send((limit != "-").then(time_line));
            }
            Question::Alive(answer) => {
                let _ = answer.send(());
            }
            Question::Metrics(answer) => {
                let _ = answer.send("weir_up 1\n".to_owned());
            }
            other => panic!("nobody asks that: {other:?}"),
        }
    }
}

fn in_mood(mood: Mood, mut reply: v1::OverviewReply) -> v1::OverviewReply {
    let fleet = reply.fleet.as_mut().unwrap();
    let alone = |reply: &mut v1::OverviewReply| {
        reply.alone = true;
        reply.nodes.truncate(1);
    };
    match mood {
        Mood::Well | Mood::Silent => {}
        Mood::Leaderless => {
            fleet.leader = None;
            alone(&mut reply);
        }
        Mood::CutOff => alone(&mut reply),
        Mood::Idle => {
            fleet.policy_version = 0;
            reply.limits.clear();
            for node in &mut reply.nodes {
                node.limits.clear();
            }
        }
        Mood::Troubled => {
            if let Some(zookeeper) = &mut fleet.zookeeper {
                zookeeper.connected = false;
                zookeeper.since_ms = 42_000;
            }
            fleet.trial = Some(v1::Version {
                version: 12,
                confirm_within_ms: Some(42_000),
                ..v1::Version::default()
            });
            if let Some(limit) = reply.limits.first_mut() {
                limit.promise_kept = false;
                limit.nodes_failing_open = 2;
            }
        }
    }
    reply
}

fn history() -> v1::HistoryReply {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let hour = 3_600_000;
    let author = |name: &str, certified| {
        let name = name.to_owned();
        Some(v1::Author { name, certified })
    };
    let version = |ago: i64| v1::Version {
        version: u64::try_from(12 - ago).unwrap(),
        stored_at_ms: now - 47_000 - ago * ago * 7 * hour,
        in_force: ago == 0,
        confirm_within_ms: (ago == 0).then_some(42_000),
        author: match ago {
            0 | 4 | 5 => author("ada", true),
            1 => None,
            2 | 7 => author("grace", true),
            3 | 6 => author("root@edge-01", false),
            8 => author("grace@laptop", false),
            _ => None,
        },
        restores: match ago {
            1 => Some(9),
            5 => Some(4),
            _ => None,
        },
        confirmed_by: match ago {
            2 => author("ada", true),
            3 => author("root@edge-01", false),
            _ => None,
        },
    };
    v1::HistoryReply {
        versions: (0..12).map(version).collect(),
    }
}

fn time_line() -> TimeLine {
    let wave = |second: u16| {
        let second = f32::from(second);
        30_000.0 + 22_000.0 * (second / 70.0).sin() + 2_500.0 * (second / 3.0).sin()
    };
    let minute = |ago: u32| v1::PastMinute {
        minutes_ago: ago,
        share_least: 27_500.0 + 100.0 * f64::from(ago),
        share_most: 31_200.0 - 100.0 * f64::from(ago),
        offered: 33_100.0,
        admitted: 29_800.0,
        dropped: vec![v1::DroppedFor {
            reason: "over_limit".to_owned(),
            packets: 198_000 - u64::from(ago) * 9_000,
        }],
    };
    TimeLine {
        spans: (0..600).map(|second| (1.0, wave(second))).collect(),
        minutes: (0..10).map(minute).collect(),
    }
}

/// A connection with a request on it.
pub(crate) async fn connected(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// What is answered, to the end of the connection.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, more: &str) -> String {
    let (headers, body) = more.split_once("\r\n\r\n").unwrap_or((more, ""));
    let headers = if headers.is_empty() || headers.ends_with("\r\n") {
        headers.to_owned()
    } else {
        format!("{headers}\r\n")
    };
    let length = body.len();
    let host = if headers.to_lowercase().starts_with("host:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    let mut stream = connected(address, &request).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    read.expect("an answer that ends").unwrap();
    String::from_utf8(answer).unwrap()
}

/// What comes on a stream until `is_enough`.
pub(crate) async fn read_until(stream: &mut TcpStream, is_enough: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let mut buffer = vec![0; 1 << 16];
    while !is_enough(&text) {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer)).await;
        let length = read.expect("something").unwrap();
        assert!(length > 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    text
}
