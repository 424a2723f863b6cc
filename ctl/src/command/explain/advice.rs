//! What would have to change for a source to pass.

use crate::{
    number::{about, short},
    view::ExplainedLimit,
};

/// A line for each limit that drops it.
pub(super) fn of(limits: &[ExplainedLimit]) -> Vec<String> {
    let dropping = limits.iter().filter(|limit| {
        limit.mode == "enforce" && limit.dropped.is_some_and(|dropped| dropped > 0.0)
    });
    dropping.map(line).collect()
}

fn line(limit: &ExplainedLimit) -> String {
    let ExplainedLimit {
        name,
        unit,
        rate,
        offered_by_all,
        ..
    } = limit;
    let [offered, error] = [limit.offered, limit.error].map(Option::unwrap_or_default);
    let sends = about(offered - error, offered);
    match (limit.expired, limit.per) {
        (Some("closed"), _) => format!(
            "{name} admits nothing here since its lease has run out: `weir status` says who leads, \
             and whether this node is heard"
        ),
        (Some(_), None) => format!(
            "{name} is on its floor here, {} {unit}/s, since its lease has run out: `weir status` \
             says who leads, and whether this node is heard",
            short(*rate)
        ),
        (_, Some(_)) => format!(
            "{name} lets {} send {} {unit}/s here, and it sends {sends}: it has to send less, or \
             `rate` has to be more than {}",
            limit.source,
            short(*rate),
            short(offered)
        ),
        (None, None) => format!(
            "{name} admits {} {unit}/s here of {} in the fleet, and all sources together send {}: \
             they have to send less, or `rate` has to be about {}",
            short(*rate),
            short(limit.budget),
            short(*offered_by_all),
            short(limit.budget + (offered_by_all - rate).max(0.0))
        ),
    }
}
