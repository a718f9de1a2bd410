//! Windows of tokens: the vectors of a token and of its neighbours, side by side (equations, section 3).
//!
//! x⁽ᵗ⁾ = \[e⁽ᵗ⁻ᶜ⁾, …, e⁽ᵗ⁾, …, e⁽ᵗ⁺ᶜ⁾\], where e is itself made of rows of several tables: a word's vector, then those of its
//! features. A row of x is thus P places of Σ widths columns each, and every table fills one range of columns in every place.

use crate::kernels::update::add;
use crate::params::TableGradient;
use crate::real::Real;
use crate::sys::memory::Room;

/// Where the rows of one table go: the columns `offset .. offset + width` of every place.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Width of the table.
    pub width: usize,
    /// First column within a place.
    pub offset: usize,
    /// Columns of a place: the sum of the widths of all tables.
    pub place: usize,
}

/// Copies `table\[ids\[i\]\]` to place i of `x`. `x`: \[places, Σ widths\]; `ids`: \[places\].
pub fn gather<R: Real>(x: &mut [R], ids: &[u32], table: &[R], part: Slot) {
    assert_eq!(x.len(), ids.len() * part.place);
    for (x, &id) in x.chunks_exact_mut(part.place).zip(ids) {
        x[part.offset..part.offset + part.width].copy_from_slice(&table[id as usize * part.width..][..part.width]);
    }
}

/// A place that holds a row of a table: the row, the shard of tokens, the place within the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    row: u32,
    shard: u32,
    place: u32,
}

/// Memory for sorting the places of a step by the row they hold.
pub struct Uses(Vec<Use>);

impl Uses {
    /// Allocates memory for `places` places.
    pub fn new(room: &mut Room, places: usize) -> Self {
        Uses(room.vec(places))
    }

    /// ∂L_r = Σ ∂x over the places that hold row r, in order, in all shards of a step; `of` returns a shard's
    /// rows \[places\] and ∂x.
    pub fn scatter<'a, R: Real>(
        &mut self,
        shards: usize,
        of: impl Fn(usize) -> (&'a [u32], &'a [R]),
        table: &mut TableGradient<R>,
        part: Slot,
    ) {
        self.0.clear();
        for shard in 0..shards {
            let uses = of(shard).0.iter().zip(0..);
            self.0.extend(uses.map(|(&row, place)| Use { row, shard: shard as u32, place }));
        }
        self.0.sort_unstable();
        let ids = table.list();
        ids.clear();
        ids.extend(self.0.chunk_by(|a, b| a.row == b.row).map(|uses| uses[0].row));
        let rows = table.parts_mut().1.chunks_exact_mut(part.width);
        for (sum, uses) in rows.zip(self.0.chunk_by(|a, b| a.row == b.row)) {
            sum.fill(R::zero());
            for &Use { shard, place, .. } in uses {
                add(sum, &of(shard as usize).1[place as usize * part.place + part.offset..][..part.width]);
            }
        }
    }
}
