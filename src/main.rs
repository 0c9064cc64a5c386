//! Runs the command line and returns its exit code. Everything else is in the library.

use std::process::ExitCode;

#[cfg(feature = "jemalloc")]
mod allocator;

/// Set in the program only: the users of a library choose their own allocator.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    kafka_sse_bridge::cli::main()
}
