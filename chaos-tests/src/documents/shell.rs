//! A reader's shell. All that is typed in one place goes to one `bash`, so that directories, variables
//! and jobs last, as they do for a reader.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result};

/// Begins the line that says how a command ended: no text holds it.
const MARK: char = '\u{1}';

/// Commands that go on until they are interrupted, and the one that succeeds once they are at work.
const ENDLESS: [(&str, &str); 1] = [("weir run ", "weir status")];
/// Those that draw on a terminal until a key is pressed: they get one, for two seconds.
const SCREENS: [&str; 1] = ["weir top"];

/// How a typed command came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What it printed, on either stream.
    pub output: String,
    /// Its exit code; none if the shell ended before it did.
    pub status: Option<i32>,
}

/// A shell that waits for the next command. It ends when it is dropped, with what it started.
#[derive(Debug)]
pub(super) struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    /// Starts a command that is, or becomes, a `bash` that reads commands from standard input.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let mut shell = Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(stdout),
            child,
        };
        shell.enter("exec 2>&1; going_on=")?;
        Ok(shell)
    }

    /// Writes a file.
    ///
    /// # Errors
    ///
    /// If the shell has ended.
    pub(super) fn file(&mut self, name: &str, text: &str) -> Result<Outcome> {
        let name = quoted(name);
        self.enter(&format!(
            "mkdir -p \"$(dirname {name})\" && cat > {name} <<'END OF FILE'\n{text}END OF FILE"
        ))
    }

    /// Types a command and waits until it has ended; one that goes on by itself, until it is at
    /// work.
    ///
    /// # Errors
    ///
    /// If the shell has ended before.
    pub(super) fn command(&mut self, command: &str) -> Result<Outcome> {
        self.enter(&typed(command))
    }

    fn enter(&mut self, text: &str) -> Result<Outcome> {
        let stdin = self.stdin.as_mut().context("the shell reads")?;
        // What is run reads nothing of what is typed next.
        writeln!(stdin, "{{ {text}\n}} < /dev/null; printf '{MARK}%d\\n' $?")?;
        stdin.flush()?;
        let mut output = String::new();
        loop {
            let mut line = Vec::new();
            if self.stdout.read_until(b'\n', &mut line)? == 0 {
                let status = None;
                return Ok(Outcome { output, status });
            }
            let line = String::from_utf8_lossy(&line);
            // What was printed before the mark need not have ended its line.
            let Some((text, status)) = line.split_once(MARK) else {
                output.push_str(&line);
                continue;
            };
            output.push_str(text);
            let status = status.trim().parse().ok();
            return Ok(Outcome { output, status });
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // One that has ended already needs no goodbye.
        let _goodbye = self.enter("for job in $going_on; do kill -INT $job; wait $job; done");
        self.stdin = None;
        let _status = self.child.wait();
    }
}

fn typed(command: &str) -> String {
    let endless = ENDLESS.iter().find(|(begin, _)| command.starts_with(begin));
    if let Some((_, ready)) = endless {
        return format!(
            "eval {command}' &'\njob=$!; going_on=\"$going_on $job\"\n\
             for _ in $(seq 150); do {ready} > /dev/null 2>&1 && break\n\
             kill -0 $job 2> /dev/null || break; sleep 0.1; done\n{ready} > /dev/null",
            command = quoted(command)
        );
    }
    if SCREENS.iter().any(|screen| command.starts_with(screen)) {
        return format!(
            "timeout --signal INT 2 script --quiet --return --command {} /dev/null > /dev/null\n\
             [ $? = 124 ]",
            quoted(command)
        );
    }
    format!("eval {}", quoted(command))
}

/// As one word of bash.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(output: &str, status: i32) -> Outcome {
        Outcome {
            output: output.to_owned(),
            status: Some(status),
        }
    }

    #[test]
    fn what_is_typed_lasts() {
        let mut shell = Shell::start(Command::new("bash").arg("-s")).unwrap();
        let mut typed = |command: &str| shell.command(command).unwrap();
        assert_eq!(typed("cd /tmp; word=\"it's\""), outcome("", 0));
        assert_eq!(
            typed("printf '%s %s' \"$word\" $PWD"),
            outcome("it's /tmp", 0)
        );
        assert_eq!(typed("echo why >&2; false"), outcome("why\n", 1));
        assert_eq!(typed("cat"), outcome("", 0));
        assert_eq!(typed("no-such-program 2> /dev/null"), outcome("", 127));
        assert_ne!(typed("if then").status, Some(0));
    }

    #[test]
    fn files_are_written_as_they_are_shown() {
        let directory = tempfile::tempdir().unwrap();
        let mut shell = Shell::start(Command::new("bash").arg("-s")).unwrap();
        let path = directory.path().join("below/it's.toml");
        let written = shell.file(path.to_str().unwrap(), "a = '$b'\n").unwrap();
        assert_eq!(written, outcome("", 0));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "a = '$b'\n");
    }

    #[test]
    fn a_shell_that_ends_gives_no_status() {
        let mut shell = Shell::start(Command::new("bash").arg("-s")).unwrap();
        assert_eq!(shell.command("echo a; exit 3").unwrap().status, None);
    }
}
