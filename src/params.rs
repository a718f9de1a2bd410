//! Parameters: a [`Layout`] names the tensors of a model, an [`Arena`] is one flat buffer in that layout. Weights, gradients and
//! optimizer states are arenas of the same layout, so that updating, clipping and saving are loops over one buffer.

use crate::real::{LANES, Real};
use crate::sys::memory::{Buffer, Room};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;
use std::sync::Arc;

/// Handle of one tensor in a [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TensorId(usize);

/// What a tensor is, for initialisation, L2 and sparsity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix applied to the inputs of a layer; L2 applies.
    Weight,
    /// A matrix from a layer's state to itself; L2 applies.
    Recurrent,
    /// A matrix with one row per word, all of which every step updates; L2 applies.
    Output,
    /// Added to a layer; no L2.
    Bias,
    /// A matrix with one row per word, few of which are read by a step; no L2.
    Table,
    /// An output matrix of which each step reads few rows; no L2.
    OutputTable,
    /// The biases of such a matrix, one per word; no L2.
    BiasTable,
}

impl Role {
    /// Whether each step touches only a few rows of the tensor.
    pub fn by_rows(self) -> bool {
        matches!(self, Role::Table | Role::OutputTable | Role::BiasTable)
    }
}

/// One tensor's place and role.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in files and messages, such as `layer0.recurrent`.
    pub name: String,
    /// Rows; 1 for a bias.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Its role.
    pub role: Role,
    offset: usize,
}

impl Tensor {
    /// Its range in an arena.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.rows * self.columns
    }
}

/// The tensors of a model in order, each aligned to a cache line.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    tensors: Vec<Tensor>,
    len: usize,
}

impl Layout {
    /// Appends a tensor.
    ///
    /// # Panics
    /// If a tensor already has this name: files and messages could not distinguish them.
    pub fn add(&mut self, name: impl Into<String>, rows: usize, columns: usize, role: Role) -> TensorId {
        let name = name.into();
        assert!(self.tensors.iter().all(|tensor| tensor.name != name), "two tensors are named {name}");
        self.tensors.push(Tensor { name, rows, columns, role, offset: self.len });
        self.len += (rows * columns).next_multiple_of(LANES);
        TensorId(self.tensors.len() - 1)
    }

    /// The tensors with their handles.
    pub fn tensors(&self) -> impl Iterator<Item = (TensorId, &Tensor)> {
        self.tensors.iter().enumerate().map(|(i, tensor)| (TensorId(i), tensor))
    }

    /// One tensor.
    pub fn tensor(&self, p: TensorId) -> &Tensor {
        &self.tensors[p.0]
    }

    /// Number of elements of an arena, including padding.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Number of parameters: elements without padding.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().map(|t| t.rows * t.columns).sum()
    }

    /// The same tensors with the same handles, with the sizes (rows, columns) returned by `of`.
    pub fn resized(&self, of: impl Fn(&Tensor) -> (usize, usize)) -> Layout {
        let mut layout = Layout::default();
        for tensor in &self.tensors {
            let (rows, columns) = of(tensor);
            layout.add(tensor.name.clone(), rows, columns, tensor.role);
        }
        layout
    }

    /// The layout of the tensors before `end`, with the same handles and positions.
    pub fn before(&self, end: TensorId) -> Layout {
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

    /// All zeros, allocated in `room`.
    pub fn within(room: &mut Room, layout: &Arc<Layout>) -> Self {
        Arena { layout: layout.clone(), data: room.zeros(layout.len()) }
    }

    /// The layout.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// A tensor's elements.
    pub fn slice(&self, p: TensorId) -> &[R] {
        &self.data[self.layout.tensor(p).range()]
    }

    /// A tensor's elements.
    pub fn slice_mut(&mut self, p: TensorId) -> &mut [R] {
        &mut self.data[self.layout.tensor(p).range()]
    }

    /// A tensor as a matrix.
    pub fn matrix(&self, p: TensorId) -> ArrayView2<'_, R> {
        matrix(self.slice(p), self.layout.tensor(p))
    }

    /// A tensor as a matrix.
    pub fn matrix_mut(&mut self, p: TensorId) -> ArrayViewMut2<'_, R> {
        let Tensor { rows, columns, .. } = *self.layout.tensor(p);
        ArrayViewMut2::from_shape((rows, columns), self.slice_mut(p)).expect("a tensor's range has its shape")
    }

    /// Several tensors at once.
    pub fn slices_mut<const N: usize>(&mut self, p: [TensorId; N]) -> [&mut [R]; N] {
        let ranges = p.map(|p| self.layout.tensor(p).range());
        self.data.get_disjoint_mut(ranges).expect("distinct tensors do not overlap")
    }

    /// All tensors in order.
    pub fn tensors_mut(&mut self) -> TensorsMut<'_, R> {
        TensorsMut { tensors: self.layout.tensors.iter(), rest: &mut self.data, at: 0 }
    }

    /// All elements, including padding (always zero).
    pub fn all(&self) -> &[R] {
        &self.data
    }

    /// All elements, including padding, which must remain zero.
    pub fn all_mut(&mut self) -> &mut [R] {
        &mut self.data
    }
}

/// Iterator over the tensors of an arena: the role of each, and its elements as a slice.
pub struct TensorsMut<'a, R> {
    tensors: std::slice::Iter<'a, Tensor>,
    rest: &'a mut [R],
    at: usize,
}

impl<'a, R> Iterator for TensorsMut<'a, R> {
    type Item = (Role, &'a mut [R]);

    fn next(&mut self) -> Option<(Role, &'a mut [R])> {
        let tensor = self.tensors.next()?;
        let (role, range) = (tensor.role, tensor.range());
        let (_, rest) = std::mem::take(&mut self.rest).split_at_mut(range.start - self.at);
        let (tensor, rest) = rest.split_at_mut(range.len());
        (self.rest, self.at) = (rest, range.end);
        Some((role, tensor))
    }
}

fn matrix<'a, R: Real>(slice: &'a [R], tensor: &Tensor) -> ArrayView2<'a, R> {
    ArrayView2::from_shape((tensor.rows, tensor.columns), slice).expect("a tensor's range has its shape")
}

/// The gradient of a table: of the rows touched by a step; it is zero for all others.
pub struct TableGradient<R: Real> {
    p: TensorId,
    width: usize,
    ids: Vec<u32>,
    values: Buffer<R>,
}

impl<R: Real> TableGradient<R> {
    /// The table.
    pub fn p(&self) -> TensorId {
        self.p
    }

    /// Columns of the table.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The touched rows, ascending.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Their gradients, in the same order: \[rows touched, columns\].
    pub fn values(&self) -> &[R] {
        &self.values[..self.ids.len() * self.width]
    }

    /// The list of rows, to be filled in ascending order; until the gradients are written, they are those of the last step.
    pub fn list(&mut self) -> &mut Vec<u32> {
        &mut self.ids
    }

    /// The touched rows, and their gradients to be written.
    pub fn parts_mut(&mut self) -> (&[u32], &mut [R]) {
        (&self.ids, &mut self.values[..self.ids.len() * self.width])
    }
}

/// The gradient of a loss: an arena for the tensors that a step touches entirely, and the touched rows of tables.
pub struct Gradients<R: Real> {
    /// The values of all tensors except tables, which have no rows here.
    pub arena: Arena<R>,
    tables: Vec<TableGradient<R>>,
}

impl<R: Real> Gradients<R> {
    /// All zeros. `rows`: the maximum number of rows of a table touched by a step.
    pub fn zeros(layout: &Layout, rows: usize) -> Self {
        let tables = layout.tensors().filter(|(_, t)| t.role.by_rows());
        let table = |(p, t): (TensorId, &Tensor)| {
            let most = rows.min(t.rows);
            TableGradient {
                p,
                width: t.columns,
                ids: Vec::with_capacity(most),
                values: Buffer::zeros(most * t.columns),
            }
        };
        let tables = tables.map(table).collect();
        let dense = layout.resized(|t| if t.role.by_rows() { (0, t.columns) } else { (t.rows, t.columns) });
        Gradients { arena: Arena::zeros(&Arc::new(dense)), tables }
    }

    /// Approximate number of bytes allocated by [`Gradients::zeros`].
    pub fn bytes(layout: &Layout, rows: usize) -> usize {
        let elements =
            |(_, t): (TensorId, &Tensor)| if t.role.by_rows() { rows.min(t.rows) } else { t.rows } * t.columns;
        layout.tensors().map(elements).sum::<usize>() * size_of::<R>()
    }

    /// The gradients of the tables.
    pub fn tables(&self) -> &[TableGradient<R>] {
        &self.tables
    }

    /// The gradient of one table.
    pub fn table(&self, p: TensorId) -> &TableGradient<R> {
        self.tables.iter().find(|rows| rows.p == p).expect("the tensor is a table")
    }

    /// The gradient of one table, mutable.
    pub fn table_mut(&mut self, p: TensorId) -> &mut TableGradient<R> {
        self.tables.iter_mut().find(|rows| rows.p == p).expect("the tensor is a table")
    }

    /// Clears the lists of touched rows.
    pub fn clear_tables(&mut self) {
        self.tables.iter_mut().for_each(|rows| rows.ids.clear());
    }

    /// The whole gradient in the model's layout, including zeros: for tests and tools.
    pub fn dense(&self, layout: &Arc<Layout>) -> Arena<R> {
        let mut all = Arena::zeros(layout);
        for (p, tensor) in layout.tensors() {
            if tensor.role.by_rows() {
                let rows = self.table(p);
                for (&id, row) in rows.ids.iter().zip(rows.values().chunks_exact(rows.width)) {
                    all.slice_mut(p)[id as usize * rows.width..][..rows.width].copy_from_slice(row);
                }
            } else {
                all.slice_mut(p).copy_from_slice(self.arena.slice(p));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "two tensors are named layer0.bias")]
    fn names_are_distinct() {
        let mut layout = Layout::default();
        layout.add("layer0.input", 2, 3, Role::Weight);
        layout.add("layer0.bias", 1, 3, Role::Bias);
        layout.add("layer0.bias", 1, 4, Role::Bias);
    }
}
