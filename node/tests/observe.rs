//! What a daemon tells of sources, on a real host with real frames: the heaviest of a limit, why
//! one is dropped, and that looking costs no packet its place in the counters.
#![allow(clippy::unwrap_used)]

mod daemon_support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    process::Command,
};

use daemon_support::{Daemon, Host, ask};
use weir_coord::testing::{Options, ZooKeeperServer};
use weir_proto::admin::v1::{
    ApplyRequest, DemandRequest, ExplainReply, ExplainRequest, LimitRow, LimitsRequest,
    NodesRequest, OverviewRequest, StatusRequest, admin_client::AdminClient,
};

const LIMITS: &str = "version = 1\n\
    [[limit]]\nname = \"per-client\"\nper = { source_v4 = 32, source_v6 = 64 }\nproto = \"udp\"\n\
    ports = [9999]\npromise = \"local\"\nrate = \"1 packets/s\"\nburst = \"200 packets\"\n\
    [[limit]]\nname = \"elsewhere\"\nto = [\"2001:db8::53\"]\nrate = \"1k packets/s\"\n";
/// What a source may send of [`LIMITS`] at once.
const BURST: u32 = 200;
/// The bucket of a key refills while the test runs.
const REFILLED: u32 = 60;

/// A host with limits by source, and hosts that send to it.
struct Stage {
    host: Host,
    daemon: Daemon,
}

impl Stage {
    fn new() -> Self {
        Self::with(LIMITS)
    }

    fn with(document: &str) -> Self {
        let host = Host::new();
        let http = format!(
            "[http]\nlisten = \"{}:9100\"\ninsecure = true\n",
            host.address()
        );
        let config = host.node_file(&format!("[coordinator]\nkind = \"embedded\"\n{http}"));
        let daemon = host.start(&config);
        daemon.wait_for_log("enforcing");
        let stage = Self { host, daemon };
        let document = document.to_owned();
        stage.ask(async |mut client| {
            let request = ApplyRequest {
                document,
                ..ApplyRequest::default()
            };
            client.apply(request).await.unwrap();
        });
        stage.wait_until("every packet is looked at", || {
            stage.explain("198.18.0.1").sampled_one_in == 1
        });
        stage
    }

    fn ask<T>(&self, question: impl AsyncFnOnce(AdminClient<tonic::transport::Channel>) -> T) -> T {
        ask(&self.host, question)
    }

    #[track_caller]
    fn wait_until(&self, what: &str, holds: impl FnMut() -> bool) {
        self.host.wait_until(what, holds);
    }

    /// The address of a host on the same wire.
    fn source(&self, number: u32) -> String {
        let own = self.host.address();
        format!("{}.{number}", own.rsplit_once('.').unwrap().0)
    }

    /// A socket of that host.
    fn sender(&self, number: u32) -> UdpSocket {
        let show = Command::new("ip")
            .args(["-o", "-4", "address", "show", "to", &self.source(2)])
            .output()
            .unwrap();
        let shown = String::from_utf8(show.stdout).unwrap();
        let interface = shown.split_whitespace().nth(1).unwrap();
        let address = self.source(number);
        let add = [
            "address",
            "replace",
            &format!("{address}/24"),
            "dev",
            interface,
        ];
        assert!(Command::new("ip").args(add).status().unwrap().success());
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.connect((self.host.address(), 9_999)).unwrap();
        socket
    }

    fn explain(&self, address: &str) -> ExplainReply {
        let address = address.to_owned();
        self.ask(async |mut client| {
            let reply = client.explain(ExplainRequest { address }).await;
            reply.unwrap().into_inner()
        })
    }

    /// The limit by source, with its heaviest.
    fn heaviest(&self) -> LimitRow {
        self.ask(async |mut client| {
            let reply = client.limits(LimitsRequest { top: 5 }).await.unwrap();
            reply.into_inner().limits.swap_remove(0)
        })
    }

    fn metrics(&self) -> Metrics {
        let mut stream = TcpStream::connect((self.host.address(), 9_100)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Metrics(text)
    }
}

struct Metrics(String);

impl Metrics {
    /// The sum over all series that begin so.
    fn sum(&self, series: &str) -> f64 {
        let lines = self.0.lines().filter(|line| line.starts_with(series));
        let values = lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
        let values: Vec<f64> = values.collect();
        assert!(!values.is_empty(), "no {series} in\n{}", self.0);
        values.iter().sum()
    }
}

/// Sends as the packets of several hosts mix: so many of each a round.
fn send(senders: &[(UdpSocket, u32)], rounds: u32) {
    for _ in 0..rounds {
        for (socket, each_round) in senders {
            for _ in 0..*each_round {
                // An answer that nobody listens is no failure to send.
                while socket.send(&[0; 32]).is_err() {}
            }
        }
    }
}

#[track_caller]
fn assert_near(found: f64, expected: u32, what: &str) {
    let expected = f64::from(expected);
    let is_near = (found - expected).abs() <= 0.2 * expected;
    assert!(is_near, "{what}: found {found}, expected {expected}");
}

#[test]
fn the_heaviest_come_first_and_each_is_explained() {
    let stage = Stage::new();
    let [heavy, middle, light] = [31, 32, 33].map(|number| stage.source(number));
    let senders = [
        (stage.sender(31), 30),
        (stage.sender(32), 14),
        (stage.sender(33), 1),
    ];
    send(&senders, 100);

    let counted =
        |row: &LimitRow| row.top.iter().map(|one| one.offered).sum::<f64>() * row.top_seconds;
    let mut row = LimitRow::default();
    stage.wait_until("all packets are known", || {
        row = stage.heaviest();
        counted(&row) >= 0.95 * 4_500.0
    });
    let order: Vec<_> = row.top.iter().map(|one| one.source.as_str()).collect();
    assert_eq!(
        order,
        [&heavy, &middle, &light].map(|source| format!("{source}/32"))
    );
    for (one, sent) in row.top.iter().zip([3_000_u32, 1_400, 100]) {
        assert_near(one.offered * row.top_seconds, sent, &one.source);
        let due = sent.saturating_sub(BURST);
        let dropped = one.dropped * row.top_seconds;
        assert!(dropped <= f64::from(due) * 1.2, "{one:?}");
        assert!(
            dropped >= f64::from(due.saturating_sub(REFILLED)) * 0.8,
            "{one:?}"
        );
        assert_eq!(one.error, 0.0, "there was a counter for each");
    }

    let said = stage.explain(&heavy);
    assert_eq!(said.limits[0].exempt, "");
    assert_eq!(said.limits[0].source, format!("{heavy}/32"));
    assert_eq!(
        (said.limits[0].rate, said.limits[0].burst),
        (1.0, f64::from(BURST))
    );
    assert!(said.limits[0].traffic.as_ref().unwrap().dropped > 0.0);
    assert!(said.limits[1].exempt.contains("IPv6"), "{said:?}");
    assert_eq!(said.limits[1].traffic, None);
    for drop in &said.drops {
        assert_eq!(
            (drop.limit.as_str(), drop.reason.as_str()),
            ("per-client", "over_limit")
        );
        assert_eq!(
            (drop.source.as_str(), drop.destination.as_str()),
            (heavy.as_str(), stage.host.address().as_str())
        );
        assert_eq!((drop.protocol, drop.port), (17, 9_999));
        // One packet more than the burst is there: it is a packet short, which is a second.
        assert!(drop.over > 0.0 && drop.over <= 1.0, "{drop:?}");
        assert!(drop.passes_in_ms.unwrap() <= 1_000.0, "{drop:?}");
    }
    assert_eq!(said.drops.len(), 20, "as many as are told");

    let said = stage.explain(&light);
    let traffic = said.limits[0].traffic.as_ref().unwrap();
    assert!(
        traffic.offered > 0.0 && traffic.dropped == 0.0,
        "{traffic:?}"
    );
    assert!(said.drops.is_empty(), "{said:?}");
    let said = stage.explain("198.18.0.1");
    assert_eq!(said.limits[0].traffic.as_ref().unwrap().offered, 0.0);
    // A host without limits for it is another one in this table.
    assert_eq!(stage.explain("::ffff:198.18.0.1").address, "198.18.0.1");
    assert_eq!(stage.explain("2001:db8::1").limits[1].exempt, "");
}

#[test]
fn the_last_minutes_are_remembered_and_told() {
    const SENT: u32 = 4_000;
    let stage = Stage::new();
    let source = stage.source(31);
    // What was counted before the first look is not of these minutes.
    stage.wait_until("the past has begun", || {
        let said = stage.explain(&source);
        said.limits
            .first()
            .is_some_and(|limit| !limit.past.is_empty())
    });
    send(&[(stage.sender(31), 1)], SENT);
    let dropped = |said: &ExplainReply| -> u64 {
        let minutes = said.limits[0]
            .past
            .iter()
            .flat_map(|minute| &minute.dropped);
        let over = minutes.filter(|dropped| dropped.reason == "over_limit");
        over.map(|dropped| dropped.packets).sum()
    };
    stage.wait_until("drops are in the past", || {
        dropped(&stage.explain(&source)) >= u64::from(SENT - BURST - REFILLED)
    });
    let said = stage.explain(&source);
    assert!(dropped(&said) <= u64::from(SENT - BURST), "{said:?}");
    let minute = &said.limits[0].past[0];
    assert_eq!(
        (minute.share_least, minute.share_most),
        (1.0, 1.0),
        "of a key"
    );
    assert_eq!(
        (said.limits[0].budget, said.term),
        (1.0, 1),
        "a host alone leads itself"
    );
    assert!(
        said.limits[1].past.is_empty(),
        "of what can't apply there is none"
    );

    let demand = stage.ask(async |mut client| {
        let reply = client.demand(DemandRequest {}).await.unwrap();
        reply.into_inner().limits
    });
    let of_limit = &demand[0];
    assert_eq!(of_limit.limit, "per-client");
    let spans = of_limit.seconds.iter().zip(&of_limit.offered);
    let offered: f32 = spans.map(|(seconds, rate)| seconds * rate).sum();
    assert_near(offered.into(), SENT, "all that was sent, second by second");
    assert!(
        of_limit.seconds.len() < 30,
        "what stays the same is one span: {of_limit:?}"
    );

    let overview = stage.ask(async |mut client| {
        let request = OverviewRequest {
            limit: "per-client".to_owned(),
            node: String::new(),
            top: 5,
        };
        client.overview(request).await.unwrap().into_inner()
    });
    let fleet = overview.fleet.unwrap();
    assert!(
        fleet.limits.is_empty() && fleet.policy_version == 1,
        "{fleet:?}"
    );
    let names = |limit: &weir_proto::admin::v1::OverviewLimit| limit.row.clone().unwrap().name;
    let names: Vec<String> = overview.limits.iter().map(names).collect();
    assert_eq!(names, ["per-client", "elsewhere"]);
    assert!(overview.limits.iter().all(|limit| limit.promise_kept));
    assert_eq!(overview.nodes.len(), 1);
    let held: Vec<&str> = overview.nodes[0]
        .limits
        .iter()
        .map(|one| one.limit.as_str())
        .collect();
    assert_eq!(held, ["per-client"], "of the limit that was asked for");
    assert_eq!(
        overview.sources[0].source.as_ref().unwrap().source,
        format!("{source}/32")
    );
}

#[test]
fn a_full_ring_loses_samples_and_no_packet() {
    const SENT: u32 = 30_000;
    let stage = Stage::new();
    let before = stage.metrics();
    assert_eq!(before.sum("weir_events_lost_total"), 0.0);
    assert_eq!(before.sum("weir_table_slots"), f64::from(1 << 20));
    let sender = stage.sender(31);
    stage.daemon.signal(libc::SIGSTOP);
    send(&[(sender, 1)], SENT);
    stage.daemon.signal(libc::SIGCONT);

    let per_client = "weir_packets_total{limit=\"per-client\"";
    let mut metrics = stage.metrics();
    stage.wait_until("all packets are counted", || {
        metrics = stage.metrics();
        metrics.sum(per_client) >= f64::from(SENT)
    });
    assert_eq!(metrics.sum(per_client), f64::from(SENT));
    let admitted = metrics.sum(&format!("{per_client},reason=\"admitted\""));
    assert!(admitted >= f64::from(BURST) && admitted <= f64::from(BURST + REFILLED));
    let lost = metrics.sum("weir_events_lost_total");
    assert!(lost > 0.0 && lost < f64::from(SENT), "{lost} samples lost");
    assert_eq!(
        metrics.sum("weir_table_pressure_total{limit=\"per-client\"}"),
        0.0
    );
    assert!(metrics.sum("weir_table_load_ratio") <= 1.0);

    // What was sampled is known, and what comes then is sampled again, less often for a while.
    stage.wait_until("the sender is known", || {
        let row = stage.heaviest();
        row.top
            .first()
            .is_some_and(|one| one.offered * row.top_seconds > 5_000.0)
    });
    stage.wait_until("every packet is looked at again", || {
        stage.explain("198.18.0.1").sampled_one_in == 1
    });
}

#[test]
fn a_limit_that_fails_open_is_a_broken_promise_while_it_does() {
    let host = Host::new();
    let mut zookeeper = ZooKeeperServer::start(Options::default()).unwrap();
    let servers = host.forward(&zookeeper.connect_string());
    let here = format!("{}:7946", host.address());
    let config = host.node_file(&format!(
        "[coordinator]\ncommit = \"zookeeper\"\n\
         [zookeeper]\nservers = \"{servers}\"\nsession_timeout = \"1s\"\n\
         [grpc]\nlisten = \"{here}\"\nadvertise = \"{here}\"\n[timing]\nlease = \"1s\"\n"
    ));
    let limits = "version = 1\n[[limit]]\nname = \"open\"\nproto = \"udp\"\nports = [9999]\n\
                  rate = \"10k packets/s\"\nburst = \"500 packets\"\non_expiry = \"open\"\n";
    fs::create_dir_all(host.path("state")).unwrap();
    let memory = format!(
        "{{\"node\":\"7b0e2c1e-4c1f-4c3e-9d55-0f6a3f1d2a01\",\"fleet\":\"test\",\
         \"is_member\":true,\"policy\":[1,{limits:?}]}}"
    );
    fs::write(host.path("state/node.json"), memory).unwrap();
    let daemon = host.start(&config);
    daemon.wait_for_log("leading");
    let status = || {
        ask(&host, async |mut client| {
            let reply = client.status(StatusRequest {}).await.unwrap();
            reply.into_inner().limits.swap_remove(0)
        })
    };
    let lease_left_ms = || {
        ask(&host, async |mut client| {
            let reply = client.nodes(NodesRequest {}).await.unwrap();
            let nodes = reply.into_inner().nodes;
            nodes.first()?.limits.first()?.lease_left_ms
        })
    };
    host.wait_until("there is a lease", || {
        lease_left_ms().is_some_and(|left| left > 0)
    });
    host.wait_until("the promise is kept", || status().promise_kept);
    zookeeper.kill();
    host.wait_until("it fails open, and says so", || {
        let limit = status();
        !limit.promise_kept && limit.nodes_failing_open == 1
    });
    assert!(host.flood(5_000) > 4_000, "it does");
    zookeeper.restart().unwrap();
    host.wait_until("the promise is kept again", || status().promise_kept);
    daemon.signal(libc::SIGTERM);
    daemon.ended().expect(0, &["stopped"]);
}

/// Where each member gives a key an eighth, and half of the limit is for keys that want more.
const MERGED: &str = "version = 1\n\
    [fleet]\nmax_members = 4\n\
    [[limit]]\nname = \"merged\"\nper = { source_v4 = 32, source_v6 = 64 }\nproto = \"udp\"\n\
    ports = [9999]\npromise = \"strict\"\nrate = \"400 packets/s\"\nburst = \"80 packets\"\n";

/// From sampled packets to the leader, which is this host's own, and back into the kernel.
#[test]
fn a_source_that_wants_more_than_its_share_becomes_hot_and_cools_down() {
    let stage = Stage::with(MERGED);
    let source = stage.source(7);
    let sender = stage.sender(7);
    let begin = std::time::Instant::now();
    let leased = || {
        let top = stage.heaviest().top;
        let own = top.into_iter().find(|one| one.source.starts_with(&source));
        own.and_then(|own| own.leased)
    };
    stage.wait_until("a lease of its own", || {
        for _ in 0..200 {
            let _ = sender.send(&[0; 32]);
        }
        leased().is_some_and(|leased| leased >= 150.0)
    });
    let status = || {
        stage.ask(async |mut client| {
            let reply = client.status(StatusRequest {}).await.unwrap();
            reply.into_inner().limits.swap_remove(0)
        })
    };
    let limit = status();
    assert_eq!(limit.hot_keys, 1);
    let heaviest = limit.heaviest_hot.unwrap();
    assert_eq!(heaviest.source, format!("{source}/32"));
    assert!(heaviest.offered > 0.0, "{heaviest:?}");
    let explained = stage.explain(&source).limits.swap_remove(0);
    assert!(explained.hot);
    assert!(explained.rate >= 200.0, "lease and share: {explained:?}");
    assert!(explained.unspent.is_some() && explained.lease_left_ms.is_some());
    // Whatever it was given by, the limit holds.
    let metrics = stage.metrics();
    let passed = metrics.sum("weir_packets_total{limit=\"merged\",reason=\"admitted\"");
    let allowed = 400.0 * begin.elapsed().as_secs_f64() + 80.0;
    assert!(passed <= allowed, "{passed} of {allowed}");
    stage.wait_until("it is one like any other", || leased().is_none());
    stage.wait_until("nothing is hot", || status().hot_keys == 0);
    assert!(!stage.explain(&source).limits.swap_remove(0).hot);
}
