//! jemalloc, with zeroed memory made as cheap as other memory.
//!
//! Where large memory is to be zeroed, jemalloc gives its pages back to the kernel, which faults each of them in again,
//! zeroed: several times the cost of zeroing them in place. The `kafka` crate reads every answer into a zeroed buffer
//! of its own, so a thousand records of 200 bytes cost fifty page faults.

#![expect(
    unsafe_code,
    reason = "an allocator is unsafe by definition; all calls are forwarded"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use tikv_jemallocator::Jemalloc;

/// From this size on jemalloc has no cache per thread, by default, and asks the kernel for zeroes.
const LARGE: usize = 32 * 1024;

/// The largest response that the `kafka` crate requests, with headers.
const LARGEST: usize = 128 * 1024 * 1024;

/// One arena for all threads, where jemalloc has four per processor by default. Memory is allocated by one thread and
/// freed by another all the time: batches by the thread that reads and by writers, and rows of tables by writers of which
/// each batch may have another. What is freed is taken again only from the same arena, so that a table whose rows were
/// updated in random order took 1.8 times what it counts. With one arena it takes as much as it counts, and fewer pages
/// are faulted in. Threads seldom meet there, as small memory is cached per thread.
///
/// By default freed memory of 8 MiB and more goes back to the kernel at once, and responses for eight partitions are that
/// large. Up to the largest response it goes back like other memory, after ten seconds without use.
#[unsafe(export_name = "_rjem_malloc_conf")]
#[used]
static SETTINGS: &[u8; 39] = b"narenas:1,oversize_threshold:134217728\0";

/// The allocator of the program.
pub(crate) struct Allocator;

// SAFETY: all calls are forwarded to an allocator that keeps the contract; memory is zeroed where the contract requires it.
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
