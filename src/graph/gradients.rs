//! The backward pass as nodes of the graph: for each operation, the gradients of its inputs from that of its output.

use super::{Builder, Error, Id, Node, Op, Shape, Side};
use crate::kernels::activation::Activation;

impl Builder {
    /// ∂loss/∂v for each of `variables` (any nodes that are not ids): adds the nodes of the backward pass and returns those that hold
    /// the gradients. `loss` is \[1, 1\]. Variables that the loss does not depend on have a gradient of zeros.
    pub fn gradients<'b>(&'b self, loss: Node<'b>, variables: &[Node<'b>]) -> Vec<Node<'b>> {
        if loss.shape() != (1, 1) {
            self.fail(Error::Shapes { op: "gradients".into(), inputs: self.info(loss.id()).shape_text() });
        }
        self.mark_backward(true);
        if self.failed() {
            return variables.iter().map(|v| self.fill(0.0, v.shape())).collect();
        }
        let last = loss.id().0;
        // Whatever depends on a variable takes part in the backward pass.
        let mut on_the_way: Vec<bool> = (0..=last).map(|i| variables.iter().any(|v| v.id() == Id(i))).collect();
        for i in 0..=last {
            on_the_way[i] |= self.info(Id(i)).inputs.iter().any(|input| on_the_way[input.0]);
        }
        let mut gradients: Vec<Option<Node>> = vec![None; last + 1];
        gradients[last] = Some(self.fill(1.0, loss.shape()));
        for i in (0..=last).rev() {
            let Some(g) = gradients[i].filter(|_| on_the_way[i]) else { continue };
            for (place, input) in self.info(Id(i)).inputs.iter().enumerate() {
                if on_the_way[input.0] {
                    let part = self.backward(self.node(Id(i)), g, place);
                    let sum = &mut gradients[input.0];
                    *sum = Some(sum.map_or(part, |sum| sum + part));
                }
            }
        }
        let of = |v: &Node<'b>| gradients.get(v.id().0).copied().flatten();
        let all = variables.iter().map(|v| of(v).unwrap_or_else(|| self.fill(0.0, v.shape()))).collect();
        self.mark_backward(false);
        all
    }

    /// The part of ∂J/∂(input `place`) that goes through `node`, whose own gradient is `g`.
    fn backward<'b>(&'b self, node: Node<'b>, g: Node<'b>, place: usize) -> Node<'b> {
        let info = self.info(node.id());
        let inputs: Vec<Node> = info.inputs.iter().map(|&id| self.node(id)).collect();
        let (own, a) = (inputs[place].shape(), inputs[0]);
        match info.op {
            Op::Product([ta, tb]) => {
                let b = inputs[1];
                // y = a' b': ∂a' = g b'ᵀ, ∂b' = a'ᵀ g, and each is transposed back.
                match (place, ta, tb) {
                    (0, false, _) => g.product(b, [false, !tb]),
                    (0, true, _) => b.product(g, [tb, true]),
                    (_, _, false) => a.product(g, [!ta, false]),
                    (_, _, true) => g.product(a, [true, ta]),
                }
            }
            Op::Add => reduce(g, own),
            Op::Sub if place == 0 => reduce(g, own),
            Op::Sub => reduce(g, own) * -1.0,
            Op::Mul => reduce(g * inputs[1 - place], own),
            Op::Affine { scale, .. } => g * scale,
            Op::Power(p) => g * a.power(p - 1.0) * p,
            Op::Apply(Activation::Tanh) => g * node.square().affine(-1.0, 1.0),
            Op::Apply(Activation::Sigmoid) => g * node * node.affine(-1.0, 1.0),
            Op::Apply(Activation::Relu) => g * node.positive(),
            Op::Positive => self.fill(0.0, own),
            Op::Softplus => g * a.sigmoid(),
            Op::Transpose => g.transpose(),
            Op::Reshape => g.reshape(own),
            Op::Broadcast => reduce(g, own),
            Op::Sum(_) => g.broadcast(own),
            Op::Concat(side) => {
                let length = |node: &Node| if side == Side::Rows { node.shape().0 } else { node.shape().1 };
                let from: usize = inputs[..place].iter().map(length).sum();
                let of = from..from + length(&inputs[place]);
                if side == Side::Rows { g.rows(of) } else { g.columns(of) }
            }
            Op::Slice(side, from) => g.pad(side, from, own),
            Op::Pad(Side::Rows, from) => g.rows(from..from + own.0),
            Op::Pad(Side::Columns, from) => g.columns(from..from + own.1),
            Op::Gather => g.scatter(inputs[1], own.0),
            Op::Scatter => g.gather(inputs[1]),
            Op::Softmax => node * (g - (g * node).sum_columns()),
            Op::LogSumExp => g * a.softmax(),
            Op::CrossEntropy => g * (a.softmax() - inputs[1].one_hot(own.1)),
            Op::Placeholder | Op::Ids { .. } | Op::Variable(_) | Op::Fill(_) | Op::OneHot => {
                unreachable!("{} has no input that a gradient goes to", info.op)
            }
        }
    }
}

/// Sums over the sides along which `shape` was repeated.
fn reduce(g: Node, shape: Shape) -> Node {
    match (g.shape().0 != shape.0, g.shape().1 != shape.1) {
        (false, false) => g,
        (true, true) => g.sum(),
        (true, false) => g.sum_rows(),
        (false, true) => g.sum_columns(),
    }
}
