//! The edge agent. Everything is in the library; see `holdover::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdover::collect::exec::entry().unwrap_or_else(holdover::cli::main)
}
