//! The program as its users meet it: what it refuses and how it says so, and that runs stopped in any way end in the same
//! bytes as runs that were not.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wordmill::blas::Precision;

const VALID: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/lm/valid.txt");
const TEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/lm/test.txt");
/// Sizes at which 132 steps are an epoch of valid.txt and take a moment; and no linear schedule, which would end where
/// `--max-steps` ends a part of a run.
const SMALL: [&str; 10] = ["--embed", "6", "--hidden", "10", "--batch", "16", "--tau", "10", "--schedule", "plateau"];

fn wordmill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wordmill"));
    command.stdin(Stdio::null()).current_dir(env!("CARGO_TARGET_TMPDIR"));
    command
}

/// Runs it to its end, whatever that is.
fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    wordmill().args(args).output().expect("the program can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// Runs it and expects success; gives its standard output.
fn succeed<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let output = run(args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The one line that a failed run tells, which is its last, and its exit code.
fn failure(output: &Output) -> (String, i32) {
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    let code = output.status.code().unwrap_or_else(|| panic!("ended by {}: {stderr}", output.status));
    assert_ne!(code, 0, "{stderr}");
    let told = |line: &&str| line.starts_with("wordmill: ");
    assert_eq!(stderr.lines().filter(told).count(), 1, "{stderr}");
    let last = stderr.lines().last().filter(told).unwrap_or_else(|| panic!("the error is not the last line: {stderr}"));
    (last["wordmill: ".len()..].to_owned(), code)
}

/// Runs it and expects the exit code `code` and one line that holds all of `parts`.
fn refuse<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, code: i32, parts: &[&str]) {
    let (line, found) = failure(&run(args));
    assert!(parts.iter().all(|part| line.contains(part)), "{line:?} lacks one of {parts:?}");
    assert_eq!(found, code, "{line}");
}

/// `train lm` on `train` into `out` at [`SMALL`] sizes, with more arguments.
fn train(train: &Path, out: &Path, more: &[&str]) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["train", "lm", "--train"].map(Into::into).to_vec();
    args.extend([train.into(), "--out".into(), out.into()]);
    args.extend(SMALL.iter().chain(more).map(Into::into));
    args
}

/// All files below a directory with their contents, in order.
fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(tree(&path)) } else { all.push((path.clone(), fs::read(path).unwrap())) }
    }
    all.sort();
    all
}

/// The newest checkpoint's directory.
fn checkpoint(model: &Path) -> PathBuf {
    let steps = fs::read_dir(model).unwrap().map(|entry| entry.unwrap().path());
    let steps = steps.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-"));
    steps.max().expect("there is a checkpoint")
}

/// The newest checkpoint's weights: all bytes of the file but the header, which notes what step was the best so far, and a
/// run that was stopped has one evaluation more to choose from.
fn weights(model: &Path) -> Vec<u8> {
    let bytes = fs::read(checkpoint(model).join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

/// A model of a few steps, to be read only.
fn model() -> &'static Path {
    static MODEL: OnceLock<TempDir> = OnceLock::new();
    MODEL
        .get_or_init(|| {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            succeed(train(Path::new(VALID), dir.path(), &["--max-steps", "60", "--valid", TEST, "-q"]));
            dir
        })
        .path()
}

/// A copy of [`model`] to be spoilt, in its own directory.
fn copy() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (path, bytes) in tree(model()) {
        let to = copy.path().join(path.strip_prefix(model()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    copy
}

#[test]
fn texts_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let good = fs::read(VALID).unwrap();
    let broken: Vec<u8> = good[..1000].iter().chain(b"\xff\xfe").chain(&good[1000..]).copied().collect();
    let long: Vec<u8> = good[..1000].iter().chain(&[b'a'; 1 << 20]).chain(&good[1000..]).copied().collect();
    let nul: Vec<u8> = good[..1000].iter().chain(b"\0").chain(&good[1000..]).copied().collect();
    let word = good[..1000].iter().rposition(|byte| byte.is_ascii_whitespace()).unwrap() + 1;
    let word = format!("byte offset {word}");
    let cases: [(PathBuf, i32, &[&str]); 7] = [
        (dir.path().join("none.txt"), 6, &["none.txt: reading failed: No such file"]),
        (dir.path().to_owned(), 3, &["found a directory, expected a file"]),
        (file("empty.txt", b""), 3, &["empty.txt: found "]),
        (file("blank.txt", b" \n\n \t\n"), 3, &["blank.txt: found no words"]),
        (file("broken.txt", &broken), 3, &["broken.txt", "invalid UTF-8", "byte offset 1000"]),
        (file("long.txt", &long), 3, &["long.txt", "found a word of 10", &word]),
        (file("nul.txt", &nul), 3, &["nul.txt", "a NUL byte", "byte offset 1000"]),
    ];
    for (path, code, parts) in &cases {
        let out = dir.path().join("model");
        refuse(train(path, &out, &[]), *code, parts);
        assert!(!out.exists(), "{}: a directory was made", path.display());
        // As a validation text, and for the verbs that read one. Blank ones are sentences.
        if path.ends_with("blank.txt") {
            continue;
        }
        refuse(train(Path::new(VALID), &out, &["--valid", path.to_str().unwrap()]), *code, parts);
        assert!(!out.exists(), "{}: a directory was made", path.display());
        for verb in ["eval", "score"] {
            refuse([OsStr::new(verb), model().as_os_str(), path.as_os_str()], *code, parts);
        }
    }
}

#[test]
fn options_that_make_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    let cases: [(&[&str], &str); 37] = [
        (&["--hidden", "0"], "--hidden"),
        (&["--hidden", "-1"], "--hidden"),
        (&["--hidden", "1e3"], "--hidden"),
        (&["--embed", "0"], "--embed"),
        (&["--layers", "0"], "--layers"),
        (&["--layers", "65"], "at most 64"),
        (&["--tau", "0"], "--tau"),
        (&["--batch", "0"], "--batch"),
        (&["--stride", "11"], "--stride 11: expected at most --tau 10"),
        (&["--lr", "NaN"], "expected a positive number"),
        (&["--lr", "-0.1"], "--lr"),
        (&["--lr", "inf"], "expected a positive number"),
        (&["--clip", "-5"], "--clip"),
        (&["--l2", "-1"], "--l2"),
        (&["--l2", "NaN"], "expected a non-negative number"),
        (&["--keep-prob", "0"], "a positive number, at most 1"),
        (&["--keep-prob", "1.1"], "a positive number, at most 1"),
        (&["--keep-prob", "nan"], "a positive number, at most 1"),
        (&["--epochs", "0"], "--epochs"),
        (&["--max-steps", "0"], "--max-steps"),
        (&["--max-vocab", "2"], "3 or more"),
        (&["--optimizer", "adm"], "a similar value exists: 'adam'"),
        (&["--hiden", "5"], "a similar argument exists: '--hidden'"),
        (&["--save-every", "0"], "--save-every"),
        (&["--cutoffs", "20,100"], "--cutoffs and --tail-divisor are only for --loss adaptive"),
        (&["--tail-divisor", "2", "--loss", "nce"], "are only for --loss adaptive"),
        (&["--loss", "adaptive", "--cutoffs", "100,20"], "ascending"),
        (&["--loss", "adaptive", "--cutoffs", "0,20"], "positive integers in ascending order"),
        (
            &["--loss", "adaptive", "--cutoffs", "20,2651"],
            "--cutoffs 2651: expected less than the vocabulary size, 2649",
        ),
        (&["--loss", "adaptive", "--tail-divisor", "0"], "--tail-divisor"),
        (&["--loss", "adaptive", "--tie"], "--tie needs --loss full"),
        (&["--loss", "sampled", "--tie", "--samples", "3"], "--tie needs --loss full"),
        (&["--loss", "nce", "--tie"], "--tie needs --loss full"),
        (&["--negatives", "per-lane"], "--negatives per-lane is only for --loss sampled and nce"),
        (&["--eval-tokens", "100"], "--eval-tokens needs --valid, the text it takes a subset of"),
        (&["--eval-tokens", "0", "--valid", TEST], "--eval-tokens"),
        (&["--patience", "2"], "--patience needs --valid, the data it measures progress on"),
    ];
    for (more, part) in cases {
        refuse(train(Path::new(VALID), &out, more), 2, &[part]);
        assert!(!out.exists(), "{more:?}: a directory was made");
    }
    let generate = |more: &[&'static str]| [&["generate"], more, &[model().to_str().unwrap()]].concat();
    refuse(generate(&["--temperature", "0"]), 2, &["--temperature"]);
    refuse(generate(&["--temperature", "NaN"]), 2, &["--temperature"]);
    refuse(generate(&["--top-k", "0"]), 2, &["--top-k"]);
    refuse(generate(&["--self-normalised"]), 2, &["--self-normalised is only for models trained with --loss nce"]);
    refuse(generate(&["--self-normalised", "--top-k", "3"]), 2, &["excludes --temperature, --top-k and --top-p"]);
    refuse(["score", "--self-normalised", model().to_str().unwrap(), TEST], 2, &["--loss nce"]);
    let output =
        wordmill().args(train(Path::new(VALID), &out, &["--precision", "bf16"])).env("WORDMILL_ISA", "scalar").output();
    let (line, code) = failure(&output.unwrap());
    assert!(line.contains("--precision bf16 needs a processor with AVX-512 BF16") && code == 2, "{line}");
    assert!(!out.exists());
    let output = wordmill().arg("info").env("WORDMILL_ISA", "mmx").output().unwrap();
    let (line, code) = failure(&output);
    assert!(line.contains("WORDMILL_ISA") && line.contains("mmx") && code == 2, "{line}");
}

#[test]
fn more_memory_than_there_is_is_refused_before_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    let sizes = ["--hidden", "1048576", "--layers", "64"];
    let start = Instant::now();
    refuse(train(Path::new(VALID), &out, &sizes), 2, &["needs", "GB of memory", "--hidden"]);
    assert!(start.elapsed() < Duration::from_secs(20) && !out.exists());
    // A limit of the process alone; 2,651 words of 1,000 units and Adam ask for 85 MB and more.
    let sizes = ["--hidden", "1000", "--embed", "1000", "--threads", "1"];
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v 160000 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_wordmill")]);
    let output = shell.args(train(Path::new(VALID), &out, &sizes)).stdin(Stdio::null()).output().unwrap();
    let (line, code) = failure(&output);
    assert!(line.contains("GB of memory") && code == 2, "{line}");
    assert!(!out.exists());
}

/// A training run: what was predicted to be its peak, and what it was, in MB.
fn predicted_and_peak<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> (f64, f64) {
    let output = run(args);
    let stderr = text(&output.stderr);
    let after = stderr.split("predicted peak memory ").nth(1).unwrap_or_else(|| panic!("{stderr}"));
    let predicted = after.split(' ').next().unwrap().parse().unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let peak = summary["peak_memory_mb"].as_f64().unwrap();
    println!("predicted {predicted} MB, peak {peak} MB");
    (predicted, peak)
}

/// The same of what is no language model; a run that needs more than there is replaces nothing.
#[test]
fn memory_of_other_models_is_predicted() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
    let words: Vec<String> = (0..3000).map(|i| format!("w{i}")).collect();
    let vectors = file("vectors", words.iter().map(|word| format!("{word}{}\n", " 0.25".repeat(300))).collect());
    let pair = |(i, two): (usize, &[String])| format!("{}\t{}\t{}\n", two[0], two[1], i % 2);
    let pairs = file("pairs", words.chunks(2).enumerate().map(pair).collect());
    let labels = file("labels", words.iter().zip(0..).map(|(word, i)| format!("{word}\tk{}\n", i % 5)).collect());
    // A class of its own in every row.
    let rows = (0..3000).map(|i| format!("{},{},{i}\n", i % 7, i % 11));
    let points = file("points.csv", "a,b,c\n".to_owned() + &rows.collect::<String>());
    let ner = format!("ner --train {data}/ner/test.conll --valid {data}/ner/valid.conll");
    let runs = [
        format!("{ner} --batch 300 --embed 100 --hidden 3000 --objective window"),
        // Of all sentences, since those of a step might be the longest.
        format!("{ner} --batch 1000000 --hidden 100 --objective sentence --optimizer adagrad"),
        format!("siamese --pairs {pairs} --valid {pairs} --vectors {vectors} --train-vectors --hidden 20000"),
        format!(
            "pseudo-siamese --train {labels} --valid {labels} --vectors {vectors} --hidden 9000 --dropout-penalty 0.3"
        ),
        format!("softmax --train {points} --batch 1500"),
    ];
    for (i, options) in runs.iter().enumerate() {
        let out = dir.path().join(i.to_string());
        let args = format!("train {options} --out {} --max-steps 2 --json --threads 1", out.display());
        let args: Vec<&str> = args.split(' ').collect();
        let (predicted, peak) = predicted_and_peak(&args);
        let told = format!("{options}: predicted {predicted} MB, peak {peak} MB");
        assert!((predicted / peak - 1.0).abs() < 0.1, "{told}");
        let before = tree(&out);
        let mut shell = Command::new("sh");
        // More than the program and the 128 MB of addresses that glibc reserves for a thread; else the heap is another.
        shell.args(["-c", "ulimit -v 160000 && exec \"$0\" \"$@\" --force", env!("CARGO_BIN_EXE_wordmill")]);
        let (line, code) = failure(&shell.args(args).stdin(Stdio::null()).output().unwrap());
        assert!(line.contains("GB of memory") && line.contains("would fit") && code == 2, "{options}: {line}");
        assert!(tree(&out) == before, "{options}: the model is another");
    }
}

/// What is said before training is what training takes.
#[test]
fn memory_is_predicted() {
    let dir = tempfile::tempdir().unwrap();
    let wide = ["--hidden", "700", "--embed", "500", "--max-steps", "3", "--json"];
    let deep = ["--hidden", "200", "--layers", "3", "--batch", "128", "--max-steps", "3", "--json", "--valid", TEST];
    let stateless = ["--optimizer", "sgd", "--hidden", "600", "--embed", "30", "--max-steps", "3", "--json"];
    let mut rounded = ["--precision", "bf16", "--cell", "gru", "--hidden", "900", "--max-steps", "3", "--json"];
    if !Precision::Bf16.available() {
        println!("skipped: memory of --precision bf16, which this processor does not have");
        rounded[1] = "f32";
    }
    for (i, more) in [&wide[..], &deep, &stateless, &rounded].into_iter().enumerate() {
        let out = dir.path().join(i.to_string());
        let (predicted, peak) = predicted_and_peak(train(Path::new(VALID), &out, more));
        assert!((predicted / peak - 1.0).abs() < 0.1, "{more:?}: predicted {predicted} MB, peak {peak} MB");
    }
}

#[test]
fn what_is_there_is_not_overwritten() {
    let copy = copy();
    let before = tree(copy.path());
    let file = tempfile::NamedTempFile::new().unwrap();
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.tex"), "years of work").unwrap();
    let valid = Path::new(VALID);
    refuse(train(valid, copy.path(), &[]), 4, &["contains a model of 60 steps", "--resume", "--force"]);
    refuse(train(valid, file.path(), &[]), 4, &["found a file, expected a directory"]);
    for force in [&[][..], &["--force"]] {
        refuse(train(valid, foreign.path(), force), 4, &["contains thesis.tex, which is not a file of wordmill"]);
    }
    // Nor is a model replaced, even when asked for, by a run that cannot begin.
    let empty = foreign.path().join("empty.txt");
    fs::write(&empty, "").unwrap();
    refuse(train(&empty, copy.path(), &["--force"]), 3, &["empty.txt"]);
    refuse(train(valid, copy.path(), &["--force", "--valid", empty.to_str().unwrap()]), 3, &["empty.txt"]);
    refuse(train(valid, copy.path(), &["--force", "--hidden", "1048576", "--layers", "64"]), 2, &["memory"]);
    refuse(train(valid, copy.path(), &["--force", "--resume"]), 2, &["give only one of them"]);
    refuse(train(valid, copy.path(), &["--resume", "--hidden", "11"]), 2, &["--hidden 11", "has 10"]);
    refuse(train(Path::new(TEST), copy.path(), &["--resume"]), 3, &["test.txt: found a different text"]);
    refuse(train(valid, foreign.path(), &["--resume"]), 4, &["not a model directory"]);
    refuse(train(valid, copy.path(), &["--resume"]), 2, &["60 steps have been made"]);
    assert!(tree(copy.path()) == before, "the model was touched");
    assert_eq!(fs::read(file.path()).unwrap(), b"");
    // A new run that comes to nothing leaves it, too; with its first checkpoint it goes.
    let before = weights(copy.path());
    refuse(train(valid, copy.path(), &["--force", "--lr", "1e38", "-q"]), 5, &["checkpoints saved before are kept"]);
    assert_eq!(weights(copy.path()), before);
    succeed(train(valid, copy.path(), &["--force", "--max-steps", "2", "-q"]));
    assert!(checkpoint(copy.path()).ends_with("step-000000000002"));
    // Nor does synth write over files that are there, nor the demo.
    let arguments = ["synth", "--tokens", "500", "--out", copy.path().to_str().unwrap()];
    succeed(arguments);
    let before = tree(copy.path());
    let (line, _) = failure(&run(arguments));
    assert!(line.contains("it would be overwritten"), "{line}");
    failure(&run(["demo", "--out", copy.path().to_str().unwrap()]));
    assert!(tree(copy.path()) == before, "a file was touched");
}

#[test]
fn damaged_models_are_named() {
    let verbs = |dir: &Path, code: i32, parts: &[&str]| {
        refuse([OsStr::new("eval"), dir.as_os_str(), OsStr::new(TEST)], code, parts);
        refuse([OsStr::new("score"), dir.as_os_str(), OsStr::new(TEST)], code, parts);
        refuse([OsStr::new("generate"), dir.as_os_str()], code, parts);
    };
    let nowhere = tempfile::tempdir().unwrap();
    verbs(&nowhere.path().join("none"), 4, &["none: no such model directory"]);
    verbs(nowhere.path(), 4, &["is not a model directory"]);
    verbs(Path::new(TEST), 4, &["found a file, expected a model directory"]);
    for name in ["config.json", "vocab.txt", "model.safetensors", "manifest.sha256", "options.toml"] {
        let copy = copy();
        let path = checkpoint(copy.path()).join(name);
        let whole = fs::read(&path).unwrap();
        // A bit flipped, in the middle and at the end.
        let places = if name == "manifest.sha256" {
            // What only training needs is not looked at here.
            let entry = text(&whole).find("  model.safetensors").unwrap();
            [entry - 1, entry + 2]
        } else {
            [whole.len() / 2, whole.len() - 1]
        };
        for at in places {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            // A changed manifest blames the file that it no longer vouches for.
            verbs(copy.path(), 4, &[if name == "manifest.sha256" { "step-000000000060" } else { name }]);
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        verbs(copy.path(), 4, &[name]);
        fs::write(&path, "").unwrap();
        verbs(copy.path(), 4, &[name]);
        fs::remove_file(&path).unwrap();
        verbs(copy.path(), 4, &[if name == "manifest.sha256" { "manifest.sha256" } else { name }]);
    }
    // What only training needs is checked when training goes on.
    for name in ["optimizer.safetensors", "state.json", "model.safetensors"] {
        let copy = copy();
        let path = checkpoint(copy.path()).join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&path, bytes).unwrap();
        refuse(["train", "lm", "--resume", "--out", copy.path().to_str().unwrap()], 4, &[name]);
    }
}

#[test]
fn a_damaged_checkpoint_leaves_the_one_before() {
    let copy = copy();
    let out = copy.path().to_str().unwrap();
    let resume = |steps: &str| run(["train", "lm", "--resume", "--out", out, "--max-steps", steps]);
    assert!(resume("100").status.success());
    let reference = weights(copy.path());
    let path = checkpoint(copy.path()).join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = run(["eval", out, TEST]);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.starts_with("warning: ") && stderr.contains("model.safetensors"), "{stderr}");
    assert!(resume("100").status.success());
    assert!(weights(copy.path()) == reference, "the steps made again are others");
}

/// In training only: evaluation is in f32, whoever asks for it. Runs in f32 are those of before there was anything else.
#[test]
fn operands_are_rounded_in_training_only() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    let (plain, mut steps) = (["--valid", TEST, "--json", "-q"], vec!["--max-steps", "40"]);
    let perplexity =
        |json: &str, name: &str| serde_json::from_str::<serde_json::Value>(json).unwrap()[name].as_f64().unwrap();
    let model = out.to_str().unwrap();
    let mut run = |more: &[&'static str]| {
        steps.extend(more);
        let valid = perplexity(
            &succeed(train(Path::new(VALID), &out, &[&plain, &steps[..]].concat())),
            "best_valid_perplexity",
        );
        assert_eq!(valid, perplexity(&succeed(["eval", model, TEST, "--json"]), "perplexity"));
        (weights(&out), succeed(["inspect", model, TEST]))
    };
    let (before, _) = run(&["--cell", "gru"]);
    assert!(!fs::read_to_string(checkpoint(&out).join("options.toml")).unwrap().contains("precision"));
    if !Precision::Bf16.available() {
        println!("skipped: --precision bf16, which this processor does not have");
        return;
    }
    let (after, inspected) = run(&["--precision", "bf16", "--force"]);
    assert!(before != after, "nothing is rounded");
    // On what reads it, the configuration has no effect.
    let config = fs::read_to_string(checkpoint(&out).join("config.json")).unwrap();
    assert!(config.contains("bf16"));
    let other = wordmill().args(["inspect", model, TEST]).env("WORDMILL_ISA", "avx2").output().unwrap();
    assert_eq!(inspected, text(&other.stdout));
}

/// The same words in another order have the same vocabulary.
#[test]
fn a_text_that_was_edited_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    let [file, valid] = ["text", "valid"].map(|name| dir.path().join(name));
    let (words, others) = (fs::read_to_string(VALID).unwrap(), fs::read_to_string(TEST).unwrap());
    fs::write(&file, &words).unwrap();
    fs::write(&valid, &others).unwrap();
    succeed(train(&file, &out, &["--max-steps", "3", "-q", "--valid", valid.to_str().unwrap()]));
    let resume = ["train", "lm", "--resume", "--out", out.to_str().unwrap(), "--max-steps", "5", "-q"];
    for (path, text) in [(&file, &words), (&valid, &others)] {
        fs::write(path, text.lines().rev().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let told = format!("{name}: found different contents, expected those that the run to resume was started with");
        refuse(resume, 3, &[&told]);
        fs::write(path, text).unwrap();
    }
    // What cannot be drawn is no reason to lose what was learned.
    let curves = out.join("curves.svg");
    fs::remove_file(&curves).unwrap();
    fs::create_dir(&curves).unwrap();
    let output = run(&resume[..7]);
    assert!(
        output.status.success()
            && text(&output.stderr).contains("warning: ")
            && text(&output.stderr).contains("curves.svg")
    );
    assert_eq!(checkpoint(&out).file_name().unwrap(), "step-000000000005");
}

#[test]
fn configuration_files() {
    let dir = tempfile::tempdir().unwrap();
    let config = |text: &str| {
        let path = dir.path().join("options.toml");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let out = dir.path().join("model");
    let refuse = |text: &str, code: i32, parts: &[&str]| {
        let path = config(text);
        refuse(train(Path::new(VALID), &out, &["--config", &path]), code, parts);
        assert!(!out.exists());
    };
    refuse("tau = 5\nhiden = 5\n", 3, &["options.toml:2: found the unknown key \"hiden\"", "\"hidden\""]);
    refuse("keep_prob = 0.5\n", 3, &["options.toml:1", "did you mean \"keep-prob\""]);
    refuse("hidden = 0\n", 3, &["options.toml:1", "hidden"]);
    refuse("hidden = \"many\"\n", 3, &["options.toml:1", "hidden"]);
    refuse("lr = nan\n", 3, &["options.toml:1", "lr"]);
    refuse("tau = 3\nhidden = \n", 3, &["options.toml:2"]);
    // The file counts, and the command line wins over it.
    let path = config("hidden = 7\nembed = 5\noptimizer = \"adagrad\"\nreset-at-eos = true\nmax-steps = 4\n");
    let paths = ["--train", VALID, "--out", out.to_str().unwrap()];
    let given = ["train", "lm", "--config", &path, "--embed", "9", "--batch", "8", "--seed", "5", "-q"];
    succeed(given.iter().chain(&paths));
    let saved = fs::read_to_string(checkpoint(&out).join("options.toml")).unwrap();
    for line in ["hidden = 7", "embed = 9", "optimizer = \"adagrad\"", "reset-at-eos = true", "batch = 8", "seed = 5"] {
        assert!(saved.lines().any(|other| other == line), "{line} is not in {saved}");
    }
    // What was saved is a configuration file in its turn, from any directory, and makes the same model.
    let again = dir.path().join("again");
    let saved = checkpoint(&out).join("options.toml");
    let args = ["train", "lm", "-q", "--config", saved.to_str().unwrap(), "--out", again.to_str().unwrap()];
    let output = wordmill().args(args).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(weights(&out) == weights(&again));
    refuse_missing(&dir.path().join("none.toml"), &again);
}

/// A preset gives way to a file, and both to the command line; what came of it is saved.
#[test]
fn presets() {
    let dir = tempfile::tempdir().unwrap();
    let (out, config) = (dir.path().join("model"), dir.path().join("options.toml"));
    fs::write(&config, "hidden = 7\nsamples = 30\n").unwrap();
    let (out, config) = (out.to_str().unwrap(), config.to_str().unwrap());
    let given = ["train", "lm", "--preset", "fast", "--train", VALID, "--out", out, "--max-steps", "3", "-q"];
    succeed(given.iter().chain(&["--samples", "40", "--embed", "5", "--config", config]));
    let saved = fs::read_to_string(checkpoint(Path::new(out)).join("options.toml")).unwrap();
    for line in
        ["hidden = 7", "embed = 5", "samples = 40", "cell = \"gru\"", "loss = \"sampled\"", "schedule = \"linear\""]
    {
        assert!(saved.lines().any(|other| other == line), "{line} is not in {saved}");
    }
    refuse(["train", "lm", "--preset", "quick", "--train", VALID, "--out", out], 2, &["quick", "fast"]);
    refuse(["train", "lm", "--preset", "fast", "--out", out, "--resume"], 2, &["--preset is only for a new run"]);
}

fn refuse_missing(config: &Path, out: &Path) {
    refuse(train(Path::new(VALID), out, &["--config", config.to_str().unwrap()]), 6, &["none.toml: reading failed"]);
}

/// Line ends, marks and spaces in any form give the same model.
#[test]
fn the_same_text_in_other_dress() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(VALID).unwrap();
    let plain: String = text.lines().take(300).flat_map(|line| [line, "\n"]).collect();
    let dresses = [
        plain.clone(),
        plain.replace('\n', "\r\n"),
        format!("\u{feff}{plain}"),
        plain.replace('\n', "\n  ").replace(' ', "  \t ").trim_end_matches(['\t', ' ']).to_owned(),
        plain.replace('\n', " \n"),
        plain.trim_end().to_owned(),
    ];
    let mut first = None;
    for (i, dress) in dresses.iter().enumerate() {
        let (file, out) = (dir.path().join(format!("{i}.txt")), dir.path().join(i.to_string()));
        fs::write(&file, dress).unwrap();
        succeed(train(&file, &out, &["--max-steps", "12", "--valid", file.to_str().unwrap(), "-q"]));
        let first = first.get_or_insert_with(|| weights(&out));
        assert!(*first == weights(&out), "dress {i}");
    }
    // And it is the text that matters.
    let (file, out) = (dir.path().join("other.txt"), dir.path().join("other"));
    fs::write(&file, plain.replacen("the", "teh", 1)).unwrap();
    succeed(train(&file, &out, &["--max-steps", "12", "-q"]));
    assert!(first.unwrap() != weights(&out));
}

#[test]
fn what_is_not_finite_stops_the_run() {
    let copy = tempfile::tempdir().unwrap();
    let (valid, out) = (Path::new(VALID), copy.path());
    let sgd = ["--optimizer", "sgd", "--max-steps", "10", "-q"];
    succeed(train(valid, out, &sgd));
    let good = tree(&checkpoint(out));
    refuse(
        ["train", "lm", "--resume", "--out", out.to_str().unwrap(), "--max-steps", "50", "--lr", "1e38"],
        5,
        &["step 1", " is not finite (", "checkpoints saved before are kept"],
    );
    assert!(tree(&checkpoint(out)) == good);
    succeed([OsStr::new("eval"), out.as_os_str(), OsStr::new(TEST)]);
    // It goes on from there when the reason is gone.
    succeed(["train", "lm", "--resume", "--out", out.to_str().unwrap(), "--max-steps", "20", "--lr", "0.5", "-q"]);
    // From the beginning: there is no checkpoint, and the tensor is named.
    let fresh = tempfile::tempdir().unwrap();
    let (line, code) = failure(&run(train(valid, fresh.path(), &["--optimizer", "sgd", "--lr", "1e30"])));
    let named = ["weight ", "gradient of ", "loss", "perplexity"].iter().any(|what| line.contains(what));
    assert!(line.starts_with("step ") && named && code == 5, "{line}");
}

/// A disk that is full while a checkpoint is written, as a limit on the size of files.
#[test]
fn a_full_disk_leaves_the_checkpoint_before() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    // About a megabyte of weights, far above the curves.
    succeed(train(Path::new(VALID), dir.path(), &["--hidden", "100", "--max-steps", "5", "-q"]));
    let good = tree(&checkpoint(dir.path()));
    // 512 blocks of 512 or 1,024 bytes, as the shell likes.
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 512 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_wordmill")]);
    let output = shell.args(["train", "lm", "--resume", "--out", out, "--max-steps", "9"]).output().unwrap();
    let (line, code) = failure(&output);
    assert!(line.contains("saving the checkpoint failed: ") && line.contains("File too large") && code == 6, "{line}");
    assert!(tree(&checkpoint(dir.path())) == good);
    succeed(["eval", out, TEST]);
    // Room again: the run ends as if nothing had been.
    succeed(["train", "lm", "--resume", "--out", out, "--max-steps", "9", "-q"]);
    let whole = tempfile::tempdir().unwrap();
    succeed(train(Path::new(VALID), whole.path(), &["--hidden", "100", "--max-steps", "9", "-q"]));
    assert!(weights(dir.path()) == weights(whole.path()));
}

/// Stopped at any step and resumed with more: the bytes of a run that was not, for every optimizer and thread count. With
/// a rate far too high, the evaluation at the end of the first part is worse than that before it; a run that goes on has no
/// evaluation there, so it must not halve the rate of what follows.
#[test]
fn steps_in_two_runs_are_the_steps_of_one() {
    let cases: [&[&str]; 13] = [
        &["--optimizer", "adam", "--lr", "0.3"],
        &["--optimizer", "adagrad", "--stride", "4", "--l2", "1e-4"],
        &["--optimizer", "sgd", "--lr", "30"],
        &["--layers", "2", "--activation", "relu", "--reset-at-eos", "--keep-prob", "0.7", "--stride", "1"],
        &["--batch", "33", "--activation", "sigmoid", "--init", "orthogonal", "--patience", "9"],
        &["--schedule", "constant", "--max-vocab", "900", "--clip", "0.2"],
        &["--loss", "sampled", "--samples", "50", "--recipe", "unique", "--optimizer", "adagrad"],
        &["--loss", "nce", "--samples", "40", "--sampler", "unigram", "--cell", "gru"],
        &["--loss", "nce", "--samples", "5", "--negatives", "per-lane", "--optimizer", "adagrad"],
        &["--loss", "adaptive", "--cutoffs", "200,900", "--tail-divisor", "2", "--eval-tokens", "300"],
        &["--cell", "gru", "--layers", "2", "--variational", "--optimizer", "adagrad-rowwise", "--stride", "5"],
        &["--cell", "lstm", "--layers", "2", "--reset-at-eos", "--forget", "0.2", "--stride", "5"],
        &["--cell", "gated-feedback", "--layers", "2", "--tie", "--embed", "10", "--dropout-scaling", "none"],
    ];
    for (i, case) in cases.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let part = |name: &str, threads: &str, steps: &str| {
            let out = dir.path().join(name);
            let more = [case, &["--valid", TEST, "--threads", threads, "--max-steps", steps, "-q"]].concat();
            succeed(train(Path::new(VALID), &out, &more));
            out
        };
        let whole = weights(&part("whole", "1", "290"));
        let two = part("two", "2", "290");
        assert!(whole == weights(&two), "{case:?}: two threads make another model than one");
        for (stop, threads) in [("37", "2"), ("150", "1")] {
            let out = part(&format!("stopped-{stop}"), threads, stop);
            assert!(weights(&out) != whole);
            let other = if i % 2 == 0 { "1" } else { "3" };
            let out_name = out.to_str().unwrap();
            let more = ["--resume", "--threads", other, "--max-steps", "290", "-q"];
            succeed(["train", "lm", "--out", out_name].iter().chain(&more));
            assert!(weights(&out) == whole, "{case:?}: stopped at {stop} and resumed, it is another model");
        }
    }
}

/// Ctrl-C, SIGTERM, and on to the end.
#[cfg(unix)]
#[test]
fn signals_save_and_the_run_goes_on_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts of a run"));
    let more = ["--hidden", "40", "--valid", TEST, "--schedule", "linear", "--max-steps", "1200", "--epochs", "20"];
    succeed(train(Path::new(VALID), &whole, &more));
    let mut args = train(Path::new(VALID), &parts, &more);
    let mut step = 0;
    for (name, number) in [("INT", 130), ("TERM", 143), ("INT", 130)] {
        let child = wordmill().args(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        // A report of this run: the next step is soon.
        let reported = || fs::read_to_string(parts.join("metrics.jsonl")).unwrap_or_default();
        let last = |text: &str| {
            let line = text.rsplit('\n').nth(1)?.to_owned();
            serde_json::from_str::<serde_json::Value>(&line).ok()?["step"].as_u64()
        };
        while last(&reported()).is_none_or(|last| last <= step) {
            assert!(start.elapsed() < Duration::from_secs(120), "no report came");
            std::thread::sleep(Duration::from_millis(2));
        }
        let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let (line, code) = failure(&child.wait_with_output().unwrap());
        assert_eq!(code, number, "{line}");
        let told = line.split("continue with: ").nth(1).unwrap_or_else(|| panic!("{line}"));
        // What is told works as it stands, in a shell.
        let path = Path::new(env!("CARGO_BIN_EXE_wordmill")).parent().unwrap().to_str().unwrap().to_owned();
        let help = format!("PATH='{path}':\"$PATH\" {told} --help");
        let shell = Command::new("sh").args(["-c", &help]).output().unwrap();
        assert!(shell.status.success() && told.contains("--resume"), "{told}: {}", text(&shell.stderr));
        let saved = checkpoint(&parts).file_name().unwrap().to_string_lossy()["step-".len()..].parse::<u64>().unwrap();
        assert!(saved > step && saved < 1200, "stopped at {saved}");
        step = saved;
        succeed([OsStr::new("eval"), parts.as_os_str(), OsStr::new(TEST)]);
        args = ["train", "lm", "--resume", "--out"].map(Into::into).to_vec();
        args.push(parts.clone().into());
    }
    succeed(&args);
    let file = |dir: &Path| fs::read(checkpoint(dir).join("model.safetensors")).unwrap();
    assert!(file(&parts) == file(&whole), "stopped three times, it is another model");
    let steps = |dir: &Path| -> Vec<u64> {
        let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(steps(&parts), steps(&whole), "reports are missing or doubled");
}

#[test]
fn two_runs_in_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let args = train(Path::new(VALID), dir.path(), &["--epochs", "1000"]);
    let mut first = wordmill().args(&args).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !dir.path().join("metrics.jsonl").exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = run(args.iter().chain(&[OsString::from("--force")]));
    first.kill().unwrap();
    first.wait().unwrap();
    let (line, code) = failure(&second);
    assert!(line.contains(&format!("is being written by process {}", first.id())) && code == 4, "{line}");
    // A killed run leaves nothing in the way.
    succeed(train(Path::new(VALID), dir.path(), &["--force", "--max-steps", "2", "-q"]));
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text:?}"))
}

#[test]
fn json_is_for_machines() {
    let model = model().to_str().unwrap();
    let eval = json(&succeed(["eval", model, TEST, "--json"]));
    let number = |value: &serde_json::Value, key: &str| value[key].as_f64().unwrap_or_else(|| panic!("{key}: {value}"));
    let loss = number(&eval, "loss");
    assert!((number(&eval, "perplexity") / loss.exp() - 1.0).abs() < 1e-12);
    assert!((number(&eval, "bits_per_word") * std::f64::consts::LN_2 / loss - 1.0).abs() < 1e-12);
    let lines = fs::read_to_string(TEST).unwrap();
    assert_eq!(number(&eval, "lines") as usize, lines.lines().count());
    assert_eq!(number(&eval, "tokens") as usize, lines.split_whitespace().count() + lines.lines().count());
    assert!((number(&eval, "unknown_rate") * number(&eval, "tokens") - number(&eval, "unknown")).abs() < 1e-9);
    let scores = succeed(["score", model, TEST, "--json"]);
    let plain = succeed(["score", model, TEST]);
    assert_eq!((scores.lines().count(), plain.lines().count()), (lines.lines().count(), lines.lines().count()));
    for ((score, plain), line) in scores.lines().zip(plain.lines()).zip(lines.lines()) {
        let score = json(score);
        assert!((number(&score, "log_probability") - plain.parse::<f64>().unwrap()).abs() <= 5e-7);
        assert_eq!(number(&score, "words") as usize, line.split_whitespace().count() + 1);
    }
    let generated = succeed(["generate", model, "--prompt", "The president", "--sentences", "3", "--json"]);
    assert_eq!(generated.lines().count(), 3);
    for line in generated.lines() {
        let sentence = json(line);
        assert!(sentence["text"].as_str().unwrap().starts_with("The president"), "{line}");
        let words = sentence["text"].as_str().unwrap().split(' ').count() as u64 - 2;
        assert!(sentence["words"] == words && sentence["ended"] == (words < 100), "{line}");
    }
    let info = json(&succeed(["info", "--json", "--seconds", "0.05"]));
    assert!(info["cores"].as_u64().unwrap() > 0 && number(&info["sgemm"][0], "gflops") > 0.0);
    assert!(number(&info["registers"][0], "gflops") > 0.0);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    let summary = json(&succeed(train(Path::new(VALID), &out, &["--max-steps", "3", "--json"])));
    assert_eq!(summary["steps"], 3);
    for line in fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines() {
        let keys =
            ["epoch", "step", "tokens", "seconds", "words_per_second", "train_loss", "learning_rate", "grad_norm"];
        keys.iter().for_each(|key| _ = number(&json(line), key));
    }
}

/// A line's score is what eval says of a text of just that line; with states that begin anew at each line, scores sum to what
/// eval says of the whole.
#[test]
fn scores_agree_with_eval() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    succeed(train(Path::new(VALID), &out, &["--max-steps", "40", "--reset-at-eos", "--lr", "0.05", "-q"]));
    let sentences = fs::read_to_string(TEST).unwrap();
    let mut lines: Vec<&str> = sentences.lines().take(45).collect();
    let long = lines.join(" ");
    // Empty lines within, at the beginning and at the end; words never seen; one line longer than any window.
    lines.insert(20, "");
    lines.insert(0, "");
    lines.extend(["zzz qqq", &long[..long.len() / 4], ""]);
    let file = dir.path().join("lines.txt");
    fs::write(&file, lines.iter().flat_map(|line| [line, "\n"]).collect::<String>()).unwrap();
    let total = |model: &Path, file: &Path| {
        let eval = json(&succeed([OsStr::new("eval"), model.as_os_str(), file.as_os_str(), OsStr::new("--json")]));
        eval["loss"].as_f64().unwrap() * eval["tokens"].as_f64().unwrap()
    };
    let scores = |model: &Path| -> Vec<f64> {
        let scores = succeed([OsStr::new("score"), model.as_os_str(), file.as_os_str()]);
        scores.lines().map(|line| line.parse().unwrap()).collect()
    };
    let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-4;
    for model in [&out, model()] {
        let scores = scores(model);
        assert_eq!(scores.len(), lines.len());
        assert!(scores[0] == scores[21] && scores[0] == scores[lines.len() - 1] && scores[0] < 0.0, "{scores:?}");
        let single = dir.path().join("single.txt");
        for i in [0, 1, 7, 21, 30, lines.len() - 3, lines.len() - 2] {
            fs::write(&single, format!("{}\n", lines[i])).unwrap();
            let expected = -total(model, &single);
            assert!(close(scores[i], expected), "line {i}: {} against {expected}", scores[i]);
        }
    }
    let sum: f64 = scores(&out).iter().sum();
    let expected = -total(&out, &file);
    assert!(close(sum, expected), "{sum} against {expected}");
}

#[test]
fn generation_follows_its_seed_and_limits() {
    let model = model().to_str().unwrap();
    let generate = |more: &[&str]| succeed([&["generate", model], more].concat());
    assert_eq!(generate(&["--seed", "7"]), generate(&["--seed", "7"]));
    assert_ne!(generate(&["--seed", "7", "--words", "40"]), generate(&["--seed", "8", "--words", "40"]));
    assert_eq!(generate(&["--sentences", "4"]).lines().count(), 4);
    assert!(generate(&["--words", "3", "--prompt", " it  was "]).split_whitespace().count() <= 5);
    assert_eq!(generate(&["--words", "0", "--prompt", "it was"]), "it was\n");
    // One choice leaves nothing to chance.
    assert_eq!(generate(&["--top-k", "1", "--seed", "1"]), generate(&["--top-k", "1", "--seed", "2"]));
    assert!(!generate(&["--sentences", "50", "--temperature", "5"]).contains("<unk>"));
}

/// Of a model that learns to be normalised: what its scores come to is what eval says of its ln Z.
#[test]
fn self_normalised_scores_and_sentences() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    let more = ["--loss", "nce", "--samples", "100", "--ln-z", "7", "--max-steps", "300", "--reset-at-eos", "-q"];
    succeed(train(Path::new(VALID), &out, &more));
    let out = out.to_str().unwrap();
    let sum = |more: &[&str]| -> f64 {
        succeed([&["score", out, TEST], more].concat()).lines().map(|line| line.parse::<f64>().unwrap()).sum()
    };
    let eval = json(&succeed(["eval", out, TEST, "--json"]));
    let tokens = eval["tokens"].as_f64().unwrap();
    let [mean, deviation, taken] = [0, 1, 2].map(|i| eval["ln_z"][i].as_f64().unwrap());
    println!("ln Z {mean} ± {deviation}");
    assert!(taken == 7.0 && (mean - 7.0).abs() < 0.5 && (0.01..1.0).contains(&deviation), "{mean} {deviation}");
    let (exact, own) = (sum(&[]) / tokens, sum(&["--self-normalised"]) / tokens);
    assert!((own - exact - (mean - taken)).abs() < 1e-3, "{own} {exact} {mean}");
    let output = run(["score", out, TEST, "--self-normalised"]);
    assert!(text(&output.stderr).contains("ln Z is assumed to be 7"));
    let generate = |seed: &str| succeed(["generate", out, "--self-normalised", "--seed", seed, "--sentences", "3"]);
    assert!(generate("1") == generate("1") && generate("1") != generate("2"));
}

/// The same lines each time, and eval says that they are not all.
#[test]
fn a_subset_is_evaluated_as_asked() {
    let some = |tokens: &str| {
        let eval = json(&succeed(["eval", model().to_str().unwrap(), TEST, "--json", "--eval-tokens", tokens]));
        ["tokens", "lines", "of_lines", "perplexity"].map(|key| eval[key].as_f64().unwrap())
    };
    let [tokens, lines, of_lines, perplexity] = some("400");
    assert!((400.0..600.0).contains(&tokens) && lines < of_lines, "{tokens} {lines} {of_lines}");
    assert_eq!(some("400")[3], perplexity);
    let all = json(&succeed(["eval", model().to_str().unwrap(), TEST, "--json"]));
    assert!(all["of_lines"].is_null() && all["lines"] == of_lines && all["perplexity"] != perplexity);
    assert_eq!(some("9999999")[3], all["perplexity"].as_f64().unwrap());
    let told = succeed(["eval", model().to_str().unwrap(), TEST, "--eval-tokens", "400"]);
    assert!(told.contains("a fixed random subset of"), "{told}");
}

/// A model with an adaptive softmax is used as any other, and its tails are written down.
#[test]
fn adaptive_models_are_models() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    let more = ["--loss", "adaptive", "--cutoffs", "200,900", "--max-steps", "100", "--reset-at-eos", "--valid", TEST];
    let output = run(train(Path::new(VALID), &out, &more));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("adaptive softmax: 200 words in the head"), "{}", text(&output.stderr));
    let config = json(&fs::read_to_string(checkpoint(&out).join("config.json")).unwrap());
    assert_eq!(config["loss"]["adaptive"]["tails"][1]["first"], 900);
    let out = out.to_str().unwrap();
    let eval = json(&succeed(["eval", out, TEST, "--json"]));
    let scores: f64 = succeed(["score", out, TEST]).lines().map(|line| line.parse::<f64>().unwrap()).sum();
    let expected = -eval["loss"].as_f64().unwrap() * eval["tokens"].as_f64().unwrap();
    assert!((scores / expected - 1.0).abs() < 1e-4, "{scores} {expected}");
    assert_eq!(succeed(["generate", out, "--sentences", "2"]).lines().count(), 2);
    succeed(["inspect", out, TEST, "--steps", "5"]);
    let file = dir.path().join("model.safetensors");
    refuse(["export", out, "--to", "pytorch", file.to_str().unwrap()], 2, &["an adaptive softmax"]);
}

#[test]
fn nobody_reads_the_output() {
    let model = model().to_str().unwrap();
    let mut child =
        wordmill().args(["score", model, TEST]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let help = succeed(["--help"]);
    for verb in ["train", "eval", "generate", "next", "score", "info", "synth", "demo"] {
        assert!(help.contains(verb), "{verb}");
        assert!(succeed([verb, "--help"]).contains("Usage: wordmill"));
    }
    refuse(["frobnicate"], 2, &["frobnicate"]);
}

/// To PyTorch's weights and back: the same perplexity; what PyTorch does not have, and files that do not fit, are refused.
#[test]
fn models_go_to_pytorch_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (name, more) in [
        ("gru", &["--cell", "gru", "--layers", "2"][..]),
        ("lstm", &["--cell", "lstm", "--layers", "2"]),
        ("relu", &["--activation", "relu"]),
        ("tied", &["--cell", "gru", "--tie", "--embed", "10", "--dropout-scaling", "none"]),
    ] {
        let (model, file) = (at(name), at(&format!("{name}.safetensors")));
        let more = [more, &["--max-steps", "30", "-q"]].concat();
        succeed(train(Path::new(VALID), Path::new(&model), &more));
        succeed(["export", &model, "--to", "pytorch", &file]);
        let (again, vocabulary) = (at(&format!("{name}-again")), at(&format!("{name}.vocab.txt")));
        // An editor may have made its lines end as on Windows.
        fs::write(&vocabulary, fs::read_to_string(&vocabulary).unwrap().replace('\n', "\r\n")).unwrap();
        succeed(["import", &file, "--vocab", &vocabulary, "--out", &again]);
        let loss = |model: &str| -> f64 {
            let report: serde_json::Value = serde_json::from_str(&succeed(["eval", model, TEST, "--json"])).unwrap();
            report["loss"].as_f64().unwrap()
        };
        assert!((loss(&model) - loss(&again)).abs() < 1e-6, "{name}");
        // Neither command writes over what is there.
        refuse(["export", &model, "--to", "pytorch", &file], 3, &[&file, "an existing file"]);
        refuse(["import", &file, "--vocab", &vocabulary, "--out", &again], 4, &[&again]);
        // It has no options to go on with.
        refuse(["train", "lm", "--out", &again, "--resume"], 4, &[&again, "no run to resume"]);
    }
    for (more, what) in [
        (&["--activation", "sigmoid"][..], "sigmoid units"),
        (&["--cell", "gated-feedback"], "a gated-feedback net"),
        (&["--reset-at-eos"], "reset at the end of a sentence"),
    ] {
        let more = [more, &["--max-steps", "1", "-q", "--force"]].concat();
        succeed(train(Path::new(VALID), Path::new(&at("other")), &more));
        refuse(["export", &at("other"), "--to", "pytorch", &at("other.safetensors")], 2, &[what]);
        assert!(!dir.path().join("other.safetensors").exists());
    }
    fs::write(at("few.txt"), "<eos>\t3\n<unk>\t0\n").unwrap();
    refuse(
        ["import", &at("gru.safetensors"), "--vocab", &at("few.txt"), "--out", &at("x")],
        3,
        &["embedding.weight", "2 words"],
    );
    fs::write(at("short"), b"\xff\xff\xff\xff\xff\0\0\0{}").unwrap();
    refuse(["import", &at("short"), "--vocab", &at("gru.vocab.txt"), "--out", &at("x")], 4, &[&at("short")]);
    assert!(!dir.path().join("x").exists());
}

#[test]
fn models_are_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let more = ["--cell", "gated-feedback", "--layers", "3", "--max-steps", "20", "-q"];
    succeed(train(Path::new(VALID), Path::new(&at("model")), &more));
    let plain = succeed(["inspect", &at("model")]);
    assert!(plain.contains("layer2.recurrent") && plain.contains("10 × 50"), "{plain}");
    let (svg, gates) = (at("curve.svg"), at("gates.svg"));
    let args = ["inspect", &at("model"), TEST, "--steps", "7", "--svg", &svg, "--gates", &gates, "--json"];
    let report: serde_json::Value = serde_json::from_str(&succeed(args)).unwrap();
    for layer in report["gradient"].as_array().unwrap() {
        let norms: Vec<f64> = layer.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert!(norms.len() == 8 && norms.iter().all(|x| *x > 0.0), "{norms:?}");
    }
    let in_range = |x: &serde_json::Value| (0.0..1.0).contains(&x.as_f64().unwrap());
    assert!(report["gates"]["update"].as_array().unwrap().iter().all(in_range));
    let rows = report["gates"]["feedback"].as_array().unwrap();
    assert!(rows.len() == 3 && rows.iter().all(|row| row.as_array().unwrap().iter().all(in_range)));
    assert!(fs::read_to_string(svg).unwrap().contains("steps back in time"));
    assert!(fs::read_to_string(gates).unwrap().contains("from 3"));
    refuse(["inspect", &at("model"), TEST, "--steps", "100000"], 3, &[TEST, "at least"]);
}

/// What is forgotten makes another model, the same for any number of threads; nothing is forgotten where nothing is
/// asked for.
#[test]
fn lanes_forget_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let with = |name: &str, forget: &str, threads: &str| {
        let out = dir.path().join(name);
        let more = ["--max-steps", "40", "-q", "--forget", forget, "--threads", threads];
        succeed(train(Path::new(VALID), &out, &more));
        weights(&out)
    };
    let (never, often) = (with("never", "0", "1"), with("often", "0.5", "1"));
    assert!(never != often);
    assert!(often == with("two threads", "0.5", "2"));
    refuse(train(Path::new(VALID), &dir.path().join("x"), &["--forget", "1.5"]), 2, &["--forget", "from 0 to 1"]);
}

/// The spans of a profile do not overlap, and their sum and the rest are the run; profiling changes no bit.
#[test]
fn a_profile_tells_where_the_time_went() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, out, trace) = (dir.path().join("plain"), dir.path().join("out"), dir.path().join("trace.json"));
    let steps = ["--max-steps", "40", "--cell", "gru", "--json"];
    succeed(train(Path::new(VALID), &plain, &steps));
    let more = ["--profile", trace.to_str().unwrap(), "--valid", TEST];
    let summary = json(&succeed(train(Path::new(VALID), &out, &[&steps[..], &more].concat())));
    assert_eq!(weights(&plain), weights(&out));

    let profile = &summary["profile"];
    let rows = profile["parts"].as_array().unwrap();
    let row = |group: &str, part: Option<&str>| {
        let found = rows.iter().find(|row| row["group"] == group && row["part"].as_str() == part);
        found.unwrap_or_else(|| panic!("{group} {part:?} is not among {rows:?}"))
    };
    for (part, spans) in [("forward", 40), ("backward", 40)] {
        assert_eq!(row("recurrent", Some(part))["spans"], spans, "{part}");
    }
    assert_eq!(row("optimizer", Some("update"))["spans"], 40);
    // The evaluation, and the check of what the last step did.
    assert_eq!(row("validation", None)["spans"], 2);
    assert!(row("output", None)["gflops"].as_f64().unwrap() > 0.0);
    let groups = rows.iter().filter(|row| row["part"].is_null() && row["group"] != "all");
    let shares: f64 = groups.map(|row| row["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");

    // 40 of everything that is once a step, and tasks of threads beside.
    let trace = json(&fs::read_to_string(trace).unwrap());
    let events = trace["traceEvents"].as_array().unwrap();
    let count = |name: &str, cat: &str| events.iter().filter(|e| e["name"] == name && e["cat"] == cat).count();
    assert_eq!((count("update", "optimizer"), count("forward", "recurrent"), count("save", "checkpoint")), (40, 40, 1));
    assert!(count("forward", "task") >= 40);

    let text = succeed(train(Path::new(VALID), &out, &["--max-steps", "3", "--force", "--profile"]));
    assert!(
        text.contains("where the time went") && text.contains("\n  forward ") && text.contains("\nrest "),
        "{text}"
    );
    let nowhere = dir.path().join("no/trace.json");
    refuse(
        train(Path::new(VALID), &out, &["--force", "--profile", nowhere.to_str().unwrap()]),
        6,
        &["trace.json", "writing"],
    );
}

/// What `tune` finds goes into training, and with the model: it is resumed and made again to the same bits, on any threads.
#[test]
fn a_tuning_is_kept_with_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let file = path("tuning.toml");
    let tuning = ["--tuning", file.to_str().unwrap()];
    let train = |name: &str, more: &[&str]| train(Path::new(VALID), &path(name), &[&["-q"], more].concat());
    refuse(train("none", &tuning), 6, &["tuning.toml", "reading the tuning"]);

    let sizes = ["--words", "1500", "--embed", "6", "--hidden", "10", "--batch", "16", "--seconds", "0.02", "--json"];
    let out = ["--out", file.to_str().unwrap()];
    let found = json(&succeed([&["tune"], &sizes[..], &out].concat()));
    assert!(found["entry"]["words_per_second"].as_f64().or(found["entry"]["words-per-second"].as_f64()).unwrap() > 0.0);
    assert!(found["tried"].as_array().unwrap().len() > 8, "{found}");
    // Another cell has no entry; what was found is by chance: these sizes are sure to change bits.
    refuse(
        train("gru", &[&tuning[..], &["--cell", "gru"]].concat()),
        3,
        &["tuning.toml: found no gru", "wordmill tune"],
    );
    let text = fs::read_to_string(&file).unwrap();
    let at = text.find("[entry.sizes]").expect("the sizes are a table");
    fs::write(&file, format!("{}[entry.sizes]\nshard = 5\nchunk = 48\nblock = 24\n", &text[..at])).unwrap();

    let steps = ["--max-steps", "40"];
    succeed(train("plain", &steps));
    succeed(train("tuned", &[&tuning[..], &steps].concat()));
    assert_ne!(weights(&path("plain")), weights(&path("tuned")));
    let given = ["--shard", "5", "--chunk", "48", "--block", "24", "--threads", "1"];
    succeed(train("given", &[&given[..], &steps].concat()));
    assert_eq!(weights(&path("given")), weights(&path("tuned")));
    let config = json(&fs::read_to_string(checkpoint(&path("tuned")).join("config.json")).unwrap());
    assert!(config.to_string().contains(r#""sizes":{"shard":5,"chunk":48,"block":24}"#), "{config}");

    succeed(train("pieces", &[&tuning[..], &["--max-steps", "17"]].concat()));
    let pieces = path("pieces");
    let resume = ["train", "lm", "--resume", "--out", pieces.to_str().unwrap(), "--max-steps", "40", "-q"];
    succeed(resume);
    assert_eq!(weights(&path("pieces")), weights(&path("tuned")));
    refuse([&resume[..], &tuning].concat(), 2, &["--tuning is only for a new run"]);
    refuse([&resume[..6], &["50", "--shard", "4"]].concat(), 2, &["--shard 4: the run to resume has 5"]);
    refuse(train("no", &["--loss", "sampled", "--chunk", "64"]), 2, &["--chunk and --block are only for --loss full"]);

    // It learns as well as without.
    let perplexity = |name: &str| {
        json(&succeed(["eval", path(name).to_str().unwrap(), TEST, "--json"]))["perplexity"].as_f64().unwrap()
    };
    let (plain, tuned) = (perplexity("plain"), perplexity("tuned"));
    assert!((plain / tuned - 1.0).abs() < 0.15, "{plain} {tuned}");
}
