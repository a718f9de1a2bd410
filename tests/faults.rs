//! Runs of the program that are stopped at random moments and at every step: nothing is lost, and what goes on ends in the same
//! bytes. Here a few of each; `tests/faults.sh` runs thousands.

#[path = "common/cases.rs"]
mod cases;

use cases::{kinds, rules};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wordmill::Error;
use wordmill::blas::Precision;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::output::{Draws, Negatives, Objective};
use wordmill::models::language_model::{Config, Loaded, Loss, Noise, Space, Window};
use wordmill::models::{Init, LanguageModel};
use wordmill::params::{Arena, Gradients, Layout};
use wordmill::sys::signals::Signals;
use wordmill::train::checkpoint::{ModelDir, Purpose};
use wordmill::train::fit::{Fit, Outcome, Plan, SmallFile, State, Task};
use wordmill::train::metrics::Metrics;
use wordmill::train::optimizer::Optimizer;
use wordmill::train::progress::{Progress, Style};
use wordmill::train::saver::Saver;
use wordmill::train::schedule::{EarlyStopping, Measure, Schedule, ScheduleKind, Score};
use wordmill::train::stepper::Stepper;
use wordmill::train::writer::Writer;

/// How much is done: the environment says more than the few of an ordinary test.
fn many(variable: &str, few: u64) -> u64 {
    std::env::var(variable).map_or(few, |n| n.parse().unwrap_or_else(|_| panic!("{variable}: a number")))
}

/// Numbers to choose moments by.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn start(args: &[String]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wordmill"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("the program can be started")
}

/// The exit code, and what was said.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("the program ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn succeed(args: &[String]) {
    let (code, said) = end(start(args));
    assert_eq!(code, Some(0), "{args:?}: {said}");
}

fn strings(args: &str) -> Vec<String> {
    args.split_whitespace().map(str::to_owned).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

/// The step of the newest checkpoint, as its directory is called.
fn newest(dir: &Path) -> Option<u64> {
    names(dir).iter().filter_map(|name| name.strip_prefix("step-")?.parse().ok()).max()
}

/// What the newest checkpoint holds: tensors, without the note of the best step, and words; not the time it took.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let checkpoint = dir.join(format!("step-{:012}", newest(dir).expect("a checkpoint")));
    let file = |name: String| {
        let mut bytes = fs::read(checkpoint.join(&name)).expect("a file");
        if name.ends_with(".safetensors") {
            let header = u64::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
            bytes.drain(..8 + header);
        }
        (name, bytes)
    };
    let kept = |name: &String| name.ends_with(".safetensors") || name == "vocab.txt";
    names(&checkpoint).into_iter().filter(kept).map(file).collect()
}

/// Everything in `dir` is whole; the step of the newest checkpoint.
fn whole(dir: &Path) -> u64 {
    let checkpoint = ModelDir::open(dir).and_then(|dir| dir.load_newest(Purpose::Resume)).expect("a whole checkpoint");
    assert!(checkpoint.warnings.is_empty(), "{:?}", checkpoint.warnings);
    checkpoint.step()
}

/// A text of `tokens` words out of `words`, each of which comes at least once if there are enough tokens.
fn text(dir: &Path, name: &str, words: u64, tokens: u64, seed: u64) -> String {
    let (mut random, mut text) = (Random(seed), String::new());
    for token in 0..tokens {
        // Some words are frequent, as in text.
        let drawn = random.below(words) * random.below(1000) / 1000;
        let word = if token < words { token } else { drawn };
        let space = if token % 17 == 16 { '\n' } else { ' ' };
        write!(text, "w{word}{space}").expect("memory takes all");
    }
    let path = dir.join(name);
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a plain name").to_owned()
}

/// Killed again and again, mostly while saving, which this run hardly stops doing.
#[test]
fn killed_at_random_moments() {
    let kills = many("WORDMILL_TEST_KILLS", 10);
    let temp = tempfile::tempdir().expect("a directory");
    let text = text(temp.path(), "text", 500, 12_000, 11);
    let sizes = "--cell gru --embed 5 --hidden 7 --batch 8 --tau 5 --loss sampled --samples 30 --optimizer adagrad";
    let run = format!("train lm --train {text} {sizes} --schedule constant --epochs 1000000 --save-every 1e-6 -q");
    let out = temp.path().join("model");
    let model = out.to_str().expect("a plain name");
    let (mut random, mut lost, mut orphans, mut early) = (Random(0x9E37_79B9_7F4A_7C15), 0, 0, 0);
    for life in 0..kills {
        let before = newest(&out);
        let args = match before {
            Some(_) => format!("train lm --out {model} --resume -q --threads {}", 1 + life % 2),
            None => format!("{run} --out {model}"),
        };
        let mut child = start(&strings(&args));
        let begin = Instant::now();
        // Now and then while it starts; otherwise after the first checkpoint of its own.
        while life % 8 != 7 && newest(&out) <= before {
            assert!(child.try_wait().expect("a child").is_none(), "{}", end(child).1);
            assert!(begin.elapsed() < Duration::from_secs(300), "no checkpoint came");
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        let seen = newest(&out);
        child.kill().expect("it is running");
        child.wait().expect("it ends");
        let left = names(&out).iter().filter(|name| name.starts_with('.')).count();
        orphans += u64::from(left > 0);
        early += u64::from(newest(&out) == before);
        if life % 2 == 1 && out.exists() {
            // What the next run does first; otherwise that run does it.
            if let Ok((writer, _)) = Writer::resume(&out) {
                drop(writer);
                assert!(!names(&out).iter().any(|name| name.starts_with('.')), "{:?}", names(&out));
            }
        }
        if seen.is_some() {
            lost += u64::from(Some(whole(&out)) < seen);
        }
    }
    let last = whole(&out) + 20;
    succeed(&strings(&format!("train lm --out {model} --resume -q --max-steps {last}")));
    assert!(!names(&out).iter().any(|name| name.starts_with('.')), "{:?}", names(&out));
    let other = temp.path().join("uninterrupted");
    // It saves as seldom as any run.
    let run = run.replace("--save-every 1e-6", "");
    succeed(&strings(&format!("{run} --out {} --max-steps {last}", other.display())));
    assert!(contents(&out) == contents(&other), "killed {kills} times, it is another model");
    println!(
        "killed {kills} times within {last} steps, {early} of them before a checkpoint of its own: 0 corrupt, {lost} lost, \
         {orphans} left a partial directory and the next start none"
    );
    assert_eq!(lost, 0);
}

/// Vectors of the words in the bundled files of pairs and of words with labels.
fn vectors(dir: &Path) -> String {
    let (mut random, mut rows) = (Random(29), BTreeMap::new());
    for name in ["pairs/test", "pairs/valid", "words/test", "words/valid"] {
        let path = format!("{}/data/{name}.tsv", env!("CARGO_MANIFEST_DIR"));
        let lines = fs::read_to_string(path).expect("a bundled file");
        for word in lines.lines().flat_map(|line| line.rsplit('\t').skip(1)) {
            let numbers: Vec<String> = (0..5).map(|_| (random.below(2000) as f64 / 1000.0 - 1.0).to_string()).collect();
            rows.insert(word.to_owned(), numbers.join(" "));
        }
    }
    let text: String = rows.iter().map(|(word, numbers)| format!("{word} {numbers}\n")).collect();
    let path = dir.join("vectors");
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a plain name").to_owned()
}

/// Points of three classes as CSV.
fn points(dir: &Path) -> String {
    let mut random = Random(31);
    let mut text = "x,y,class\n".to_owned();
    for class in (0..270).map(|i| i % 3) {
        let [x, y] = [0; 2].map(|_| random.below(2000) as f64 / 1000.0 + f64::from(class));
        writeln!(text, "{x},{y},c{class}").expect("memory takes all");
    }
    let path = dir.join("points.csv");
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a plain name").to_owned()
}

/// Stopped at each step, or at some, and resumed with another number of threads: the model of a run that was not.
#[test]
fn stopped_at_any_step() {
    let all = many("WORDMILL_TEST_STOPS", 3);
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().to_str().expect("a plain name");
    let (text, valid) = (text(temp.path(), "text", 300, 4_000, 3), text(temp.path(), "valid", 300, 700, 5));
    succeed(&strings(&format!("synth --tokens 4000 --seed 7 --out {dir}/synth")));
    // A linear schedule would end where the first part does.
    let lm = format!(
        "lm --train {text} --valid {valid} --embed 5 --hidden 7 --batch 8 --tau 5 --forget 0.1 --schedule plateau"
    );
    let constant = "--schedule constant";
    let ner = format!(
        "ner --train {dir}/synth/ner/train.conll --valid {dir}/synth/ner/valid.conll --embed 6 --hidden 5 --batch 50 {constant}"
    );
    let (data, vectors) = (concat!(env!("CARGO_MANIFEST_DIR"), "/data"), vectors(temp.path()));
    let of = |verb: &str, examples: &str, files: &str| {
        let (train, valid) = (format!("{data}/{files}/test.tsv"), format!("{data}/{files}/valid.tsv"));
        format!("{verb} --{examples} {train} --valid {valid} --vectors {vectors} --hidden 7 --batch 40 {constant}")
    };
    let siamese = of("siamese", "pairs", "pairs");
    let pseudo = of("pseudo-siamese", "train", "words");
    let points = points(temp.path());
    let softmax = format!("softmax --train {points} --valid {points} --batch 40 {constant}");
    let others = [
        (&ner, "--optimizer adam"),
        (&ner, "--objective sentence --optimizer adagrad"),
        (&siamese, "--optimizer adagrad --train-vectors"),
        (&siamese, "--optimizer adam --loss source"),
        (&pseudo, "--optimizer adam"),
        (&softmax, "--optimizer adagrad"),
    ];
    let mut runs: Vec<(&str, String)> = others.map(|(run, more)| (run.as_str(), more.to_owned())).to_vec();
    let losses = ["adaptive --cutoffs 50,150", "full", "sampled --samples 20", "nce --samples 20 --sampler unigram"];
    let cells =
        ["rnn --optimizer adam", "gru --optimizer adagrad --stride 3", "gated-feedback --layers 2 --optimizer sgd"];
    for (j, loss) in losses.iter().enumerate() {
        for (i, cell) in cells.iter().enumerate() {
            // A few tests take each cell and each loss.
            if all > 3 || i == j % cells.len() {
                runs.push((&lm, format!("--cell {cell} --loss {loss}")));
            }
        }
    }
    if Precision::Bf16.available() {
        runs.push((&lm, "--cell gru --precision bf16".to_owned()));
    } else {
        println!("skipped: --precision bf16, which this processor does not have");
    }
    let last = if all > 3 { all + 1 } else { 24 };
    for (files, options) in &runs {
        let verb = files.split(' ').next().expect("a verb");
        let train = |more: &str| succeed(&strings(&format!("train {files} {options} -q {more}")));
        let whole = [1, 2].map(|threads| {
            let out = format!("{dir}/whole-{threads}");
            train(&format!("--out {out} --force --threads {threads} --max-steps {last}"));
            contents(Path::new(&out))
        });
        assert!(whole[0] == whole[1], "{verb} {options}: two threads make another model than one");
        let stops: Vec<u64> = if all > 3 { (1..=all).collect() } else { vec![1, 22] };
        for &stop in &stops {
            let out = format!("{dir}/stopped");
            let threads = 1 + stop % 2;
            train(&format!("--out {out} --force --threads {threads} --max-steps {stop}"));
            assert_eq!(newest(Path::new(&out)), Some(stop));
            let more = format!("train {verb} --out {out} --resume -q --threads {} --max-steps {last}", 3 - threads);
            succeed(&strings(&more));
            let same = contents(Path::new(&out)) == whole[0];
            assert!(same, "{verb} {options}: stopped at {stop} and resumed, it is another model");
        }
        println!("{verb} {options}: {} of {} stops give the same hashes", stops.len(), stops.len());
    }
}

/// Waits until the process takes Ctrl-C and SIGTERM for itself.
fn wait_for_handlers(child: &mut Child) {
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let caught = text.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
        if caught.is_some_and(|caught| caught >> 1 & 1 == 1 && caught >> 14 & 1 == 1) {
            return;
        }
        assert!(child.try_wait().expect("a child").is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Ctrl-C and SIGTERM at any moment: while it reads, trains, evaluates or saves.
#[cfg(target_os = "linux")]
#[test]
fn signals_at_random_moments() {
    let (signals, words) = (many("WORDMILL_TEST_SIGNALS", 8), many("WORDMILL_TEST_WORDS", 2_000));
    let temp = tempfile::tempdir().expect("a directory");
    let text = text(temp.path(), "text", words, words * 2, 17);
    let valid = self::text(temp.path(), "valid", words, 2_000 + words / 10, 19);
    let width = if words > 50_000 { 200 } else { 24 };
    // Seconds that an end may take: only a machine that has nothing else to do can promise them.
    let most = std::env::var("WORDMILL_TEST_SECONDS").map_or(f64::INFINITY, |most| most.parse().expect("seconds"));
    for kind in ["--loss full --optimizer adam", "--loss sampled --optimizer adagrad"] {
        let out = temp.path().join(kind.replace([' ', '-'], ""));
        let model = out.to_str().expect("a plain name");
        let sizes = format!(
            "--cell gru --embed {width} --hidden {width} --batch 16 --tau 5 --samples 100 --schedule plateau {kind}"
        );
        let run = format!("train lm --train {text} --valid {valid} {sizes} --epochs 1000000 --save-every 0.001 -q");
        let mut random = Random(0x1234_5678_9ABC_DEF1 + many("WORDMILL_TEST_SEED", 0));
        let (mut before, mut taken, mut early) = (None, Vec::new(), 0);
        for i in 0..signals / 2 {
            let args = match before {
                Some(_) => format!("train lm --out {model} --resume -q"),
                None => format!("{run} --out {model}"),
            };
            let mut child = start(&strings(&args));
            wait_for_handlers(&mut child);
            std::thread::sleep(Duration::from_micros(random.below(if words > 50_000 { 2_000_000 } else { 150_000 })));
            let (name, code) = if i % 2 == 0 { ("INT", 130) } else { ("TERM", 143) };
            let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
            let begin = Instant::now();
            assert!(sent.expect("kill can be run").success());
            let (found, said) = end(child);
            taken.push(begin.elapsed().as_secs_f64());
            // Before training there is nothing to save, and nothing has changed.
            let (stopped, trained) = (said.contains("stopped by "), said.contains("continue with: "));
            assert!(found == Some(code) && stopped, "{found:?}: {said}");
            let Some(_) = newest(&out).filter(|_| trained || before.is_some()) else {
                assert!(!trained && newest(&out).is_none(), "{said}");
                early += 1;
                continue;
            };
            let step = whole(&out);
            assert!(Some(step) > before || before.is_some_and(|before| step == before), "{step} after {before:?}");
            before = Some(step);
        }
        let last = newest(&out).map_or(10, |_| whole(&out) + 10);
        let begin =
            newest(&out).map_or(format!("{run} --out {model}"), |_| format!("train lm --out {model} --resume -q"));
        succeed(&strings(&format!("{begin} --max-steps {last}")));
        let other = temp.path().join("uninterrupted");
        succeed(&strings(&format!("{run} --out {} --force --max-steps {last}", other.display())));
        assert!(contents(&out) == contents(&other), "{kind}: stopped {} times, it is another model", signals / 2);
        taken.sort_by(f64::total_cmp);
        let (median, slowest) = (taken[taken.len() / 2], taken[taken.len() - 1]);
        println!(
            "{kind}: {} signals with {words} words, a checkpoint that goes on to the same bytes each time, exit codes 130 and \
             143; {early} before the first step; ended after {median:.2} s (median), {slowest:.2} s (slowest)",
            taken.len()
        );
        assert!(slowest <= most, "{kind}: it took {slowest:.2} s to end");
    }
}

/// A model that reads the same few words in every step, so that a step touches every row that is spoilt.
struct Repeated {
    model: LanguageModel,
    space: Space<f32>,
}

const REPEATED: [u32; 12] = [2, 5, 3, 7, 4, 6, 2, 7, 5, 3, 6, 4];

impl Task for Repeated {
    fn layout(&self) -> &Arc<Layout> {
        self.model.layout()
    }

    fn rows(&self) -> usize {
        REPEATED.len() + self.model.samples(2)
    }

    fn steps_per_epoch(&self) -> u64 {
        1000
    }

    fn targets_before(&self, steps: u64) -> u64 {
        steps * REPEATED.len() as u64
    }

    type Touched = Loaded;

    fn touch(&mut self, g: &mut Gradients<f32>, step: u64) -> Loaded {
        let mut targets = REPEATED;
        targets.rotate_left(2);
        let window = Window { inputs: &REPEATED, targets: &targets, loss_from: 0 };
        let noise = Noise { keep: Keep::inverted(1.0), seed: 1, step };
        self.model.touch(g, &mut self.space, window, noise)
    }

    fn step(&mut self, g: &mut Gradients<f32>, _step: u64, loaded: Loaded, w: &Arena<f32>) -> Outcome {
        let loss = self.model.step(g, &mut self.space, loaded, w);
        Outcome { loss, targets: REPEATED.len() as u64 }
    }

    fn classes(&self) -> Option<usize> {
        Some(self.model.config().words)
    }

    fn validate(&mut self, _w: &Arena<f32>) -> Option<Score> {
        None
    }

    fn measure(&self) -> Measure {
        Measure::Perplexity
    }

    fn is_cross_entropy(&self) -> bool {
        self.model.recipe().is_none()
    }

    fn files(&self) -> &[SmallFile] {
        &[]
    }

    fn carried(&mut self) -> Vec<&mut [f32]> {
        self.space.states_mut().collect()
    }
}

/// NaN and infinity in any tensor of weights and optimizer states, after some steps: the next step names a tensor and ends the
/// run, and nothing is saved with it.
#[test]
fn not_finite_anywhere() {
    let sampled = |objective| Loss::Sampled {
        objective,
        draws: Draws::WithReplacement,
        negatives: Negatives::Shared,
        samples: 6,
        power: None,
    };
    let signals = Signals::install().expect("handlers");
    // All are some thousands: ordinarily one of so many is tried.
    let one_of = many("WORDMILL_TEST_ONE_OF", 41);
    let (mut number, mut tries, mut other, mut missed) = (0, 0, 0, Vec::new());
    for cell in kinds() {
        for loss in [Loss::Full, sampled(Objective::Softmax), sampled(Objective::Nce(2.0))] {
            for rule in rules() {
                let config =
                    Config { words: 9, embed: 5, hidden: 6, layers: 2, cell, loss: loss.clone(), ..Config::default() };
                let model = LanguageModel::new(config);
                let layout = model.layout().clone();
                // The third state of Adam counts steps; it is not calculated with.
                let mut states = rule.states().len().min(2) + 1;
                // A net of the same kind for each place that is spoilt.
                while states > 0 {
                    states -= 1;
                    for (p, tensor) in layout.tensors() {
                        for (step, value) in [(1, f32::NAN), (2, f32::INFINITY), (4, f32::NEG_INFINITY)] {
                            number += 1;
                            // Some states are kept for tables only.
                            let kept = |optimizer: &Optimizer<f32>| match states {
                                0 => true,
                                n => !optimizer.states()[n - 1].layout().tensor(p).range().is_empty(),
                            };
                            if number % one_of != 0 || !kept(&Optimizer::new(rule, 5.0, 0.0, &layout)) {
                                continue;
                            }
                            let temp = tempfile::tempdir().expect("a directory");
                            let space = model.training_space(6, 2, &[1; 9]);
                            let mut task = Repeated { model: LanguageModel::new(model.config().clone()), space };
                            let mut w = Arena::zeros(&layout);
                            Init::Xavier.fill(&mut w, 3);
                            let schedule = Schedule::new(ScheduleKind::Constant, 0.05, 9);
                            let plan = Plan {
                                epochs: 1,
                                max_steps: Some(step),
                                save_every: Duration::from_secs(1000),
                                resume: String::new(),
                            };
                            let g = Gradients::zeros(&layout, task.rows());
                            let mut fit = Fit {
                                task: &mut task,
                                stepper: Stepper::new(w, g, Optimizer::new(rule, 5.0, 0.0, &layout), 0),
                                state: State::new(schedule, EarlyStopping::new(None)),
                                plan,
                                saver: Saver::new(Writer::create(temp.path(), false).expect("a new directory")),
                                metrics: Metrics::create(temp.path()).expect("a new file"),
                                progress: Progress::new(Style::Quiet),
                                signals: signals.clone(),
                            };
                            fit.run().expect("all is finite");
                            let spoilt = match states {
                                0 => &mut fit.stepper.w,
                                n => &mut fit.stepper.optimizer.states_mut(step)[n - 1],
                            };
                            // A row that is touched in every step.
                            let columns = spoilt.layout().tensor(p).columns;
                            let at = if tensor.rows == 1 { 2 } else { 5 * columns };
                            let spoilt = spoilt.slice_mut(p);
                            spoilt[at.min(spoilt.len() - 1)] = value;
                            (fit.plan.max_steps, fit.state.finished) = (Some(step + 3), false);
                            let what =
                                format!("{cell:?} {loss:?} {rule:?}: {value} in {} (state {states})", tensor.name);
                            match fit.run() {
                                Err(Error::NotFinite { tensor: named, step: at, .. }) => {
                                    if at != step + 1 {
                                        missed.push(format!("{what}: {named} in step {at}"));
                                    }
                                    other += u64::from(!named.ends_with(&tensor.name));
                                }
                                result => missed.push(format!("{what}: {result:?}")),
                            }
                            if newest(temp.path()) != Some(step) {
                                missed.push(format!("{what}: it was saved"));
                            }
                            tries += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(missed.is_empty(), "{} of {tries}: {missed:#?}", missed.len());
    println!(
        "{tries} values not finite, in every tensor of weights and states: all named by the next step, {other} as another tensor"
    );
}
