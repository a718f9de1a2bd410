//! Random numbers as a function of *where* they are used: Philox4x32-10 (Salmon et al. 2011) with the seed as key and (purpose, step,
//! place) as counter. No draw depends on the order of other draws or on threads, and any draw can be repeated, so that dropout masks
//! are recomputed instead of stored and a resumed run needs no generator state.

use crate::math;
use rand::{RngExt, TryRng};
use std::convert::Infallible;

/// What the numbers are for; streams of different purposes never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Initial weights; place: the tensor's number.
    Init = 1,
    /// Order of examples; step: the epoch.
    Shuffle = 2,
    /// Dropout masks; step: the optimizer step, place: layer and shard.
    Dropout = 3,
    /// Words drawn by `generate`.
    Generate = 4,
    /// Sentences drawn from a grammar.
    Synth = 5,
    /// Words that training treats as unknown; step: the optimizer step.
    Unknown = 7,
    /// Negative samples; step: the optimizer step.
    Negatives = 6,
    /// Lanes that start from a state of zero; step: the optimizer step.
    Forget = 8,
    /// Lines of a text's evaluation subset.
    Subset = 9,
}

const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// Ten rounds of Philox4x32 on one counter.
#[inline(always)]
pub fn philox(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let (p0, p1) = (u64::from(M0) * u64::from(c[0]), u64::from(M1) * u64::from(c[2]));
        c = [(p1 >> 32) as u32 ^ c[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ key[1], p0 as u32];
        key = [key[0].wrapping_add(W0), key[1].wrapping_add(W1)];
    }
    c
}

/// Where in a run numbers are drawn: everything except the position in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Philox key: the seed.
    pub key: [u32; 2],
    /// Philox counter words 1 to 3: place, step, step and purpose.
    pub counter: [u32; 3],
}

impl Place {
    /// The stream for `purpose` at `step` (below 2⁵⁶) and `place` of the run with `seed`.
    pub fn new(seed: u64, purpose: Purpose, step: u64, place: u32) -> Self {
        assert!(step < 1 << 56, "step {step} is beyond 2^56");
        Place {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [place, step as u32, ((step >> 32) as u32) << 8 | purpose as u32],
        }
    }

    /// Four words: numbers `4 * block ..` of the stream.
    #[inline(always)]
    pub fn block(&self, block: u32) -> [u32; 4] {
        philox([block, self.counter[0], self.counter[1], self.counter[2]], self.key)
    }
}

/// The numbers of one [`Place`] in order, as a `rand` generator (2³⁴ words).
#[derive(Clone, Debug)]
pub struct Stream {
    place: Place,
    block: u32,
    words: [u32; 4],
    used: usize,
}

impl Stream {
    /// A stream from its beginning; see [`Place::new`].
    pub fn new(seed: u64, purpose: Purpose, step: u64, place: u32) -> Self {
        Stream { place: Place::new(seed, purpose, step, place), block: 0, words: [0; 4], used: 4 }
    }

    /// A number of the normal distribution, by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        loop {
            let [x, y] = [(); 2].map(|()| self.random::<f64>() * 2.0 - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * math::ln(square) / square).sqrt();
            }
        }
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        if self.used == 4 {
            self.words = self.place.block(self.block);
            self.block = self.block.wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        Ok(self.words[self.used - 1])
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = self.try_next_u32()?;
        Ok(u64::from(low) | u64::from(self.try_next_u32()?) << 32)
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for bytes in dst.chunks_mut(4) {
            bytes.copy_from_slice(&self.try_next_u32()?.to_le_bytes()[..bytes.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let (counter, key) = ([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]);
        assert_eq!(philox(counter, key), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }

    /// The share of normal numbers below each of some points, and beyond four standard deviations.
    #[test]
    fn normal_numbers_are_normal() {
        const DRAWS: usize = 200_000;
        let mut stream = Stream::new(5, Purpose::Init, 0, 0);
        let drawn: Vec<f64> = (0..DRAWS).map(|_| stream.normal()).collect();
        for (below, share) in
            [(-4.0, 3.17e-5), (-2.0, 0.02275), (-0.5, 0.30854), (0.0, 0.5), (1.0, 0.84134), (3.0, 0.99865)]
        {
            let found = drawn.iter().filter(|&&x| x < below).count() as f64 / DRAWS as f64;
            let deviation = (share * (1.0 - share) / DRAWS as f64).sqrt();
            assert!((found - share).abs() < 4.0 * deviation, "{below}: {found} {share}");
        }
    }

    #[test]
    fn streams_differ_in_every_coordinate() {
        let first = |seed, purpose, step, place| Stream::new(seed, purpose, step, place).random::<u64>();
        let base = first(1, Purpose::Init, 2, 3);
        assert_ne!(base, first(2, Purpose::Init, 2, 3));
        assert_ne!(base, first(1 << 32 | 1, Purpose::Init, 2, 3));
        assert_ne!(base, first(1, Purpose::Shuffle, 2, 3));
        assert_ne!(base, first(1, Purpose::Init, 1 << 32 | 2, 3));
        assert_ne!(base, first(1, Purpose::Init, 2, 4));
    }
}
