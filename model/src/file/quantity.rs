//! Numbers with units: rates, sizes, durations, percentages. Exact, no floating point.
//!
//! `100k packets/s`, `1.5 Gbit/s`, `2k connections`… A prefix is decimal (k = 1,000) and stands with the
//! number or with the unit. A byte is eight bits.

use core::time::Duration;
use std::{format, string::String};

use super::problem::Complaint;
use crate::policy::Cost;

/// `tokens` in each `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What is counted.
    pub cost: Cost,
    /// How many.
    pub tokens: u64,
    /// In how long: a second, a minute or an hour.
    pub period: Duration,
}

/// A number of packets, bits or connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// What is counted.
    pub cost: Cost,
    /// How many.
    pub tokens: u64,
}

/// A part of a whole, `numerator / denominator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// At most `denominator`.
    pub numerator: u64,
    /// Not zero.
    pub denominator: u64,
}

impl Fraction {
    /// This part of `whole`, rounded down.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        let part = u128::from(whole) * u128::from(self.numerator) / u128::from(self.denominator);
        // At most `whole`, as the fraction is at most one.
        u64::try_from(part).unwrap_or(whole)
    }
}

const PERIODS: [(&str, u64); 3] = [("s", 1), ("min", 60), ("h", 3_600)];
const PREFIXES: [(&str, u64); 4] = [
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
];
const DURATIONS: [(&str, u64); 5] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
const RATE_EXAMPLES: &str = "a rate like \"100k packets/s\", \"1 Gbit/s\" or \"30 packets/min\"";
const SIZE_EXAMPLES: &str = "a number like \"20k packets\" or \"10 Mbit\"";
const DURATION_EXAMPLES: &str = "a duration like \"100ms\" or \"2s\"";
/// Most digits behind a decimal point; more than any rate needs, few enough never to overflow.
const MOST_DECIMALS: usize = 9;

/// Reads `100k packets/s`.
///
/// # Errors
///
/// What was expected, and if possible what was probably meant.
pub fn rate(text: &str) -> Result<Rate, Complaint> {
    let complain = || Complaint::new(format!("\"{}\" is not a rate", text.escape_debug()));
    let Some((amount, period)) = text.split_once('/') else {
        return Err(match abbreviation(text) {
            Some(meant) => complain().suggest(format!("did you mean \"{meant}\"?")),
            None => complain().suggest(format!("write {RATE_EXAMPLES}")),
        });
    };
    let period = period.trim();
    let seconds = PERIODS
        .iter()
        .find_map(|(name, seconds)| (*name == period).then_some(*seconds))
        .ok_or_else(|| {
            Complaint::new(format!("\"{}\" is not a period", period.escape_debug()))
                .suggest("a rate is per s, min or h")
        })?;
    let (number, unit) = measure(amount, RATE_EXAMPLES)?;
    let whole = |seconds_of_period: u64| number.times(unit.factor * seconds_of_period / seconds);
    let tokens = whole(seconds).map_err(|fault| match fault {
        Fault::Overflow => too_large(text),
        Fault::Partial => {
            let complaint = Complaint::new(format!(
                "\"{}\" is not a whole number of {} in its period",
                text.escape_debug(),
                plural(unit.cost)
            ));
            let longer = PERIODS.iter().find_map(|(name, period)| {
                let tokens = (*period > seconds).then(|| whole(*period).ok())??;
                Some(format!("write \"{}/{name}\"", counted(tokens, unit.cost)))
            });
            complaint.suggest(longer.unwrap_or_else(|| String::from("use a longer period")))
        }
    })?;
    Ok(Rate {
        cost: unit.cost,
        tokens,
        period: Duration::from_secs(seconds),
    })
}

/// Reads `20k packets`.
///
/// # Errors
///
/// What was expected, and if possible what was probably meant.
pub fn size(text: &str) -> Result<Size, Complaint> {
    if let Some((size, _)) = text.split_once('/') {
        return Err(
            Complaint::new(format!("\"{}\" is a rate", text.escape_debug()))
                .suggest(format!("write \"{}\"", size.trim().escape_debug())),
        );
    }
    let (number, unit) = measure(text, SIZE_EXAMPLES)?;
    let tokens = number.times(unit.factor).map_err(|fault| match fault {
        Fault::Overflow => too_large(text),
        Fault::Partial => Complaint::new(format!(
            "\"{}\" is not a whole number of {}",
            text.escape_debug(),
            plural(unit.cost)
        )),
    })?;
    Ok(Size {
        cost: unit.cost,
        tokens,
    })
}

/// Reads `100ms`: us, ms, s, min or h.
///
/// # Errors
///
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, Complaint> {
    let complain = || {
        Complaint::new(format!("\"{}\" is not a duration", text.escape_debug()))
            .suggest(format!("write {DURATION_EXAMPLES}"))
    };
    let (number, unit) = number(text).ok_or_else(complain)?;
    let nanos = DURATIONS
        .iter()
        .find_map(|(name, nanos)| (*name == unit).then_some(*nanos))
        .ok_or_else(complain)?;
    number
        .times(nanos)
        .map(Duration::from_nanos)
        .map_err(|fault| match fault {
            Fault::Overflow => too_large(text),
            Fault::Partial => complain(),
        })
}

/// Reads `0.5%`, from 0 to 100.
///
/// # Errors
///
/// What was expected.
pub fn percentage(text: &str) -> Result<Fraction, Complaint> {
    number(text)
        .filter(|(_, unit)| *unit == "%")
        .map(|(number, _)| Fraction {
            numerator: number.digits,
            denominator: number.divisor * 100,
        })
        .filter(|fraction| fraction.numerator <= fraction.denominator)
        .ok_or_else(|| {
            Complaint::new(format!(
                "\"{}\" is not a percentage from 0 to 100",
                text.escape_debug()
            ))
            .suggest("write it like \"0.5%\"")
        })
}

/// A decimal: `digits / divisor`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: u64,
    /// A power of ten, at most 10^[`MOST_DECIMALS`].
    divisor: u64,
}

enum Fault {
    Overflow,
    Partial,
}

impl Decimal {
    fn times(self, factor: u64) -> Result<u64, Fault> {
        let product = u128::from(self.digits) * u128::from(factor);
        let divisor = u128::from(self.divisor);
        if !product.is_multiple_of(divisor) {
            return Err(Fault::Partial);
        }
        u64::try_from(product / divisor).map_err(|_| Fault::Overflow)
    }
}

/// The decimal that a text begins with, and the rest.
fn number(text: &str) -> Option<(Decimal, &str)> {
    let text = text.trim();
    let end = text
        .find(|letter: char| !(letter.is_ascii_digit() || letter == '.' || letter == '_'))
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let well_formed = whole.starts_with(|letter: char| letter.is_ascii_digit())
        && !whole.ends_with('_')
        && decimals.len() <= MOST_DECIMALS
        && decimals.bytes().all(|byte| byte.is_ascii_digit())
        && (number.contains('.') != decimals.is_empty());
    if !well_formed {
        return None;
    }
    let digits: String = whole
        .chars()
        .chain(decimals.chars())
        .filter(|letter| *letter != '_')
        .collect();
    let decimal = Decimal {
        digits: digits.parse().ok()?,
        divisor: 10_u64.pow(u32::try_from(decimals.len()).ok()?),
    };
    Some((decimal, rest.trim()))
}

/// What stands behind the number of a rate or size.
#[derive(Clone, Copy)]
struct Unit {
    cost: Cost,
    /// Tokens in one: prefix, and eight for a byte.
    factor: u64,
}

/// What is counted, for people.
pub(super) const fn plural(cost: Cost) -> &'static str {
    match cost {
        Cost::Packets => "packets",
        Cost::Bits => "bits",
        Cost::Connections => "connections",
    }
}

/// Number and unit of `100k packets`.
fn measure(text: &str, examples: &str) -> Result<(Decimal, Unit), Complaint> {
    let (number, unit) = number(text).ok_or_else(|| {
        Complaint::new(format!("\"{}\" has no number", text.trim().escape_debug()))
            .suggest(format!("write {examples}"))
    })?;
    let unknown = || Complaint::new(format!("unknown unit \"{}\"", unit.escape_debug()));
    if PREFIXES.iter().any(|(prefix, _)| *prefix == unit) {
        return Err(
            Complaint::new(format!("\"{}\" has no unit", text.trim().escape_debug()))
                .suggest("add packets, connections, bit or byte"),
        );
    }
    // "k packets" and "kbit" alike; "packets" has no prefix.
    for (prefix, factor) in PREFIXES.iter().rev() {
        let Some(word) = unit.strip_prefix(prefix) else {
            continue;
        };
        let (cost, tokens) = match word.trim_start() {
            "packet" | "packets" => (Cost::Packets, 1),
            "bit" | "bits" => (Cost::Bits, 1),
            "byte" | "bytes" => (Cost::Bits, 8),
            "connection" | "connections" => (Cost::Connections, 1),
            _ => continue,
        };
        let factor = factor * tokens;
        return Ok((number, Unit { cost, factor }));
    }
    let prefix_meant = PREFIXES.iter().find(|(prefix, _)| {
        !prefix.is_empty()
            && unit
                .get(..1)
                .is_some_and(|first| first.eq_ignore_ascii_case(prefix))
    });
    let words = [
        "packets",
        "packet",
        "connections",
        "connection",
        "bits",
        "bit",
        "bytes",
        "byte",
    ];
    let rest = unit.get(1..).unwrap_or_default().trim_start();
    match prefix_meant {
        Some((prefix, _)) if words.contains(&rest) => Err(unknown().suggest(format!(
            "prefixes are k, M and G: did you mean \"{prefix} {rest}\"?"
        ))),
        _ => {
            match super::suggest::closest(unit, words) {
                Some(meant) => Err(unknown().suggest(format!("did you mean \"{meant}\"?"))),
                None => Err(unknown()
                    .suggest("units are packets, connections, bit and byte, with k, M or G")),
            }
        }
    }
}

fn too_large(text: &str) -> Complaint {
    Complaint::new(format!("\"{}\" is too large", text.escape_debug()))
}

/// What `5 Mbps` and the like stand for.
fn abbreviation(text: &str) -> Option<String> {
    let (_, unit) = number(text)?;
    let number = text.trim().strip_suffix(unit)?.trim_end();
    let (prefix, unit) = PREFIXES
        .iter()
        .rev()
        .find_map(|(prefix, _)| Some((*prefix, unit.strip_prefix(prefix)?)))?;
    match unit.trim_start() {
        "pps" => Some(format!("{number}{prefix} packets/s")),
        "cps" => Some(format!("{number}{prefix} connections/s")),
        "bps" => Some(format!("{number} {prefix}bit/s")),
        "Bps" => Some(format!("{number} {prefix}byte/s")),
        _ => None,
    }
}

/// `1 packet`, `2 packets`.
pub(super) fn counted(tokens: u64, cost: Cost) -> String {
    match (tokens, cost) {
        (1, Cost::Packets) => String::from("1 packet"),
        (1, Cost::Bits) => String::from("1 bit"),
        (1, Cost::Connections) => String::from("1 connection"),
        (_, Cost::Packets) => format!("{tokens} packets"),
        (_, Cost::Bits) => format!("{tokens} bits"),
        (_, Cost::Connections) => format!("{tokens} connections"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn rates_are_read() {
        let minute = SECOND * 60;
        for (text, cost, tokens, period) in [
            ("1 packet/s", Cost::Packets, 1, SECOND),
            ("100k packets/s", Cost::Packets, 100_000, SECOND),
            ("100 k packets / s", Cost::Packets, 100_000, SECOND),
            ("1.5M packets/s", Cost::Packets, 1_500_000, SECOND),
            ("1_000 packets/min", Cost::Packets, 1_000, minute),
            ("30 packets/h", Cost::Packets, 30, minute * 60),
            ("400 Gbit/s", Cost::Bits, 400_000_000_000, SECOND),
            ("1Mbit/s", Cost::Bits, 1_000_000, SECOND),
            ("1 kbyte/s", Cost::Bits, 8_000, SECOND),
            ("0.125 byte/s", Cost::Bits, 1, SECOND),
            ("2 bytes/min", Cost::Bits, 16, minute),
            ("1 connection/s", Cost::Connections, 1, SECOND),
            ("2k connections/min", Cost::Connections, 2_000, minute),
        ] {
            let expected = Rate {
                cost,
                tokens,
                period,
            };
            assert_eq!(rate(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, nanos) in [
            ("100ms", 100_000_000),
            ("2s", 2_000_000_000),
            ("1.5 s", 1_500_000_000),
            ("20us", 20_000),
            ("1min", 60_000_000_000),
            ("1h", 3_600_000_000_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in [
            "",
            "2",
            "s",
            "2 seconds",
            "-1s",
            "1.s",
            ".5s",
            "0.0000001us",
            "1ns",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_are_exact() {
        for (text, whole, part) in [
            ("0%", 1_000, 0),
            ("0.5%", 1_000, 5),
            ("100%", u64::MAX, u64::MAX),
            ("33.3 %", 1_000, 333),
            ("0.000000001%", 100_000_000_000, 1),
        ] {
            assert_eq!(
                percentage(text).map(|fraction| fraction.of(whole)),
                Ok(part),
                "{text}"
            );
        }
        for text in ["", "%", "5", "100.1%", "-1%", "0.0000000001%"] {
            assert!(percentage(text).is_err(), "{text}");
        }
    }
}
