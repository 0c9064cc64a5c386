//! Parses, runs, and gives the exit code. Everything else is in the library.

use std::process::ExitCode;

#[cfg(feature = "jemalloc")]
mod allocator;

/// Only of the program: a library leaves the choice to whoever uses it.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    kafka_sse_bridge::cli::main()
}
