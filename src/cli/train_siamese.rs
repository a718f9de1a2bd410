//! `wordmill train siamese`

use super::lexicon::Lexicon;
use super::memory::Needs;
use super::run::{RunOptions, Summary, absolute, options_file, to_toml};
use super::saved::{CONFIG, Saved, SiameseConfig as Config, VOCABULARY};
use super::siamese::{Encoded, SiameseTask, Trained};
use super::values::{not_negative, positive, size};
use crate::error::{Error, Result};
use crate::models::siamese::{self, Loss};
use crate::models::{Init, Siamese};
use crate::params::Arena;
use crate::sys::signals::Signals;
use crate::text::Inputs;
use crate::text::pairs::{Grades, Pairs};
use crate::train::progress::{Progress, Style};
use serde::Serialize;
use std::path::PathBuf;

/// Train a Siamese net on pairs of words that are alike or not: word TAB word TAB label
///
/// Both words of a pair go through the same layer of sigmoid units, after which words that are alike lie near each other. A label is 1
/// for alike and 0 for not, or a grade: the lowest label counts as 0, the highest as 1. Lists of word similarity are read as they are
/// published (WordSim-353, SimLex-999, MEN, RG-65): with tabs, commas, semicolons or spaces, a header, comments, more columns. eval measures distances against labels,
/// neighbors shows which words have come to lie near a word.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "\
Examples:
  wordmill train siamese --pairs pairs.tsv --valid valid.tsv --vectors glove.6B.50d.txt --out twins
  wordmill train siamese --pairs pairs.tsv --vectors glove.6B.50d.txt --out twins --hidden 50 --margin 2
  wordmill train siamese --pairs pairs.tsv --vectors glove.6B.50d.txt --out same --loss source   all words become one
  wordmill train siamese --out twins --resume --epochs 60")]
pub struct SiameseOptions {
    /// Pairs to learn from
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Pairs to measure on after every epoch: ROC AUC, or Spearman's correlation where labels have grades
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<PathBuf>,
    /// Numbers of the columns of the words and of their label, as 1,2,4 [default: the first that hold such]
    #[arg(long, value_name = "N,N,N", value_delimiter = ',', value_parser = size)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<usize>,
    /// Word vectors: GloVe text, word2vec text or binary
    #[arg(long, value_name = "FILE")]
    vectors: PathBuf,
    /// Rows of --vectors that the model keeps, from the first, besides those of the pairs' words
    #[arg(long, default_value = "20000", value_parser = size, value_name = "N")]
    max_vocab: usize,
    /// Let training change the word vectors too
    #[arg(long)]
    train_vectors: bool,
    /// Hidden units
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// What is made small: the distance of pairs that are alike, and what that of others lacks of the margin; or, as in the source,
    /// the distance of all pairs, which one place for all words makes zero
    #[arg(long, default_value = "contrastive", value_enum)]
    loss: LossKind,
    /// Distance that pairs which are not alike are to have
    #[arg(long, default_value = "1", value_parser = positive, value_name = "M")]
    margin: f64,
    /// L2 penalty lambda/2 |W|^2
    #[arg(long, default_value = "0.0001", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// The loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum LossKind {
    /// y D²/2 + (1 - y) max(0, margin - D)²/2
    Contrastive,
    /// D²/2
    Source,
}

/// Options that a resumed run must share with the one it continues.
const FIXED: [&str; 10] =
    ["pairs", "valid", "columns", "vectors", "max-vocab", "train-vectors", "hidden", "loss", "margin", "l2"];

impl SiameseOptions {
    /// For `--config`, and to be read again on resuming.
    fn to_toml(&self) -> Result<String> {
        to_toml(&SiameseOptions {
            pairs: absolute(&self.pairs)?,
            valid: self.valid.as_deref().map(absolute).transpose()?,
            vectors: absolute(&self.vectors)?,
            run: self.run.saved()?,
            ..self.clone()
        })
    }

    /// What to try with the model.
    pub fn next(&self) -> String {
        format!("wordmill neighbors {} WORD", self.run.out.display())
    }
}

/// Trains, inside a pool of threads.
pub fn train_siamese(options: &SiameseOptions, inputs: &Inputs) -> Result<Summary> {
    let run = &options.run;
    run.check(options.valid.is_some())?;
    let mut progress = Progress::new(Style::choose(run.quiet)).without_perplexity().counting("pairs");
    let signals = Signals::install()?;
    run.check_there(&[
        ("pairs", Some(&options.pairs)),
        ("valid", options.valid.as_ref()),
        ("vectors", Some(&options.vectors)),
    ])?;
    // The inputs are read before a model is replaced.
    let train = Pairs::read(&options.pairs, &options.columns, inputs)?;
    let valid = options.valid.as_ref().map(|path| Pairs::read(path, &options.columns, inputs)).transpose()?;
    let words = train.words().chain(valid.iter().flat_map(Pairs::words));
    let lexicon = Lexicon::read(&options.vectors, options.max_vocab, words, inputs)?;
    let grades = Grades::of(train.pairs.iter().map(|pair| pair.label));
    let loss = match options.loss {
        LossKind::Source => Loss::Source,
        LossKind::Contrastive if grades.is_one() => {
            let found = format!("the label {} only", grades.low);
            return Err(Error::input(&options.pairs, 0, found, "pairs that are alike and pairs that are not"));
        }
        LossKind::Contrastive => Loss::Contrastive { margin: options.margin },
    };
    let encode = |pairs: &Pairs| Encoded::new(pairs, &lexicon.words, grades, inputs);
    let encoded = encode(&train)?;
    if options.loss == LossKind::Contrastive && Grades::of(encoded.labels()).is_one() {
        let left = encoded.len();
        let found = format!("one label only in the {left} pairs whose words have vectors, of {}", train.pairs.len());
        return Err(Error::input(&options.pairs, 0, found, "pairs that are alike and pairs that are not"));
    }
    let encoded_valid = valid.as_ref().map(encode).transpose()?;
    if let (Some(encoded), Some(valid)) = (&encoded_valid, &valid)
        && Grades::of(encoded.labels()).is_one()
    {
        return Err(Error::input(&valid.path, 0, "one label only", "pairs of two labels at least"));
    }
    let with = |hidden: usize| {
        let (words, embed, freeze) = (lexicon.words.len(), lexicon.width(), !options.train_vectors);
        Siamese::new(siamese::Config { words, embed, hidden, loss, freeze })
    };
    let net = with(options.hidden);
    let config = Config { net: net.config().clone(), grades };
    let bytes = |needs: Needs| {
        let net = with(needs.hidden.unwrap_or(options.hidden));
        lexicon.beside(net.layout(), SiameseTask::bytes(&net, &encoded, encoded_valid.as_ref(), needs))
    };
    run.check_memory([Some(options.hidden), None], bytes, &mut progress, inputs)?;

    let toml = options.to_toml()?;
    let mut opened = run.open(&toml, &FIXED, inputs)?;
    progress.say(&format!(
        "{} pairs, {} words with vectors of {} numbers, {} parameters, {} of them trained",
        encoded.len(),
        lexicon.words.len() - 3,
        lexicon.width(),
        net.layout().parameters(),
        net.trained().parameters()
    ));
    let w = match &mut opened.checkpoint {
        None => {
            let mut w = Arena::zeros(net.layout());
            Init::Xavier.fill(&mut w, run.seed);
            lexicon.fill(w.slice_mut(net.words()));
            w
        }
        Some(checkpoint) => {
            let before = Trained::read(checkpoint)?;
            if before.config != config || before.words.words() != lexicon.words.words() {
                let expected = "the pairs and vectors that the run to be continued learns from";
                return Err(Error::input(&options.pairs, 0, "others", expected));
            }
            before.w
        }
    };
    let files = vec![
        (CONFIG, Saved::Siamese(config).to_json()),
        (VOCABULARY, lexicon.words.text().into_bytes()),
        options_file(&toml),
    ];
    drop(lexicon);
    let optimizer = run.optimizer(options.l2, net.trained());
    let mut task = SiameseTask::new(&net, encoded, encoded_valid, run.batch, run.seed, files);
    let data = [("pairs", Some(&options.pairs)), ("valid", options.valid.as_ref())];
    run.fit("siamese", &data, inputs, &mut task, w, optimizer, opened, (progress, signals))
}
