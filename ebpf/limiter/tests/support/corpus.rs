//! The frames of `tests/corpus`, whose README says how they are written.

use std::{fs, net::IpAddr, path::Path};

/// A frame, and what must become of it.
#[derive(Debug, Default)]
pub struct Fixture {
    pub name: String,
    pub bytes: Vec<u8>,
    /// With a limit on every packet whose bucket is empty.
    pub passes: bool,
    /// The word in metrics.
    pub reason: String,
    /// Which of [`LIMITS`] apply.
    pub limits: Vec<String>,
    /// `None` if it is not taken for a packet.
    pub packet: Option<Expected>,
}

/// What the parser reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub ports: Option<(u16, u16)>,
    pub tcp_flags: u8,
    pub icmp: Option<u8>,
    pub is_quic_initial: bool,
    pub is_fragment: bool,
    pub is_later_fragment: bool,
}

/// The limits that fixtures name.
pub const LIMITS: [&str; 7] = ["dns", "web", "syn", "quic", "icmp", "reset", "fragments"];

/// TCP's flags, from the lowest bit.
const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

/// All frames of all files below `directory`, in the order of names and lines.
pub fn read_all(directory: &Path) -> Vec<Fixture> {
    let files = fs::read_dir(directory).expect("the corpus is part of the repository");
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "frames"));
    files.sort();
    let fixtures = files
        .iter()
        .flat_map(|file| read(&fs::read_to_string(file).unwrap()));
    let fixtures: Vec<Fixture> = fixtures.collect();
    assert!(fixtures.len() > 80, "only {} frames", fixtures.len());
    fixtures
}

fn read(text: &str) -> Vec<Fixture> {
    let mut fixtures: Vec<Fixture> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("== ") {
            let name = name.to_owned();
            fixtures.push(Fixture {
                name,
                ..Fixture::default()
            });
        } else if let Some(fixture) = fixtures.last_mut() {
            fixture.take(line);
        }
    }
    for fixture in &fixtures {
        assert!(!fixture.bytes.is_empty(), "{}: no bytes", fixture.name);
        assert!(!fixture.reason.is_empty(), "{}: no verdict", fixture.name);
    }
    fixtures
}

impl Fixture {
    fn take(&mut self, line: &str) {
        if let Some(line) = line.strip_prefix('|') {
            let (bytes, _) = line.split_once('#').unwrap_or((line, ""));
            let bytes = bytes.split_whitespace();
            self.bytes
                .extend(bytes.map(|byte| u8::from_str_radix(byte, 16).expect(&self.name)));
        } else if let Some(length) = line.strip_prefix("pad: ") {
            let length: usize = length.parse().expect(&self.name);
            assert!(length > self.bytes.len(), "{}: nothing to pad", self.name);
            self.bytes.resize(length, 0);
        } else if let Some(verdict) = line.strip_prefix("verdict: ") {
            let (verdict, reason) = verdict.split_once(' ').expect(&self.name);
            assert!(["pass", "drop"].contains(&verdict), "{}", self.name);
            self.passes = verdict == "pass";
            self.reason = reason.to_owned();
        } else if let Some(limits) = line.strip_prefix("limits: ") {
            self.limits = limits.split(' ').map(str::to_owned).collect();
            let known = |limit: &String| LIMITS.contains(&limit.as_str());
            assert!(self.limits.iter().all(known), "{}", self.name);
        } else if let Some(packet) = line.strip_prefix("packet: ") {
            self.packet = Some(Expected::read(packet).expect(&self.name));
        } else {
            // A sentence about it, before the rest.
            assert!(
                self.bytes.is_empty() || line.is_empty(),
                "{}: {line}",
                self.name
            );
        }
    }
}

impl Expected {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ').peekable();
        let source = words.next()?.parse().ok()?;
        let arrow = words.next()?;
        let destination = words.next()?.parse().ok()?;
        let mut expected = Self {
            source,
            destination,
            protocol: 0,
            ports: None,
            tcp_flags: 0,
            icmp: None,
            is_quic_initial: false,
            is_fragment: false,
            is_later_fragment: false,
        };
        while let Some(word) = words.next() {
            match word {
                "protocol" => expected.protocol = words.next()?.parse().ok()?,
                "ports" => {
                    let from = words.next()?.parse().ok()?;
                    words.next_if_eq(&">")?;
                    expected.ports = Some((from, words.next()?.parse().ok()?));
                }
                "flags" => {
                    let flag = |word: &&str| FLAGS.contains(word);
                    while let Some(word) = words.next_if(flag) {
                        let bit = FLAGS.iter().position(|flag| *flag == word)?;
                        expected.tcp_flags |= 1 << bit;
                    }
                }
                "icmp" => expected.icmp = Some(words.next()?.parse().ok()?),
                "quic" => expected.is_quic_initial = true,
                "fragment" => expected.is_fragment = true,
                "later" => {
                    words.next_if_eq(&"fragment")?;
                    expected.is_fragment = true;
                    expected.is_later_fragment = true;
                }
                _ => return None,
            }
        }
        (arrow == ">").then_some(expected)
    }
}
