//! A training step allocates nothing once it has run a few times: every allocation of every thread is counted.

#[path = "common/cases.rs"]
mod cases;
mod common;

use cases::{Case, cells, losses, rules, together};
use common::{fill_uniform, uniform};
use rayon::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use wordmill::layers::cells::Cell;
use wordmill::models::language_model::Window;
use wordmill::models::{PseudoSiamese, Siamese, pseudo_siamese, siamese};
use wordmill::params::{Arena, Gradients};
use wordmill::profile::{self, Part, Profile};
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::stepper::Stepper;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether the allocations of this thread count. Those of the test harness do not: after a minute it prints that a test runs long.
    static COUNTS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn count() {
    if COUNTS.get() {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: everything is the system allocator's doing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const WORDS: usize = 9001;
const WARM_UP: u64 = 3;
const COUNTED: u64 = 40;

/// Every thread of the pool takes work from another once, and allocates what it needs for that: in short steps on a busy machine it
/// may happen late.
fn every_thread_takes_part() {
    rayon::broadcast(|_| COUNTS.set(true));
    (0..64).into_par_iter().with_max_len(1).for_each(|_| std::thread::sleep(std::time::Duration::from_millis(1)));
}

/// Allocations of each step after the first few. `words(step, i)` is the word that step reads at place i.
fn allocations(threads: usize, rule: Rule, case: &Case, words: impl Fn(u64, usize) -> u32 + Sync) -> Vec<usize> {
    wordmill::pool::pool(threads).expect("a pool").install(|| {
        every_thread_takes_part();
        let mut w = Arena::<f32>::zeros(case.model().layout());
        fill_uniform(&mut w, 0.2, 1);
        let mut run = case.training(w, 0, |model| Optimizer::new(rule, 0.5, 1e-4, model.layout()));
        let tokens = case.steps * case.lanes;
        let mut ids = vec![0; tokens + case.lanes];
        let mut counts = Vec::with_capacity(COUNTED as usize);
        for step in 1..=WARM_UP + COUNTED {
            ids.iter_mut().enumerate().for_each(|(i, id)| *id = words(step, i));
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            let window = Window { inputs: &ids[..tokens], targets: &ids[case.lanes..], loss_from: 1 };
            let done = run.step(window, 0.01);
            run.model.carry(&mut run.space, case.steps - 1);
            let count = ALLOCATIONS.load(Ordering::SeqCst) - before;
            assert!(done.outcome.is_finite() && done.norm.is_finite());
            if step > WARM_UP {
                counts.push(count);
            }
        }
        counts
    })
}

/// As many spans as there were steps, products in their parts, and tasks within spans: here, where nothing else is running.
fn spans_are_of_the_run(profile: &Profile, case: &Case) {
    let steps = WARM_UP + COUNTED;
    for part in [Part::Pack, Part::Forward, Part::Backward, Part::Sum, Part::CatchUp, Part::Norm, Part::Update] {
        assert_eq!(profile.totals[part as usize].count, steps, "{part:?}");
    }
    // Rows × columns × inner × 2 of a step's products: input, state, and their gradients; the first step's has no state before.
    let sizes = [case.steps * case.lanes, case.lanes, case.config.embed, case.config.hidden];
    let [tokens, lanes, d, h] = sizes.map(|n| n as u64);
    let there = tokens * 3 * h * (d + h) + 2 * tokens * 3 * h * h;
    assert_eq!(profile.totals[Part::Forward as usize].flop, steps * 2 * there);
    let back = tokens * 3 * h * (d + h) + 2 * tokens * 3 * h * h;
    let states = 2 * (tokens - lanes) * 3 * h * h;
    assert_eq!(profile.totals[Part::Backward as usize].flop, steps * 2 * (back + tokens * 3 * h * (d + h) + states));
    let sum = profile.totals.iter().map(|total| total.time).sum::<std::time::Duration>();
    assert!(sum <= profile.time, "{sum:?} of {:?}", profile.time);
    for total in &profile.totals {
        assert!(total.tasks <= 2 * total.time && total.multiplying <= 2 * total.time, "{total:?}");
    }
    assert_eq!(profile.dropped, 0);
}

/// The same of the nets on pairs of words and on words with labels, over several shards.
fn allocations_of_pairs(threads: usize) -> Vec<usize> {
    const PAIRS: usize = 150;
    let loss = siamese::Loss::Contrastive { margin: 1.0 };
    let net = Siamese::new(siamese::Config { words: WORDS, embed: 11, hidden: 13, loss, freeze: false });
    let config = pseudo_siamese::Config {
        words: Some(WORDS),
        embed: 11,
        hidden: 13,
        labels: 5,
        freeze: false,
        dropout_penalty: 0.3,
    };
    let other = PseudoSiamese::new(config);
    wordmill::pool::pool(threads).expect("a pool").install(|| {
        let (mut w, mut v) = (Arena::<f32>::zeros(net.layout()), Arena::<f32>::zeros(other.layout()));
        fill_uniform(&mut w, 0.2, 1);
        fill_uniform(&mut v, 0.2, 2);
        let (mut space, mut other_space) = (net.space(PAIRS), other.space(PAIRS));
        let adam = Optimizer::new(Rule::Adam, f64::INFINITY, 1e-4, net.trained()).lazy();
        let mut adam = Stepper::new(w, Gradients::zeros(net.trained(), 2 * PAIRS), adam, 0);
        let adagrad = Optimizer::new(Rule::Adagrad, f64::INFINITY, 0.0, other.trained()).lazy().proximal(1e-3, 1e-3);
        let mut adagrad = Stepper::new(v, Gradients::zeros(other.trained(), PAIRS), adagrad, 0);
        let (mut first, mut second, mut targets) = (vec![0; PAIRS], vec![0; PAIRS], vec![0; PAIRS]);
        let alike: Vec<f32> = (0..PAIRS).map(|i| (i % 2) as f32).collect();
        every_thread_takes_part();
        let mut counts = Vec::with_capacity(COUNTED as usize);
        for step in 1..=WARM_UP + COUNTED {
            for i in 0..PAIRS {
                first[i] = ((step as usize * 7919 + i * 104_729) % WORDS) as u32;
                second[i] = ((step as usize + i / 7 * 31) % WORDS) as u32;
                targets[i] = (i % 5) as u32;
            }
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            let batch = siamese::Batch { first: &first, second: &second, alike: &alike };
            adam.touch(|_, _| ()).step(|g, (), w| net.step(g, &mut space, batch, w)).update(0.01);
            let input = pseudo_siamese::Input::Words(&first);
            adagrad.touch(|_, _| ()).step(|g, (), w| other.step(g, &mut other_space, input, &targets, w)).update(0.01);
            if step > WARM_UP {
                counts.push(ALLOCATIONS.load(Ordering::SeqCst) - before);
            }
        }
        counts
    })
}

/// One test, as the allocations of tests that run beside each other cannot be told apart.
#[test]
fn a_step_allocates_nothing() {
    COUNTS.set(true);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    drop(std::hint::black_box(uniform::<f32>(10, 1.0, 1)));
    assert!(ALLOCATIONS.load(Ordering::SeqCst) > before, "the counter counts");

    let spread = |step: u64, i: usize| ((step as usize * 7919 + i * 104_729) % WORDS) as u32;
    profile::start();
    let case = Case::large(Cell::Gru, WORDS);
    let counts = allocations(2, Rule::Adam, &case, spread);
    let profile = profile::finish().expect("it was started");
    assert_eq!(counts, vec![0; COUNTED as usize], "allocations a profiled step");
    spans_are_of_the_run(&profile, &case);

    for threads in [1, 2] {
        assert_eq!(allocations_of_pairs(threads), vec![0; COUNTED as usize], "pairs, {threads} threads");
        for ((cell, loss), rule) in together(&together(&cells(), &losses(WORDS)), &rules()) {
            // Words all over the vocabulary, then more and more of one: whatever is kept per word or group must have room.
            let crowding = |step: u64, i: usize| {
                let crowded = i < step as usize * 8;
                if crowded { (step % 40 * 220) as u32 + i as u32 % 7 } else { spread(step, i) }
            };
            let case = Case::large(cell, WORDS).loss(loss);
            // Twice in f32 where there is nothing else.
            for case in [case.rounded(), case] {
                let counts = [allocations(threads, rule, &case, spread), allocations(threads, rule, &case, crowding)];
                let zero = vec![0; COUNTED as usize];
                assert_eq!(counts, [zero.clone(), zero], "allocations a step, {threads} threads, {rule:?}, {case:?}");
            }
        }
    }
}
