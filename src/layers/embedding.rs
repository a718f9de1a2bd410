//! Word vectors: rows of a table L \[V, D\].

use crate::kernels::rows::gather;
use crate::kernels::update::add;
use crate::pool;
use crate::profile::{Part, span};
use crate::real::Real;
use crate::sys::memory::Room;

/// Rows of a gradient per task.
const PIECE: usize = 64;

/// e⁽ⁱ⁾ = L\[ids\[i\]\]. `e`: \[N, D\].
pub fn lookup<R: Real>(e: &mut [R], ids: &[u32], table: &[R], width: usize) {
    gather(e, ids, table, width);
}

/// The tokens of a step, sorted by their word.
pub struct Order {
    /// Word and token.
    uses: Vec<(u32, u32)>,
    /// Where the tokens of each distinct word begin, and where the last ones end.
    starts: Vec<u32>,
}

impl Order {
    /// Allocates memory for `tokens` tokens.
    pub fn new(room: &mut Room, tokens: usize) -> Self {
        Order { uses: room.vec(tokens), starts: room.vec(tokens + 1) }
    }

    /// Sorts the tokens 0, 1, …, whose words are `ids`; `words` becomes the list of distinct words, ascending.
    pub fn sort(&mut self, ids: impl Iterator<Item = u32>, words: &mut Vec<u32>) {
        let _span = span(Part::Rows);
        self.uses.clear();
        self.uses.extend(ids.zip(0..));
        self.uses.sort_unstable();
        self.starts.clear();
        words.clear();
        for (&(id, _), i) in self.uses.iter().zip(0..) {
            if words.last() != Some(&id) {
                words.push(id);
                self.starts.push(i);
            }
        }
        self.starts.push(self.uses.len() as u32);
    }

    /// The tokens of a word, in order; `place` is the word's index among the distinct ones.
    fn tokens(&self, place: usize) -> impl Iterator<Item = usize> {
        self.uses[self.starts[place] as usize..self.starts[place + 1] as usize].iter().map(|&(_, token)| token as usize)
    }

    /// ∂L_w = Σ ∂e⁽ⁱ⁾ over the tokens i of word w, in order, for each distinct word; `of` returns ∂e⁽ⁱ⁾. `rows`: \[words, D\].
    pub fn lookup_backward<'a, R: Real>(&self, rows: &mut [R], width: usize, of: impl Fn(usize) -> &'a [R] + Sync) {
        let _span = span(Part::Rows);
        assert_eq!(rows.len(), (self.starts.len() - 1) * width);
        pool::each(pool::chunks_mut(rows, PIECE * width), |i, rows| {
            for (k, row) in rows.chunks_exact_mut(width).enumerate() {
                let mut tokens = self.tokens(i * PIECE + k);
                row.copy_from_slice(of(tokens.next().expect("a word is held by a token")));
                tokens.for_each(|token| add(row, of(token)));
            }
        });
    }

    /// Adds ∂e⁽ⁱ⁾ of every token to the row of its word in a whole table.
    pub fn add_to_table<'a, R: Real>(&self, table: &mut [R], width: usize, of: impl Fn(usize) -> &'a [R]) {
        let _span = span(Part::Rows);
        for &(id, token) in &self.uses {
            add(&mut table[id as usize * width..][..width], of(token as usize));
        }
    }
}
