//! Traces of a real daemon, as a collector receives them.
#![allow(clippy::unwrap_used)]

mod daemon_support;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex},
};

use daemon_support::{Daemon, Host};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::status::StatusCode,
};
use tonic::{Request, Response, Status};
use weir_coord::testing::{Options, ZooKeeperServer};
use weir_proto::admin::v1::{ApplyRequest, admin_client::AdminClient};

const LIMITS: &str = "version = 1\n[[limit]]\nname = \"udp\"\nproto = \"udp\"\n\
                      ports = [9999]\nrate = \"1k packets/s\"\nburst = \"64 packets\"\n";
const THIS_NODE: &str = "7b0e2c1e-4c1f-4c3e-9d55-0f6a3f1d2a01";

/// A span, in words.
#[derive(Clone, Debug)]
struct Span {
    name: String,
    id: Vec<u8>,
    parent: Vec<u8>,
    status: StatusCode,
    attributes: BTreeMap<String, String>,
}

/// What a collector was sent.
#[derive(Clone, Debug, Default)]
struct Collected {
    services: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
    spans: Arc<Mutex<Vec<Span>>>,
}

fn words(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let word = |pair: &KeyValue| {
        let value = match pair.value.clone().unwrap().value.unwrap() {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (pair.key.clone(), value)
    };
    attributes.iter().map(word).collect()
}

#[tonic::async_trait]
impl TraceService for Collected {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let service = words(&resource.resource.unwrap().attributes);
            self.services.lock().unwrap().push(service);
            let spans = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            let spans = spans.map(|span| Span {
                attributes: words(&span.attributes),
                status: span
                    .status
                    .map_or(StatusCode::Unset, |status| status.code()),
                name: span.name,
                id: span.span_id,
                parent: span.parent_span_id,
            });
            self.spans.lock().unwrap().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collected {
    /// Collects at this address until the test process ends.
    fn at(listener: TcpListener) -> Self {
        let collected = Self::default();
        let service = TraceServiceServer::new(collected.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
                let server = tonic::transport::Server::builder().add_service(service);
                server.serve_with_incoming(incoming).await.unwrap();
            });
        });
        collected
    }

    /// The first span of that name.
    fn find(&self, name: &str, version: &str) -> Option<Span> {
        let spans = self.spans.lock().unwrap();
        let mut found = spans.iter().filter(|span| span.name == name);
        let is_of =
            |span: &&Span| version.is_empty() || span.value("weir.policy.version") == version;
        found.find(is_of).cloned()
    }

    /// A part of that span.
    fn part(&self, name: &str, whole: &Span) -> Option<Span> {
        let spans = self.spans.lock().unwrap();
        let mut parts = spans.iter().filter(|span| span.parent == whole.id);
        parts.find(|span| span.name == name).cloned()
    }
}

impl Span {
    fn value(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// A host alone in a fleet, whose daemon sends its traces to `collector`.
fn start(host: &Host, zookeeper: &ZooKeeperServer, collector: &str) -> Daemon {
    let servers = host.forward(&zookeeper.connect_string());
    let here = format!("{}:7946", host.address());
    let config = host.node_file(&format!(
        "[zookeeper]\nservers = \"{servers}\"\nsession_timeout = \"1s\"\n\
         [grpc]\nlisten = \"{here}\"\nadvertise = \"{here}\"\n\
         [timing]\nlease = \"1s\"\n[otlp]\nendpoint = \"http://{collector}\"\n"
    ));
    let daemon = host.start(&config);
    daemon.wait_for_log("leading");
    daemon
}

fn apply(host: &Host, document: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let socket = format!("unix:{}", host.path("node.sock").display());
    runtime.block_on(async {
        let endpoint = tonic::transport::Endpoint::from_shared(socket).unwrap();
        let mut client = AdminClient::new(endpoint.connect().await.unwrap());
        let request = ApplyRequest {
            document: document.to_owned(),
            ..ApplyRequest::default()
        };
        client.apply(request).await.unwrap();
    });
}

#[test]
fn a_collector_is_told_of_take_overs_and_of_changes_of_policy() {
    let host = Host::new();
    let zookeeper = ZooKeeperServer::start(Options::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let collected = Collected::at(listener);
    let daemon = start(&host, &zookeeper, &host.forward(&address));
    apply(&host, LIMITS);
    let found = |name| host.wait_until(name, || collected.find(name, "").is_some());
    found("leader.take_over");
    found("policy.apply");
    found("policy.change");

    let take_over = collected.find("leader.take_over", "").unwrap();
    assert_eq!(take_over.status, StatusCode::Ok, "{take_over:?}");
    assert_eq!(take_over.value("weir.node.id"), THIS_NODE);
    assert_eq!(take_over.value("weir.term"), "1");
    assert_eq!(take_over.value("weir.take_over.reason"), "nobody leads");
    let part = collected.part("leader.take_term", &take_over);
    assert!(part.is_some(), "{collected:?}");

    let applied = collected.find("policy.apply", "1").unwrap();
    assert_eq!(applied.status, StatusCode::Ok, "{applied:?}");
    assert_eq!(applied.value("weir.term"), "1");
    let change = collected.find("policy.change", "1").unwrap();
    assert_eq!(change.status, StatusCode::Ok, "{change:?}");
    assert_eq!(change.value("weir.node.id"), THIS_NODE);
    for name in ["policy.prepare", "policy.activate"] {
        assert!(collected.part(name, &change).is_some(), "{collected:?}");
    }

    let service = collected.services.lock().unwrap()[0].clone();
    assert_eq!(service["service.name"], "weir-node");
    assert_eq!(service["service.instance.id"], THIS_NODE);
    assert_eq!(service["weir.fleet.name"], "test");
    // What waits for its turn when the daemon stops is sent before it ends.
    apply(&host, &LIMITS.replace("1k", "2k"));
    daemon.signal(libc::SIGTERM);
    daemon.ended().expect(0, &["traces are sent", "stopped"]);
    let change = collected.find("policy.change", "2");
    assert!(change.is_some(), "{collected:?}");
}

#[test]
fn an_endpoint_is_a_collector_in_plain_text() {
    let host = Host::new();
    let check = |otlp: &str| {
        let config = host.node_file(&format!("[coordinator]\nkind = \"embedded\"\n{otlp}"));
        host.run(&["--config", config.to_str().unwrap(), "--check"])
    };
    let endpoint = |endpoint: &str| check(&format!("[otlp]\nendpoint = \"{endpoint}\"\n"));
    endpoint("http://[2001:db8::9]:4317/").expect(0, &["no errors"]);
    for wrong in [
        "https://192.0.2.1:4317",
        "192.0.2.1:4317",
        "http://192.0.2.1",
    ] {
        endpoint(wrong).expect(2, &[wrong, "write it like \"http://127.0.0.1:4317\""]);
    }
    check("[otlp]\n").expect(2, &["endpoint"]);
}

/// Nobody listens there, or somebody does and says nothing: the daemon leads, takes policies, and
/// stops. It says once that traces are lost.
#[test]
fn a_collector_that_is_away_or_silent_is_no_concern_of_the_daemon() {
    let zookeeper = ZooKeeperServer::start(Options::default()).unwrap();
    let host = Host::new();
    let daemon = start(&host, &zookeeper, "127.0.0.1:9");
    apply(&host, LIMITS);
    daemon.wait_for_log("traces are lost");
    apply(&host, &LIMITS.replace("1k", "2k"));
    daemon.signal(libc::SIGTERM);
    let ended = daemon.ended();
    ended.expect(0, &["stopped"]);
    assert_eq!(ended.output.matches("traces are lost").count(), 1);
    drop(host);

    let host = Host::new();
    let zookeeper = ZooKeeperServer::start(Options::default()).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = host.forward(&silent.local_addr().unwrap().to_string());
    let daemon = start(&host, &zookeeper, &address);
    apply(&host, LIMITS);
    let _held = silent.accept().unwrap();
    apply(&host, &LIMITS.replace("1k", "2k"));
    daemon.signal(libc::SIGTERM);
    daemon.ended().expect(0, &["stopped"]);
}
