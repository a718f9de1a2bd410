//! Pairs of words, and words with labels.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wordmill::text::labelled::LabelledWords;
use wordmill::text::pairs::{Grades, Pairs};

fuzz_target!(|data: &[u8]| {
    let path = wordmill_fuzz::file("pairs.tsv", data);
    wordmill_fuzz::limited(|| {
        if let Ok(pairs) = Pairs::read(&path, &[], &Default::default()) {
            assert_eq!(pairs.words().count(), 2 * pairs.pairs.len());
            _ = Grades::of(pairs.pairs.iter().map(|pair| pair.label));
        }
        if let Ok(words) = LabelledWords::read(&path, &[], &Default::default()) {
            assert!(words.labels().len() <= data.len());
        }
    });
});
