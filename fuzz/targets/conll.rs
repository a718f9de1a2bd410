//! CoNLL files, with every choice of columns and schemes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wordmill::text::conll::{Column, Conll};
use wordmill::text::tags::{Kinds, Scheme};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    wordmill_fuzz::limited(|| {
        let column = if choice & 1 == 0 { Column::Last } else { Column::Number(2 + (choice >> 4) as usize) };
        let scheme = [None, Some(Scheme::Iob1), Some(Scheme::Iob2), Some(Scheme::Iobes)][(choice >> 1) as usize & 3];
        if let Ok(file) = Conll::parse("data.conll", text.to_vec(), column) {
            let mut kinds = Kinds::default();
            if let Ok(gold) = file.gold(scheme, choice & 8 != 0, &mut kinds) {
                assert_eq!(gold.tags.len(), file.tokens());
            }
            let mut out = Vec::new();
            file.write(&mut out, |_| "O").expect("memory takes all");
            if file.tokens() > 0 {
                let again = Conll::parse("again.conll", out, Column::Last).expect("what was written is read");
                assert_eq!(again.tokens(), file.tokens());
            }
        }
    });
});
