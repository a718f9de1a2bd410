//! Memory that is made once serves batches of every shape: what each gives is, bit for bit, what it gives in fresh memory, whatever
//! came before it and however many threads there are. First the models, then the program.

#[path = "common/cases.rs"]
mod cases;
mod common;

use cases::{Case, cells, kinds, losses, together};
use common::{fill_uniform, hash, uniform};
use ndarray::ArrayView2;
use rand::RngExt;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use wordmill::kernels::dropout::Keep;
use wordmill::models::language_model::{self, Window};
use wordmill::models::ner::{self, Objective, Table};
use wordmill::models::{Ner, PseudoSiamese, Siamese, SoftmaxRegression, pseudo_siamese, siamese, softmax_regression};
use wordmill::params::{Arena, Gradients, Layout};
use wordmill::rng::{Purpose, Stream};

const THREADS: [usize; 3] = [1, 3, 16];

/// A random number from 1 to `most`, small ones and the largest more often than others.
fn size(stream: &mut Stream, most: usize) -> usize {
    match stream.random_range(0..4) {
        0 => 1 + stream.random_range(0..most.min(3)),
        1 => most,
        _ => stream.random_range(1..=most),
    }
}

fn ids(stream: &mut Stream, n: usize, below: usize) -> Vec<u32> {
    (0..n).map(|_| stream.random_range(0..below as u32)).collect()
}

/// What a step left: its loss and its gradient.
fn result(loss: f64, g: &Gradients<f32>, layout: &std::sync::Arc<Layout>) -> [u64; 2] {
    assert!(loss.is_finite());
    [loss.to_bits(), hash(g.dense(layout).all())]
}

/// The same results on all numbers of threads.
fn on_threads(what: &str, run: impl Fn() -> Vec<[u64; 2]> + Sync) {
    let all = THREADS.map(|threads| wordmill::pool::pool(threads).unwrap().install(&run));
    assert!(!all[0].is_empty() && all.iter().all(|results| *results == all[0]), "{what}: threads change the result");
}

/// Sentences of 1 to 400 tokens: some batches of many short ones, some with a long one among few.
fn sentences(stream: &mut Stream) -> Vec<usize> {
    let (count, most) = ([1, 2, 5, 40][stream.random_range(0..4)], [1, 3, 33, 400][stream.random_range(0..4)]);
    (0..count).map(|_| size(stream, if most == 400 && count == 40 { 60 } else { most })).collect()
}

/// Memory for batches of up to so many tokens, of which no sentence has more than `_longest`.
fn tagger_space(net: &Ner, tokens: usize, _longest: usize, training: bool) -> ner::Space<f32> {
    net.space(tokens, training)
}

#[test]
fn tagger() {
    let cases = [
        (Objective::Window, 4, 5),
        (Objective::Window, 1, 1),
        (Objective::Sentence, 4, 5),
        (Objective::Sentence, 1, 31),
        (Objective::Sentence, 9, 1),
    ];
    for (case, (objective, labels, window)) in cases.into_iter().enumerate() {
        let table = |name: &str, rows, width| Table { name: name.into(), rows, width };
        let tables = vec![table("embedding", 50, 3), table("caps", 4, 2)];
        let net = Ner::new(ner::Config { tables, window, hidden: 6, labels, objective });
        let mut w = Arena::<f32>::zeros(net.layout());
        fill_uniform(&mut w, 0.7, 3);
        for order in 0..4 {
            let what = format!("{objective:?}, {labels} labels, window {window}, order {order}");
            let mut stream = Stream::new(order, Purpose::Shuffle, case as u64, 0);
            let mut batches: Vec<Vec<usize>> = (0..7).map(|_| sentences(&mut stream)).collect();
            // A long sentence in few tokens after a longer batch of short ones, and the other way round.
            batches.extend([vec![65, 1, 31, 34], vec![34, 31, 65], vec![31, 34, 1, 65], vec![1]]);
            let most = batches.iter().map(|lengths| lengths.iter().sum()).max().unwrap();
            let longest = *batches.iter().flatten().max().unwrap();
            on_threads(&what, || {
                let mut stream = Stream::new(order, Purpose::Shuffle, case as u64, 1);
                let mut space = tagger_space(&net, most, longest, true);
                let mut tagging = tagger_space(&net, most, longest, false);
                let mut g = Gradients::zeros(net.layout(), most * window);
                let mut results = Vec::new();
                for (step, lengths) in batches.iter().enumerate() {
                    let n: usize = lengths.iter().sum();
                    let inputs = [ids(&mut stream, n * window, 50), ids(&mut stream, n * window, 4)];
                    let targets = ids(&mut stream, n, labels);
                    let ends: Vec<usize> = lengths
                        .iter()
                        .scan(0, |end, n| {
                            Some({
                                *end += n;
                                *end
                            })
                        })
                        .collect();
                    let batch = ner::Batch { inputs: &inputs, ends: &ends };
                    let noise = ner::Noise { keep: Keep::inverted(0.8), seed: 1, step: step as u64, freeze: false };
                    let loss = net.step(&mut g, &mut space, batch, &targets, noise, &w);
                    let used = result(loss, &g, net.layout());
                    let own = *lengths.iter().max().unwrap();
                    let (mut fresh, mut f) =
                        (tagger_space(&net, n, own, true), Gradients::zeros(net.layout(), n * window));
                    let loss = net.step(&mut f, &mut fresh, batch, &targets, noise, &w);
                    assert_eq!(used, result(loss, &f, net.layout()), "{what}: {lengths:?} after others");
                    let tag = |space: &mut ner::Space<f32>| {
                        let mut labels = vec![0; n];
                        net.predict(&mut labels, space, batch, &w);
                        labels
                    };
                    let labels = tag(&mut tagging);
                    assert_eq!(labels, tag(&mut tagger_space(&net, n, own, false)), "{what}: tagging {lengths:?}");
                    assert_eq!(labels, tag(&mut space), "{what}: tagging {lengths:?} in memory for training");
                    results.extend([used, [labels.iter().map(|&label| u64::from(label)).sum(), 0]]);
                }
                results
            });
        }
    }
}

#[test]
fn language_model() {
    const WORDS: usize = 211;
    for (i, (cell, loss)) in together(&cells(), &losses(WORDS)).into_iter().enumerate() {
        let case =
            Case::large(cell, WORDS).loss(loss).with(|case| (case.steps, case.lanes) = (8, [1, 37, 5, 18][i % 4]));
        let (lanes, what) = (case.lanes, format!("{case:?}"));
        let model = case.model();
        let mut w = Arena::<f32>::zeros(model.layout());
        fill_uniform(&mut w, 0.5, 3);
        on_threads(&what, || {
            let mut stream = Stream::new(1, Purpose::Shuffle, i as u64, 0);
            let training = |steps| case.with(|case| case.steps = steps).space::<f32>(&model);
            let (mut space, mut reading) = (training(case.steps), model.evaluation_space(case.steps, lanes));
            let mut g = case.gradients(&model);
            let mut results = Vec::new();
            for step in 0..12 {
                let steps = size(&mut stream, case.steps);
                let n = steps * lanes;
                let (inputs, targets) = (ids(&mut stream, n, WORDS), ids(&mut stream, n, WORDS));
                let loss_from = stream.random_range(0..steps);
                let window = Window { inputs: &inputs, targets: &targets, loss_from };
                let noise = case.noise(step);
                let (mut fresh, mut f) = (training(steps), case.gradients(&model));
                fresh.states_mut().zip(space.states()).for_each(|(to, from)| to.copy_from_slice(from));
                let loss = model.loss_and_gradient(&mut g, &mut space, window, noise, &w);
                let used = result(loss, &g, model.layout());
                let loss = model.loss_and_gradient(&mut f, &mut fresh, window, noise, &w);
                assert_eq!(used, result(loss, &f, model.layout()), "{what}: {steps} steps from {loss_from}");

                // The same read by an evaluation.
                let mut fresh = model.evaluation_space(steps, lanes);
                fresh.states_mut().zip(reading.states()).for_each(|(to, from)| to.copy_from_slice(from));
                let read = |space: &mut language_model::Space<f32>| {
                    let mut out = vec![0.0; n - loss_from * lanes];
                    model.log_probabilities(&mut out, space, window, &w);
                    out
                };
                let out = read(&mut reading);
                assert_eq!(hash(&out), hash(&read(&mut fresh)), "{what}: evaluation");
                results.extend([used, [hash(&out), 0]]);
                let carried = stream.random_range(0..=steps);
                model.carry(&mut space, carried);
                model.carry(&mut reading, carried);
                model.forget_lane(&mut space, stream.random_range(0..lanes));
            }
            results
        });
    }
}

/// Words that are read one by one, in any number of lanes, are followed by what they are followed by in a window.
#[test]
fn words_are_read_in_any_number_of_lanes() {
    const STEPS: usize = 5;
    for cell in kinds() {
        let model = Case::small(cell).layers(2).with(|case| case.config.words = 31).model();
        let mut w = Arena::<f32>::zeros(model.layout());
        fill_uniform(&mut w, 0.9, 3);
        let text = |lane: usize, t: usize| ((lane * 7 + t * t * 3 + lane * t) % 31) as u32;
        on_threads(&format!("{cell:?}"), || {
            let mut results = Vec::new();
            // The same memory is used for few lanes and for many.
            let mut reading = model.reading(&w, 200);
            for lanes in [70, 1, 33, 2, 64, 7, 100] {
                let all =
                    |next| (0..STEPS * lanes).map(move |i| text(i % lanes, i / lanes + next)).collect::<Vec<u32>>();
                let (inputs, targets) = (all(0), all(1));
                let mut expected = vec![0.0; STEPS * lanes];
                let window = Window { inputs: &inputs, targets: &targets, loss_from: 0 };
                model.log_probabilities(&mut expected, &mut model.evaluation_space(STEPS, lanes), window, &w);
                let (mut states, mut tops) =
                    (vec![0.0; lanes * reading.state_len()], vec![0.0; lanes * reading.top_len()]);
                let (mut found, mut out) = (Vec::new(), vec![0.0; lanes]);
                for (inputs, targets) in inputs.chunks(lanes).zip(targets.chunks(lanes)) {
                    reading.read(inputs, &mut states, &mut tops);
                    reading.log_probabilities(&mut out, &tops, targets);
                    found.extend_from_slice(&out);
                }
                assert_eq!(found, expected, "{cell:?}, {lanes} lanes");
                results.push([hash(&found), 0]);
            }
            results
        });
    }
}

#[test]
fn nets_of_pairs_and_words() {
    const MOST: usize = 200;
    const WORDS: usize = 83;
    for freeze in [false, true] {
        let loss = siamese::Loss::Contrastive { margin: 1.0 };
        let net = Siamese::new(siamese::Config { words: WORDS, embed: 5, hidden: 7, loss, freeze });
        let mut w = Arena::<f32>::zeros(net.layout());
        fill_uniform(&mut w, 0.7, 3);
        on_threads("Siamese", || {
            let mut stream = Stream::new(1, Purpose::Shuffle, 1, 0);
            let (mut space, mut g) = (net.space(MOST), Gradients::zeros(net.trained(), 2 * MOST));
            let mut results = Vec::new();
            for _ in 0..20 {
                let n = size(&mut stream, MOST);
                let (first, second) = (ids(&mut stream, n, WORDS), ids(&mut stream, n, WORDS));
                let alike: Vec<f32> = (0..n).map(|i| (i % 2) as f32).collect();
                let batch = siamese::Batch { first: &first, second: &second, alike: &alike };
                let used = result(net.step(&mut g, &mut space, batch, &w), &g, net.trained());
                let mut f = Gradients::zeros(net.trained(), 2 * n);
                let loss = net.step(&mut f, &mut net.space(n), batch, &w);
                assert_eq!(used, result(loss, &f, net.trained()), "{n} pairs");
                let distances = net.distances(&first, &second, &w);
                let alone = net.distances(&first[n - 1..], &second[n - 1..], &w);
                assert_eq!(distances[n - 1], alone[0], "the distance of a pair is its own");
                results.extend([used, [hash(&distances), 0]]);
            }
            results
        });
        for (words, labels) in [(Some(WORDS), 5), (Some(WORDS), 1), (None, 3)] {
            let freeze = freeze || words.is_none();
            let config = pseudo_siamese::Config { words, embed: 5, hidden: 7, labels, freeze, dropout_penalty: 0.2 };
            let net = PseudoSiamese::new(config);
            let mut w = Arena::<f32>::zeros(net.layout());
            fill_uniform(&mut w, 0.7, 3);
            let table: Vec<f32> = uniform(WORDS * 5, 1.0, 2);
            on_threads("pseudo-Siamese", || {
                let mut stream = Stream::new(1, Purpose::Shuffle, 2, 0);
                let (mut space, mut g) = (net.space(MOST), Gradients::zeros(net.trained(), MOST));
                let mut results = Vec::new();
                for _ in 0..20 {
                    let n = size(&mut stream, MOST);
                    let (own, targets) = (ids(&mut stream, n, WORDS), ids(&mut stream, n, labels));
                    let input = match words {
                        Some(_) => pseudo_siamese::Input::Words(&own),
                        None => pseudo_siamese::Input::Rows(&own, &table),
                    };
                    let used = result(net.step(&mut g, &mut space, input, &targets, &w), &g, net.trained());
                    let mut f = Gradients::zeros(net.trained(), n);
                    let loss = net.step(&mut f, &mut net.space(n), input, &targets, &w);
                    assert_eq!(used, result(loss, &f, net.trained()), "{n} examples");
                    results.extend([used, [hash(&net.probabilities(input, &w)), 0]]);
                }
                results
            });
        }
    }
}

#[test]
fn softmax_classifier() {
    let config = softmax_regression::Config { features: 6, classes: 4, dropout_penalty: 0.1 };
    let net = SoftmaxRegression::new(config);
    let mut w = Arena::<f32>::zeros(net.layout());
    fill_uniform(&mut w, 0.7, 3);
    on_threads("softmax", || {
        let mut stream = Stream::new(1, Purpose::Shuffle, 3, 0);
        // A graph has one number of examples: a batch and the last one of a pass take turns.
        let mut spaces: Vec<_> = [57, 13, 1].map(|n| (n, net.space::<f32>(n))).into();
        let mut g = Gradients::zeros(net.layout(), 0);
        let mut results = Vec::new();
        for step in 0..20 {
            let (n, space) = &mut spaces[stream.random_range(0..3)];
            let (x, y): (Vec<f32>, _) = (uniform(*n * 6, 2.0, step), ids(&mut stream, *n, 4));
            let x = ArrayView2::from_shape((*n, 6), &x).unwrap();
            let used = result(net.step(&mut g, space, x, &y, &w), &g, net.layout());
            let mut f = Gradients::zeros(net.layout(), 0);
            let loss = net.step(&mut f, &mut net.space(*n), x, &y, &w);
            assert_eq!(used, result(loss, &f, net.layout()), "{n} examples");
            results.push(used);
        }
        results
    });
}

/// Runs the program, which must succeed, and gives its standard output.
fn run(dir: &Path, line: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wordmill"));
    let output = command.args(line.split_whitespace()).current_dir(dir).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The weights of the newest checkpoint.
fn weights(dir: &Path, model: &str) -> Vec<u8> {
    let steps = fs::read_dir(dir.join(model)).unwrap().map(|entry| entry.unwrap().path());
    let newest = steps.filter(|path| path.join("model.safetensors").exists()).max().expect("a checkpoint");
    fs::read(newest.join("model.safetensors")).unwrap()
}

/// Sentences of such lengths, of which the last token of each is an entity.
fn tagged(lengths: impl IntoIterator<Item = usize>) -> String {
    lengths.into_iter().fold(String::new(), |mut text, n| {
        write!(text, "{}A B-X\n\n", "w O\n".repeat(n - 1)).unwrap();
        text
    })
}

#[test]
fn the_program_on_files_of_every_shape() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut stream = Stream::new(5, Purpose::Shuffle, 0, 0);
    let file = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    file("grows", &tagged([65, 1, 31, 34]));
    file("one", &tagged([1]));
    file("short", &tagged([3, 2, 3, 1, 2]));
    file("long", &tagged([2, 400, 1]));
    // More blocks than there is memory for: some memory is used twice, the second time for a longer sentence.
    file("blocks", &tagged((0..17).flat_map(|_| [31, 34].into_iter().chain([32; 30]).chain([65]).chain([32; 30]))));
    file("mixed", &tagged((0..60).map(|_| size(&mut stream, 400))));
    file("label", &"A B-X\n\n".repeat(5));
    let cases = [
        ("grows", "long", ""),
        ("one", "blocks", "--batch 100000"),
        ("short", "mixed", "--batch 3 --window 31"),
        ("mixed", "grows", "--batch 77"),
        ("mixed", "one", "--objective window --batch 1000 --window 1"),
        ("long", "short", "--objective window --batch 7"),
        ("label", "label", ""),
    ];
    for (train, valid, more) in cases {
        let all: Vec<_> = THREADS
            .iter()
            .map(|threads| {
                let options = format!("--epochs 2 --embed 3 --hidden 4 -q {more}");
                run(
                    dir,
                    &format!("train ner --train {train} --valid {valid} --out m --force --threads {threads} {options}"),
                );
                let tags = run(dir, &format!("tag m {valid} --threads {threads}"));
                (weights(dir, "m"), tags, run(dir, &format!("eval m {valid} --json --threads {threads}")))
            })
            .collect();
        assert!(all.iter().all(|one| *one == all[0]), "{train} {valid} {more}: threads change the result");
    }
    // Words in lines of 1 to 400, the last window and the last batch small.
    let line = |n: usize| "a b c d e ".repeat(n.div_ceil(5)) + "f\n";
    file("text", &(0..30).map(|_| line(size(&mut stream, 400))).collect::<String>());
    file("word", "a\n");
    for (valid, more) in
        [("word", "--batch 3 --tau 7"), ("text", "--cell gru --batch 37 --tau 5 --loss sampled --samples 3")]
    {
        let all = THREADS.map(|threads| {
            let options = format!("--epochs 1 --max-steps 9 --embed 3 --hidden 4 -q {more} --threads {threads}");
            run(dir, &format!("train lm --train text --valid {valid} --out m --force {options}"));
            (weights(dir, "m"), run(dir, &format!("score m text --json --threads {threads}")))
        });
        assert!(all.iter().all(|one| *one == all[0]), "{valid} {more}: threads change the result");
    }
    let numbers =
        |n: usize| (0..n).fold("a,b,class\n".to_owned(), |text, i| format!("{text}{},{},c{}\n", i % 7, i % 5, i % 3));
    file("table", &numbers(23));
    file("row", &numbers(1));
    let words: Vec<String> = (0..40).map(|i| format!("w{i}")).collect();
    file(
        "vectors",
        &words.iter().zip(0..).map(|(word, i)| format!("{word} {} {}\n", i % 9, i % 4)).collect::<String>(),
    );
    file("pairs", &(0..23).map(|i| format!("w{}\tw{}\t{}\n", i, i + 9, i % 2)).collect::<String>());
    file("labels", &(0..23).map(|i| format!("w{i}\tk{}\n", i % 3)).collect::<String>());
    for batch in [1, 7, 1000] {
        for command in [
            "softmax --train table --valid row",
            "siamese --pairs pairs --valid pairs --vectors vectors --train-vectors",
            "pseudo-siamese --train labels --valid labels --vectors vectors",
        ] {
            let all = THREADS.map(|threads| {
                let options = format!("--out m --force --epochs 2 -q --batch {batch} --threads {threads}");
                run(dir, &format!("train {command} {options}"));
                weights(dir, "m")
            });
            assert!(all.iter().all(|one| *one == all[0]), "{command} --batch {batch}: threads change the result");
        }
    }
}

/// A line's score is its own, to the bit: whatever is in the file beside it.
#[test]
fn scores_of_lines_are_their_own() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut stream = Stream::new(7, Purpose::Shuffle, 0, 0);
    let text: Vec<String> = (0..150)
        .map(|i| {
            let n = if i == 70 { 900 } else { size(&mut stream, [9, 70][i % 2]) };
            ids(&mut stream, n, 26).iter().map(|&id| format!("{} ", char::from(b'a' + id as u8))).collect()
        })
        .collect();
    fs::write(dir.join("text"), text.join("\n") + "\n").unwrap();
    for more in [
        "--cell gru --layers 2",
        "--cell gated-feedback --layers 2",
        "--loss adaptive --cutoffs 8",
        "--loss nce --samples 5",
    ] {
        run(
            dir,
            &format!(
                "train lm --train text --out m --force --max-steps 3 --embed 6 --hidden 9 --batch 4 --tau 5 -q {more}"
            ),
        );
        for how in if more.contains("nce") { &["", "--self-normalised"][..] } else { &[""] } {
            let all = run(dir, &format!("score m text --json {how}"));
            for (i, together) in all.lines().enumerate().filter(|(i, _)| i % 29 == 12) {
                fs::write(dir.join("alone"), format!("{}\n", text[i])).unwrap();
                let alone = run(dir, &format!("score m alone --json {how}"));
                assert_eq!(alone.trim_end(), together, "{more} {how}: line {i}");
            }
        }
    }
}
