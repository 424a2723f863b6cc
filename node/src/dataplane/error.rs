//! What can go wrong while loading, one variant for each thing that an operator can do about it.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why the kernel's programs are not in place. Nothing that this run did is left behind.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Not enough privileges.
    #[error(
        "the loader lacks {}: run it as root, or give the service these capabilities \
         (AmbientCapabilities= in systemd)",
        missing.join(", ")
    )]
    Privileges {
        /// The capabilities that are missing.
        missing: Vec<&'static str>,
    },
    /// An old kernel.
    #[error("this kernel is {found}; Weir needs Linux {expected} or newer")]
    KernelTooOld {
        /// What `uname -r` says.
        found: String,
        /// The oldest that will do.
        expected: &'static str,
    },
    /// A kernel without type information.
    #[error(
        "this kernel has no type information ({}): boot one that was built with \
         CONFIG_DEBUG_INFO_BTF=y, as those of all current distributions are",
        path.display()
    )]
    NoBtf {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A time namespace whose clocks are not the kernel's.
    #[error(
        "this process is in a time namespace with a boot-time offset of {offset}: grants are \
         measured on the kernel's own boot clock; start the daemon in the initial time namespace"
    )]
    TimeNamespace {
        /// Seconds and nanoseconds.
        offset: String,
    },
    /// No such interface.
    #[error("there is no interface {name} here; the interfaces are: {}", present.join(", "))]
    NoInterface {
        /// What was asked for.
        name: String,
        /// What there is.
        present: Vec<String>,
    },
    /// bpffs cannot be mounted.
    #[error(
        "{} is not a BPF file system and one cannot be mounted there: {source}; \
         mount it with `mount -t bpf bpf {}`",
        path.display(), path.display()
    )]
    BpfFileSystem {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another daemon.
    #[error(
        "another process holds {}{}: only one daemon may run for an interface; stop it, or give \
         this one other interfaces",
        path.display(),
        holder.as_ref().map(|holder| format!(" ({holder})")).unwrap_or_default()
    )]
    AlreadyRunning {
        /// The pin directory.
        path: PathBuf,
        /// Process number and command of the other, if they could be found out.
        holder: Option<String>,
    },
    /// Another XDP program.
    #[error(
        "interface {interface} already has the XDP program {name} (id {id}), which is not pinned \
         here{}; remove it first: `ip link set dev {interface} xdp off`, or, if a BPF link holds it, \
         `bpftool link detach id N` with its number from `bpftool link`",
        if name == weir_abi::maps::XDP_PROGRAM {
            " but is Weir's by its name: its pins are on another bpffs, or hidden by a mount namespace"
        } else {
            ""
        }
    )]
    OtherProgram {
        /// Where.
        interface: String,
        /// The program's name, as `bpftool prog show` has it.
        name: String,
        /// Its number.
        id: u32,
    },
    /// Weir's own program, but pinned for another group of interfaces.
    #[error(
        "interface {interface} is enforced by Weir already, in the group {group}: detach that \
         first (`weir-node --detach` with the interfaces that it had)"
    )]
    OtherGroup {
        /// Where.
        interface: String,
        /// Under which name its pins are.
        group: String,
    },
    /// The driver cannot run XDP.
    #[error(
        "interface {interface} refuses a native XDP program ({source}): its driver may have none, \
         or not at this MTU or with this number of queues; `--xdp-mode generic` works everywhere \
         but costs several times as much for each packet"
    )]
    NativeRefused {
        /// Where.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused generic mode, or said something unexpected.
    #[error("interface {interface} refuses the XDP program: {source}")]
    AttachRefused {
        /// Where.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The pinned program runs in the other mode.
    #[error(
        "Weir's program on {interface} runs in {found} mode and {expected} was asked for: it \
         cannot be changed without a gap; run `weir-node --detach` first, or ask for {found}"
    )]
    OtherMode {
        /// Where.
        interface: String,
        /// How it is attached.
        found: String,
        /// How it was to be.
        expected: String,
    },
    /// A pinned map that is not what this version makes.
    #[error(
        "the pinned map {} has another shape ({found}; expected {expected}): it was not made by \
         this version; run `weir-node --detach` to start afresh",
        path.display()
    )]
    OtherLayout {
        /// Where it is pinned.
        path: PathBuf,
        /// Its shape.
        found: String,
        /// The right one.
        expected: String,
    },
    /// Pins of another version, or of other sizes, that cannot be taken over from.
    #[error(
        "the limits that are enforced here are pinned in {} and cannot be taken over ({reason}); \
         they go on being enforced. Start the version that made them, or give them up with \
         `weir-node --detach`",
        path.display()
    )]
    CannotTakeOver {
        /// The directory of the layout.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// A policy is in force in maps of another layout, and this daemon does not remember it.
    #[error(
        "the policy that is in force here, pinned in {}, has to be compiled anew for this version's \
         maps, and nothing is remembered of it; it goes on being enforced. Put the state directory \
         back (`state_dir` of the node file), or give the policy up with `weir-node --detach`",
        path.display()
    )]
    UnknownPolicy {
        /// The directory of the layout.
        path: PathBuf,
    },
    /// A policy that the maps of this version, or of these sizes, cannot hold.
    #[error(
        "the policy that is in force here, pinned in {}, cannot be enforced in this version's maps \
         ({source}); it goes on being enforced there",
        path.display()
    )]
    PolicyRefused {
        /// The directory of the layout.
        path: PathBuf,
        /// Why.
        source: DataplaneError,
    },
    /// The new program decides already, and a part of the old one's state is not handed over.
    #[error(
        "what {from} holds could be handed over to {to} in part only ({source}): limits whose bucket \
         was not handed over admit nothing. Start weir-node again, which goes on from there; if \
         that does not help, `weir-node --detach`"
    )]
    HalfTakenOver {
        /// The layout that was in force.
        from: String,
        /// The one that is.
        to: String,
        /// What the system said.
        source: io::Error,
    },
    /// The allow-list does not fit its maps.
    #[error("the management allow-list has {found} {what}, and at most {most} fit")]
    ManagementTooLarge {
        /// What there are too many of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// The kernel refused the programs or maps: a defect, or a kernel that nobody has tried.
    #[error("the kernel refused {what}: {source}")]
    Refused {
        /// Which program or map.
        what: String,
        /// What aya or the kernel said; for a program, with the verifier's log.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file or directory.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a policy or a grant is not in force. The one before stays.
#[derive(Debug, Error)]
pub enum DataplaneError {
    /// More limits than a packet can be held against.
    #[error(
        "{} limits apply to {prefix}, and at most {most} can: {}; give them narrower prefixes, or \
         merge some",
        limits.len(), limits.join(", ")
    )]
    TooManyRules {
        /// The destination.
        prefix: String,
        /// The limits' names.
        limits: Vec<String>,
        /// How many may be.
        most: usize,
    },
    /// More port ranges than a rule has room for.
    #[error("limit {limit} has {found} port ranges, and at most {most} fit; merge some")]
    TooManyPortRanges {
        /// The limit's name.
        limit: String,
        /// How many there are.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// A policy that does not fit the maps.
    #[error("the policy has {found} {what}, and at most {most} fit")]
    TooLarge {
        /// What there are too many of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// An amount outside of what the arithmetic is exact for.
    #[error(
        "a grant of limit {limit} is out of range: rates go to 2^40 units a second, bursts to 2^60 \
         units"
    )]
    AmountOutOfRange {
        /// Which limit.
        limit: weir_model::LimitId,
    },
    /// The kernel's side did not decide a request.
    #[error("the install program did not decide: {what}; the pins may be of another version")]
    NotDecided {
        /// What it said.
        what: String,
    },
    /// A map refused.
    #[error("map {map}: {source}")]
    Map {
        /// Which.
        map: &'static str,
        /// What aya said.
        source: aya::maps::MapError,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// Which.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
