//! Reads what the receiver's kernel program counts: packets in bins of one millisecond, in front
//! of the limiter and behind it.

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{MapData, PerCpuArray},
    programs::{SchedClassifier, TcAttachType},
};

use crate::{
    clock,
    namespace::Namespace,
    series::{Bin, Series},
};

/// Protocol numbers (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bins of one map entry, as in the program.
const BINS_PER_BLOCK: usize = 128;
/// Map entries, as in the program.
const BLOCKS: u64 = 64;
/// Low bits of a slot that count packets, as in the program.
const COUNT_BITS: u32 = 24;
/// Bins this young may still be counted into.
const UNSETTLED_BINS: u64 = 20;
/// How far back the program remembers, less the block that it is writing.
const MEMORY_BINS: u64 = (BLOCKS - 1) * BINS_PER_BLOCK as u64;

/// Which side of the limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In front: the egress of the router's interface towards a host.
    Offered,
    /// Behind: the ingress of a host's interface. The counted packets end here.
    Admitted,
    /// Behind, for TCP: the counted segments go on to their sockets.
    Flows,
}

/// Counts the packets to one UDP port, or the segments to one TCP port, at one interface, until it is dropped.
pub struct Receiver {
    /// Owns program and link.
    _program: Ebpf,
    bins: PerCpuArray<MapData, [u64; BINS_PER_BLOCK]>,
    next: Bin,
    series: Series,
}

impl Receiver {
    /// Attaches the program to an interface of a namespace.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the program, or there is no such interface.
    pub fn attach(namespace: &Namespace, interface: &str, side: Side, port: u16) -> Result<Self> {
        let protocol = if side == Side::Flows { TCP } else { UDP };
        let object = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-receiver.o"));
        let mut program = EbpfLoader::new()
            .override_global("PORT", &port, true)
            .override_global("PROTOCOL", &protocol, true)
            .load(object)
            .context("cannot load the receiver's program")?;
        let (name, direction) = match side {
            Side::Offered => ("offered", TcAttachType::Egress),
            Side::Admitted => ("admitted", TcAttachType::Ingress),
            Side::Flows => ("offered", TcAttachType::Ingress),
        };
        let classifier: &mut SchedClassifier = program
            .program_mut(name)
            .context("the object has both programs")?
            .try_into()?;
        classifier.load()?;
        namespace
            .inside(|| classifier.attach(interface, direction))?
            .with_context(|| format!("cannot count at {interface} of {}", namespace.name()))?;
        let bins = program.take_map("BINS").context("the object has the map")?;
        let next = clock::this_bin();
        let mut series = Series::default();
        series.add(next, 0);
        Ok(Self {
            bins: PerCpuArray::try_from(bins)?,
            _program: program,
            next,
            series,
        })
    }

    /// Reads all bins that are complete by now.
    ///
    /// # Errors
    ///
    /// If it was called so late that bins have been overwritten, or the map cannot be read.
    pub fn read(&mut self) -> Result<&Series> {
        let end = clock::this_bin().saturating_sub(UNSETTLED_BINS);
        if end.saturating_sub(self.next) > MEMORY_BINS {
            bail!(
                "the receiver was read too late: {} ms are lost",
                end - self.next - MEMORY_BINS
            );
        }
        let block_length = BINS_PER_BLOCK as u64;
        while self.next < end {
            let block = self.next / block_length;
            let block_end = end.min((block + 1) * block_length);
            let slots = self.bins.get(&u32::try_from(block % BLOCKS)?, 0)?;
            for bin in self.next..block_end {
                let index = usize::try_from(bin % block_length)?;
                let packets: u64 = slots.iter().map(|cpu| packets_of(cpu[index], bin)).sum();
                self.series.add(bin, u32::try_from(packets)?);
            }
            self.next = block_end;
        }
        Ok(&self.series)
    }

    /// Everything that was read so far.
    #[must_use]
    pub fn series(&self) -> &Series {
        &self.series
    }
}

/// A slot's packets, if it is of this bin and not of an earlier turn of the ring.
const fn packets_of(slot: u64, bin: Bin) -> u64 {
    if slot >> COUNT_BITS == bin {
        slot & ((1 << COUNT_BITS) - 1)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_an_earlier_turn_is_empty() {
        assert_eq!(packets_of(700 << COUNT_BITS | 12, 700), 12);
        assert_eq!(
            packets_of(700 << COUNT_BITS | 12, 700 + MEMORY_BINS + 128),
            0
        );
        assert_eq!(packets_of(0, 700), 0);
    }
}
