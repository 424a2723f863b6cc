//! What a document shows: files, commands in blocks, commands within sentences. Pure.

/// The programs whose command lines within sentences are looked at.
const PROGRAMS: [&str; 3] = ["weir ", "weir-node ", "cargo xtask "];

/// Something that a reader would do, in the order of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Write a file: a block whose first line is a comment that names it.
    File {
        /// As the document names it.
        name: String,
        /// All of the block.
        text: String,
    },
    /// Type a command: a line after a prompt in a block of `console`, or any line in one of `sh`.
    Command(Shown),
    /// A command named within a sentence, which may have words in the place of arguments.
    Mention(String),
}

/// A command as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Its line in the document, from one.
    pub line: usize,
    /// Without prompt and comment.
    pub text: String,
    /// What a comment of the form `<!-- test: … -->` before its block says.
    pub remark: Option<String>,
}

/// The pieces of a document.
pub(super) fn pieces(document: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut remark = None;
    let mut lines = (1..).zip(document.lines());
    while let Some((_, line)) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let block: Vec<(usize, &str)> = lines
                .by_ref()
                .take_while(|(_, line)| !line.trim_start().starts_with("```"))
                .collect();
            pieces.extend(in_block(language, &block, remark.take()));
        } else if let Some(text) = directive(line) {
            remark = Some(text.to_owned());
        } else {
            pieces.extend(mentions(line).map(Piece::Mention));
        }
    }
    pieces
}

fn directive(line: &str) -> Option<&str> {
    let text = line.trim().strip_prefix("<!-- test:")?;
    Some(text.strip_suffix("-->")?.trim())
}

fn in_block(language: &str, block: &[(usize, &str)], remark: Option<String>) -> Vec<Piece> {
    match language {
        "console" => commands(block, &["$ ", "# "], remark.as_deref()),
        "sh" | "bash" => commands(block, &[""], remark.as_deref()),
        _ => file(block).into_iter().collect(),
    }
}

fn commands(block: &[(usize, &str)], prompts: &[&str], remark: Option<&str>) -> Vec<Piece> {
    let shown = |(line, text): &(usize, &str)| {
        let text = prompts
            .iter()
            .find_map(|prompt| text.strip_prefix(prompt))?;
        let text = without_comment(text);
        (!text.is_empty()).then(|| {
            Piece::Command(Shown {
                line: *line,
                text: text.to_owned(),
                remark: remark.map(str::to_owned),
            })
        })
    };
    block.iter().filter_map(shown).collect()
}

/// Two blanks and a hash begin a comment.
fn without_comment(command: &str) -> &str {
    command
        .split_once("  # ")
        .map_or(command, |(command, _)| command)
        .trim()
}

fn file(block: &[(usize, &str)]) -> Option<Piece> {
    let (_, first) = block.first()?;
    let name = first.strip_prefix("# ")?.split([' ', ':']).next()?;
    let is_file = name.ends_with(".toml") || name.ends_with(".cfg");
    is_file.then(|| Piece::File {
        name: name.to_owned(),
        text: block.iter().map(|(_, line)| format!("{line}\n")).collect(),
    })
}

/// Spans of code that begin with one of the programs.
fn mentions(line: &str) -> impl Iterator<Item = String> + '_ {
    line.split('`').skip(1).step_by(2).filter_map(|code| {
        let is_command = PROGRAMS.iter().any(|program| code.starts_with(program));
        (is_command && !code.contains('…')).then(|| code.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
Say `weir apply FILE` or `weir …`, not `other thing`.

```toml
# limits.toml
version = 1
```

<!-- test: alone -->
```console
# weir run --iface eth0 limits.toml     # until it is interrupted
what it prints
$ weir status
```
";

    #[test]
    fn finds_what_a_reader_would_do() {
        let command = |line, text: &str| {
            Piece::Command(Shown {
                line,
                text: text.to_owned(),
                remark: Some("alone".to_owned()),
            })
        };
        assert_eq!(
            pieces(DOCUMENT),
            [
                Piece::Mention("weir apply FILE".to_owned()),
                Piece::File {
                    name: "limits.toml".to_owned(),
                    text: "# limits.toml\nversion = 1\n".to_owned(),
                },
                command(10, "weir run --iface eth0 limits.toml"),
                command(12, "weir status"),
            ]
        );
    }

    #[test]
    fn a_remark_is_about_the_next_block_only() {
        let document = "<!-- test: alone -->\n```sh\na\n```\n```sh\nb  # why\n```\n";
        let remarks: Vec<_> = pieces(document)
            .into_iter()
            .map(|piece| match piece {
                Piece::Command(shown) => (shown.text, shown.remark),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            remarks,
            [
                ("a".to_owned(), Some("alone".to_owned())),
                ("b".to_owned(), None)
            ]
        );
    }
}
