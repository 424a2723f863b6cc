//! One `[[limit]]`: what it says, key by key.

use std::{borrow::ToOwned, format, string::String};

use super::{
    document::{Table, Value},
    matching::{self, MatchText},
    problem::Complaint,
    quantity::{self, Fraction, Rate, plural},
};
use crate::policy::{Cost, Key, Limit, Mode, OnExpiry, Promise};

/// Longest name.
const NAME_BYTES: usize = 63;

/// A key's meaning and its place.
pub(super) struct Placed<'d, T> {
    pub(super) meaning: T,
    pub(super) value: Value<'d>,
}

/// What a `[[limit]]` says.
pub(super) struct LimitText<'d> {
    pub(super) name: Placed<'d, String>,
    pub(super) matching: MatchText<'d>,
    pub(super) per: Option<Placed<'d, Key>>,
    pub(super) rate: Placed<'d, Rate>,
    pub(super) burst_tokens: Option<Placed<'d, u64>>,
    pub(super) overhead_bytes: u32,
    pub(super) quic: bool,
    pub(super) promise: Option<Placed<'d, Promise>>,
    pub(super) excess: Option<Placed<'d, Fraction>>,
    pub(super) floor: Option<Placed<'d, Fraction>>,
    pub(super) on_expiry: Option<Placed<'d, OnExpiry>>,
    pub(super) mode: Mode,
}

/// Reads a `[[limit]]`; `None` if what it says is not enough to go on.
pub(super) fn read(mut table: Table<'_>) -> Option<LimitText<'_>> {
    let name = table
        .required("name", "\"my-limit\"")
        .and_then(|value| parsed(value, name));
    let matching = matching::read(&mut table);
    let per = unless_wrong(table.optional("per"), |value| placed(value, key));
    let rate = table
        .required("rate", "\"100k packets/s\"")
        .and_then(|value| parsed(value, quantity::rate));
    let burst = unless_wrong(table.optional("burst"), |value| {
        parsed(value, quantity::size)
    });
    let overhead = unless_wrong(table.optional("overhead"), |value| {
        placed(value, |value| {
            let bytes = value.integer(0..=u64::from(Limit::MOST_OVERHEAD_BYTES))?;
            u32::try_from(bytes).ok()
        })
    });
    let quic = unless_wrong(table.optional("quic"), |value| {
        placed(value, Value::boolean)
    });
    let promise = unless_wrong(table.optional("promise"), |value| {
        placed(value, |value| {
            value.one_of(&[
                ("strict", Promise::Strict),
                ("local", Promise::Local),
                ("elastic", Promise::Elastic),
            ])
        })
    });
    let excess = unless_wrong(table.optional("excess"), |value| {
        parsed(value, quantity::percentage)
    });
    let floor = unless_wrong(table.optional("floor"), |value| {
        parsed(value, quantity::percentage)
    });
    let on_expiry = unless_wrong(table.optional("on_expiry"), |value| {
        placed(value, |value| {
            value.one_of(&[
                ("floor", OnExpiry::Floor),
                ("closed", OnExpiry::Closed),
                ("open", OnExpiry::Open),
            ])
        })
    });
    let mode = table.optional("mode").map_or(Some(Mode::Enforce), |value| {
        value.one_of(&[("enforce", Mode::Enforce), ("shadow", Mode::Shadow)])
    });
    table.misplaced(&[("max_members", "[fleet]"), ("unparsed", "[fleet]")]);
    table.finish();

    if let Some(quic) = &quic {
        matching::check(&matching, rate.as_ref(), quic.as_ref());
    }
    let rate = rate?;
    let burst_tokens = match burst? {
        Some(burst) => Some(burst_tokens(burst, &rate)?),
        None => None,
    };
    let overhead = overhead?;
    if let Some(overhead) = &overhead {
        check_overhead(overhead, &rate);
    }
    Some(LimitText {
        name: name?,
        matching,
        per: per?,
        rate,
        burst_tokens,
        overhead_bytes: overhead.map_or(0, |overhead| overhead.meaning),
        quic: quic?.is_some_and(|quic| quic.meaning),
        promise: promise?,
        excess: excess?,
        floor: floor?,
        on_expiry: on_expiry?,
        mode: mode?,
    })
}

fn placed<'d, T>(
    value: Value<'d>,
    read: impl FnOnce(&Value<'d>) -> Option<T>,
) -> Option<Placed<'d, T>> {
    let meaning = read(&value)?;
    Some(Placed { meaning, value })
}

fn parsed<'d, T>(
    value: Value<'d>,
    read: impl FnOnce(&'d str) -> Result<T, Complaint>,
) -> Option<Placed<'d, T>> {
    placed(value, |value| value.parsed(read))
}

/// An absent key is `Some(None)`; one that is there and wrong is `None`, as a default in its place
/// would bring on complaints about what nobody wrote.
fn unless_wrong<'d, T>(
    value: Option<Value<'d>>,
    read: impl FnOnce(Value<'d>) -> Option<Placed<'d, T>>,
) -> Option<Option<Placed<'d, T>>> {
    match value {
        Some(value) => read(value).map(Some),
        None => Some(None),
    }
}

fn name(text: &str) -> Result<String, Complaint> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    let complaint = Complaint::new(format!(
        "\"{}\" is not a name: 1 to {NAME_BYTES} of a-z, 0-9 and -",
        text.escape_debug()
    ));
    let meant: String = text
        .to_lowercase()
        .chars()
        .map(|letter| {
            if matches!(letter, '_' | ' ' | '.') {
                '-'
            } else {
                letter
            }
        })
        .collect();
    let usable = (1..=NAME_BYTES).contains(&meant.len()) && meant.bytes().all(allowed);
    Err(if usable {
        complaint.suggest(format!("write \"{meant}\""))
    } else {
        complaint
    })
}

/// `{ source_v4 = 32, source_v6 = 64 }`; what is left out has its default.
fn key(value: &Value<'_>) -> Option<Key> {
    let mut table = value.table()?;
    let default = Key::default();
    let mut length = |key, default: u8, most| match table.optional(key) {
        Some(value) => u8::try_from(value.integer(1..=most)?).ok(),
        None => Some(default),
    };
    let source_v4 = length("source_v4", default.source_v4, 32);
    let source_v6 = length("source_v6", default.source_v6, 128);
    table.finish();
    Some(Key {
        source_v4: source_v4?,
        source_v6: source_v6?,
    })
}

/// Only bits depend on how long a frame is.
fn check_overhead(overhead: &Placed<'_, u32>, rate: &Placed<'_, Rate>) {
    let cost = rate.meaning.cost;
    if cost != Cost::Bits {
        overhead.value.key_error(
            Complaint::new(format!(
                "`overhead` with a rate of {}, which cost the same whatever their length",
                plural(cost)
            ))
            .suggest("remove it, or give the rate in bit or byte"),
        );
    }
}

/// The tokens of a burst, which has to count what the rate counts.
fn burst_tokens<'d>(
    burst: Placed<'d, quantity::Size>,
    rate: &Placed<'_, Rate>,
) -> Option<Placed<'d, u64>> {
    let Placed { meaning, value } = burst;
    let cost = rate.meaning.cost;
    if meaning.cost != cost {
        let [counted, rated] = [meaning.cost, cost].map(plural);
        value.error(
            Complaint::new(format!("the burst counts {counted}, the rate {rated}"))
                .suggest(format!("give the burst in {rated}")),
        );
        return None;
    }
    Some(Placed {
        meaning: meaning.tokens,
        value,
    })
}
