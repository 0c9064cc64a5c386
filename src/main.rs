//! Parses, runs, and gives the exit code. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    kafka_sse_bridge::cli::main()
}
