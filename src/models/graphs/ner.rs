//! The window network for named entities as a graph (equations, section 3).

use super::{ModelGraph, Variables, masked};
use crate::graph::{Builder, Error, Node, Side};
use crate::models::Ner;
use crate::models::ner::{Config, Objective};

/// The graph of `net` for `sentences` with these numbers of tokens, N in all.
///
/// Placeholders: for each table `ids.` and its name, the rows that each place holds \[N·window\]; with dropout
/// `mask.x` \[N, width\] and `mask.h` \[N, H\]; the labels `y` \[N\], or for the sentence objective those of each sentence s, `y{s}`,
/// and `before{s}`, the previous labels, K for the first token.
pub fn tagger(net: &Ner, sentences: &[usize], dropout: bool) -> Result<ModelGraph, Error> {
    let Config { tables, window, hidden, labels, objective } = net.config();
    let n: usize = sentences.iter().sum();
    ModelGraph::build(net.layout(), |b, v| {
        let rows = |table: &crate::models::ner::Table| {
            v.get(&table.name).gather(b.ids(format!("ids.{}", table.name), n * window, table.rows))
        };
        let places = b.concat(Side::Columns, &tables.iter().map(rows).collect::<Vec<_>>());
        let x = places.reshape((n, window * places.shape().1)).named("x");
        let h = (masked(b, dropout, "mask.x", x).dot(v.get("hidden")) + v.get("hidden.bias")).tanh().named("h");
        assert_eq!(h.shape().1, *hidden);
        let theta = masked(b, dropout, "mask.h", h).dot_transposed(v.get("output")) + v.get("output.bias");
        let theta = theta.named("θ");
        let sum = match objective {
            Objective::Window => theta.cross_entropy(b.ids("y", n, *labels)).sum(),
            Objective::Sentence => {
                let mut from = 0;
                let all = sentences.iter().enumerate().map(|(s, &tokens)| {
                    from += tokens;
                    sentence(b, v, theta.rows(from - tokens..from), *labels, s)
                });
                let all: Vec<Node> = all.collect();
                b.concat(Side::Rows, &all).sum()
            }
        };
        sum * (1.0 / n as f64)
    })
}

/// log Z − s(y) of one sentence, from its scores θ \[n, K\].
fn sentence<'b>(b: &'b Builder, v: &Variables<'b>, theta: Node<'b>, labels: usize, s: usize) -> Node<'b> {
    let (n, k) = theta.shape();
    let a = v.get("transitions");
    let y = b.ids(format!("y{s}"), n, labels);
    // The row of the start is K, that of the end K + 1.
    let before = b.ids(format!("before{s}"), n, k + 1);
    let (start, end) = (a.rows(k..k + 1), a.rows(k + 1..k + 2));
    let chosen = y.one_hot(k);
    let gold = (chosen * (theta + a.gather(before))).sum() + (chosen.rows(n - 1..n) * end).sum();
    // αₜ₊₁(j) = θₜ₊₁,ⱼ + log Σᵢ e^(αₜ(i) + Aᵢⱼ), with i along the columns.
    let turned = a.rows(0..k).transpose();
    let alpha = (1..n)
        .fold(start + theta.rows(0..1), |alpha, t| (turned + alpha).log_sum_exp().transpose() + theta.rows(t..t + 1));
    (alpha + end).log_sum_exp() - gold
}
