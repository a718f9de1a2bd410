//! A corpus as minibatches for truncated backpropagation through time.

use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// A corpus of N tokens as B parallel lanes of n = ⌊(N − 1) / B⌋ positions. Lane b reads tokens bn .. (b + 1)n and
/// predicts the one after each, so its last target is the first word of the next lane. What is left over at the end,
/// fewer than B targets, is not used.
#[derive(Clone, Copy, Debug)]
pub struct Lanes<'a> {
    ids: &'a [u32],
    lanes: usize,
    length: usize,
}

impl<'a> Lanes<'a> {
    /// Cuts `ids`, read from `path`, into `lanes` lanes that are at least `tau` long.
    ///
    /// # Errors
    /// Fewer than `lanes` · `tau` + 1 tokens; no lanes, or `tau` 0.
    pub fn new(path: &Path, ids: &'a [u32], lanes: usize, tau: usize) -> Result<Self> {
        if lanes == 0 || tau == 0 {
            return Err(Error::Usage(format!("found batch {lanes} and tau {tau}, expected at least 1 of each")));
        }
        let needed = lanes.checked_mul(tau).and_then(|targets| targets.checked_add(1));
        if needed.is_none_or(|needed| ids.len() < needed) {
            let needed = needed.map_or("very many".into(), |needed| needed.to_string());
            let expected = format!("at least {needed} (batch {lanes} x tau {tau} + 1)");
            return Err(Error::input(path, 0, format!("{} tokens", ids.len()), expected));
        }
        Ok(Lanes { ids, lanes, length: (ids.len() - 1) / lanes })
    }

    /// The number of lanes, B.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// The number of positions of a lane, n.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Fills in the tokens at `positions` of all lanes, and those after them: both `[T, B]` by steps, position
    /// `positions.start + t` of lane b at t · B + b, with T the number of positions. Nothing is allocated.
    pub fn fill(&self, positions: Range<usize>, inputs: &mut [u32], targets: &mut [u32]) {
        let size = positions.len() * self.lanes;
        assert!(positions.end <= self.length, "positions {positions:?} in lanes of {}", self.length);
        assert!(inputs.len() == size && targets.len() == size, "{} and {}, not {size}", inputs.len(), targets.len());
        let steps = inputs.chunks_exact_mut(self.lanes).zip(targets.chunks_exact_mut(self.lanes));
        for (position, (inputs, targets)) in positions.zip(steps) {
            let tokens = self.ids[position..].windows(2).step_by(self.length);
            for ((input, target), pair) in inputs.iter_mut().zip(targets).zip(tokens) {
                (*input, *target) = (pair[0], pair[1]);
            }
        }
    }
}

/// One window of truncated backpropagation: the forward pass goes over `start..end`, and the loss is counted from
/// `start + loss_from` on. Positions are those of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first position.
    pub start: usize,
    /// The position after the last one.
    pub end: usize,
    /// Steps at the beginning whose targets were counted in windows before, and are not counted again.
    pub loss_from: usize,
    /// The state this window begins with is the one after so many steps of the window before; after 0 steps, the one that
    /// window began with. 0 for the first window, which begins with the state of no words.
    pub carry_from: usize,
}

impl Window {
    /// The number of steps, T: at most τ.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// The positions, for [`Lanes::fill`].
    pub fn positions(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// The windows over lanes of n positions for gradients that reach at most τ steps back, moved on by stride s ≤ τ.
/// Window i covers positions max(0, (i + 1)s − τ) .. min((i + 1)s, n) and counts the loss on those from is on, so that
/// every target counts exactly once, with a history of at least τ − s steps where there is one. With s = τ the windows lie
/// end to end.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    length: usize,
    tau: usize,
    stride: usize,
}

impl Windows {
    /// Windows over lanes of `length` positions.
    ///
    /// # Errors
    /// A stride of 0 or above `tau`.
    pub fn new(length: usize, tau: usize, stride: usize) -> Result<Self> {
        if !(1..=tau).contains(&stride) {
            return Err(Error::Usage(format!("found stride {stride}, expected 1 to tau, which is {tau}")));
        }
        Ok(Windows { length, tau, stride })
    }

    /// The number of windows: ⌈n / s⌉.
    pub fn count(&self) -> usize {
        self.length.div_ceil(self.stride)
    }

    /// Window `i`, which must be below [`count`](Windows::count).
    pub fn get(&self, i: usize) -> Window {
        assert!(i < self.count(), "window {i} of {}", self.count());
        let start = self.start(i);
        Window {
            start,
            end: ((i + 1) * self.stride).min(self.length),
            loss_from: i * self.stride - start,
            carry_from: if i == 0 { 0 } else { start - self.start(i - 1) },
        }
    }

    /// All windows from `i` on, as a run that was stopped before it needs them.
    pub fn iter_from(&self, i: usize) -> impl ExactSizeIterator<Item = Window> + use<> {
        let windows = *self;
        (i..self.count()).map(move |i| windows.get(i))
    }

    fn start(&self, i: usize) -> usize {
        ((i + 1) * self.stride).saturating_sub(self.tau)
    }
}
