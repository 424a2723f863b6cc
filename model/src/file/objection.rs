//! What stands in the way of a limit's terms, and what is doubtful about them, in words.

use std::{format, string::String};

use thiserror::Error;

use super::{
    keyed::MOST_DEBT,
    problem::Severity,
    quantity::{Fraction, counted, plural},
};
use crate::{
    amount::{Units, UnitsPerSecond},
    change::decimal,
    policy::Cost,
};

/// Which key an objection or a doubt is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Rate,
    Burst,
    Floor,
    Per,
    Promise,
    Excess,
    OnExpiry,
}

/// Why terms cannot be enforced. Numbers of tokens are in the unit of `cost`; `least` is the
/// smallest burst.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Objection {
    #[error("a rate of zero")]
    RateZero,
    #[error("the rate is above the largest, {}/s", counted(UnitsPerSecond::MAX.0, *cost))]
    RateTooLarge { cost: Cost },
    #[error("the burst is above the largest, {}", counted(Units::MAX.0, *cost))]
    BurstTooLarge { cost: Cost },
    #[error(
        "a burst of {} never admits {}",
        counted(*found, *cost),
        largest(*least, *cost)
    )]
    BurstTooSmall { found: u64, least: u64, cost: Cost },
    #[error("the burst is out of proportion: the rate needs years to fill it")]
    BurstOutOfProportion,
    #[error(
        "the floors of {members} members add up to {percent} % of the rate, expected at most 100 %"
    )]
    FloorsOverRate { members: u32, percent: u64 },
    #[error(
        "the burst cannot be split between {members} members with at least {} each, so none can \
         have a floor",
        counted(*least, *cost)
    )]
    FloorWithoutBurst {
        members: u32,
        least: u64,
        cost: Cost,
    },
    #[error("a local limit has no floor: every host enforces all of it by itself")]
    FloorOfLocal,
    #[error("a keyed limit has no floor: every host enforces its keys by itself")]
    FloorOfKeyed,
    #[error("a floor with on_expiry \"closed\", which reserves nothing")]
    FloorOfClosed,
    #[error("a local limit has no lease that could expire")]
    ExpiryOfLocal,
    #[error("a keyed limit has no lease that could expire")]
    ExpiryOfKeyed,
    #[error("`excess` belongs to the promise \"elastic\"")]
    ExcessWithoutElastic { is_keyed: bool },
    #[error("an excess of less than a millionth")]
    ExcessZero,
    #[error("the rate of one key is above the largest, {}/s", counted(*most, *cost))]
    KeyTooFast { most: u64, cost: Cost },
    #[error(
        "the rate needs {}.{} hours to fill the burst of one key, expected at most {MOST_DEBT}",
        tenths_of_hours / 10,
        tenths_of_hours % 10
    )]
    KeyTooSlow { tenths_of_hours: u64 },
    #[error(
        "with \"strict\" each of {members} members gives a key 1/{} of the burst, less than {}",
        2 * u64::from(*members),
        largest(*least, *cost)
    )]
    KeyShareTooSmall {
        members: u32,
        least: u64,
        cost: Cost,
    },
}

impl Objection {
    pub(super) const fn place(&self) -> Place {
        match self {
            Self::RateZero | Self::RateTooLarge { .. } | Self::KeyTooFast { .. } => Place::Rate,
            Self::BurstTooLarge { .. }
            | Self::BurstTooSmall { .. }
            | Self::BurstOutOfProportion
            | Self::KeyTooSlow { .. }
            | Self::KeyShareTooSmall { .. } => Place::Burst,
            Self::FloorsOverRate { .. }
            | Self::FloorWithoutBurst { .. }
            | Self::FloorOfLocal
            | Self::FloorOfKeyed
            | Self::FloorOfClosed => Place::Floor,
            Self::ExpiryOfLocal | Self::ExpiryOfKeyed => Place::OnExpiry,
            Self::ExcessWithoutElastic { .. } | Self::ExcessZero => Place::Excess,
        }
    }

    /// What to do about it.
    pub(super) fn suggestion(&self) -> String {
        match self {
            Self::RateZero => String::from("remove the limit, or leave this to a firewall"),
            Self::RateTooLarge { .. } => String::from("lower the rate"),
            Self::BurstTooLarge { .. } | Self::BurstOutOfProportion => {
                String::from("lower the burst")
            }
            Self::BurstTooSmall { least, cost, .. } => {
                format!("write `burst = \"{}\"` or more", counted(*least, *cost))
            }
            Self::FloorsOverRate { members, .. } => format!(
                "write at most \"{}%\", or lower max_members",
                percent_per_member(*members)
            ),
            Self::FloorWithoutBurst {
                members,
                least,
                cost,
            } => format!(
                "write `burst = \"{}\"` or more, or remove the floor",
                counted(u64::from(*members) * least, *cost)
            ),
            Self::FloorOfClosed => {
                String::from("remove the floor, or write `on_expiry = \"floor\"`")
            }
            Self::ExcessWithoutElastic { is_keyed: true } => {
                String::from("remove it, or write `promise = \"elastic\"`")
            }
            Self::ExcessZero => String::from("write `promise = \"strict\"` instead"),
            Self::FloorOfLocal
            | Self::FloorOfKeyed
            | Self::ExpiryOfLocal
            | Self::ExpiryOfKeyed
            | Self::ExcessWithoutElastic { is_keyed: false } => String::from("remove it"),
            Self::KeyTooFast { .. } => {
                String::from("lower the rate, or remove `per`: an aggregate limit can be faster")
            }
            Self::KeyTooSlow { .. } => {
                String::from("lower the burst or raise the rate; an aggregate limit can be slower")
            }
            Self::KeyShareTooSmall {
                members,
                least,
                cost,
            } => format!(
                "write `burst = \"{}\"` or more, or `promise = \"elastic\"`",
                counted(2 * u64::from(*members) * least, *cost)
            ),
        }
    }
}

/// What is doubtful, or easily missed, about terms that can be enforced.
#[derive(Clone, Debug, PartialEq, Error)]
pub(super) enum Doubt {
    #[error(
        "a burst of {} cannot be split between {members} members with at least {} each: the limit \
         moves whole, to one host at a time, and no member has a floor",
        counted(*burst_tokens, *cost),
        counted(*least, *cost)
    )]
    MovesWhole {
        burst_tokens: u64,
        members: u32,
        least: u64,
        cost: Cost,
    },
    #[error(
        "the floors of {members} members reserve {percent} % of the rate, which idle members \
         strand"
    )]
    Stranded { members: u32, percent: u64 },
    #[error(
        "on_expiry \"open\": a host whose lease has ended admits everything, a broken promise \
         while it lasts"
    )]
    Open,
    #[error(
        "\"elastic\": at most {} above rate and burst over any time, {percent} % of one second's \
         rate, whatever dies; while there is a leader it is paid back within {repaid_within_s} s",
        counted(*tokens, *cost)
    )]
    Lends {
        tokens: u64,
        percent: f64,
        repaid_within_s: u32,
        cost: Cost,
    },
    #[error("the excess of one second's rate is less than {}: \"elastic\" lends nothing of use", largest_of(*cost))]
    LendsNothing { cost: Cost },
    #[error(
        "\"elastic\": until the leader has merged a key, some ticks after it is first seen above the \
         rate, each host gives it the whole rate; from then on it gets the rate and {percent} %, and \
         a packet for each of {members} members, over all hosts"
    )]
    Unmerged { percent: f64, members: u32 },
    #[error(
        "\"strict\" gives a key 1/{} of the limit on each host: {} {unit}/s, and a burst of {} {unit}; \
         one that wants more gets up to half of the limit besides, where it wants it",
        2 * u64::from(*members),
        decimal(*rate),
        decimal(*burst),
        unit = plural(*cost)
    )]
    KeyShare {
        members: u32,
        rate: f64,
        burst: f64,
        cost: Cost,
    },
    #[error("a frame of more than {bytes} bytes costs more than the burst, and is always dropped")]
    NoJumboFrames { bytes: u64, enough: u64 },
}

impl Doubt {
    pub(super) const fn place(&self) -> Place {
        match self {
            Self::MovesWhole { .. } => Place::Rate,
            Self::Stranded { .. } => Place::Floor,
            Self::Open => Place::OnExpiry,
            Self::Lends { .. } | Self::LendsNothing { .. } | Self::Unmerged { .. } => {
                Place::Promise
            }
            Self::KeyShare { .. } => Place::Per,
            Self::NoJumboFrames { .. } => Place::Burst,
        }
    }

    pub(super) const fn severity(&self) -> Severity {
        match self {
            Self::MovesWhole { .. }
            | Self::Stranded { .. }
            | Self::Open
            | Self::LendsNothing { .. } => Severity::Warning,
            Self::Lends { .. }
            | Self::Unmerged { .. }
            | Self::KeyShare { .. }
            | Self::NoJumboFrames { .. } => Severity::Note,
        }
    }

    pub(super) fn suggestion(&self) -> Option<String> {
        match self {
            Self::Unmerged { .. } => Some(String::from(
                "`promise = \"strict\"` never gives a key more than the rate over all hosts",
            )),
            Self::LendsNothing { .. } => {
                Some(String::from("write \"strict\", or a larger `excess`"))
            }
            Self::NoJumboFrames { enough, .. } => Some(format!(
                "for jumbo frames write `burst = \"{}\"` or more",
                counted(*enough, Cost::Bits)
            )),
            _ => None,
        }
    }
}

/// What every burst has to hold.
const fn largest_of(cost: Cost) -> &'static str {
    match cost {
        Cost::Packets => "a packet",
        Cost::Bits => "the largest packet",
        Cost::Connections => "a connection",
    }
}

/// The most that one packet may cost and must be able to pass.
fn largest(least: u64, cost: Cost) -> String {
    match cost {
        Cost::Packets | Cost::Bits => format!("the largest packet, {}", counted(least, cost)),
        Cost::Connections => counted(least, cost),
    }
}

pub(super) fn percent_of_all(share: Fraction, members: u32) -> u64 {
    let percent = u128::from(share.numerator) * u128::from(members) * 100;
    u64::try_from(percent.div_ceil(u128::from(share.denominator))).unwrap_or(u64::MAX)
}

/// The largest percentage with four decimals that `members` can have each.
fn percent_per_member(members: u32) -> String {
    let millionths = 100 * 10_000 / u64::from(members);
    let text = format!("{}.{:04}", millionths / 10_000, millionths % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').into()
}
