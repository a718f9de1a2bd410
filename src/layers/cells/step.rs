//! One step of a cell, and the layout of a row of its pre-activations.

use crate::real::Real;
use std::ops::Range;

/// A block of H columns in a row of pre-activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Its name.
    pub name: &'static str,
    /// Whether it is a gate: its values lie between 0 and 1, and their mean shows how far it is open.
    pub is_gate: bool,
    /// The bias that training starts with.
    pub bias: f64,
}

impl Block {
    /// A gate.
    pub const fn gate(name: &'static str) -> Block {
        Block { name, is_gate: true, bias: 0.0 }
    }

    /// A block that is not a gate.
    pub const fn value(name: &'static str) -> Block {
        Block { name, is_gate: false, bias: 0.0 }
    }

    /// The same with another initial bias.
    pub const fn biased(self, bias: f64) -> Block {
        Block { bias, ..self }
    }
}

/// The same cell in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Torch {
    /// Its name, such as `nn.GRU`.
    pub module: &'static str,
    /// For each block of H rows of its matrices, in order: our block for the product with the input, our block for the product with
    /// the state, and the sign of ours.
    pub rows: &'static [(usize, usize, f32)],
}

/// The layout of a row of a cell's pre-activations, in blocks of H columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// All blocks, in order.
    pub blocks: &'static [Block],
    /// The blocks that xW is added to.
    pub input: Range<usize>,
    /// The blocks that h₋U is added to.
    pub recurrent: Range<usize>,
    /// The blocks that are part of the state, in addition to h: they are passed to the next step.
    pub carried: Range<usize>,
    /// The corresponding blocks in PyTorch.
    pub torch: Torch,
}

impl Columns {
    /// Number of columns of a row, for H `units`.
    pub fn width(&self, units: usize) -> usize {
        self.blocks.len() * units
    }

    /// Number of columns that have a bias: the first ones, those of the products.
    pub fn biased(&self, units: usize) -> usize {
        self.input.end.max(self.recurrent.end) * units
    }

    /// Width of the state that is passed from step to step: h and the carried blocks.
    pub fn state_width(&self, units: usize) -> usize {
        (1 + self.carried.len()) * units
    }

    /// The columns of some blocks.
    pub fn of(blocks: &Range<usize>, units: usize) -> Range<usize> {
        blocks.start * units..blocks.end * units
    }
}

/// One step of a recurrent layer between its matrix products, for b lanes and H units. Its state has S columns
/// ([`Columns::state_width`]), the first H of which are h.
pub trait Step<R: Real>: Send + Sync {
    /// Computes `h` \[b, H\] from the previous state `before` \[b, S\] and the pre-activations `a` \[b, width\] (products and biases),
    /// and stores in `a` what [`Step::backward`] needs and the carried blocks.
    fn forward(&self, h: &mut [R], a: &mut [R], before: &[R], units: usize);

    /// Given `dh` = ∂J/∂h and the states, replaces what `a` stores by ∂J/∂(pre-activations), except for the carried blocks. `carry`
    /// \[b, S\] holds ∂J/∂(carried blocks), and is replaced by the part of ∂J/∂(previous state) that does not go through the product.
    fn backward(&self, a: &mut [R], carry: &mut [R], dh: &[R], h: &[R], before: &[R], units: usize);
}
