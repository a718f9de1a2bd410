//! `wordmill train ner`

use super::inputs::print_json;
use super::memory::Needs;
use super::ner::{
    Encoder, FormOptions, MOST_PLACES, NerData, NerTask, SUFFIXES, Tagger, column, read_tagged, warn_of_unseen,
    words_and_ends,
};
use super::output_failed;
use super::profile::{self, Profiled};
use super::run::{RunOptions, absolute, options_file, to_toml};
use super::saved::{CONFIG, NerConfig as Config, Saved, VOCABULARY};
use super::values::{keep_probability, not_negative, size};
use crate::blas::Precision;
use crate::error::{Error, Result};
use crate::kernels::dropout::Keep;
use crate::models::ner::Objective;
use crate::models::{Init, Ner, ner};
use crate::notices::Notice;
use crate::params::Arena;
use crate::sys::signals::Signals;
use crate::text::Inputs;
use crate::text::conll::Form;
use crate::text::spans::Report;
use crate::text::tags::{Kinds, Labels, Scheme};
use crate::text::vectors::Vectors;
use crate::text::words::Coverage;
use crate::train::progress::{Progress, Style};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;

/// What --batch counts.
const BATCH: &str = "Tokens of a step; with --objective sentence, of as many sentences as have so many on average";

/// Train a tagger on CoNLL files: one token per line, its word in the first column, its tag in the last
///
/// The defaults suit texts of some ten to some hundred thousand words. The best model on the validation text is what eval and
/// tag use.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(mut_arg("epochs", |arg| arg.default_value("10")))]
#[command(mut_arg("batch", |arg| arg.value_name("TOKENS").help(BATCH)))]
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
    #[command(flatten)]
    #[serde(flatten)]
    form: FormOptions,
    /// What is always done now: tags that their scheme does not allow are read as conlleval reads them. For commands and files of
    /// options from before.
    #[arg(long, hide = true)]
    #[serde(skip)]
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
    /// Print at the end where the time went, part by part, and write a trace for chrome://tracing or ui.perfetto.dev to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[serde(skip)]
    profile: Option<Option<PathBuf>>,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
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
const FIXED: [&str; 18] = [
    "train",
    "valid",
    "window",
    "embed",
    "hidden",
    "keep-prob",
    "l2",
    "vectors",
    "freeze-vectors",
    "features",
    "objective",
    "scheme",
    "column",
    "word-column",
    "max-sentence",
    "lowercase",
    "min-count",
    "unknown",
];

fn window(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n) if n % 2 == 1 && n <= MOST_PLACES => Ok(n),
        _ => Err(format!("expected an odd number from 1 to {MOST_PLACES}")),
    }
}

impl NerOptions {
    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// For `--config`, and to be read again on resuming; `embed` is the width that the run has come to.
    fn to_toml(&self, embed: usize) -> Result<String> {
        to_toml(&NerOptions {
            train: absolute(&self.train)?,
            valid: self.valid.as_deref().map(absolute).transpose()?,
            test: self.test.as_deref().map(absolute).transpose()?,
            vectors: self.vectors.as_deref().map(absolute).transpose()?,
            embed: Some(embed),
            run: self.run.saved()?,
            ..self.clone()
        })
    }

    fn check(&self) -> Result<()> {
        let usage = |what: &str| Err(Error::Usage(what.into()));
        if self.freeze_vectors && self.vectors.is_none() {
            return usage("--freeze-vectors needs --vectors: random vectors would never be learned");
        }
        if self.has(Feature::None) && self.features.len() > 1 {
            return usage("--features none goes with no other feature");
        }
        self.run.check(self.valid.is_some())
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
    /// The command that continues a run that `--max-minutes` has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    continue_with: Option<String>,
    test: Option<Report>,
    peak_memory_mb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profiled>,
}

impl Summary {
    /// As text, or as `--json`.
    pub fn print(&self, options: &NerOptions, inputs: &Inputs, out: &mut dyn Write) -> Result<()> {
        if options.run.json {
            return print_json(self, inputs, out);
        }
        if let Some(profile) = &self.profile {
            write!(out, "{profile}").map_err(output_failed)?;
        }
        if options.run.quiet {
            return Ok(());
        }
        let mut text = String::new();
        if let Some(best) = self.best_valid_f1 {
            text += &format!("best validation F1 {:.2} %\n", 100.0 * best);
        }
        if let (Some(report), Some(path)) = (&self.test, &options.test) {
            text += &format!("\n{}:\n{}", path.display(), report.table());
        }
        let dir = options.run.out.display();
        writeln!(out, "{text}model in {dir}; try: echo 'Some words of yours' | wordmill tag {dir} --text")
            .map_err(output_failed)
    }
}

/// Trains, inside a pool of threads.
pub fn train_ner(options: &NerOptions, inputs: &Inputs) -> Result<Summary> {
    options.check()?;
    let run = &options.run;
    let mut progress = Progress::new(Style::choose(run.quiet)).without_perplexity();
    let signals = Signals::install()?;
    run.check_there(&[
        ("train", Some(&options.train)),
        ("valid", options.valid.as_ref()),
        ("test", options.test.as_ref()),
        ("vectors", options.vectors.as_ref()),
    ])?;
    let files = [Some(&options.train), options.valid.as_ref(), options.test.as_ref(), options.vectors.as_ref()];
    let mut kinds = Kinds::default();
    // The inputs are read before a model is replaced.
    for path in files.into_iter().flatten() {
        inputs.check(path)?;
    }
    let form = options.form.form(Form::default(), options.column)?;
    let train = read_tagged(&options.train, form, options.scheme.scheme(), &mut kinds, inputs)?;
    let labels = Labels { scheme: train.gold.scheme, kinds: kinds.clone() };
    if kinds.is_empty() {
        return Err(Error::input(&options.train, 0, "no entity: every tag is O", "tags to be learned"));
    }
    let mut read = |path: &PathBuf| {
        let tagged = read_tagged(path, form, Some(labels.scheme), &mut kinds, inputs)?;
        warn_of_unseen(&labels, &tagged, &kinds, inputs)?;
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
        Some(path) => Some(Vectors::read(path, encoder.words.words().iter().map(String::as_str), inputs)?),
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
    run.check_memory([Some(options.hidden), vectors.is_none().then_some(embed)], bytes, &mut progress, inputs)?;
    let config = Config { net: net.config().clone(), labels, lowercase: options.lowercase, caps, suffix, form };
    let labels = &config.labels;

    let toml = options.to_toml(embed)?;
    let mut opened = run.open(&toml, &FIXED, inputs)?;
    let mut files =
        vec![(CONFIG, Saved::Ner(config.clone()).to_json()), (VOCABULARY, encoder.words.text().into_bytes())];
    if suffix {
        files.push((SUFFIXES, serde_json::to_vec(&encoder.suffixes).expect("lists of suffixes are JSON")));
    }
    files.push(options_file(&toml));
    progress.say(&format!(
        "{} tokens in {} sentences, {} words, {} labels in the scheme {}, {} parameters",
        words.len(),
        ends.len(),
        encoder.words.len(),
        labels.count(),
        labels.scheme,
        net.layout().parameters()
    ));
    let w = match &mut opened.checkpoint {
        None => {
            let mut w = Arena::zeros(net.layout());
            Init::Xavier.fill(&mut w, run.seed);
            if let Some(vectors) = &vectors {
                let coverage = load_vectors(w.slice_mut(net.words()), vectors, encoder.words.words());
                progress.say(&format!("vectors: {coverage}"));
                if coverage.exact + coverage.lower + coverage.digits == 0
                    && let Some(path) = &options.vectors
                {
                    let notice = Notice::of_file(path, 0, "no vector of a word of the training text");
                    inputs.warn(notice.done("all words begin as without --vectors"))?;
                }
            }
            w
        }
        Some(checkpoint) => {
            let before = Tagger::read(checkpoint)?;
            let same = before.config == config
                && before.encoder.words.words() == encoder.words.words()
                && before.encoder.suffixes == encoder.suffixes;
            if !same {
                let expected = "the one that the run to be continued learns from";
                return Err(Error::input(&options.train, 0, "another text", expected));
            }
            before.w
        }
    };
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
        batch: run.batch,
        keep: Keep::inverted(options.keep_prob),
        unknown: (0..encoder.words.len()).map(unknown).collect(),
        freeze: options.freeze_vectors,
        seed: run.seed,
        files,
    });
    let optimizer = run.optimizer(options.l2, net.layout());
    let data = [("train", Some(&options.train)), ("valid", options.valid.as_ref())];
    let fit = || run.fit("ner", &data, inputs, &mut task, w, optimizer, opened, (progress, signals));
    let (done, profile) = profile::during(options.profile.as_ref(), Precision::F32, fit)?;
    let test = match &test {
        None => None,
        Some(test) => Some(Tagger::load(&run.out)?.evaluate(test, &kinds, inputs)?),
    };
    Ok(Summary {
        parameters: done.parameters,
        words: encoder.words.len(),
        epochs: done.epochs,
        steps: done.steps,
        tokens: done.examples,
        seconds: done.seconds,
        words_per_second: done.examples_per_second,
        best_valid_f1: done.best_valid.map(|score| score.value),
        best_step: done.best_step,
        continue_with: done.continue_with,
        test,
        peak_memory_mb: done.peak_memory_mb,
        profile,
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
