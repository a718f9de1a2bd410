//! How well distances separate similar from dissimilar pairs: the area under the ROC curve, the best threshold, rank
//! correlation.

use serde::Serialize;

/// How well distances agree with labels of two values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Roc {
    /// The probability that a similar pair is nearer than a dissimilar one; ties count half.
    pub auc: f64,
    /// The fraction of pairs classified correctly by [`Roc::threshold`], the best threshold for these pairs.
    pub accuracy: f64,
    /// Pairs nearer than this are classified as similar.
    pub threshold: f64,
}

/// The order of `x`, ascending.
fn order(x: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
    order
}

/// Ranks from 1; equal values share their mean rank.
fn ranks(x: &[f64]) -> Vec<f64> {
    let order = order(x);
    let mut ranks = vec![0.0; x.len()];
    let mut before = 0;
    for group in order.chunk_by(|&a, &b| x[a] == x[b]) {
        let rank = before as f64 + (group.len() as f64 + 1.0) / 2.0;
        group.iter().for_each(|&i| ranks[i] = rank);
        before += group.len();
    }
    ranks
}

/// Compares distances with labels; `None` unless there are labels of both kinds.
pub fn roc(distances: &[f64], alike: &[bool]) -> Option<Roc> {
    assert_eq!(distances.len(), alike.len());
    let near = alike.iter().filter(|alike| **alike).count();
    let far = alike.len() - near;
    if near == 0 || far == 0 {
        return None;
    }
    // Mann and Whitney: the sum of the ranks of the dissimilar pairs, minus its smallest possible value.
    let sum: f64 = ranks(distances).iter().zip(alike).filter(|(_, alike)| !**alike).map(|(rank, _)| rank).sum();
    let auc = (sum - far as f64 * (far as f64 + 1.0) / 2.0) / (near as f64 * far as f64);
    // The threshold starts at zero and moves past one distance after the other.
    let (mut right, mut best, mut threshold) = (far, far, distances.iter().copied().fold(f64::INFINITY, f64::min));
    let order = order(distances);
    let groups: Vec<&[usize]> = order.chunk_by(|&a, &b| distances[a] == distances[b]).collect();
    for (i, group) in groups.iter().enumerate() {
        let found = group.iter().filter(|&&pair| alike[pair]).count();
        right = right + found - (group.len() - found);
        if right > best {
            best = right;
            let here = distances[group[0]];
            threshold = groups.get(i + 1).map_or(f64::INFINITY, |next| 0.5 * (here + distances[next[0]]));
        }
    }
    Some(Roc { auc, accuracy: best as f64 / alike.len() as f64, threshold })
}

/// Spearman's rank correlation; none if one of the two is constant.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len());
    let mean = (x.len() as f64 + 1.0) / 2.0;
    let (x, y) = (ranks(x), ranks(y));
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let spread = (product(&x, &x) * product(&y, &y)).sqrt();
    (spread > 0.0).then(|| product(&x, &y) / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roc_by_hand() {
        let at = |distances: &[f64], alike: &[u8]| {
            roc(distances, &alike.iter().map(|&a| a == 1).collect::<Vec<_>>()).map(|r| (r.auc, r.accuracy, r.threshold))
        };
        assert_eq!(at(&[1.0, 2.0, 3.0, 4.0], &[1, 1, 0, 0]), Some((1.0, 1.0, 2.5)));
        assert_eq!(at(&[4.0, 3.0, 2.0, 1.0], &[1, 1, 0, 0]), Some((0.0, 0.5, 1.0)));
        // Of the four combinations of a near and a far pair three are correct; a tie counts one half.
        assert_eq!(at(&[1.0, 3.0, 2.0, 4.0], &[1, 1, 0, 0]), Some((0.75, 0.75, 1.5)));
        assert_eq!(at(&[1.0, 2.0, 2.0, 4.0], &[1, 1, 0, 0]), Some((0.875, 0.75, 1.5)));
        assert_eq!(at(&[5.0; 4], &[1, 0, 1, 1]), Some((0.5, 0.75, f64::INFINITY)));
        assert_eq!(at(&[1.0, 2.0], &[1, 1]), None);
    }

    #[test]
    fn spearman_by_hand() {
        assert_eq!(spearman(&[1.0, 2.0, 30.0], &[-3.0, -2.0, -1.0]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 30.0], &[3.0, 2.0, 1.0]), Some(-1.0));
        // 1 - 6 Σd² / (n (n² - 1)), with d = 0, 1, 1, 0.
        assert!((spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0]).unwrap() - 0.8).abs() < 1e-15);
        // Ties: ranks 1.5, 1.5, 3 against 1, 2, 3.
        assert!((spearman(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]).unwrap() - 1.5 / 3f64.sqrt()).abs() < 1e-15);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }
}
