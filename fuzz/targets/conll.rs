//! CoNLL files, with every choice of columns and schemes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wordmill::text::conll::{Column, Conll, Form};
use wordmill::text::tags::{Kinds, Scheme};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    wordmill_fuzz::limited(|| {
        let column = if choice & 1 == 0 { Column::Last } else { Column::Number(2 + (choice >> 4) as usize) };
        let Ok(text) = String::from_utf8(text.to_vec()) else { return };
        let longest = if choice & 8 == 0 { 5 } else { Form::LONGEST };
        let form = Form { word: 1 + (choice >> 7) as usize, tags: column, longest };
        let scheme = [None, Some(Scheme::Iob1), Some(Scheme::Iob2), Some(Scheme::Iobes)][(choice >> 1) as usize & 3];
        if let Ok(file) = Conll::parse("data.conll", text.clone(), form) {
            let mut kinds = Kinds::default();
            if let Ok(gold) = file.gold(scheme, &mut kinds) {
                assert_eq!(gold.tags.len(), file.tokens());
            }
            let mut out = Vec::new();
            file.write(&mut out, |_| "O").expect("memory takes all");
            // Whether a line that begins with `#` is a comment depends on the columns, of which there is one more now.
            if column == Column::Last && file.tokens() > 0 && !text.contains('#') {
                let out = String::from_utf8(out).expect("text stays text");
                let again = Conll::parse("again.conll", out, form).expect("what was written is read");
                assert_eq!(again.tokens(), file.tokens());
            }
        }
    });
});
