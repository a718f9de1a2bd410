//! `wordmill graph`

use super::output_failed;
use super::values::size;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::kernels::activation::Activation;
use crate::layers::net::{Kind, Unit};
use crate::models::graphs::{ModelGraph, Output, Unrolled, language_model, tagger};
use crate::models::language_model::Config;
use crate::models::ner::{self, Objective, Table};
use crate::models::{LanguageModel, Ner};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Draw the computation graph of a model, as SVG or in Graphviz' language
///
/// The models are small ones; their graphs are those that the library's hand-written gradients are tested against. Without
/// --svg and --dot the graph is printed in Graphviz' language.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill graph gru --svg gru.svg
  wordmill graph rnn --steps 1 --gradients --svg backward.svg      the backward pass is nodes too
  wordmill graph gated-feedback --layers 2 | dot -Tpdf > net.pdf")]
pub struct DrawGraph {
    /// Which model
    #[arg(value_enum, value_name = "MODEL")]
    model: Model,
    /// Steps that a language model is unrolled
    #[arg(long, default_value = "2", value_parser = few, value_name = "STEPS")]
    steps: usize,
    /// Layers of a language model
    #[arg(long, default_value = "1", value_parser = few, value_name = "LAYERS")]
    layers: usize,
    /// Draw the nodes of the backward pass too
    #[arg(long)]
    gradients: bool,
    /// File for the drawing
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// File for the graph in Graphviz' language
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
}

/// What can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Model {
    /// A language model of simple units
    Rnn,
    /// A language model of gated recurrent units
    Gru,
    /// A gated-feedback language model
    GatedFeedback,
    /// A language model with a sampled softmax
    Sampled,
    /// A tagger, each token by itself
    Ner,
    /// A tagger that learns whole sentences
    NerSentence,
}

/// A size of what can be looked at.
fn few(text: &str) -> std::result::Result<usize, String> {
    match size(text) {
        Ok(n @ ..=16) => Ok(n),
        _ => Err("expected a whole number from 1 to 16".into()),
    }
}

impl DrawGraph {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let (model, title) = self.build();
        let model = model.expect("the models' own graphs are right");
        let (graph, nodes): (Graph, usize) = (model.graph, model.gradients.len());
        let write = |path: &Path, text: String| std::fs::write(path, text).map_err(|e| Error::io(path, "writing", e));
        if let Some(path) = &self.svg {
            write(path, graph.svg(&title))?;
        }
        match &self.dot {
            Some(path) => write(path, graph.dot())?,
            None if self.svg.is_none() => return out.write_all(graph.dot().as_bytes()).map_err(output_failed),
            None => {}
        }
        let backward = graph.nodes().filter(|(_, node)| node.backward).count();
        let gradients = if nodes > 0 { format!(", {backward} of them for {nodes} gradients") } else { String::new() };
        writeln!(out, "{} nodes{gradients}", graph.nodes().count()).map_err(output_failed)
    }

    /// The graph and its title.
    fn build(&self) -> (std::result::Result<ModelGraph, crate::graph::Error>, String) {
        let DrawGraph { steps, layers, gradients, .. } = *self;
        let of = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let recurrent = |cell: Kind, output: Output| {
            let (activation, unit) = (Activation::Sigmoid, Unit::Tanh);
            let config = Config { words: 9, embed: 3, hidden: 5, layers, cell, activation, unit, ..Config::default() };
            let unrolled = Unrolled { steps, lanes: 2, loss_from: 0, dropout: false, output };
            language_model(&LanguageModel::new(config), unrolled, gradients)
        };
        let ner = |objective: Objective| {
            let table = |name: &str, rows, width| Table { name: name.into(), rows, width };
            let tables = vec![table("embedding", 11, 5), table("caps", 6, 2)];
            let net = Ner::new(ner::Config { tables, window: 3, hidden: 7, labels: 4, objective });
            tagger(&net, &[3], false, gradients)
        };
        let unrolled = format!("{}, {}", of(layers, "layer"), of(steps, "step"));
        match self.model {
            Model::Rnn => (recurrent(Kind::Rnn, Output::Full), format!("Recurrent language model: {unrolled}")),
            Model::Gru => (recurrent(Kind::Gru, Output::Full), format!("GRU language model: {unrolled}")),
            Model::GatedFeedback => {
                (recurrent(Kind::GatedFeedback, Output::Full), format!("Gated-feedback language model: {unrolled}"))
            }
            Model::Sampled => {
                let output = Output::Sampled { drawn: 4, logistic: false };
                (recurrent(Kind::Rnn, output), format!("Language model with a sampled softmax: {unrolled}"))
            }
            Model::Ner => (ner(Objective::Window), "Tagger of windows".into()),
            Model::NerSentence => (ner(Objective::Sentence), "Tagger of sentences".into()),
        }
    }
}
