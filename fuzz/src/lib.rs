//! What every target has in common: memory is counted, and bounded by the input's length.
//!
//! libFuzzer's `-malloc_limit_mb` needs a sanitizer's runtime, which Debian's Rust has not, and a
//! limit in megabytes says little of an input of some bytes: here each input has its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts what the Rust side of the process holds.
pub struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the arguments that came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as this function's own condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as this function's own condition.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `work` and sees that at no moment it held more than `per_byte` bytes for each of `input`
/// bytes, and `constant` beside them.
///
/// # Panics
/// When it did.
pub fn bounded<T>(input: usize, per_byte: usize, constant: usize, work: impl FnOnce() -> T) -> T {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = work();
    let most = PEAK.load(Relaxed).saturating_sub(before);
    let limit = per_byte * input + constant;
    assert!(most <= limit, "{most} bytes of memory for {input} bytes of input; {limit} are allowed");
    result
}

/// Cuts an input in two at its first line that is only `%`, so that one input can be two files.
#[must_use]
pub fn two(data: &[u8]) -> (&[u8], &[u8]) {
    const BETWEEN: &[u8] = b"\n%\n";
    match data.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        Some(at) => (&data[..at + 1], &data[at + BETWEEN.len()..]),
        None => (data, &[]),
    }
}
