//! The Siamese and the pseudo-Siamese network as graphs (equations, section 9).

use super::{ModelGraph, Variables, dropout_penalty};
use crate::graph::{Error, Node};
use crate::kernels::activation::Activation;
use crate::models::siamese::Loss;
use crate::models::{PseudoSiamese, Siamese};

/// f(xW + b), with the weights of that name.
fn layer<'b>(v: &Variables<'b>, name: &str, x: Node<'b>, f: Activation) -> Node<'b> {
    (x.dot(v.get(name)) + v.get(&format!("{name}.bias"))).apply(f)
}

/// The graph of a Siamese network for `pairs` pairs, with one layer that is used twice.
///
/// Placeholders: the words `first` and `second` \[N\], and how alike they are, `alike` \[N, 1\].
pub fn siamese(net: &Siamese, pairs: usize) -> Result<ModelGraph, Error> {
    ModelGraph::build(net.layout(), |b, v| {
        let tower = |name: &str| {
            let x = v.get("embedding").gather(b.ids(name, pairs, net.config().words));
            layer(v, "hidden", x, Activation::Sigmoid)
        };
        let (h1, h2) = (tower("first").named("h1"), tower("second").named("h2"));
        let squared = (h1 - h2).square().sum_columns().named("D²");
        let loss = match net.config().loss {
            Loss::Source => squared,
            Loss::Contrastive { margin } => {
                let y = b.placeholder("alike", pairs, 1);
                let lacking = squared.power(0.5).affine(-1.0, margin).relu().named("lacking");
                y * squared + y.affine(-1.0, 1.0) * lacking.square()
            }
        };
        loss.sum() * (0.5 / pairs as f64)
    })
}

/// The graph of a pseudo-Siamese network for `examples` examples, dropout penalty included.
///
/// Placeholders: the words `x` \[N\], or numbers \[N, D\], and their labels `y` \[N\].
pub fn pseudo_siamese(net: &PseudoSiamese, examples: usize) -> Result<ModelGraph, Error> {
    let config = net.config();
    ModelGraph::build(net.layout(), |b, v| {
        let x = match config.words {
            Some(words) => v.get("embedding").gather(b.ids("x", examples, words)).named("x"),
            None => b.placeholder("x", examples, config.embed),
        };
        let h1 = layer(v, "sigmoid", x, Activation::Sigmoid).named("h1");
        let h2 = layer(v, "relu", x, Activation::Relu).named("h2");
        let (h, u) = (h1 + h2, v.get("output"));
        let theta = (h.dot_transposed(u) + v.get("output.bias")).named("θ");
        let mut loss = theta.cross_entropy(b.ids("y", examples, config.labels)).sum();
        if config.dropout_penalty > 0.0 {
            loss = loss + dropout_penalty(config.dropout_penalty, h, u, theta);
        }
        loss * (1.0 / examples as f64)
    })
}
