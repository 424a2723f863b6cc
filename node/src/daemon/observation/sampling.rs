//! How many packets are looked at.

/// Samples that are wanted of a tick, at most: enough to find whoever has a hundredth of the
/// traffic within a second, and far fewer than the ring holds.
pub(super) const SAMPLES_WANTED: u64 = 1_000;
/// Samples that are taken in a tick, at most. The ring holds a few more, and what comes when it is
/// full is lost and counted; all of it would take a tick's time.
pub(super) const SAMPLES_TAKEN: usize = 8_192;

/// The distance between samples: one packet of limits in about so many, a power of two.
///
/// It grows at once and shrinks by half a tick, or the first tick of traffic that comes in bursts
/// would fill the ring.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sampling {
    one_in: u32,
    packets: Option<u64>,
}

impl Sampling {
    /// The distance in force; 0 before the first tick.
    pub(super) const fn one_in(self) -> u32 {
        self.one_in
    }

    /// The distance for the next tick, given the packets of limits so far.
    pub(super) fn next(self, packets: u64) -> Self {
        // Before the first tick nothing is known, and counters that went back are new ones.
        let before = self.packets.unwrap_or(packets);
        let in_last_tick = packets.saturating_sub(before);
        let wanted = in_last_tick.div_ceil(SAMPLES_WANTED).max(1);
        let wanted = wanted.checked_next_power_of_two().unwrap_or(FARTHEST);
        let wanted = u32::try_from(wanted.min(FARTHEST)).expect("the farthest is below 2^32");
        Self {
            one_in: wanted.max(self.one_in / 2),
            packets: Some(packets),
        }
    }
}

/// A thousand samples of more packets than a tick can have.
const FARTHEST: u64 = 1 << 24;

const _: () = {
    assert!(SAMPLES_WANTED < SAMPLES_TAKEN as u64);
    assert!(SAMPLES_TAKEN * size_of::<weir_abi::Event>() < weir_abi::maps::EVENT_RING_BYTES);
    assert!(FARTHEST.is_power_of_two());
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The distances after ticks with so many packets.
    fn distances(ticks: &[u64]) -> Vec<u32> {
        let mut sampling = Sampling::default().next(5_000_000);
        let mut packets = 5_000_000;
        ticks
            .iter()
            .map(|tick| {
                packets += tick;
                sampling = sampling.next(packets);
                sampling.one_in()
            })
            .collect()
    }

    #[test]
    fn a_trickle_is_looked_at_packet_by_packet() {
        assert_eq!(Sampling::default().one_in(), 0);
        assert_eq!(distances(&[0, 1, 1_000]), [1, 1, 1]);
    }

    #[test]
    fn a_flood_gives_at_most_so_many_samples() {
        for packets in [1_001, 2_000, 2_001, 100_000, 14_800_000, u64::MAX / 2] {
            let [one_in] = distances(&[packets])[..] else {
                panic!("one tick")
            };
            assert!(one_in.is_power_of_two());
            let samples = packets / u64::from(one_in);
            assert!(samples <= SAMPLES_WANTED || one_in == 1 << 24, "{packets}");
            assert!(samples >= SAMPLES_WANTED / 2, "{packets}: {samples}");
        }
    }

    #[test]
    fn it_comes_closer_by_half_a_tick() {
        assert_eq!(distances(&[64_000, 0, 0, 3_000, 0]), [64, 32, 16, 8, 4]);
        assert_eq!(distances(&[64_000, 0, 200_000]), [64, 32, 256]);
    }

    #[test]
    fn counters_that_went_back_are_no_traffic() {
        let sampling = Sampling::default().next(1 << 40).next(7);
        assert_eq!(sampling.one_in(), 1);
        assert_eq!(sampling.next(7 + 4_000).one_in(), 4);
    }
}
