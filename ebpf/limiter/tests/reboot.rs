//! What a host that boots has forgotten: its kernel's tables.

mod support;

use support::{host::START, keys::ByPacket};

/// Nanoseconds between two packets of a key that keeps to its part of the limit: ten an hour.
const INTERVAL: u64 = 360_000_000_000;
const BURST: u64 = 4;
const SLOTS: usize = 64;
/// A boot takes less than what a key would have to wait for.
const BOOT: u64 = 20_000_000_000;

fn admitted(host: &mut ByPacket, now: u64) -> u64 {
    (0..100).map(|_| u64::from(host.offer(7, now))).sum()
}

/// Whoever reckons with that has to add it for each boot, as for each policy that begins a key anew.
#[test]
fn a_host_that_boots_gives_a_key_its_part_of_the_burst_once_more_and_no_more() {
    let mut host = ByPacket::new(INTERVAL, BURST, SLOTS, 1);
    assert_eq!(admitted(&mut host, START), BURST);
    assert_eq!(admitted(&mut host, START + BOOT), 0, "it goes on");
    let mut booted = ByPacket::new(INTERVAL, BURST, SLOTS, 2);
    assert_eq!(admitted(&mut booted, START + BOOT), BURST, "it has booted");
    assert_eq!(admitted(&mut booted, START + 2 * BOOT), 0);
}
