//! A violation, step by step, for people.

use std::fmt::Write as _;

use weir_model::message::{FromNode, Position, Row, ToNode};

use crate::{
    action::Action,
    explore::Violation,
    invariant,
    lead::Write,
    scope::{Scope, tokens},
    start::{SETTLING, settled},
    store::{Outcome, Store, Wire},
    world::World,
};

/// The steps to a violation, one a line, and the violation last. Leaders are letters in the order
/// of their terms, hosts are numbers; amounts are rate/burst in tokens.
#[must_use]
pub fn readable(store: &mut Store, violation: &Violation) -> String {
    let mut world = settled(store);
    let mut text = String::from("     a settled fleet: ");
    text.push_str(&kernels(store, &world));
    text.push('\n');
    for (number, action) in violation.actions.iter().enumerate() {
        let said = describe(store, &world, *action);
        let Some((next, broken)) = world.after(*action, store) else {
            let _ = writeln!(text, "{:>4} cannot happen: {said}", number + 1);
            continue;
        };
        let changed = if kernels(store, &world) == kernels(store, &next) {
            String::new()
        } else {
            format!(" → {}", kernels(store, &next))
        };
        let _ = writeln!(text, "{:>4} {said}{changed}", number + 1);
        world = next;
        if let Some(broken) = broken.or_else(|| invariant::of_a_state(store, &world)) {
            let _ = writeln!(text, "   ✗ {broken}");
        }
    }
    text
}

fn letter(lead: u8) -> char {
    char::from(b'A' + lead)
}

fn kernels(store: &Store, world: &World) -> String {
    let scope: &Scope = &store.scope;
    let hosts = world.hosts(scope).map(|part| {
        let host = store.hosts.at(part);
        let held = host.effective(world.step);
        let left = if host.is_leased(world.step) { "*" } else { "" };
        format!("{}:{}{left}", host.index, tokens(held))
    });
    format!("[{}]", hosts.collect::<Vec<_>>().join(" "))
}

fn describe(store: &Store, world: &World, action: Action) -> String {
    match action {
        Action::Time => {
            let step = world.step + 1 - SETTLING;
            format!("a third of a lease passes: it is step {step}")
        }
        Action::TakeOver(choice) => {
            let voters = store.scope.voters[usize::from(choice)];
            let lead = letter(world.leaders);
            format!("{lead} takes over, with the voters {voters:?}")
        }
        Action::Deliver(wire) => message(store.wires.at(wire)),
        Action::Unanswered(wire) => {
            format!("{}, and its answer is lost", message(store.wires.at(wire)))
        }
        Action::Duplicate(wire) => format!("{} (and will again)", message(store.wires.at(wire))),
        Action::GoOn(host) => format!("host {host} installs what it had decided"),
        Action::Report(host, lead) => format!("host {host} reports to {}", letter(lead)),
        Action::Tick(lead) => format!("a tick of {}", letter(lead)),
        Action::Write(wire, outcome) => {
            let what = message(store.wires.at(wire));
            let outcome = match outcome {
                Outcome::Applied => "",
                Outcome::AppliedUnknown => ", which it does not get to know",
                Outcome::LostUnknown => ": it is lost, which it does not get to know",
                Outcome::LateUnknown => ": it is late, and given up",
            };
            format!("{what}{outcome}")
        }
        Action::Restart(host) => format!("the daemon of host {host} crashes and starts"),
        Action::Reboot(host) => format!("host {host} loses power and starts"),
        Action::NewSession(host) => format!("host {host} has a new session"),
        Action::ReadTerm(host) => format!("host {host} reads `term`"),
        Action::ReadRoster(lead) => format!("{} reads the roster", letter(lead)),
        Action::Publish => "the operator publishes the next policy".to_owned(),
        Action::PrepareHost(host) => format!("host {host} has the newest policy ready"),
        Action::PrepareLead(lead) => format!("{} hears of the newest policy", letter(lead)),
        Action::HostReadsPolicy(host) => format!("host {host} reads which policy is in force"),
        Action::LeadReadsPolicy(lead) => {
            format!("{} reads which policy is in force", letter(lead))
        }
        Action::Remove(lead, host) => {
            format!("the operator asks {} to remove host {host}", letter(lead))
        }
        Action::SwitchOff(host) => format!("host {host} is switched off for good"),
        Action::Hunger(host) => format!("traffic moves to host {host}"),
    }
}

fn at(position: Position) -> String {
    format!("{}.{}", position.term, position.generation)
}

fn message(wire: &Wire) -> String {
    match wire {
        Wire::Down(lead, host, message) => {
            let what = match message {
                ToNode::Propose(propose) => {
                    let rows = propose.rows.iter().map(row).collect::<Vec<_>>().join(", ");
                    format!("Propose {} {rows}", at(propose.position))
                }
                ToNode::Commit(commit) => format!("Commit {}", at(commit.position)),
                ToNode::Prepare(prepare) => format!("Prepare {}", prepare.term),
            };
            format!("host {host} hears {}: {what}", letter(*lead))
        }
        Wire::Up(host, lead, message) => {
            let what = match message {
                FromNode::Report(report) => {
                    format!("Report at {}", report.token.at)
                }
                FromNode::Ack(ack) => {
                    let holds = if ack.holds { " holds" } else { "" };
                    let votes = if ack.votes { " votes" } else { "" };
                    format!("Ack {}{holds}{votes}", at(ack.position))
                }
                FromNode::Refuse(refuse) => format!("Refuse, promised {}", refuse.promised),
                FromNode::Promise(promise) => {
                    let abstains = if promise.abstains { ", abstains" } else { "" };
                    let register = promise.register.as_ref().map_or_else(
                        || "nothing".to_owned(),
                        |record| format!("{}.{}", record.term, record.generation),
                    );
                    format!(
                        "Promise {} with the register {register}{abstains}",
                        promise.term
                    )
                }
            };
            format!("{} hears host {host}: {what}", letter(*lead))
        }
        Wire::Write { lead, write, .. } => {
            let what = match write {
                Write::Admit(record) => {
                    let host = crate::scope::index_of(record.node);
                    let floor = record.floors.first().map_or(0, |floor| floor.amount.rate.0);
                    format!("host {host} in the roster, with a floor of {floor}")
                }
                Write::Remove(node) => {
                    format!("host {} is no member", crate::scope::index_of(*node))
                }
                Write::Activate(version) => format!("policy {version} is in force"),
                Write::DropFormer => "no former voters any more".to_owned(),
            };
            format!("{} writes: {what}", letter(*lead))
        }
    }
}

fn row(row: &Row) -> String {
    format!(
        "{}/{} (floor {}/{})",
        row.amount.rate.0, row.amount.burst.0, row.floor.rate.0, row.floor.burst.0
    )
}
