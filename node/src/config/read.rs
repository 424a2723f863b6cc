//! Key by key, from the document to the checked values.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use weir_abi::maps;
use weir_coord::fleet::CommitBy;
use weir_model::{
    NodeId,
    file::{Complaint, Table, Value, quantity},
};

use super::{
    Account, Coordinator, DEFAULT_BPFFS, DEFAULT_LEASE, DEFAULT_SESSION_TIMEOUT, DEFAULT_SOCKET,
    DEFAULT_STATE_DIR, DEFAULT_TICK, FleetSettings, GrpcSettings, Host, LEAST_TICKS_IN_LEASE,
    NodeConfig, NodeSettings, Overrides, Timing, XdpMode, XdpSettings, ZooKeeperAuth,
    ZooKeeperSettings, address, http, id_of_machine, management, otlp, tls,
};
use crate::dataplane::Sizes;

/// Most interfaces of one daemon.
const MAX_INTERFACES: usize = 16;
/// The longest name of an interface: `IFNAMSIZ` less the terminating zero.
const INTERFACE_NAME_BYTES: usize = 15;
/// The longest path of a unix socket: `sun_path` less the terminating zero.
const SOCKET_PATH_BYTES: usize = 107;
/// The longest name of a fleet or a node.
const NAME_BYTES: usize = 63;
const TICK: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);
const LEASE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const SESSION_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(200)..=Duration::from_secs(60);
const WEIGHT: RangeInclusive<u64> = 1..=1_000;

/// Which coordinator, without the settings of other tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ZooKeeper(CommitBy),
    Embedded,
}

/// Reads the root of a node file; `None` if a problem leaves no configuration.
pub(super) fn read(mut root: Table<'_>, host: &Host, overrides: &Overrides) -> Option<NodeConfig> {
    let kind = coordinator_kind(&mut root);
    let fleet = fleet(&mut root, kind, overrides);
    let interfaces = interfaces(&mut root, overrides);
    let state_dir = path(
        root.optional("state_dir"),
        overrides.state_dir.as_ref(),
        DEFAULT_STATE_DIR,
    );
    let node = node(&mut root, host, overrides);
    let admin_socket = admin_socket(&mut root, overrides);
    let coordinator = match kind {
        Some(Kind::ZooKeeper(commit)) => zookeeper(&mut root, commit, overrides),
        Some(Kind::Embedded) => embedded(&mut root),
        None => {
            let _unread = (root.optional("zookeeper"), root.optional("grpc"));
            None
        }
    };
    let timing = timing(&mut root);
    let xdp = xdp(&mut root, overrides);
    let http = http::read(&mut root, overrides);
    let otlp = otlp::read(&mut root);
    let coordination = coordination_ports(coordinator.as_ref());
    let management = management::read(&mut root, &coordination);
    root.finish();
    Some(NodeConfig {
        fleet: fleet?,
        interfaces: interfaces?,
        state_dir: state_dir?,
        management: management?,
        node: node?,
        admin_socket: admin_socket?,
        coordinator: coordinator?,
        timing: timing?,
        xdp: xdp?,
        http: http?,
        otlp: otlp?,
    })
}

fn coordinator_kind(root: &mut Table<'_>) -> Option<Kind> {
    let Some(mut table) = root.table("coordinator") else {
        return Some(Kind::ZooKeeper(CommitBy::default()));
    };
    let is_embedded = table.optional("kind").map_or(Some(false), |kind| {
        kind.one_of(&[("zookeeper", false), ("embedded", true)])
    });
    let value = table.optional("commit");
    let commit = value.as_ref().map_or(Some(CommitBy::default()), |value| {
        value.one_of(&[
            ("quorum", CommitBy::Quorum),
            ("zookeeper", CommitBy::ZooKeeper),
        ])
    });
    if let (Some(true), Some(value)) = (is_embedded, value) {
        value.key_error(
            Complaint::new("`commit` with the embedded coordinator, which has nobody to ask")
                .suggest("remove it"),
        );
    }
    table.finish();
    Some(if is_embedded? {
        Kind::Embedded
    } else {
        Kind::ZooKeeper(commit?)
    })
}

fn fleet(root: &mut Table<'_>, kind: Option<Kind>, overrides: &Overrides) -> Option<String> {
    if let Some(fleet) = &overrides.fleet {
        let _replaced = root.optional("fleet");
        return accepted(root, "--fleet", fleet_name(fleet));
    }
    if kind == Some(Kind::Embedded) {
        return match root.optional("fleet") {
            Some(value) => value.parsed(fleet_name),
            None => Some(String::from("local")),
        };
    }
    root.required("fleet", "\"edge\"")?.parsed(fleet_name)
}

fn fleet_name(text: &str) -> Result<String, Complaint> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    named(text, allowed, "a-z, 0-9 and -")
}

fn node_name(text: &str) -> Result<String, Complaint> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    named(text, allowed, "letters, digits, -, _ and .")
}

fn named(text: &str, allowed: fn(u8) -> bool, what: &str) -> Result<String, Complaint> {
    if (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(Complaint::new(format!(
            "\"{}\" is not a name: 1 to {NAME_BYTES} of {what}",
            text.escape_debug()
        )))
    }
}

fn interfaces(root: &mut Table<'_>, overrides: &Overrides) -> Option<Vec<String>> {
    if !overrides.interfaces.is_empty() {
        let _replaced = root.optional("interfaces");
        let names = overrides.interfaces.iter();
        return names
            .map(|name| accepted(root, "--interface", interface_name(name)))
            .collect();
    }
    let value = root.required("interfaces", "[\"eth0\"]")?;
    let elements = value.list(MAX_INTERFACES)?;
    if elements.is_empty() {
        value.error(Complaint::new(
            "`interfaces` is empty, expected at least one",
        ));
    }
    let mut names: Vec<String> = Vec::with_capacity(elements.len());
    for element in &elements {
        let Some(name) = element.parsed(interface_name) else {
            continue;
        };
        if names.contains(&name) {
            element
                .error(Complaint::new(format!("\"{name}\" is named twice")).suggest("remove it"));
        }
        names.push(name);
    }
    (names.len() == elements.len()).then_some(names)
}

fn interface_name(text: &str) -> Result<String, Complaint> {
    let allowed = |letter: char| !letter.is_whitespace() && !"/:".contains(letter);
    let good = (1..=INTERFACE_NAME_BYTES).contains(&text.len())
        && text.chars().all(allowed)
        && !matches!(text, "." | "..");
    if good {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!(
        "\"{}\" is not an interface name: 1 to {INTERFACE_NAME_BYTES} bytes without space, / and :",
        text.escape_debug()
    ))
    .suggest("`ip link` lists them"))
}

fn node(root: &mut Table<'_>, host: &Host, overrides: &Overrides) -> Option<NodeSettings> {
    let mut table = root.table_or_empty("node")?;
    let id = match table.optional("id") {
        Some(value) => value.parsed(node_id),
        None => {
            let id = host
                .machine_id
                .as_deref()
                .filter(|id| !id.trim().is_empty());
            if id.is_none() {
                table.error(
                    Complaint::new("the host has no /etc/machine-id to make an identity from")
                        .suggest("add `[node] id = \"…\"`, a UUID of its own for each host"),
                );
            }
            id.map(id_of_machine)
        }
    };
    let in_file = table.optional("name");
    let name = match (&overrides.name, in_file, &host.name) {
        (Some(name), _, _) => accepted(root, "--name", node_name(name)),
        (None, Some(value), _) => value.parsed(node_name),
        (None, None, Some(name)) => accepted(root, "the host's name", node_name(name)),
        (None, None, None) => {
            table
                .error(Complaint::new("the host has no name").suggest("add `[node] name = \"…\"`"));
            None
        }
    };
    let weight = match table.optional("weight") {
        Some(value) => value.integer(WEIGHT),
        None => Some(1),
    };
    let user = match table.optional("user") {
        Some(value) => value.parsed(|name| account(name, host)).map(Some),
        None => Some(None),
    };
    if let Some(value) = table.optional("leave_on_stop")
        && value.boolean() == Some(true)
    {
        value.error(
            Complaint::new("`leave_on_stop = true` is not supported yet").suggest("remove it"),
        );
    }
    table.finish();
    Some(NodeSettings {
        id: id?,
        name: name?,
        weight: u32::try_from(weight?).ok()?,
        user: user?,
    })
}

fn account(name: &str, host: &Host) -> Result<Account, Complaint> {
    let quoted = name.escape_debug();
    match (host.account)(name) {
        Some(account) if account.uid != 0 => Ok(account),
        Some(_) => Err(Complaint::new(format!(
            "\"{quoted}\" is root, and what ticks needs no privilege"
        ))
        .suggest("name another user, or remove the key to have one chosen")),
        None => Err(
            Complaint::new(format!("there is no user \"{quoted}\" on this host"))
                .suggest("`useradd --system` makes one; remove the key to have one chosen"),
        ),
    }
}

fn node_id(text: &str) -> Result<NodeId, Complaint> {
    text.parse().map(NodeId).map_err(|_| {
        Complaint::new(format!("\"{}\" is not a UUID", text.escape_debug()))
            .suggest("`uuidgen` makes one; remove the key to use one made from the machine id")
    })
}

fn admin_socket(root: &mut Table<'_>, overrides: &Overrides) -> Option<PathBuf> {
    let mut table = root.table_or_empty("admin")?;
    let value = table.optional("socket");
    table.finish();
    let socket = path(
        value.clone(),
        overrides.admin_socket.as_ref(),
        DEFAULT_SOCKET,
    )?;
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES {
        return Some(socket);
    }
    let complaint = Complaint::new(format!(
        "a unix socket's path has at most {SOCKET_PATH_BYTES} bytes, this one has {}",
        socket.as_os_str().len()
    ))
    .suggest("use a shorter directory");
    match value {
        Some(value) if overrides.admin_socket.is_none() => value.error(complaint),
        _ => root.error(complaint),
    }
    None
}

fn zookeeper(root: &mut Table<'_>, commit: CommitBy, overrides: &Overrides) -> Option<Coordinator> {
    let zookeeper = zookeeper_settings(root, overrides);
    let grpc = grpc_settings(root, overrides);
    Some(Coordinator::ZooKeeper(FleetSettings {
        commit,
        zookeeper: zookeeper?,
        grpc: grpc?,
    }))
}

fn embedded(root: &mut Table<'_>) -> Option<Coordinator> {
    for key in ["zookeeper", "grpc"] {
        if let Some(value) = root.optional(key) {
            value.key_error(
                Complaint::new(format!(
                    "[{key}] with the embedded coordinator, which has no use for it"
                ))
                .suggest("remove one of the two"),
            );
        }
    }
    Some(Coordinator::Embedded)
}

fn zookeeper_settings(root: &mut Table<'_>, overrides: &Overrides) -> Option<ZooKeeperSettings> {
    let mut table = root.table_or_empty("zookeeper")?;
    let servers = match &overrides.zookeeper {
        Some(servers) => {
            let _replaced = table.optional("servers");
            accepted(&table, "--zookeeper", address::servers(servers))
        }
        None => table
            .required("servers", "\"zk1:2181,zk2:2181,zk3:2181\"")
            .and_then(|value| value.parsed(address::servers)),
    };
    let session_timeout = duration(
        table.optional("session_timeout"),
        DEFAULT_SESSION_TIMEOUT,
        SESSION_TIMEOUT,
    );
    let auth = match table.optional("auth") {
        Some(value) => auth(&value).map(Some),
        None => Some(None),
    };
    let tls = match table.optional("tls") {
        Some(value) => tls::zookeeper(&value).map(Some),
        None => Some(None),
    };
    table.finish();
    Some(ZooKeeperSettings {
        servers: servers?,
        session_timeout: session_timeout?,
        auth: auth?,
        tls: tls?,
    })
}

fn auth(value: &Value<'_>) -> Option<ZooKeeperAuth> {
    let mut table = value.table()?;
    let user = table
        .required("user", "\"weir\"")
        .and_then(|value| value.parsed(node_name));
    let password_file = table
        .required("password_file", "\"/etc/weir/zookeeper.secret\"")
        .and_then(|value| path(Some(value), None, ""));
    table.finish();
    Some(ZooKeeperAuth {
        user: user?,
        password_file: password_file?,
    })
}

fn grpc_settings(root: &mut Table<'_>, overrides: &Overrides) -> Option<GrpcSettings> {
    let mut table = root.table_or_empty("grpc")?;
    let listen = match overrides.grpc_listen {
        Some(listen) => {
            let _replaced = table.optional("listen");
            Some(listen)
        }
        None => table
            .required("listen", "\"192.0.2.1:7946\"")
            .and_then(|value| value.parsed(address::socket_address)),
    };
    let in_file = table.optional("advertise");
    let advertise = match (&overrides.grpc_advertise, in_file, listen) {
        (Some(advertise), _, _) => {
            accepted(&table, "--grpc-advertise", address::reachable(advertise))
        }
        (None, Some(value), _) => value.parsed(address::reachable),
        (None, None, Some(listen)) if listen.ip().is_unspecified() => {
            table.error(
                Complaint::new(format!(
                    "[grpc] listens on every address ({listen}), so other nodes cannot be told one"
                ))
                .suggest("add `advertise = \"ADDRESS:PORT\"`"),
            );
            None
        }
        (None, None, listen) => listen.map(|listen| listen.to_string()),
    };
    let tls = match table.optional("tls") {
        Some(value) => tls::mutual(&value).map(Some),
        None => Some(None),
    };
    table.finish();
    Some(GrpcSettings {
        listen: listen?,
        advertise: advertise?,
        tls: tls?,
    })
}

fn timing(root: &mut Table<'_>) -> Option<Timing> {
    let mut table = root.table_or_empty("timing")?;
    let tick = duration(table.optional("tick"), DEFAULT_TICK, TICK);
    let lease = duration(table.optional("lease"), DEFAULT_LEASE, LEASE);
    if let (Some(tick), Some(lease)) = (tick, lease)
        && lease < tick * LEAST_TICKS_IN_LEASE
    {
        table.error(
            Complaint::new(format!(
                "a lease of {lease:?} is less than {LEAST_TICKS_IN_LEASE} ticks of {tick:?}, so \
                 a few lost messages would end it"
            ))
            .suggest(format!(
                "write `lease = \"{:?}\"` or more",
                tick * LEAST_TICKS_IN_LEASE
            )),
        );
    }
    table.finish();
    Some(Timing {
        tick: tick?,
        lease: lease?,
    })
}

fn xdp(root: &mut Table<'_>, overrides: &Overrides) -> Option<XdpSettings> {
    let mut table = root.table_or_empty("xdp")?;
    let in_file = match table.optional("mode") {
        Some(value) => value.one_of(&[("native", XdpMode::Native), ("generic", XdpMode::Generic)]),
        None => Some(XdpMode::Native),
    };
    let bpffs = path(
        table.optional("bpffs"),
        overrides.bpffs.as_ref(),
        DEFAULT_BPFFS,
    );
    let limit_slots = match table.optional("limit_slots") {
        Some(value) => value.integer(2..=maps::MAX_SLOTS as u64),
        None => Some(u64::from(Sizes::default().limit_slots)),
    };
    let table_slots = match table.optional("table_slots") {
        Some(value) => power_of_two(&value, maps::MIN_KEY_SLOTS..=maps::MAX_KEY_SLOTS),
        None => Some(u64::from(Sizes::default().key_slots)),
    };
    table.finish();
    Some(XdpSettings {
        mode: overrides.xdp_mode.or(in_file)?,
        bpffs: bpffs?,
        sizes: Sizes {
            limit_slots: u32::try_from(limit_slots?).ok()?,
            key_slots: u32::try_from(table_slots?).ok()?,
        },
    })
}

fn power_of_two(value: &Value<'_>, bounds: RangeInclusive<usize>) -> Option<u64> {
    let found = value.integer(*bounds.start() as u64..=*bounds.end() as u64)?;
    if !found.is_power_of_two() {
        value.error(
            Complaint::new(format!("{found} is no power of two"))
                .suggest(format!("write {}", found.next_power_of_two())),
        );
        return None;
    }
    Some(found)
}

/// The ports that a node needs to reach its fleet.
fn coordination_ports(coordinator: Option<&Coordinator>) -> Vec<(u16, &'static str)> {
    let Some(Coordinator::ZooKeeper(FleetSettings {
        zookeeper, grpc, ..
    })) = coordinator
    else {
        return Vec::new();
    };
    let port = |server: &str| server.rsplit_once(':')?.1.parse().ok();
    let mut ports: Vec<(u16, &'static str)> = zookeeper
        .servers
        .split('/')
        .take(1)
        .flat_map(|servers| servers.split(','))
        .filter_map(port)
        .map(|port| (port, "ZooKeeper"))
        .chain([(grpc.listen.port(), "gRPC")])
        .chain(port(&grpc.advertise).map(|port| (port, "gRPC")))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

pub(super) fn path(
    value: Option<Value<'_>>,
    instead: Option<&PathBuf>,
    default: &str,
) -> Option<PathBuf> {
    let in_file = match value {
        Some(value) => value.parsed(|text| {
            if text.starts_with('/') {
                Ok(PathBuf::from(text))
            } else {
                Err(Complaint::new(format!(
                    "\"{}\" is not an absolute path",
                    text.escape_debug()
                ))
                .suggest("begin it with /"))
            }
        }),
        None => Some(PathBuf::from(default)),
    };
    instead.cloned().or(in_file)
}

fn duration(
    value: Option<Value<'_>>,
    default: Duration,
    bounds: RangeInclusive<Duration>,
) -> Option<Duration> {
    let Some(value) = value else {
        return Some(default);
    };
    value.parsed(|text| {
        let duration = quantity::duration(text)?;
        if bounds.contains(&duration) {
            Ok(duration)
        } else {
            Err(Complaint::new(format!(
                "{duration:?} is out of bounds, expected {:?} to {:?}",
                bounds.start(),
                bounds.end()
            )))
        }
    })
}

/// What a flag or a fact of the host gives; a complaint about it is noted at the table.
fn accepted<T>(table: &Table<'_>, origin: &str, read: Result<T, Complaint>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(complaint) => {
            let message = format!("{origin}: {}", complaint.message);
            table.error(Complaint {
                message,
                ..complaint
            });
            None
        }
    }
}
