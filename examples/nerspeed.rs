use std::time::Instant;
use wordmill::kernels::dropout::Keep;
use wordmill::models::ner::*;
use wordmill::models::{Init, Ner};
use wordmill::params::*;
use wordmill::train::optimizer::*;
fn main() {
    let a: Vec<usize> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let [v, d, h, k, b, threads, steps, sentence] = a[..] else { panic!() };
    let objective = if sentence > 0 { Objective::Sentence } else { Objective::Window };
    let m = Ner::new(Config {
        tables: vec![Table { name: "embedding".into(), rows: v, width: d }],
        window: 3,
        hidden: h,
        labels: k,
        objective,
    });
    wordmill::pool::pool(threads).unwrap().install(|| {
        let mut w = Arena::<f32>::zeros(m.layout());
        Init::Xavier.fill(&mut w, 1);
        let mut g = Gradients::zeros(m.layout(), 3 * b);
        let mut o = Optimizer::new(Rule::Adam, f64::INFINITY, 0.001, m.layout()).lazy();
        let mut s = m.space::<f32>(b, b, true);
        let mut x = 88172645463325252u64;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 11) as f64 / (1u64 << 53) as f64
        };
        let batches: Vec<(Vec<Vec<u32>>, Vec<u32>)> = (0..500)
            .map(|_| {
                let ids: Vec<u32> = (0..3 * b).map(|_| ((v as f64).powf(next()) as u32).min(v as u32 - 1)).collect();
                let t = (0..b).map(|i| (ids[3 * i + 1] as usize % k) as u32).collect();
                (vec![ids], t)
            })
            .collect();
        let mut times = [0.0f64; 3];
        let mut best = f64::MAX;
        let mut mins = [f64::MAX; 3];
        let ends: Vec<usize> = (1..=b).filter(|i| i % 16 == 0 || *i == b).collect();
        for step in 1..=steps as u64 {
            let (ids, targets) = &batches[step as usize % 500];
            let t = Instant::now();
            let loss = m.step(
                &mut g,
                &mut s,
                Batch { inputs: ids, ends: &ends },
                targets,
                Noise { keep: Keep::inverted(0.9), seed: 1, step },
                |_| false,
                &w,
            );
            let t1 = t.elapsed().as_secs_f64();
            let n = o.norm(&g);
            let t2 = t.elapsed().as_secs_f64();
            o.update(&mut w, &mut g, n, 1e-3, step);
            let t3 = t.elapsed().as_secs_f64();
            if step > 50 {
                times[0] += t1;
                times[1] += t2 - t1;
                times[2] += t3 - t2;
                best = best.min(t3);
                for (m, x) in mins.iter_mut().zip([t1, t2 - t1, t3 - t2]) {
                    *m = m.min(x);
                }
            }
            if step == 1 || step == steps as u64 {
                println!("loss {loss:.4} norm {n:.4}");
            }
        }
        println!("least: step {:.1} norm {:.1} update {:.1} us", mins[0] * 1e6, mins[1] * 1e6, mins[2] * 1e6);
        let n = (steps - 50) as f64;
        println!(
            "step {:.1} us norm {:.1} update {:.1}; {:.0} tokens/s mean {:.0} best",
            times[0] / n * 1e6,
            times[1] / n * 1e6,
            times[2] / n * 1e6,
            b as f64 * n / times.iter().sum::<f64>(),
            b as f64 / best,
        );
    });
}
