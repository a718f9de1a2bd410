//! Building graphs.

use super::{Error, Graph, Id, Info, Op, Shape, Side};
use crate::kernels::activation::Activation;
use crate::params::{Layout, TensorId};
use std::cell::RefCell;
use std::ops::{Add, Mul, Range, Sub};

/// A graph under construction. A mistake is reported by [`Builder::finish`]; until then its node fits everywhere.
#[derive(Default)]
pub struct Builder {
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    nodes: Vec<Info>,
    error: Option<Error>,
    /// Whether the nodes being added are part of a backward pass.
    backward: bool,
}

/// The shape of a node that results from a mistake: it fits everywhere, so that only the first one is reported.
const WRONG: Shape = (usize::MAX, usize::MAX);

/// A node of a graph under construction.
#[derive(Clone, Copy)]
pub struct Node<'b> {
    builder: &'b Builder,
    id: Id,
}

impl Builder {
    /// A matrix \[rows, columns\] to be fed.
    pub fn placeholder(&self, name: impl Into<String>, rows: usize, columns: usize) -> Node<'_> {
        self.source(Op::Placeholder, (rows, columns), name.into())
    }

    /// A list of `len` numbers below `below`, to be fed: rows of a table, or classes.
    pub fn ids(&self, name: impl Into<String>, len: usize, below: usize) -> Node<'_> {
        self.source(Op::Ids { below }, (len, 0), name.into())
    }

    /// A tensor of the layout, by its name there.
    pub fn variable(&self, layout: &Layout, p: TensorId) -> Node<'_> {
        let tensor = layout.tensor(p);
        let node = self.push(Op::Variable(p), &[], (tensor.rows, tensor.columns));
        node.named(&tensor.name)
    }

    /// A matrix whose elements are all `x`.
    pub fn fill(&self, x: f64, shape: Shape) -> Node<'_> {
        self.push(Op::Fill(x), &[], shape)
    }

    /// All of `parts` in one matrix, side by side or one below another.
    pub fn concat<'b>(&'b self, side: Side, parts: &[Node<'b>]) -> Node<'b> {
        let shapes: Vec<Shape> = parts.iter().map(|part| part.shape()).collect();
        let along = |(rows, columns): Shape| if side == Side::Rows { (columns, rows) } else { (rows, columns) };
        let fits = shapes.iter().all(|&s| along(s).0 == along(shapes[0]).0) && self.matrices(parts);
        let length = shapes.iter().map(|&s| along(s).1).fold(0usize, usize::saturating_add);
        self.checked(Op::Concat(side), parts, fits.then(|| along((along(shapes[0]).0, length))))
    }

    /// The graph, or the first mistake in it.
    pub fn finish(self) -> Result<Graph, Error> {
        let State { nodes, error, .. } = self.state.into_inner();
        error.map_or(Ok(Graph { nodes }), Err)
    }

    /// The node of an id.
    pub(super) fn node(&self, id: Id) -> Node<'_> {
        Node { builder: self, id }
    }

    /// One node's information.
    pub(super) fn info(&self, id: Id) -> Info {
        self.state.borrow().nodes[id.0].clone()
    }

    /// Whether there was a mistake.
    pub(super) fn failed(&self) -> bool {
        self.state.borrow().error.is_some()
    }

    /// Sets whether the nodes added from now on belong to a backward pass.
    pub(super) fn mark_backward(&self, backward: bool) {
        self.state.borrow_mut().backward = backward;
    }

    fn source(&self, op: Op, shape: Shape, name: String) -> Node<'_> {
        let placeholder = |node: &Info| matches!(node.op, Op::Placeholder | Op::Ids { .. });
        let taken = |node: &Info| placeholder(node) && node.name.as_ref() == Some(&name);
        if self.state.borrow().nodes.iter().any(taken) {
            self.fail(Error::Twice(name.clone()));
        }
        self.push(op, &[], shape).named(name)
    }

    fn push(&self, op: Op, inputs: &[Node], shape: Shape) -> Node<'_> {
        let mut state = self.state.borrow_mut();
        let (inputs, backward) = (inputs.iter().map(|node| node.id).collect(), state.backward);
        state.nodes.push(Info { op, inputs, shape, name: None, backward });
        Node { builder: self, id: Id(state.nodes.len() - 1) }
    }

    /// Adds a node, if the operation accepts its inputs and has the shape `shape`.
    fn checked<'b>(&'b self, op: Op, inputs: &[Node<'b>], shape: Option<Shape>) -> Node<'b> {
        let wrong = inputs.iter().any(|node| node.shape() == WRONG);
        if shape.is_none() && !wrong {
            let inputs: Vec<String> = inputs.iter().map(|node| self.info(node.id).shape_text()).collect();
            self.fail(Error::Shapes { op: op.to_string(), inputs: inputs.join(" and ") });
        }
        self.push(op, inputs, if wrong { WRONG } else { shape.unwrap_or(WRONG) })
    }

    /// Records a mistake; the first one is reported.
    pub(super) fn fail(&self, error: Error) {
        self.state.borrow_mut().error.get_or_insert(error);
    }

    fn matrices(&self, nodes: &[Node]) -> bool {
        !nodes.iter().any(|node| node.bound().is_some())
    }
}

/// The result of two shapes, of which sides of 1 are repeated.
fn broadcast(a: Shape, b: Shape) -> Option<Shape> {
    let side = |a: usize, b: usize| match (a, b) {
        _ if a == b => Some(a),
        (1, n) | (n, 1) => Some(n),
        _ => None,
    };
    Some((side(a.0, b.0)?, side(a.1, b.1)?))
}

impl<'b> Node<'b> {
    /// Its position in the graph, for [`super::Session::run`].
    pub fn id(self) -> Id {
        self.id
    }

    /// Its shape.
    pub fn shape(self) -> Shape {
        self.builder.state.borrow().nodes[self.id.0].shape
    }

    /// Names it in drawings.
    pub fn named(self, name: impl Into<String>) -> Self {
        self.builder.state.borrow_mut().nodes[self.id.0].name = Some(name.into());
        self
    }

    /// The bound of a list of ids.
    fn bound(self) -> Option<usize> {
        match self.builder.state.borrow().nodes[self.id.0].op {
            Op::Ids { below } => Some(below),
            _ => None,
        }
    }

    fn one(self, op: Op, shape: impl FnOnce(Shape) -> Option<Shape>) -> Node<'b> {
        let matrix = self.bound().is_none() && self.shape() != WRONG;
        let shape = if matrix { shape(self.shape()) } else { None };
        self.builder.checked(op, &[self], shape)
    }

    fn two(self, op: Op, other: Node<'b>, shape: impl FnOnce(Shape, Shape) -> Option<Shape>) -> Node<'b> {
        let matrices = self.builder.matrices(&[self, other]) && self.shape() != WRONG && other.shape() != WRONG;
        let shape = if matrices { shape(self.shape(), other.shape()) } else { None };
        self.builder.checked(op, &[self, other], shape)
    }

    /// With ids; `shape` returns the result's shape from that of self, the number of ids and their bound, if they fit.
    fn with_ids(self, op: Op, ids: Node<'b>, shape: impl FnOnce(Shape, usize, usize) -> Option<Shape>) -> Node<'b> {
        let (own, len) = (self.shape(), ids.shape().0);
        let shape = match (self.bound(), ids.bound()) {
            (None, Some(below)) if own != WRONG => shape(own, len, below),
            _ => None,
        };
        self.builder.checked(op, &[self, ids], shape)
    }

    /// self · other
    pub fn dot(self, other: Node<'b>) -> Node<'b> {
        self.product(other, [false, false])
    }

    /// self · otherᵀ
    pub fn dot_transposed(self, other: Node<'b>) -> Node<'b> {
        self.product(other, [false, true])
    }

    /// selfᵀ · other
    pub fn transposed_dot(self, other: Node<'b>) -> Node<'b> {
        self.product(other, [true, false])
    }

    pub(super) fn product(self, other: Node<'b>, transposed: [bool; 2]) -> Node<'b> {
        let turned = |(rows, columns): Shape, turn: bool| if turn { (columns, rows) } else { (rows, columns) };
        self.two(Op::Product(transposed), other, |a, b| {
            let (a, b) = (turned(a, transposed[0]), turned(b, transposed[1]));
            (a.1 == b.0).then_some((a.0, b.1))
        })
    }

    /// scale · self + shift
    pub fn affine(self, scale: f64, shift: f64) -> Node<'b> {
        self.one(Op::Affine { scale, shift }, Some)
    }

    /// Each element to the power `p`.
    pub fn power(self, p: f64) -> Node<'b> {
        self.one(Op::Power(p), Some)
    }

    /// Each element squared.
    pub fn square(self) -> Node<'b> {
        self.power(2.0)
    }

    /// σ, tanh or relu.
    pub fn apply(self, f: Activation) -> Node<'b> {
        self.one(Op::Apply(f), Some)
    }

    /// σ(self)
    pub fn sigmoid(self) -> Node<'b> {
        self.apply(Activation::Sigmoid)
    }

    /// tanh(self)
    pub fn tanh(self) -> Node<'b> {
        self.apply(Activation::Tanh)
    }

    /// max(0, self)
    pub fn relu(self) -> Node<'b> {
        self.apply(Activation::Relu)
    }

    /// 1 where self > 0, else 0.
    pub fn positive(self) -> Node<'b> {
        self.one(Op::Positive, Some)
    }

    /// ln(1 + e^self): −ln σ(−self).
    pub fn softplus(self) -> Node<'b> {
        self.one(Op::Softplus, Some)
    }

    /// selfᵀ
    pub fn transpose(self) -> Node<'b> {
        self.one(Op::Transpose, |(rows, columns)| Some((columns, rows)))
    }

    /// The same elements, row after row, in a matrix of another shape.
    pub fn reshape(self, shape: Shape) -> Node<'b> {
        self.one(Op::Reshape, |(rows, columns)| (rows * columns == shape.0 * shape.1).then_some(shape))
    }

    /// Repeated to `shape`.
    pub fn broadcast(self, shape: Shape) -> Node<'b> {
        self.one(Op::Broadcast, |own| broadcast(own, shape).filter(|&to| to == shape))
    }

    /// The sum of all elements.
    pub fn sum(self) -> Node<'b> {
        self.one(Op::Sum(None), |_| Some((1, 1)))
    }

    /// The sum of the rows, \[1, columns\].
    pub fn sum_rows(self) -> Node<'b> {
        self.one(Op::Sum(Some(Side::Rows)), |(_, columns)| Some((1, columns)))
    }

    /// The sum of the columns, \[rows, 1\].
    pub fn sum_columns(self) -> Node<'b> {
        self.one(Op::Sum(Some(Side::Columns)), |(rows, _)| Some((rows, 1)))
    }

    /// Some rows.
    pub fn rows(self, of: Range<usize>) -> Node<'b> {
        let fits = |(rows, columns)| (of.end <= rows && !of.is_empty()).then_some((of.len(), columns));
        self.one(Op::Slice(Side::Rows, of.start), fits)
    }

    /// Some columns.
    pub fn columns(self, of: Range<usize>) -> Node<'b> {
        let fits = |(rows, columns)| (of.end <= columns && !of.is_empty()).then_some((rows, of.len()));
        self.one(Op::Slice(Side::Columns, of.start), fits)
    }

    /// Zeros of `shape`, with self placed from row or column `from` on.
    pub(super) fn pad(self, side: Side, from: usize, shape: Shape) -> Node<'b> {
        self.one(Op::Pad(side, from), |_| Some(shape))
    }

    /// The rows `ids` of self.
    pub fn gather(self, ids: Node<'b>) -> Node<'b> {
        let fits = |(rows, columns): Shape, len, below| (below <= rows).then_some((len, columns));
        self.with_ids(Op::Gather, ids, fits)
    }

    /// A matrix of `rows` rows, zero except for the rows `ids`, to which those of self are added.
    pub fn scatter(self, ids: Node<'b>, rows: usize) -> Node<'b> {
        let fits = |own: Shape, len, below| (own.0 == len && below <= rows).then_some((rows, own.1));
        self.with_ids(Op::Scatter, ids, fits)
    }

    /// For ids: one row each, zero except for a one in the column of its number.
    pub fn one_hot(self, columns: usize) -> Node<'b> {
        let shape = self.bound().filter(|&below| below <= columns).map(|_| (self.shape().0, columns));
        self.builder.checked(Op::OneHot, &[self], shape)
    }

    /// softmax of each row.
    pub fn softmax(self) -> Node<'b> {
        self.one(Op::Softmax, Some)
    }

    /// ln Σ eˣ of each row, \[rows, 1\].
    pub fn log_sum_exp(self) -> Node<'b> {
        self.one(Op::LogSumExp, |(rows, _)| Some((rows, 1)))
    }

    /// −ln softmax of each row at the column that `ids` gives, \[rows, 1\].
    pub fn cross_entropy(self, ids: Node<'b>) -> Node<'b> {
        let fits = |(rows, columns): Shape, len, below| (len == rows && below <= columns).then_some((rows, 1));
        self.with_ids(Op::CrossEntropy, ids, fits)
    }
}

impl<'b> Add for Node<'b> {
    type Output = Node<'b>;

    fn add(self, other: Node<'b>) -> Node<'b> {
        self.two(Op::Add, other, broadcast)
    }
}

impl<'b> Sub for Node<'b> {
    type Output = Node<'b>;

    fn sub(self, other: Node<'b>) -> Node<'b> {
        self.two(Op::Sub, other, broadcast)
    }
}

/// Element-wise.
impl<'b> Mul for Node<'b> {
    type Output = Node<'b>;

    fn mul(self, other: Node<'b>) -> Node<'b> {
        self.two(Op::Mul, other, broadcast)
    }
}

impl<'b> Mul<f64> for Node<'b> {
    type Output = Node<'b>;

    fn mul(self, scale: f64) -> Node<'b> {
        self.affine(scale, 0.0)
    }
}
