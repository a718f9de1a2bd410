//! Computation graphs (equations, section 11): a computation is a value that can be differentiated, drawn and run.
//!
//! A [`Builder`] creates nodes; *placeholders* are the inputs for data, *variables* the tensors of a [`crate::params::Layout`].
//! [`Builder::gradients`] adds the nodes of the backward pass, composed of the same operations and run like any others, so that
//! gradients can be differentiated, too. A [`Session`] runs a finished [`Graph`]: a feed dictionary binds a value to each placeholder
//! for one run, and only what the fetches need is computed. [`draw`] makes drawings.
//!
//! Every value is a matrix, including rows \[1, n\] and numbers \[1, 1\], except for lists of row numbers.
//! ```
//! use wordmill::graph::{Builder, Feed, Session};
//! use wordmill::params::{Arena, Layout, Role};
//!
//! let mut layout = Layout::default();
//! let p = layout.add("w", 2, 3, Role::Weight);
//! let layout = std::sync::Arc::new(layout);
//!
//! let b = Builder::default();
//! let (x, y, w) = (b.placeholder("x", 4, 2), b.ids("y", 4, 3), b.variable(&layout, p));
//! let loss = x.dot(w).cross_entropy(y).sum() * 0.25;
//! let dw = b.gradients(loss, &[w])[0].id();
//! let loss = loss.id();
//! let graph = b.finish()?;
//!
//! let (x, zero) = ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]], Arena::<f64>::zeros(&layout));
//! let x = ndarray::arr2(&x);
//! let mut session = Session::new(&graph);
//! session.run(&graph, &[("x", Feed::Matrix(x.view())), ("y", Feed::Ids(&[0, 1, 2, 0]))], &zero, &[loss, dw])?;
//! // With weights of zero, all three classes are equally likely.
//! assert!((session.number(loss) - 3f64.ln()).abs() < 1e-15);
//! assert_eq!(session.value(dw).dim(), (2, 3));
//! # Ok::<(), wordmill::graph::Error>(())
//! ```

mod build;
pub mod draw;
mod gradients;
mod layers;
mod session;

pub use build::{Builder, Node};
pub use session::{Feed, Session};

use crate::kernels::activation::Activation;
use crate::params::TensorId;
use std::fmt;

/// A node's position in its graph: inputs come before the nodes that use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(usize);

/// Rows and columns; for a list of row numbers, its length and 0.
pub type Shape = (usize, usize);

/// Rows or columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// One below another.
    Rows,
    /// Side by side.
    Columns,
}

/// The operation of a node on its inputs a, b, …
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A matrix to be fed.
    Placeholder,
    /// A list of numbers below a bound, to be fed.
    Ids {
        /// The bound.
        below: usize,
    },
    /// A tensor of the layout.
    Variable(TensorId),
    /// The same number everywhere.
    Fill(f64),
    /// a · b, each optionally transposed
    Product([bool; 2]),
    /// a + b; here and in the next two, a side of 1 is repeated to match the other operand
    Add,
    /// a − b
    Sub,
    /// a ∘ b
    Mul,
    /// scale · a + shift
    Affine {
        /// The factor.
        scale: f64,
        /// The summand.
        shift: f64,
    },
    /// Each element to a power
    Power(f64),
    /// σ, tanh or relu
    Apply(Activation),
    /// 1 where a > 0, else 0
    Positive,
    /// ln(1 + eᵃ)
    Softplus,
    /// aᵀ
    Transpose,
    /// The same elements in another shape
    Reshape,
    /// A row, column or number repeated
    Broadcast,
    /// The sum over a side (over rows it is a row), or over both
    Sum(Option<Side>),
    /// All inputs, side by side or one below another
    Concat(Side),
    /// Some rows or columns, from the given one on
    Slice(Side, usize),
    /// Zeros, with a placed from the given row or column on
    Pad(Side, usize),
    /// Rows b of a
    Gather,
    /// Zeros, with the rows of a added to rows b
    Scatter,
    /// For each of b, a row of zeros with a one
    OneHot,
    /// softmax of each row
    Softmax,
    /// ln Σ eᵃ of each row
    LogSumExp,
    /// −ln softmax(a)ᵦ of each row
    CrossEntropy,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let short = |x: f64| format!("{}", (x * 1e4).round() / 1e4);
        match *self {
            Op::Placeholder => f.write_str("placeholder"),
            Op::Ids { below } => write!(f, "ids below {below}"),
            Op::Variable(_) => f.write_str("variable"),
            Op::Fill(x) => f.write_str(&short(x)),
            Op::Product([a, b]) => write!(f, "a{} · b{}", if a { "ᵀ" } else { "" }, if b { "ᵀ" } else { "" }),
            Op::Add => f.write_str("+"),
            Op::Sub => f.write_str("−"),
            Op::Mul => f.write_str("∘"),
            Op::Affine { scale, shift: 0.0 } => write!(f, "{} a", short(scale)),
            Op::Affine { scale: -1.0, shift } => write!(f, "{} − a", short(shift)),
            Op::Affine { scale, shift } => write!(f, "{} a + {}", short(scale), short(shift)),
            Op::Power(2.0) => f.write_str("a²"),
            Op::Power(0.5) => f.write_str("√a"),
            Op::Power(p) => write!(f, "a^{}", short(p)),
            Op::Apply(Activation::Sigmoid) => f.write_str("σ"),
            Op::Apply(Activation::Tanh) => f.write_str("tanh"),
            Op::Apply(Activation::Relu) => f.write_str("relu"),
            Op::Positive => f.write_str("1{a > 0}"),
            Op::Softplus => f.write_str("softplus"),
            Op::Transpose => f.write_str("aᵀ"),
            Op::Reshape => f.write_str("reshape"),
            Op::Broadcast => f.write_str("repeat"),
            Op::Sum(None) => f.write_str("sum"),
            Op::Sum(Some(Side::Rows)) => f.write_str("sum of rows"),
            Op::Sum(Some(Side::Columns)) => f.write_str("sum of columns"),
            Op::Concat(Side::Rows) => f.write_str("stack"),
            Op::Concat(Side::Columns) => f.write_str("concat"),
            Op::Slice(Side::Rows, from) => write!(f, "rows {from}…"),
            Op::Slice(Side::Columns, from) => write!(f, "columns {from}…"),
            Op::Pad(..) => f.write_str("pad"),
            Op::Gather => f.write_str("gather rows"),
            Op::Scatter => f.write_str("scatter-add"),
            Op::OneHot => f.write_str("one-hot"),
            Op::Softmax => f.write_str("softmax"),
            Op::LogSumExp => f.write_str("log-sum-exp"),
            Op::CrossEntropy => f.write_str("cross-entropy"),
        }
    }
}

/// One node.
#[derive(Clone, Debug)]
pub struct Info {
    /// Its operation.
    pub op: Op,
    /// Its inputs.
    pub inputs: Vec<Id>,
    /// Its shape.
    pub shape: Shape,
    /// The name of a placeholder or variable, or that of another node in drawings.
    pub name: Option<String>,
    /// Whether it was added by [`Builder::gradients`].
    pub backward: bool,
}

impl Info {
    /// Its shape as text: `[4, 5]`, or `[4]` for ids.
    pub fn shape_text(&self) -> String {
        shape_text(self.shape, matches!(self.op, Op::Ids { .. }))
    }
}

/// A finished graph.
#[derive(Clone, Debug)]
pub struct Graph {
    nodes: Vec<Info>,
}

impl Graph {
    /// The nodes in order, inputs before the nodes that use them.
    pub fn nodes(&self) -> impl Iterator<Item = (Id, &Info)> {
        self.nodes.iter().enumerate().map(|(i, node)| (Id(i), node))
    }

    /// One node.
    pub fn node(&self, id: Id) -> &Info {
        &self.nodes[id.0]
    }

    /// The nodes before those of the first backward pass.
    pub fn forward(&self) -> Graph {
        Graph { nodes: self.nodes.iter().take_while(|node| !node.backward).cloned().collect() }
    }
}

fn shape_text((rows, columns): Shape, ids: bool) -> String {
    if ids { format!("[{rows}]") } else { format!("[{rows}, {columns}]") }
}

/// An error in a graph, or in what it is fed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An operation on inputs it does not accept: its name, and the shapes of its inputs.
    #[error("{op}: does not take {inputs}")]
    Shapes {
        /// The operation.
        op: String,
        /// The shapes.
        inputs: String,
    },
    /// Two placeholders with the same name.
    #[error("placeholder {0} is there twice")]
    Twice(String),
    /// A placeholder that a fetch needs has no value.
    #[error("placeholder {0} is not fed")]
    Missing(String),
    /// A value for a placeholder that is not there.
    #[error("placeholder {0} is fed, but the graph has none of that name")]
    Unknown(String),
    /// Two values for one placeholder.
    #[error("placeholder {0} is fed twice")]
    FedTwice(String),
    /// A value that does not fit its placeholder.
    #[error("placeholder {name}: fed {fed}, expected {expected}")]
    Misshapen {
        /// The placeholder.
        name: String,
        /// What was fed.
        fed: String,
        /// What was expected.
        expected: String,
    },
}
