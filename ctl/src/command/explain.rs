//! `weir explain`.

mod advice;

use std::{fmt::Write as _, process::ExitCode};

use weir_proto::admin::v1;

use super::{ask, print_json};
use crate::{
    cli::{self, Cli},
    client::{Client, ClientError},
    number::{about, for_each, short, span},
    table::{Align, Cell, Table, Tone, output_has_colour},
    view::{Dropped, Explained, ExplainedLimit, Node, PastMinute},
};

/// Prints what a node knows of a source.
pub(super) fn run(cli: &Cli, arguments: &cli::Explain) -> anyhow::Result<ExitCode> {
    let address = arguments.source.to_string();
    let (explained, elsewhere) = ask(cli, async |mut client| {
        let reply = client.explain(v1::ExplainRequest { address }).await;
        let reply = reply.map_err(ClientError::from)?.into_inner();
        let explained = Explained::from(reply);
        let is_known = cli.json || explained.limits.is_empty() || is_seen(&explained);
        let elsewhere = match is_known {
            true => Vec::new(),
            false => members(client).await,
        };
        Ok((explained, elsewhere))
    })?;
    if cli.json {
        print_json(&explained)?;
    } else {
        print!("{}", page(&explained, output_has_colour()));
        print!("{}", others(&explained, &elsewhere, cli));
    }
    Ok(ExitCode::SUCCESS)
}

/// The members that live, of which this node knows; an answer without them is good too.
async fn members(mut client: Client) -> Vec<Node> {
    let status = client.status(v1::StatusRequest {}).await;
    let members = status.map(|status| status.into_inner().members);
    let live = members.unwrap_or_default().into_iter();
    let live = live.filter(|member| member.live);
    live.map(|member| Node::of(member.node)).collect()
}

/// What to type next: other hosts may see what this one does not.
fn others(explained: &Explained, members: &[Node], cli: &Cli) -> String {
    let scheme = match cli.certificates.are_named() {
        true => "https",
        false => "http",
    };
    let others = members.iter();
    let others = others.filter(|member| member.node != explained.node.node);
    let others: Vec<&Node> = others.filter(|member| !member.address.is_empty()).collect();
    if others.is_empty() {
        return String::new();
    }
    let commands = others.iter().take(OTHERS_TOLD).map(|member| {
        let Node { name, address, .. } = member;
        let source = &explained.address;
        format!("  weir --address {scheme}://{address} explain {source}    # {name}\n")
    });
    let more = match others.len().saturating_sub(OTHERS_TOLD) {
        0 => String::new(),
        more => format!("  and {more} more: `weir nodes`\n"),
    };
    let commands: String = commands.collect();
    format!("\nother hosts may see it:\n{commands}{more}")
}

/// Other hosts that are named.
const OTHERS_TOLD: usize = 8;

/// Whether anything of it was sampled here.
fn is_seen(explained: &Explained) -> bool {
    !explained.drops.is_empty() || explained.limits.iter().any(has_offered)
}

fn has_offered(limit: &ExplainedLimit) -> bool {
    limit.offered.unwrap_or(0.0) > limit.error.unwrap_or(0.0)
}

fn page(explained: &Explained, has_colour: bool) -> String {
    let mut page = String::new();
    for line in verdict(explained) {
        let _ = writeln!(page, "{line}");
    }
    if !explained.limits.is_empty() {
        let _ = write!(page, "\n{}", limits(&explained.limits, has_colour));
    }
    let exempt: Vec<_> = explained
        .limits
        .iter()
        .filter_map(|limit| Some((&limit.name, limit.exempt.as_ref()?)))
        .collect();
    if !exempt.is_empty() {
        page += "\n";
    }
    for (name, why) in exempt {
        let _ = writeln!(page, "{name} never applies to it: {why}");
    }
    if !explained.drops.is_empty() {
        let _ = write!(page, "\n{}", drops(&explained.drops, has_colour));
    }
    let dropping = explained.limits.iter().filter(|limit| has_dropped(limit));
    for limit in dropping.take(PASTS_TOLD) {
        let _ = write!(
            page,
            "\nthe last minutes of {} on {}, all sources together:\n{}",
            limit.name,
            explained.node.name,
            past(limit, has_colour)
        );
    }
    let advice = advice::of(&explained.limits);
    if !advice.is_empty() {
        page += "\nfor it to pass:\n";
    }
    for line in advice {
        let _ = writeln!(page, "  {line}");
    }
    page
}

/// Limits of which the last minutes are told.
const PASTS_TOLD: usize = 3;

fn has_dropped(limit: &ExplainedLimit) -> bool {
    let of_source = limit.dropped.is_some_and(|dropped| dropped > 0.0);
    of_source || limit.past.iter().any(|minute| !minute.dropped.is_empty())
}

fn past(limit: &ExplainedLimit, has_colour: bool) -> Table {
    let columns = [
        ("MINUTE", Align::Left),
        ("SHARE", Align::Right),
        ("OFFERED", Align::Right),
        ("ADMITTED", Align::Right),
        ("DROPPED PACKETS", Align::Left),
    ];
    let mut table = Table::new(&columns, has_colour);
    let is_keyed = limit.per.is_some();
    for minute in &limit.past {
        table.row([
            match minute.minutes_ago {
                0 => "now".into(),
                ago => format!("{ago} min ago").into(),
            },
            share(minute, is_keyed).into(),
            short(minute.offered).into(),
            short(minute.admitted).into(),
            reasons(minute).into(),
        ]);
    }
    table
}

fn share(minute: &PastMinute, is_keyed: bool) -> String {
    let [least, most] = [minute.share_least, minute.share_most].map(short);
    match (least == most, is_keyed) {
        (true, true) => format!("{most}/key"),
        (true, false) => most,
        (false, _) => format!("{least}..{most}"),
    }
}

fn reasons(minute: &PastMinute) -> String {
    let dropped = minute.dropped.iter();
    let dropped = dropped.map(|(reason, packets)| format!("{} {reason}", short(*packets as f64)));
    dropped.collect::<Vec<_>>().join(", ")
}

/// First what is happening, then how that is known.
fn verdict(explained: &Explained) -> Vec<String> {
    let Explained { address, node, .. } = explained;
    let node = &node.name;
    if explained.limits.is_empty() {
        return vec![format!("{address}: {node} enforces no limits")];
    }
    let culprits: Vec<String> = explained
        .limits
        .iter()
        .filter(|limit| limit.dropped.is_some_and(|dropped| dropped > 0.0))
        .map(culprit)
        .collect();
    let first = if !culprits.is_empty() {
        format!(
            "{address} is being dropped at {node}: {}",
            culprits.join(", ")
        )
    } else if !explained.drops.is_empty() {
        format!("{address} was dropped at {node} before; not in the last seconds")
    } else if explained.limits.iter().any(has_offered) {
        format!("{address} passes at {node}: no drop of it was sampled")
    } else {
        format!("{address}: {node} sampled nothing of it that a limit applies to")
    };
    let sampled = match explained.sampled_one_in {
        0 => String::from("no packets are looked at"),
        1 => String::from("every packet is looked at"),
        one_in => format!("about 1 packet in {one_in} is looked at"),
    };
    let second = format!(
        "policy version {}, term {}; {sampled}; drops are remembered for {}",
        explained.policy_version,
        explained.term,
        span(explained.drops_since_ms)
    );
    let managed = explained.management.iter();
    let managed = managed.map(|entry| {
        format!("{entry} pass {node} before any limit, as `management` of its node file says")
    });
    [first, second].into_iter().chain(managed).collect()
}

fn culprit(limit: &ExplainedLimit) -> String {
    let [offered, dropped, error] =
        [limit.offered, limit.dropped, limit.error].map(Option::unwrap_or_default);
    format!(
        "{} drops {} of {} {}/s",
        limit.name,
        about(dropped, (dropped + error).min(offered)),
        about(offered - error, offered),
        limit.unit
    )
}

fn limits(limits: &[ExplainedLimit], has_colour: bool) -> Table {
    let columns = [
        ("LIMIT", Align::Left),
        ("MODE", Align::Left),
        ("COUNTED AS", Align::Left),
        ("MAY SEND", Align::Right),
        ("BURST", Align::Right),
        ("UNSPENT", Align::Right),
        ("LEASE LEFT", Align::Right),
        ("OFFERED", Align::Right),
        ("DROPPED", Align::Right),
        ("UNIT", Align::Left),
    ];
    let mut table = Table::new(&columns, has_colour);
    for limit in limits.iter().filter(|limit| limit.applies) {
        let is_keyed = limit.per.is_some();
        table.row([
            limit.name.clone().into(),
            limit.mode.into(),
            if limit.hot {
                format!("{} (hot)", limit.source).into()
            } else if is_keyed {
                limit.source.clone().into()
            } else {
                Cell::new("all together", Tone::Quiet)
            },
            for_each(limit.rate, is_keyed).into(),
            for_each(limit.burst, is_keyed).into(),
            limit
                .unspent
                .map_or_else(none, |unspent| short(unspent).into()),
            lease(limit),
            traffic(limit, |offered, _, error| (offered - error, offered)),
            traffic(limit, |offered, dropped, error| {
                (dropped, (dropped + error).min(offered))
            }),
            format!("{}/s", limit.unit).into(),
        ]);
    }
    table
}

fn none() -> Cell {
    Cell::new("-", Tone::Quiet)
}

fn lease(limit: &ExplainedLimit) -> Cell {
    match (limit.expired, limit.lease_left_ms) {
        (Some("open"), _) => Cell::new("over: OPEN", Tone::Bad),
        (Some(expired), _) => Cell::new(format!("over: {expired}"), Tone::Bad),
        (None, Some(left)) => span(left).into(),
        (None, None) => none(),
    }
}

fn traffic(limit: &ExplainedLimit, of: impl Fn(f64, f64, f64) -> (f64, f64)) -> Cell {
    match (limit.offered, limit.dropped, limit.error) {
        (Some(offered), Some(dropped), Some(error)) => {
            let (least, most) = of(offered, dropped, error);
            about(least, most).into()
        }
        _ => Cell::new("not followed", Tone::Quiet),
    }
}

fn drops(drops: &[Dropped], has_colour: bool) -> Table {
    let columns = [
        ("DROPPED", Align::Left),
        ("BY", Align::Left),
        ("REASON", Align::Left),
        ("OVER BY", Align::Right),
        ("PASSES IN", Align::Right),
        ("FROM", Align::Left),
        ("TO", Align::Left),
    ];
    let mut table = Table::new(&columns, has_colour);
    for dropped in drops {
        table.row([
            format!("{} ago", span(dropped.ago_ms)).into(),
            match dropped.limit.as_str() {
                "" => Cell::new("(no longer in force)", Tone::Quiet),
                name => name.into(),
            },
            dropped.reason.as_str().into(),
            if dropped.over > 0.0 {
                format!("{} {}", short(dropped.over), dropped.unit).into()
            } else {
                none()
            },
            dropped
                .passes_in_ms
                .map_or_else(none, |ms| format!("{} ms", short(ms)).into()),
            dropped.source.as_str().into(),
            destination(dropped).into(),
        ]);
    }
    table
}

fn destination(dropped: &Dropped) -> String {
    let Dropped {
        destination, port, ..
    } = dropped;
    let is_v6 = destination.contains(':');
    match (dropped.protocol, is_v6) {
        (6, false) => format!("{destination}:{port} tcp"),
        (6, true) => format!("[{destination}]:{port} tcp"),
        (17, false) => format!("{destination}:{port} udp"),
        (17, true) => format!("[{destination}]:{port} udp"),
        (1 | 58, _) => format!("{destination} icmp"),
        (protocol, _) => format!("{destination} protocol {protocol}"),
    }
}
