//! The regression gate: bars for ratios, kept in a file. Absolute figures have none, because they
//! are of one machine.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};

use super::report::Ratios;

/// The bars in force if no other file is named.
#[must_use]
pub fn default_path() -> &'static Path {
    Path::new("docs/bench/gate.txt")
}

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Which ratio, by its key in the report.
    pub ratio: String,
    /// At how many sources.
    pub keys: String,
    /// What it must not be below.
    pub least: f64,
}

/// A bar that was missed.
#[derive(Clone, Debug, PartialEq)]
pub struct Miss {
    /// Which.
    pub bar: Bar,
    /// What was measured, if it was.
    pub found: Option<f64>,
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Bar { ratio, keys, least } = &self.bar;
        match self.found {
            Some(found) => write!(f, "{ratio} at {keys} sources: {found}, at least {least}"),
            None => write!(
                f,
                "{ratio} at {keys} sources: not measured, at least {least}"
            ),
        }
    }
}

/// Reads bars.
///
/// # Errors
///
/// If the file cannot be read, or a line is not `ratio sources bar`.
pub fn read(path: &Path) -> Result<Vec<Bar>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    parse(&text).with_context(|| path.display().to_string())
}

/// A bar a line: ratio, number of sources, least value. What follows a `#` is for people.
fn parse(text: &str) -> Result<Vec<Bar>> {
    let lines = (1..).zip(text.lines());
    let bars = lines.filter_map(|(number, line)| {
        let bar = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = bar.split_whitespace().collect();
        match words[..] {
            [] => None,
            [ratio, keys, least] => Some(
                least
                    .parse()
                    .map(|least| Bar {
                        ratio: ratio.to_owned(),
                        keys: keys.to_owned(),
                        least,
                    })
                    .with_context(|| format!("line {number}: '{least}' is no number")),
            ),
            _ => Some(Err(anyhow::anyhow!(
                "line {number}: expected `ratio sources least`, found '{line}'"
            ))),
        }
    });
    bars.collect()
}

/// The bars that are missed. A ratio that was not measured misses its bar.
#[must_use]
pub fn misses(bars: &[Bar], ratios: &BTreeMap<String, Ratios>) -> Vec<Miss> {
    let missed = bars.iter().filter_map(|bar| {
        let found = ratios
            .get(&bar.ratio)
            .and_then(|by_keys| by_keys.get(&bar.keys))
            .copied();
        let holds = found.is_some_and(|found| found >= bar.least);
        (!holds).then(|| Miss {
            bar: bar.clone(),
            found,
        })
    });
    missed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_opens_and_closes() {
        let bars = parse("# why\nratio_to_nft 100000 2.5 # must\n\nratio_to_lru 1 1.1\n").unwrap();
        let ratios = |value| {
            BTreeMap::from([(
                "ratio_to_nft".to_owned(),
                Ratios::from([("100000".to_owned(), value)]),
            )])
        };
        let missed = misses(&bars, &ratios(2.5));
        assert_eq!(missed.len(), 1);
        assert_eq!(
            missed[0].to_string(),
            "ratio_to_lru at 1 sources: not measured, at least 1.1"
        );
        assert_eq!(misses(&bars, &ratios(2.4)).len(), 2);
        assert_eq!(misses(&bars[..1], &ratios(f64::NAN)).len(), 1);
        assert!(misses(&bars[..1], &ratios(2.6)).is_empty());
    }

    #[test]
    fn a_line_that_is_no_bar_is_named() {
        let error = parse("ratio_to_nft 1 2.5\nratio_to_nft 2.5").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(parse("ratio_to_nft 1 much").is_err());
    }
}
