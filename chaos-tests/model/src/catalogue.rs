//! The scopes that are explored, each about something.

use weir_model::Scale;

use crate::scope::{Begins, Pace, Scope, Terms};

const fn terms(budget: u64, floor: u64) -> Terms {
    in_parts(0, budget, floor)
}

/// In units of 2^-`fraction_bits` tokens.
const fn in_parts(fraction_bits: u8, budget: u64, floor: u64) -> Terms {
    Terms {
        budget,
        floor,
        scale: Scale { fraction_bits },
    }
}

/// Everything that is not about members or policies, at once.
const EVERYTHING: Scope = Scope {
    name: "everything",
    about: "three hosts share six tokens, floors of one; three leaders; every fault",
    leaders: 3,
    steps: 7,
    restarts: 2,
    reboots: 1,
    sessions: 1,
    duplicates: 3,
    capacity: 2,
    pauses: true,
    late_reports: true,
    late_answers: true,
    reads_term: true,
    shifts: 2,
    policies: &[terms(6, 1)],
    is_divisible: true,
    unknown_outcomes: true,
    ..Scope::SMALL
};

/// Policies that change, with few faults beside.
const POLICIES: Scope = Scope {
    name: "",
    about: "",
    leaders: 2,
    steps: 7,
    restarts: 3,
    is_divisible: true,
    ..Scope::SMALL
};

/// Scopes that are too large to be explored: they are walked in at random.
pub const AT_RANDOM: [Scope; 17] = [
    Scope {
        name: "token",
        about: "one token that moves whole, no floors, two leaders",
        steps: 7,
        ..Scope::SMALL
    },
    Scope {
        name: "shares",
        about: "six tokens in moving shares, no floors, two leaders, a restart, pauses",
        steps: 7,
        policies: &[terms(6, 0)],
        is_divisible: true,
        restarts: 1,
        pauses: true,
        late_answers: true,
        capacity: 2,
        duplicates: 2,
        ..Scope::SMALL
    },
    EVERYTHING,
    Scope {
        name: "reminders",
        about: "four hosts share six tokens, three vote; two leaders, in sixths of a lease",
        hosts: 4,
        members: 4,
        pace: Pace::SIXTHS,
        steps: 10,
        policies: &[terms(6, 0)],
        is_divisible: true,
        late_answers: true,
        capacity: 2,
        duplicates: 1,
        ..Scope::SMALL
    },
    Scope {
        name: "joins",
        about: "a fourth host joins three that hold everything; every fault",
        hosts: 4,
        policies: &[terms(4, 1)],
        joins: true,
        shifts: 0,
        ..EVERYTHING
    },
    Scope {
        name: "voters",
        about: "four terms with other voters each; restarts, pauses, duplicates",
        leaders: 4,
        voters: &[&[0, 1, 2], &[2], &[1]],
        sessions: 0,
        reboots: 0,
        ..EVERYTHING
    },
    Scope {
        name: "cut",
        about: "six tokens become three, and the old leader may be forgotten meanwhile",
        policies: &[terms(6, 1), terms(3, 1)],
        restarts: 1,
        ..POLICIES
    },
    Scope {
        name: "cut, unwritten",
        about: "all have acknowledged three tokens, ZooKeeper still says six, voters forget",
        begins: Begins::PolicyUnwritten,
        policies: &[terms(6, 1), terms(3, 1)],
        steps: 5,
        ..POLICIES
    },
    Scope {
        name: "cut, remembered",
        about: "all have acknowledged three tokens, ZooKeeper still says six, voters remember",
        begins: Begins::PolicyUnwritten,
        policies: &[terms(6, 1), terms(3, 1)],
        steps: 4,
        restarts: 0,
        promises_early: true,
        ..POLICIES
    },
    Scope {
        name: "larger floors",
        about: "floors of none become one; voters forget",
        begins: Begins::PolicyReady,
        policies: &[terms(6, 0), terms(6, 1)],
        ..POLICIES
    },
    Scope {
        name: "smaller floors",
        about: "floors of two become none, and one host wants all that is free",
        begins: Begins::PolicyReady,
        policies: &[terms(6, 2), terms(6, 0)],
        shifts: 2,
        restarts: 0,
        steps: 4,
        ..POLICIES
    },
    Scope {
        name: "policies",
        about: "six tokens and floors of one become three and none, then six and two",
        policies: &[terms(6, 1), terms(3, 0), terms(6, 2)],
        restarts: 1,
        sessions: 0,
        ..EVERYTHING
    },
    Scope {
        name: "raise",
        about: "floors of none become two of six, then one; one token short of room",
        policies: &[terms(6, 0), terms(6, 2), terms(6, 1)],
        shifts: 0,
        leaders: 3,
        ..EVERYTHING
    },
    Scope {
        name: "leaves",
        about: "one of four is removed, or switched off for good and removed; voters change",
        hosts: 4,
        members: 4,
        voters: &[&[0, 1, 2], &[1, 2, 3]],
        removals: 1,
        restarts: 1,
        joins: true,
        sessions: 1,
        ..EVERYTHING
    },
    Scope {
        name: "deposed",
        about: "the first of two leaders goes on after two of three voters have promised the second's term",
        begins: Begins::Deposed,
        pace: Pace::SIXTHS,
        steps: 8,
        policies: &[terms(6, 0)],
        is_divisible: true,
        late_answers: true,
        capacity: 2,
        ..Scope::SMALL
    },
    Scope {
        name: "sixths",
        about: "as `everything`, in sixths of a lease, so that leaders remind",
        pace: Pace::SIXTHS,
        steps: 14,
        ..EVERYTHING
    },
    Scope {
        name: "units",
        about: "six tokens become three in units four times as coarse, then six in finer ones; leases are carried",
        begins: Begins::PolicyReady,
        policies: &[in_parts(2, 6, 1), terms(3, 0), in_parts(3, 6, 1)],
        restarts: 1,
        sessions: 1,
        duplicates: 1,
        pauses: true,
        shifts: 1,
        ..POLICIES
    },
];

/// Scopes that are explored to the last state.
pub const COMPLETE: [Scope; 3] = [
    Scope {
        name: "take-over",
        about: "three voters, two leaders at once, answers late or lost; leases do not end",
        steps: 0,
        late_answers: true,
        reads_term: true,
        ..Scope::SMALL
    },
    Scope {
        name: "leases",
        about: "two voters, two leaders; leases are renewed, and some hosts fall silent",
        hosts: 2,
        members: 2,
        voters: &[&[0, 1]],
        steps: 1,
        ..Scope::SMALL
    },
    Scope {
        name: "one leader",
        about: "three voters, one leader; leases are renewed, end, and move",
        leaders: 1,
        steps: 2,
        ..Scope::SMALL
    },
];

/// Likewise, in minutes and gigabytes.
pub const DEEP: [Scope; 3] = [
    Scope {
        name: "take-over, restart",
        about: "as `take-over`, and a restart without memory",
        steps: 0,
        restarts: 1,
        late_answers: true,
        reads_term: true,
        ..Scope::SMALL
    },
    Scope {
        name: "leases, restart",
        about: "as `leases`, and a restart",
        hosts: 2,
        members: 2,
        voters: &[&[0, 1]],
        steps: 1,
        restarts: 1,
        ..Scope::SMALL
    },
    Scope {
        name: "minority",
        about: "three voters of which two are members, two leaders; leases are renewed",
        members: 2,
        steps: 1,
        ..Scope::SMALL
    },
];
