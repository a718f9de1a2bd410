//! The vocabularies of language models and taggers: what is accepted is written again to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wordmill::text::Vocabulary;
use wordmill::text::words::WordIndex;

fuzz_target!(|data: &[u8]| {
    let path = wordmill_fuzz::file("vocabulary", data);
    wordmill_fuzz::limited(|| {
        if let Ok(vocabulary) = Vocabulary::read(&path) {
            let mut written = Vec::new();
            vocabulary.write_to(&mut written).expect("memory takes all");
            let path = wordmill_fuzz::file("again", &written);
            let again = Vocabulary::read(&path).expect("what was written is read");
            assert!(again.words().eq(vocabulary.words()) && again.counts() == vocabulary.counts());
        }
        if let Ok(text) = std::str::from_utf8(data)
            && let Ok(index) = WordIndex::parse(&path, text)
        {
            let again = WordIndex::parse(&path, &index.text()).expect("what was written is read");
            assert_eq!(again.words(), index.words());
        }
    });
});
