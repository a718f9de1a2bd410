//! The likelihood of a sentence's labels as a whole (Collobert et al. 2011, section 3.3.2): a linear-chain conditional random field.
//!
//! s(y) = A_start,y₁ + Σₜ θₜ,yₜ + Σₜ A_yₜ,yₜ₊₁ + A_yₙ,end    J = log Σ_y' e^s(y') − s(y)
//!
//! α₁(j) = A_start,j + θ₁ⱼ      αₜ₊₁(j) = θₜ₊₁,ⱼ + log Σᵢ e^(αₜ(i) + Aᵢⱼ)      log Z = log Σⱼ e^(αₙ(j) + A_j,end)
//! βₙ(i) = A_i,end              βₜ(i) = log Σⱼ e^(Aᵢⱼ + θₜ₊₁,ⱼ + βₜ₊₁(j))
//! ∂θₜⱼ = e^(αₜ(j) + βₜ(j) − log Z) − y      ∂Aᵢⱼ = Σₜ e^(αₜ(i) + Aᵢⱼ + θₜ₊₁,ⱼ + βₜ₊₁(j) − log Z) − Σₜ yₜ,ᵢ yₜ₊₁,ⱼ
//!
//! Everything is in log space and f64. e^A is computed once per step and e^(α − max α) once per token, so that a token costs K exponentials
//! and K logarithms each way instead of K².

use crate::math::{exp, ln};
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};

/// A and e^(A − max A), computed once per step.
pub struct Transitions {
    labels: usize,
    /// A: [K, K], then a row from the start, then a row to the end.
    scores: Buffer<f64>,
    /// e^(A − largest) of the first K rows, and its transpose.
    factors: Buffer<f64>,
    transposed: Buffer<f64>,
    largest: f64,
}

impl Transitions {
    /// Rows of the tensor A \[K + 2, K\]: from label i to label j, from the start to j, from j to the end.
    pub fn rows(labels: usize) -> usize {
        labels + 2
    }

    /// Allocates memory for `labels` labels.
    pub fn new(room: &mut Room, labels: usize) -> Self {
        let square = labels * labels;
        let scores = room.zeros(Self::rows(labels) * labels);
        Transitions { labels, scores, factors: room.zeros(square), transposed: room.zeros(square), largest: 0.0 }
    }

    /// Recomputes them for the current A.
    pub fn refresh<R: Real>(&mut self, a: &[R]) {
        let k = self.labels;
        self.scores.iter_mut().zip(a).for_each(|(score, a)| *score = a.f64());
        let inner = &self.scores[..k * k];
        self.largest = inner.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for i in 0..k {
            for j in 0..k {
                let factor = exp(inner[i * k + j] - self.largest);
                self.factors[i * k + j] = factor;
                self.transposed[j * k + i] = factor;
            }
        }
    }

    fn start(&self) -> &[f64] {
        &self.scores[self.labels * self.labels..][..self.labels]
    }

    fn end(&self) -> &[f64] {
        &self.scores[(self.labels + 1) * self.labels..]
    }
}

/// What is stored for the tokens of a sentence, besides their scores θ.
pub struct Lattice<'a> {
    /// e^(α − max α) of every token: \[N, K\]; not used by [`Sentences::decode`].
    pub forward: &'a mut [f64],
    /// max α of every token: \[N\]; not used by it either.
    pub shifts: &'a mut [f64],
    /// The best previous label for every token and label: \[N, K\]; not used by [`Sentences::loss`].
    pub before: &'a mut [u32],
}

/// Working memory for sentences of any length, one after the other.
pub struct Sentences {
    /// e^(θ + β − its maximum) of the next token; β; and a row of sums.
    after: Buffer<f64>,
    beta: Buffer<f64>,
    row: Buffer<f64>,
    /// ∂A, summed over the sentences: [K + 2, K].
    gradient: Buffer<f64>,
}

impl Sentences {
    /// Allocates memory for `labels` labels.
    pub fn new(room: &mut Room, labels: usize) -> Self {
        Sentences {
            after: room.zeros(labels),
            beta: room.zeros(labels),
            row: room.zeros(labels),
            gradient: room.zeros(Transitions::rows(labels) * labels),
        }
    }

    /// Clears ∂A, before the first [`Sentences::loss`] of a step.
    pub fn clear(&mut self) {
        self.gradient.fill(0.0);
    }

    /// `da` = `scale` · ∂A of all sentences since [`Sentences::clear`].
    pub fn gradient<R: Real>(&self, da: &mut [R], scale: f64) {
        assert_eq!(da.len(), self.gradient.len());
        da.iter_mut().zip(&*self.gradient).for_each(|(da, g)| *da = R::of(g * scale));
    }

    /// Replaces the scores `theta` \[N, K\] of a sentence by `scale` · ∂J, and adds to ∂A. Returns J, unscaled.
    pub fn loss<R: Real>(
        &mut self,
        lattice: Lattice,
        theta: &mut [R],
        a: &Transitions,
        targets: &[u32],
        scale: f64,
    ) -> f64 {
        let Lattice { forward, shifts, .. } = lattice;
        let (k, n) = (a.labels, targets.len());
        assert!(n > 0 && theta.len() == n * k && forward.len() == n * k && shifts.len() == n);
        let gold = score(theta, a, targets);

        // Forward: log Z.
        let row = &mut self.row;
        for (j, x) in row.iter_mut().enumerate() {
            *x = a.start()[j] + theta[j].f64();
        }
        shifts[0] = exponentials(&mut forward[..k], row);
        for t in 1..n {
            let (past, now) = forward.split_at_mut(t * k);
            products(row, &past[(t - 1) * k..], &a.factors);
            for (x, theta) in row.iter_mut().zip(&theta[t * k..]) {
                *x = ln(*x) + shifts[t - 1] + a.largest + theta.f64();
            }
            shifts[t] = exponentials(&mut now[..k], row);
        }
        let last = &forward[(n - 1) * k..n * k];
        let reaches = |shift: f64| -> f64 { last.iter().zip(a.end()).map(|(p, end)| p * exp(end - shift)).sum() };
        let shift = a.end().iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_z = shifts[n - 1] + shift + ln(reaches(shift));

        // Backward: the marginal probabilities of labels and of pairs of neighbours, minus the gold labels.
        let gradient = &mut self.gradient;
        self.beta.copy_from_slice(a.end());
        for t in (0..n).rev() {
            let y = targets[t] as usize;
            let p = &forward[t * k..][..k];
            for j in 0..k {
                row[j] = self.beta[j] + theta[t * k + j].f64();
                let share = p[j] * exp(shifts[t] + self.beta[j] - log_z);
                let delta = share - f64::from(u8::from(y == j));
                theta[t * k + j] = R::of(delta * scale);
                if t == 0 {
                    gradient[k * k + j] += delta;
                }
                if t + 1 == n {
                    gradient[(k + 1) * k + j] += delta;
                }
            }
            if t == 0 {
                break;
            }
            let shift = exponentials(&mut self.after, row);
            let past = &forward[(t - 1) * k..][..k];
            let factor = exp(shifts[t - 1] + shift + a.largest - log_z);
            for i in 0..k {
                let p = past[i] * factor;
                let (g, e) = (&mut gradient[i * k..][..k], &a.factors[i * k..][..k]);
                for j in 0..k {
                    g[j] += p * e[j] * self.after[j];
                }
            }
            gradient[targets[t - 1] as usize * k + y] -= 1.0;
            products(&mut self.beta, &self.after, &a.transposed);
            self.beta.iter_mut().for_each(|x| *x = ln(*x) + shift + a.largest);
        }
        log_z - gold
    }

    /// The labels of a sentence with the highest score (Viterbi 1967); of equal ones those with the lowest numbers.
    pub fn decode<R: Real>(&mut self, lattice: Lattice, labels: &mut [u32], theta: &[R], a: &Transitions) {
        let Lattice { before, .. } = lattice;
        let (k, n) = (a.labels, labels.len());
        assert!(n > 0 && theta.len() == n * k && before.len() == n * k);
        for (j, best) in self.beta.iter_mut().enumerate() {
            *best = a.start()[j] + theta[j].f64();
        }
        for t in 1..n {
            for j in 0..k {
                let from = largest((0..k).map(|i| self.beta[i] + a.scores[i * k + j]));
                before[t * k + j] = from as u32;
                self.row[j] = self.beta[from] + a.scores[from * k + j] + theta[t * k + j].f64();
            }
            self.beta.copy_from_slice(&self.row);
        }
        labels[n - 1] = largest((0..k).map(|j| self.beta[j] + a.end()[j])) as u32;
        for t in (1..n).rev() {
            labels[t - 1] = before[t * k + labels[t] as usize];
        }
    }
}

/// s(y)
fn score<R: Real>(theta: &[R], a: &Transitions, y: &[u32]) -> f64 {
    let k = a.labels;
    let own = y.iter().enumerate().map(|(t, &y)| theta[t * k + y as usize].f64()).sum::<f64>();
    let pairs = y.windows(2).map(|pair| a.scores[pair[0] as usize * k + pair[1] as usize]).sum::<f64>();
    a.start()[y[0] as usize] + own + pairs + a.end()[y[y.len() - 1] as usize]
}

/// `out` = e^(x − max x); returns max x.
fn exponentials(out: &mut [f64], x: &[f64]) -> f64 {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    out.iter_mut().zip(x).for_each(|(out, x)| *out = exp(x - largest));
    largest
}

/// `out`ⱼ = Σᵢ pᵢ mᵢⱼ
fn products(out: &mut [f64], p: &[f64], m: &[f64]) {
    out.fill(0.0);
    for (p, m) in p.iter().zip(m.chunks_exact(out.len())) {
        out.iter_mut().zip(m).for_each(|(out, m)| *out += p * m);
    }
}

/// The index of the first maximum.
pub fn largest<T: PartialOrd>(x: impl Iterator<Item = T>) -> usize {
    let mut best: Option<(usize, T)> = None;
    for (i, x) in x.enumerate() {
        if best.as_ref().is_none_or(|(_, most)| x > *most) {
            best = Some((i, x));
        }
    }
    best.map_or(0, |(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All label sequences, one after the other.
    fn all(k: usize, n: usize) -> impl Iterator<Item = Vec<u32>> {
        (0..k.pow(n as u32)).map(move |code| (0..n).map(|t| (code / k.pow(t as u32) % k) as u32).collect())
    }

    /// The loss of a sentence and its gradient, with memory of its own.
    fn loss(theta: &mut [f64], a: &Transitions, targets: &[u32], scale: f64) -> f64 {
        let (n, k) = (targets.len(), a.labels);
        let (mut forward, mut shifts) = (vec![0.0; n * k], vec![0.0; n]);
        let mut work = Room::make(|room| Sentences::new(room, k));
        work.clear();
        let lattice = Lattice { forward: &mut forward, shifts: &mut shifts, before: &mut [] };
        work.loss(lattice, theta, a, targets, scale)
    }

    fn decode(labels: &mut [u32], theta: &[f64], a: &Transitions) {
        let mut before = vec![0; theta.len()];
        let mut work = Room::make(|room| Sentences::new(room, a.labels));
        work.decode(Lattice { forward: &mut [], shifts: &mut [], before: &mut before }, labels, theta, a);
    }

    fn case(k: usize, n: usize, width: f64) -> (Transitions, Vec<f64>) {
        let number = |i: usize| (((i * 7919 + 13) % 101) as f64 / 50.0 - 1.0) * width;
        let mut a = Room::make(|room| Transitions::new(room, k));
        let scores: Vec<f64> = (0..Transitions::rows(k) * k).map(|i| number(i * 3 + 1)).collect();
        a.refresh(&scores);
        (a, (0..n * k).map(|i| number(i * 5 + 2)).collect())
    }

    #[test]
    fn agrees_with_enumeration() {
        for (k, n, width) in [(3, 4, 1.0), (2, 6, 3.0), (4, 1, 1.0), (3, 5, 40.0)] {
            let (a, theta) = case(k, n, width);
            let gold: Vec<u32> = (0..n).map(|t| (t * 2 % k) as u32).collect();
            let scores: Vec<(f64, Vec<u32>)> = all(k, n).map(|y| (score(&theta, &a, &y), y)).collect();
            let best = scores.iter().map(|(s, _)| *s).fold(f64::NEG_INFINITY, f64::max);
            let log_z = best + scores.iter().map(|(s, _)| (s - best).exp()).sum::<f64>().ln();
            let mut delta = theta.clone();
            let loss = loss(&mut delta, &a, &gold, 0.5);
            let expected = log_z - score(&theta, &a, &gold);
            assert!((loss - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{loss} {expected}");
            // The marginal probability of each label, by enumeration.
            for (i, &delta) in delta.iter().enumerate() {
                let (t, j) = (i / k, (i % k) as u32);
                let share: f64 = scores.iter().filter(|(_, y)| y[t] == j).map(|(s, _)| (s - log_z).exp()).sum();
                let expected = 0.5 * (share - f64::from(u8::from(gold[t] == j)));
                assert!((delta - expected).abs() <= 1e-12, "θ {t} {j}: {delta} {expected}");
            }
            let mut labels = vec![0; n];
            decode(&mut labels, &theta, &a);
            assert!((score(&theta, &a, &labels) - best).abs() <= 1e-12 * best.abs(), "Viterbi finds the best");
        }
    }

    #[test]
    fn scores_that_would_overflow_a_sum_of_exponentials() {
        let (mut a, theta) = case(3, 50, 1.0);
        let far: Vec<f64> = a.scores.iter().map(|x| x * 300.0).collect();
        a.refresh(&far);
        // What is added has no pattern, so that no two sequences are equally good.
        let extra = |i: usize| ((i * i) as f64 * 0.618_033_988_749).fract() * 400.0;
        let theta: Vec<f64> = theta.iter().enumerate().map(|(i, x)| x * 900.0 + extra(i)).collect();
        let mut labels = vec![0; 50];
        decode(&mut labels, &theta, &a);
        let loss = loss(&mut theta.clone(), &a, &labels, 1.0);
        assert!((0.0..1.0).contains(&loss), "the best labels are almost certain: {loss}");
    }
}
