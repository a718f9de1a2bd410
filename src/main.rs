//! The program; all of it is in the library.

use std::ffi::OsString;
use std::process::ExitCode;
use wordmill::{cli, sys::panics};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    panics::reported(&args, || cli::run(args.clone()))
}
