//! Binary word vectors: a header that may claim anything, and bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wordmill::text::vectors::{Vectors, Wanted};

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<4>() else { return };
    wordmill_fuzz::limited(|| {
        let rows = (head[0] as u64 % 16) << (head[1] % 60);
        let width = (head[2] as u64 % 8) << (head[3] % 18);
        let mut bytes = format!("{rows} {width}\n").into_bytes();
        bytes.extend(rest);
        if let Ok(vectors) = Vectors::parse("vectors.bin", bytes.as_slice(), Wanted::words(["the", "of", "a", "b"]), &Default::default()) {
            if let Some((row, _)) = vectors.find("the") {
                assert!(row.iter().all(|x| x.is_finite()));
            }
        }
    });
});
