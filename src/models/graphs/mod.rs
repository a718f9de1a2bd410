//! The models as computation graphs: the same tensors and losses, written a second time and differentiated by
//! [`crate::graph`]. The hand-written gradients are compared with theirs in f64, and `wordmill graph` draws them.

mod language_model;
mod ner;
mod siamese;

pub use language_model::{Output, Unrolled, language_model};
pub use ner::tagger;
pub use siamese::{pseudo_siamese, siamese};

use crate::graph::{Builder, Error, Feed, Graph, Id, Node, Session};
use crate::params::{Arena, Layout, TensorId};
use crate::real::Real;

/// A model as a graph.
pub struct ModelGraph {
    /// The graph.
    pub graph: Graph,
    /// The node of the loss.
    pub loss: Id,
    /// The nodes of the gradients of the model's tensors.
    pub gradients: Vec<(TensorId, Id)>,
    /// The loss and the gradients.
    fetches: Vec<Id>,
}

impl ModelGraph {
    /// The graph of a loss of the tensors of a layout, built by `loss`, and of its gradients.
    pub fn build(
        layout: &Layout,
        loss: impl for<'b> FnOnce(&'b Builder, &Variables<'b>) -> Node<'b>,
    ) -> Result<Self, Error> {
        let builder = Builder::default();
        let (loss, gradients) = {
            let variable =
                |(p, tensor): (TensorId, &crate::params::Tensor)| (tensor.name.clone(), p, builder.variable(layout, p));
            let variables = Variables(layout.tensors().map(variable).collect());
            let loss = loss(&builder, &variables);
            let nodes: Vec<Node> = variables.0.iter().map(|(_, _, node)| *node).collect();
            let nodes = builder.gradients(loss, &nodes);
            for (node, (name, ..)) in nodes.iter().zip(&variables.0) {
                node.named(format!("∂{name}"));
            }
            let handles = variables.0.iter().map(|(_, p, _)| *p);
            (loss.named("J").id(), handles.zip(nodes.iter().map(|node| node.id())).collect::<Vec<_>>())
        };
        let fetches = [loss].into_iter().chain(gradients.iter().map(|(_, id)| *id)).collect();
        Ok(ModelGraph { graph: builder.finish()?, loss, gradients, fetches })
    }

    /// Returns the loss, and writes its gradient to `g`.
    pub fn step<R: Real>(
        &self,
        g: &mut Arena<R>,
        session: &mut Session<R>,
        feed: &[(&str, Feed<R>)],
        w: &Arena<R>,
    ) -> Result<f64, Error> {
        session.run(&self.graph, feed, w, &self.fetches)?;
        for &(p, id) in &self.gradients {
            g.matrix_mut(p).assign(&session.value(id));
        }
        Ok(session.number(self.loss))
    }
}

/// The variables of a graph by the names of their tensors.
pub struct Variables<'b>(Vec<(String, TensorId, Node<'b>)>);

impl<'b> Variables<'b> {
    /// The variable of a tensor.
    pub fn get(&self, name: &str) -> Node<'b> {
        let found = self.0.iter().find(|(own, ..)| own == name);
        found.unwrap_or_else(|| panic!("the layout has no tensor {name}")).2
    }
}

/// The expected penalty of dropout of each element of x with probability `p` on a softmax of θ = xUᵀ + b, to second order, over all rows:
/// ½ p/(1 − p) Σ xⱼ² Varⱼ, with the variance of Uₖⱼ under ŷ (equations, section 5).
pub(super) fn dropout_penalty<'b>(p: f64, x: Node<'b>, u: Node<'b>, theta: Node<'b>) -> Node<'b> {
    let hat = theta.softmax();
    let variance = hat.dot(u.square()) - hat.dot(u).square();
    (x.square() * variance).sum() * (0.5 * p / (1.0 - p))
}

/// x, with dropout multiplied by a mask that is fed as `name`.
fn masked<'b>(b: &'b Builder, dropout: bool, name: &str, x: Node<'b>) -> Node<'b> {
    let (rows, columns) = x.shape();
    if dropout { x * b.placeholder(name, rows, columns) } else { x }
}
