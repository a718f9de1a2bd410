//! `wordmill train siamese`

use super::inputs::InputOptions;
use super::run::{ExampleFlags, RunFlags, TrainFlags};
use super::values::{not_negative, positive, size};
use crate::error::{Result, quoted};
use crate::models::siamese::Loss;
use crate::tasks::run::Summary;
use crate::tasks::siamese::{Plan, train};
use crate::text::Inputs;
use crate::train::progress::Progress;
use serde::Serialize;
use std::path::PathBuf;

/// Train a Siamese network on pairs of similar and dissimilar words: word TAB word TAB label
///
/// Both words of a pair pass through the same layer of sigmoid units, which learns to map similar words close to each
/// other. A label is 1 for similar and 0 for dissimilar words, or a grade: the lowest label counts as 0, the highest
/// as 1. Word similarity data sets are read as published (WordSim-353, SimLex-999, MEN, RG-65): with tabs, commas,
/// semicolons or spaces, a header, comments, additional columns. eval compares distances with labels, neighbors shows
/// the nearest neighbours of a word.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "\
Examples:
  wordmill train siamese --pairs pairs.tsv --valid valid.tsv --vectors glove.6B.50d.txt --out twins
  wordmill train siamese --pairs pairs.tsv --vectors glove.6B.50d.txt --out twins --hidden 50 --margin 2
  wordmill train siamese --pairs pairs.tsv --vectors glove.6B.50d.txt --out same --loss source   all words in one point
  wordmill train siamese --out twins --resume --epochs 60")]
pub struct SiameseFlags {
    #[command(flatten)]
    #[serde(flatten)]
    fixed: SiameseFixed,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunFlags,
}

/// Options that a resumed run must share with the run it continues.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SiameseFixed {
    /// Training pairs
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Validation pairs, evaluated after every epoch: ROC AUC, or Spearman's correlation for graded labels
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// Column numbers of the words and of their label, such as 1,2,4 [default: the first suitable columns]
    #[arg(long, value_name = "N,N,N", value_delimiter = ',', value_parser = size)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<usize>,
    /// Word vectors: GloVe text, word2vec text or binary
    #[arg(long, value_name = "FILE")]
    vectors: PathBuf,
    /// Number of leading rows of --vectors that the model keeps, besides those of the words in the pairs
    #[arg(long, default_value = "20000", value_parser = size, value_name = "N")]
    max_vocab: usize,
    /// Also train the word vectors
    #[arg(long)]
    train_vectors: bool,
    /// Hidden units
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Loss: contrastive, which penalises the distance of similar pairs and distances of dissimilar pairs below the
    /// margin; or, as in the source, the distance of all pairs, which is zero when all words collapse to one point
    #[arg(long, default_value = "contrastive", value_enum)]
    loss: LossKind,
    /// Margin: distance from which dissimilar pairs are no longer penalised
    #[arg(long, default_value = "1", value_parser = positive, value_name = "M")]
    margin: f64,
    /// L2 penalty lambda/2 |W|^2
    #[arg(long, default_value = "0.0001", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    #[command(flatten)]
    #[serde(flatten)]
    examples: ExampleFlags,
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

impl TrainFlags for SiameseFlags {
    type Fixed = SiameseFixed;
    type Plan = Plan;
    const TRAIN: fn(&Plan, &Inputs, Progress) -> Result<Summary> = train;

    fn parts(&self) -> (&SiameseFixed, &RunFlags, &InputOptions) {
        (&self.fixed, &self.run, &self.fixed.examples.inputs)
    }

    fn plan(&self) -> Result<Plan> {
        let fixed = &self.fixed;
        Ok(Plan {
            valid: fixed.valid.clone(),
            columns: fixed.columns.clone(),
            max_vocab: fixed.max_vocab,
            train_vectors: fixed.train_vectors,
            hidden: fixed.hidden,
            loss: match fixed.loss {
                LossKind::Contrastive => Loss::Contrastive { margin: fixed.margin },
                LossKind::Source => Loss::Source,
            },
            run: fixed.examples.plan(fixed.l2, &self.run, self)?,
            ..Plan::new(&fixed.pairs, &fixed.vectors, &self.run.out)
        })
    }

    fn next(&self) -> String {
        format!("wordmill neighbors {} WORD", quoted(&self.run.out))
    }
}
