//! Where the fleet's ZooKeeper is, and how to speak to it.

use std::{fmt, time::Duration};

use thiserror::Error;
use zookeeper_client::{Acls, TlsOptions};

/// The parent of all fleets.
pub(super) const PARENT: &str = "/weir";
/// The longest fleet name.
pub const FLEET_NAME_MAX: usize = 63;
/// The session timeout unless configured: the server deletes a dead node's candidacy after it.
pub const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(4);

/// Where the fleet's ZooKeeper is, and how to speak to it.
#[derive(Clone, Debug)]
pub struct Settings {
    servers: String,
    fleet: String,
    session_timeout: Duration,
    credentials: Option<Credentials>,
    tls: Option<Tls>,
}

/// Why [`Settings::new`] refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// There is no server in the list.
    #[error("no ZooKeeper server is named: write `host:port`, more of them separated by commas")]
    NoServers,
    /// The fleet's name does not make a znode's name.
    #[error("fleet name {0:?}: use 1 to {FLEET_NAME_MAX} of a-z, 0-9 and `-`")]
    FleetName(String),
    /// A certificate or key is none.
    #[error("TLS to ZooKeeper: {0}")]
    Tls(String),
}

impl Settings {
    /// The fleet `fleet` on `servers`, which are `host:port` separated by commas.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] names what is malformed.
    pub fn new(servers: &str, fleet: &str) -> Result<Self, SettingsError> {
        if servers.split(',').any(|server| server.trim().is_empty()) {
            return Err(SettingsError::NoServers);
        }
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if fleet.is_empty() || fleet.len() > FLEET_NAME_MAX || !fleet.chars().all(legal) {
            return Err(SettingsError::FleetName(fleet.to_owned()));
        }
        Ok(Self {
            servers: servers.to_owned(),
            fleet: fleet.to_owned(),
            session_timeout: SESSION_TIMEOUT_DEFAULT,
            credentials: None,
            tls: None,
        })
    }

    /// With another session timeout. The server clamps it, by default to 2 to 20 of its ticks.
    #[must_use]
    pub fn with_session_timeout(mut self, session_timeout: Duration) -> Self {
        self.session_timeout = session_timeout;
        self
    }

    /// With credentials: every znode then admits nobody who does not have them.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Over TLS, and to no server that cannot show a certificate for its name.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// `host:port`, separated by commas.
    #[must_use]
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// The session timeout that is asked for.
    #[must_use]
    pub fn session_timeout(&self) -> Duration {
        self.session_timeout
    }

    /// The path of the fleet's root znode.
    #[must_use]
    pub fn root(&self) -> String {
        format!("{PARENT}/{}", self.fleet)
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The ACL of every znode that Weir makes: ZooKeeper does not inherit them.
    pub(super) fn acls(&self) -> Acls<'static> {
        match self.credentials {
            Some(_) => Acls::creator_all(),
            None => Acls::anyone_all(),
        }
    }
}

/// Whom to trust, and who one is. Keys are never printed.
#[derive(Clone)]
pub struct Tls {
    options: TlsOptions,
}

impl Tls {
    /// Trusts the authorities in `ca`, and shows a certificate with its key if there is one: all as
    /// PEM.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Tls`] if one of them is none.
    pub fn new(ca: &str, identity: Option<(&str, &str)>) -> Result<Self, SettingsError> {
        let refused = |error: zookeeper_client::Error| SettingsError::Tls(error.to_string());
        let mut options = TlsOptions::new().with_pem_ca(ca).map_err(refused)?;
        if let Some((certificate, key)) = identity {
            options = options
                .with_pem_identity(certificate, key)
                .map_err(refused)?;
        }
        Ok(Self { options })
    }

    pub(super) fn options(&self) -> TlsOptions {
        self.options.clone()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Name and password for ZooKeeper's `digest` scheme. The password is never printed.
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// The credentials of `user`.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
        }
    }

    pub(super) fn to_auth(&self) -> Vec<u8> {
        format!("{}:{}", self.user, self.password).into_bytes()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_znode_are_refused() {
        for fleet in ["", "a/b", "UPPER", "..", "under_score", &"x".repeat(64)] {
            let refused = Settings::new("127.0.0.1:2181", fleet);
            assert_eq!(
                refused.err(),
                Some(SettingsError::FleetName(fleet.to_owned()))
            );
        }
        assert_eq!(
            Settings::new("h:1,,h:2", "edge").err(),
            Some(SettingsError::NoServers)
        );
        assert_eq!(
            Settings::new("h:1", "edge-1").unwrap().root(),
            "/weir/edge-1"
        );
    }

    #[test]
    fn the_password_is_not_printed() {
        let credentials = Credentials::new("weir", "hunter2");
        let settings = Settings::new("h:1", "edge")
            .unwrap()
            .with_credentials(credentials);
        let printed = format!("{settings:?}");
        assert!(
            printed.contains("weir") && !printed.contains("hunter2"),
            "{printed}"
        );
    }
}
