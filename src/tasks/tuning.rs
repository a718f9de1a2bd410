//! Tuning files: the fastest settings that `wordmill tune` found on a machine, for `train lm --tuning`.

use crate::blas::Precision;
use crate::error::{Error, Result};
use crate::kernels::isa;
use crate::layers::cells::Kind;
use crate::models::language_model::Sizes;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The sizes of a model that determine the time of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Subject {
    /// The instruction set.
    pub isa: String,
    /// Precision of the operands of products.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// The recurrent cell.
    pub cell: Kind,
    /// Whether the loss is over a sample of the words.
    pub sampled: bool,
    /// V
    pub words: usize,
    /// D
    pub embed: usize,
    /// H
    pub hidden: usize,
    /// Recurrent layers.
    pub layers: usize,
    /// τ
    pub tau: usize,
    /// Lanes: parallel streams of the text.
    pub batch: usize,
}

/// The fastest settings for a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// The model.
    pub subject: Subject,
    /// Number of threads; it does not affect results.
    pub threads: usize,
    /// Block sizes; they affect rounding, and the lanes of a shard also what dropout draws.
    pub sizes: Sizes,
    /// Words/s with these settings.
    pub words_per_second: f64,
    /// Words/s with the defaults.
    pub default_words_per_second: f64,
}

/// A file of entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// One per model.
    #[serde(default, rename = "entry")]
    pub entries: Vec<Entry>,
}

impl Subject {
    /// The instruction set in use.
    pub fn isa() -> String {
        isa().to_string()
    }

    /// Distance of the sizes, in squared logarithms; `None` if they cannot be compared.
    fn distance(&self, other: &Subject) -> Option<f64> {
        let kind = |s: &Subject| (s.isa.clone(), s.precision, s.cell, s.sampled);
        let sizes = |s: &Subject| [s.words, s.embed, s.hidden, s.layers, s.tau, s.batch];
        let apart = |(a, b): (usize, usize)| (a as f64 / b as f64).ln().powi(2);
        (kind(self) == kind(other)).then(|| sizes(self).into_iter().zip(sizes(other)).map(apart).sum())
    }
}

/// The path that `--tuning` names: `auto` stands for the default location.
pub fn place(option: &Path) -> Result<PathBuf> {
    if option.as_os_str() != "auto" {
        return Ok(option.to_owned());
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let base = base
        .ok_or_else(|| Error::Usage("--tuning auto needs HOME or XDG_CONFIG_HOME to be set; or give a file".into()))?;
    Ok(base.join("wordmill").join("tuning.toml"))
}

impl Tuning {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Tuning> {
        let text = fs::read_to_string(path).map_err(|e| Error::io(path, "reading the tuning", e))?;
        toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(0, |span| 1 + text[..span.start].matches('\n').count());
            Error::input(path, line, e.message().replace('\n', " "), "a file written by wordmill tune")
        })
    }

    /// The same; empty if the file does not exist.
    pub fn read_or_new(path: &Path) -> Result<Tuning> {
        match Tuning::read(path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(Tuning::default()),
            read => read,
        }
    }

    /// Adds an entry, replacing one for the same model.
    pub fn put(&mut self, entry: Entry) {
        self.entries.retain(|old| old.subject != entry.subject);
        self.entries.push(entry);
    }

    /// Writes the file atomically.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |e| Error::io(path, "writing the tuning", e);
        let text = toml::to_string(self).map_err(|e| Error::Usage(format!("the tuning cannot be saved: {e}")))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, path)).map_err(failed)
    }

    /// The entry for a model, or for the one closest in size with the same cell, loss and instruction set.
    pub fn find(&self, subject: &Subject) -> Option<&Entry> {
        let near = self.entries.iter().filter_map(|entry| Some((entry.subject.distance(subject)?, entry)));
        near.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(cell: Kind, hidden: usize, threads: usize) -> Entry {
        let subject = Subject {
            isa: "avx2".into(),
            precision: Precision::F32,
            cell,
            sampled: false,
            words: 10_000,
            embed: 50,
            hidden,
            layers: 1,
            tau: 10,
            batch: 64,
        };
        let sizes = Sizes { shard: Some(32), chunk: None, block: Some(80) };
        Entry { subject, threads, sizes, words_per_second: 2e4, default_words_per_second: 1.9e4 }
    }

    #[test]
    fn the_nearest_model_of_the_same_kind_is_found() {
        let mut tuning = Tuning::default();
        tuning.put(entry(Kind::Gru, 100, 1));
        tuning.put(entry(Kind::Gru, 400, 2));
        tuning.put(entry(Kind::Rnn, 180, 3));
        let threads = |cell, hidden| tuning.find(&entry(cell, hidden, 0).subject).map(|found| found.threads);
        assert_eq!((threads(Kind::Gru, 180), threads(Kind::Gru, 220)), (Some(1), Some(2)));
        assert_eq!((threads(Kind::Rnn, 9), threads(Kind::GatedFeedback, 100)), (Some(3), None));
        let other = Subject { isa: "avx512".into(), ..entry(Kind::Gru, 100, 1).subject };
        assert_eq!(tuning.find(&other), None);
        let other = Subject { precision: Precision::Bf16, ..entry(Kind::Gru, 100, 1).subject };
        assert_eq!(tuning.find(&other), None);
        tuning.put(entry(Kind::Gru, 100, 7));
        assert_eq!(tuning.entries.len(), 3);
        assert_eq!(tuning.find(&entry(Kind::Gru, 100, 0).subject).unwrap().threads, 7);
    }

    #[test]
    fn files_come_back_and_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/tuning.toml");
        assert_eq!(Tuning::read_or_new(&path).unwrap(), Tuning::default());
        let tuning = Tuning { entries: vec![entry(Kind::Gru, 100, 1), entry(Kind::GatedFeedback, 7, 2)] };
        tuning.write(&path).unwrap();
        assert_eq!(Tuning::read(&path).unwrap(), tuning);
        fs::write(&path, "[[entry]]\nthreads = 2\nelephants = 3\n").unwrap();
        let wrong = Tuning::read(&path).unwrap_err().to_string();
        assert!(wrong.contains("tuning.toml:") && wrong.contains("elephants") && !wrong.contains('\n'), "{wrong}");
        assert!(Tuning::read_or_new(&path).is_err());
    }
}
