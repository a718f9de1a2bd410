//! Word vectors as word2vec's text has them.

use super::neighbors::Points;
use crate::error::{Error, Result, counted};
use crate::notices::Notice;
use crate::text::Inputs;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes a line with the numbers of words and of numbers per word, then each word and its numbers. Words that stand for none of a text
/// are left out.
pub fn export(vectors: &Points, path: &Path, inputs: &Inputs) -> Result<()> {
    let width = vectors.width();
    let kept = |word: &str| !matches!(word, "<unk>" | "<eos>" | "<s>" | "</s>") && !word.contains(' ');
    let rows = vectors.words.iter().zip(vectors.table.chunks_exact(width)).filter(|(word, _)| kept(word));
    let file = File::create_new(path).map_err(|e| Error::io(path, "making the file", e))?;
    let mut file = BufWriter::new(file);
    let mut write = || {
        writeln!(file, "{} {width}", rows.clone().count())?;
        for (word, row) in rows.clone() {
            write!(file, "{word}")?;
            row.iter().try_for_each(|x| write!(file, " {x}"))?;
            writeln!(file)?;
        }
        file.flush()
    };
    let written = write();
    if written.is_err() {
        // Half a file is none; what cannot be removed is reported by the next export.
        _ = std::fs::remove_file(path);
    }
    written.map_err(|e| Error::io(path, "writing", e))?;
    let spaced = vectors.words.iter().filter(|word| word.contains(' ')).count();
    if spaced > 0 {
        let found = format!("{} with a space, which ends a word there", counted(spaced, "word"));
        inputs.warn(Notice::of_file(path, 0, found).done("left out"))?;
    }
    Ok(())
}
