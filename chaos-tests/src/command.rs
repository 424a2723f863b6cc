//! Running a command to its end.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Runs a command; its standard output is the result.
///
/// # Errors
///
/// If it cannot be started, or fails: then with what it wrote to standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    finished(command, output)
}

/// Like [`run`], with `input` on standard input.
///
/// # Errors
///
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let mut stdin = child.stdin.take().context("standard input is piped")?;
    // A command that dies early closes the pipe; its own message says more than ours.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = finished(command, child.wait_with_output()?)?;
    written.with_context(|| format!("{command:?} did not read its input"))?;
    Ok(output)
}

fn finished(command: &Command, output: Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!(
        "{command:?} failed ({}):\n{}{}",
        output.status,
        stdout,
        stderr.trim_end()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_input_on_and_reports_failures() {
        assert_eq!(
            run_with_input(&mut Command::new("cat"), "text").unwrap(),
            "text"
        );
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().ends_with("why"), "{error}");
        assert!(run(&mut Command::new("/nonexistent/command")).is_err());
    }
}
