//! Faults, as data: what is done to a fleet, and what is undone when it ends.

use std::time::Duration;

use crate::fleet::Timing;

/// Which host. It is decided when the fault begins, of the hosts that no other fault holds then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// This one.
    Host(usize),
    /// Whoever leads.
    Leader,
    /// The first, second, … that does not lead.
    Follower(usize),
}

/// Which ZooKeeper server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The one that leads the ensemble.
    Leader,
    /// The first that does not.
    Follower,
    /// So many that the others are no majority; its leader is among them.
    Majority,
}

/// One end of the control network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// A host.
    Host(Who),
    /// All hosts but those of the other end.
    OtherHosts,
    /// All ZooKeeper servers.
    Servers,
    /// Everybody but those of the other end.
    Everybody,
}

/// Something that is done to a fleet for a while.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Its daemon gets SIGKILL, and is started again at the end.
    Killed(Who),
    /// Its daemon gets SIGSTOP, and SIGCONT at the end.
    Paused(Who),
    /// Its daemon stops and starts at once, as for an upgrade.
    Upgraded(Who),
    /// Its link is down.
    LinkDown(Who),
    /// It has no power, and boots with an empty kernel at the end.
    PoweredOff(Who),
    /// No packet gets from one end to the other; `both` ways or only this.
    Cut {
        /// From here.
        from: Party,
        /// To there.
        to: Party,
        /// And back.
        both: bool,
    },
    /// The whole control network is bad.
    Rough {
        /// Percent of the packets that are lost.
        lost: u8,
        /// Percent that arrive twice.
        repeated: u8,
        /// TCP segments of ten thousand that end their connection.
        reset: u16,
    },
    /// Packets of the whole control network take longer.
    Slow {
        /// Each way.
        delay: Duration,
        /// Up to so much more, so that packets overtake each other.
        jitter: Duration,
    },
    /// ZooKeeper servers get SIGKILL, and are started again at the end.
    ServersKilled(Server),
    /// ZooKeeper servers get SIGSTOP, and SIGCONT at the end.
    ServersPaused(Server),
    /// Its daemon reads another wall time: so many seconds off, and right again at the end.
    WallClock(Who, i64),
    /// Its daemon can open no more files or connections.
    NoDescriptors(Who),
    /// All daemons that were never started are started at once, and stay.
    Joined,
    /// Another rate is put in force, in packets per second, and stays.
    Rate(u64),
    /// Another rate is put in force on trial, which nobody confirms.
    Trial {
        /// Packets per second.
        rate: u64,
        /// How long it may be confirmed.
        within: Duration,
    },
    /// A member gives its share back, and takes part again at the end.
    Drained(Who),
    /// A member is removed while its daemon runs, and stays out.
    Removed(Who),
}

impl Fault {
    /// What people call it.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Killed(who) => format!("SIGKILL: {}", who.label()),
            Self::Paused(who) => format!("SIGSTOP: {}", who.label()),
            Self::Upgraded(who) => format!("upgrade: {}", who.label()),
            Self::LinkDown(who) => format!("link down: {}", who.label()),
            Self::PoweredOff(who) => format!("no power: {}", who.label()),
            Self::Cut { from, to, both } => {
                let arrow = if *both { "–" } else { "→" };
                format!("cut: {} {arrow} {}", from.label(), to.label())
            }
            Self::Rough {
                lost,
                repeated,
                reset,
            } => format!(
                "rough network: {lost} % lost, {repeated} % twice, {:.2} % reset",
                f64::from(*reset) / 100.0
            ),
            Self::Slow { delay, jitter } => format!(
                "slow network: {} to {} ms each way",
                delay.as_millis(),
                (*delay + *jitter).as_millis()
            ),
            Self::ServersKilled(server) => format!("SIGKILL: {}", server.label()),
            Self::ServersPaused(server) => format!("SIGSTOP: {}", server.label()),
            Self::WallClock(who, ahead) => format!("wall clock {ahead:+} s: {}", who.label()),
            Self::NoDescriptors(who) => format!("no descriptors left: {}", who.label()),
            Self::Joined => "hosts join".to_owned(),
            Self::Rate(rate) => format!("rate {rate}/s applied"),
            Self::Trial { rate, .. } => format!("rate {rate}/s on trial"),
            Self::Drained(who) => format!("drain: {}", who.label()),
            Self::Removed(who) => format!("remove: {}", who.label()),
        }
    }

    /// Whether no packet reaches the hosts that it hits, and none is counted.
    #[must_use]
    pub const fn is_link_down(&self) -> bool {
        matches!(self, Self::LinkDown(_) | Self::PoweredOff(_))
    }

    /// Whether the fleet is another one for good.
    #[must_use]
    pub const fn is_for_good(&self) -> bool {
        matches!(self, Self::Removed(_))
    }

    /// Whether ZooKeeper may be gone while it lasts. Ticks do not notice; take-overs wait for it.
    #[must_use]
    pub const fn is_of_servers(&self) -> bool {
        matches!(self, Self::ServersKilled(_) | Self::ServersPaused(_))
    }

    /// How long after its end the fleet may take until utilisation is judged again; `None` if it
    /// is judged all the time: that fault must not be noticed.
    #[must_use]
    pub fn unsettles(&self, timing: &Timing) -> Option<Duration> {
        let moved = 5 * timing.tick;
        match self {
            Self::Killed(_)
            | Self::Paused(_)
            | Self::LinkDown(_)
            | Self::PoweredOff(_)
            | Self::Rough { .. }
            | Self::Slow { .. }
            | Self::Rate(_)
            | Self::Trial { .. } => Some(timing.wait_out() + moved),
            Self::Cut { from, to, .. } => {
                let is_servers = [from, to].contains(&&Party::Servers);
                (!is_servers).then(|| timing.wait_out() + moved)
            }
            Self::Drained(_) | Self::Removed(_) | Self::Joined => Some(timing.wait_out() + moved),
            Self::Upgraded(_)
            | Self::ServersKilled(_)
            | Self::ServersPaused(_)
            | Self::WallClock(..)
            | Self::NoDescriptors(_) => None,
        }
    }
}

impl Who {
    fn label(self) -> String {
        match self {
            Self::Host(host) => format!("host{}", host + 1),
            Self::Leader => "leader".to_owned(),
            Self::Follower(0) => "a follower".to_owned(),
            Self::Follower(_) => "another follower".to_owned(),
        }
    }
}

impl Server {
    const fn label(self) -> &'static str {
        match self {
            Self::Leader => "ZooKeeper's leader",
            Self::Follower => "a ZooKeeper follower",
            Self::Majority => "ZooKeeper's majority",
        }
    }
}

impl Party {
    fn label(self) -> String {
        match self {
            Self::Host(who) => who.label(),
            Self::OtherHosts => "other hosts".to_owned(),
            Self::Servers => "ZooKeeper".to_owned(),
            Self::Everybody => "everybody".to_owned(),
        }
    }
}
