//! `wordmill train pseudo-siamese`

use super::columns::ColumnOptions;
use super::lexicon::Lexicon;
use super::memory::Needs;
use super::pseudo_siamese::{Encoded, PseudoSiameseTask, Sees, Trained};
use super::run::{RunOptions, Summary, absolute, options_file, to_toml};
use super::saved::{CONFIG, PseudoSiameseConfig as Config, Saved, VOCABULARY};
use super::values::{not_negative, share, size};
use crate::error::{Error, Result};
use crate::models::pseudo_siamese;
use crate::models::{Init, PseudoSiamese};
use crate::params::Arena;
use crate::sys::signals::Signals;
use crate::text::Inputs;
use crate::text::labelled::LabelledWords;
use crate::train::progress::{Progress, Style};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Train a pseudo-Siamese net on words with labels, word TAB label, or on a CSV file: numbers in columns, and the label of each row
///
/// A word's vector goes through a layer of sigmoid units and one of rectified linear units; their sum tells the label. The vectors
/// learn too. Without --vectors the rows of a CSV file, as train softmax takes it, go through the layers in their place; they stay as
/// they are. inspect shows how large the gradients of the two layers were, which is to say which of the two learns faster.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "\
Examples:
  wordmill train pseudo-siamese --train words.tsv --valid valid.tsv --vectors glove.6B.50d.txt --out kinds
  wordmill train pseudo-siamese --train words.tsv --vectors glove.6B.50d.txt --out kinds --freeze-vectors --dropout-penalty 0.5
  wordmill train pseudo-siamese --train iris.csv --label species --out irises
  wordmill inspect kinds --svg gradients.svg")]
pub struct PseudoSiameseOptions {
    /// Words to learn from, or without --vectors the rows of a CSV file
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Words or rows to measure accuracy on after every epoch
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<PathBuf>,
    /// Numbers of the columns of a word and its label, as 1,3 [default: the first that hold such]
    #[arg(long = "columns", value_name = "N,N", value_delimiter = ',', value_parser = size)]
    #[serde(rename = "columns", skip_serializing_if = "Vec::is_empty")]
    word_columns: Vec<usize>,
    /// Word vectors: GloVe text, word2vec text or binary
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    vectors: Option<PathBuf>,
    /// Rows of --vectors that the model keeps, from the first, besides those of the words with labels [default: 20000]
    #[arg(long, value_parser = size, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_vocab: Option<usize>,
    /// Leave word vectors as they are
    #[arg(long)]
    freeze_vectors: bool,
    #[command(flatten)]
    #[serde(flatten)]
    columns: ColumnOptions,
    /// Units of each of the two layers
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Add what dropping a share P of the units would cost on average, to second order (Wager et al. 2013); no mask is drawn
    #[arg(long, default_value = "0", value_parser = share, value_name = "P")]
    dropout_penalty: f64,
    /// L2 penalty lambda/2 (|W1|^2 + |W2|^2 + |W3|^2)
    #[arg(long, default_value = "0.0001", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// Options that a resumed run must share with the one it continues.
const FIXED: [&str; 9] =
    ["train", "valid", "vectors", "max-vocab", "freeze-vectors", "columns", "hidden", "dropout-penalty", "l2"];

/// What a run learns from.
struct Data {
    train: Encoded,
    valid: Option<Encoded>,
    labels: Vec<String>,
    sees: Sees<Lexicon>,
}

impl PseudoSiameseOptions {
    /// For `--config`, and to be read again on resuming.
    fn to_toml(&self) -> Result<String> {
        to_toml(&PseudoSiameseOptions {
            train: absolute(&self.train)?,
            valid: self.valid.as_deref().map(absolute).transpose()?,
            vectors: self.vectors.as_deref().map(absolute).transpose()?,
            run: self.run.saved()?,
            ..self.clone()
        })
    }

    fn check(&self) -> Result<()> {
        let usage = |what: &str| Err(Error::Usage(what.into()));
        if self.vectors.is_some() && self.columns.given() {
            let names = ColumnOptions::NAMES.join(", --");
            return usage(&format!("--{names} are for the columns of a CSV file; --vectors is for words"));
        }
        if self.vectors.is_none() && (self.max_vocab.is_some() || self.freeze_vectors || !self.word_columns.is_empty())
        {
            return usage(
                "--max-vocab, --freeze-vectors and --columns are for words, which --vectors names the vectors of",
            );
        }
        self.run.check(self.valid.is_some())
    }

    /// What to try with the model.
    pub fn next(&self) -> String {
        format!("wordmill inspect {}", self.run.out.display())
    }
}

impl Data {
    /// Words, and what `vectors` has of them.
    fn of_words(options: &PseudoSiameseOptions, vectors: &Path, inputs: &Inputs) -> Result<Self> {
        let train = LabelledWords::read(&options.train, &options.word_columns, inputs)?;
        let valid =
            options.valid.as_ref().map(|path| LabelledWords::read(path, &options.word_columns, inputs)).transpose()?;
        let labels = train.labels();
        if labels.len() < 2 {
            let found = format!("the label {} only", labels[0]);
            return Err(Error::input(&options.train, 0, found, "at least two labels"));
        }
        let words =
            train.words.iter().chain(valid.iter().flat_map(|valid| &valid.words)).map(|word| word.word.as_str());
        let lexicon = Lexicon::read(vectors, options.max_vocab.unwrap_or(20_000), words, inputs)?;
        let encode = |file: &LabelledWords| Encoded::words(file, &lexicon.words, &labels, inputs);
        let (train, valid) = (encode(&train)?, valid.as_ref().map(encode).transpose()?);
        Ok(Data { train, valid, labels, sees: Sees::Words(lexicon) })
    }

    /// The rows of CSV files.
    fn of_rows(options: &PseudoSiameseOptions, inputs: &Inputs) -> Result<Self> {
        let (train, columns) = options.columns.read(&options.train, inputs).map_err(|error| match error {
            Error::Input { path, line, found, expected } => Error::Input {
                path,
                line,
                found,
                expected: format!("{expected} (or --vectors, for words with labels)"),
            },
            other => other,
        })?;
        let valid = options.valid.as_ref().map(|path| columns.read(path, &train.names, inputs)).transpose()?;
        let labels = train.names.clone();
        Ok(Data { train: Encoded::rows(train), valid: valid.map(Encoded::rows), labels, sees: Sees::Columns(columns) })
    }
}

/// Trains, inside a pool of threads.
pub fn train_pseudo_siamese(options: &PseudoSiameseOptions, inputs: &Inputs) -> Result<Summary> {
    let run = &options.run;
    options.check()?;
    let progress = Progress::new(Style::choose(run.quiet));
    let mut progress =
        if options.vectors.is_some() { progress } else { progress.without_perplexity().counting("examples") };
    let signals = Signals::install()?;
    run.check_there(&[
        ("train", Some(&options.train)),
        ("valid", options.valid.as_ref()),
        ("vectors", options.vectors.as_ref()),
    ])?;
    // The inputs are read before a model is replaced.
    let Data { train, valid, labels, sees } = match &options.vectors {
        Some(vectors) => Data::of_words(options, vectors, inputs)?,
        None => Data::of_rows(options, inputs)?,
    };
    let (words, embed) = match &sees {
        Sees::Words(lexicon) => (Some(lexicon.words.len()), lexicon.width()),
        Sees::Columns(columns) => (None, columns.count()),
    };
    let with = |hidden: usize| {
        PseudoSiamese::new(pseudo_siamese::Config {
            words,
            embed,
            hidden,
            labels: labels.len(),
            freeze: options.freeze_vectors || words.is_none(),
            dropout_penalty: options.dropout_penalty,
        })
    };
    let net = with(options.hidden);
    let bytes = |needs: Needs| {
        let net = with(needs.hidden.unwrap_or(options.hidden));
        let training = PseudoSiameseTask::bytes(&net, &train, valid.as_ref(), needs);
        match &sees {
            Sees::Words(lexicon) => lexicon.beside(net.layout(), training),
            Sees::Columns(_) => training,
        }
    };
    run.check_memory([Some(options.hidden), None], bytes, &mut progress, inputs)?;
    let columns = match &sees {
        Sees::Words(_) => None,
        Sees::Columns(columns) => Some(columns.clone()),
    };
    let config = Config { net: net.config().clone(), labels, columns };

    let toml = options.to_toml()?;
    let mut opened = run.open(&toml, &[&FIXED[..], &ColumnOptions::NAMES].concat(), inputs)?;
    let (examples, labels, parameters) = (train.len(), config.labels.len(), net.layout().parameters());
    progress.say(&match &sees {
        Sees::Words(lexicon) => format!(
            "{examples} words of {labels} labels, {} words with vectors of {embed} numbers, {parameters} parameters, {} of them trained",
            lexicon.words.len() - 3,
            net.trained().parameters()
        ),
        Sees::Columns(_) => format!("{examples} examples of {embed} numbers, {labels} labels, {parameters} parameters"),
    });
    let w = match &mut opened.checkpoint {
        None => {
            let mut w = Arena::zeros(net.layout());
            Init::Xavier.fill(&mut w, run.seed);
            if let (Sees::Words(lexicon), Some(table)) = (&sees, net.words()) {
                lexicon.fill(w.slice_mut(table));
            }
            w
        }
        Some(checkpoint) => {
            let before = Trained::read(checkpoint)?;
            let same_input = match (&before.sees, &sees) {
                (Sees::Words(before), Sees::Words(now)) => before.words() == now.words.words(),
                (Sees::Columns(before), Sees::Columns(now)) => now.continues(before),
                _ => false,
            };
            if before.config.net != config.net || before.config.labels != config.labels || !same_input {
                let what = if words.is_some() { "words and vectors" } else { "rows" };
                let expected = format!("the {what} that the run to be continued learns from");
                return Err(Error::input(&options.train, 0, "others", expected));
            }
            before.w
        }
    };
    let mut files = vec![(CONFIG, Saved::PseudoSiamese(config).to_json()), options_file(&toml)];
    if let Sees::Words(lexicon) = sees {
        files.push((VOCABULARY, lexicon.words.text().into_bytes()));
    }
    let optimizer = run.optimizer(options.l2, net.trained());
    let mut task = PseudoSiameseTask::new(&net, train, valid, run.batch, run.seed, files);
    let data = [("train", Some(&options.train)), ("valid", options.valid.as_ref())];
    run.fit("pseudo-siamese", &data, inputs, &mut task, w, optimizer, opened, (progress, signals))
}
