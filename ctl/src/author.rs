//! Who uses this command, as far as the environment says: it is written down beside a change, and
//! shown as something that nobody has proved. Where there is TLS the certificate's name goes before it.

use std::{env, fs};

use weir_proto::admin::v1;

/// Most bytes that a daemon takes.
const BYTES_MAX: usize = 128;
/// Whoever became root to use this command, before root.
const USERS: [&str; 3] = ["SUDO_USER", "USER", "LOGNAME"];
const HOST: &str = "/proc/sys/kernel/hostname";

/// `user@host`; `None` if the environment says no user.
pub(crate) fn author() -> Option<v1::Author> {
    let user = USERS.iter().find_map(|name| {
        let user = env::var(name).ok()?;
        (!user.is_empty()).then_some(user)
    })?;
    let host = fs::read_to_string(HOST).unwrap_or_default();
    Some(v1::Author {
        name: named(&user, host.trim_end()),
        certified: false,
    })
}

/// What no daemon takes is shown as a question mark, and what is too long is cut.
fn named(user: &str, host: &str) -> String {
    let whole = match host {
        "" => user.to_owned(),
        host => format!("{user}@{host}"),
    };
    let is_plain = |found: char| found.is_alphanumeric() || "-_.+@\\$".contains(found);
    let mut name = String::new();
    for found in whole.chars() {
        let found = if is_plain(found) { found } else { '?' };
        if name.len() + found.len_utf8() > BYTES_MAX {
            break;
        }
        name.push(found);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_a_daemon_takes() {
        for (user, host, expected) in [
            ("ada", "laptop", "ada@laptop"),
            ("ada", "", "ada"),
            ("åsa", "edge-1.example.net", "åsa@edge-1.example.net"),
            ("a\x1b[2Jb", "h\no", "a??2Jb@h?o"),
            ("a\u{202e}b", "c", "a?b@c"),
        ] {
            assert_eq!(named(user, host), expected);
        }
        let long = named(&"å".repeat(100), "host");
        assert_eq!(long, "å".repeat(64));
    }
}
