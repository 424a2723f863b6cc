//! `weir cert`: a development authority, and certificates that it signs.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use weir_model::NodeId;
use weir_tls::{
    Role,
    issue::{Authority, Subject},
};

use super::print_json;
use crate::cli::{Cert, CertCa, Cli, Signing};

const DAY: Duration = Duration::from_secs(86_400);
/// Of what is made: keys, and certificates beside them.
const FILE_MODE: u32 = 0o600;
/// Of a directory that is made for them.
const DIRECTORY_MODE: u32 = 0o700;
const AUTHORITY_CERTIFICATE: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";

/// What was made.
#[derive(Serialize)]
struct Made {
    certificate: PathBuf,
    key: PathBuf,
    days: u32,
}

pub(super) fn run(cli: &Cli, arguments: &Cert) -> anyhow::Result<ExitCode> {
    let made = match arguments {
        Cert::Ca(arguments) => authority(arguments)?,
        Cert::Node(arguments) => {
            let id = arguments.id.trim();
            let node = id.parse().map(NodeId).map_err(|_| {
                anyhow::anyhow!(
                    "--id {id:?} is no UUID; `weir-node --identity` says it on the host"
                )
            })?;
            issue(Subject::Node(node), &arguments.name, &arguments.signing)?
        }
        Cert::Operator(arguments) => {
            let role = match arguments.role.as_str() {
                "operate" => Role::Operate,
                _ => Role::Read,
            };
            issue(Subject::Operator(role), &arguments.name, &arguments.signing)?
        }
    };
    if cli.json {
        print_json(&made)?;
    } else {
        println!("certificate  {}", made.certificate.display());
        println!("key          {}", made.key.display());
        println!("valid for    {} days", made.days);
    }
    Ok(ExitCode::SUCCESS)
}

fn authority(arguments: &CertCa) -> anyhow::Result<Made> {
    let authority = Authority::create(DAY * arguments.days)?;
    let certificate = arguments.out.join(AUTHORITY_CERTIFICATE);
    let key = arguments.out.join(AUTHORITY_KEY);
    write_both(
        (&certificate, authority.certificate()),
        (&key, &authority.key()),
    )?;
    Ok(Made {
        certificate,
        key,
        days: arguments.days,
    })
}

fn issue(subject: Subject, name: &str, signing: &Signing) -> anyhow::Result<Made> {
    let read = |file: &str| {
        let path = signing.ca_dir.join(file);
        fs::read_to_string(&path).with_context(|| {
            format!(
                "{}: `weir cert ca --out {}` makes an authority",
                path.display(),
                signing.ca_dir.display()
            )
        })
    };
    let authority = Authority::from_pem(&read(AUTHORITY_CERTIFICATE)?, &read(AUTHORITY_KEY)?)?;
    let issued = authority.issue(subject, name, DAY * signing.days)?;
    let certificate = signing.out.join(format!("{name}.pem"));
    let key = signing.out.join(format!("{name}.key"));
    write_both((&certificate, &issued.certificate), (&key, &issued.key))?;
    Ok(Made {
        certificate,
        key,
        days: signing.days,
    })
}

/// The key first: what is not to be overwritten is a key.
fn write_both(certificate: (&Path, &str), key: (&Path, &str)) -> anyhow::Result<()> {
    if let Some(directory) = certificate.0.parent() {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE);
        builder
            .create(directory)
            .with_context(|| directory.display().to_string())?;
    }
    if let Some(there) = [key.0, certificate.0]
        .into_iter()
        .find(|path| path.exists())
    {
        bail!(
            "{} is there already, and is not overwritten; remove it, or name another --out",
            there.display()
        );
    }
    for (path, text) in [key, certificate] {
        let mut options = OpenOptions::new();
        let opened = options
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path);
        let mut file = match opened {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!(
                    "{} is there already, and is not overwritten",
                    path.display()
                )
            }
            opened => opened.with_context(|| path.display().to_string())?,
        };
        file.write_all(text.as_bytes())
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}
