//! TOML files of options, read as the program reads them; two options that exclude each other end it before it trains.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::ffi::OsString;
use std::process::ExitCode;

fuzz_target!(|data: &[u8]| {
    let path = wordmill_fuzz::file("options.toml", data);
    wordmill_fuzz::limited(|| {
        let mut args: Vec<OsString> = ["wordmill", "--config"].map(Into::into).to_vec();
        args.push(path.into());
        let more = "train lm --train /nonexistent/text --out /nonexistent/model --threads 1 --tau 1 --stride 2";
        args.extend(more.split(' ').map(Into::into));
        assert_ne!(wordmill::cli::run(args), ExitCode::SUCCESS);
    });
});
