//! `wordmill graph`

use super::output_failed;
use super::values::size;
use crate::error::{Error, Result, counted};
use crate::graph::Graph;
use crate::kernels::activation::Activation;
use crate::layers::losses::{Draws, Negatives, Objective, Tail};
use crate::layers::net::{Kind, Unit};
use crate::models::graphs::{self, ModelGraph, Output, Unrolled};
use crate::models::language_model::{Config, Loss};
use crate::models::ner::{self, Table};
use crate::models::{LanguageModel, Ner, PseudoSiamese, Siamese, SoftmaxRegression};
use crate::models::{pseudo_siamese, siamese, softmax_regression};
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
    /// Steps that a language model is unrolled [default: 2]
    #[arg(long, value_parser = few, value_name = "STEPS")]
    steps: Option<usize>,
    /// Layers of a language model [default: 1]
    #[arg(long, value_parser = few, value_name = "LAYERS")]
    layers: Option<usize>,
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
    /// A language model with an adaptive softmax
    Adaptive,
    /// A tagger, each token by itself
    Ner,
    /// A tagger that learns whole sentences
    NerSentence,
    /// A Siamese net, whose layer is used twice
    Siamese,
    /// A pseudo-Siamese net
    PseudoSiamese,
    /// A softmax classifier
    Softmax,
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
        let recurrent = [Model::Rnn, Model::Gru, Model::GatedFeedback, Model::Sampled, Model::Adaptive];
        if !recurrent.contains(&self.model) && (self.steps.is_some() || self.layers.is_some()) {
            return Err(Error::Usage("--steps and --layers are of language models".into()));
        }
        let (graph, title) = self.build();
        let graph = if self.gradients { graph } else { graph.forward() };
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
        let gradients =
            if self.gradients { format!(", {backward} of them for the backward pass") } else { String::new() };
        writeln!(out, "{} nodes{gradients}", graph.nodes().count()).map_err(output_failed)
    }

    /// The graph and its title.
    fn build(&self) -> (Graph, String) {
        let (steps, layers) = (self.steps.unwrap_or(2), self.layers.unwrap_or(1));
        let recurrent = |name: &str, cell: Kind, loss: Loss| {
            let (activation, unit) = (Activation::Sigmoid, Unit::Tanh);
            let output = match loss {
                Loss::Sampled { samples: drawn, .. } => Output::Sampled { drawn, logistic: false },
                Loss::Full | Loss::Adaptive { .. } => Output::Full,
            };
            let kinds = Config { layers, cell, activation, unit, loss, ..Config::default() };
            let config = Config { words: 9, embed: 3, hidden: 5, ..kinds };
            let unrolled = Unrolled { steps, lanes: 2, loss_from: 0, dropout: false, output };
            let title = format!("{name}: {}, {}", counted(layers, "layer"), counted(steps, "step"));
            (right(graphs::language_model(&LanguageModel::new(config), unrolled)), title)
        };
        let tagger = |name: &str, objective: ner::Objective| {
            let table = |name: &str, rows, width| Table { name: name.into(), rows, width };
            let tables = vec![table("embedding", 11, 5), table("caps", 6, 2)];
            let net = Ner::new(ner::Config { tables, window: 3, hidden: 7, labels: 4, objective });
            (right(graphs::tagger(&net, &[3], false)), name.to_owned())
        };
        match self.model {
            Model::Rnn => recurrent("Recurrent language model", Kind::Rnn, Loss::Full),
            Model::Gru => recurrent("GRU language model", Kind::Gru, Loss::Full),
            Model::GatedFeedback => recurrent("Gated-feedback language model", Kind::GatedFeedback, Loss::Full),
            Model::Sampled => {
                let (objective, draws) = (Objective::Softmax, Draws::WithReplacement);
                let loss = Loss::Sampled { objective, draws, negatives: Negatives::Shared, samples: 4, power: None };
                recurrent("Language model with a sampled softmax", Kind::Rnn, loss)
            }
            Model::Adaptive => {
                let loss = Loss::Adaptive { tails: vec![Tail { first: 4, width: 2 }] };
                recurrent("Language model with an adaptive softmax", Kind::Rnn, loss)
            }
            Model::Ner => tagger("Tagger of windows", ner::Objective::Window),
            Model::NerSentence => tagger("Tagger of sentences", ner::Objective::Sentence),
            Model::Siamese => {
                let loss = siamese::Loss::Contrastive { margin: 1.0 };
                let config = siamese::Config { words: 11, embed: 5, hidden: 10, loss, freeze: false };
                (right(graphs::siamese(&Siamese::new(config), 3)), "Siamese net".into())
            }
            Model::PseudoSiamese => {
                let (words, embed, hidden, labels) = (Some(11), 5, 10, 4);
                let config =
                    pseudo_siamese::Config { words, embed, hidden, labels, freeze: false, dropout_penalty: 0.0 };
                (right(graphs::pseudo_siamese(&PseudoSiamese::new(config), 3)), "Pseudo-Siamese net".into())
            }
            Model::Softmax => {
                let net = SoftmaxRegression::new(softmax_regression::Config {
                    features: 4,
                    classes: 3,
                    dropout_penalty: 0.0,
                });
                (net.space::<f32>(8).graph().clone(), "Softmax classifier".into())
            }
        }
    }
}

/// A graph of the library's own.
fn right(graph: std::result::Result<ModelGraph, crate::graph::Error>) -> Graph {
    graph.expect("the models' own graphs have shapes that fit").graph
}
