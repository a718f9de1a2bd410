//! Shards: the parts of a batch that are processed in parallel, and the sum of their gradients.
//!
//! The configuration and the data decide how a batch is divided, never the number of threads, and what shards have computed is
//! added as [`tree`] says, whoever computed it. So results do not depend on threads. Models know no other way to be parallel.

use super::matrix::Rows;
use crate::kernels::update::add;
use crate::pool;
use crate::real::Real;
use crate::tree;
use std::ops::Range;

/// Elements of a sum of gradients that one task adds.
const PIECE: usize = 1 << 14;
/// Elements that it adds at a time: the nodes of their tree stay in L1.
const PART: usize = 1 << 10;

/// The lanes of a batch, in shards of equal size; the last one gets the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Number of lanes.
    pub all: usize,
    /// Lanes per shard.
    pub each: usize,
}

impl Division {
    /// The lanes of every shard.
    pub fn shards(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.all).step_by(self.each).map(move |first| first..self.all.min(first + self.each))
    }

    /// The shard that a lane is in, and its index there.
    pub fn place(self, lane: usize) -> (usize, usize) {
        (lane / self.each, lane % self.each)
    }
}

/// What can be divided among shards, by rows.
pub trait Split: Send + Sized {
    /// The first `rows` rows, and the others.
    fn split_at(self, rows: usize) -> (Self, Self);
}

/// Nothing to divide.
impl Split for () {
    fn split_at(self, _rows: usize) -> (Self, Self) {
        ((), ())
    }
}

/// Both, divided alike.
impl<A: Split, B: Split> Split for (A, B) {
    fn split_at(self, rows: usize) -> (Self, Self) {
        let ((a, others_a), (b, others_b)) = (self.0.split_at(rows), self.1.split_at(rows));
        ((a, b), (others_a, others_b))
    }
}

impl<T: Send> Split for Rows<'_, T> {
    fn split_at(self, rows: usize) -> (Self, Self) {
        Rows::split_at(self, rows)
    }
}

/// Calls `work` for every shard, in parallel, with its number and its own rows of `all`; `rows` returns how many a shard has.
pub fn each<S: Send, A: Split>(
    shards: &mut [S],
    all: A,
    rows: impl Fn(&S) -> usize + Sync,
    work: impl Fn(usize, &mut S, A) + Sync,
) {
    divide(0, shards, all, &rows, &work);
}

fn divide<S: Send, A: Split>(
    first: usize,
    shards: &mut [S],
    all: A,
    rows: &(impl Fn(&S) -> usize + Sync),
    work: &(impl Fn(usize, &mut S, A) + Sync),
) {
    match shards {
        [] => {}
        [shard] => work(first, shard, all),
        _ => {
            let half = shards.len() / 2;
            let (left, right) = shards.split_at_mut(half);
            let (own, others) = all.split_at(left.iter().map(rows).sum());
            pool::join(|| divide(first, left, own, rows, work), || divide(first + half, right, others, rows, work));
        }
    }
}

/// The first elements of `sum` become the sum of the shards' own, by the tree of the shards.
pub fn sum<R: Real, S: Sync>(sum: &mut [R], shards: &[S], of: impl Fn(&S) -> &[R] + Sync) {
    let first = shards.first().expect("a batch has a shard");
    blocks(&mut sum[..of(first).len()], 1, PIECE, |piece, sum| {
        for (sum, from) in sum.chunks_mut(PART).zip(piece.step_by(PART)) {
            node(sum, shards, &|shard| &of(shard)[from..]);
        }
    });
}

/// `sum` becomes the node of some shards.
fn node<R: Real, S>(sum: &mut [R], shards: &[S], of: &impl Fn(&S) -> &[R]) {
    if let [shard] = shards {
        return sum.copy_from_slice(&of(shard)[..sum.len()]);
    }
    let (left, right) = shards.split_at(tree::left(shards.len()));
    node(sum, left, of);
    if let [shard] = right {
        return add(sum, &of(shard)[..sum.len()]);
    }
    let right_sum = &mut [R::zero(); PART][..sum.len()];
    node(right_sum, right, of);
    add(sum, right_sum);
}

/// Calls `work` for blocks of up to `rows` rows of `out`, in parallel: with the numbers of the rows, and with them.
pub fn blocks<T: Send>(out: &mut [T], width: usize, rows: usize, work: impl Fn(Range<usize>, &mut [T]) + Sync) {
    pool::each(pool::chunks_mut(out, rows * width), |i, block| work(i * rows..i * rows + block.len() / width, block));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::matrix::Matrix;
    use crate::sys::memory::Room;

    /// Every shard gets its number and its own rows, and the sum is that of their tree, to the last bit.
    #[test]
    fn shards_have_their_rows_and_are_added_as_a_tree() {
        let sizes = [3, 1, 4, 1, 5, 2, 1];
        let mut matrix = Room::make(|room| Matrix::<u32>::new(room, 17, 2));
        let mut shards: Vec<(usize, Vec<f32>)> = sizes.iter().map(|&n| (n, vec![0.0; PIECE + 3])).collect();
        each(
            &mut shards,
            matrix.rows(17),
            |shard| shard.0,
            |i, shard, rows| {
                assert_eq!(rows.values.len(), 2 * sizes[i]);
                rows.values.fill(i as u32);
                // Large numbers and small ones: another order would round in another way.
                shard.1.iter_mut().enumerate().for_each(|(j, x)| *x = [1e8, 1.3, -1e8, 0.7, 3e-3][(i + j) % 5]);
            },
        );
        let wanted: Vec<u32> = sizes.iter().zip(0..).flat_map(|(&n, i)| vec![i; 2 * n]).collect();
        assert_eq!(matrix.rows(17).values, wanted);
        let mut total = vec![9.0; PIECE + 7];
        sum(&mut total, &shards, |shard| &shard.1);
        for (j, &x) in total[..PIECE + 3].iter().enumerate() {
            let [a, b, c, d, e, f, g] = std::array::from_fn(|i| shards[i].1[j]);
            assert_eq!(x.to_bits(), (((a + b) + (c + d)) + ((e + f) + g)).to_bits());
        }
        assert_eq!(total[PIECE + 3..], [9.0; 4], "what is not the shards' own stays");
    }

    #[test]
    fn blocks_know_their_rows() {
        let mut out = [0; 14];
        blocks(&mut out, 2, 3, |rows, block| {
            block.iter_mut().enumerate().for_each(|(i, x)| *x = rows.start + i / 2);
            assert_eq!(block.len(), 2 * rows.len());
        });
        assert_eq!(out, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
    }
}
