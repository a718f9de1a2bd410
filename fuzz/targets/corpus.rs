//! Texts to train on, and to read in the words of another.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wordmill::text::{Corpus, Lines};

fuzz_target!(|data: &[u8]| {
    let path = wordmill_fuzz::file("corpus", data);
    wordmill_fuzz::limited(|| {
        let most = data.first().map(|&byte| 3 + byte as usize).filter(|n| n % 2 == 0);
        let read = Corpus::read_training(&path, 1, most, &Default::default(), &Default::default());
        if let Ok((vocabulary, corpus)) = read {
            assert!(corpus.ids.iter().all(|&id| (id as usize) < vocabulary.len()));
            let again = Corpus::read_with(&path, &vocabulary, &Default::default()).expect("what was read once is read again");
            assert_eq!(again.ids, corpus.ids);
            let lines = Lines::read_with(&path, &vocabulary, &Default::default()).expect("as lines too");
            assert_eq!(lines.ids.len(), *lines.starts.last().expect("an end"));
        }
    });
});
