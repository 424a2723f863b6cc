//! Who asked for a version, against a real server.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::{Node, SESSION, observer, server, settings};
use weir_coord::zookeeper::{
    Author, Event, Keeper, Origin, PolicyEntry, Publication, RECORD_BYTES_MAX,
};
use weir_model::PolicyVersion;

const FIRST: PolicyVersion = PolicyVersion(1);
const SECOND: PolicyVersion = PolicyVersion(2);
const THIRD: PolicyVersion = PolicyVersion(3);

async fn leader(servers: &str) -> Node {
    let mut leader = Node::spawn(1, settings(servers, SESSION));
    leader.until_event(Event::Standing).await;
    leader.take_over(0).await;
    leader
}

async fn put_in_force(keeper: &Keeper, publication: Publication) -> PolicyVersion {
    let version = keeper.publish(publication).await.unwrap();
    keeper.activate(version, 8).await.unwrap()
}

fn by(origin: Origin, document: &str, expected: PolicyVersion) -> Publication {
    Publication {
        origin,
        ..Publication::new(document, expected)
    }
}

fn origins(history: &[PolicyEntry]) -> Vec<(PolicyVersion, Origin)> {
    let pairs = history.iter();
    pairs
        .map(|entry| (entry.version, entry.origin.clone()))
        .collect()
}

#[tokio::test]
async fn a_version_says_who_asked_for_it_and_what_it_repeats() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let other = Node::spawn(2, settings(&server.connect_string(), SESSION));
    let keeper = &leader.keeper;
    let ada = Origin {
        author: Some(Author::certified("ada").unwrap()),
        restores: None,
        confirmed_by: None,
    };
    let root = Origin {
        author: Some(Author::claimed("root@edge-1").unwrap()),
        restores: Some(FIRST),
        confirmed_by: None,
    };
    let unknown = Origin::default();
    // As large as a document may be: what is beside it takes nothing from it.
    let large = "#".repeat(RECORD_BYTES_MAX);
    put_in_force(keeper, by(ada.clone(), &large, PolicyVersion(0))).await;
    put_in_force(keeper, by(unknown.clone(), "two", FIRST)).await;
    let third = put_in_force(keeper, by(root.clone(), "one", SECOND)).await;
    assert_eq!(third, THIRD, "what is beside documents takes no number");

    let history = other.keeper.history().await.unwrap();
    let expected = [(THIRD, root), (SECOND, unknown), (FIRST, ada)];
    assert_eq!(origins(&history), expected);
    assert!(history.iter().all(|entry| entry.stored_at_ms > 0));
}

#[tokio::test]
async fn who_confirms_is_written_beside_who_asked() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let keeper = &leader.keeper;
    let origin = Origin {
        author: Some(Author::certified("ada").unwrap()),
        restores: Some(FIRST),
        confirmed_by: None,
    };
    put_in_force(keeper, Publication::new("one", PolicyVersion(0))).await;
    let grace = Some(Author::claimed("grace").unwrap());
    for (version, by) in [(SECOND, grace), (THIRD, None)] {
        let on_trial = Publication {
            trial: Some(Duration::from_secs(60)),
            ..self::by(origin.clone(), "another", PolicyVersion(version.0 - 1))
        };
        put_in_force(keeper, on_trial).await;
        assert_eq!(keeper.confirm(None, by.clone()).await, Ok(version));
        let expected = Origin {
            confirmed_by: by,
            ..origin.clone()
        };
        let history = keeper.history().await.unwrap();
        assert_eq!(origins(&history)[0], (version, expected));
    }
}

#[tokio::test]
async fn nobody_asked_for_what_was_taken_back() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let keeper = &leader.keeper;
    put_in_force(keeper, Publication::new("one", PolicyVersion(0))).await;
    let on_trial = Publication {
        trial: Some(Duration::from_secs(60)),
        ..Publication::new("two", FIRST)
    };
    put_in_force(keeper, on_trial).await;
    assert_eq!(keeper.expire(SECOND).await, Ok(THIRD));
    let taken_back = Origin {
        author: None,
        restores: Some(FIRST),
        confirmed_by: None,
    };
    let history = keeper.history().await.unwrap();
    assert_eq!(origins(&history)[0], (THIRD, taken_back));
}

#[tokio::test]
async fn what_is_not_understood_is_unknown_and_hides_no_version() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let keeper = &leader.keeper;
    put_in_force(keeper, Publication::new("one", PolicyVersion(0))).await;
    put_in_force(keeper, Publication::new("two", FIRST)).await;
    let observer = observer(&server).await;
    for (path, data) in [
        ("/policy/v_0000000001/origin", &b"\xff\xfe"[..]),
        ("/policy/v_0000000002/notes", b"by another program"),
    ] {
        observer.create(path, data, &support::open()).await.unwrap();
    }
    let history = keeper.history().await.unwrap();
    let expected = [(SECOND, Origin::default()), (FIRST, Origin::default())];
    assert_eq!(origins(&history), expected);
}
