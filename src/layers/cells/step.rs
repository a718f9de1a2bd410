//! One step of a cell, and how a row of its pre-activations is made up.

use crate::real::Real;
use std::ops::Range;

/// A block of H columns in a row of pre-activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is a gate: what the cell keeps there lies between 0 and 1, and its mean says how far it is open.
    pub is_gate: bool,
}

impl Block {
    /// A gate.
    pub const fn gate(name: &'static str) -> Block {
        Block { name, is_gate: true }
    }

    /// Something else.
    pub const fn value(name: &'static str) -> Block {
        Block { name, is_gate: false }
    }
}

/// The same cell in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Torch {
    /// Its name, as `nn.GRU`.
    pub module: &'static str,
    /// For each block of H rows of its matrices in turn: the block of ours that the product with the input goes to, and that of the
    /// product with the state, and the sign of ours.
    pub rows: &'static [(usize, usize, f32)],
}

/// How a row of a cell's pre-activations is made up, in blocks of H columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// All of them, in their order.
    pub blocks: &'static [Block],
    /// xW is added to these.
    pub input: Range<usize>,
    /// h₋U is added to these.
    pub recurrent: Range<usize>,
    /// What the cell keeps there belongs to the state beside h: it comes back as a part of the state before.
    pub carried: Range<usize>,
    /// How PyTorch has them.
    pub torch: Torch,
}

impl Columns {
    /// Columns of a row, for H `units`.
    pub fn width(&self, units: usize) -> usize {
        self.blocks.len() * units
    }

    /// Columns that have a bias, the first ones: those of the products.
    pub fn biased(&self, units: usize) -> usize {
        self.input.end.max(self.recurrent.end) * units
    }

    /// Width of the state that goes from step to step: h, and what is carried beside it.
    pub fn state_width(&self, units: usize) -> usize {
        (1 + self.carried.len()) * units
    }

    /// The columns of some blocks.
    pub fn of(blocks: &Range<usize>, units: usize) -> Range<usize> {
        blocks.start * units..blocks.end * units
    }
}

/// One step of a recurrent layer between its matrix products, for b lanes and H units. Its state is S wide
/// ([`Columns::state_width`]); h is the first H columns of it.
pub trait Step<R: Real>: Send + Sync {
    /// Computes `h` \[b, H\] from the state before, `before` \[b, S\], and the pre-activations `a` \[b, width\] (products and biases),
    /// in which it keeps what [`Step::backward`] needs and what is carried beside h.
    fn forward(&self, h: &mut [R], a: &mut [R], before: &[R], units: usize);

    /// From `dh` = ∂J/∂h and the states, turns what `a` keeps into ∂J/∂(pre-activations), but for what is carried, which stays. `carry`
    /// \[b, S\] holds ∂J/∂ of what is carried beside h, and becomes the part of ∂J/∂(state before) that does not go through the product.
    fn backward(&self, a: &mut [R], carry: &mut [R], dh: &[R], h: &[R], before: &[R], units: usize);
}
