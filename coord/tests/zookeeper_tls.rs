//! TLS between Weir and ZooKeeper, against a real server that wants a certificate too.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use support::{Node, SESSION, envelope, settings};
use weir_coord::{
    testing::{Options, ZooKeeperServer},
    zookeeper::{Event, Tls},
};
use weir_coord_core::commit::StoreOutcome;

/// Signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate for this host, and its key, as PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn tls(&self, identity: Option<&Identity>) -> Tls {
        let identity = identity.map(|own| (own.certificate.as_str(), own.key.as_str()));
        Tls::new(&self.pem, identity).unwrap()
    }
}

/// A server that speaks TLS, and where; it answers four-letter words in plain text beside that.
fn secure_server(authority: &Authority, directory: &Path) -> (ZooKeeperServer, String) {
    let own = authority.sign("server");
    let keys = directory.join("server.pem");
    fs::write(&keys, own.key + &own.certificate).unwrap();
    let trusted = directory.join("trusted.pem");
    fs::write(&trusted, &authority.pem).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port();
    let settings = [
        format!("secureClientPort={port}"),
        "secureClientPortAddress=127.0.0.1".to_owned(),
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
        format!("ssl.keyStore.location={}", keys.display()),
        "ssl.keyStore.type=PEM".to_owned(),
        format!("ssl.trustStore.location={}", trusted.display()),
        "ssl.trustStore.type=PEM".to_owned(),
        "ssl.clientAuth=need".to_owned(),
        "ssl.hostnameVerification=false".to_owned(),
    ];
    let options = Options {
        settings: settings.to_vec(),
        ..Options::default()
    };
    let server = ZooKeeperServer::start(options).expect("a server with TLS");
    (server, format!("127.0.0.1:{port}"))
}

#[tokio::test]
async fn a_fleet_is_led_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let (_server, address) = secure_server(&authority, directory.path());
    let own = authority.sign("node");
    let secured = settings(&address, SESSION).with_tls(authority.tls(Some(&own)));
    let mut node = Node::spawn(1, secured);
    node.until_event(Event::Standing).await;
    let term = node.take_over(0).await.term;
    let stored = node.store(envelope(term, 1, 3)).await;
    assert_eq!(stored, StoreOutcome::Committed);
}

#[tokio::test]
async fn strangers_are_not_spoken_with_on_either_side() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (_server, address) = secure_server(&ours, directory.path());
    let own = ours.sign("node");
    let foreign = theirs.sign("node");
    let plain = settings(&address, SESSION);
    for (who, settings) in [
        ("plain text", plain.clone()),
        ("no certificate", plain.clone().with_tls(ours.tls(None))),
        (
            "a foreign certificate",
            plain.clone().with_tls(ours.tls(Some(&foreign))),
        ),
        (
            "a server of another authority",
            plain.with_tls(theirs.tls(Some(&own))),
        ),
    ] {
        let mut node = Node::spawn(1, settings);
        node.until_event(Event::Disconnected).await;
        assert!(!node.saw(&Event::Connected), "{who}");
    }
}

#[test]
fn what_is_no_certificate_is_refused() {
    assert!(Tls::new("nothing", None).is_err());
    let authority = Authority::new("ours");
    let nonsense = Tls::new(&authority.pem, Some(("no certificate", "no key")));
    assert!(nonsense.is_err());
}
