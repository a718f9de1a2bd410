//! The options of a run: saved with its model, for `--config` and for resuming the run.

use super::saved::{self, Saved};
use crate::error::{Error, Result};
use crate::text::inputs::is_standard_input;
use crate::train::checkpoint::{Checkpoint, ModelDir, Purpose};
use serde::Serialize;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The file of a checkpoint that contains the options it was trained with.
pub const OPTIONS: &str = "options.toml";

/// Options that name any file.
pub const PATHS: [&str; 6] = ["train", "valid", "pairs", "vectors", "test", "out"];
/// Options that name files of data.
const DATA: [&str; 4] = ["train", "valid", "pairs", "vectors"];

/// `options` as they are saved: independent of the working directory.
pub fn to_save(options: &impl Serialize) -> Result<Table> {
    let mut table = table(options)?;
    for name in PATHS {
        if let Some(Value::String(path)) = table.get_mut(name)
            && !is_standard_input(Path::new(path))
        {
            let whole = std::path::absolute(&*path).map_err(|e| Error::io(&*path, "resolving", e))?;
            let text = whole.into_os_string().into_string();
            *path = text.map_err(|_| unsaved("the directory name is not UTF-8"))?;
        }
    }
    Ok(table)
}

/// Saved options as the bytes of [`OPTIONS`].
pub fn to_toml(options: &Table) -> Result<Vec<u8>> {
    Ok(toml::to_string(options).map_err(unsaved)?.into_bytes())
}

fn table(options: &impl Serialize) -> Result<Table> {
    Table::try_from(options).map_err(unsaved)
}

fn unsaved(why: impl Display) -> Error {
    Error::Usage(format!("an option cannot be saved: {why}"))
}

/// An error that names the first option of `now` that differs from `before`, the options of the run to resume.
pub fn check_same(before: &impl Serialize, now: &impl Serialize) -> Result<()> {
    let (before, now) = (table(before)?, table(now)?);
    for key in now.keys().chain(before.keys()) {
        let same = match (before.get(key), now.get(key)) {
            // Data may have moved: its contents are compared when it is read.
            (Some(_), Some(_)) if DATA.contains(&key.as_str()) => true,
            (before, now) => before == now,
        };
        if !same {
            let show = |table: &Table| table.get(key).map_or("nothing".to_owned(), Value::to_string);
            let (now, before) = (show(&now), show(&before));
            return Err(Error::Usage(format!("--{key} {now}: the run to resume has {before}")));
        }
    }
    Ok(())
}

/// The options of the run of `checkpoint`; empty for an imported model.
pub fn read(checkpoint: &mut Checkpoint) -> Result<Table> {
    if !checkpoint.has(OPTIONS) {
        return Ok(Table::new());
    }
    let path = checkpoint.path().join(OPTIONS);
    let text = String::from_utf8_lossy(&checkpoint.read(OPTIONS)?).into_owned();
    text.parse::<Table>().map_err(|e| Error::model(&path, e.message().to_owned()))
}

/// Whether the run of `checkpoint` had the flag `key`.
pub fn is_set(checkpoint: &mut Checkpoint, key: &str) -> Result<bool> {
    Ok(read(checkpoint)?.get(key).and_then(Value::as_bool).unwrap_or(false))
}

/// The path and the text of a file of options; a model's directory stands for the options it was trained with.
pub fn text(path: PathBuf) -> Result<(PathBuf, String)> {
    let (path, bytes) = if path.is_dir() {
        // Through the checkpoint: its run may be about to remove the file.
        let mut checkpoint = saved::open(&path)?;
        (checkpoint.path().join(OPTIONS), checkpoint.read(OPTIONS)?)
    } else {
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, "reading", e))?;
        (path, bytes)
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok((path, text)),
        Err(e) => {
            let found = format!("invalid UTF-8 at byte {}", e.utf8_error().valid_up_to());
            Err(Error::input(&path, 0, found, "a TOML file"))
        }
    }
}

/// The file with the options of the run to resume in the directory `out`. An error if its model is of another kind than
/// `verb`, the command behind `train`, if given.
pub fn to_resume(out: &Path, verb: Option<&str>) -> Result<PathBuf> {
    let mut checkpoint = ModelDir::open(out)?.load_newest(Purpose::Resume)?;
    let options = checkpoint.path().join(OPTIONS);
    if !options.is_file() {
        return Err(Error::model(out, "was not made by wordmill train, so there is no run to resume"));
    }
    let saved = Saved::read(&mut checkpoint)?;
    if verb.is_some_and(|verb| verb != saved.verb()) {
        let what = format!("is a {}, which `wordmill train {} --resume` continues", saved.kind(), saved.verb());
        return Err(Error::model(out, what));
    }
    Ok(options)
}
