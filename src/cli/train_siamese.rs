//! `wordmill train siamese`

use super::inputs::InputOptions;
use super::run::{ExampleFlags, RunFlags, TrainFlags};
use super::values::{not_negative, positive, size};
use crate::error::Result;
use crate::models::siamese::Loss;
use crate::tasks::run::Summary;
use crate::tasks::siamese::{Plan, train};
use crate::text::Inputs;
use crate::train::progress::Progress;
use serde::Serialize;
use std::path::PathBuf;

/// Train a Siamese net on pairs of words that are alike or not: word TAB word TAB label
///
/// Both words of a pair go through the same layer of sigmoid units, after which words that are alike lie near each
/// other. A label is 1 for alike and 0 for not, or a grade: the lowest label counts as 0, the highest as 1. Lists of
/// word similarity are read as they are published (WordSim-353, SimLex-999, MEN, RG-65): with tabs, commas, semicolons
/// or spaces, a header, comments, more columns. eval measures distances against labels, neighbors shows which words
/// have come to lie near a word.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "\
Examples:
  wordmill train siamese --pairs pairs.tsv --valid valid.tsv --vectors glove.6B.50d.txt --out twins
  wordmill train siamese --pairs pairs.tsv --vectors glove.6B.50d.txt --out twins --hidden 50 --margin 2
  wordmill train siamese --pairs pairs.tsv --vectors glove.6B.50d.txt --out same --loss source   all words become one
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
    /// Pairs to learn from
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Pairs to measure on after every epoch: ROC AUC, or Spearman's correlation where labels have grades
    #[arg(long, value_name = "FILE")]
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
    /// What is made small: the distance of pairs that are alike, and what that of others lacks of the margin; or, as in
    /// the source, the distance of all pairs, which one place for all words makes zero
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

impl SiameseFlags {
    /// The plan that the flags describe.
    pub fn plan(&self) -> Result<Plan> {
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
}

impl TrainFlags for SiameseFlags {
    type Fixed = SiameseFixed;

    fn parts(&self) -> (&SiameseFixed, &RunFlags, &InputOptions) {
        (&self.fixed, &self.run, &self.fixed.examples.inputs)
    }

    fn train(&self, inputs: &Inputs, progress: Progress) -> Result<Summary> {
        train(&self.plan()?, inputs, progress)
    }

    fn next(&self) -> String {
        format!("wordmill neighbors {} WORD", self.run.out.display())
    }
}
