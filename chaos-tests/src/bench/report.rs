//! What is printed and kept.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use super::{
    accuracy::AccuracyRow,
    environment::Environment,
    features::FeatureRow,
    goodput::GoodputRow,
    method::Method,
    row::{OVERLOAD, Row, Series, ratios},
};

/// How many packets Weir handles in the time in which another handles one, by number of sources.
pub type Ratios = BTreeMap<String, f64>;

/// Weir's whole path, by its variant's name.
const WEIR: &str = "weir";
/// What it is compared with: the key in the report, and the variant's name.
const OTHERS: [(&str, &str); 5] = [
    ("ratio_to_drop", "bare-drop"),
    ("ratio_to_header_read", "touching-drop"),
    ("ratio_to_nft", "nft"),
    ("ratio_to_hashlimit", "hashlimit"),
    ("ratio_to_lru", "xdp-lru"),
];

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// With a CPU for the receiver alone.
    pub rows: Vec<Row>,
    /// The keys `ratio_to_…`, from those rows.
    #[serde(flatten)]
    pub ratios: BTreeMap<String, Ratios>,
    /// With flood and receiver on the same CPUs, with emptied caches, and of IPv6.
    pub further_rows: Vec<Row>,
    /// Each feature by itself.
    pub features: Vec<FeatureRow>,
    /// What passes when one source is too fast, on one CPU and on two.
    pub accuracy: Vec<AccuracyRow>,
    /// What a good client gets under attack.
    pub goodput: Vec<GoodputRow>,
    /// The machine.
    pub environment: Environment,
}

impl Report {
    /// Of all series.
    #[must_use]
    pub fn new(
        all: &[Series],
        features: Vec<FeatureRow>,
        accuracy: Vec<AccuracyRow>,
        goodput: Vec<GoodputRow>,
    ) -> Self {
        let main = |row: &Row| row.method == Method::HEADLINE && row.family == 4 && !row.cold;
        let (rows, further_rows) = all.iter().map(Series::row).partition(main);
        let methods = [
            (Method::HEADLINE, ""),
            (Method::InlineTwo, "inline_two_"),
            (Method::Split, "split_"),
        ];
        let mut by_key = BTreeMap::new();
        for (method, prefix) in methods {
            for (key, other) in OTHERS {
                let found = ratios(all, method, WEIR, other);
                // Whoever reads the main ones finds them even if nothing was measured.
                if prefix.is_empty() || !found.is_empty() {
                    by_key.insert(format!("{prefix}{key}"), found);
                }
            }
        }
        Self {
            rows,
            ratios: by_key,
            further_rows,
            features,
            accuracy,
            goodput,
            environment: Environment::here(),
        }
    }

    /// One line.
    ///
    /// # Errors
    ///
    /// Never: there is nothing in it that JSON cannot hold.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// As people read it, in Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        self.write(&mut text)
            .expect("writing to a string cannot fail");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "## Packets per second of one CPU\n")?;
        write_rows(text, &self.rows)?;
        writeln!(
            text,
            "\n`*`: less than {OVERLOAD} × was offered, so packets per second tell of the generator; \
             CPU time for each packet still tells of the receiver, and ratios are made of it.\n"
        )?;
        writeln!(text, "## Weir's whole path against the others\n")?;
        write_ratios(text, &self.ratios)?;
        if !self.further_rows.is_empty() {
            writeln!(text, "\n## The same in other conditions\n")?;
            write_rows(text, &self.further_rows)?;
        }
        if !self.features.is_empty() {
            writeln!(text, "\n## Each feature by itself\n")?;
            write_features(text, &self.features)?;
        }
        if !self.accuracy.is_empty() {
            writeln!(text, "\n## One source that is too fast\n")?;
            write_accuracy(text, &self.accuracy)?;
        }
        if !self.goodput.is_empty() {
            writeln!(text, "\n## A good client under attack\n")?;
            write_goodput(text, &self.goodput)?;
        }
        writeln!(text, "\n## Machine\n")?;
        write_environment(text, &self.environment)
    }
}

fn write_rows(text: &mut String, rows: &[Row]) -> std::fmt::Result {
    writeln!(
        text,
        "| variant | sources | conditions | offered Mpps | received Mpps | ns a packet | (least to most) |"
    )?;
    writeln!(text, "| --- | ---: | --- | ---: | ---: | ---: | ---: |")?;
    for row in rows {
        let [least, most] = row.ns_per_packet_range;
        writeln!(
            text,
            "| {} | {} | {}{}{} | {:.2} | {:.2}{} | {:.0} | {least:.0} to {most:.0} |",
            row.variant,
            row.keys,
            row.method.name(),
            if row.family == 6 { ", IPv6" } else { "" },
            if row.cold { ", cold" } else { "" },
            row.offered_mpps,
            row.mpps,
            // Where flood and receiver take turns there is no more than is received.
            if row.generator_bound && row.method == Method::Split {
                "*"
            } else {
                ""
            },
            row.ns_per_packet,
        )?;
    }
    Ok(())
}

fn write_ratios(text: &mut String, ratios: &BTreeMap<String, Ratios>) -> std::fmt::Result {
    let mut keys: Vec<&String> = ratios.values().flat_map(BTreeMap::keys).collect();
    keys.sort_by_key(|key| key.parse::<u32>().unwrap_or(u32::MAX));
    keys.dedup();
    write!(text, "| packets to one of |")?;
    for key in &keys {
        write!(text, " {key} sources |")?;
    }
    writeln!(text, "\n| --- |{}", " ---: |".repeat(keys.len()))?;
    for (name, by_keys) in ratios {
        write!(text, "| {name} |")?;
        for key in &keys {
            match by_keys.get(*key) {
                Some(ratio) => write!(text, " {ratio:.2} |")?,
                None => write!(text, " |")?,
            }
        }
        writeln!(text)?;
    }
    Ok(())
}

fn write_features(text: &mut String, rows: &[FeatureRow]) -> std::fmt::Result {
    writeln!(
        text,
        "| program | verdict | ns a packet | above the empty one |"
    )?;
    writeln!(text, "| --- | --- | ---: | ---: |")?;
    for row in rows {
        writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} |",
            row.feature, row.verdict, row.ns_per_packet, row.above_empty_ns
        )?;
    }
    Ok(())
}

fn write_accuracy(text: &mut String, rows: &[AccuracyRow]) -> std::fmt::Result {
    writeln!(
        text,
        "| variant | CPUs | offered Mpps | admitted ÷ allowed |"
    )?;
    writeln!(text, "| --- | ---: | ---: | ---: |")?;
    for row in rows {
        writeln!(
            text,
            "| {} | {} | {:.2} | {:.4} |",
            row.variant, row.cpus, row.offered_mpps, row.admitted_over_allowed
        )?;
    }
    Ok(())
}

fn time(microseconds: Option<f64>) -> String {
    microseconds.map_or_else(|| "–".to_owned(), |time| format!("{time:.0}"))
}

fn write_goodput(text: &mut String, rows: &[GoodputRow]) -> std::fmt::Result {
    writeln!(
        text,
        "| variant | attack, % of the generator | offered Mpps | received Mpps | requests that arrived | p50 µs | p99 µs |"
    )?;
    writeln!(text, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
    for row in rows {
        writeln!(
            text,
            "| {} | {} | {:.2} | {:.2} | {:.1} % | {} | {} |",
            row.variant,
            row.attack_percent,
            row.offered_mpps,
            row.mpps,
            row.goodput * 100.0,
            time(row.p50_us),
            time(row.p99_us),
        )?;
    }
    Ok(())
}

fn write_environment(text: &mut String, environment: &Environment) -> std::fmt::Result {
    writeln!(
        text,
        "Linux {}, {} × {}{}; BPF {}; mitigations: {}.",
        environment.kernel,
        environment.cpus,
        environment.cpu,
        if environment.virtual_machine {
            ", a virtual machine"
        } else {
            ""
        },
        if environment.jit {
            "compiled"
        } else {
            "interpreted"
        },
        match environment.mitigations.as_slice() {
            [] => "none".to_owned(),
            some => some.join("; "),
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::Sample;

    fn series(variant: &str, method: Method, ns_per_packet: f64) -> Series {
        Series {
            variant: variant.to_owned(),
            keys: 1_000,
            method,
            family: 4,
            cold: false,
            samples: vec![Sample {
                offered_mpps: 10.0,
                mpps: 1e3 / ns_per_packet,
                ns_per_packet,
            }],
        }
    }

    #[test]
    fn the_keys_that_checks_read_are_there() {
        let all = [
            series("weir", Method::HEADLINE, 200.0),
            series("nft", Method::HEADLINE, 500.0),
            series("weir", Method::Split, 100.0),
        ];
        let report = Report::new(&all, Vec::new(), Vec::new(), Vec::new());
        let line = report.json().unwrap();
        assert!(!line.contains('\n'));
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["ratio_to_nft"]["1000"], 2.5);
        for key in ["ratio_to_drop", "ratio_to_hashlimit", "ratio_to_lru"] {
            assert!(json[key].is_object(), "{key}");
        }
        assert_eq!(json["rows"].as_array().unwrap().len(), 2);
        for key in ["variant", "keys", "offered_mpps", "mpps", "ns_per_packet"] {
            assert!(!json["rows"][0][key].is_null(), "{key}");
        }
        assert_eq!(json["further_rows"].as_array().unwrap().len(), 1);
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
    }

    #[test]
    fn people_see_every_row() {
        let all = [
            series("weir", Method::Split, 200.0),
            series("nft", Method::Inline, 500.0),
        ];
        let text = Report::new(&all, Vec::new(), Vec::new(), Vec::new()).markdown();
        assert!(
            text.contains("| weir | 1000 | split | 10.00 | 5.00 | 200 |"),
            "{text}"
        );
        assert!(text.contains("| nft | 1000 | inline |"), "{text}");
    }
}
