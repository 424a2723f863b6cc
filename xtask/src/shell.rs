//! Running commands, and where things are.

use std::{
    collections::VecDeque,
    env,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

/// Lines that are shown once more when a long command has failed.
const LINES_AFTER_FAILURE: usize = 40;
/// Longest that they are waited for once the command has ended.
const LONGEST_ECHO: Duration = Duration::from_secs(5);

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package is in a folder of the root")
}

/// A command in the root of the workspace.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs this.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = command(&program);
    command.args(arguments);
    command
}

/// Runs a command whose output people see.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        // Standard output belongs to what was asked for, often JSON.
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if status.success() {
        return Ok(());
    }
    bail!("{} failed ({status})", shown(command))
}

/// As [`run`]; and if it fails, the error has the last lines of what people saw.
pub(crate) fn watch(command: &mut Command) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    // The command keeps the writing ends; the pipe would never end with them.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (said, last_lines) = mpsc::channel();
    thread::spawn(move || said.send(passed_on(reader)));
    let status = child.wait()?;
    // Something that it has left behind may hold the pipe open.
    let last = last_lines.recv_timeout(LONGEST_ECHO).unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    bail!("{} failed ({status}):\n{last}", shown(command))
}

/// Shows all lines, and returns the last ones.
fn passed_on(reader: impl Read) -> String {
    let mut last = VecDeque::new();
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        eprintln!("{line}");
        last.push_back(line);
        if last.len() > LINES_AFTER_FAILURE {
            last.pop_front();
        }
    }
    Vec::from(last).join("\n")
}

/// Runs a command and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!(
        "{} failed ({}):\n{}",
        shown(command),
        output.status,
        stderr.trim_end()
    )
}

/// A program of this name in `PATH`, or in cargo's directory of installed programs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")));
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; false"])).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("sh -c") && error.ends_with("why"), "{error}");
        assert!(run(&mut Command::new("false")).is_err());
        let error = watch(Command::new("sh").args(["-c", "seq 100; echo why >&2; false"]));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("100\nwhy") && !error.contains("50"),
            "{error}"
        );
        assert!(watch(&mut Command::new("true")).is_ok());
        assert!(output(&mut Command::new("/nonexistent/program")).is_err());
    }

    #[test]
    fn finds_programs() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
