//! TOML files of options, and what becomes of them on the command line.
#![no_main]

use clap::Command;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::ffi::OsString;
use wordmill::cli::{config, definition};

thread_local! {
    /// Made once: that takes longer than reading a file.
    static COMMAND: RefCell<Command> = RefCell::new(definition());
}

fuzz_target!(|data: &[u8]| {
    let path = wordmill_fuzz::file("options.toml", data);
    wordmill_fuzz::limited(|| {
        COMMAND.with_borrow_mut(|command| {
            let mut args: Vec<OsString> = ["wordmill", "--config"].map(Into::into).to_vec();
            args.push(path.into());
            args.extend("train lm --train text --out model --threads 1".split(' ').map(Into::into));
            if let Ok(args) = config::expand(args, command) {
                _ = command.try_get_matches_from_mut(args);
            }
        });
    });
});
