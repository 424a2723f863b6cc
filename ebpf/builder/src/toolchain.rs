//! Finding a compiler and a linker for BPF.
//!
//! Two kinds of compiler will do: one that comes with a ready-made `core` for the BPF target
//! (Debian's `rustc-web` with `libstd-rust-web-dev-bpf`), or a rustup nightly that compiles `core`
//! itself (`-Z build-std`, from the component `rust-src`).

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{TARGET, environment};

/// Where Debian installs its compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The rustup toolchain that compiles `core` itself.
const NIGHTLY: &str = "nightly";
const LINKER: &str = "bpf-linker";

/// Crates of a BPF program, beside the program itself, that use unstable features: a stable
/// compiler allows them only to crates named in `RUSTC_BOOTSTRAP`.
const UNSTABLE_CRATES: &str = "aya_ebpf,aya_ebpf_bindings";

/// What must be installed before a BPF program can be built. Each line names a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// No compiler for BPF; says what was looked for.
    pub compiler: bool,
    /// No `bpf-linker`.
    pub linker: bool,
}

impl std::error::Error for Missing {}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel program cannot be built here")?;
        if self.compiler {
            write!(
                f,
                "\nno compiler for {TARGET}: looked for a ready-made core of {DEBIAN_RUSTC}, and \
                 for the component rust-src of the rustup toolchain {NIGHTLY}\n  \
                 Debian:    apt-get install rustc-web libstd-rust-web-dev-bpf\n  \
                 elsewhere: rustup toolchain install {NIGHTLY} --component rust-src"
            )?;
        }
        if self.linker {
            write!(
                f,
                "\nno {LINKER} in PATH or cargo's bin directory\n  \
                 Debian:    apt-get install llvm-22-dev libpolly-22-dev && \
                 LLVM_PREFIX=/usr/lib/llvm-22 cargo install {LINKER} --version 0.13.0 \
                 --no-default-features --features llvm-22\n  \
                 elsewhere: cargo install {LINKER} --version 0.13.0"
            )?;
        }
        write!(f, "\n`cargo xtask setup` installs what is missing")
    }
}

/// A compiler and a linker for BPF that exist on this machine.
#[derive(Clone, Debug)]
pub struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
}

#[derive(Clone, Debug)]
enum Compiler {
    /// Has `core` for the target.
    ReadyMade { rustc: PathBuf },
    /// Compiles `core` with the program.
    BuildStd,
}

impl Toolchain {
    /// Looks for the tools.
    ///
    /// # Errors
    ///
    /// If one is missing; the error says how to install it.
    pub fn find() -> Result<Self, Missing> {
        match (find_compiler(), find_linker()) {
            (Some(compiler), Some(linker)) => Ok(Self { compiler, linker }),
            (compiler, linker) => Err(Missing {
                compiler: compiler.is_none(),
                linker: linker.is_none(),
            }),
        }
    }

    /// A cargo that compiles `package` for BPF, in a clean environment.
    pub(crate) fn cargo(&self, package: &str) -> Command {
        let mut cargo = match &self.compiler {
            Compiler::ReadyMade { rustc } => {
                // The very cargo that runs the build script, if there is one.
                let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
                environment::clean(&mut cargo);
                cargo.env("RUSTC", rustc);
                cargo
            }
            Compiler::BuildStd => {
                let mut cargo = Command::new("rustup");
                environment::clean(&mut cargo);
                cargo.args(["run", NIGHTLY, "cargo", "-Zbuild-std=core"]);
                cargo
            }
        };
        let own_crate = package.replace('-', "_");
        cargo
            .env("RUSTC_BOOTSTRAP", format!("{own_crate},{UNSTABLE_CRATES}"))
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags().join("\u{1f}"));
        cargo
    }

    fn flags(&self) -> Vec<String> {
        vec![
            format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
            // Atomic compare-and-swap, 32-bit jumps: kernels from 5.12 on.
            "-Ctarget-cpu=v3".to_owned(),
            // With it, a structure that is set to zero is set byte by byte, in a function.
            "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
            // Debug information is what the linker makes BTF from.
            "-Cdebuginfo=2".to_owned(),
            format!("-Clinker={}", self.linker.display()),
            "-Clink-arg=--btf".to_owned(),
        ]
    }
}

fn find_compiler() -> Option<Compiler> {
    let debian = Path::new(DEBIAN_RUSTC);
    let ready_made =
        sysroot(Command::new(debian)).map(|root| root.join("lib/rustlib").join(TARGET).join("lib"));
    if ready_made.is_some_and(|core| core.is_dir()) {
        return Some(Compiler::ReadyMade {
            rustc: debian.to_owned(),
        });
    }
    let mut nightly = Command::new("rustup");
    nightly.args(["run", NIGHTLY, "rustc"]);
    let source = sysroot(nightly).map(|root| root.join("lib/rustlib/src/rust/library/core"));
    source
        .is_some_and(|core| core.is_dir())
        .then_some(Compiler::BuildStd)
}

fn sysroot(mut rustc: Command) -> Option<PathBuf> {
    environment::clean(&mut rustc);
    let output = rustc.args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim()))
}

fn find_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join(LINKER))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::Missing;

    #[test]
    fn names_the_command_for_each_missing_tool() {
        let message = |compiler, linker| Missing { compiler, linker }.to_string();
        assert!(message(true, false).contains("apt-get install rustc-web"));
        assert!(!message(true, false).contains("cargo install bpf-linker"));
        assert!(message(false, true).contains("cargo install bpf-linker"));
        assert!(!message(false, true).contains("rustc-web"));
    }
}
