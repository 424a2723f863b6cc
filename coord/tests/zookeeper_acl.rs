//! With credentials set, every znode is closed to those who lack them.

mod support;

use support::{Node, SESSION, envelope, member, server, settings};
use weir_coord::{
    testing::ZooKeeperServer,
    zookeeper::{Credentials, Event, LockName, Publication, Refusal},
};
use weir_coord_core::commit::StoreOutcome;
use weir_model::PolicyVersion;
use zookeeper_client::{Client, Error};

fn credentials() -> Credentials {
    Credentials::new("weir", "a secret")
}

async fn client(server: &ZooKeeperServer, auth: Option<&[u8]>) -> Client {
    let mut connector = Client::connector().with_session_timeout(SESSION);
    if let Some(auth) = auth {
        connector = connector.with_auth("digest", auth);
    }
    connector
        .connect(&server.connect_string())
        .await
        .expect("a client")
}

async fn all_below(client: &Client, top: &str) -> Vec<String> {
    let mut paths = vec![top.to_owned()];
    let mut next = 0;
    while next < paths.len() {
        let path = paths[next].clone();
        for name in client
            .list_children(&path)
            .await
            .expect("readable with the credentials")
        {
            paths.push(format!("{path}/{name}"));
        }
        next += 1;
    }
    paths
}

#[tokio::test]
async fn a_stranger_can_neither_read_nor_write_anything() {
    let server = server();
    let open = settings(&server.connect_string(), SESSION);
    let closed = open.clone().with_credentials(credentials());
    let mut node = Node::spawn(1, closed);
    node.until_event(Event::Standing).await;
    let term = node.take_over(0).await.term;
    assert_eq!(
        node.store(envelope(term, 1, 3)).await,
        StoreOutcome::Committed
    );
    assert_eq!(node.admit(member(1)).await, StoreOutcome::Committed);
    let version = node
        .keeper
        .publish(Publication {
            trial: Some(support::DEADLINE),
            ..Publication::new("document", PolicyVersion(0))
        })
        .await
        .unwrap();
    node.keeper.activate(version, 8).await.unwrap();
    let guard = node
        .keeper
        .lock(LockName::Roster, support::DEADLINE)
        .await
        .unwrap();

    let owner = client(&server, Some(b"weir:a secret")).await;
    let paths = all_below(&owner, "/weir").await;
    // The parent, the root, 8 directories and 3 records of it, and one of each kind below them,
    // the document on trial.
    assert_eq!(paths.len(), 2 + 10 + 6, "{paths:#?}");
    for stranger in [
        client(&server, None).await,
        client(&server, Some(b"weir:a guess")).await,
    ] {
        for path in &paths {
            assert_eq!(
                stranger.get_data(path).await.err(),
                Some(Error::NoAuth),
                "{path}"
            );
            assert_eq!(
                stranger.list_children(path).await.err(),
                Some(Error::NoAuth),
                "{path}"
            );
            let written = stranger.set_data(path, b"", None).await;
            assert_eq!(written.err(), Some(Error::NoAuth), "{path}");
            let acl = [zookeeper_client::Acl::new(
                zookeeper_client::Permission::ALL,
                zookeeper_client::AuthId::anyone(),
            )];
            assert_eq!(
                stranger.set_acl(path, &acl, None).await.err(),
                Some(Error::NoAuth)
            );
            let child = stranger
                .create(&format!("{path}/x"), b"", &support::open())
                .await;
            let closed = [Error::NoAuth, Error::NoChildrenForEphemerals];
            assert!(child.is_err_and(|error| closed.contains(&error)), "{path}");
        }
        // ZooKeeper asks the parent about a deletion, and the parent of `/weir` is not Weir's.
        for path in &paths[1..] {
            assert_eq!(
                stranger.delete(path, None).await.err(),
                Some(Error::NoAuth),
                "{path}"
            );
        }
    }
    guard.release().await;

    let mut without = Node::spawn(2, open);
    let refusal = Refusal::NotAuthorised {
        root: "/weir/test".to_owned(),
    };
    without.until_event(Event::Refused(refusal)).await;
}
