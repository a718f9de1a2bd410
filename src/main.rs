//! The program; all of it is in the library.

use std::ffi::OsString;
use std::process::ExitCode;
use wordmill::cli;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    cli::panics::reported(&args, || cli::run(args.clone()))
}
