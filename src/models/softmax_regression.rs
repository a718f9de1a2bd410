//! Softmax regression, trained on its computation graph (equations, sections 2 and 11).
//!
//! θ = xW + b    ŷ = softmax(θ)    J = −Σ log ŷ_y / N    ∂θ = (ŷ − y) / N    ∂W = xᵀ∂θ    ∂b = Σ ∂θ
//!
//! The backward line is not written here: [`Builder::gradients`] finds it.

use crate::graph::{Builder, Feed, Graph, Id, Session};
use crate::params::{Arena, Gradients, Layout, P, Role};
use crate::real::Real;
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a softmax classifier is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// D: numbers of an example.
    pub features: usize,
    /// K: classes.
    pub classes: usize,
}

/// The model: its configuration and where its tensors are.
pub struct SoftmaxRegression {
    config: Config,
    layout: Arc<Layout>,
    weight: P,
    bias: P,
}

/// The graph for a number of examples, and room for its values.
pub struct Space<R: Real> {
    graph: Graph,
    session: Session<R>,
    scores: Id,
    loss: Id,
    /// ∂W and ∂b.
    gradients: [Id; 2],
}

impl SoftmaxRegression {
    /// The model of a configuration.
    pub fn new(config: Config) -> Self {
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

    /// The graph for N `examples`, to run it. Placeholders: `x` \[N, D\] and the classes `y` \[N\].
    pub fn space<R: Real>(&self, examples: usize) -> Space<R> {
        let Config { features, classes } = self.config;
        let b = Builder::default();
        let (x, y) = (b.placeholder("x", examples, features), b.ids("y", examples, classes));
        let (w, bias) = (b.variable(&self.layout, self.weight), b.variable(&self.layout, self.bias));
        let scores = (x.dot(w) + bias).named("θ");
        let loss = (scores.cross_entropy(y).sum() * (1.0 / examples as f64)).named("J");
        let gradients = b.gradients(loss, &[w, bias]);
        let [dw, db] = [gradients[0].named("∂weight").id(), gradients[1].named("∂bias").id()];
        let (scores, loss) = (scores.id(), loss.id());
        let graph = b.finish().expect("the shapes are those of the layout");
        Space { session: Session::new(&graph), graph, scores, loss, gradients: [dw, db] }
    }

    /// The mean loss of examples `x` \[N, D\] of the classes `y` \[N\], in nats, and its gradient; N as in `space`.
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

    /// The scores θ \[N, K\] of examples, and the mean loss of the classes `y`.
    pub fn scores<'s, R: Real>(
        &self,
        space: &'s mut Space<R>,
        x: ArrayView2<R>,
        y: &[u32],
        w: &Arena<R>,
    ) -> (ArrayView2<'s, R>, f64) {
        space.run(x, y, w, &[space.loss]);
        (space.session.value(space.scores), space.session.number(space.loss))
    }
}

impl<R: Real> Space<R> {
    /// Bytes of its values; room for them is made when they are first computed.
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
