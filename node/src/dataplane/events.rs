//! What the kernel's programs say about packets that they sampled.

use std::net::IpAddr;

use weir_abi::{Event, Reason, from_bytes, maps};
use weir_model::{LimitId, Nanos};

use super::{Dataplane, error::DataplaneError, maps::map_error};

/// One packet, with what was decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was decided, on the kernel's clock.
    pub at: Nanos,
    /// Who sent it, or claims to have.
    pub source: IpAddr,
    /// Where it went.
    pub destination: IpAddr,
    /// The IANA protocol number.
    pub protocol: u8,
    /// Destination port of TCP and UDP; 0 otherwise.
    pub port: u16,
    /// Bytes of the frame, without check sequence.
    pub bytes: u32,
    /// Packets for which it stands, itself included.
    pub weight: u32,
    /// Why it passed or was dropped.
    pub reason: Reason,
    /// The limit that decided; the first one that applied, if the packet passed.
    pub limit: LimitId,
    /// How far it was over: units, or nanoseconds if the bucket of a key refused it that is not
    /// leased. 0 if it passed.
    pub over: u64,
    /// Whether the limit is keyed, and the leased bucket of a hot key refused the packet.
    pub is_hot: bool,
    /// All limits that applied.
    pub limits: Vec<LimitId>,
}

impl Dataplane {
    /// Takes what has been sampled since the last call, at most `most`. What limits of a former
    /// policy say is left out.
    pub fn samples(&mut self, most: usize) -> Vec<Sample> {
        let mut samples = Vec::new();
        for _ in 0..most {
            let Some(bytes) = self.maps.events.next() else {
                break;
            };
            let Some(event) = from_bytes::<Event>(&bytes) else {
                continue;
            };
            drop(bytes);
            samples.extend(self.sample(&event));
        }
        samples
    }

    fn sample(&self, event: &Event) -> Option<Sample> {
        let owner = |slot: &u32| self.slots.owner(*slot);
        let limits: Vec<LimitId> = event
            .slots
            .iter()
            .take(usize::from(event.count))
            .filter_map(owner)
            .collect();
        Some(Sample {
            at: Nanos(event.at_ns),
            source: address(event.family, event.source),
            destination: address(event.family, event.destination),
            protocol: event.protocol,
            port: event.port,
            bytes: event.bytes,
            weight: event.weight,
            reason: *Reason::ALL.get(usize::from(event.reason))?,
            limit: owner(&event.slot)?,
            over: event.over,
            is_hot: event.hot != 0,
            limits,
        })
    }

    /// Has about one packet in `one_in`, rounded up to a power of two, be sampled; 0 for none.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn set_sampling(&mut self, one_in: u32) -> Result<(), DataplaneError> {
        let power = if one_in == 0 {
            0
        } else {
            one_in.checked_next_power_of_two().unwrap_or(1 << 31)
        };
        self.maps
            .sampling
            .set(0, u64::from(power), 0)
            .map_err(map_error(maps::SAMPLING))
    }
}

fn address(family: u8, words: [u32; 4]) -> IpAddr {
    if family == 4 {
        return IpAddr::from(words[0].to_ne_bytes());
    }
    let mut bytes = [0; 16];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::from(bytes)
}
