//! Who takes part: draining a member, and taking one out of the fleet.

use std::time::Duration;

use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tonic::Status;
use weir_coord::{fleet::Fleet, zookeeper::RosterError};
use weir_coord_core::record::MemberRecord;
use weir_model::NodeId;
use weir_proto::admin::v1;

use super::{Coordination, Daemon};
use crate::{
    dataplane,
    serve::{Answer, Leader},
};

type Reply<T> = oneshot::Sender<Answer<T>>;

/// How long whoever asked waits for the roster to say that it is done.
const DONE_WITHIN: Duration = Duration::from_secs(6);
/// No fleet, no members.
const ALONE: &str = "this host is alone: it has no other members";

impl Daemon {
    /// Has a member give back its share, or take one again.
    pub(super) fn drain(&mut self, request: v1::DrainRequest, answer: Reply<v1::DrainReply>) {
        let elsewhere = self.leader_elsewhere();
        let (fleet, member) = match self.member(&request.node) {
            Ok(found) => found,
            Err(status) => {
                let _ = answer.send(Answer::Refused(status));
                return;
            }
        };
        if fleet.leader().is_none() {
            let _ = answer.send(not_leading(elsewhere));
            return;
        }
        let wanted = !request.undo;
        fleet.drain(member.node, wanted, dataplane::now());
        let members = fleet.watch_members();
        tokio::spawn(async move {
            let node = member.node;
            let is_done = |members: &Vec<MemberRecord>| {
                let mut members = members.iter();
                members.any(|member| member.node == node && member.is_drained == wanted)
            };
            let _ = answer.send(if within(members, is_done).await {
                Answer::Here(v1::DrainReply {
                    node: Some(named(&member)),
                })
            } else {
                Answer::Refused(Status::unavailable(
                    "the roster does not say so yet: does ZooKeeper answer? It is tried on",
                ))
            });
        });
    }

    /// Takes a member out of the fleet.
    pub(super) fn remove(&mut self, request: v1::RemoveRequest, answer: Reply<v1::RemoveReply>) {
        let elsewhere = self.leader_elsewhere();
        let (fleet, member) = match self.member(&request.node) {
            Ok(found) => found,
            Err(status) => {
                let _ = answer.send(Answer::Refused(status));
                return;
            }
        };
        let node = member.node;
        if fleet.members().len() == 1 {
            let _ = answer.send(Answer::Refused(Status::failed_precondition(format!(
                "{} is the only member: stop its daemon, and `weir-node --detach` there if nothing is \
                 to be limited any more",
                member.name
            ))));
            return;
        }
        let members = fleet.watch_members();
        if request.powered_off {
            if fleet.live().iter().any(|live| live.record.node == node) {
                let _ = answer.send(Answer::Refused(Status::failed_precondition(format!(
                    "{} is registered as running: power it off first, or remove it without \
                     `--powered-off`",
                    member.name
                ))));
                return;
            }
            // A fleet that has lost a majority of its voters has no leader to ask.
            let keeper = fleet.keeper().clone();
            tokio::spawn(async move {
                let _ = answer.send(match keeper.power_off(node).await {
                    Ok(()) => gone(members, &member, "it goes as soon as somebody leads").await,
                    Err(error) => Answer::Refused(refusal(&error)),
                });
            });
            return;
        }
        if fleet.leader().is_none() {
            let _ = answer.send(not_leading(elsewhere));
            return;
        }
        fleet.remove(node, dataplane::now());
        tokio::spawn(async move {
            let hint = "it has not acknowledged that it gives back its floors, and goes as soon \
                        as it does; if it has no power, say `--powered-off`";
            let _ = answer.send(gone(members, &member, hint).await);
        });
    }

    /// The fleet, and its member of this name or identity.
    fn member(&mut self, wanted: &str) -> Result<(&mut Fleet, MemberRecord), Status> {
        let Coordination::Fleet(fleet) = &mut self.coordination else {
            return Err(Status::failed_precondition(ALONE));
        };
        let id = wanted.parse().ok().map(NodeId);
        let is_meant = |member: &&MemberRecord| Some(member.node) == id || member.name == wanted;
        let mut found = fleet.members().iter().filter(is_meant);
        match (found.next(), found.next()) {
            (Some(member), None) => {
                let member = member.clone();
                Ok((fleet, member))
            }
            (Some(_), Some(_)) => Err(Status::failed_precondition(format!(
                "several members are called {wanted:?}: say its identity, which `weir nodes --json` \
                 shows"
            ))),
            (None, _) => Err(Status::not_found(format!(
                "no member is called {wanted:?}; `weir status` lists them"
            ))),
        }
    }
}

fn not_leading<T>(elsewhere: Option<Leader>) -> Answer<T> {
    match elsewhere {
        Some(leader) => Answer::Elsewhere(leader),
        None => Answer::Leaderless,
    }
}

async fn gone(
    members: watch::Receiver<Vec<MemberRecord>>,
    member: &MemberRecord,
    hint: &str,
) -> Answer<v1::RemoveReply> {
    let node = member.node;
    let is_gone = |members: &Vec<MemberRecord>| members.iter().all(|other| other.node != node);
    if within(members, is_gone).await {
        return Answer::Here(v1::RemoveReply {
            node: Some(named(member)),
        });
    }
    let name = &member.name;
    Answer::Refused(Status::failed_precondition(format!(
        "{name} is still a member: {hint}"
    )))
}

/// Whether the roster gets there in time.
async fn within(
    mut members: watch::Receiver<Vec<MemberRecord>>,
    is_done: impl FnMut(&Vec<MemberRecord>) -> bool,
) -> bool {
    let reached = timeout(DONE_WITHIN, members.wait_for(is_done)).await;
    matches!(reached, Ok(Ok(_)))
}

fn named(member: &MemberRecord) -> v1::Node {
    v1::Node::new(member.node, member.name.clone(), "")
}

fn refusal(error: &RosterError) -> Status {
    let message = error.to_string();
    match error {
        RosterError::NoSuchMember(_) => Status::not_found(message),
        RosterError::Lock(_) | RosterError::Busy(_) | RosterError::Unknown(_) => {
            Status::unavailable(message)
        }
    }
}
