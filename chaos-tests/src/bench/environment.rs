//! The machine that figures are of.

use std::fs;

use serde::{Deserialize, Serialize};

/// What absolute figures depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// CPUs that are there.
    pub cpus: usize,
    /// Whether a hypervisor is.
    pub virtual_machine: bool,
    /// Whether BPF programs are compiled.
    pub jit: bool,
    /// Mitigations that are on, by vulnerability.
    pub mitigations: Vec<String>,
}

impl Environment {
    /// This machine. What cannot be read is left empty.
    #[must_use]
    pub fn here() -> Self {
        let processors = text("/proc/cpuinfo");
        let field = |name: &str| {
            let line = processors.lines().find(|line| line.starts_with(name))?;
            line.split_once(": ").map(|(_, value)| value.to_owned())
        };
        Self {
            kernel: text("/proc/sys/kernel/osrelease"),
            cpu: field("model name").unwrap_or_default(),
            cpus: processors
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            virtual_machine: field("flags").is_some_and(|flags| flags.contains("hypervisor")),
            jit: text("/proc/sys/net/core/bpf_jit_enable") != "0",
            mitigations: mitigations(),
        }
    }
}

fn mitigations() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let state = text(&entry.path().to_string_lossy());
            let mitigation = state.strip_prefix("Mitigation: ")?;
            Some(format!(
                "{}: {mitigation}",
                entry.file_name().to_string_lossy()
            ))
        })
        .collect();
    found.sort();
    found
}

fn text(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}
