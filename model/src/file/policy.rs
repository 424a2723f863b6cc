//! The whole file: the settings of the fleet, the limits, and what they must be together.

use std::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::ToString,
    vec::Vec,
};

use super::{
    LANGUAGE_VERSION, MAX_DESTINATION_PREFIXES, MAX_SOURCE_LISTS,
    compile::{self, Amounts, Terms},
    conflict,
    document::{Table, Value},
    objection::Place,
    overlap,
    problem::Complaint,
    syntax::{self, LimitText},
};
use crate::{
    identity::LimitId,
    policy::{FleetSettings, Limit, MAX_LIMITS, MEMBERS, Policy, Promise, Unparsed},
    prefix::Prefix,
};

/// Reads a limits file's root; `None` if something that is wrong leaves no policy.
pub(super) fn read(mut root: Table<'_>) -> Option<Policy> {
    if let Some(version) = root.required("version", &LANGUAGE_VERSION.to_string()) {
        let _checked = version.integer(LANGUAGE_VERSION..=LANGUAGE_VERSION);
    }
    let fleet = root
        .table("fleet")
        .map_or_else(|| Some(FleetSettings::default()), fleet_settings);
    let tables = root.tables("limit");
    if tables.as_ref().is_some_and(Vec::is_empty) && root.is_whole() {
        root.warning(Complaint::new(
            "the file has no [[limit]]: it would lift every limit",
        ));
    }
    root.misplaced(&[("max_members", "[fleet]"), ("unparsed", "[fleet]")]);
    root.finish();
    let tables = tables?;
    if tables.len() > MAX_LIMITS {
        tables[MAX_LIMITS].error(Complaint::new(format!(
            "the file has {} limits, expected at most {MAX_LIMITS}",
            tables.len()
        )));
        return None;
    }
    let expected = tables.len();
    let texts: Vec<LimitText<'_>> = tables.into_iter().filter_map(syntax::read).collect();
    check_totals(&texts)?;
    check_names(&texts);
    overlap::check(&texts);
    // Floors depend on max_members; without it, complaints about them would be guesses.
    let fleet = fleet?;
    let places: Vec<conflict::Place<'_>> = texts.iter().map(conflict::Place::of).collect();
    let limits: Vec<Limit> = texts
        .into_iter()
        .filter_map(|text| limit(text, fleet.max_members))
        .collect();
    (limits.len() == expected).then(|| {
        conflict::check(&limits, &places);
        Policy {
            fleet,
            limits: limits.into(),
        }
    })
}

fn fleet_settings(mut table: Table<'_>) -> Option<FleetSettings> {
    let default = FleetSettings::default();
    let bounds = u64::from(*MEMBERS.start())..=u64::from(*MEMBERS.end());
    let max_members = match table.optional("max_members") {
        Some(value) => value.integer(bounds),
        None => Some(u64::from(default.max_members)),
    };
    let unparsed = match table.optional("unparsed") {
        Some(value) => value.one_of(&[("drop", Unparsed::Drop), ("pass", Unparsed::Pass)]),
        None => Some(default.unparsed),
    };
    table.finish();
    Some(FleetSettings {
        max_members: u32::try_from(max_members?).ok()?,
        unparsed: unparsed?,
    })
}

/// What all limits together need fits; otherwise the limit that is one too many says so, and the
/// rest of the file is not looked at, to bound the work.
fn check_totals(texts: &[LimitText<'_>]) -> Option<()> {
    let mut destinations: BTreeSet<Prefix> = BTreeSet::new();
    let mut source_lists: BTreeSet<&[Prefix]> = BTreeSet::new();
    for text in texts {
        let matches = &text.matching.matches;
        destinations.extend(&matches.to);
        if !matches.from.is_empty() {
            source_lists.insert(&matches.from);
        }
        for (what, found, most) in [
            (
                "different `to` prefixes",
                destinations.len(),
                MAX_DESTINATION_PREFIXES,
            ),
            (
                "different `from` lists",
                source_lists.len(),
                MAX_SOURCE_LISTS,
            ),
        ] {
            if found > most {
                text.name.value.error(
                    Complaint::new(format!(
                        "up to this limit the file has {found} {what}, expected at most {most}"
                    ))
                    .suggest("use wider prefixes"),
                );
                return None;
            }
        }
    }
    Some(())
}

/// Names, and the identities made from them, are unique, and none is a hot key's.
fn check_names(texts: &[LimitText<'_>]) {
    let mut first: BTreeMap<LimitId, &LimitText<'_>> = BTreeMap::new();
    for text in texts {
        let name = &text.name.meaning;
        if LimitId::of(name).is_key() {
            text.name.value.error(
                Complaint::new(format!(
                    "the hash of \"{name}\" is one of those that are kept for single keys"
                ))
                .suggest("choose another name; one in 65,536 is like this"),
            );
        }
        let Some(other) = first.insert(LimitId::of(name), text) else {
            continue;
        };
        let complaint = if other.name.meaning == *name {
            Complaint::new(format!(
                "the name \"{name}\" is already used on line {}",
                other.name.value.line()
            ))
            .suggest("every limit needs a name of its own")
        } else {
            // One pair in 2^64; a bucket must never be shared by accident.
            Complaint::new(format!(
                "the names \"{name}\" and \"{}\" have the same hash",
                other.name.meaning
            ))
            .suggest("rename one")
        };
        text.name.value.error(complaint);
    }
}

/// The limit that a text means; what stands in its way, and what is doubtful, is noted.
fn limit(text: LimitText<'_>, max_members: u32) -> Option<Limit> {
    let terms = terms(&text, max_members);
    match compile::compile(&terms) {
        Ok((amounts, doubts)) => {
            for doubt in doubts {
                let complaint = Complaint {
                    message: doubt.to_string(),
                    suggestion: doubt.suggestion(),
                };
                place(&text, doubt.place()).remark(doubt.severity(), complaint);
            }
            Some(assembled(text, &terms, amounts))
        }
        Err(objections) => {
            for objection in objections {
                place(&text, objection.place())
                    .error(Complaint::new(objection.to_string()).suggest(objection.suggestion()));
            }
            None
        }
    }
}

fn terms(text: &LimitText<'_>, max_members: u32) -> Terms {
    let default_promise = match text.per {
        Some(_) => Promise::Elastic,
        None => Promise::Strict,
    };
    Terms {
        rate: text.rate.meaning,
        burst_tokens: text.burst_tokens.as_ref().map(|burst| burst.meaning),
        floor: text.floor.as_ref().map(|floor| floor.meaning),
        promise: text
            .promise
            .as_ref()
            .map_or(default_promise, |promise| promise.meaning),
        excess: text.excess.as_ref().map(|excess| excess.meaning),
        per: text.per.as_ref().map(|per| per.meaning),
        on_expiry: text.on_expiry.as_ref().map(|on_expiry| on_expiry.meaning),
        overhead_bytes: text.overhead_bytes,
        quic: text.quic,
        max_members,
    }
}

fn assembled(text: LimitText<'_>, terms: &Terms, amounts: Amounts) -> Limit {
    let name = text.name.meaning;
    Limit {
        id: LimitId::of(&name),
        name,
        revision: amounts.revision,
        matches: text.matching.matches,
        per: terms.per,
        cost: terms.rate.cost,
        overhead_bytes: terms.overhead_bytes,
        quic: terms.quic,
        scale: amounts.scale,
        budget: amounts.budget,
        floor: amounts.floor,
        smallest_burst: amounts.smallest_burst,
        is_divisible: amounts.is_divisible,
        promise: terms.promise,
        excess: amounts.excess,
        on_expiry: amounts.on_expiry,
        mode: text.mode,
    }
}

/// The value that a key has, or what it is derived from if it is absent.
fn place<'t, 'd>(text: &'t LimitText<'d>, place: Place) -> &'t Value<'d> {
    let rate = &text.rate.value;
    let per = text.per.as_ref().map(|per| &per.value);
    let written = match place {
        Place::Rate => None,
        Place::Burst => text.burst_tokens.as_ref().map(|burst| &burst.value),
        Place::Floor => text.floor.as_ref().map(|floor| &floor.value),
        Place::Per => per,
        Place::Promise => text.promise.as_ref().map(|promise| &promise.value).or(per),
        Place::Excess => text.excess.as_ref().map(|excess| &excess.value),
        Place::OnExpiry => text.on_expiry.as_ref().map(|on_expiry| &on_expiry.value),
    };
    written.unwrap_or(rate)
}
