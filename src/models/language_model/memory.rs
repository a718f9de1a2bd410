//! Allocates the working memory of a language model, and divides a window among its shards.

use super::config::Config;
use super::space::{Shard, Space, Window};
use super::tensors::LanguageModel;
use crate::blas::Precision;
use crate::layers::embedding::Order;
use crate::layers::matrix::Matrix;
use crate::layers::output::{OutputLayer, Sizes};
use crate::layers::shards::Division;
use crate::params::{Arena, Layout};
use crate::real::Real;
use crate::sys::memory::Room;
use std::sync::Arc;

/// The output layer of a working memory.
#[derive(Clone, Copy)]
pub enum Output<'a> {
    /// Over all words, for evaluation.
    Reads,
    /// Over all words, with gradients.
    Learns,
    /// That of the model's training loss, given the words' counts.
    InTraining(&'a [u64]),
}

/// The numbers that language models are compiled for, f32 and f64. Working memory is allocated in functions that are not generic, with
/// the layers behind trait objects, so that crates that use them do not compile them again.
pub trait Number: Real {
    /// Working memory for windows of up to `sizes`, steps × lanes.
    fn space(model: &LanguageModel, room: &mut Room, sizes: [usize; 2], output: Output) -> Space<Self>;
}

impl Number for f32 {
    fn space(model: &LanguageModel, room: &mut Room, sizes: [usize; 2], output: Output) -> Space<f32> {
        model.space_of(room, sizes, output)
    }
}

impl Number for f64 {
    fn space(model: &LanguageModel, room: &mut Room, sizes: [usize; 2], output: Output) -> Space<f64> {
        model.space_of(room, sizes, output)
    }
}

impl LanguageModel {
    /// Working memory for windows of up to `steps` × `lanes` tokens, with the loss over all words; the states are zero.
    pub fn space<R: Number>(&self, steps: usize, lanes: usize) -> Space<R> {
        Room::make(|room| R::space(self, room, [steps, lanes], Output::Learns))
    }

    /// The same without gradients of the output layer.
    pub fn evaluation_space<R: Number>(&self, steps: usize, lanes: usize) -> Space<R> {
        Room::make(|room| R::space(self, room, [steps, lanes], Output::Reads))
    }

    /// The same for training with the model's loss, given the words' counts.
    pub fn training_space<R: Number>(&self, steps: usize, lanes: usize, counts: &[u64]) -> Space<R> {
        Room::make(|room| R::space(self, room, [steps, lanes], Output::InTraining(counts)))
    }

    /// Approximate bytes of [`LanguageModel::evaluation_space`] or, with `training`, of [`LanguageModel::training_space`].
    pub fn space_bytes<R: Number>(&self, steps: usize, lanes: usize, training: bool) -> usize {
        let output = if training { Output::InTraining(&[]) } else { Output::Reads };
        let Config { words, precision, ref loss, .. } = self.config;
        let beside = if training { precision.thread_bytes() + loss.sampler_bytes(words) } else { 0 };
        beside + Room::count(|room| R::space(self, room, [steps, lanes], output))
    }

    fn space_of<R: Real>(&self, room: &mut Room, [steps, all]: [usize; 2], output: Output) -> Space<R> {
        assert!(steps > 0 && all > 0);
        let Config { words, hidden: units, ref loss, sizes, .. } = self.config;
        let (lanes, tokens, tables) = (sizes.division(all), steps * all, &self.output);
        let learns = matches!(output, Output::Learns | Output::InTraining(_));
        let precision = if learns { self.config.precision } else { Precision::F32 };
        if !room.counts() {
            precision.begin_threads::<R>();
        }
        let local = Arc::new(self.layout.before(self.embedding));
        let mut shards = room.many(all / lanes.each, |room| self.shard(room, &local, steps, lanes.each));
        if !all.is_multiple_of(lanes.each) {
            shards.push(self.shard(room, &local, steps, all % lanes.each));
        }
        shards.iter_mut().zip(lanes.shards()).for_each(|(shard, lanes)| shard.first = lanes.start);
        let sizes = Sizes { words, units, steps, lanes, tile: sizes.tile() };
        Space {
            lanes,
            shards,
            prepared: self.net.prepared(room, &self.layout, precision),
            output: match output {
                Output::Reads => loss.over_all_words(room, tables, sizes, false, precision),
                Output::Learns => loss.over_all_words(room, tables, sizes, true, precision),
                Output::InTraining(counts) => loss.in_training(room, tables, sizes, counts, precision),
            },
            top: Matrix::new(room, tokens, units),
            dtop: Matrix::new(room, tokens, units),
            targets: room.vec(tokens),
            order: Order::new(room, tokens),
            rows: room.vec(tokens),
        }
    }

    /// What a shard of `lanes` lanes stores for windows of up to `steps` steps; `local` has the tensors of its gradients.
    pub(super) fn shard<R: Real>(&self, room: &mut Room, local: &Arc<Layout>, steps: usize, lanes: usize) -> Shard<R> {
        Shard {
            first: 0,
            inputs: room.vec(steps * lanes),
            net: self.net.memory(room, steps, lanes),
            gradients: Arena::within(room, local),
        }
    }

    /// Reads the words of a window, shard by shard.
    pub(super) fn read<R: Real>(&self, space: &mut Space<R>, window: Window) {
        let Space { lanes, shards, targets, .. } = space;
        let steps = window.inputs.len() / lanes.all;
        assert!(window.inputs.len() == steps * lanes.all && window.targets.len() == window.inputs.len());
        assert!(window.loss_from < steps, "a window has a target that counts");
        targets.clear();
        for shard in shards {
            let (first, own) = (shard.first, shard.lanes());
            let row = |t: usize| t * lanes.all + first..t * lanes.all + first + own;
            shard.inputs.clear();
            (0..steps).for_each(|t| shard.inputs.extend_from_slice(&window.inputs[row(t)]));
            (window.loss_from..steps).for_each(|t| targets.extend_from_slice(&window.targets[row(t)]));
        }
    }
}

/// The output layer over all words, without gradients, for up to `tokens` tokens of any lanes.
pub(super) fn over_all_words(model: &LanguageModel, room: &mut Room, tokens: usize) -> Box<dyn OutputLayer<f32>> {
    let Config { words, hidden: units, ref loss, sizes, .. } = model.config;
    let sizes = Sizes { words, units, steps: tokens, lanes: Division { all: 1, each: 1 }, tile: sizes.tile() };
    loss.over_all_words(room, &model.output, sizes, false, Precision::F32)
}
