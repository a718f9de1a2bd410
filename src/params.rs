//! Parameters: a [`Layout`] names the tensors of a model, an [`Arena`] is one flat buffer in that layout. Weights, gradients and
//! optimizer states are arenas of one layout, so that updating, clipping and saving are loops over one buffer.

use crate::kernels::Buffer;
use crate::real::{LANES, Real};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;
use std::sync::Arc;

/// Handle of one tensor in a [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct P(usize);

/// What a tensor is, for initialisation, L2 and sparsity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix on the inputs of a layer; L2 applies.
    Weight,
    /// A matrix from a layer's state to itself; L2 applies.
    Recurrent,
    /// A matrix with one row a word that every step writes wholly; L2 applies.
    Output,
    /// Added to a layer; no L2.
    Bias,
    /// A matrix with one row a word, of which a step reads few rows; no L2.
    Table,
    /// An output matrix of which a step reads few rows; no L2.
    OutputTable,
    /// The biases of such a matrix, a row a word; no L2.
    BiasTable,
}

impl Role {
    /// Whether a step touches few rows of the tensor.
    pub fn by_rows(self) -> bool {
        matches!(self, Role::Table | Role::OutputTable | Role::BiasTable)
    }
}

/// One tensor's place and role.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in files and messages, as `layer0.recurrent`.
    pub name: String,
    /// Rows; 1 for a bias.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// What it is.
    pub role: Role,
    offset: usize,
}

impl Tensor {
    /// Where it lies in an arena.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.rows * self.columns
    }
}

/// The tensors of a model in order; each begins on a cache line.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    tensors: Vec<Tensor>,
    len: usize,
}

impl Layout {
    /// Adds a tensor at the end.
    pub fn add(&mut self, name: impl Into<String>, rows: usize, columns: usize, role: Role) -> P {
        self.tensors.push(Tensor { name: name.into(), rows, columns, role, offset: self.len });
        self.len += (rows * columns).next_multiple_of(LANES);
        P(self.tensors.len() - 1)
    }

    /// The tensors with their handles.
    pub fn tensors(&self) -> impl Iterator<Item = (P, &Tensor)> {
        self.tensors.iter().enumerate().map(|(i, tensor)| (P(i), tensor))
    }

    /// One tensor.
    pub fn tensor(&self, p: P) -> &Tensor {
        &self.tensors[p.0]
    }

    /// Elements of an arena, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Parameters: elements without padding.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().map(|t| t.rows * t.columns).sum()
    }

    /// The layout of the first tensors, up to and without `end`: their handles and places are the same in both.
    pub fn before(&self, end: P) -> Layout {
        Layout { tensors: self.tensors[..end.0].to_vec(), len: self.tensors[end.0].offset }
    }
}

/// One buffer that holds a value for every parameter of a layout.
#[derive(Clone)]
pub struct Arena<R: Real> {
    layout: Arc<Layout>,
    data: Buffer<R>,
}

impl<R: Real> Arena<R> {
    /// All zeros.
    pub fn zeros(layout: &Arc<Layout>) -> Self {
        Arena { layout: layout.clone(), data: Buffer::zeros(layout.len()) }
    }

    /// The layout.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// A tensor's elements.
    pub fn slice(&self, p: P) -> &[R] {
        &self.data[self.layout.tensor(p).range()]
    }

    /// A tensor's elements.
    pub fn slice_mut(&mut self, p: P) -> &mut [R] {
        &mut self.data[self.layout.tensor(p).range()]
    }

    /// A tensor as a matrix.
    pub fn matrix(&self, p: P) -> ArrayView2<'_, R> {
        matrix(self.slice(p), self.layout.tensor(p))
    }

    /// A tensor as a matrix.
    pub fn matrix_mut(&mut self, p: P) -> ArrayViewMut2<'_, R> {
        let Tensor { rows, columns, .. } = *self.layout.tensor(p);
        ArrayViewMut2::from_shape((rows, columns), self.slice_mut(p)).expect("a tensor's range has its shape")
    }

    /// Several tensors at once.
    pub fn slices_mut<const N: usize>(&mut self, p: [P; N]) -> [&mut [R]; N] {
        let ranges = p.map(|p| self.layout.tensor(p).range());
        self.data.get_disjoint_mut(ranges).expect("distinct tensors do not overlap")
    }

    /// Everything, padding included (always zero).
    pub fn all(&self) -> &[R] {
        &self.data
    }

    /// Everything, padding included: who writes keeps it zero.
    pub fn all_mut(&mut self) -> &mut [R] {
        &mut self.data
    }
}

fn matrix<'a, R: Real>(slice: &'a [R], tensor: &Tensor) -> ArrayView2<'a, R> {
    ArrayView2::from_shape((tensor.rows, tensor.columns), slice).expect("a tensor's range has its shape")
}

/// The gradient of a loss: an arena, and which rows of its tables are in use. Every other row of a table is zero.
pub struct Gradients<R: Real> {
    /// The values.
    pub arena: Arena<R>,
    touched: Vec<(P, Vec<u32>)>,
}

impl<R: Real> Gradients<R> {
    /// All zeros. `rows`: the most rows of a table that one step touches.
    pub fn zeros(layout: &Arc<Layout>, rows: usize) -> Self {
        let tables = layout.tensors().filter(|(_, t)| t.role.by_rows());
        let touched = tables.map(|(p, t)| (p, Vec::with_capacity(rows.min(t.rows)))).collect();
        Gradients { arena: Arena::zeros(layout), touched }
    }

    /// The tables and the rows of them that this step touched, in ascending order.
    pub fn touched(&self) -> impl Iterator<Item = (P, &[u32])> {
        self.touched.iter().map(|(p, rows)| (*p, rows.as_slice()))
    }

    /// A table's elements and the list of its rows in use, to be filled.
    pub fn table_mut(&mut self, p: P) -> (&mut [R], &mut Vec<u32>) {
        let rows = self.touched.iter_mut().find(|(q, _)| *q == p).map(|(_, rows)| rows);
        (self.arena.slice_mut(p), rows.expect("the tensor is a table"))
    }

    /// The values, and the tables with their rows in use.
    pub fn parts_mut(&mut self) -> (&mut Arena<R>, &mut [(P, Vec<u32>)]) {
        (&mut self.arena, &mut self.touched)
    }

    /// Makes the touched rows zero again, and none touched.
    pub fn clear_tables(&mut self) {
        for (p, rows) in &mut self.touched {
            let columns = self.arena.layout.tensor(*p).columns;
            let table = &mut self.arena.data[self.arena.layout.tensor(*p).range()];
            for row in rows.drain(..) {
                table[row as usize * columns..][..columns].fill(R::zero());
            }
        }
    }
}
