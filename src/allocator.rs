//! jemalloc, with zeroed memory made as cheap as other memory.
//!
//! It takes the place of malloc(3) too (`unprefixed_malloc_on_supported_platforms` of its crate), so that librdkafka, which
//! allocates a message on one thread and frees it on another, has it as well.
//!
//! For a large zeroed allocation, jemalloc returns the pages to the kernel, which faults in a zeroed page for each: this
//! costs several times as much as zeroing in place. The `kafka` crate reads every response into a new zeroed buffer, so
//! a thousand records of 200 bytes cost fifty page faults.

#![expect(
    unsafe_code,
    reason = "an allocator is unsafe by definition; all calls are forwarded"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use tikv_jemallocator::Jemalloc;

/// From this size on jemalloc by default has no thread cache, and gets zeroed pages from the kernel.
const LARGE: usize = 32 * 1024;

/// The largest response that the `kafka` crate requests, with headers.
const LARGEST: usize = 128 * 1024 * 1024;

/// One arena for all threads; jemalloc's default is four per processor. One thread often frees what another allocated:
/// the reading thread and writers share batches, and each batch may run on another writer thread that allocates rows of
/// tables. Freed memory is reused only within its arena, so a table whose rows were updated in random order took 1.8
/// times its counted size. With one arena it takes its counted size, with fewer page faults. Contention is low, because
/// small allocations are cached per thread.
///
/// By default jemalloc returns freed memory of 8 MiB and more to the kernel at once, and responses for eight partitions
/// are that large. Here, memory up to the largest response is returned like other memory, after ten seconds without use.
#[unsafe(export_name = "malloc_conf")]
#[used]
static SETTINGS: &[u8; 39] = b"narenas:1,oversize_threshold:134217728\0";

/// The allocator of the program.
pub(crate) struct Allocator;

// SAFETY: all calls are forwarded to an allocator that keeps the contract; memory is zeroed where the contract requires
// it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { Jemalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !(LARGE..LARGEST).contains(&layout.size()) {
            // SAFETY: as the caller promises.
            return unsafe { Jemalloc.alloc_zeroed(layout) };
        }
        // SAFETY: as the caller promises.
        let memory = unsafe { Jemalloc.alloc(layout) };
        if !memory.is_null() {
            // SAFETY: the allocation has this many bytes, and nothing else refers to it.
            unsafe { ptr::write_bytes(memory, 0, layout.size()) };
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises; the memory is jemalloc's.
        unsafe { Jemalloc.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises; the memory is jemalloc's.
        unsafe { Jemalloc.realloc(memory, layout, size) }
    }
}
