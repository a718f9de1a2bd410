//! The working memory of the window network: what a shard of tokens stores, and what all shards share.
//!
//! Data of tokens are in matrices with one row per token, and a shard has its rows of them: memory for a number of tokens is enough
//! for sentences of any length.

use super::{Config, Ner, Objective};
use crate::layers::losses::{LabelSoftmax, Sentences, Transitions};
use crate::layers::matrix::{Matrix, Rows};
use crate::layers::shards::Split;
use crate::layers::window::Uses;
use crate::params::{Arena, Layout};
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use std::ops::Range;
use std::sync::Arc;

/// Tokens per shard; with the sentence objective, a shard has the whole sentences that reach this number.
pub const SHARD: usize = 32;

/// What one shard of tokens stores for a step, besides the rows of its tokens.
pub(super) struct Shard<R: Real> {
    /// Its tokens within the batch, and its sentences.
    pub tokens: Range<usize>,
    pub sentences: Range<usize>,
    pub softmax: LabelSoftmax<R>,
    pub sentence: Sentences,
    pub gradients: Arena<R>,
    pub loss: f64,
}

impl<R: Real> Shard<R> {
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
}

/// Defines a struct of matrices, and one of some rows of each.
macro_rules! matrices {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// What is stored for the tokens of a batch.
        pub(super) struct Kept<R> {
            $($(#[$doc])* pub $name: Matrix<$type>,)*
        }

        /// What is stored for some of them.
        pub(super) struct Tokens<'a, R> {
            $(pub $name: Rows<'a, $type>,)*
        }

        impl<R: Real> Kept<R> {
            /// The rows of the first `count` tokens.
            pub fn tokens(&mut self, count: usize) -> Tokens<'_, R> {
                Tokens { $($name: self.$name.rows(count),)* }
            }
        }

        impl<R: Real> Split for Tokens<'_, R> {
            fn split_at(self, count: usize) -> (Self, Self) {
                $(let $name = self.$name.split_at(count);)*
                (Tokens { $($name: $name.0,)* }, Tokens { $($name: $name.1,)* })
            }
        }
    };
}

matrices! {
    /// x after dropout, its mask, and ∂x: [N, window·D].
    x: R,
    kept_x: R,
    dx: R,
    /// h, its mask, and h after dropout, later ∂h: [N, H].
    h: R,
    kept_h: R,
    dropped: R,
    /// Scores, later their gradient: [N, K].
    theta: R,
    /// Of sentences ([`Lattice`]): [N, K], [N, 1], [N, K].
    forward: f64,
    shifts: f64,
    before: u32,
    /// The predicted labels: [N, 1].
    labels: u32,
}

/// Working memory for batches.
pub struct Space<R: Real> {
    /// Maximum number of tokens in a batch.
    pub(super) tokens: usize,
    pub(super) shards: Vec<Shard<R>>,
    pub(super) in_use: usize,
    pub(super) kept: Kept<R>,
    /// W and U transposed, so that no shard packs them again.
    pub(super) hidden: Buffer<R>,
    pub(super) output: Buffer<R>,
    pub(super) transitions: Transitions,
    pub(super) uses: Uses,
}

impl Ner {
    /// Working memory for batches of up to `tokens` tokens, in sentences of any length; without `training`, only for [`Ner::predict`].
    pub fn space<R: Real>(&self, tokens: usize, training: bool) -> Space<R> {
        Room::make(|room| self.space_in(room, tokens, training))
    }

    /// Approximate bytes of [`Ner::space`].
    pub fn space_bytes<R: Real>(&self, tokens: usize, training: bool) -> usize {
        Room::count(|room| self.space_in::<R>(room, tokens, training))
    }

    fn space_in<R: Real>(&self, room: &mut Room, tokens: usize, training: bool) -> Space<R> {
        let Config { hidden, labels, window, objective, .. } = self.config;
        let (width, sentence) = (self.width(), objective == Objective::Sentence);
        let local = Arc::new(if training { self.layout.before(self.tables[0]) } else { Layout::default() });
        let scored = if training && !sentence { SHARD.min(tokens) } else { 0 };
        let shard = |room: &mut Room| Shard {
            tokens: 0..0,
            sentences: 0..0,
            softmax: LabelSoftmax::new(room, scored, labels),
            sentence: Sentences::new(room, if sentence { labels } else { 0 }),
            gradients: Arena::within(room, &local),
            loss: 0.0,
        };
        let if_training = |width| if training { width } else { 0 };
        let if_sentence = |width| if sentence { width } else { 0 };
        Space {
            tokens,
            shards: room.many(tokens.div_ceil(SHARD), shard),
            in_use: 0,
            kept: Kept {
                x: Matrix::new(room, tokens, width),
                kept_x: Matrix::new(room, tokens, if_training(width)),
                dx: Matrix::new(room, tokens, if_training(width)),
                h: Matrix::new(room, tokens, hidden),
                kept_h: Matrix::new(room, tokens, if_training(hidden)),
                dropped: Matrix::new(room, tokens, if_training(hidden)),
                theta: Matrix::new(room, tokens, labels),
                forward: Matrix::new(room, tokens, if_training(if_sentence(labels))),
                shifts: Matrix::new(room, tokens, if_training(if_sentence(1))),
                before: Matrix::new(room, tokens, if_sentence(labels)),
                labels: Matrix::new(room, tokens, 1),
            },
            hidden: room.zeros(if_training(width * hidden)),
            output: room.zeros(labels * hidden),
            transitions: Transitions::new(room, if_sentence(labels)),
            uses: Uses::new(room, if_training(tokens * window)),
        }
    }
}
