//! `wordmill train pseudo-siamese`

use super::columns::ColumnOptions;
use super::inputs::InputOptions;
use super::run::{ExampleFlags, RunFlags, TrainFlags};
use super::values::{not_negative, share, size};
use crate::error::{Result, quoted, reject};
use crate::tasks::pseudo_siamese::train::WordSource;
use crate::tasks::pseudo_siamese::{Plan, Sees, train};
use crate::tasks::run::Summary;
use crate::text::Inputs;
use crate::train::progress::Progress;
use serde::Serialize;
use std::path::PathBuf;

/// Train a pseudo-Siamese network on labelled words, word TAB label, or on a CSV file with numeric columns and a label
/// in each row
///
/// The vector of a word passes through a layer of sigmoid units and a layer of rectified linear units; the label is
/// predicted from their sum. The vectors are trained too. Without --vectors the inputs of the layers are the rows of a
/// CSV file, in the format of train softmax, and are not trained. inspect shows the gradient norms of the two layers,
/// that is, which of them learns faster.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "\
Examples:
  wordmill train pseudo-siamese --train words.tsv --valid valid.tsv --vectors glove.6B.50d.txt --out kinds
  wordmill train pseudo-siamese --train words.tsv --vectors glove.6B.50d.txt --out kinds \\
      --freeze-vectors --dropout-penalty 0.5
  wordmill train pseudo-siamese --train iris.csv --label species --out irises
  wordmill inspect kinds --svg gradients.svg")]
pub struct PseudoSiameseFlags {
    #[command(flatten)]
    #[serde(flatten)]
    fixed: PseudoSiameseFixed,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunFlags,
}

/// Options that a resumed run must share with the run it continues.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PseudoSiameseFixed {
    /// Training words, or without --vectors the rows of a CSV file
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Validation words or rows; accuracy on them is computed after every epoch
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// Column numbers of a word and its label, such as 1,3 [default: the first suitable columns]
    #[arg(long = "columns", value_name = "N,N", value_delimiter = ',', value_parser = size)]
    #[serde(rename = "columns", skip_serializing_if = "Vec::is_empty")]
    word_columns: Vec<usize>,
    /// Word vectors: GloVe text, word2vec text or binary
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Number of leading rows of --vectors that the model keeps, besides those of the labelled words [default: 20000]
    #[arg(long, value_parser = size, value_name = "N")]
    max_vocab: Option<usize>,
    /// Do not train the word vectors
    #[arg(long)]
    freeze_vectors: bool,
    #[command(flatten)]
    #[serde(flatten)]
    columns: ColumnOptions,
    /// Hidden units of each of the two layers
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Add the expected penalty of dropping a fraction P of the units, to second order (Wager et al. 2013); no masks
    /// are sampled
    #[arg(long, default_value = "0", value_parser = share, value_name = "P")]
    dropout_penalty: f64,
    /// L2 penalty lambda/2 (|W1|^2 + |W2|^2 + |W3|^2)
    #[arg(long, default_value = "0.0001", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    #[command(flatten)]
    #[serde(flatten)]
    examples: ExampleFlags,
}

impl TrainFlags for PseudoSiameseFlags {
    type Fixed = PseudoSiameseFixed;
    type Plan = Plan;
    const TRAIN: fn(&Plan, &Inputs, Progress) -> Result<Summary> = train;

    fn parts(&self) -> (&PseudoSiameseFixed, &RunFlags, &InputOptions) {
        (&self.fixed, &self.run, &self.fixed.examples.inputs)
    }

    fn plan(&self) -> Result<Plan> {
        let fixed = &self.fixed;
        let (is_words, columns) = (fixed.vectors.is_some(), fixed.columns.given());
        let of_words = fixed.max_vocab.is_some() || fixed.freeze_vectors || !fixed.word_columns.is_empty();
        let of_rows = format!("--{} are only for CSV files; --vectors is for words", ColumnOptions::NAMES.join(", --"));
        let for_words = "--max-vocab, --freeze-vectors and --columns are only for words, which need --vectors";
        reject(&[(is_words && columns, &of_rows), (!is_words && of_words, for_words)])?;
        let source = match &fixed.vectors {
            Some(vectors) => Sees::Words(WordSource {
                vectors: vectors.clone(),
                max_vocab: fixed.max_vocab.unwrap_or(20_000),
                freeze: fixed.freeze_vectors,
                columns: fixed.word_columns.clone(),
            }),
            None => Sees::Columns(fixed.columns.choice()),
        };
        Ok(Plan {
            valid: fixed.valid.clone(),
            source,
            hidden: fixed.hidden,
            dropout_penalty: fixed.dropout_penalty,
            run: fixed.examples.plan(fixed.l2, &self.run, self)?,
            ..Plan::new(&fixed.train, &self.run.out)
        })
    }

    fn next(&self) -> String {
        format!("wordmill inspect {}", quoted(&self.run.out))
    }
}
