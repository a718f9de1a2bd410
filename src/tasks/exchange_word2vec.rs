//! Word vectors in the text format of word2vec.

use super::neighbors::Points;
use crate::error::{Error, Result, counted};
use crate::notices::Notice;
use crate::text::Inputs;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes a line with the number of words and the width of their vectors, then each word and its vector. Special tokens are omitted.
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
        // An incomplete file is removed; if that fails, the next export reports it.
        _ = std::fs::remove_file(path);
    }
    written.map_err(|e| Error::io(path, "writing", e))?;
    let spaced = vectors.words.iter().filter(|word| word.contains(' ')).count();
    if spaced > 0 {
        let found = format!("{} with a space, which separates fields in this format", counted(spaced, "word"));
        inputs.warn(Notice::of_file(path, 0, found).done("left out"))?;
    }
    Ok(())
}
