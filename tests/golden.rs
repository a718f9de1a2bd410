//! The contract of bits: the same configuration, data and seed give the same weights on every x86-64 processor with FMA, by any number of
//! threads. Each run here has the SHA-256 of its weights and losses in fixtures/golden.txt, and every processor that runs the tests has to
//! come to it. A change that is meant to change bits writes the file anew: WORDMILL_GOLDEN=write cargo test --test golden

#[path = "common/cases.rs"]
mod cases;
mod common;

use cases::{Case, cells, kinds, losses, rules, together};
use ndarray::ArrayView2;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::Keep;
use wordmill::kernels::isa;
use wordmill::layers::cells::Cell;
use wordmill::models::language_model::Window;
use wordmill::models::{Init, LanguageModel, Ner, PseudoSiamese, Siamese, SoftmaxRegression};
use wordmill::models::{ner, pseudo_siamese, siamese, softmax_regression};
use wordmill::params::{Arena, Gradients, Layout};
use wordmill::text::blobs::Blobs;
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::stepper::Stepper;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden.txt");
const STEPS: u64 = 40;

/// Numbers of threads that are compared: `WORDMILL_TEST_THREADS` names others, as 1,2,16.
fn threads() -> Vec<usize> {
    let given = std::env::var("WORDMILL_TEST_THREADS").unwrap_or_else(|_| "1,2,5".into());
    given.split(',').map(|n| n.parse().expect("numbers")).collect()
}

/// What a run comes to: its weights at the end, and the loss of every step.
type Result = (Vec<f32>, Vec<f64>);

/// Runs by their names.
type Runs = Vec<(String, Box<dyn Fn() -> Result + Sync>)>;

/// A number without pattern, below `below`.
fn number(i: u64, below: usize) -> u32 {
    ((i * i * 2_654_435_761 + i * 40_503) % 1_000_003 % below as u64) as u32
}

/// Steps of a language model on windows of numbers without pattern, of which few are frequent.
fn language_model(case: &Case, rule: Rule) -> Result {
    let model = case.model();
    let w = model.begin(Init::Orthogonal, case.seed, &case.counts());
    let mut run = case.training(w, 0, |model: &LanguageModel| Optimizer::new(rule, 0.3, 1e-4, model.layout()));
    let tokens = case.steps * case.lanes;
    let word = |i: u64| number(i, case.config.words) * number(i + 1, 1000) / 1000;
    let losses = (0..STEPS).map(|step| {
        let ids: Vec<u32> = (0..(tokens + case.lanes) as u64).map(|i| word(step * 1009 + i)).collect();
        let window = Window { inputs: &ids[..tokens], targets: &ids[case.lanes..], loss_from: case.loss_from };
        let loss = run.step(window, 0.05).outcome;
        run.model.carry(&mut run.space, case.steps - case.loss_from);
        loss
    });
    let losses = losses.collect();
    run.stepper.catch_up_all();
    (run.stepper.w.all().to_vec(), losses)
}

/// Steps of another net.
fn other_net(
    layout: &std::sync::Arc<Layout>,
    trained: &std::sync::Arc<Layout>,
    rows: usize,
    optimizer: Optimizer<f32>,
    mut step: impl FnMut(&mut Gradients<f32>, u64, &Arena<f32>) -> f64,
) -> Result {
    let mut w = Arena::zeros(layout);
    Init::Xavier.fill(&mut w, 7);
    let mut stepper = Stepper::new(w, Gradients::zeros(trained, rows), optimizer, 0);
    let mut one = |i| stepper.touch(|_, _| ()).step(|g, (), w| step(g, i, w)).update(0.05).outcome;
    let losses = (0..STEPS).map(&mut one).collect();
    (stepper.w.all().to_vec(), losses)
}

/// A tagger of two tables, in five shards of tokens at least.
fn tagger(objective: ner::Objective, keep: f64) -> Result {
    const TOKENS: usize = 150;
    let table = |name: &str, rows, width| ner::Table { name: name.into(), rows, width };
    let tables = vec![table("embedding", 307, 11), table("suffix", 29, 5)];
    let rows = tables.iter().map(|table| table.rows).collect::<Vec<_>>();
    let net = Ner::new(ner::Config { tables, window: 3, hidden: 37, labels: 9, objective });
    let mut space = net.space(TOKENS, true);
    // Sentences of 1 to 19 tokens.
    let mut ends: Vec<usize> = (0..)
        .map(|i| number(i, 19) as usize + 1)
        .scan(0, |end, n| {
            *end += n;
            (*end < TOKENS).then_some(*end)
        })
        .collect();
    ends.push(TOKENS);
    let optimizer = Optimizer::new(Rule::Adagrad, f64::INFINITY, 1e-3, net.layout()).lazy();
    other_net(net.layout(), net.layout(), TOKENS * 3, optimizer, |g, step, w| {
        let inputs: Vec<Vec<u32>> =
            rows.iter().map(|&rows| (0..TOKENS as u64 * 3).map(|i| number(step * 997 + i, rows)).collect()).collect();
        let targets: Vec<u32> = (0..TOKENS as u64).map(|i| number(step * 997 + 3 * i + 1, 9)).collect();
        let noise = ner::Noise { keep: Keep::inverted(keep), seed: 5, step, freeze: false };
        net.step(g, &mut space, ner::Batch { inputs: &inputs, ends: &ends }, &targets, noise, w)
    })
}

fn siamese_net(loss: siamese::Loss) -> Result {
    let pairs = 3 * siamese::SHARD + 13;
    let net = Siamese::new(siamese::Config { words: 211, embed: 19, hidden: 23, loss, freeze: false });
    let mut space = net.space(pairs);
    let optimizer = Optimizer::new(Rule::Adam, f64::INFINITY, 1e-4, net.trained()).lazy();
    other_net(net.layout(), net.trained(), 2 * pairs, optimizer, |g, step, w| {
        let words = |salt| (0..pairs as u64).map(|i| number(step * 499 + i * 2 + salt, 211)).collect::<Vec<_>>();
        let alike: Vec<f32> = (0..pairs).map(|i| [0.0, 1.0, 0.0, 0.25][i % 4]).collect();
        net.step(g, &mut space, siamese::Batch { first: &words(0), second: &words(1), alike: &alike }, w)
    })
}

fn pseudo_siamese_net(dropout_penalty: f64) -> Result {
    let examples = 4 * pseudo_siamese::SHARD + 9;
    let config =
        pseudo_siamese::Config { words: Some(211), embed: 19, hidden: 23, labels: 5, freeze: false, dropout_penalty };
    let net = PseudoSiamese::new(config);
    let mut space = net.space(examples);
    let optimizer = Optimizer::new(Rule::Adagrad, 0.5, 0.0, net.trained()).lazy().proximal(1e-4, 1e-3);
    other_net(net.layout(), net.trained(), examples, optimizer, |g, step, w| {
        let words: Vec<u32> = (0..examples as u64).map(|i| number(step * 499 + i, 211)).collect();
        let labels: Vec<u32> = words.iter().map(|word| word % 5).collect();
        net.step(g, &mut space, pseudo_siamese::Input::Words(&words), &labels, w)
    })
}

/// On points drawn from normal distributions.
fn softmax_regression(dropout_penalty: f64) -> Result {
    let net = SoftmaxRegression::new(softmax_regression::Config { features: 2, classes: 5, dropout_penalty });
    let csv = Blobs::draw(203, 3, 0).csv();
    let rows = csv.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
    let x: Vec<f32> =
        rows.flat_map(|row| row[..2].iter().map(|x| x.parse().expect("a number")).collect::<Vec<_>>()).collect();
    let y: Vec<u32> = (0..203).map(|i| i % 5).collect();
    let x = ArrayView2::from_shape((203, 2), &x).expect("the points have two places");
    let mut space = net.space(203);
    let optimizer = Optimizer::new(Rule::Sgd, f64::INFINITY, 1e-3, net.layout()).proximal(1e-4, 0.0);
    other_net(net.layout(), net.layout(), 0, optimizer, |g, _, w| net.step(g, &mut space, x, &y, w))
}

/// Every cell, loss and optimizer of the registry, what can be chosen beside them, and the other models.
fn runs() -> Runs {
    let mut runs: Runs = Vec::new();
    let mut of_case = |name: String, case: Case, rule: Rule| {
        runs.push((format!("{name}, {rule:?}"), Box::new(move || language_model(&case, rule))));
    };
    // Five shards of eight lanes at most; of 37, two less than in the last.
    let small =
        |cell, words| Case::large(cell, words).layers(1).keep(1.0).with(|case| case.config.sizes.shard = Some(8));
    for (cell, rule) in together(&cells(), &rules()) {
        of_case(format!("{cell:?}, two layers, dropout"), small(cell, 401).layers(2).keep(0.8), rule);
    }
    for ((loss, cell), rule) in together(&together(&losses(1301), &kinds()), &rules()) {
        of_case(format!("{cell:?}, {loss:?}"), small(cell, 1301).loss(loss), rule);
    }
    let tanh = small(Cell::Rnn(Activation::Tanh), 401);
    for rule in rules() {
        // Of tied weights no step touches few rows only: a sum for each row is one for each weight.
        if rule != Rule::AdagradRowwise {
            of_case("tied".into(), tanh.tied(), rule);
        }
        of_case("stride".into(), tanh.with(|case| case.loss_from = 4), rule);
    }
    let variational = |case: &mut Case| (case.config.variational, case.keep) = (true, Keep::unscaled(0.7));
    of_case("one mask for all steps".into(), tanh.layers(2).with(variational), Rule::Adam);
    // Inner sizes beyond a block of the products.
    let deep = |case: &mut Case| (case.config.embed, case.config.hidden, case.lanes, case.steps) = (389, 401, 3, 3);
    of_case("wide".into(), small(Cell::Rnn(Activation::Tanh), 83).with(deep), Rule::Adagrad);
    let long = |case: &mut Case| (case.lanes, case.steps, case.config.sizes.shard) = (9, 45, Some(9));
    of_case("long".into(), tanh.with(long), Rule::Sgd);

    let mut add = |name: &str, run: Box<dyn Fn() -> Result + Sync>| runs.push((name.into(), run));
    add("tagger, window", Box::new(|| tagger(ner::Objective::Window, 0.8)));
    add("tagger, sentence", Box::new(|| tagger(ner::Objective::Sentence, 1.0)));
    add("siamese, contrastive", Box::new(|| siamese_net(siamese::Loss::Contrastive { margin: 0.9 })));
    add("siamese, source", Box::new(|| siamese_net(siamese::Loss::Source)));
    add("pseudo-siamese", Box::new(|| pseudo_siamese_net(0.0)));
    add("pseudo-siamese, penalty", Box::new(|| pseudo_siamese_net(0.3)));
    add("softmax regression", Box::new(|| softmax_regression(0.0)));
    add("softmax regression, penalty", Box::new(|| softmax_regression(0.3)));
    runs
}

/// The SHA-256 of what a run comes to.
fn sum(name: &str, (weights, losses): &Result) -> String {
    assert!(weights.iter().all(|x| x.is_finite()) && losses.iter().all(|x| x.is_finite()), "{name}: not finite");
    let mut hash = Sha256::new();
    weights.iter().for_each(|x| hash.update(x.to_le_bytes()));
    losses.iter().for_each(|x| hash.update(x.to_le_bytes()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn weights_are_those_recorded() {
    if cfg!(feature = "linked-blas") {
        println!("skipped: a linked library adds up in an order of its own");
        return;
    }
    let (threads, mut found) = (threads(), BTreeMap::new());
    for (name, run) in runs() {
        let of = |threads: &usize| sum(&name, &wordmill::pool::pool(*threads).expect("a pool").install(&run));
        let mut sums: Vec<String> = threads.iter().map(of).collect();
        assert!(sums.iter().all(|sum| *sum == sums[0]), "{name}: {threads:?} threads come to {sums:?}");
        let sum = sums.swap_remove(0);
        assert!(found.insert(name.clone(), sum).is_none(), "two runs are named {name}");
    }
    let distinct: std::collections::BTreeSet<_> = found.values().collect();
    assert_eq!(distinct.len(), found.len(), "different runs come to different weights");
    if std::env::var_os("WORDMILL_GOLDEN").is_some_and(|value| value == "write") {
        let mut text = String::new();
        found.iter().for_each(|(name, sum)| writeln!(text, "{sum}  {name}").expect("a string takes all"));
        std::fs::write(FILE, text).expect("the file can be written");
        return;
    }
    let text = std::fs::read_to_string(FILE).expect("the recorded sums are there");
    let recorded: BTreeMap<_, _> = text
        .lines()
        .map(|line| line.split_once("  ").expect("a sum and a name"))
        .map(|(sum, name)| (name, sum))
        .collect();
    let mut faults = Vec::new();
    for (name, sum) in &found {
        match recorded.get(name.as_str()) {
            Some(known) if known == sum => {}
            Some(known) => faults.push(format!("{name}: {sum}, recorded is {known}")),
            None => faults.push(format!("{name}: {sum}, and nothing is recorded")),
        }
    }
    let gone = recorded.keys().filter(|name| !found.contains_key(**name));
    faults.extend(gone.map(|name| format!("{name}: recorded, and there is no such run")));
    assert!(
        faults.is_empty(),
        "on {}, {} of {} runs (WORDMILL_GOLDEN=write cargo test --test golden records them):\n{}",
        isa(),
        faults.len(),
        found.len(),
        faults.join("\n")
    );
}
