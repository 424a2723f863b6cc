//! Changes that wait to be confirmed on a host alone: nobody else would take them back.
#![allow(clippy::unwrap_used)]

mod daemon_support;

use std::{fs, path::PathBuf, time::Duration};

use daemon_support::{Daemon, Host, ask};
use tonic::{Code, Status};
use weir_proto::admin::v1::{
    ApplyRequest, ConfirmRequest, RollbackRequest, StatusReply, StatusRequest,
};

const MINUTE: Duration = Duration::from_secs(60);
/// So many that a slow machine has asked, or started a daemon, before they are over.
const SECONDS: Duration = Duration::from_secs(8);

/// A host alone, with a limit of so many packets per second in force.
struct Alone {
    host: Host,
    config: PathBuf,
    daemon: Option<Daemon>,
}

fn limits(rate: u32) -> String {
    format!(
        "version = 1\n[[limit]]\nname = \"udp\"\nproto = \"udp\"\nports = [9999]\n\
         rate = \"{rate} packets/s\"\n"
    )
}

impl Alone {
    fn new(rate: u32) -> Self {
        let host = Host::new();
        let config = host.node_file("[coordinator]\nkind = \"embedded\"\n");
        let mut alone = Self {
            host,
            config,
            daemon: None,
        };
        alone.restart();
        alone.apply(rate, None).unwrap();
        alone
    }

    /// Kills the daemon and starts another.
    fn restart(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(libc::SIGKILL);
            daemon.ended();
        }
        let daemon = self.host.start(&self.config);
        daemon.wait_for_log("enforcing");
        self.daemon = Some(daemon);
    }

    fn apply(&self, rate: u32, within: Option<Duration>) -> Result<u64, Status> {
        let request = ApplyRequest {
            document: limits(rate),
            confirm_within_ms: within.map(|within| u64::try_from(within.as_millis()).unwrap()),
            ..ApplyRequest::default()
        };
        ask(&self.host, async |mut client| {
            Ok(client.apply(request).await?.into_inner().version)
        })
    }

    fn confirm(&self, version: Option<u64>) -> Result<u64, Status> {
        let request = ConfirmRequest {
            version,
            ..ConfirmRequest::default()
        };
        ask(&self.host, async |mut client| {
            Ok(client.confirm(request).await?.into_inner().version)
        })
    }

    fn roll_back(&self) -> Result<u64, Status> {
        ask(&self.host, async |mut client| {
            let reply = client.rollback(RollbackRequest::default()).await?;
            Ok(reply.into_inner().version)
        })
    }

    fn status(&self) -> StatusReply {
        ask(&self.host, async |mut client| {
            client.status(StatusRequest {}).await.unwrap().into_inner()
        })
    }

    fn remembered(&self) -> serde_json::Value {
        let remembered = fs::read_to_string(self.host.path("state/node.json")).unwrap();
        serde_json::from_str(&remembered).unwrap()
    }

    /// The limit that is remembered, which is the one in force.
    fn rate(&self) -> u32 {
        let remembered = self.remembered();
        let document = remembered["policy"][1].as_str().unwrap();
        let (_, rest) = document.split_once("rate = \"").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    }
}

#[test]
fn what_nobody_confirms_goes_back_by_itself() {
    let alone = Alone::new(100);
    assert_eq!(alone.apply(200, Some(SECONDS)).unwrap(), 2);
    let trial = alone.status().trial.unwrap();
    assert!(trial.version == 2 && trial.confirm_within_ms.is_some());
    let another = alone.apply(300, None).unwrap_err();
    assert_eq!(another.code(), Code::FailedPrecondition);
    alone
        .host
        .wait_until("it goes back", || alone.rate() == 100);
    let status = alone.status();
    assert!(status.trial.is_none() && status.policy_version == 3);
}

#[test]
fn what_is_confirmed_stays() {
    let alone = Alone::new(100);
    let nothing = alone.confirm(None).unwrap_err();
    assert_eq!(nothing.code(), Code::FailedPrecondition);
    assert_eq!(alone.apply(200, Some(MINUTE)).unwrap(), 2);
    assert!(alone.confirm(Some(9)).is_err());
    assert_eq!(alone.confirm(None).unwrap(), 2);
    assert!(alone.status().trial.is_none() && alone.remembered()["trial"].is_null());
    assert_eq!((alone.rate(), alone.status().policy_version), (200, 2));
}

#[test]
fn a_change_is_taken_back_at_once() {
    let alone = Alone::new(100);
    assert!(alone.roll_back().is_err(), "nothing waits");
    alone.apply(200, Some(MINUTE)).unwrap();
    assert_eq!(alone.roll_back().unwrap(), 3);
    assert_eq!(alone.rate(), 100);
    assert_eq!(alone.apply(300, None).unwrap(), 4);
}

#[test]
fn who_is_killed_meanwhile_goes_back_all_the_same() {
    let mut alone = Alone::new(100);
    alone.apply(200, Some(SECONDS)).unwrap();
    alone.restart();
    assert_eq!(alone.status().trial.map(|trial| trial.version), Some(2));
    alone
        .host
        .wait_until("it goes back", || alone.rate() == 100);
    alone.restart();
    assert!(alone.status().trial.is_none());
}
