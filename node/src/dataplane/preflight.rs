//! What must be true before anything is loaded.

use std::{fs, path::Path};

use super::error::LoadError;

/// The oldest kernel that will do: LTS, with `bpf_xdp_get_buff_len`, frags, and a verifier that
/// follows the parser.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
const OLDEST_KERNEL_TEXT: &str = "6.1";
const BTF: &str = "/sys/kernel/btf/vmlinux";
const STATUS: &str = "/proc/thread-self/status";
const TIME_OFFSETS: &str = "/proc/self/timens_offsets";

/// Until Linux 5.8 it was all that there was, and the kernel still takes it for the two that were
/// split from it: container engines that do not know those can grant this one.
const SYS_ADMIN: u32 = 21;
const SPLIT_FROM_SYS_ADMIN: [u32; 2] = [38, 39];
/// Capabilities by number (capability.h).
const CAPABILITIES: [(u32, &str); 3] =
    [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// Looks at privileges, kernel and clocks.
///
/// # Errors
///
/// The first thing that is not as it must be.
pub(crate) fn check() -> Result<(), LoadError> {
    privileges(&read(STATUS))?;
    kernel(&read("/proc/sys/kernel/osrelease"))?;
    type_information(Path::new(BTF))?;
    // The file is missing on kernels without time namespaces, which have no offsets either.
    time_offsets(&read(TIME_OFFSETS))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn privileges(status: &str) -> Result<(), LoadError> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    let stood_in = |bit: u32| has(SYS_ADMIN) && SPLIT_FROM_SYS_ADMIN.contains(&bit);
    let missing: Vec<_> = CAPABILITIES
        .into_iter()
        .filter(|(bit, _)| !has(*bit) && !stood_in(*bit))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(LoadError::Privileges { missing })
    }
}

fn kernel(release: &str) -> Result<(), LoadError> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST_KERNEL {
        return Ok(());
    }
    Err(LoadError::KernelTooOld {
        found: release.trim().to_owned(),
        expected: OLDEST_KERNEL_TEXT,
    })
}

fn type_information(path: &Path) -> Result<(), LoadError> {
    if path.exists() {
        return Ok(());
    }
    Err(LoadError::NoBtf {
        path: path.to_owned(),
    })
}

/// Lines of `clock seconds nanoseconds`; the programs read the boot clock without the offset.
fn time_offsets(offsets: &str) -> Result<(), LoadError> {
    let boot = offsets
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("boottime"))
        .map(|rest| rest.split_whitespace().collect::<Vec<_>>());
    for numbers in boot {
        if numbers.iter().any(|number| *number != "0") {
            return Err(LoadError::TimeNamespace {
                offset: format!("{} s", numbers.join(" s + ") + " ns"),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_missing_capabilities() {
        assert!(privileges("Name:\tx\nCapEff:\t000001ffffffffff\n").is_ok());
        let error = privileges("CapEff:\t0000000000001000\n").unwrap_err();
        assert!(
            error.to_string().contains("lacks CAP_PERFMON, CAP_BPF:"),
            "{error}"
        );
        assert!(
            privileges("CapEff:\t0000000000201000\n").is_ok(),
            "NET_ADMIN and SYS_ADMIN"
        );
        assert!(
            privileges("")
                .unwrap_err()
                .to_string()
                .contains("CAP_NET_ADMIN")
        );
    }

    #[test]
    fn refuses_old_kernels() {
        for old in ["6.0.9-generic", "5.15.0", "4.19.0-27-amd64", ""] {
            let error = kernel(old).unwrap_err();
            assert!(matches!(error, LoadError::KernelTooOld { .. }), "{old}");
        }
        for new in ["6.1.0-28-amd64\n", "6.18.44", "7.0.0-rc1"] {
            assert!(kernel(new).is_ok(), "{new}");
        }
        assert!(
            kernel("5.15.0\n")
                .unwrap_err()
                .to_string()
                .contains("5.15.0; Weir needs")
        );
    }

    #[test]
    fn asks_for_type_information() {
        let error = type_information(Path::new("/nowhere/btf")).unwrap_err();
        assert!(
            error.to_string().contains("CONFIG_DEBUG_INFO_BTF"),
            "{error}"
        );
        assert!(type_information(Path::new("/proc/thread-self/status")).is_ok());
    }

    #[test]
    fn refuses_other_clocks() {
        assert!(
            time_offsets("monotonic           0         0\nboottime            0         0\n")
                .is_ok()
        );
        assert!(time_offsets("").is_ok());
        let error = time_offsets("monotonic 0 0\nboottime 100 5\n").unwrap_err();
        assert!(error.to_string().contains("100 s + 5 ns"), "{error}");
    }
}
