//! Initial weights.

use crate::layers::output::Tables;
use crate::layers::shards;
use crate::math::ln;
use crate::params::{Arena, Role, Tensor};
use crate::real::Real;
use crate::rng::{Purpose, Stream};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// How weight matrices are initialised. Word vectors are always uniform in ±0.1 and biases zero; see [`shares`] for those of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Uniform in ±1/√n, for n inputs
    Uniform,
    /// Uniform in ±√(6/(n + m)), for n inputs and m outputs, all gates counted (Glorot and Bengio 2010)
    Xavier,
    /// State-to-state matrices orthogonal (Saxe et al. 2014), the others as uniform
    Orthogonal,
}

/// Elements that one stream of random numbers fills.
const PIECE: usize = 1 << 16;

impl Init {
    /// Fills the weights: a function of the seed and the layout alone.
    pub fn fill<R: Real>(self, w: &mut Arena<R>, seed: u64) {
        let layout = w.layout().clone();
        for (i, (p, tensor)) in layout.tensors().enumerate() {
            // An output matrix is stored transposed: one row per word.
            let transposed = matches!(tensor.role, Role::Output | Role::OutputTable);
            let inputs = if transposed { tensor.columns } else { tensor.rows };
            let xavier = (6.0 / (tensor.rows + tensor.columns) as f64).sqrt();
            let width = match (tensor.role, self) {
                (Role::Bias | Role::BiasTable, _) => continue,
                (Role::Table, _) => 0.1,
                (Role::Recurrent, Init::Orthogonal) => {
                    orthogonal(w.slice_mut(p), tensor, seed, i as u32);
                    continue;
                }
                (_, Init::Uniform | Init::Orthogonal) => 1.0 / (inputs as f64).sqrt(),
                (_, Init::Xavier) => xavier,
            };
            shards::blocks(w.slice_mut(p), 1, PIECE, |elements, x| {
                let mut stream = Stream::new(seed, Purpose::Init, (elements.start / PIECE) as u64, i as u32);
                x.iter_mut().for_each(|x| *x = R::of((f64::from(stream.random::<f32>()) * 2.0 - 1.0) * width));
            });
        }
    }
}

/// Sets the biases with which an output layer gives every word its share of a text with these `counts`, each increased by one, plus
/// `ln_z`: words and tails in the head, and words within their tail.
///
/// A network that starts like this need not learn the shares through its states. With biases of zero it must: all units move to
/// where the output weights make frequent words likely, saturate there, and with two layers are slow to recover.
pub fn shares<R: Real>(w: &mut Arena<R>, tables: &Tables, counts: &[u64], ln_z: f64) {
    let (mut head, mut classes) = (counts, Vec::new());
    for bias in tables.tail_biases().rev() {
        let (before, tail) = head.split_at(head.len() - w.slice(bias).len());
        logarithms(w.slice_mut(bias), tail, 0.0);
        classes.push(tail.iter().map(|n| n + 1).sum::<u64>() - 1);
        head = before;
    }
    let classes: Vec<u64> = head.iter().copied().chain(classes.into_iter().rev()).collect();
    logarithms(w.slice_mut(tables.bias), &classes, ln_z);
}

/// The logarithms of the shares, plus `ln_z`.
fn logarithms<R: Real>(bias: &mut [R], counts: &[u64], ln_z: f64) {
    assert_eq!(bias.len(), counts.len());
    let total: f64 = counts.iter().map(|&n| n as f64 + 1.0).sum();
    bias.iter_mut().zip(counts).for_each(|(x, &n)| *x = R::of(ln((n as f64 + 1.0) / total) + ln_z));
}

/// Makes each square block of an \[H, G·H\] matrix orthogonal: Gram-Schmidt, twice, on normally distributed rows.
fn orthogonal<R: Real>(w: &mut [R], tensor: &Tensor, seed: u64, place: u32) {
    let (h, columns) = (tensor.rows, tensor.columns);
    for block in 0..columns / h {
        let mut stream = Stream::new(seed, Purpose::Init, block as u64, place);
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(h);
        while rows.len() < h {
            let mut row: Vec<f64> = (0..h).map(|_| stream.normal()).collect();
            for _ in 0..2 {
                for other in &rows {
                    let dot: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                    row.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
                }
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                row.iter_mut().for_each(|x| *x /= norm);
            }
            rows.push(row);
        }
        for (i, row) in rows.iter().enumerate() {
            for (j, &x) in row.iter().enumerate() {
                w[i * columns + block * h + j] = R::of(x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Layout;
    use std::sync::Arc;

    #[test]
    fn orthogonal_blocks_are_orthogonal() {
        let mut layout = Layout::default();
        let p = layout.add("u", 7, 21, Role::Recurrent);
        let mut w = Arena::<f64>::zeros(&Arc::new(layout));
        Init::Orthogonal.fill(&mut w, 3);
        for block in 0..3 {
            let u = w.matrix(p).slice(ndarray::s![.., block * 7..(block + 1) * 7]).to_owned();
            let product = u.dot(&u.t());
            for ((i, j), &x) in product.indexed_iter() {
                assert!((x - if i == j { 1.0 } else { 0.0 }).abs() < 1e-12, "{i} {j} {x}");
            }
        }
    }

    #[test]
    fn shares_are_those_of_the_counts() {
        let mut bias = [0.0f64; 3];
        logarithms(&mut bias, &[0, 2, 4], 0.0);
        for (bias, share) in bias.iter().zip([1.0 / 9.0, 3.0 / 9.0, 5.0 / 9.0]) {
            assert!((bias.exp() - share).abs() < 1e-12, "{bias} {share}");
        }
        logarithms(&mut bias, &[0, 2, 4], 7.0);
        assert!((bias[1] - 7.0 - (3.0f64 / 9.0).ln()).abs() < 1e-12);
    }

    #[test]
    fn widths_and_zeros() {
        let mut layout = Layout::default();
        let out = layout.add("out", 50, 16, Role::Output);
        let bias = layout.add("bias", 1, 50, Role::Bias);
        let table = layout.add("table", 50, 16, Role::Table);
        let mut w = Arena::<f32>::zeros(&Arc::new(layout));
        Init::Uniform.fill(&mut w, 3);
        let largest = |p| w.slice(p).iter().fold(0.0f32, |a, x| a.max(x.abs()));
        assert!(largest(out) <= 0.25 && largest(out) > 0.24);
        assert!(largest(table) <= 0.1 && largest(table) > 0.098);
        assert_eq!(largest(bias), 0.0);
    }
}
