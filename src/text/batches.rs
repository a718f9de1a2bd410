//! A corpus as minibatches for truncated backpropagation through time.

use crate::error::counted;
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// A corpus of N tokens as B parallel lanes of n = ⌊(N − 1) / B⌋ positions. Lane b reads tokens bn .. (b + 1)n and predicts the token
/// after each, so that its last target is the first word of the next lane. The remaining targets at the end, fewer than B, are not used.
#[derive(Clone, Copy, Debug)]
pub struct Lanes<'a> {
    ids: &'a [u32],
    lanes: usize,
    length: usize,
}

impl<'a> Lanes<'a> {
    /// Divides `ids`, read from `path`, into `lanes` lanes of at least `tau` positions.
    ///
    /// # Errors
    /// Fewer than `lanes` · `tau` + 1 tokens; `lanes` or `tau` is 0.
    pub fn new(path: &Path, ids: &'a [u32], lanes: usize, tau: usize) -> Result<Self> {
        if lanes == 0 || tau == 0 {
            return Err(Error::Usage(format!("found batch {lanes} and tau {tau}, expected at least 1 of each")));
        }
        let needed = lanes.checked_mul(tau).and_then(|targets| targets.checked_add(1));
        if needed.is_none_or(|needed| ids.len() < needed) {
            let needed = needed.map_or("very many".into(), |needed| needed.to_string());
            let expected = format!("at least {needed} (batch {lanes} x tau {tau} + 1)");
            return Err(Error::input(path, 0, counted(ids.len(), "token"), expected));
        }
        Ok(Lanes { ids, lanes, length: (ids.len() - 1) / lanes })
    }

    /// The number of lanes, B.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// The number of positions per lane, n.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Writes the tokens at `positions` of all lanes and the tokens after them: both are `[T, B]`, with position `positions.start + t`
    /// of lane b at t · B + b, where T is the number of positions. Nothing is allocated.
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

/// One window of truncated backpropagation: the forward pass covers `start..end`, and the loss is counted from `start + loss_from` on.
/// Positions are within a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first position.
    pub start: usize,
    /// The position after the last one.
    pub end: usize,
    /// Number of steps at the beginning whose targets were counted in earlier windows, and are not counted again.
    pub loss_from: usize,
    /// The initial state of this window is the state of the previous window after this many steps; after 0 steps, it is the initial
    /// state of that window. 0 for the first window, whose initial state precedes all words.
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

/// The windows over lanes of n positions, for gradients that reach at most τ steps back (the BPTT length), with stride s ≤ τ. Window i
/// covers positions max(0, (i + 1)s − τ) .. min((i + 1)s, n) and counts the loss from position i·s on, so that every target counts
/// exactly once, with a history of at least τ − s steps if there are as many. With s = τ each window begins where the previous one ends.
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

    /// All windows from `i` on, for a run resumed before window `i`.
    pub fn iter_from(&self, i: usize) -> impl ExactSizeIterator<Item = Window> + use<> {
        let windows = *self;
        (i..self.count()).map(move |i| windows.get(i))
    }

    fn start(&self, i: usize) -> usize {
        ((i + 1) * self.stride).saturating_sub(self.tau)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(ids: &[u32], lanes: usize, tau: usize) -> Result<Lanes<'_>> {
        Lanes::new(Path::new("a.txt"), ids, lanes, tau)
    }

    #[test]
    fn fills_by_steps() {
        // Each id is its own position: three lanes of four positions, and one target left over.
        let ids: Vec<u32> = (0..14).collect();
        let lanes = lanes(&ids, 3, 2).unwrap();
        assert_eq!((lanes.lanes(), lanes.length()), (3, 4));
        let (mut inputs, mut targets) = ([99; 6], [99; 6]);
        lanes.fill(2..4, &mut inputs, &mut targets);
        assert_eq!(inputs, [2, 6, 10, 3, 7, 11]);
        assert_eq!(targets, [3, 7, 11, 4, 8, 12]);
        lanes.fill(1..2, &mut inputs[..3], &mut targets[..3]);
        assert_eq!((&inputs[..3], &targets[..3]), (&[1, 5, 9][..], &[2, 6, 10][..]));
    }

    #[test]
    fn short_texts_are_refused() {
        let ids = [7; 13];
        assert_eq!(lanes(&ids, 3, 4).unwrap().length(), 4);
        let error = |ids, batch, tau| lanes(ids, batch, tau).unwrap_err().to_string();
        let short = "a.txt: found 12 tokens, expected at least 13 (batch 3 x tau 4 + 1)";
        assert_eq!(error(&ids[1..], 3, 4), short);
        assert!(error(&[], 1, 1).contains("found 0 tokens, expected at least 2"));
        assert!(error(&ids, usize::MAX, 2).contains("expected at least very many"));
        assert_eq!(error(&ids, 0, 2), "found batch 0 and tau 2, expected at least 1 of each");
        assert_eq!(error(&ids, 2, 0), "found batch 2 and tau 0, expected at least 1 of each");
    }

    #[test]
    fn every_target_counts_once_and_states_are_handed_on() {
        for (length, tau, stride) in (1..25).flat_map(|n| (1..7).flat_map(move |t| (1..=t).map(move |s| (n, t, s)))) {
            let windows = Windows::new(length, tau, stride).unwrap();
            let (mut counted, mut before) = (vec![0; length], None::<Window>);
            for (i, window) in windows.iter_from(0).enumerate() {
                let case = format!("n {length}, tau {tau}, s {stride}, window {i}: {window:?}");
                assert_eq!(windows.get(i), window);
                assert!((1..=tau).contains(&window.len()) && window.loss_from < window.len(), "{case}");
                let first = window.start + window.loss_from;
                counted[first..window.end].iter_mut().for_each(|n| *n += 1);
                // As far back as tau allows: τ − s steps, or to the beginning of the text.
                assert_eq!(window.loss_from, (tau - stride).min(first), "{case}");
                match before {
                    None => assert_eq!((window.start, window.carry_from), (0, 0), "{case}"),
                    Some(before) => {
                        assert!(window.carry_from <= before.len(), "{case}");
                        assert_eq!(before.start + window.carry_from, window.start, "{case}");
                    }
                }
                before = Some(window);
            }
            assert!(counted.iter().all(|&n| n == 1), "n {length}, tau {tau}, s {stride}: {counted:?}");
            assert_eq!(windows.iter_from(0).len(), windows.count());
            let rest: Vec<_> = windows.iter_from(windows.count() / 2).collect();
            assert!(windows.iter_from(0).skip(windows.count() / 2).eq(rest));
        }
    }

    #[test]
    fn a_stride_of_tau_lays_windows_end_to_end() {
        let windows: Vec<_> =
            Windows::new(7, 3, 3).unwrap().iter_from(0).map(|w| (w.positions(), w.loss_from, w.carry_from)).collect();
        assert_eq!(windows, [(0..3, 0, 0), (3..6, 0, 3), (6..7, 0, 3)]);
        let overlapping: Vec<_> =
            Windows::new(5, 3, 2).unwrap().iter_from(0).map(|w| (w.positions(), w.loss_from, w.carry_from)).collect();
        assert_eq!(overlapping, [(0..2, 0, 0), (1..4, 1, 1), (3..5, 1, 2)]);
        for stride in [0, 4] {
            let error = Windows::new(7, 3, stride).unwrap_err().to_string();
            assert_eq!(error, format!("found stride {stride}, expected 1 to tau, which is 3"));
        }
    }
}
