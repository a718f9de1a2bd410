//! Epochs over examples, each in a different order.

use crate::rng::{Purpose, Stream};
use rand::RngExt;

/// The batches of each epoch over some examples, in an order that depends only on the seed and the number of the epoch.
pub struct Batches {
    order: Vec<u32>,
    epoch: Option<u64>,
    size: usize,
    seed: u64,
}

impl Batches {
    /// Batches of `examples` examples, up to `size` at a time.
    pub fn new(examples: usize, size: usize, seed: u64) -> Self {
        Batches { order: (0..examples as u32).collect(), epoch: None, size: size.min(examples), seed }
    }

    /// Examples per batch; the last batch of an epoch may have fewer.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Examples per epoch.
    pub fn examples(&self) -> u64 {
        self.order.len() as u64
    }

    /// Batches per epoch.
    pub fn count(&self) -> u64 {
        self.order.len().div_ceil(self.size) as u64
    }

    /// Examples in the first `steps` batches of an epoch.
    pub fn examples_before(&self, steps: u64) -> u64 {
        (steps as usize * self.size).min(self.order.len()) as u64
    }

    /// The examples of a step, counted over all epochs.
    pub fn of_step(&mut self, step: u64) -> &[u32] {
        let (epoch, index) = (step / self.count(), (step % self.count()) as usize);
        if self.epoch != Some(epoch) {
            self.order.iter_mut().zip(0..).for_each(|(place, i)| *place = i);
            let mut stream = Stream::new(self.seed, Purpose::Shuffle, epoch, 0);
            for i in (1..self.order.len()).rev() {
                self.order.swap(i, stream.random_range(0..=i));
            }
            self.epoch = Some(epoch);
        }
        let from = index * self.size;
        &self.order[from..(from + self.size).min(self.order.len())]
    }
}
