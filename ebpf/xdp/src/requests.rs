//! The data of test-runs of `install` and `sweep`.

use aya_ebpf::programs::XdpContext;
use weir_abi::{InstallHeader, InstallRequest, InstallStatus, REQUEST_VERSION, SweepRequest};
use weir_limiter::KeyTable as _;

use crate::{
    environment::{Maps, limit, now},
    kernel_memory::KernelMemory,
};

/// What the program returns: how many requests it decided. 0 if the data are no batch.
#[inline(always)]
pub(crate) fn install_all(context: &XdpContext) -> u32 {
    let data = context.data();
    let data_end = context.data_end();
    let Some(header) = value::<InstallHeader>(data, data_end) else {
        return 0;
    };
    // SAFETY: `value` checked that all of it lies within the data.
    let header = unsafe { *header };
    if header.magic != InstallHeader::MAGIC || header.version != REQUEST_VERSION {
        return 0;
    }
    let mut decided = 0;
    for index in 0..InstallHeader::MAX_COUNT {
        if index >= header.count as usize {
            break;
        }
        let start = data + size_of::<InstallHeader>() + index * size_of::<InstallRequest>();
        let Some(request) = value::<InstallRequest>(start, data_end) else {
            break;
        };
        // SAFETY: `value` checked that all of it lies within the data, which nobody else has.
        install_one(unsafe { &mut *request });
        decided += 1;
    }
    decided
}

#[inline(always)]
fn install_one(request: &mut InstallRequest) {
    let status = match limit(request.slot) {
        Some(slot) => {
            let now = now();
            request.decided_ns = now;
            weir_limiter::install(slot, request, now)
        }
        None => InstallStatus::Malformed,
    };
    request.status = status as u16;
}

/// What the program returns: how many lines it looked at.
#[inline(always)]
pub(crate) fn sweep_lines(context: &XdpContext) -> u32 {
    let Some(request) = value::<SweepRequest>(context.data(), context.data_end()) else {
        return 0;
    };
    // SAFETY: `value` checked that all of it lies within the data, which nobody else has.
    let request = unsafe { &mut *request };
    if request.magic != SweepRequest::MAGIC || request.version != REQUEST_VERSION {
        return 0;
    }
    let first_line = request.first_line;
    let lines = request.lines;
    let now = now();
    let mut busy = 0;
    let mut seen = 0;
    while seen < SweepRequest::MAX_LINES && seen < lines {
        let Some(line) = Maps.line(first_line.wrapping_add(seen)) else {
            break;
        };
        // SAFETY: a line of the map, which the programs access in this way alone.
        busy += unsafe { weir_limiter::sweep::<KernelMemory>(line, now) };
        seen += 1;
    }
    request.busy = busy;
    seen
}

/// The value at `start`, if all of it lies before the end.
#[inline(always)]
fn value<T>(start: usize, data_end: usize) -> Option<*mut T> {
    (start + size_of::<T>() <= data_end).then_some(start as *mut T)
}
