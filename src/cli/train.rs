//! `wordmill train`

use super::train_lm::{LmOptions, train_lm};
use super::train_ner::{NerOptions, train_ner};
use super::train_pseudo_siamese::{PseudoSiameseOptions, train_pseudo_siamese};
use super::train_siamese::{SiameseOptions, train_siamese};
use super::train_softmax::{SoftmaxOptions, train_softmax};
use crate::error::Result;
use crate::pool::pool;
use std::io::Write;

/// Train a model
#[derive(Debug, clap::Subcommand)]
pub enum Train {
    Lm(Box<LmOptions>),
    Ner(Box<NerOptions>),
    Siamese(Box<SiameseOptions>),
    PseudoSiamese(Box<PseudoSiameseOptions>),
    Softmax(Box<SoftmaxOptions>),
}

impl Train {
    /// Does it; a summary goes to `out`.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        match self {
            Train::Lm(options) => {
                let threads = options.threads;
                let inputs = options.inputs.inputs(options.quiet);
                let summary = pool(threads)?.install(|| train_lm(&options, &inputs))?;
                summary.print(&options, &inputs, out)
            }
            Train::Ner(options) => {
                let inputs = options.run.inputs.inputs(options.run.quiet);
                let summary = pool(options.run.threads)?.install(|| train_ner(&options, &inputs))?;
                summary.print(&options, &inputs, out)
            }
            Train::PseudoSiamese(options) => {
                let inputs = options.run.inputs.inputs(options.run.quiet);
                let summary = pool(options.run.threads)?.install(|| train_pseudo_siamese(&options, &inputs))?;
                summary.print(&options.run, &options.next(), &inputs, out)
            }
            Train::Softmax(options) => {
                let inputs = options.run.inputs.inputs(options.run.quiet);
                let summary = pool(options.run.threads)?.install(|| train_softmax(&options, &inputs))?;
                summary.print(&options.run, &options.next(), &inputs, out)
            }
            Train::Siamese(options) => {
                let inputs = options.run.inputs.inputs(options.run.quiet);
                let summary = pool(options.run.threads)?.install(|| train_siamese(&options, &inputs))?;
                summary.print(&options.run, &options.next(), &inputs, out)
            }
        }
    }
}
