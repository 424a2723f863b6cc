//! `weir cert`: what it makes, and what it leaves alone.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use weir_tls::{Credentials, Role, TlsFiles};

const ID: &str = "7b0e2c1e-4c1f-4c3e-9d55-0f6a3f1d2a01";

fn weir(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("cert")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn made(directory: &Path, arguments: &[&str]) {
    let output = weir(directory, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
}

fn credentials(directory: &Path, name: &str) -> Credentials {
    let files = TlsFiles {
        ca: Some(directory.join("ca.pem")),
        certificate: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
    };
    Credentials::load(files).unwrap()
}

#[test]
fn what_is_made_is_of_use_and_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    made(path, &["ca"]);
    made(path, &["node", "edge-1", "--id", ID, "--days", "30"]);
    made(path, &["operator", "ada", "--role", "operate"]);
    made(path, &["operator", "prometheus", "--role", "read"]);
    let node = credentials(path, "edge-1").identity();
    assert_eq!(node.node.unwrap().to_string(), ID);
    let role = |name| credentials(path, name).identity().role;
    assert_eq!(role("ada"), Some(Role::Operate));
    assert_eq!(role("prometheus"), Some(Role::Read));
    let files = fs::read_dir(path).unwrap().map(Result::unwrap);
    let modes = files.map(|file| file.metadata().unwrap().permissions().mode() & 0o7777);
    assert_eq!(modes.collect::<Vec<_>>(), [0o600; 8]);
}

#[test]
fn nothing_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    made(path, &["ca"]);
    made(path, &["operator", "ada", "--role", "read"]);
    for (arguments, file) in [
        (&["ca"][..], "ca.key"),
        (&["operator", "ada", "--role", "operate"], "ada.key"),
    ] {
        let before = fs::read(path.join(file)).unwrap();
        let output = weir(path, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(file) && said.contains("not overwritten"),
            "{said}"
        );
        assert_eq!(fs::read(path.join(file)).unwrap(), before);
    }
    // One of the two is enough.
    fs::remove_file(path.join("ada.key")).unwrap();
    let output = weir(path, &["operator", "ada", "--role", "operate"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!path.join("ada.key").exists());
}

#[test]
fn what_is_no_name_or_identity_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    made(path, &["ca"]);
    for name in ["../edge", "", "ca", ".hidden", "a b"] {
        let output = weir(path, &["node", name, "--id", ID]);
        assert_eq!(output.status.code(), Some(2), "{name:?}");
    }
    let output = weir(path, &["node", "edge-1", "--id", "edge-1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("weir-node --identity"), "{said}");
    let nowhere = weir(path, &["node", "edge-1", "--id", ID, "--ca-dir", "nowhere"]);
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(said.contains("weir cert ca"), "{said}");
    assert_eq!(fs::read_dir(path).unwrap().count(), 2, "only the authority");
}
