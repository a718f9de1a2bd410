//! What goes on from run to run beside tensors: the state of a run, its reports, and grammars.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use wordmill::text::grammar::Grammar;
use wordmill::train::fit::State;
use wordmill::train::metrics;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    wordmill_fuzz::limited(|| match choice % 3 {
        0 => _ = serde_json::from_slice::<State>(data),
        1 => _ = metrics::read(&wordmill_fuzz::file("metrics.jsonl", data)),
        _ => {
            if let Ok(text) = std::str::from_utf8(data) {
                _ = Grammar::parse(Path::new("grammar"), text);
            }
        }
    });
});
