//! Prometheus' text format, written line by line.
//!
//! A registry keeps an object for each series, and makes others of them to encode: for the largest
//! policy, a gigabyte and ten seconds for a text of 50 megabytes. The format is simple:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::fmt::{Display, Write as _};

/// Units that names end with. What has another end is counted in nothing but itself.
const UNITS: [&str; 4] = ["bytes", "packets", "ratio", "seconds"];

/// A text that grows by a family at a time.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// What the numbers of a family are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down.
    Gauge,
}

/// A family that samples are added to.
pub(super) struct Family<'e> {
    text: &'e mut String,
    name: &'static str,
}

impl Exposition {
    /// Begins a family. Each name is used once.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self.0 += &unit_line(name);
        Family {
            text: &mut self.0,
            name,
        }
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help).sample([], value);
    }

    /// The text, with what another encoder wrote at its end.
    pub(super) fn finish(mut self, rest: &str) -> String {
        for line in rest.split_inclusive('\n') {
            self.0 += line;
            let declared = line.strip_prefix("# TYPE ");
            if let Some((name, _)) = declared.and_then(|declared| declared.split_once(' ')) {
                self.0 += &unit_line(name);
            }
        }
        self.0
    }
}

/// `# UNIT` of OpenMetrics, which this format takes for a comment: the last word of a name, before `_total`.
fn unit_line(name: &str) -> String {
    let family = name.strip_suffix("_total").unwrap_or(name);
    let word = family.rsplit('_').next().unwrap_or_default();
    match UNITS.contains(&word) {
        true => format!("# UNIT {name} {word}\n"),
        false => String::new(),
    }
}

impl Family<'_> {
    /// Adds a sample. Names of labels are plain; values may be anything.
    pub(super) fn sample<const N: usize>(
        &mut self,
        labels: [(&str, &str); N],
        value: impl Display,
    ) {
        *self.text += self.name;
        for (index, (label, content)) in labels.into_iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"");
            for character in content.chars() {
                match character {
                    '\\' => *self.text += "\\\\",
                    '"' => *self.text += "\\\"",
                    '\n' => *self.text += "\\n",
                    plain => self.text.push(plain),
                }
            }
            self.text.push('"');
        }
        let end = if N > 0 { "} " } else { " " };
        let _ = writeln!(self.text, "{end}{value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_as_the_format_says() {
        let mut text = Exposition::default();
        let mut packets = text.family("packets_total", Kind::Counter, "Packets.");
        packets.sample([("limit", "dns"), ("verdict", "passed")], 7_u64);
        packets.sample([("limit", "a\\b\"c\nd"), ("verdict", "dropped")], u64::MAX);
        text.gauge("load_ratio", "Load.", 0.25);
        text.gauge("is_leader", "1 if it leads.", 1_u64);
        assert_eq!(
            text.finish("# TYPE rest_seconds histogram\nrest_seconds_sum 1\n"),
            "# HELP packets_total Packets.\n\
             # TYPE packets_total counter\n\
             # UNIT packets_total packets\n\
             packets_total{limit=\"dns\",verdict=\"passed\"} 7\n\
             packets_total{limit=\"a\\\\b\\\"c\\nd\",verdict=\"dropped\"} 18446744073709551615\n\
             # HELP load_ratio Load.\n\
             # TYPE load_ratio gauge\n\
             # UNIT load_ratio ratio\n\
             load_ratio 0.25\n\
             # HELP is_leader 1 if it leads.\n\
             # TYPE is_leader gauge\n\
             is_leader 1\n\
             # TYPE rest_seconds histogram\n\
             # UNIT rest_seconds seconds\n\
             rest_seconds_sum 1\n"
        );
    }
}
