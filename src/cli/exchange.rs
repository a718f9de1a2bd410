//! `wordmill export` and `wordmill import`

use super::inputs::InputOptions;
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::tasks::exchange_pytorch::{self, Source};
use crate::tasks::language_model::TrainedLm;
use crate::tasks::{Model, any, exchange_word2vec};
use std::io::Write;
use std::path::PathBuf;

/// Export a language model to PyTorch (nn.Embedding, a recurrent module such as nn.GRU, nn.Linear), or the word vectors of any model
///
/// For PyTorch, FILE contains the tensors embedding.weight, rnn.weight_ih_l0 … and output.weight, output.bias; FILE
/// with its extension replaced by .vocab.txt contains the words, one per line in the order of their ids.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  wordmill export model --to pytorch model.safetensors
  wordmill export model --to word2vec vectors.txt
  python examples/pytorch.py model.safetensors test.txt")]
pub struct Export {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Format to write
    #[arg(long, value_enum)]
    to: Program,
    /// File to write; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Formats of other programs.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Program {
    /// A safetensors file with the tensor names of torch.nn
    Pytorch,
    /// Word vectors in the text format of word2vec, from any model that has words
    Word2vec,
}

/// Import a language model from PyTorch
///
/// FILE is a safetensors file written by export, or with the state_dict of any module composed of an nn.Embedding, a
/// recurrent module such as nn.GRU and an nn.Linear, under their usual names, with or without the prefixes of
/// DataParallel, torch.compile or Lightning; half precision is converted to single. The cell, the sizes and the number
/// of layers are inferred from names and shapes. If the embedding and output tables are equal, or one of them is missing, the weights
/// are tied; missing biases are zero.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  wordmill import trained.safetensors --vocab model.vocab.txt --out model")]
pub struct Import {
    /// File to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Words with their counts, as written by export: word TAB count, one per line, in the order of their ids
    #[arg(long, value_name = "FILE")]
    vocab: PathBuf,
    /// Directory of the model; created if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Nonlinearity of an nn.RNN [default: the one noted in the file, or tanh]
    #[arg(long, value_enum)]
    activation: Option<Activation>,
    /// Replace the model in --out
    #[arg(long)]
    force: bool,
}

impl Export {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let file = self.file.display();
        match self.to {
            Program::Pytorch => {
                let words = exchange_pytorch::export(&TrainedLm::load(&self.model)?, &self.file)?;
                writeln!(out, "{file} and {}", words.display()).map_err(Error::output)
            }
            Program::Word2vec => {
                let (saved, model) = any::load(&self.model)?;
                let vectors = model.vectors().ok_or_else(|| saved.has_no_words(&self.model))?;
                exchange_word2vec::export(&vectors, &self.file, &InputOptions::default().inputs(false))?;
                writeln!(out, "{file}").map_err(Error::output)
            }
        }
    }
}

impl Import {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let inputs = InputOptions::default().inputs(false);
        let source = Source { file: &self.file, words: &self.vocab, activation: self.activation };
        let parameters = exchange_pytorch::import(&source, &self.out, self.force, &inputs)?;
        writeln!(out, "{parameters} parameters in {}", self.out.display()).map_err(Error::output)
    }
}
