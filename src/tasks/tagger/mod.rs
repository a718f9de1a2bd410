//! Taggers on tagged text: model and data together.

pub mod encode;
pub mod read;
pub mod task;
pub mod text;
pub mod train;

pub use encode::{Encoded, Encoder};
pub use read::{Tagged, read_tagged};
pub use train::{Plan, train};

use super::lexicon::read_words;
use super::measure::{Measured, Measuring};
use super::memory;
use super::model::Model;
use super::neighbors::Points;
use super::saved::{CONFIG, NerConfig as Config, Saved, VOCABULARY, read_arena};
use crate::error::{Error, Result};
use crate::models::{Ner, ner};
use crate::notices::Notice;
use crate::params::Arena;
use crate::text::conll::Conll;
use crate::text::features::Suffixes;
use crate::text::spans::{Evaluation, Report};
use crate::text::tags::{self, Kinds, Labels, Tag};
use crate::text::{Inputs, list};
use crate::train::checkpoint::Checkpoint;
use std::path::Path;

/// The file of a checkpoint that lists the suffixes, one table per length.
pub const SUFFIXES: &str = "suffixes.json";

/// The words of a file, and the ends of its sentences.
pub fn words_and_ends(file: &Conll) -> (Vec<&str>, Vec<usize>) {
    (file.words().collect(), file.sentences().map(|sentence| sentence.end).collect())
}

/// A trained tagger.
pub struct Tagger {
    /// Its configuration.
    pub config: Config,
    /// The network.
    pub net: Ner,
    /// Its weights.
    pub w: Arena<f32>,
    /// The encoder of words.
    pub encoder: Encoder,
}

impl Tagger {
    /// The tags of sentences.
    ///
    /// # Errors
    /// There is not enough memory for the longest sentence.
    pub fn tag(&self, words: &[&str], ends: &[usize], inputs: &Inputs) -> Result<Vec<Tag>> {
        let encoded = self.encoder.encode(words, ends, self.config.net.window / 2);
        let longest = (0..ends.len()).map(|i| encoded.sentence(i).len()).max().unwrap_or(0);
        let work = format!("tagging (longest sentence: {longest} tokens)");
        memory::check_threads(&work, |threads| encoded.label_bytes(&self.net, threads), inputs)?;
        let labels = encoded.label(&self.net, &self.w);
        Ok(labels.into_iter().map(|label| self.config.labels.tag(label as usize)).collect())
    }

    /// Evaluates the tagger on a file.
    ///
    /// # Errors
    /// Those of [`Tagger::tag`].
    pub fn evaluate_tagged(&self, tagged: &Tagged, kinds: &Kinds, inputs: &Inputs) -> Result<Report> {
        let (words, ends) = words_and_ends(&tagged.file);
        Ok(evaluate(&self.tag(&words, &ends, inputs)?, tagged, kinds))
    }
}

impl Model for Tagger {
    fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let config = match Saved::read(checkpoint)? {
            Saved::Ner(config) => config,
            other => return Err(other.wrong_kind(checkpoint.path(), "taggers (wordmill train ner)")),
        };
        let words = read_words(checkpoint)?;
        let path = checkpoint.path().join(SUFFIXES);
        let suffixes: Vec<Suffixes> = if config.suffix {
            serde_json::from_slice(&checkpoint.read(SUFFIXES)?)
                .map_err(|error| Error::model(&path, format!("is not a list of suffixes: {error}")))?
        } else {
            Vec::new()
        };
        let path = checkpoint.path().join(CONFIG);
        let wrong = |what: String| Err(Error::model(&path, what));
        let encoder = Encoder { words, caps: config.caps, suffixes };
        let ner::Config { tables, window, hidden, labels, .. } = &config.net;
        let sane = |n: usize| (1..=1 << 20).contains(&n);
        let embed = tables.first().map_or(0, |table| table.width);
        if !sane(embed) || !sane(*hidden) || window % 2 == 0 || *window > MOST_PLACES {
            return wrong("has invalid sizes".into());
        }
        if *tables != encoder.tables(embed) || *labels != config.labels.count() {
            return wrong(format!("does not fit its {VOCABULARY}, {SUFFIXES} or labels"));
        }
        let net = Ner::new(config.net.clone());
        let w = read_arena(checkpoint, net.layout())?;
        Ok(Tagger { config, net, w, encoder })
    }

    fn weights(&self) -> &Arena<f32> {
        &self.w
    }

    fn vectors(&self) -> Option<Points<'_>> {
        Some(Points::indexed(&self.encoder.words, self.w.slice(self.net.words())))
    }

    fn evaluate(&self, file: &Path, how: &Measuring, inputs: &Inputs) -> Result<Measured> {
        let form = how.form.form(self.config.form)?;
        let labels = &self.config.labels;
        let mut kinds = labels.kinds.clone();
        let tagged = read_tagged(file, form, Some(labels.scheme), &mut kinds, inputs)?;
        warn_of_unseen(labels, &tagged, &kinds, inputs)?;
        let report = self.evaluate_tagged(&tagged, &kinds, inputs)?;
        let unknown = self.encoder.words.coverage(tagged.file.words());
        let text = format!("{}words: {unknown}\n\n{}", report.table(), report.confusion.table().trim_end());
        Ok(Measured::new(&report, text, Some(report.confusion.clone())))
    }
}

/// Evaluates predicted tags against those of a file.
pub fn evaluate(predicted: &[Tag], tagged: &Tagged, kinds: &Kinds) -> Report {
    let mut evaluation = Evaluation::new(tagged.gold.scheme);
    for sentence in tagged.file.sentences() {
        evaluation.add(&tagged.gold.tags[sentence.clone()], &predicted[sentence]);
    }
    evaluation.report(kinds)
}

/// Warns about tags in `other` that the tagger does not know: they are evaluated, and always wrong.
pub fn warn_of_unseen(labels: &Labels, other: &Tagged, kinds: &Kinds, inputs: &Inputs) -> Result<()> {
    let known: Vec<Tag> = (0..labels.count()).map(|label| labels.tag(label)).collect();
    let unseen = tags::unseen(&known, &other.gold.tags);
    if unseen.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> =
        unseen.iter().map(|(tag, count)| format!("{} ({count})", tag.text(kinds, other.gold.scheme))).collect();
    let found = format!("tags that do not occur in the training text: {}", list(&texts, 10));
    inputs.warn(Notice::of_file(other.file.path(), 0, found).done("they count as errors"))
}

/// The maximum window size.
pub const MOST_PLACES: usize = 31;
