//! A development authority, and certificates that it signs.
//!
//! It is for trying things out and for small fleets: the authority's key is a file. Any other
//! authority will do that puts the same URI names into its certificates.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use thiserror::Error;
use weir_model::NodeId;

use crate::identity::{Identity, Role};

/// Clocks of hosts differ a little, and a certificate is often used as soon as it is made.
const BACKDATED: Duration = Duration::from_secs(300);
/// The authority's name is the same for all: which one it is, its key says.
const AUTHORITY: &str = "Weir development authority";

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A daemon.
    Node(NodeId),
    /// Somebody with a role.
    Operator(Role),
}

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum IssueError {
    /// What is given as the authority is none.
    #[error("the authority cannot be used: {0}")]
    Authority(String),
    /// Certificate and key belong to different authorities.
    #[error("nobody would believe it: {0}; is the authority's key that of its certificate?")]
    NotVouched(String),
    /// Making it failed.
    #[error("cannot make a certificate: {0}")]
    Making(#[from] rcgen::Error),
}

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// What was issued, as PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// Makes one that lasts for `valid`.
    ///
    /// # Errors
    ///
    /// [`IssueError::Making`].
    pub fn create(valid: Duration) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = params_of_authority();
        set_validity(&mut params, valid);
        let certificate = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// Takes one from its files.
    ///
    /// # Errors
    ///
    /// [`IssueError::Authority`] if one of them is none.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IssueError> {
        let none = |error: &dyn std::fmt::Display| IssueError::Authority(error.to_string());
        CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|error| none(&error))?;
        let key = KeyPair::from_pem(key).map_err(|error| none(&error))?;
        Ok(Self {
            issuer: Issuer::new(params_of_authority(), key),
            certificate: certificate.to_owned(),
        })
    }

    /// Its certificate, as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, as PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Signs a certificate that lasts for `valid`. `name` is shown to people.
    ///
    /// # Errors
    ///
    /// [`IssueError`].
    pub fn issue(
        &self,
        subject: Subject,
        name: &str,
        valid: Duration,
    ) -> Result<Issued, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let uri = match subject {
            Subject::Node(node) => {
                params
                    .extended_key_usages
                    .push(ExtendedKeyUsagePurpose::ServerAuth);
                Identity::uri_of(node)
            }
            Subject::Operator(role) => role.uri().to_owned(),
        };
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(uri)?)];
        set_validity(&mut params, valid);
        let certificate = params.signed_by(&key, &self.issuer)?;
        self.vouches_for(certificate.der())?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Asks whoever will have to believe it.
    fn vouches_for(&self, certificate: &CertificateDer<'_>) -> Result<(), IssueError> {
        let refused = |error: &dyn std::fmt::Display| IssueError::NotVouched(error.to_string());
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let own = own.map_err(|error| refused(&error))?;
        roots.add(own).map_err(|error| refused(&error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| refused(&error))?;
        let verified = verifier.verify_client_cert(certificate, &[], UnixTime::now());
        verified.map(drop).map_err(|error| refused(&error))
    }
}

fn params_of_authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = named(AUTHORITY);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, valid: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + valid).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn an_authority_comes_back_from_its_files() {
        let made = Authority::create(DAY).expect("an authority");
        let read = Authority::from_pem(made.certificate(), &made.key()).expect("the same");
        let operator = Subject::Operator(Role::Operate);
        let issued = read.issue(operator, "ada", DAY / 2).expect("a certificate");
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("PEM");
        let identity = Identity::of(&der).expect("names");
        assert_eq!(identity.role, Some(Role::Operate));
    }

    #[test]
    fn it_signs_nothing_that_nobody_believes() {
        let [one, other] = [(); 2].map(|()| Authority::create(DAY).expect("an authority"));
        let operator = Subject::Operator(Role::Read);
        let mixed = Authority::from_pem(one.certificate(), &other.key()).expect("it reads");
        let refused = mixed.issue(operator, "ada", DAY / 2).err();
        assert!(
            matches!(refused, Some(IssueError::NotVouched(_))),
            "{refused:?}"
        );
        assert!(Authority::from_pem("nothing", &one.key()).is_err());
        assert!(Authority::from_pem(one.certificate(), "nothing").is_err());
    }
}
