//! `wordmill graph`

use super::values::size;
use crate::error::{Error, Result};
use crate::layers::cells::Kind;
use crate::sys::files;
use crate::tasks::graphs::{Example, Other};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Draw the computation graph of a model, as SVG or in Graphviz DOT format
///
/// The models are small; their graphs are the ones that the library's hand-written gradients are tested against.
/// Without --svg and --dot the graph is printed in DOT format.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill graph gru --svg gru.svg
  wordmill graph rnn --steps 1 --gradients --svg backward.svg      with the nodes of the backward pass
  wordmill graph gated-feedback --layers 2 | dot -Tpdf > net.pdf")]
pub struct DrawGraph {
    /// Which model
    #[arg(value_enum, value_name = "MODEL")]
    model: Example,
    /// Time steps that a language model is unrolled for [default: 2]
    #[arg(long, value_parser = few, value_name = "STEPS")]
    steps: Option<usize>,
    /// Number of layers of a language model [default: 1]
    #[arg(long, value_parser = few, value_name = "LAYERS")]
    layers: Option<usize>,
    /// Include the nodes of the backward pass
    #[arg(long)]
    gradients: bool,
    /// SVG file to write
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// DOT file to write
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
}

impl ValueEnum for Example {
    fn value_variants<'a>() -> &'a [Example] {
        static ALL: LazyLock<Vec<Example>> = LazyLock::new(|| {
            let others = Other::value_variants().iter().copied().map(Example::Other);
            Kind::ALL.into_iter().map(Example::Cell).chain(others).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Example::Cell(kind) => kind.to_possible_value(),
            Example::Other(model) => model.to_possible_value(),
        }
    }
}

/// A size that is small enough to draw.
fn few(text: &str) -> std::result::Result<usize, String> {
    match size(text) {
        Ok(n @ ..=16) => Ok(n),
        _ => Err("expected an integer from 1 to 16".into()),
    }
}

impl DrawGraph {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        if !self.model.is_recurrent() && (self.steps.is_some() || self.layers.is_some()) {
            return Err(Error::Usage("--steps and --layers are only for language models".into()));
        }
        let (graph, title) = self.model.graph(self.steps.unwrap_or(2), self.layers.unwrap_or(1));
        let graph = if self.gradients { graph } else { graph.forward() };
        if let Some(path) = &self.svg {
            files::write(path, graph.svg(&title))?;
        }
        match &self.dot {
            Some(path) => files::write(path, graph.dot())?,
            None if self.svg.is_none() => return out.write_all(graph.dot().as_bytes()).map_err(Error::output),
            None => {}
        }
        let backward = graph.nodes().filter(|(_, node)| node.backward).count();
        let gradients =
            if self.gradients { format!(", {backward} of them for the backward pass") } else { String::new() };
        writeln!(out, "{} nodes{gradients}", graph.nodes().count()).map_err(Error::output)
    }
}
