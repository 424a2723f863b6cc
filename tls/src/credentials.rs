//! Certificates and keys from files that may be rotated.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use thiserror::Error;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tracing::{info, warn};

use crate::{
    identity::{Expected, Identity, IdentityError},
    verify::NodeVerifier,
};

/// Files are looked at again when a connection is made, and not more often than this.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// What is spoken over it.
const ALPN: &[u8] = b"h2";
/// To those who are asked for no certificate: browsers, and whoever scrapes metrics.
const ALPN_HTTP: &[u8] = b"http/1.1";
/// Bits of a file's mode that let everybody read or write it.
const FOR_EVERYBODY: u32 = 0o006;

/// Which files hold whom to trust, and who one is: all of PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the fleet's authority; of two while one takes over from the other. `None` to
    /// ask nobody for a certificate, and to connect to nobody.
    pub ca: Option<PathBuf>,
    /// The own certificate, and those between it and the authority's.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why files are of no use.
#[derive(Debug, Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// There is no such thing in it.
    #[error("{path} has no {expected} as PEM")]
    Missing {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        expected: &'static str,
    },
    /// The certificate says nothing about who shows it.
    #[error("{path} cannot be used: {source}")]
    Identity {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
    /// They do not fit each other.
    #[error("{certificate} and {key} cannot be used: {source}")]
    Misfit {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What TLS says.
        source: rustls::Error,
    },
    /// The authority is none.
    #[error("{path} is no authority: {reason}")]
    Authority {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Whom to trust, and who one is. Clones share what is read again. Keys are never printed.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
}

struct Shared {
    files: TlsFiles,
    state: Mutex<State>,
}

struct State {
    current: Arc<Loaded>,
    seen: [Option<Stamp>; 3],
    looked: Instant,
}

/// What tells a file from the one that was there before.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// What was in the files at one time.
pub(crate) struct Loaded {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    identity: Identity,
    server: Arc<ServerConfig>,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the file, and what is wrong with it.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let seen = stamps(&files);
        let current = Arc::new(Loaded::read(&files)?);
        if let Ok(found) = fs::metadata(&files.key)
            && found.mode() & FOR_EVERYBODY != 0
        {
            warn!(key = %files.key.display(), "everybody may read this key; `chmod o= FILE`");
        }
        let looked = Instant::now();
        let state = Mutex::new(State {
            current,
            seen,
            looked,
        });
        let shared = Arc::new(Shared { files, state });
        Ok(Self { shared })
    }

    /// Who one is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.current().identity
    }

    /// The files that this process could not read again: it would not notice their rotation.
    #[must_use]
    pub fn unreadable(&self) -> Vec<&Path> {
        let TlsFiles {
            ca,
            certificate,
            key,
        } = &self.shared.files;
        [ca.as_ref(), Some(certificate), Some(key)]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .filter(|path| fs::File::open(path).is_err())
            .collect()
    }

    /// Whether peers have to show a certificate.
    pub(crate) fn is_mutual(&self) -> bool {
        self.shared.files.ca.is_some()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current().server.clone())
    }

    pub(crate) fn connector(&self, expected: Expected) -> Result<TlsConnector, rustls::Error> {
        self.current().connector(expected)
    }

    /// What is in the files. What has changed and cannot be used is reported once, and what was
    /// there before goes on being used.
    pub(crate) fn current(&self) -> Arc<Loaded> {
        self.current_at(Instant::now())
    }

    fn current_at(&self, now: Instant) -> Arc<Loaded> {
        // A panic while it is held leaves what was there before.
        let state = self.shared.state.lock();
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.looked) < LOOK_AGAIN {
            return state.current.clone();
        }
        state.looked = now;
        let files = &self.shared.files;
        let seen = stamps(files);
        if seen != state.seen {
            state.seen = seen;
            let certificate = files.certificate.display();
            match Loaded::read(files) {
                Ok(loaded) if loaded.identity == state.current.identity => {
                    info!(%certificate, "certificates were rotated; new connections use them");
                    state.current = Arc::new(loaded);
                }
                Ok(loaded) => warn!(
                    %certificate,
                    found = ?loaded.identity,
                    expected = ?state.current.identity,
                    "the new certificate is somebody else's; the old one goes on being used"
                ),
                Err(error) => warn!(
                    %error,
                    "the new certificates cannot be used; the old ones go on being used"
                ),
            }
        }
        state.current.clone()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("files", &self.shared.files)
            .finish_non_exhaustive()
    }
}

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 3] {
    let files = [
        files.ca.as_ref(),
        Some(&files.certificate),
        Some(&files.key),
    ];
    files.map(|path| {
        let found = fs::metadata(path?).ok()?;
        Some(Stamp {
            modified: found.modified().ok(),
            length: found.len(),
            inode: found.ino(),
        })
    })
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let authority = |reason: String| TlsError::Authority {
            path: files.ca.clone().unwrap_or_default(),
            reason,
        };
        if let Some(ca) = &files.ca {
            for certificate in certificates(ca)? {
                let added = roots.add(certificate);
                added.map_err(|error| authority(error.to_string()))?;
            }
        }
        let roots = Arc::new(roots);
        let chain = certificates(&files.certificate)?;
        let first = chain.first().ok_or_else(|| TlsError::Missing {
            path: files.certificate.clone(),
            expected: "certificate",
        })?;
        let identity = match &files.ca {
            Some(_) => Identity::of(first).map_err(|source| TlsError::Identity {
                path: files.certificate.clone(),
                source,
            })?,
            None => Identity::default(),
        };
        let text = read(&files.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::Missing {
            path: files.key.clone(),
            expected: "private key",
        })?;
        let misfit = |source: rustls::Error| TlsError::Misfit {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(misfit)?;
        let (builder, alpn) = if files.ca.is_some() {
            let trusted = roots.clone();
            let clients = WebPkiClientVerifier::builder_with_provider(trusted, provider.clone())
                .build()
                .map_err(|error| authority(error.to_string()))?;
            (builder.with_client_cert_verifier(clients), ALPN)
        } else {
            (builder.with_no_client_auth(), ALPN_HTTP)
        };
        let mut server = builder
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(misfit)?;
        server.alpn_protocols = vec![alpn.to_vec()];
        // A ticket would let in who has no valid certificate any more.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            provider,
            roots,
            chain,
            key,
            identity,
            server: Arc::new(server),
        })
    }

    fn connector(&self, expected: Expected) -> Result<TlsConnector, rustls::Error> {
        let verifier = NodeVerifier {
            roots: self.roots.clone(),
            expected,
            algorithms: self.provider.signature_verification_algorithms,
        };
        let mut client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(TlsConnector::from(Arc::new(client)))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Missing {
            path: path.to_owned(),
            expected: "certificate",
        }),
    }
}

#[cfg(test)]
mod tests {
    use weir_model::NodeId;

    use super::*;
    use crate::issue::{Authority, Subject};

    const DAY: Duration = Duration::from_secs(86_400);

    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }

        fn files(&self) -> TlsFiles {
            let path = |name| self.0.path().join(name);
            TlsFiles {
                ca: Some(path("ca.pem")),
                certificate: path("node.pem"),
                key: path("node.key"),
            }
        }

        fn issue(&self, authority: &Authority, node: u128) {
            let subject = Subject::Node(NodeId::from_u128(node));
            let issued = authority
                .issue(subject, "node", DAY)
                .expect("a certificate");
            let files = self.files();
            let ca = files.ca.expect("there is one");
            fs::write(ca, authority.certificate()).expect("written");
            fs::write(files.certificate, issued.certificate).expect("written");
            fs::write(files.key, issued.key).expect("written");
        }
    }

    fn later(credentials: &Credentials, times: u32) -> Arc<Loaded> {
        credentials.current_at(Instant::now() + LOOK_AGAIN * times)
    }

    #[test]
    fn rotated_files_are_used_and_broken_ones_are_not() {
        let directory = Directory::new();
        let authority = Authority::create(DAY).expect("an authority");
        directory.issue(&authority, 1);
        let credentials = Credentials::load(directory.files()).expect("files of use");
        let first = later(&credentials, 1);
        directory.issue(&authority, 1);
        let early = credentials.current_at(Instant::now());
        assert!(Arc::ptr_eq(&early, &first), "not looked at before its time");
        let second = later(&credentials, 3);
        assert_ne!(second.chain, first.chain);
        // Half a rotation: the key is not the certificate's.
        let kept = fs::read(directory.files().key).expect("the key");
        directory.issue(&authority, 1);
        fs::write(directory.files().key, &kept).expect("written");
        assert!(Arc::ptr_eq(&later(&credentials, 5), &second));
        // Another node's.
        directory.issue(&authority, 2);
        assert!(Arc::ptr_eq(&later(&credentials, 7), &second));
        fs::remove_file(directory.files().certificate).expect("removed");
        assert!(Arc::ptr_eq(&later(&credentials, 9), &second));
        directory.issue(&authority, 1);
        assert!(!Arc::ptr_eq(&later(&credentials, 11), &second));
    }

    #[test]
    fn files_of_no_use_are_named() {
        let directory = Directory::new();
        let authority = Authority::create(DAY).expect("an authority");
        directory.issue(&authority, 1);
        let load = || {
            let refused = Credentials::load(directory.files()).err();
            refused.expect("refused").to_string()
        };
        let files = directory.files();
        fs::write(&files.key, "no key").expect("written");
        assert!(load().contains("node.key has no private key"), "{}", load());
        fs::write(&files.certificate, authority.certificate()).expect("written");
        assert!(load().contains("no URI name"), "{}", load());
        fs::remove_file(files.ca.as_ref().expect("there is one")).expect("removed");
        assert!(load().contains("ca.pem"), "{}", load());
    }

    #[test]
    fn the_key_is_not_printed() {
        let directory = Directory::new();
        directory.issue(&Authority::create(DAY).expect("an authority"), 1);
        let credentials = Credentials::load(directory.files()).expect("files of use");
        let key = fs::read_to_string(directory.files().key).expect("the key");
        let canary = key.lines().nth(1).expect("its middle");
        let printed = format!("{credentials:?}");
        assert!(printed.contains("node.key") && !printed.contains(canary));
    }
}
