//! Builds a BPF crate from a build script.
//!
//! The crate is a package of its own (not a workspace member, with its own lock file) with one
//! binary that is named like the package. It is compiled for `bpfel-unknown-none` by a nested
//! cargo, and linked by `bpf-linker`.
//!
//! ```no_run
//! // The whole of a `main` in build.rs.
//! weir_bpf_builder::build_script("../xdp");
//! ```
//!
//! Then `concat!(env!("OUT_DIR"), "/weir-xdp.o")` is the object.

mod environment;
mod inputs;
mod toolchain;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use thiserror::Error;

pub use toolchain::{Missing, Toolchain};

/// The target that every object is built for.
pub const TARGET: &str = "bpfel-unknown-none";

/// Why there is no object.
#[derive(Debug, Error)]
pub enum BuildError {
    /// No compiler, or no linker, for BPF.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The directory holds no package.
    #[error("{} names no package: expected a line `name = \"…\"`", manifest.display())]
    NoPackage {
        /// The manifest that was read.
        manifest: PathBuf,
    },
    /// The nested cargo could not be started.
    #[error("cannot run {command}: {source}")]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The nested cargo failed; what the compiler said comes with it.
    #[error("{command} failed ({status}):\n{stderr}")]
    Compile {
        /// The command line.
        command: String,
        /// Its exit status.
        status: ExitStatus,
        /// Its standard error.
        stderr: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// For a `build.rs`: builds the crate at `crate_dir` (relative to the manifest of the crate whose
/// build script runs) into `OUT_DIR`. A failure is reported through cargo and ends the process.
pub fn build_script(crate_dir: impl AsRef<Path>) {
    build_script_with(crate_dir, &[]);
}

/// The same with some of the crate's features on.
pub fn build_script_with(crate_dir: impl AsRef<Path>, features: &[&str]) {
    let out_dir = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    if let Err(error) = build(crate_dir.as_ref(), Path::new(&out_dir), features) {
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

/// Builds the crate at `crate_dir` and puts the object at `<out_dir>/<package>.o`, whose path it
/// returns. Prints the `rerun-if-changed` directives for everything that the object depends on.
///
/// # Errors
///
/// If a tool is missing (the message names the command that installs it) or the crate does not
/// compile.
pub fn build(crate_dir: &Path, out_dir: &Path, features: &[&str]) -> Result<PathBuf, BuildError> {
    let crate_dir = file(crate_dir, Path::canonicalize)?;
    // Until the first success nothing better is known than the whole directory.
    inputs::watch(&crate_dir.join("src"));
    inputs::watch(&crate_dir.join("Cargo.toml"));

    let package = inputs::package_name(&crate_dir.join("Cargo.toml"))?;
    // Named apart from the object, and inside OUT_DIR: the outer cargo holds a lock on its own
    // target directory for as long as this runs.
    let target_dir = out_dir.join("bpf-target");
    compile(&crate_dir, &package, &target_dir, features)?;

    let built = target_dir.join(TARGET).join("release").join(&package);
    inputs::watch_all(&built.with_extension("d"), &crate_dir)?;
    let object = out_dir.join(format!("{package}.o"));
    file(&object, |object| fs::copy(&built, object))?;
    Ok(object)
}

fn compile(
    crate_dir: &Path,
    package: &str,
    target_dir: &Path,
    features: &[&str],
) -> Result<(), BuildError> {
    let toolchain = Toolchain::find()?;
    let mut cargo = toolchain.cargo(package);
    cargo
        .current_dir(crate_dir)
        .args(["build", "--release", "--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .args(features.iter().flat_map(|feature| ["--features", *feature]));
    let command = command_line(&cargo);
    let output = cargo.output().map_err(|source| BuildError::Start {
        command: command.clone(),
        source,
    })?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(BuildError::Compile {
            command,
            status: output.status,
            stderr,
        });
    }
    // Cargo shows nothing of a build script that succeeds but this.
    if stderr.contains("warning:") {
        for line in stderr.lines() {
            println!("cargo::warning={line}");
        }
    }
    Ok(())
}

/// The program and its arguments, without the environment, which is long.
fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn file<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, BuildError> {
    act(path).map_err(|source| BuildError::File {
        path: path.to_owned(),
        source,
    })
}
