//! The Debian package: both programs, the unit, examples.

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{output, setup, shell};

/// What is packaged.
const PROGRAMS: [&str; 2] = ["weir-node", "weir"];
/// Makes the package; a subcommand of cargo.
const PACKAGER: &str = "cargo-deb";
const PACKAGER_VERSION: &str = "3.8.0";

/// Which programs.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Package the programs of a development build, which is what tests install
    #[arg(long)]
    pub(crate) development: bool,
}

/// Builds what is missing, makes the package, and says where it is.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    setup::program(PACKAGER, PACKAGER_VERSION)?;
    let mut build = shell::cargo(&["build"]);
    for program in PROGRAMS {
        build.args(["--package", program]);
    }
    let mut package = shell::cargo(&["deb", "--package", "weir-node", "--no-build", "--quiet"]);
    if options.development {
        package.args(["--profile", "dev", "--strip", "--fast"]);
    } else {
        build.arg("--release");
    }
    shell::run(&mut build)?;
    let printed = shell::output(&mut package)?;
    let path = printed
        .lines()
        .last()
        .context("cargo deb says where it is")?;
    output::good(&format!("packaged: {path}"));
    Ok(())
}
