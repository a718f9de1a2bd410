//! `wordmill train ner`

use super::memory::Needs;
use super::ner::{Encoder, MOST_PLACES, NerData, NerTask, Reading, SUFFIXES, Tagger, warn_of_unseen, words_and_ends};
use super::output_failed;
use super::profile::{self, Profiled};
use super::saved::{CONFIG, NerConfig as Config, OPTIONS, Saved, VOCABULARY, check_same};
use super::values::{count, keep_probability, not_negative, positive, seed, size, threads};
use crate::error::{Error, Result};
use crate::kernels::dropout::Keep;
use crate::models::ner::Objective;
use crate::models::{Init, Ner, ner};
use crate::params::Arena;
use crate::text::conll::Column;
use crate::text::spans::Report;
use crate::text::tags::{Kinds, Labels, Scheme};
use crate::text::vectors::Vectors;
use crate::text::words::Coverage;
use crate::train::checkpoint::{Checkpoint, STATE};
use crate::train::fit::{Fit, Plan, State, read_optimizer};
use crate::train::metrics::Metrics;
use crate::train::optimizer::{Optimizer, Rule};
use crate::train::progress::{Progress, Style};
use crate::train::saver::Saver;
use crate::train::schedule::{EarlyStopping, Kind, Schedule};
use crate::train::signals::Signals;
use crate::train::writer::Writer;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Train a tagger on CoNLL files: one token a line, its word in the first column, its tag in the last
///
/// The defaults suit texts of some ten to some hundred thousand words. The best model on the validation text is what eval and
/// tag use.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "\
Examples:
  wordmill train ner --train train.conll --valid valid.conll --test test.conll --out tagger
  wordmill train ner --train train.conll --valid valid.conll --out tagger --vectors glove.6B.50d.txt
  wordmill train ner --train train.conll --valid valid.conll --out tagger --features none --objective window
  wordmill train ner --out tagger --resume               continue after Ctrl-C, to the same bits")]
pub struct NerOptions {
    /// Tagged text to learn from
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Tagged text to measure F1 on after every epoch
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// Tagged text to evaluate the best model on in the end
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<PathBuf>,
    /// Directory of the model; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokens that the net sees at a time, odd
    #[arg(long, default_value = "3", value_parser = window, value_name = "TOKENS")]
    window: usize,
    /// Width of a word vector [default: 50, or that of --vectors]
    #[arg(long, value_parser = size, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    embed: Option<usize>,
    /// Hidden units
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Dropout: the share of the net's inputs and of its hidden units that is kept
    #[arg(long, default_value = "0.9", value_parser = keep_probability, value_name = "P")]
    keep_prob: f64,
    /// L2 penalty lambda/2 (|W|^2 + |U|^2)
    #[arg(long, default_value = "0.001", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    /// Update rule; the moments of word vectors decay with adam only when the word is in a batch
    #[arg(long, default_value = "adam", value_enum)]
    optimizer: Rule,
    /// Learning rate [default: adam 0.001, adagrad 0.05, sgd 0.1]
    #[arg(long, value_parser = positive, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    lr: Option<f64>,
    /// How the learning rate changes
    #[arg(long, default_value = "linear", value_enum)]
    schedule: Kind,
    /// Tokens of a step; with --objective sentence, of as many sentences as have so many on average
    #[arg(long, default_value = "64", value_parser = size, value_name = "TOKENS")]
    batch: usize,
    /// Passes over the text
    #[arg(long, default_value = "10", value_parser = count)]
    epochs: u64,
    /// Stop after so many epochs without a better validation F1
    #[arg(long, value_name = "EPOCHS", value_parser = count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    patience: Option<u64>,
    /// Stop after so many optimizer steps
    #[arg(long, value_name = "STEPS", value_parser = count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_steps: Option<u64>,
    /// Word vectors to begin with: GloVe text, word2vec text or binary
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    vectors: Option<PathBuf>,
    /// Leave word vectors as they are
    #[arg(long)]
    freeze_vectors: bool,
    /// What the net sees of a word beside itself: caps and suffix, or none
    #[arg(long, default_value = "caps,suffix", value_enum, value_delimiter = ',')]
    features: Vec<Feature>,
    /// What is learned to be likely: the tag of each token in its window, or the tags of the sentence together
    #[arg(long, default_value = "sentence", value_enum)]
    objective: Objective,
    /// Scheme of the tags that are learned, and written; the scheme of a file is found by itself, and converted
    #[arg(long, default_value = "auto", value_enum)]
    scheme: SchemeOption,
    /// Column of the tags, from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = column)]
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// Rewrite tags that their scheme does not allow as conlleval would read them
    #[arg(long)]
    repair: bool,
    /// Do not tell words apart by their case
    #[arg(long)]
    lowercase: bool,
    /// Words seen less often count as their lower-case form, then with digits made equal, then as <unk>
    #[arg(long, default_value = "1", value_name = "N")]
    min_count: u64,
    /// Take a word seen n times for <unk> with probability A / (A + n) in training, so that <unk> is learned
    #[arg(long, default_value = "0.25", value_parser = not_negative, value_name = "A")]
    unknown: f64,
    /// Seed of all random numbers
    #[arg(long, default_value = "1", value_parser = seed)]
    seed: u64,
    /// Worker threads, 0 for one a core; the result does not depend on them
    #[arg(long, default_value = "0", value_parser = threads)]
    pub threads: usize,
    /// Minutes between checkpoints within an epoch
    #[arg(long, default_value = "15", value_parser = positive, value_name = "MINUTES")]
    save_every: f64,
    /// Continue the run in --out, with its options
    #[arg(long)]
    #[serde(skip)]
    resume: bool,
    /// Replace the model in --out
    #[arg(long)]
    #[serde(skip)]
    force: bool,
    /// Print at the end where the time went, part by part, and write a trace for chrome://tracing or ui.perfetto.dev to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[serde(skip)]
    profile: Option<Option<PathBuf>>,
    /// Show nothing but errors
    #[arg(long, short)]
    #[serde(skip)]
    quiet: bool,
    /// Print a summary as JSON
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// What the net sees of a word beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Feature {
    /// How it is capitalised, and whether it holds digits
    Caps,
    /// How it ends: its last 2, 3 and 4 characters
    Suffix,
    /// Nothing: the net of the plain equations
    None,
}

/// The scheme that is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum SchemeOption {
    /// That of the training text
    Auto,
    /// B- only between two neighbours of one type
    Iob1,
    /// Every entity begins with B-
    Iob2,
    /// B- I- E-, and S- for an entity of one token
    Iobes,
    /// I- only
    Io,
}

impl SchemeOption {
    fn scheme(self) -> Option<Scheme> {
        match self {
            SchemeOption::Auto => None,
            SchemeOption::Iob1 => Some(Scheme::Iob1),
            SchemeOption::Iob2 => Some(Scheme::Iob2),
            SchemeOption::Iobes => Some(Scheme::Iobes),
            SchemeOption::Io => Some(Scheme::Io),
        }
    }
}

/// Options that a resumed run must share with the one it continues.
const FIXED: [&str; 22] = [
    "train",
    "valid",
    "window",
    "embed",
    "hidden",
    "keep-prob",
    "l2",
    "optimizer",
    "batch",
    "vectors",
    "freeze-vectors",
    "features",
    "objective",
    "scheme",
    "column",
    "repair",
    "lowercase",
    "min-count",
    "unknown",
    "seed",
    "lr",
    "schedule",
];

fn window(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n) if n % 2 == 1 && n <= MOST_PLACES => Ok(n),
        _ => Err(format!("expected an odd number from 1 to {MOST_PLACES}")),
    }
}

/// A column of tags.
pub fn column(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n @ 2..) => Ok(n),
        _ => Err("expected 2 or more: column 1 holds the words".into()),
    }
}

impl NerOptions {
    fn rate(&self) -> f64 {
        self.lr.unwrap_or(match self.optimizer {
            Rule::Adam => 0.001,
            Rule::Adagrad | Rule::AdagradRowwise => 0.05,
            Rule::Sgd => 0.1,
        })
    }

    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    fn reading(&self) -> Reading {
        Reading { column: self.column.map_or(Column::Last, Column::Number), repair: self.repair }
    }

    /// For `--config`, and to be read again on resuming; `embed` is the width that the run has come to.
    fn to_toml(&self, embed: usize) -> Result<String> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(|e| Error::io(path, "resolving", e));
        let mut saved = self.clone();
        saved.train = absolute(&self.train)?;
        saved.valid = self.valid.as_deref().map(absolute).transpose()?;
        saved.test = self.test.as_deref().map(absolute).transpose()?;
        saved.vectors = self.vectors.as_deref().map(absolute).transpose()?;
        saved.out = absolute(&self.out)?;
        saved.embed = Some(embed);
        saved.lr = Some(self.rate());
        toml::to_string(&saved).map_err(|e| Error::Usage(format!("an option cannot be saved: {e}")))
    }

    fn check(&self) -> Result<()> {
        let usage = |what: &str| Err(Error::Usage(what.into()));
        if self.resume && self.force {
            return usage("--resume continues the model, --force replaces it: give one of them");
        }
        if self.freeze_vectors && self.vectors.is_none() {
            return usage("--freeze-vectors needs --vectors: random vectors would never be learned");
        }
        if self.has(Feature::None) && self.features.len() > 1 {
            return usage("--features none goes with no other feature");
        }
        Ok(())
    }
}

/// What a run came to.
#[derive(Serialize)]
pub struct Summary {
    parameters: usize,
    words: usize,
    epochs: f64,
    steps: u64,
    tokens: u64,
    seconds: f64,
    words_per_second: f64,
    best_valid_f1: Option<f64>,
    best_step: Option<u64>,
    test: Option<Report>,
    peak_memory_mb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profiled>,
}

impl Summary {
    /// As text, or as `--json`.
    pub fn print(&self, options: &NerOptions, out: &mut dyn Write) -> Result<()> {
        if options.json {
            serde_json::to_writer(&mut *out, self).map_err(|e| output_failed(e.into()))?;
            return writeln!(out).map_err(output_failed);
        }
        if let Some(profile) = &self.profile {
            write!(out, "{profile}").map_err(output_failed)?;
        }
        if options.quiet {
            return Ok(());
        }
        let mut text = String::new();
        if let Some(best) = self.best_valid_f1 {
            text += &format!("best validation F1 {:.2} %\n", 100.0 * best);
        }
        if let (Some(report), Some(path)) = (&self.test, &options.test) {
            text += &format!("\n{}:\n{}", path.display(), report.table());
        }
        let dir = options.out.display();
        writeln!(out, "{text}model in {dir}; try: echo 'Some words of yours' | wordmill tag {dir} --text")
            .map_err(output_failed)
    }
}

/// Trains, inside a pool of threads.
pub fn train_ner(options: &NerOptions) -> Result<Summary> {
    options.check()?;
    let mut progress = Progress::new(Style::choose(options.quiet)).without_perplexity();
    let signals = Signals::install()?;
    let files = [Some(&options.train), options.valid.as_ref(), options.test.as_ref(), options.vectors.as_ref()];
    let mut kinds = Kinds::default();
    let mut say = |text: &str| progress.say(&format!("warning: {text}"));
    // The inputs are read before a model is replaced.
    for path in files.into_iter().flatten() {
        std::fs::File::open(path).map_err(|e| Error::io(path, "reading", e))?;
    }
    let reading = options.reading();
    let train = reading.read(&options.train, options.scheme.scheme(), &mut kinds, &mut say)?;
    let labels = Labels { scheme: train.gold.scheme, kinds: kinds.clone() };
    if kinds.is_empty() {
        return Err(Error::input(&options.train, 0, "no entity: every tag is O", "tags to be learned"));
    }
    let mut read = |path: &PathBuf| {
        let tagged = reading.read(path, Some(labels.scheme), &mut kinds, &mut say)?;
        warn_of_unseen(&labels, &tagged, &kinds, &mut say);
        Ok::<_, Error>(tagged)
    };
    let valid = options.valid.as_ref().map(&mut read).transpose()?;
    let test = options.test.as_ref().map(&mut read).transpose()?;

    let (words, ends) = words_and_ends(&train.file);
    let all = words.iter().copied();
    let (caps, suffix) = (options.has(Feature::Caps), options.has(Feature::Suffix));
    let encoder = Encoder::build(all, options.min_count, options.lowercase, caps, suffix);
    let vectors = match &options.vectors {
        None => None,
        Some(path) => Some(Vectors::read(path, encoder.words.words().iter().map(String::as_str))?),
    };
    let embed = match (&vectors, options.embed) {
        (Some(vectors), Some(embed)) if vectors.width != embed => {
            let what = format!("--embed {embed}: the rows of --vectors have {} numbers", vectors.width);
            return Err(Error::Usage(what));
        }
        (Some(vectors), _) => vectors.width,
        (None, embed) => embed.unwrap_or(50),
    };
    let around = options.window / 2;
    let encoded = encoder.encode(&words, &ends, around);
    let encoded_valid = valid.as_ref().map(|valid| {
        let (words, ends) = words_and_ends(&valid.file);
        encoder.encode(&words, &ends, around)
    });
    let with = |embed: usize, hidden: usize| {
        Ner::new(ner::Config {
            tables: encoder.tables(embed),
            window: options.window,
            hidden,
            labels: labels.count(),
            objective: options.objective,
        })
    };
    let net = with(embed, options.hidden);
    let bytes = |needs: Needs| {
        let net = with(needs.embed.unwrap_or(embed), needs.hidden.unwrap_or(options.hidden));
        NerTask::bytes(&net, &encoded, encoded_valid.as_ref(), needs)
    };
    let needs = Needs {
        hidden: Some(options.hidden),
        embed: vectors.is_none().then_some(embed),
        batch: options.batch,
        rule: options.optimizer,
    };
    needs.check(bytes, &mut progress)?;
    let config = Config { net: net.config().clone(), labels, lowercase: options.lowercase, caps, suffix };
    let labels = &config.labels;

    let (writer, mut checkpoint) = if options.resume {
        let (writer, checkpoint) = Writer::resume(&options.out)?;
        (writer, Some(checkpoint))
    } else {
        (Writer::create(&options.out, options.force)?, None)
    };
    for warning in checkpoint.iter().flat_map(|c| &c.warnings) {
        progress.say(&format!("warning: {warning}"));
    }
    let toml = options.to_toml(embed)?;
    if let Some(checkpoint) = &mut checkpoint {
        check_same(checkpoint, &toml, &FIXED)?;
    }

    let mut files =
        vec![(CONFIG, Saved::Ner(config.clone()).to_json()), (VOCABULARY, encoder.words.text().into_bytes())];
    if suffix {
        files.push((SUFFIXES, serde_json::to_vec(&encoder.suffixes).expect("lists of suffixes are JSON")));
    }
    files.push((OPTIONS, toml.into_bytes()));
    progress.say(&format!(
        "{} tokens in {} sentences, {} words, {} labels in the scheme {}, {} parameters",
        words.len(),
        ends.len(),
        encoder.words.len(),
        labels.count(),
        labels.scheme,
        net.layout().parameters()
    ));
    let mut w = Arena::zeros(net.layout());
    Init::Xavier.fill(&mut w, options.seed);
    if let Some(vectors) = &vectors {
        let coverage = load_vectors(w.slice_mut(net.words()), vectors, encoder.words.words());
        progress.say(&format!("vectors: {coverage}"));
    }
    if let Some(valid) = &valid {
        progress.say(&format!(
            "words of {}: {}",
            valid.file.path().display(),
            encoder.words.coverage(valid.file.words())
        ));
    }

    let targets = train.gold.tags.iter().map(|&tag| labels.label(tag).map_or(0, |label| label as u32)).collect();
    let unknown = |number: usize| {
        let share = options.unknown / (options.unknown + encoder.words.count(number as u32) as f64);
        if number < 3 || options.unknown == 0.0 { 0 } else { (share * 4_294_967_296.0) as u32 }
    };
    let mut task = NerTask::new(NerData {
        net: &net,
        labels,
        train: encoded,
        targets,
        valid: encoded_valid.zip(valid.as_ref()).map(|(encoded, valid)| (encoded, valid, &kinds)),
        batch: options.batch,
        keep: Keep::inverted(options.keep_prob),
        unknown: (0..encoder.words.len()).map(unknown).collect(),
        freeze: options.freeze_vectors,
        seed: options.seed,
        files,
    });
    let an_epoch = crate::train::fit::Task::steps_per_epoch(&task);
    let steps = an_epoch.saturating_mul(options.epochs).min(options.max_steps.unwrap_or(u64::MAX));
    let mut optimizer = Optimizer::new(options.optimizer, f64::INFINITY, options.l2, net.layout()).lazy();
    let schedule = Schedule::new(options.schedule, options.rate(), steps);
    let (w, state, metrics) = match &mut checkpoint {
        None => (w, State::new(schedule, EarlyStopping::new(options.patience)), Metrics::create(&options.out)?),
        Some(checkpoint) => {
            let (w, state) = resume(checkpoint, &mut optimizer, &config, &encoder, options, schedule)?;
            progress.say(&format!("continuing after step {}", state.step));
            let metrics = Metrics::resume(&options.out, state.step)?;
            metrics.warnings.iter().for_each(|warning| progress.say(&format!("warning: {warning}")));
            (w, state, metrics)
        }
    };
    let plan = Plan {
        epochs: options.epochs,
        max_steps: options.max_steps,
        save_every: Duration::from_secs_f64((options.save_every * 60.0).min(1e9)),
        resume: format!("wordmill train ner --out {} --resume", options.out.display()),
    };
    let saver = Saver::new(writer);
    let mut fit = Fit { task: &mut task, w, optimizer, state, plan, saver, metrics, progress, signals };
    let profiled = profile::during(options.profile.as_ref(), || fit.run())?;
    let test = match &test {
        None => None,
        Some(test) => Some(Tagger::load(&options.out)?.evaluate(test, &kinds)),
    };
    Ok(Summary {
        parameters: net.layout().parameters(),
        words: encoder.words.len(),
        epochs: fit.state.step as f64 / an_epoch as f64,
        steps: fit.state.step,
        tokens: fit.state.targets,
        seconds: fit.state.seconds,
        words_per_second: fit.state.targets as f64 / fit.state.seconds.max(1e-9),
        best_valid_f1: fit.state.stopping.best().map(|score| score.value),
        best_step: fit.state.stopping.best_step(),
        test,
        peak_memory_mb: super::memory::peak() as f64 / 1e6,
        profile: profiled,
    })
}

/// Puts the vectors of known words in place of random ones.
fn load_vectors(table: &mut [f32], vectors: &Vectors, words: &[String]) -> Coverage {
    for (row, word) in table.chunks_exact_mut(vectors.width).zip(words) {
        if let Some((vector, _)) = vectors.find(word) {
            row.copy_from_slice(vector);
        }
    }
    vectors.coverage(words.iter().map(String::as_str))
}

/// Weights and state of the run to be continued, under the options of this one.
fn resume(
    checkpoint: &mut Checkpoint,
    optimizer: &mut Optimizer<f32>,
    config: &Config,
    encoder: &Encoder,
    options: &NerOptions,
    schedule: Schedule,
) -> Result<(Arena<f32>, State)> {
    let before = Tagger::read(checkpoint)?;
    let same = before.config == *config
        && before.encoder.words.words() == encoder.words.words()
        && before.encoder.suffixes == encoder.suffixes;
    if !same {
        let expected = "the one that the run to be continued learns from";
        return Err(Error::input(&options.train, 0, "another text", expected));
    }
    let path = checkpoint.path().join(STATE);
    let state = checkpoint.read(STATE)?;
    let mut state: State = serde_json::from_slice(&state).map_err(|e| Error::model(&path, e.to_string()))?;
    if state.step != checkpoint.step() {
        return Err(Error::model(
            &path,
            format!("is of step {}, its directory of step {}", state.step, checkpoint.step()),
        ));
    }
    state.schedule.revise(schedule);
    state.stopping.revise(options.patience);
    state.finished = false;
    read_optimizer(checkpoint, optimizer, Vec::new())?;
    Ok((before.w, state))
}
