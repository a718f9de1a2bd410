//! Softmax regression, trained on its computation graph (equations, sections 2 and 11).
//!
//! θ = xW + b    ŷ = softmax(θ)    J = −Σ log ŷ_y / N    ∂θ = (ŷ − y) / N    ∂W = xᵀ∂θ    ∂b = Σ ∂θ
//!
//! The expected penalty of dropout of x may be added to J: ½ p/(1 − p) Σ xⱼ² Varⱼ / N, with the variance of Wⱼₖ under ŷ.
//!
//! The gradients are not computed here: [`Builder::gradients`] derives them.

use super::graphs::dropout_penalty;
use crate::graph::{Builder, Feed, Graph, Id, Node, Session};
use crate::params::{Arena, Gradients, Layout, Role, TensorId};
use crate::real::Real;
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The configuration of a softmax classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// D: numbers per example.
    pub features: usize,
    /// K: classes.
    pub classes: usize,
    /// p: the dropout probability of x whose quadratic penalty is added to the loss in training.
    #[serde(default)]
    pub dropout_penalty: f64,
}

/// The model: its configuration and its tensors.
pub struct SoftmaxRegression {
    config: Config,
    layout: Arc<Layout>,
    weight: TensorId,
    bias: TensorId,
}

/// The graph for a number of examples, and memory for its values.
pub struct Space<R: Real> {
    graph: Graph,
    session: Session<R>,
    scores: Id,
    cross_entropy: Id,
    /// The same with the penalty.
    loss: Id,
    /// ∂W and ∂b.
    gradients: [Id; 2],
}

impl SoftmaxRegression {
    /// The model of a configuration.
    pub fn new(config: Config) -> Self {
        assert!((0.0..1.0).contains(&config.dropout_penalty));
        let mut layout = Layout::default();
        let weight = layout.add("weight", config.features, config.classes, Role::Weight);
        let bias = layout.add("bias", 1, config.classes, Role::Bias);
        SoftmaxRegression { config, layout: Arc::new(layout), weight, bias }
    }

    /// The tensors.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The graph for N `examples`, with memory to run it. Placeholders: `x` \[N, D\] and the classes `y` \[N\].
    pub fn space<R: Real>(&self, examples: usize) -> Space<R> {
        let Config { features, classes, dropout_penalty: p } = self.config;
        let b = Builder::default();
        let (x, y) = (b.placeholder("x", examples, features), b.ids("y", examples, classes));
        let (w, bias) = (b.variable(&self.layout, self.weight), b.variable(&self.layout, self.bias));
        let scores = (x.dot(w) + bias).named("θ");
        let mean = 1.0 / examples as f64;
        let cross_entropy = scores.cross_entropy(y).sum() * mean;
        let mut loss = cross_entropy;
        if p > 0.0 {
            loss = loss + (dropout_penalty(p, x, w.transpose(), scores) * mean).named("R");
        }
        loss.named("J");
        let gradients = b.gradients(loss, &[w, bias]);
        let [dw, db] = [gradients[0].named("∂weight").id(), gradients[1].named("∂bias").id()];
        let [scores, cross_entropy, loss] = [scores, cross_entropy, loss].map(Node::id);
        let graph = b.finish().expect("the shapes are those of the layout");
        Space { session: Session::new(&graph), graph, scores, cross_entropy, loss, gradients: [dw, db] }
    }

    /// The mean loss of examples `x` \[N, D\] with classes `y` \[N\], in nats, penalty included, and its gradient; N as in `space`.
    pub fn step<R: Real>(
        &self,
        g: &mut Gradients<R>,
        space: &mut Space<R>,
        x: ArrayView2<R>,
        y: &[u32],
        w: &Arena<R>,
    ) -> f64 {
        let [dw, db] = space.gradients;
        space.run(x, y, w, &[space.loss, dw, db]);
        g.arena.matrix_mut(self.weight).assign(&space.session.value(dw));
        g.arena.matrix_mut(self.bias).assign(&space.session.value(db));
        space.session.number(space.loss)
    }

    /// The scores θ \[N, K\] of examples, and the mean cross-entropy of the classes `y`.
    pub fn scores<'s, R: Real>(
        &self,
        space: &'s mut Space<R>,
        x: ArrayView2<R>,
        y: &[u32],
        w: &Arena<R>,
    ) -> (ArrayView2<'s, R>, f64) {
        space.run(x, y, w, &[space.cross_entropy]);
        (space.session.value(space.scores), space.session.number(space.cross_entropy))
    }
}

impl<R: Real> Space<R> {
    /// Bytes of its values, which are allocated when they are first computed.
    pub fn bytes(&self) -> usize {
        Session::<R>::bytes(&self.graph)
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    fn run(&mut self, x: ArrayView2<R>, y: &[u32], w: &Arena<R>, fetches: &[Id]) {
        let feed = [("x", Feed::Matrix(x)), ("y", Feed::Ids(y))];
        if let Err(error) = self.session.run(&self.graph, &feed, w, fetches) {
            panic!("{error}");
        }
    }
}
