//! Word vectors: rows of a table L \[V, D\].

use crate::kernels::update::add;
use crate::real::Real;

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
    /// not touched before are zero.
    pub fn lookup_backward<R: Real>(
        &mut self,
        ids: &[u32],
        de: &[R],
        table: &mut [R],
        rows: &mut Vec<u32>,
        width: usize,
    ) {
        assert_eq!(de.len(), ids.len() * width);
        self.0.clear();
        self.0.extend(ids.iter().zip(0..).map(|(&id, i)| (id, i)));
        self.0.sort_unstable();
        rows.clear();
        for &(id, i) in &self.0 {
            if rows.last() != Some(&id) {
                rows.push(id);
            }
            add(&mut table[id as usize * width..][..width], &de[i as usize * width..][..width]);
        }
    }
}
