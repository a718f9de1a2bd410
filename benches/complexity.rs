//! Time per token over grids of |V|, D_h, d and τ, on one thread; `wordmill complexity` fits the theory to it. Each sweep varies one
//! size, where the term with this size is most of the work; the names contain the sizes.

use crate::step::{Step, Walk};
use criterion::{BenchmarkId, Criterion, Throughput};
use wordmill::layers::output::{Draws, Negatives, Objective};
use wordmill::models::language_model::{Config, Loss};
use wordmill::pool::pool;
use wordmill::train::optimizer::Rule;

const LANES: usize = 32;

/// V, D, H, τ, stride.
type Sizes = (usize, usize, usize, usize, usize);

/// The sweeps with their names.
fn sweeps() -> Vec<(&'static str, Vec<Sizes>)> {
    let doubled =
        |from: usize, to: usize| std::iter::successors(Some(from), |n| Some(n * 2)).take_while(move |&n| n <= to);
    let decades = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000];
    vec![
        ("vocabulary", decades.map(|v| (v, 16, 64, 10, 10)).to_vec()),
        ("hidden", doubled(64, 1024).map(|h| (20_000, 16, h, 10, 10)).collect()),
        ("embedding", doubled(8, 64).map(|d| (10_000, d, 256, 10, 10)).collect()),
        ("recurrent", doubled(64, 1024).map(|h| (64, 16, h, 16, 1)).collect()),
        ("tau", doubled(1, 64).map(|tau| (64, 16, 256, tau, 1)).collect()),
        ("tau, stride tau", doubled(1, 64).map(|tau| (1_000, 16, 256, tau, tau)).collect()),
        ("sampled", [10_000, 100_000, 1_000_000].map(|v| (v, 256, 256, 10, 10)).to_vec()),
    ]
}

/// The group.
pub fn group(c: &mut Criterion) {
    let pool = pool(1).expect("a thread can be had");
    let mut group = c.benchmark_group("complexity");
    for (sweep, sizes) in sweeps() {
        for (words, embed, hidden, tau, stride) in sizes {
            let mut step = None;
            let id = BenchmarkId::new(sweep, format!("V={words} D={embed} H={hidden} tau={tau} stride={stride}"));
            group.throughput(Throughput::Elements((LANES * stride) as u64));
            group.bench_function(id, |b| {
                let step = step.get_or_insert_with(|| {
                    let draws = Draws::WithReplacement;
                    let (loss, rule) = if sweep == "sampled" {
                        let sample = Loss::Sampled {
                            objective: Objective::Softmax,
                            draws,
                            negatives: Negatives::Shared,
                            samples: 1024,
                            power: None,
                        };
                        (sample, Rule::Adagrad)
                    } else {
                        (Loss::Full, Rule::Sgd)
                    };
                    let config = Config { words, embed, hidden, loss, ..Config::default() };
                    Step::new(config, Walk { tau, stride, lanes: LANES }, rule)
                });
                b.iter(|| pool.install(|| step.run()));
            });
        }
    }
}
