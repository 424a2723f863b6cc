//! Hosts and ports.

use std::net::{Ipv6Addr, SocketAddr};

use weir_model::file::Complaint;

/// Most servers of an ensemble.
const MAX_SERVERS: usize = 16;
/// ZooKeeper's port unless said otherwise.
const ZOOKEEPER_PORT: u16 = 2181;

/// Servers with commas between, each with its port, and the path below which the fleet lives.
pub(super) fn servers(text: &str) -> Result<String, Complaint> {
    let (text, chroot) = match text.find('/') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let is_path = |part: &str| !part.is_empty() && !matches!(part, "." | "..");
    if !chroot.is_empty() && !chroot.split('/').skip(1).all(is_path) {
        return Err(Complaint::new(format!(
            "\"{}\" is no path of a znode",
            chroot.escape_debug()
        ))
        .suggest("write it like \"zk1:2181,zk2:2181/some/where\""));
    }
    let servers: Vec<&str> = text.split(',').map(str::trim).collect();
    if servers.len() > MAX_SERVERS {
        return Err(Complaint::new(format!(
            "{} servers, expected at most {MAX_SERVERS}",
            servers.len()
        )));
    }
    let mut complete = Vec::with_capacity(servers.len());
    for server in servers {
        let is_bare_v6 = server.parse::<Ipv6Addr>().is_ok();
        let has_port = !is_bare_v6 && !server.ends_with(']') && server.contains(':');
        let server = match (has_port, is_bare_v6) {
            (true, _) => server.to_owned(),
            (false, true) => format!("[{server}]:{ZOOKEEPER_PORT}"),
            (false, false) => format!("{server}:{ZOOKEEPER_PORT}"),
        };
        complete.push(host_and_port(&server)?);
    }
    Ok(complete.join(",") + chroot)
}

/// An address and port of this host.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        Complaint::new(format!(
            "\"{}\" is not an address and port",
            text.escape_debug()
        ))
        .suggest("write it like \"192.0.2.1:7946\" or \"[2001:db8::1]:7946\"")
    })
}

/// `host:port` that another host can connect to.
pub(super) fn reachable(text: &str) -> Result<String, Complaint> {
    let address = host_and_port(text)?;
    let unspecified = |address: SocketAddr| address.ip().is_unspecified();
    if text.parse().is_ok_and(unspecified) {
        return Err(Complaint::new(format!(
            "\"{text}\" is every address, which nobody can connect to"
        ))
        .suggest("write the address that other nodes reach this one at"));
    }
    Ok(address)
}

/// `host:port`, `address:port` or `[address]:port`, the port not 0.
pub(super) fn host_and_port(text: &str) -> Result<String, Complaint> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_name = |host: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !host.is_empty() && host.bytes().all(allowed)
        };
        let is_v6 = |host: &str| {
            host.strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
        };
        (is_name(host) || is_v6(host)) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if good {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!(
        "\"{}\" is not a host and port",
        text.escape_debug()
    ))
    .suggest("write it like \"zk1:2181\", \"192.0.2.1:2181\" or \"[2001:db8::1]:2181\""))
}
