//! Node files, good and bad.

use std::{path::Path, time::Duration};

use super::*;

fn host() -> Host {
    Host {
        machine_id: Some("5f6ac2c0a1d14c3f9a2b7c8d9e0f1a2b\n".to_owned()),
        name: Some("edge-1".to_owned()),
        account,
    }
}

/// The users of this host.
fn account(name: &str) -> Option<Account> {
    let users = [("root", 0), ("weir", 981), ("limiter", 982)];
    let (_, number) = users.into_iter().find(|(user, _)| *user == name)?;
    Some(Account {
        name: name.to_owned(),
        uid: number,
        gid: number,
    })
}

fn said(text: &str) -> Vec<String> {
    let outcome = check(text, &host(), &Overrides::default());
    assert!(outcome.value.is_none(), "accepted: {text}");
    outcome.problems.iter().map(ToString::to_string).collect()
}

const FULL: &str = r#"
fleet = "demo"
interfaces = ["eth0", "eth1"]
state_dir = "/tmp/node1"
management = [{ ports = [22, 2181, 7946], from = ["198.18.0.0/24"] }]
[node]
id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
name = "host1"
weight = 3
user = "limiter"
leave_on_stop = false
[admin]
socket = "/tmp/node1/node.sock"
[coordinator]
kind = "zookeeper"
commit = "zookeeper"
[zookeeper]
servers = "198.18.0.10:2181"
session_timeout = "1s"
auth = { user = "weir", password_file = "/etc/weir/secret" }
tls = { ca_file = "/etc/weir/ca.pem", certificate_file = "/etc/weir/node.pem", key_file = "/etc/weir/node.key" }
[grpc]
listen = "198.18.1.1:7946"
advertise = "host1.example.net:7946"
tls = { ca_file = "/etc/weir/fleet-ca.pem", certificate_file = "/etc/weir/fleet.pem", key_file = "/etc/weir/fleet.key" }
[timing]
tick = "50ms"
lease = "1s"
[xdp]
mode = "generic"
bpffs = "/tmp/bpf"
table_slots = 65536
limit_slots = 1000
[http]
listen = "127.0.0.1:9600"
"#;

/// The least that a fleet's node needs, on lines 1 to 7.
const LEAST: &str = "fleet = \"edge\"\ninterfaces = [\"eth0\"]\n\
                     management = [{ ports = [\"1-65535\"], from = [\"::/0\"] }]\n\
                     [zookeeper]\nservers = \"zk1,zk2:2182,2001:db8::1\"\n\
                     [grpc]\nlisten = \"192.0.2.1:7946\"\n";

#[test]
fn every_key_is_read() {
    let outcome = check(FULL, &host(), &Overrides::default());
    assert_eq!(outcome.problems, []);
    let config = outcome.value.unwrap();
    assert_eq!(config.fleet, "demo");
    assert_eq!(config.interfaces, ["eth0", "eth1"]);
    assert_eq!(config.state_dir, Path::new("/tmp/node1"));
    assert_eq!(config.management.len(), 1);
    assert_eq!(config.management[0].ports.len(), 3);
    assert_eq!(
        config.management[0].from,
        ["198.18.0.0/24".parse().unwrap()]
    );
    assert_eq!(
        config.node,
        NodeSettings {
            id: NodeId("6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap()),
            name: "host1".to_owned(),
            weight: 3,
            user: account("limiter"),
        }
    );
    assert_eq!(config.admin_socket, Path::new("/tmp/node1/node.sock"));
    let expected = Coordinator::ZooKeeper(FleetSettings {
        commit: CommitBy::ZooKeeper,
        zookeeper: ZooKeeperSettings {
            servers: "198.18.0.10:2181".to_owned(),
            session_timeout: Duration::from_secs(1),
            auth: Some(ZooKeeperAuth {
                user: "weir".to_owned(),
                password_file: "/etc/weir/secret".into(),
            }),
            tls: Some(ZooKeeperTls {
                ca_file: "/etc/weir/ca.pem".into(),
                identity: Some(("/etc/weir/node.pem".into(), "/etc/weir/node.key".into())),
            }),
        },
        grpc: GrpcSettings {
            listen: "198.18.1.1:7946".parse().unwrap(),
            advertise: "host1.example.net:7946".to_owned(),
            tls: Some(weir_tls::TlsFiles {
                ca: Some("/etc/weir/fleet-ca.pem".into()),
                certificate: "/etc/weir/fleet.pem".into(),
                key: "/etc/weir/fleet.key".into(),
            }),
        },
    });
    assert_eq!(config.coordinator, expected);
    let timing = Timing {
        tick: Duration::from_millis(50),
        lease: Duration::from_secs(1),
    };
    assert_eq!(config.timing, timing);
    assert_eq!(config.xdp.mode, XdpMode::Generic);
    assert_eq!(config.xdp.bpffs, Path::new("/tmp/bpf"));
    let sizes = Sizes {
        limit_slots: 1_000,
        key_slots: 65_536,
    };
    assert_eq!(config.xdp.sizes, sizes);
    let http = config.http.map(|http| http.listen);
    assert_eq!(http, "127.0.0.1:9600".parse().ok());
}

#[test]
fn the_examples_are_good() {
    for text in [
        include_str!("../../../deploy/examples/node.toml"),
        include_str!("../../../deploy/examples/one-host/node.toml"),
        include_str!("../../../deploy/examples/five-hosts/node.toml"),
        include_str!("../../../deploy/examples/fifty-hosts/node-a.toml"),
        include_str!("../../../deploy/examples/fifty-hosts/node-b.toml"),
        include_str!("../../../deploy/examples/fifty-hosts/node-c.toml"),
    ] {
        let outcome = check(text, &host(), &Overrides::default());
        assert_eq!(outcome.problems, [], "{text}");
    }
}

#[test]
fn the_manifest_is_good() {
    let text = in_manifest(include_str!("../../../deploy/kubernetes/weir.yaml"));
    // As the manifest's environment says.
    let overrides = Overrides {
        grpc_advertise: Some("192.0.2.21:7946".to_owned()),
        ..Overrides::default()
    };
    assert_eq!(check(&text, &host(), &overrides).problems, [], "{text}");
}

/// The node file in the manifest's ConfigMap.
fn in_manifest(manifest: &str) -> String {
    let lines = manifest
        .lines()
        .skip_while(|line| *line != "  node.toml: |");
    let block = lines.skip(1).take_while(|line| *line != "---");
    block
        .map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned() + "\n")
        .collect()
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = parse(LEAST, &host(), &Overrides::default()).unwrap();
    assert_eq!(config.state_dir, Path::new(DEFAULT_STATE_DIR));
    assert_eq!(config.admin_socket, Path::new(DEFAULT_SOCKET));
    assert_eq!(
        (config.timing.tick, config.timing.lease),
        (DEFAULT_TICK, DEFAULT_LEASE)
    );
    assert_eq!((config.xdp.mode, config.http), (XdpMode::Native, None));
    assert_eq!(
        (config.node.name.as_str(), config.node.weight),
        ("edge-1", 1)
    );
    assert_eq!(config.node.user, None);
    let Coordinator::ZooKeeper(FleetSettings {
        commit,
        zookeeper,
        grpc,
    }) = config.coordinator
    else {
        panic!("the default coordinator is ZooKeeper")
    };
    assert_eq!(commit, CommitBy::Quorum);
    assert_eq!(zookeeper.servers, "zk1:2181,zk2:2182,[2001:db8::1]:2181");
    assert_eq!(zookeeper.session_timeout, DEFAULT_SESSION_TIMEOUT);
    assert_eq!(grpc.advertise, "192.0.2.1:7946");
}

#[test]
fn an_embedded_coordinator_needs_an_interface_only() {
    let text = "interfaces = [\"eth0\"]\n[coordinator]\nkind = \"embedded\"\n";
    let config = parse(text, &host(), &Overrides::default()).unwrap();
    assert_eq!(
        (config.fleet.as_str(), config.coordinator),
        ("local", Coordinator::Embedded)
    );
}

#[test]
fn a_fleet_may_live_below_a_path() {
    let text = LEAST.replace("2001:db8::1\"", "zk3/some/where\"");
    let config = parse(&text, &host(), &Overrides::default()).unwrap();
    let Coordinator::ZooKeeper(fleet) = config.coordinator else {
        panic!("{:?}", config.coordinator)
    };
    assert_eq!(
        fleet.zookeeper.servers,
        "zk1:2181,zk2:2182,zk3:2181/some/where"
    );
    let text = LEAST.replace("2001:db8::1\"", "zk3/some//where/\"");
    let problems = parse(&text, &host(), &Overrides::default()).unwrap_err();
    assert!(problems[0].to_string().contains("is no path of a znode"));
}

#[test]
fn a_certificate_and_its_key_go_together() {
    let with = |tls: &str| LEAST.replace("servers", &format!("tls = {{ {tls} }}\nservers"));
    let alone = with("ca_file = \"/ca.pem\", key_file = \"/node.key\"");
    let problems = parse(&alone, &host(), &Overrides::default()).unwrap_err();
    assert!(
        problems[0]
            .to_string()
            .contains("go together; name both, or neither"),
        "{problems:?}"
    );
    assert!(parse(&with(""), &host(), &Overrides::default()).is_err());
    let good = with("ca_file = \"/ca.pem\"");
    assert!(parse(&good, &host(), &Overrides::default()).is_ok());
}

#[test]
fn an_embedded_coordinator_has_nothing_to_commit_by() {
    let text = "interfaces = [\"eth0\"]\n[coordinator]\nkind = \"embedded\"\ncommit = \"quorum\"\n";
    let problems = parse(text, &host(), &Overrides::default()).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "4:1: error: `commit` with the embedded coordinator, which has nobody to ask; remove it"
    );
}

#[test]
fn an_identity_is_stable_and_hides_the_machine_id() {
    let machine = "5f6ac2c0a1d14c3f9a2b7c8d9e0f1a2b";
    let id = id_of_machine(machine);
    assert_eq!(id, id_of_machine(&format!("{machine}\n")));
    assert_ne!(id, id_of_machine("5f6ac2c0a1d14c3f9a2b7c8d9e0f1a2c"));
    assert_eq!(id.0.get_version_num(), 5);
    assert!(!id.to_string().replace('-', "").contains(&machine[..8]));
    let config = parse(LEAST, &host(), &Overrides::default()).unwrap();
    assert_eq!(config.node.id, id);
}

#[test]
fn a_flag_goes_before_the_file() {
    let overrides = Overrides {
        fleet: Some("other".to_owned()),
        interfaces: vec!["eth9".to_owned()],
        state_dir: Some("/other".into()),
        name: Some("other".to_owned()),
        admin_socket: Some("/other.sock".into()),
        zookeeper: Some("other:1".to_owned()),
        grpc_listen: "192.0.2.9:1".parse().ok(),
        grpc_advertise: Some("other:2".to_owned()),
        http_listen: "127.0.0.9:3".parse().ok(),
        xdp_mode: Some(XdpMode::Native),
        bpffs: Some("/other/bpf".into()),
    };
    for text in [FULL, "management = [{ ports = [22], from = [\"::/0\"] }]\n"] {
        let config = parse(text, &host(), &overrides).unwrap();
        assert_eq!(
            (config.fleet.as_str(), config.node.name.as_str()),
            ("other", "other")
        );
        assert_eq!(config.interfaces, ["eth9"]);
        assert_eq!(config.state_dir, Path::new("/other"));
        assert_eq!(config.admin_socket, Path::new("/other.sock"));
        let http = config.http.map(|http| http.listen);
        assert_eq!(http, overrides.http_listen);
        assert_eq!(config.xdp.mode, XdpMode::Native);
        assert_eq!(config.xdp.bpffs, Path::new("/other/bpf"));
        let Coordinator::ZooKeeper(FleetSettings {
            zookeeper, grpc, ..
        }) = config.coordinator
        else {
            panic!("{:?}", config.coordinator)
        };
        assert_eq!(zookeeper.servers, "other:1");
        assert_eq!(Some(grpc.listen), overrides.grpc_listen);
        assert_eq!(grpc.advertise, "other:2");
    }
    let wrong = Overrides {
        fleet: Some("A B".to_owned()),
        ..Overrides::default()
    };
    let problems = parse(LEAST, &host(), &wrong).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "1:1: error: --fleet: \"A B\" is not a name: 1 to 63 of a-z, 0-9 and -"
    );
}

#[test]
fn bypasses_and_lock_outs_are_warned_of() {
    let warnings = |text: &str| -> Vec<String> {
        let outcome = check(text, &host(), &Overrides::default());
        assert!(outcome.value.is_some(), "{:?}", outcome.problems);
        outcome.problems.iter().map(ToString::to_string).collect()
    };
    let rest = "[zookeeper]\nservers = \"zk1\"\n[grpc]\nlisten = \"192.0.2.1:7946\"\n";
    let with = |management: &str| {
        format!("fleet = \"edge\"\ninterfaces = [\"eth0\"]\n{management}\n{rest}")
    };
    assert_eq!(
        warnings(&with("")),
        [
            "1:1: warning: no `management`: SSH, BGP, BFD and the fleet's own ports pass from any source, which whoever forges such a port can use to bypass every limit; add `management = [{ ports = [22], from = [\"…\"] }]`"
        ]
    );
    let config = parse(&with(""), &host(), &Overrides::default()).unwrap();
    let ports: Vec<u16> = config.management[0]
        .ports
        .iter()
        .map(|range| range.first)
        .collect();
    assert_eq!(ports, [22, 179, 2181, 3784, 3785, 4784, 6784, 7946]);
    assert_eq!(
        warnings(&with("management = [{ ports = [22, 2181] }]")),
        [
            "3:14: warning: no entry has port 7946 (gRPC): a broad limit would cut this node off; add it",
            "3:15: warning: an entry without `from` passes whoever forges its ports; name the prefixes that managers are in",
        ]
    );
}

#[test]
fn each_key_has_its_errors() {
    let top = |line: &str| format!("{line}\n{LEAST}");
    let end = |lines: &str| format!("{LEAST}{lines}\n");
    for (text, expected) in [
        (
            top("colour = 1"),
            "1:1: error: unknown key `colour`; known here: coordinator, fleet, interfaces, state_dir, node, admin, zookeeper, grpc, timing, xdp, http, otlp, management",
        ),
        (
            LEAST.replace("fleet", "flet"),
            "1:1: error: unknown key `flet`; did you mean `fleet`?",
        ),
        (
            LEAST.replace("edge", "Edge"),
            "1:9: error: \"Edge\" is not a name: 1 to 63 of a-z, 0-9 and -",
        ),
        (
            LEAST.replace("[\"eth0\"]", "[]"),
            "2:14: error: `interfaces` is empty, expected at least one",
        ),
        (
            LEAST.replace("[\"eth0\"]", "\"eth0\""),
            "2:14: error: `interfaces` is a string, expected a list, like [ … ]",
        ),
        (
            LEAST.replace("[\"eth0\"]", "[\"eth0\", \"eth0\"]"),
            "2:23: error: \"eth0\" is named twice; remove it",
        ),
        (
            LEAST.replace("eth0", "an interface"),
            "2:15: error: \"an interface\" is not an interface name: 1 to 15 bytes without space, / and :; `ip link` lists them",
        ),
        (
            LEAST.replace("zk1,", "zk1:x,"),
            "5:11: error: \"zk1:x\" is not a host and port; write it like \"zk1:2181\", \"192.0.2.1:2181\" or \"[2001:db8::1]:2181\"",
        ),
        (
            LEAST.replace("192.0.2.1:7946", "192.0.2.1"),
            "7:10: error: \"192.0.2.1\" is not an address and port; write it like \"192.0.2.1:7946\" or \"[2001:db8::1]:7946\"",
        ),
        (
            LEAST.replace("192.0.2.1:7946", "0.0.0.0:7946"),
            "6:1: error: [grpc] listens on every address (0.0.0.0:7946), so other nodes cannot be told one; add `advertise = \"ADDRESS:PORT\"`",
        ),
        (
            end("advertise = \"0.0.0.0:1\""),
            "8:13: error: \"0.0.0.0:1\" is every address, which nobody can connect to; write the address that other nodes reach this one at",
        ),
        (
            end("tls = true"),
            "8:7: error: `tls` is a truth value, expected a table",
        ),
        (
            end("[http]\nlisten = \"192.0.2.1:9600\""),
            "9:10: error: [http] listens on 192.0.2.1:9600, where others reach it, without `tls` and `token_file`; add both, or listen on 127.0.0.1, or write `insecure = true` on a network of its own",
        ),
        (
            end("[http]\nlisten = \"[::]:9600\"\ntoken_file = \"/etc/weir/token\""),
            "9:10: error: [http] listens on [::]:9600, where others reach it, without `tls` and `token_file`; add both, or listen on 127.0.0.1, or write `insecure = true` on a network of its own",
        ),
        (
            end("[timing]\ntick = \"fast\""),
            "9:8: error: \"fast\" is not a duration; write a duration like \"100ms\" or \"2s\"",
        ),
        (
            end("[timing]\ntick = \"1ms\""),
            "9:8: error: 1ms is out of bounds, expected 10ms to 10s",
        ),
        (
            end("[timing]\ntick = \"500ms\""),
            "8:1: error: a lease of 2s is less than 5 ticks of 500ms, so a few lost messages would end it; write `lease = \"2.5s\"` or more",
        ),
        (
            end("[xdp]\nmode = \"fast\""),
            "9:8: error: `mode` is \"fast\", expected \"native\" or \"generic\"",
        ),
        (
            end("[xdp]\ntable_slots = 5"),
            "9:15: error: `table_slots` is 5, expected 16 to 134217728",
        ),
        (
            end("[xdp]\ntable_slots = 1000"),
            "9:15: error: 1000 is no power of two; write 1024",
        ),
        (
            end("[xdp]\nlimit_slots = 200000"),
            "9:15: error: `limit_slots` is 200000, expected 2 to 131072",
        ),
        (
            end("[xdp]\nbpffs = \"bpf\""),
            "9:9: error: \"bpf\" is not an absolute path; begin it with /",
        ),
        (
            end("[http]\nlisten = 9600"),
            "9:10: error: `listen` is a whole number, expected a string",
        ),
        (
            end("[coordinator]\nkind = \"etcd\""),
            "9:8: error: `kind` is \"etcd\", expected \"zookeeper\" or \"embedded\"",
        ),
        (
            end("[coordinator]\ncommit = \"raft\""),
            "9:10: error: `commit` is \"raft\", expected \"quorum\" or \"zookeeper\"",
        ),
        (
            end("[node]\nid = \"1\""),
            "9:6: error: \"1\" is not a UUID; `uuidgen` makes one; remove the key to use one made from the machine id",
        ),
        (
            end("[node]\nweight = 0"),
            "9:10: error: `weight` is 0, expected 1 to 1000",
        ),
        (
            end("[node]\nuser = \"webster\""),
            "9:8: error: there is no user \"webster\" on this host; `useradd --system` makes one; remove the key to have one chosen",
        ),
        (
            end("[node]\nuser = \"root\""),
            "9:8: error: \"root\" is root, and what ticks needs no privilege; name another user, or remove the key to have one chosen",
        ),
        (
            end("[node]\nleave_on_stop = true"),
            "9:17: error: `leave_on_stop = true` is not supported yet; remove it",
        ),
        (
            end("[node]\nleave_on_stop = \"yes\""),
            "9:17: error: `leave_on_stop` is a string, expected true or false",
        ),
        (
            LEAST.replace("ports = [\"1-65535\"], ", ""),
            "3:15: error: [management] has no `ports`; add `ports = [22]`",
        ),
    ] {
        assert_eq!(said(&text), [expected], "{text}");
    }
    let long = format!("/{}", "x".repeat(107));
    assert_eq!(
        said(&end(&format!("[admin]\nsocket = \"{long}\""))),
        [
            "9:10: error: a unix socket's path has at most 107 bytes, this one has 108; use a shorter directory"
        ]
    );
}

#[test]
fn an_empty_file_is_told_all_that_is_missing() {
    let nothing_known = Host {
        machine_id: None,
        name: None,
        account: |_| None,
    };
    let outcome = check("", &nothing_known, &Overrides::default());
    let errors: Vec<String> = outcome
        .into_result()
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        errors,
        [
            "1:1: error: [grpc] has no `listen`; add `listen = \"192.0.2.1:7946\"`",
            "1:1: error: [zookeeper] has no `servers`; add `servers = \"zk1:2181,zk2:2181,zk3:2181\"`",
            "1:1: error: the file has no `fleet`; add `fleet = \"edge\"`",
            "1:1: error: the file has no `interfaces`; add `interfaces = [\"eth0\"]`",
            "1:1: error: the host has no /etc/machine-id to make an identity from; add `[node] id = \"…\"`, a UUID of its own for each host",
            "1:1: error: the host has no name; add `[node] name = \"…\"`",
        ]
    );
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_without_traces_says_so() {
    assert_eq!(
        said(&format!(
            "{LEAST}[otlp]\nendpoint = \"http://127.0.0.1:4317\"\n"
        )),
        [
            "8:2: error: [otlp] for a daemon that was built without the feature `otlp`; remove it, \
             or build with `--features otlp`"
        ]
    );
}
