//! Softmax regression: trained through its graph to where Newton's method arrives, from the command line too; the same bits for any
//! number of threads and across a resume; and bad input.

mod common;

use common::{assert_all_close, assert_close, check_gradient, fill_uniform};
use ndarray::{Array2, Axis};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use wordmill::layers::losses::DropoutPenalty;
use wordmill::models::SoftmaxRegression;
use wordmill::models::softmax_regression::Config;
use wordmill::params::{Arena, Gradients, Role};
use wordmill::sys::memory::Room;
use wordmill::text::blobs::Blobs;
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::stepper::Stepper;

const IRIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/softmax/iris.csv");

/// The irises, standardised, and their classes.
fn iris() -> (Array2<f64>, Vec<u32>) {
    // Not as the program reads them, which keeps 32 bits.
    let text = std::fs::read_to_string(IRIS).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|row| row.split(',').collect()).collect();
    let class =
        |name: &str| ["setosa", "versicolor", "virginica"].iter().position(|known| *known == name).unwrap() as u32;
    let classes = rows.iter().map(|row| class(row[4])).collect();
    let values = rows.iter().flat_map(|row| row[..4].iter().map(|x| x.parse().unwrap())).collect();
    let x = Array2::from_shape_vec((150, 4), values).unwrap();
    let x = &x - &x.mean_axis(Axis(0)).unwrap();
    (&x / &x.std_axis(Axis(0), 0.0), classes)
}

/// What tests/fixtures/softmax/make.py found.
fn reference() -> Vec<serde_json::Value> {
    serde_json::from_str(include_str!("fixtures/softmax/reference.json")).unwrap()
}

/// Against finite differences, and what the penalty of dropout adds against the hand-written one.
#[test]
fn gradient() {
    let (x, y) = iris();
    let (x, y) = (x.slice(ndarray::s![40..117, ..]), &y[40..117]);
    let n = y.len();
    let mut found = Vec::new();
    for dropout_penalty in [0.0, 0.3] {
        let net = SoftmaxRegression::new(Config { features: 4, classes: 3, dropout_penalty });
        let mut w = Arena::<f64>::zeros(net.layout());
        fill_uniform(&mut w, 0.9, 5);
        let (mut space, mut g) = (net.space(n), Gradients::zeros(net.layout(), 0));
        let loss = net.step(&mut g, &mut space, x, y, &w);
        let gradient = g.arena.clone();
        check_gradient(&gradient, &w, 1e-6, |w| net.step(&mut g, &mut space, x, y, w));
        let (scores, cross_entropy) = net.scores(&mut space, x, y, &w);
        found.push((loss, cross_entropy, scores.to_owned(), gradient, w));
    }
    let [plain, penalised] = &found[..] else { unreachable!() };
    assert!(plain.0 == plain.1 && plain.1 == penalised.1, "the cross-entropy has no penalty");

    let [weight, bias] = [0, 1].map(|i| plain.4.layout().tensors().nth(i).unwrap().0);
    let u = plain.4.matrix(weight).t().as_standard_layout().into_owned();
    let mut delta = Vec::new();
    for (scores, &class) in plain.2.rows().into_iter().zip(y) {
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        let hot = |k: usize| if k == class as usize { 1.0 } else { 0.0 };
        delta.extend(scores.iter().enumerate().map(|(k, score)| (score.exp() / sum - hot(k)) / n as f64));
    }
    let of_loss = delta.clone();
    let x = x.as_standard_layout();
    let x = x.as_slice().unwrap();
    let (mut layer, mut dbias) = (Room::make(|room| DropoutPenalty::new(room, n, 4, 3, 0.3)), vec![0.0; 3]);
    let scale = 1.0 / n as f64;
    let cost = layer.loss(&mut delta, &mut dbias, x, y, scale, u.view()) * scale;
    assert_close("the penalty", penalised.0 - plain.0, cost, 1e-12, 0.0);
    delta.iter_mut().zip(&of_loss).for_each(|(delta, of_loss)| *delta -= of_loss);
    let rows = |v: &[f64], width| Array2::from_shape_vec((n, width), v.to_vec()).unwrap();
    let mut du = rows(&delta, 3).t().dot(&rows(x, 4));
    layer.backward(&mut vec![0.0; n * 4], du.view_mut(), x, scale, u.view());
    let added = &penalised.3.matrix(weight) - &plain.3.matrix(weight);
    let [added, by_layer] = [added, du.reversed_axes()].map(|x| x.iter().copied().collect::<Vec<f64>>());
    assert_all_close("∂W of the penalty", &added, &by_layer, 1e-10);
    let added: Vec<f64> = penalised.3.slice(bias).iter().zip(plain.3.slice(bias)).map(|(a, b)| a - b).collect();
    assert_all_close("∂b of the penalty", &added, &dbias, 1e-10);
}

/// Adam in f64 on the whole table ends where Newton's method does.
#[test]
fn as_good_as_newtons_method() {
    let (x, y) = iris();
    for case in reference() {
        let of = |name: &str| case[name].as_f64().unwrap();
        let net = SoftmaxRegression::new(Config { features: 4, classes: 3, dropout_penalty: 0.0 });
        let w = Arena::<f64>::zeros(net.layout());
        let mut space = net.space(150);
        let adam = Optimizer::new(Rule::Adam, f64::INFINITY, of("l2"), net.layout());
        let mut stepper = Stepper::new(w, Gradients::zeros(net.layout(), 0), adam, 0);
        const STEPS: u64 = 4000;
        for step in 0..STEPS {
            let rate = 0.1 * (1.0 - step as f64 / STEPS as f64).powi(2);
            let touched = stepper.touch(|_, _| ());
            let done = touched.step(|g, (), w| net.step(g, &mut space, x.view(), &y, w)).update(rate);
            if step == 0 {
                assert_close("the loss at random", done.outcome, 3f64.ln(), 1e-14, 0.0);
            }
        }
        let w = stepper.w;
        let (scores, loss) = net.scores(&mut space, x.view(), &y, &w);
        let best = |scores: ndarray::ArrayView1<f64>| (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        let right =
            scores.rows().into_iter().zip(&y).filter(|(scores, class)| best(*scores) == **class as usize).count();
        let weights = net.layout().tensors().find(|(_, tensor)| tensor.role == Role::Weight).unwrap().0;
        let penalty = of("l2") / 2.0 * w.slice(weights).iter().map(|w| w * w).sum::<f64>();
        println!("l2 {}: {} above the reference", of("l2"), loss + penalty - of("penalised"));
        assert_close("penalised loss", loss + penalty, of("penalised"), 1e-9, 0.0);
        assert_close("cross-entropy", loss, of("cross_entropy"), 1e-5, 0.0);
        assert_close("accuracy", right as f64 / 150.0, of("accuracy"), 1e-12, 0.0);
        for (i, (own, other)) in w.slice(weights).iter().zip(case["weight"].as_array().unwrap()).enumerate() {
            assert_close(format_args!("W[{i}]"), *own, other.as_f64().unwrap(), 1e-3, 1.0);
        }
    }
}

fn wordmill(args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wordmill")).args(args.split_whitespace()).output().unwrap()
}

fn done(args: &str) -> String {
    let output = wordmill(args);
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is said where `args` fail, and the exit code.
fn refused(args: &str) -> (String, i32) {
    let output = wordmill(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.lines().filter(|line| line.starts_with("wordmill: ")).count(), 1, "{args}: {error}");
    (error, output.status.code().unwrap())
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn file(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }
}

/// `train` and `eval` on the irises, whose columns may come in another order.
#[test]
fn from_the_command_line() {
    let dir = Dir::new();
    let model = dir.path("iris");
    let options = "--batch 75 --epochs 150 --lr 0.1 --l2 0.1";
    done(&format!("train softmax --train {IRIS} --label species --out {model} --quiet {options}"));
    let found = json(&done(&format!("eval {model} {IRIS} --json")));
    let reference = &reference()[0];
    for name in ["cross_entropy", "accuracy"] {
        assert_close(name, found[name].as_f64().unwrap(), reference[name].as_f64().unwrap(), 1e-3, 0.0);
    }
    let text = done(&format!("eval {model} {IRIS}"));
    assert!(text.contains("accuracy 92.00 %") && text.contains("setosa") && text.contains("150 examples"), "{text}");
    // The columns the other way round.
    let turned: String = std::fs::read_to_string(IRIS)
        .unwrap()
        .lines()
        .map(|line| line.split(',').rev().collect::<Vec<_>>().join(",") + "\n")
        .collect();
    let turned = dir.file("turned.csv", &turned);
    assert_eq!(json(&done(&format!("eval {model} {turned} --json"))), found);
    let svg = dir.path("confusion.svg");
    done(&format!("eval {model} {IRIS} --svg {svg}"));
    assert!(std::fs::read_to_string(&svg).unwrap().contains("versicolor"));
    // The penalty of dropout draws the weights together, and what is measured has it not in it.
    let penalised = dir.path("penalised");
    done(&format!(
        "train softmax --train {IRIS} --out {penalised} --quiet --batch 75 --epochs 150 --lr 0.1 --l2 0 --dropout-penalty 0.5"
    ));
    let mild = json(&done(&format!("eval {penalised} {IRIS} --json")));
    let of = |found: &serde_json::Value, name: &str| found[name].as_f64().unwrap();
    assert!(of(&mild, "accuracy") > 0.9 && of(&mild, "cross_entropy") < 0.3, "{mild}");
    let norm = |model: &str| json(&done(&format!("inspect {model} --json")))["tensors"][0]["norm"].as_f64().unwrap();
    done(&format!("train softmax --train {IRIS} --out {model}-free --quiet --batch 75 --epochs 150 --lr 0.1 --l2 0"));
    assert!(norm(&penalised) < 0.8 * norm(&format!("{model}-free")), "the weights are drawn together");
    let inspected = done(&format!("inspect {model}"));
    assert!(inspected.contains("15 parameters") && inspected.contains("4 × 3"), "{inspected}");
}

/// Five classes of points: a step without weights costs ln 5, and after training little more than the source's own probabilities.
#[test]
fn begins_at_random_and_comes_near_the_best() {
    let dir = Dir::new();
    let (train, test) = (Blobs::draw(2000, 1, 0), Blobs::draw(2000, 1, 1));
    let (train, file, model) =
        (dir.file("train.csv", &train.csv()), dir.file("test.csv", &test.csv()), dir.path("points"));
    done(&format!("train softmax --train {train} --out {model} --quiet --batch 2000 --max-steps 1"));
    let reports = std::fs::read_to_string(dir.path("points/metrics.jsonl")).unwrap();
    let first = json(reports.lines().next().unwrap());
    assert_close("the first loss", first["train_loss"].as_f64().unwrap(), 5f64.ln(), 1e-5, 0.0);
    done(&format!("train softmax --train {train} --valid {file} --out {model} --force --quiet --epochs 30"));
    let found = json(&done(&format!("eval {model} {file} --json")));
    let (accuracy, loss) = test.best();
    let of = |name: &str| found[name].as_f64().unwrap();
    println!("accuracy {} of {accuracy}, cross-entropy {} of {loss}", of("accuracy"), of("cross_entropy"));
    assert!(of("accuracy") > accuracy - 0.01 && of("cross_entropy") < 1.02 * loss, "{found} {accuracy} {loss}");
}

/// The tensors of the newest checkpoint, weights and optimizer states.
fn tensors(dir: &str) -> Vec<Vec<u8>> {
    let steps = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let newest: PathBuf =
        steps.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-")).max().unwrap();
    ["model.safetensors", "optimizer.safetensors"].map(|name| std::fs::read(newest.join(name)).unwrap()).to_vec()
}

#[test]
fn bits_do_not_depend_on_threads_or_stops() {
    let dir = Dir::new();
    let run = |name: &str, options: &str| {
        let out = dir.path(name);
        done(&format!("train softmax --out {out} --quiet {options}"));
        tensors(&out)
    };
    // Steps of 32 and one of 22 in each epoch.
    let options = format!("--train {IRIS} --valid {IRIS} --schedule plateau --batch 32 --epochs 9");
    let one = run("one", &format!("{options} --threads 1"));
    assert!(one == run("many", &format!("{options} --threads 3")));
    let options = format!("{options} --dropout-penalty 0.2");
    assert!(one != run("penalised", &options));
    let one = run("many", &format!("{options} --threads 3 --force"));
    let stopped = run("parts", &format!("{options} --max-steps 17"));
    assert!(one != stopped && one == run("parts", "--resume --max-steps 1000000"));
}

#[test]
fn bad_input_is_one_line() {
    let dir = Dir::new();
    let out = dir.path("model");
    let train = |file: &str, more: &str| refused(&format!("train softmax --train {file} --out {out} {more}"));
    let says = |(text, code): (String, i32), part: &str, expected: i32| {
        assert!(text.contains(part) && code == expected, "{code} {text}");
    };
    says(train(&dir.path("none.csv"), ""), "none.csv: reading failed", 6);
    let file = dir.file("words.csv", "a,b,c\n1,2,x\n1,two,y\n");
    says(train(&file, ""), "words.csv:3: found `two` in column b, expected a finite number", 3);
    let file = dir.file("one.csv", "a,b,c\n1,2,x\n1,2,x\n");
    says(train(&file, ""), "one.csv: found the class x only, expected at least two classes in column c", 3);
    says(train(IRIS, "--label kind"), "expected a column kind", 3);
    says(train(IRIS, "--l2 -1"), "--l2", 2);
    says(train(IRIS, "--dropout-penalty 1"), "--dropout-penalty", 2);
    let other = dir.file("other.csv", "petal length,sepal length,species\n1,2,setosa\n");
    says(train(IRIS, &format!("--valid {other}")), "expected a column sepal width", 3);
    assert!(!Path::new(&out).exists(), "a directory was made");
    done(&format!("train softmax --train {IRIS} --out {out} --quiet --epochs 1"));
    let text = dir.file("text.txt", "some words\n");
    says(refused(&format!("score {out} {text}")), "is a softmax classifier; this command is for language models", 4);
    says(refused(&format!("tag {out} {text}")), "is a softmax classifier; this command is for taggers", 4);
    says(refused(&format!("neighbors {out} word")), "is a softmax classifier", 4);
    says(refused(&format!("eval {out} {text} --repair")), "--repair", 2);
    let lilies = dir.file("lilies.csv", &std::fs::read_to_string(IRIS).unwrap().replacen("setosa", "lily", 1));
    // A class that the training examples have not is counted as wrong; a file of no other is refused.
    let found = json(&done(&format!("eval {out} {lilies} --json")));
    assert!(found["unknown_class"] == 1 && found["warnings"].as_array().unwrap().len() == 1, "{found}");
    let lilies =
        dir.file("lilies.csv", "sepal length,sepal width,petal length,petal width,species\n5.1,3.5,1.4,0.2,lily\n");
    says(refused(&format!("eval {out} {lilies}")), "lilies.csv:2: found `lily` in column species, and no other", 3);
}
