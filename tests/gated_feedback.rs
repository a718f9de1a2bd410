//! The gated-feedback net against its equations written out, one number at a time, and what the source's gradient leaves out.

mod common;

use common::{assert_all_close, fill_uniform};
use std::collections::BTreeMap;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::cells::{Cell, Unit};
use wordmill::models::LanguageModel;
use wordmill::models::language_model::{Config, Noise, Window};
use wordmill::params::{Arena, Gradients};

const T: usize = 6;
const L: usize = 3;
const D: usize = 4;
const H: usize = 5;
const V: usize = 7;

type Tensors = BTreeMap<String, Vec<f64>>;

/// Σᵢ x[i] · m[i·columns + j]
fn times(x: &[f64], m: &[f64], columns: usize, j: usize) -> f64 {
    x.iter().enumerate().map(|(i, x)| x * m[i * columns + j]).sum()
}

/// The gradient of the mean cross-entropy of a net of tanh units by section 8 of the equations; without `cross`, ∂s reaches neither
/// the layer below nor any state before: the gates are taken for constants of the states, as in the source.
#[expect(clippy::needless_range_loop, reason = "the indices of the equations")]
fn by_the_equations(w: &Tensors, inputs: &[u32], targets: &[u32], cross: bool) -> Tensors {
    let of = |name: &str, l: usize| &w[&format!("layer{l}.{name}")];
    let input = |l: usize, h: &[Vec<f64>], t: usize| {
        if l == 0 { w["embedding"][inputs[t] as usize * D..][..D].to_vec() } else { h[l - 1].clone() }
    };
    let block = |i: usize, j: usize, k: usize, m: usize| of("recurrent", i)[k * L * H + j * H + m];
    // h[t] are the states before step t, of each layer.
    let mut h = vec![vec![vec![0.0; H]; L]];
    let mut g = Vec::new();
    for t in 0..T {
        let past = h[t].clone();
        let star = past.concat();
        let mut now: Vec<Vec<f64>> = Vec::new();
        let mut gates = vec![[0.0; L]; L];
        for j in 0..L {
            let x = input(j, &now, t);
            for (i, gate) in gates[j].iter_mut().enumerate() {
                let s = times(&x, of("gates", j), L, i) + times(&star, &w["gates"], L * L, j * L + i);
                *gate = 1.0 / (1.0 + (-s).exp());
            }
            let unit = |m: usize| {
                let v = |i: usize| (0..H).map(|k| past[i][k] * block(i, j, k, m)).sum::<f64>();
                let sum: f64 = (0..L).map(|i| gates[j][i] * v(i)).sum();
                (times(&x, of("input", j), H, m) + of("bias", j)[m] + sum).tanh()
            };
            now.push((0..H).map(unit).collect());
        }
        h.push(now);
        g.push(gates);
    }
    let mut d: Tensors = w.iter().map(|(name, x)| (name.clone(), vec![0.0; x.len()])).collect();
    let mut back = vec![vec![0.0; H]; L];
    for t in (0..T).rev() {
        let (past, now) = (&h[t], &h[t + 1]);
        let mut dh = std::mem::replace(&mut back, vec![vec![0.0; H]; L]);
        let theta: Vec<f64> = (0..V)
            .map(|v| w["output.bias"][v] + (0..H).map(|k| now[L - 1][k] * w["output"][v * H + k]).sum::<f64>())
            .collect();
        let sum: f64 = theta.iter().map(|x| x.exp()).sum();
        for v in 0..V {
            let error = (theta[v].exp() / sum - f64::from(v == targets[t] as usize)) / T as f64;
            d.get_mut("output.bias").unwrap()[v] += error;
            for k in 0..H {
                d.get_mut("output").unwrap()[v * H + k] += error * now[L - 1][k];
                dh[L - 1][k] += error * w["output"][v * H + k];
            }
        }
        for j in (0..L).rev() {
            let mut add = |name: &str, at: usize, x: f64| d.get_mut(name).unwrap()[at] += x;
            let x = input(j, now, t);
            let e: Vec<f64> = (0..H).map(|m| dh[j][m] * (1.0 - now[j][m] * now[j][m])).collect();
            let mut dx: Vec<f64> =
                (0..x.len()).map(|k| (0..H).map(|m| e[m] * of("input", j)[k * H + m]).sum()).collect();
            for m in 0..H {
                add(&format!("layer{j}.bias"), m, e[m]);
                (0..x.len()).for_each(|k| add(&format!("layer{j}.input"), k * H + m, x[k] * e[m]));
            }
            for i in 0..L {
                let gate = g[t][j][i];
                let mut ds = 0.0;
                for k in 0..H {
                    for m in 0..H {
                        ds += gate * (1.0 - gate) * e[m] * past[i][k] * block(i, j, k, m);
                        add(&format!("layer{i}.recurrent"), k * L * H + j * H + m, gate * past[i][k] * e[m]);
                        back[i][k] += gate * e[m] * block(i, j, k, m);
                    }
                }
                for (k, x) in x.iter().enumerate() {
                    add(&format!("layer{j}.gates"), k * L + i, ds * x);
                    dx[k] += if cross { ds * of("gates", j)[k * L + i] } else { 0.0 };
                }
                for (k, x) in past.concat().iter().enumerate() {
                    add("gates", k * L * L + j * L + i, ds * x);
                    back[k / H][k % H] += if cross { ds * w["gates"][k * L * L + j * L + i] } else { 0.0 };
                }
            }
            if j == 0 {
                (0..D).for_each(|k| add("embedding", inputs[t] as usize * D + k, dx[k]));
            } else {
                (0..H).for_each(|k| dh[j - 1][k] += dx[k]);
            }
        }
    }
    d
}

/// Erratum 4: the exact gradient has the terms that go through the gates; without them it is far off.
#[test]
fn the_gradient_has_the_cross_terms() {
    let config =
        Config { words: V, embed: D, hidden: H, layers: L, cell: Cell::GatedFeedback(Unit::Tanh), ..Config::default() };
    let model = LanguageModel::new(config);
    let mut w = Arena::<f64>::zeros(model.layout());
    fill_uniform(&mut w, 1.2, 5);
    let (inputs, targets) = ([1, 5, 2, 6, 0, 3], [5, 2, 6, 0, 3, 4]);
    let mut space = model.space(T, 1);
    let mut g = Gradients::zeros(model.layout(), T);
    let noise = Noise { keep: Keep::inverted(1.0), seed: 1, step: 1 };
    model.loss_and_gradient(&mut g, &mut space, Window { inputs: &inputs, targets: &targets, loss_from: 0 }, noise, &w);
    let named: Tensors = w.layout().tensors().map(|(p, t)| (t.name.clone(), w.slice(p).to_vec())).collect();
    let exact = by_the_equations(&named, &inputs, &targets, true);
    let source = by_the_equations(&named, &inputs, &targets, false);
    let (mut worst, gradient) = (0.0f64, g.dense(model.layout()));
    for (p, tensor) in w.layout().tensors() {
        assert_all_close(&tensor.name, gradient.slice(p), &exact[&tensor.name], 1e-11);
        let largest = exact[&tensor.name].iter().fold(0.0f64, |a, x| a.max(x.abs()));
        let differences = exact[&tensor.name].iter().zip(&source[&tensor.name]).map(|(a, b)| (a - b).abs() / largest);
        worst = differences.fold(worst, f64::max);
    }
    println!("without the cross terms: relative error {worst:.2}");
    assert!(worst > 0.1, "without the cross terms the error is only {worst}");
}
