//! Computation graphs of small models of every kind, for drawing.

use crate::error::counted;
use crate::graph::Graph;
use crate::kernels::activation::Activation;
use crate::layers::cells::{Cell, Kind, Unit};
use crate::layers::output::{Draws, Negatives, Objective, Tail};
use crate::models::graphs::{self, ModelGraph, Output, Unrolled};
use crate::models::language_model::{Config, Loss};
use crate::models::ner::{self, Table};
use crate::models::{LanguageModel, Ner, PseudoSiamese, Siamese, SoftmaxRegression};
use crate::models::{pseudo_siamese, siamese, softmax_regression};

/// The models that can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Example {
    /// A language model with a full softmax.
    Cell(Kind),
    /// Another model.
    Other(Other),
}

/// Models but for language models with a full softmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Other {
    /// A language model with a sampled softmax
    Sampled,
    /// A language model with an adaptive softmax
    Adaptive,
    /// A tagger that learns each token independently
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

impl Example {
    /// Whether it is unrolled over time steps and has layers.
    pub fn is_recurrent(self) -> bool {
        matches!(self, Example::Cell(_) | Example::Other(Other::Sampled | Other::Adaptive))
    }

    /// The graph and its title.
    pub fn graph(self, steps: usize, layers: usize) -> (Graph, String) {
        let recurrent = |name: &str, cell: Kind, loss: Loss| {
            let cell = Cell::new(cell, Activation::Sigmoid, Unit::Tanh);
            let output = match loss {
                Loss::Sampled { samples: drawn, .. } => Output::Sampled { drawn, logistic: false },
                Loss::Full | Loss::Adaptive { .. } => Output::Full,
            };
            let kinds = Config { layers, cell, loss, ..Config::default() };
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
        let model = match self {
            Example::Cell(kind) => return recurrent(&format!("Language model, cell {kind}"), kind, Loss::Full),
            Example::Other(model) => model,
        };
        match model {
            Other::Sampled => {
                let (objective, draws) = (Objective::Softmax, Draws::WithReplacement);
                let loss = Loss::Sampled { objective, draws, negatives: Negatives::Shared, samples: 4, power: None };
                recurrent("Language model with a sampled softmax", Kind::Rnn, loss)
            }
            Other::Adaptive => {
                let loss = Loss::Adaptive { tails: vec![Tail { first: 4, width: 2 }] };
                recurrent("Language model with an adaptive softmax", Kind::Rnn, loss)
            }
            Other::Ner => tagger("Tagger of windows", ner::Objective::Window),
            Other::NerSentence => tagger("Tagger of sentences", ner::Objective::Sentence),
            Other::Siamese => {
                let loss = siamese::Loss::Contrastive { margin: 1.0 };
                let config = siamese::Config { words: 11, embed: 5, hidden: 10, loss, freeze: false };
                (right(graphs::siamese(&Siamese::new(config), 3)), "Siamese net".into())
            }
            Other::PseudoSiamese => {
                let (words, embed, hidden, labels) = (Some(11), 5, 10, 4);
                let config =
                    pseudo_siamese::Config { words, embed, hidden, labels, freeze: false, dropout_penalty: 0.0 };
                (right(graphs::pseudo_siamese(&PseudoSiamese::new(config), 3)), "Pseudo-Siamese net".into())
            }
            Other::Softmax => {
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

/// Unwraps a graph built by the library, which contains no mistake.
fn right(graph: std::result::Result<ModelGraph, crate::graph::Error>) -> Graph {
    graph.expect("the models' own graphs have shapes that fit").graph
}
