//! `wordmill train pseudo-siamese`

use super::lexicon::Lexicon;
use super::memory::Needs;
use super::pseudo_siamese::{Encoded, PseudoSiameseTask, Trained};
use super::run::{RunOptions, Summary, absolute, options_file, to_toml};
use super::saved::{CONFIG, PseudoSiameseConfig as Config, Saved, VOCABULARY};
use super::values::{not_negative, share, size};
use crate::error::{Error, Result};
use crate::models::pseudo_siamese;
use crate::models::{Init, PseudoSiamese};
use crate::params::Arena;
use crate::text::labelled::LabelledWords;
use crate::train::progress::{Progress, Style};
use crate::train::signals::Signals;
use serde::Serialize;
use std::path::PathBuf;

/// Train a pseudo-Siamese net on words with labels: word TAB label
///
/// A word's vector goes through a layer of sigmoid units and one of rectified linear units; their sum tells the label. The vectors
/// learn too. inspect shows how large the gradients of the two layers were, which is to say which of the two learns faster.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "\
Examples:
  wordmill train pseudo-siamese --train words.tsv --valid valid.tsv --vectors glove.6B.50d.txt --out kinds
  wordmill train pseudo-siamese --train words.tsv --vectors glove.6B.50d.txt --out kinds --freeze-vectors --dropout-penalty 0.5
  wordmill inspect kinds --svg gradients.svg")]
pub struct PseudoSiameseOptions {
    /// Words to learn from
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Words to measure accuracy on after every epoch
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<PathBuf>,
    /// Word vectors: GloVe text, word2vec text or binary
    #[arg(long, value_name = "FILE")]
    vectors: PathBuf,
    /// Rows of --vectors that the model keeps, from the first, besides those of the words with labels
    #[arg(long, default_value = "20000", value_parser = size, value_name = "N")]
    max_vocab: usize,
    /// Leave word vectors as they are
    #[arg(long)]
    freeze_vectors: bool,
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
const FIXED: [&str; 8] =
    ["train", "valid", "vectors", "max-vocab", "freeze-vectors", "hidden", "dropout-penalty", "l2"];

impl PseudoSiameseOptions {
    /// For `--config`, and to be read again on resuming.
    fn to_toml(&self) -> Result<String> {
        to_toml(&PseudoSiameseOptions {
            train: absolute(&self.train)?,
            valid: self.valid.as_deref().map(absolute).transpose()?,
            vectors: absolute(&self.vectors)?,
            run: self.run.saved()?,
            ..self.clone()
        })
    }

    /// What to try with the model.
    pub fn next(&self) -> String {
        format!("wordmill inspect {}", self.run.out.display())
    }
}

/// Trains, inside a pool of threads.
pub fn train_pseudo_siamese(options: &PseudoSiameseOptions) -> Result<Summary> {
    let run = &options.run;
    run.check()?;
    let mut progress = Progress::new(Style::choose(run.quiet));
    let signals = Signals::install()?;
    // The inputs are read before a model is replaced.
    let train = LabelledWords::read(&options.train)?;
    let valid = options.valid.as_ref().map(LabelledWords::read).transpose()?;
    let labels = train.labels();
    if labels.len() < 2 {
        let found = format!("the label {} only", labels[0]);
        return Err(Error::input(&options.train, 0, found, "at least two labels"));
    }
    let words = train.words.iter().chain(valid.iter().flat_map(|valid| &valid.words)).map(|word| word.word.as_str());
    let lexicon = Lexicon::read(&options.vectors, options.max_vocab, words)?;
    let mut encode = |file: &LabelledWords| {
        Encoded::new(file, &lexicon.words, &labels, |text| progress.say(&format!("warning: {text}")))
    };
    let encoded = encode(&train)?;
    let encoded_valid = valid.as_ref().map(&mut encode).transpose()?;
    let with = |hidden: usize| {
        PseudoSiamese::new(pseudo_siamese::Config {
            words: lexicon.words.len(),
            embed: lexicon.width(),
            hidden,
            labels: labels.len(),
            freeze: options.freeze_vectors,
            dropout_penalty: options.dropout_penalty,
        })
    };
    let net = with(options.hidden);
    let bytes = |needs: Needs| {
        let net = with(needs.hidden.unwrap_or(options.hidden));
        lexicon.beside(net.layout(), PseudoSiameseTask::bytes(&net, &encoded, encoded_valid.as_ref(), needs))
    };
    run.check_memory(Some(options.hidden), bytes, &mut progress)?;
    let config = Config { net: net.config().clone(), labels };

    let toml = options.to_toml()?;
    let mut opened = run.open(&toml, &FIXED, &mut progress)?;
    progress.say(&format!(
        "{} words of {} labels, {} words with vectors of {} numbers, {} parameters, {} of them trained",
        encoded.len(),
        config.labels.len(),
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
                let expected = "the words and vectors that the run to be continued learns from";
                return Err(Error::input(&options.train, 0, "others", expected));
            }
            before.w
        }
    };
    let files = vec![
        (CONFIG, Saved::PseudoSiamese(config.clone()).to_json()),
        (VOCABULARY, lexicon.words.text().into_bytes()),
        options_file(&toml),
    ];
    drop(lexicon);
    let optimizer = run.optimizer(options.l2, net.trained());
    let mut task = PseudoSiameseTask::new((&net, &config.labels), encoded, encoded_valid, run.batch, run.seed, files);
    run.fit("pseudo-siamese", &mut task, w, optimizer, opened, (progress, signals))
}
