//! All scenarios, by name. The six that nobody tests come first.

use super::{Kind, Scenario, catalogue, operations, restored, take_over, zookeeper_lost};

const fn short(name: &'static str, story: &'static str, kind: Kind) -> Scenario {
    Scenario {
        name,
        story,
        is_short: true,
        kind,
    }
}

const fn long(name: &'static str, story: &'static str, kind: Kind) -> Scenario {
    Scenario {
        name,
        story,
        is_short: false,
        kind,
    }
}

/// All scenarios.
pub static SCENARIOS: [Scenario; 38] = [
    short(
        "minority-partition",
        "The leader is alone behind a cut, and its host floods on.",
        Kind::Declared(catalogue::minority_partition),
    ),
    short(
        "stalled-leader",
        "The leader is stopped for two leases, the demand moves, and it goes on as if nothing had been.",
        Kind::Declared(catalogue::stalled_leader),
    ),
    short(
        "lost-and-repeated-reports",
        "Packets of the control network are lost, arrive twice, or end their connection.",
        Kind::Declared(catalogue::lost_and_repeated_reports),
    ),
    long(
        "slow-network",
        "Every packet of the control network takes up to 140 ms and overtakes others, and the leader dies.",
        Kind::Declared(catalogue::slow_network),
    ),
    short(
        "demand-step",
        "Ten times the demand from one moment to the next, everywhere and at one host.",
        Kind::Declared(catalogue::demand_step),
    ),
    short(
        "rebalance-storm",
        "The traffic moves faster than shares can follow.",
        Kind::Declared(catalogue::rebalance_storm),
    ),
    short(
        "stale-holder",
        "The host that holds the whole budget stops answering just when the others need it.",
        Kind::Declared(catalogue::stale_holder),
    ),
    short(
        "leader-killed",
        "The leader's daemon dies and is back after a second.",
        Kind::Declared(catalogue::leader_killed),
    ),
    long(
        "leader-killed-often",
        "The same over and over, for a percentile: `--events 100`.",
        Kind::Repeated(catalogue::leader_killed_often),
    ),
    long(
        "leader-gone",
        "The leader's daemon dies and stays away until its lease is long over.",
        Kind::Declared(catalogue::leader_gone),
    ),
    long(
        "leader-storm",
        "Leaders are killed and stopped as fast as there are new ones.",
        Kind::Declared(catalogue::leader_storm),
    ),
    long(
        "short-pauses",
        "Daemons are stopped for less than a lease.",
        Kind::Declared(catalogue::short_pauses),
    ),
    short(
        "follower-cut",
        "A follower is cut off from everybody, for less than a lease and for two of them.",
        Kind::Declared(catalogue::follower_cut),
    ),
    short(
        "host-lost",
        "A whole host is gone for two leases, and returns.",
        Kind::Declared(catalogue::host_lost),
    ),
    long(
        "one-way",
        "The leader is heard and hears nothing; then it hears and is not heard.",
        Kind::Declared(catalogue::one_way),
    ),
    long(
        "session-expires",
        "The leader cannot reach ZooKeeper for longer than its session lasts.",
        Kind::Declared(catalogue::session_expires),
    ),
    long(
        "ensemble-leader-killed",
        "ZooKeeper's leader dies; ticks do not notice.",
        Kind::Declared(catalogue::ensemble_leader_killed),
    ),
    short(
        "quorum-lost",
        "ZooKeeper has no quorum for three leases; ticks do not notice.",
        Kind::Declared(catalogue::quorum_lost),
    ),
    long(
        "slow-disk",
        "ZooKeeper's leader stands still for 300 ms, over and over.",
        Kind::Declared(catalogue::slow_disk),
    ),
    short(
        "everything-lost",
        "ZooKeeper's quorum and the leader are lost together: floors, and nothing above them.",
        Kind::Declared(catalogue::everything_lost),
    ),
    short(
        "upgrade",
        "One daemon after the other is replaced under flood.",
        Kind::Declared(catalogue::upgrade),
    ),
    long(
        "policy-change",
        "The rate is halved under flood, and doubled again.",
        Kind::Declared(catalogue::policy_change),
    ),
    long(
        "unconfirmed-change",
        "A change on trial goes back by itself under flood.",
        Kind::Declared(catalogue::unconfirmed_change),
    ),
    long(
        "drain",
        "A host gives its share back under flood, and takes part again.",
        Kind::Declared(catalogue::drained),
    ),
    long(
        "leader-removed",
        "An operator removes whoever leads, while it runs.",
        Kind::Declared(catalogue::leader_removed),
    ),
    long(
        "reboot",
        "A host loses power, and boots with an empty kernel.",
        Kind::Declared(catalogue::reboot),
    ),
    long(
        "no-descriptors",
        "Two daemons can open no more files and connections.",
        Kind::Declared(catalogue::no_descriptors),
    ),
    long(
        "full-ring",
        "Nobody reads the ring of events while most packets are dropped.",
        Kind::Declared(catalogue::full_ring),
    ),
    short(
        "clock-jump",
        "Wall clocks jump by days and hours, the leader's among them.",
        Kind::Declared(catalogue::clock_jump),
    ),
    long(
        "join",
        "A fourth host joins mid-flood.",
        Kind::Declared(catalogue::join),
    ),
    long(
        "ten-join",
        "Ten hosts join a fleet of two at once.",
        Kind::Declared(catalogue::ten_join),
    ),
    long(
        "flows",
        "TCP flows that back off share the hosts with the flood; the leader dies, a host is cut off.",
        Kind::Declared(catalogue::flows),
    ),
    long(
        "hot-keys",
        "A source sprays all hosts, one under a strict limit and one under an elastic one; the leader dies.",
        Kind::Declared(catalogue::hot_keys),
    ),
    long(
        "random",
        "Faults that the seed draws, at times that it draws.",
        Kind::Declared(catalogue::random),
    ),
    long(
        "take-over",
        "The leader is killed and stopped in turn, over and over.",
        Kind::Procedure(take_over::run),
    ),
    short(
        "operations",
        "A change on trial outlives its leader; members are drained and removed.",
        Kind::Procedure(operations::run),
    ),
    long(
        "zookeeper-restored",
        "ZooKeeper comes back from an older backup: nobody leads until an operator says by which term.",
        Kind::Procedure(restored::run),
    ),
    long(
        "zookeeper-lost",
        "ZooKeeper's leader dies, then there is no quorum for 30 s.",
        Kind::Procedure(zookeeper_lost::run),
    ),
];
