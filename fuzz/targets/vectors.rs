//! Word vectors of any form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wordmill::text::vectors::{Vectors, Wanted};

fuzz_target!(|data: &[u8]| {
    wordmill_fuzz::limited(|| {
        if let Ok(vectors) = Vectors::parse("vectors", data, Wanted::words(["the", "of", "a", "1999"]), &Default::default()) {
            if let Some((row, _)) = vectors.find("the") {
                assert!(row.iter().all(|x| x.is_finite()));
            }
        }
    });
});
