//! An ensemble of ZooKeeper servers of one's own, gone when it is dropped.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use super::server::{Options, ZooKeeperServer, free_port};

/// How long an ensemble may take to have a leader.
const LED_DEADLINE: Duration = Duration::from_secs(30);
/// The pause between two looks at whether it has.
const LED_POLL: Duration = Duration::from_millis(25);

/// Servers on the loopback that know each other. Each can be killed, paused and started again.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<ZooKeeperServer>,
}

impl Ensemble {
    /// Starts `count` servers and waits until each of them serves.
    ///
    /// # Errors
    ///
    /// That one could not be started, or that they have no leader in time.
    pub fn start(count: usize, options: &Options) -> io::Result<Self> {
        let mut settings = vec!["initLimit=50".to_owned(), "syncLimit=20".to_owned()];
        for number in 1..=count {
            let (peers, election) = (free_port()?, free_port()?);
            settings.push(format!("server.{number}=127.0.0.1:{peers}:{election}"));
        }
        let mut servers = Vec::with_capacity(count);
        for number in 1..=count {
            let mut server = ZooKeeperServer::stopped(Options {
                settings: settings.clone(),
                number: Some(number),
                ..options.clone()
            })?;
            server.restart()?;
            servers.push(server);
        }
        let ensemble = Self { servers };
        for server in 0..count {
            ensemble.wait_until_serving(server)?;
        }
        Ok(ensemble)
    }

    /// `host:port` of each, separated by commas.
    #[must_use]
    pub fn connect_string(&self) -> String {
        let servers = self.servers.iter().map(ZooKeeperServer::connect_string);
        servers.collect::<Vec<_>>().join(",")
    }

    /// Which server leads the others.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let leads = |server: &ZooKeeperServer| server.mode().as_deref() == Some("leader");
        self.servers.iter().position(leads)
    }

    /// One of them.
    #[must_use]
    pub fn server(&self, server: usize) -> &ZooKeeperServer {
        &self.servers[server]
    }

    /// Kills a server at once.
    pub fn kill(&mut self, server: usize) {
        self.servers[server].kill();
    }

    /// Starts a server again, with its data, whether it then serves or not.
    ///
    /// # Errors
    ///
    /// That it could not be started.
    pub fn restart(&mut self, server: usize) -> io::Result<()> {
        self.servers[server].restart()
    }

    /// Waits until a server has a leader, or is one.
    ///
    /// # Errors
    ///
    /// That it has none in time.
    pub fn wait_until_serving(&self, server: usize) -> io::Result<()> {
        let by = Instant::now() + LED_DEADLINE;
        while self.servers[server].mode().is_none() {
            if Instant::now() > by {
                let waited = format!("server {server} does not serve after {LED_DEADLINE:?}");
                return Err(io::Error::other(waited));
            }
            thread::sleep(LED_POLL);
        }
        Ok(())
    }
}
