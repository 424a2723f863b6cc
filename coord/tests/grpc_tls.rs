//! Streams between nodes over TLS: who is let in, and in whose name they may speak.

#![allow(clippy::unwrap_used)]

use std::{fs, net::SocketAddr, time::Duration};

use futures::{StreamExt, stream};
use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, SanType};
use tokio::{net::TcpListener, time::timeout};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Server},
};
use weir_coord::grpc::{self, AttachService, Inbound, LeaderLink, Security, Streams};
use weir_model::{
    NodeId, PolicyVersion, Term,
    message::{FromNode, Refuse},
};
use weir_proto::coordination::v1::{self, coordination_client::CoordinationClient};
use weir_tls::{
    Credentials, Expected, Identity, Role, TlsFiles, connect,
    issue::{Authority, Subject},
};

const DAY: Duration = Duration::from_secs(86_400);
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

const LEADER: NodeId = NodeId::from_u128(1);
const NODE: NodeId = NodeId::from_u128(2);
const OTHER: NodeId = NodeId::from_u128(3);

struct Leader {
    address: SocketAddr,
    streams: Streams,
    inbound: Inbound,
}

/// Whoever shows a certificate for this.
fn holder(authority: &Authority, subject: Subject) -> Security {
    let issued = authority.issue(subject, "test", DAY).unwrap();
    holder_of(authority, &issued.certificate, &issued.key)
}

fn holder_of(authority: &Authority, certificate: &str, key: &str) -> Security {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let files = TlsFiles {
        ca: Some(path("ca.pem")),
        certificate: path("own.pem"),
        key: path("own.key"),
    };
    fs::write(path("ca.pem"), authority.certificate()).unwrap();
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
    Security::Tls(Credentials::load(files).unwrap())
}

/// The authority's own certificate for a node, of a year that is over.
fn ended(authority: &Authority, node: NodeId) -> Security {
    let issuer = KeyPair::from_pem(&authority.key()).unwrap();
    let mut named = CertificateParams::default();
    let name = "Weir development authority";
    named.distinguished_name = DistinguishedName::new();
    named.distinguished_name.push(DnType::CommonName, name);
    let issuer = Issuer::new(named, issuer);
    let mut params = CertificateParams::default();
    let uri = Identity::uri_of(node).try_into().unwrap();
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    holder_of(authority, &certificate, &key.serialize_pem())
}

fn authority() -> Authority {
    Authority::create(DAY * 2).unwrap()
}

/// A node that leads, and serves with the certificate of `node`.
async fn leading(authority: &Authority, node: NodeId) -> Leader {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let streams = Streams::default();
    streams.open();
    let (service, inbound) = AttachService::new(streams.clone());
    let security = holder(authority, Subject::Node(node));
    let router = Server::builder().add_service(service);
    tokio::spawn(router.serve_with_incoming(grpc::incoming(listener, security)));
    Leader {
        address,
        streams,
        inbound,
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}

async fn client(
    leader: &Leader,
    security: &Security,
    expected: Expected,
) -> Result<CoordinationClient<Channel>, String> {
    let connected = connect(&endpoint(leader.address), security, expected).await;
    connected
        .map(CoordinationClient::new)
        .map_err(|error| format!("{error:?}"))
}

fn said_by(node: NodeId) -> FromNode {
    FromNode::Refuse(Refuse {
        node,
        promised: Term(7),
        leader: None,
        policy: PolicyVersion(1),
    })
}

/// What comes of saying something in the name of `node`.
async fn attach(
    client: &mut CoordinationClient<Channel>,
    node: NodeId,
) -> Result<tonic::Streaming<v1::ToNode>, Status> {
    // It says so, and stays.
    let said = stream::iter([said_by(node).into()]).chain(stream::pending());
    client.attach(said).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_node_speaks_for_itself() {
    let authority = authority();
    let mut leader = leading(&authority, LEADER).await;
    let node = holder(&authority, Subject::Node(NODE));
    let mut client = client(&leader, &node, Expected::Node(LEADER))
        .await
        .unwrap();
    let _stream = attach(&mut client, NODE).await.unwrap();
    let heard = timeout(PATIENCE, leader.inbound.recv()).await.unwrap();
    assert_eq!(heard, Some(said_by(NODE)));
}

#[tokio::test]
async fn a_node_is_refused_in_anothers_name() {
    let authority = authority();
    let mut leader = leading(&authority, LEADER).await;
    let node = holder(&authority, Subject::Node(NODE));
    let mut client = client(&leader, &node, Expected::Node(LEADER))
        .await
        .unwrap();
    let mut stream = attach(&mut client, OTHER).await.unwrap();
    let ended = timeout(PATIENCE, stream.next()).await.unwrap();
    let status = ended.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(leader.inbound.try_recv().is_err(), "nothing was passed on");
}

#[tokio::test]
async fn who_is_no_node_does_not_attach() {
    let authority = authority();
    let mut leader = leading(&authority, LEADER).await;
    let operator = holder(&authority, Subject::Operator(Role::Operate));
    let mut client = client(&leader, &operator, Expected::AnyNode).await.unwrap();
    let refused = attach(&mut client, NODE).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let question = v1::SuspectRequest { term: 1 };
    let refused = client.suspect(question).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(leader.inbound.try_recv().is_err());
}

#[tokio::test]
async fn strangers_are_not_spoken_with_on_either_side() {
    let (ours, theirs) = (authority(), authority());
    let mut leader = leading(&ours, LEADER).await;
    for (who, security) in [
        ("plain text", Security::Plain),
        (
            "a foreign authority's",
            holder(&theirs, Subject::Node(NODE)),
        ),
    ] {
        let attached = match client(&leader, &security, Expected::Node(LEADER)).await {
            Ok(mut client) => attach(&mut client, NODE).await.is_ok(),
            Err(_) => false,
        };
        assert!(!attached, "{who}");
    }
    assert!(leader.inbound.try_recv().is_err());
    // An impostor at the leader's address: one of ours, and one with no certificate of ours.
    let node = holder(&ours, Subject::Node(NODE));
    let impostor = leading(&ours, OTHER).await;
    let refused = client(&impostor, &node, Expected::Node(LEADER)).await;
    let refused = refused.expect_err("refused");
    assert!(refused.contains("was expected"), "{refused}");
    let stranger = leading(&theirs, LEADER).await;
    let refused = client(&stranger, &node, Expected::Node(LEADER)).await;
    assert!(refused.is_err());
}

/// What has ended lets nobody in, and nobody speaks with it.
#[tokio::test]
async fn certificates_that_have_ended_are_refused() {
    let authority = authority();
    let mut leader = leading(&authority, LEADER).await;
    let ended = ended(&authority, NODE);
    let attached = match client(&leader, &ended, Expected::Node(LEADER)).await {
        Ok(mut client) => attach(&mut client, NODE).await.is_ok(),
        Err(_) => false,
    };
    assert!(!attached);
    assert!(leader.inbound.try_recv().is_err());
}

#[tokio::test]
async fn a_link_attaches_to_the_leader_that_is_meant() {
    let authority = authority();
    let mut leader = leading(&authority, LEADER).await;
    let link = LeaderLink::secured(PATIENCE, holder(&authority, Subject::Node(NODE)));
    link.follow(Some((LEADER, leader.address.to_string())));
    let mut again = tokio::time::interval(Duration::from_millis(10));
    let heard = async {
        loop {
            tokio::select! {
                // Dropped until there is a stream.
                _ = again.tick() => link.send(said_by(NODE)),
                heard = leader.inbound.recv() => return heard,
            }
        }
    };
    assert_eq!(timeout(PATIENCE, heard).await.unwrap(), Some(said_by(NODE)));
    leader.streams.close();
}
