//! Running graphs.

use super::{Error, Graph, Id, Info, Op, Shape, Side, shape_text};
use crate::blas::product;
use crate::math;
use crate::params::Arena;
use crate::real::Real;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use std::ops::Range;

/// A value for a placeholder.
#[derive(Clone, Copy, Debug)]
pub enum Feed<'a, R> {
    /// For a placeholder of a matrix.
    Matrix(ArrayView2<'a, R>),
    /// For a placeholder of ids.
    Ids(&'a [u32]),
}

/// Buffers for the values of a graph, reused from run to run.
pub struct Session<R: Real> {
    values: Vec<Array2<R>>,
    ids: Vec<Vec<u32>>,
    needed: Vec<bool>,
}

impl<R: Real> Session<R> {
    /// A session for `graph`. The buffer of a value is allocated when it is first computed.
    pub fn new(graph: &Graph) -> Self {
        let n = graph.nodes.len();
        let none = || Array2::zeros((0, 0));
        Session { values: (0..n).map(|_| none()).collect(), ids: vec![Vec::new(); n], needed: vec![false; n] }
    }

    /// Bytes of all values of `graph`.
    pub fn bytes(graph: &Graph) -> usize {
        graph.nodes.iter().map(|node| node.shape.0 * node.shape.1).sum::<usize>() * size_of::<R>()
    }

    /// Computes `fetches`, and those of the other nodes that they need. `feed` has a value for each placeholder among these, by name,
    /// and may contain more; `w` has the variables. Returns the number of nodes computed, excluding placeholders and variables.
    ///
    /// # Errors
    /// A placeholder that is needed and not fed; one that is fed and not in the graph, fed twice, or fed a value that does not fit.
    pub fn run(
        &mut self,
        graph: &Graph,
        feed: &[(&str, Feed<R>)],
        w: &Arena<R>,
        fetches: &[Id],
    ) -> Result<usize, Error> {
        assert_eq!(self.values.len(), graph.nodes.len(), "a session is for the graph that it was made for");
        self.feed(graph, feed)?;
        self.needed.fill(false);
        fetches.iter().for_each(|fetch| self.needed[fetch.0] = true);
        for (i, node) in graph.nodes.iter().enumerate().rev() {
            if self.needed[i] {
                node.inputs.iter().for_each(|input| self.needed[input.0] = true);
            }
        }
        let is_fed = |name: &str| feed.iter().any(|(fed, _)| *fed == name);
        for (i, node) in graph.nodes.iter().enumerate() {
            if self.needed[i] && is_placeholder(node) && !is_fed(name(node)) {
                return Err(Error::Missing(name(node).to_owned()));
            }
        }
        let mut computed = 0;
        for (i, node) in graph.nodes.iter().enumerate().filter(|(i, _)| self.needed[*i]) {
            if is_placeholder(node) {
                continue;
            }
            let (before, rest) = self.values.split_at_mut(i);
            let mut value = room(&mut rest[0], node.shape);
            if let Op::Variable(p) = node.op {
                value.assign(&w.matrix(p));
            } else {
                compute(
                    node,
                    value,
                    |place| before[node.inputs[place].0].view(),
                    |place| &self.ids[node.inputs[place].0],
                );
                computed += 1;
            }
        }
        Ok(computed)
    }

    /// A node's value, from the last [`Session::run`] that computed it.
    pub fn value(&self, node: Id) -> ArrayView2<'_, R> {
        self.values[node.0].view()
    }

    /// The value of a node of shape \[1, 1\].
    pub fn number(&self, node: Id) -> f64 {
        self.values[node.0][[0, 0]].f64()
    }

    /// Stores the values that are fed, if they fit.
    fn feed(&mut self, graph: &Graph, feed: &[(&str, Feed<R>)]) -> Result<(), Error> {
        for (i, (fed, value)) in feed.iter().enumerate() {
            let found = graph.nodes.iter().position(|node| is_placeholder(node) && name(node) == *fed);
            let at = found.ok_or_else(|| Error::Unknown((*fed).to_owned()))?;
            if feed[..i].iter().any(|(before, _)| before == fed) {
                return Err(Error::FedTwice((*fed).to_owned()));
            }
            let node = &graph.nodes[at];
            let wrong =
                |fed: String, expected: String| Err(Error::Misshapen { name: name(node).to_owned(), fed, expected });
            match (&node.op, value) {
                (Op::Placeholder, Feed::Matrix(x)) if x.dim() == node.shape => {
                    room(&mut self.values[at], node.shape).assign(x);
                }
                (Op::Ids { below }, Feed::Ids(ids)) if ids.len() == node.shape.0 => {
                    if let Some(id) = ids.iter().find(|&&id| id as usize >= *below) {
                        return wrong(id.to_string(), format!("numbers below {below}"));
                    }
                    self.ids[at].clear();
                    self.ids[at].extend_from_slice(ids);
                }
                (op, value) => {
                    let fed = match value {
                        Feed::Matrix(x) => format!("a matrix {}", shape_text(x.dim(), false)),
                        Feed::Ids(ids) => format!("ids [{}]", ids.len()),
                    };
                    let kind = if *op == Op::Placeholder { "a matrix" } else { "ids" };
                    return wrong(fed, format!("{kind} {}", node.shape_text()));
                }
            }
        }
        Ok(())
    }
}

fn is_placeholder(node: &Info) -> bool {
    matches!(node.op, Op::Placeholder | Op::Ids { .. })
}

fn name(node: &Info) -> &str {
    node.name.as_deref().unwrap_or_default()
}

/// The value's buffer, allocated if necessary.
fn room<R: Real>(value: &mut Array2<R>, shape: Shape) -> ArrayViewMut2<'_, R> {
    if value.dim() != shape {
        *value = Array2::zeros(shape);
    }
    value.view_mut()
}

fn axis(side: Side) -> Axis {
    Axis(if side == Side::Rows { 0 } else { 1 })
}

fn part(from: usize, shape: Shape, side: Side) -> (Axis, Range<usize>) {
    let length = if side == Side::Rows { shape.0 } else { shape.1 };
    (axis(side), from..from + length)
}

/// `out` = the result of the node's operation on its inputs; shapes were checked when the node was created.
fn compute<'a, R: Real>(
    node: &Info,
    mut out: ArrayViewMut2<R>,
    input: impl Fn(usize) -> ArrayView2<'a, R>,
    ids: impl Fn(usize) -> &'a [u32],
) {
    let two = |out: &mut ArrayViewMut2<R>, f: &dyn Fn(R, R) -> R| {
        let (a, b) = (input(0), input(1));
        let (a, b) = (repeated(&a, out.dim()), repeated(&b, out.dim()));
        ndarray::Zip::from(out).and(a).and(b).for_each(|out, &a, &b| *out = f(a, b));
    };
    let one = |out: &mut ArrayViewMut2<R>, f: &dyn Fn(R) -> R| out.zip_mut_with(&input(0), |out, &a| *out = f(a));
    match &node.op {
        Op::Placeholder | Op::Ids { .. } | Op::Variable(_) => unreachable!("a source is not computed"),
        Op::Fill(x) => out.fill(R::of(*x)),
        Op::Product([ta, tb]) => {
            let (a, b) = (input(0), input(1));
            let turned = |x: ArrayView2<'a, R>, turn: bool| if turn { x.reversed_axes() } else { x };
            product(out, turned(a, *ta), turned(b, *tb));
        }
        Op::Add => two(&mut out, &|a, b| a + b),
        Op::Sub => two(&mut out, &|a, b| a - b),
        Op::Mul => two(&mut out, &|a, b| a * b),
        Op::Affine { scale, shift } => {
            let (scale, shift) = (R::of(*scale), R::of(*shift));
            one(&mut out, &|a| scale * a + shift);
        }
        Op::Power(p) if *p == 2.0 => one(&mut out, &|a| a * a),
        Op::Power(p) if *p == 1.0 => out.assign(&input(0)),
        Op::Power(p) if *p == 0.5 => one(&mut out, &|a| a.sqrt()),
        Op::Power(p) => {
            one(&mut out, &|a| R::of(math::pow(a.f64(), *p)));
        }
        Op::Apply(f) => {
            out.assign(&input(0));
            f.apply(out.as_slice_mut().expect("values are contiguous"));
        }
        Op::Positive => one(&mut out, &|a| if a > R::zero() { R::one() } else { R::zero() }),
        // ln(1 + eᵃ) = max(a, 0) + ln(1 + e^−|a|), which does not overflow.
        Op::Softplus => one(&mut out, &|a| a.max(R::zero()) + R::of(math::ln_1p(math::exp(-a.abs().f64())))),
        Op::Transpose => out.assign(&input(0).reversed_axes()),
        Op::Reshape => out.iter_mut().zip(input(0)).for_each(|(out, &a)| *out = a),
        Op::Broadcast => {
            let shape = out.dim();
            out.assign(&repeated(&input(0), shape));
        }
        Op::Sum(None) => out.fill(input(0).iter().fold(R::zero(), |sum, &a| sum + a)),
        Op::Sum(Some(Side::Rows)) => {
            out.fill(R::zero());
            input(0).rows().into_iter().for_each(|row| out.row_mut(0).zip_mut_with(&row, |sum, &a| *sum += a));
        }
        Op::Sum(Some(Side::Columns)) => by_rows(&mut out, input(0), |out, a| out[0] = sum(a)),
        Op::Concat(side) => {
            let mut from = 0;
            for place in 0..node.inputs.len() {
                let a = input(place);
                let (axis, of) = part(from, a.dim(), *side);
                from = of.end;
                out.slice_axis_mut(axis, Slice::from(of)).assign(&a);
            }
        }
        Op::Slice(side, from) => {
            let (axis, of) = part(*from, node.shape, *side);
            out.assign(&input(0).slice_axis(axis, Slice::from(of)));
        }
        Op::Pad(side, from) => {
            out.fill(R::zero());
            let a = input(0);
            let (axis, of) = part(*from, a.dim(), *side);
            out.slice_axis_mut(axis, Slice::from(of)).assign(&a);
        }
        Op::Gather => {
            let a = input(0);
            ids(1).iter().zip(out.rows_mut()).for_each(|(&id, mut out)| out.assign(&a.row(id as usize)));
        }
        Op::Scatter => {
            out.fill(R::zero());
            let a = input(0);
            for (&id, a) in ids(1).iter().zip(a.rows()) {
                out.row_mut(id as usize).zip_mut_with(&a, |sum, &a| *sum += a);
            }
        }
        Op::OneHot => {
            out.fill(R::zero());
            ids(0).iter().zip(out.rows_mut()).for_each(|(&id, mut out)| out[id as usize] = R::one());
        }
        Op::Softmax => by_rows(&mut out, input(0), |out, a| {
            let largest = largest(a);
            out.iter_mut().zip(a).for_each(|(out, &a)| *out = exp(a - largest));
            let sum = sum(out);
            out.iter_mut().for_each(|out| *out /= sum);
        }),
        Op::LogSumExp => by_rows(&mut out, input(0), |out, a| out[0] = log_sum_exp(a)),
        Op::CrossEntropy => {
            let mut ids = ids(1).iter();
            by_rows(&mut out, input(0), |out, a| {
                let id = ids.next().expect("there are as many ids as rows");
                out[0] = log_sum_exp(a) - a[*id as usize];
            });
        }
    }
}

/// `a` with sides of 1 repeated.
fn repeated<'v, R>(a: &'v ArrayView2<R>, shape: Shape) -> ArrayView2<'v, R> {
    a.broadcast(shape).expect("sides are equal or 1")
}

/// Calls `f` with each row of `out` and `a`.
fn by_rows<R: Real>(out: &mut ArrayViewMut2<R>, a: ArrayView2<R>, mut f: impl FnMut(&mut [R], &[R])) {
    let (width, columns) = (out.ncols(), a.ncols());
    let (out, a) = (out.as_slice_mut().expect("values are contiguous"), a.to_slice().expect("values are contiguous"));
    out.chunks_exact_mut(width).zip(a.chunks_exact(columns)).for_each(|(out, a)| f(out, a));
}

fn sum<R: Real>(x: &[R]) -> R {
    x.iter().fold(R::zero(), |sum, &x| sum + x)
}

/// The largest element; NaN if any is NaN.
fn largest<R: Real>(x: &[R]) -> R {
    x.iter().fold(R::neg_infinity(), |most, &x| if x > most || x.is_nan() { x } else { most })
}

fn log_sum_exp<R: Real>(x: &[R]) -> R {
    let largest = largest(x);
    let sum = x.iter().fold(R::zero(), |sum, &x| sum + exp(x - largest));
    largest + R::of(math::ln(sum.f64()))
}

fn exp<R: Real>(x: R) -> R {
    R::of(math::exp(x.f64()))
}
