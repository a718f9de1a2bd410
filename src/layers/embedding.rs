//! Word vectors: rows of a table L \[V, D\].

use crate::kernels::update::add;
use crate::profile::{Part, span};
use crate::real::Real;
use rayon::prelude::*;

/// Blocks of a table's rows, for parallelism.
const BLOCKS: usize = 16;

/// e⁽ⁱ⁾ = L\[ids\[i\]\]. `e`: \[N, D\].
pub fn lookup<R: Real>(e: &mut [R], ids: &[u32], table: &[R], width: usize) {
    assert_eq!(e.len(), ids.len() * width);
    for (e, &id) in e.chunks_exact_mut(width).zip(ids) {
        e.copy_from_slice(&table[id as usize * width..][..width]);
    }
}

/// Room to sort the tokens of a step by their word.
pub struct Order(Vec<(u32, u32)>);

impl Order {
    /// Room for `tokens` of them.
    pub fn new(tokens: usize) -> Self {
        Order(Vec::with_capacity(tokens))
    }

    /// ∂L_w = Σ ∂e⁽ⁱ⁾ over the tokens i that hold w, in their order; `rows` lists the words, ascending. Rows of `table` that were
    /// not touched before are zero. There may be several lists of words, each with its gradients.
    pub fn lookup_backward<R: Real, const N: usize>(
        &mut self,
        ids: [&[u32]; N],
        de: [&[R]; N],
        table: &mut [R],
        rows: &mut Vec<u32>,
        width: usize,
    ) {
        let _span = span(Part::Rows);
        assert!(ids.iter().zip(de).all(|(ids, de)| de.len() == ids.len() * width));
        self.0.clear();
        self.0.extend(ids.into_iter().flatten().zip(0..).map(|(&id, i)| (id, i)));
        self.0.sort_unstable();
        rows.clear();
        rows.extend(self.0.chunk_by(|a, b| a.0 == b.0).map(|uses| uses[0].0));
        let source = |mut i: usize| {
            for (ids, de) in ids.iter().zip(de) {
                match i.checked_sub(ids.len()) {
                    None => return &de[i * width..][..width],
                    Some(rest) => i = rest,
                }
            }
            unreachable!("there are as many gradients as words")
        };
        // Each task has one block of the table's rows.
        let block = (table.len() / width).div_ceil(BLOCKS);
        let order = &self.0;
        table.par_chunks_mut(block * width).enumerate().for_each(|(i, table)| {
            let first = (i * block) as u32;
            let from = order.partition_point(|&(id, _)| id < first);
            for &(id, i) in order[from..].iter().take_while(|&&(id, _)| id < first + block as u32) {
                add(&mut table[(id - first) as usize * width..][..width], source(i as usize));
            }
        });
    }
}
