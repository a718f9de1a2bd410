//! The time of a training step and of its parts, without text or files:
//! `cargo run --release --example steptime -- VOCABULARY EMBED HIDDEN TAU BATCH THREADS STEPS`

use std::time::Instant;
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::Keep;
use wordmill::models::language_model::*;
use wordmill::params::*;
use wordmill::train::optimizer::*;
fn main() {
    let a: Vec<usize> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let [v, d, h, tau, b, threads, steps] = a[..] else { panic!() };
    let m = LanguageModel::new(Config {
        words: v,
        embed: d,
        hidden: h,
        layers: 1,
        activation: Activation::Tanh,
        reset_at: None,
    });
    wordmill::pool::pool(threads).unwrap().install(|| {
        let mut w = Arena::<f32>::zeros(m.layout());
        for (i, x) in w.all_mut().iter_mut().enumerate() {
            *x = ((i * 7919) % 1000) as f32 * 2e-4 - 0.1;
        }
        let mut g = Gradients::zeros(m.layout(), tau * b);
        let mut o = Optimizer::new(Rule::Adam, 5.0, 0.0, m.layout());
        let mut s = m.space::<f32>(tau, b);
        let ids: Vec<u32> = (0..(tau + 1) * b).map(|i| ((i * 104729) % v) as u32).collect();
        let mut times = [0.0f64; 3];
        let mut best = f64::MAX;
        for step in 1..=steps as u64 {
            let t = Instant::now();
            let loss = m.step(
                &mut g,
                &mut s,
                Window { inputs: &ids[..tau * b], targets: &ids[b..], loss_from: 0 },
                Noise { keep: Keep::inverted(0.9), seed: 1, step },
                &w,
            );
            let t1 = t.elapsed().as_secs_f64();
            let n = o.norm(&g);
            let t2 = t.elapsed().as_secs_f64();
            o.update(&mut w, &mut g, n, 1e-3, step);
            m.carry(&mut s, tau);
            let t3 = t.elapsed().as_secs_f64();
            if step > 5 {
                times[0] += t1;
                times[1] += t2 - t1;
                times[2] += t3 - t2;
                best = best.min(t3);
            }
            if step == 1 || step == steps as u64 {
                println!("loss {loss:.4} norm {n:.4}");
            }
        }
        let n = (steps - 5) as f64;
        println!(
            "step {:.3} ms norm {:.3} update {:.3}; {:.0} words/s mean {:.0} best; gemm limit at 200: {:.0}",
            times[0] / n * 1e3,
            times[1] / n * 1e3,
            times[2] / n * 1e3,
            (tau * b) as f64 * n / times.iter().sum::<f64>(),
            (tau * b) as f64 / best,
            200e9 / (6.0 * (v * h + d * h + h * h) as f64)
        );
    });
}
