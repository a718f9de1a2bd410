//! Taggers from the command line: the same bits for any number of threads and across a resume, text in and out, and bad input.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/ner");

fn wordmill(args: &str, input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_wordmill"))
        .args(args.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn done(args: &str, input: &str) -> String {
    let output = wordmill(args, input);
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is said where `args` fail, and the exit code.
fn refused(args: &str) -> (String, i32) {
    let output = wordmill(args, "");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && error.lines().filter(|l| l.starts_with("wordmill: ")).count() == 1,
        "{args}: {error}"
    );
    (error, output.status.code().unwrap())
}

/// The tensors of the newest checkpoint, weights and optimizer states.
fn tensors(dir: &Path) -> Vec<Vec<u8>> {
    let steps = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let newest = steps.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-")).max().unwrap();
    ["model.safetensors", "optimizer.safetensors"].map(|name| std::fs::read(newest.join(name)).unwrap()).to_vec()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).display().to_string()
    }
}

/// Both objectives, features, and a batch of several shards.
const KINDS: [&str; 2] =
    ["--objective sentence --batch 200", "--objective window --batch 100 --features none --keep-prob 0.8"];

#[test]
fn bits_do_not_depend_on_threads() {
    let place = Place::new();
    for kind in KINDS {
        let train = |threads: usize| {
            let out = place.path(&format!("threads{threads}"));
            let options = format!("--max-steps 70 --quiet --force --threads {threads} {kind}");
            done(
                &format!(
                    "train ner --train {DATA}/valid.conll --valid {DATA}/test.conll --out {} {options}",
                    out.display()
                ),
                "",
            );
            tensors(&out)
        };
        let one = train(1);
        for threads in [2, 3, 8] {
            assert!(one == train(threads), "{threads} threads, {kind}");
        }
    }
}

#[test]
fn a_resumed_run_comes_to_the_same_bits() {
    let place = Place::new();
    let text = std::fs::read_to_string(format!("{DATA}/valid.conll")).unwrap();
    // Some 3,000 tokens: epochs end within the run.
    let end = text.match_indices("\n\n").nth(200).unwrap().0;
    let train = place.file("train.conll", &text[..end]);
    for kind in KINDS {
        let run = |name: &str, options: &str| {
            let out = place.path(name);
            done(&format!("train ner --out {} --quiet {options}", out.display()), "");
            tensors(&out)
        };
        let options = format!("--train {train} --valid {train} --schedule plateau --epochs 4 --force {kind}");
        let whole = run("whole", &options);
        let stopped = run("parts", &format!("{options} --max-steps 41"));
        assert!(whole != stopped);
        assert!(whole == run("parts", "--resume --max-steps 1000000"), "{kind}");
    }
}

#[test]
fn learns_tags_and_tells_how_well() {
    let place = Place::new();
    let dir = place.path("tagger").display().to_string();
    let train = format!("train ner --train {DATA}/train.conll --valid {DATA}/valid.conll --out {dir} --epochs 2");
    let summary: serde_json::Value = serde_json::from_str(&done(&format!("{train} --json --quiet"), "")).unwrap();
    let valid = summary["best_valid_f1"].as_f64().unwrap();
    assert!(valid > 0.9, "{summary}");

    let report = done(&format!("eval {dir} {DATA}/valid.conll --json --svg {dir}.svg"), "");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        report["conlleval"]["overall"]["f1"].as_f64(),
        Some(valid),
        "the best checkpoint is the one that is used"
    );
    assert!(std::fs::read_to_string(format!("{dir}.svg")).unwrap().starts_with("<svg"));

    // Every line in order, with one column more; the tags are those that were evaluated.
    let gold = std::fs::read_to_string(format!("{DATA}/valid.conll")).unwrap();
    let tagged = done(&format!("tag {dir} {DATA}/valid.conll"), "");
    assert_eq!(gold.lines().count(), tagged.lines().count());
    let mut right = 0;
    for (gold, tagged) in gold.lines().zip(tagged.lines()) {
        if gold.is_empty() {
            assert_eq!(tagged, "");
            continue;
        }
        let (before, tag) = tagged.rsplit_once('\t').unwrap();
        assert_eq!(before, gold);
        right += usize::from(gold.ends_with(&format!("\t{tag}")));
    }
    assert_eq!(right as f64 / report["tokens"].as_f64().unwrap(), report["accuracy"].as_f64().unwrap());
    // Standard input is read alike, whatever the number of threads.
    assert_eq!(done(&format!("tag {dir} --threads 3"), &gold), tagged);

    // Plain text: spaces and empty lines stay.
    let text = "  The  mayor of Ashford \n\nhe left";
    let inline = done(&format!("tag {dir} --text"), text);
    assert_eq!(inline.replace(['[', ']'], "").replace("LOC ", "").replace("ORG ", "").replace("PER ", ""), text);
    // Ashford is a town and a surname: which it is here is the net's affair, the form is what this test is about.
    let kinds = ["LOC", "PER"].map(|kind| format!("[{kind} Ashford] \n\n"));
    assert!(kinds.iter().any(|entity| inline.contains(entity)), "{inline}");
    let column = done(&format!("tag {dir} --text --output column"), text);
    assert_eq!(
        column.lines().map(|l| l.split('\t').next().unwrap()).collect::<Vec<_>>().join(" "),
        "The mayor of Ashford   he left "
    );
    assert_eq!(done(&format!("tag {dir}"), ""), "");

    let neighbors = done(&format!("neighbors {dir} Ashford the -n 3"), "");
    assert_eq!(neighbors.lines().count(), 8, "{neighbors}");
    let (error, code) = refused(&format!("neighbors {dir} Ashford qzxv"));
    assert!(error.contains("`qzxv` is not in the vocabulary") && code == 2, "{error}");
    for verb in ["generate", "score"] {
        let file = if verb == "score" { format!("{DATA}/valid.conll") } else { String::new() };
        let (error, code) = refused(&format!("{verb} {dir} {file}"));
        assert!(error.contains("is a tagger") && code == 4, "{error}");
    }

    // Tags that were never learned are named, counted and evaluated.
    let other = place.file("other.conll", "Ashford\tB-LOC\nx\tB-PLANET\ny\tI-PLANET\n\nz\tO\n");
    let output = wordmill(&format!("eval {dir} {other} --json"), "");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("B-PLANET (1), I-PLANET (1)"), "{told}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["conlleval"]["types"]["PLANET"]["gold"], 1);
}

#[test]
fn bad_input_is_one_line() {
    let place = Place::new();
    let out = place.path("out").display().to_string();
    let good = place.file("good", "a\tB-X\nb\tO\n\nc\tO\nd\tB-Y\n");
    let train = |file: &str, options: &str| format!("train ner --train {file} --out {out} --max-steps 2 {options}");
    let says = |args: String, text: &str, code: i32| {
        let (error, found) = refused(&args);
        assert!(error.contains(text) && found == code, "{args}: {error}");
        assert!(!Path::new(&out).exists(), "nothing is made before the input is read");
    };
    let columns = place.file("columns", "a\tB-X\nb\n");
    says(train(&columns, ""), "columns:2: found 1 column", 3);
    let tag = place.file("tag", "a\tB-X\n\nb\tO\nc\tI-X\n\nd\tB-X\n");
    says(train(&tag, "--strict"), "tag:4: found 1 tag that the scheme iob2 does not allow, first `I-X` after `O`", 3);
    says(
        train(&good, "--column 3"),
        "good:1: found 2 columns (split at tabs, since the file has tabs): `a\\tB-X`, expected at least 3",
        3,
    );
    says(train(&good, "--column 1"), "column 1 contains the words", 2);
    let none = place.file("none", "a\tO\nb\tO\n");
    says(train(&none, ""), "none: found no entity: every tag is O", 3);
    let empty = place.file("empty", "\n \n");
    says(train(&empty, ""), "empty: found no tokens", 3);
    let html = place.file("html", "<!DOCTYPE html><html></html>\n");
    says(train(&html, ""), "html: found a page of HTML", 3);
    says(train(&good, &format!("--vectors {html}")), "html: found a page of HTML", 3);
    // A few rows that cannot be used are left out with a warning; if they are most of a file, it is something else.
    let ragged = place.file("ragged", "a 1 2\nb 1 2\nc x\nd y\ne z\n");
    says(train(&good, &format!("--vectors {ragged}")), "ragged:3: found a row of 2 fields, expected a word and 2", 3);
    let latin = place.file("latin", b"a 1 2\nb\xE9 1 2\nc\xE9 1 2\n");
    says(train(&good, &format!("--vectors {latin}")), "latin:2: found the byte 0xE9, expected a word and 2", 3);
    let wide = place.file("wide", "a 1 2 3\n");
    says(train(&good, &format!("--vectors {wide} --embed 50")), "--embed 50: the vectors of --vectors have width 3", 2);
    says(train(&good, "--freeze-vectors"), "--freeze-vectors needs --vectors", 2);
    says(train(&good, "--features none,caps"), "--features none cannot be combined with other", 2);
    says(train(&good, "--window 4"), "expected an odd number", 2);
    says(train("/nonexistent/x", ""), "/nonexistent/x: reading failed", 6);
    let (error, code) = refused(&format!("tag {} {good}", place.0.path().display()));
    assert!(error.contains("is not a model directory") && code == 4, "{error}");
}

#[test]
fn odd_input_is_taken() {
    let place = Place::new();
    let long: String =
        (0..1238).map(|i| format!("word{}\t{}\n", i % 50, if i % 9 == 0 { "B-X" } else { "O" })).collect();
    let odd = "\u{feff}#x\tB-X\r\nnew york\tI-X\r\n\t\n-DOCSTART-\tO\n\tO\n\u{200b}\tB-X,B-Y\n";
    let text = place.file("text", format!("{odd}\n{long}"));
    let vectors = place.file("vectors", "2 3\n#x 1 2 3\nword1 4 5 6\n");
    for (i, kind) in
        ["--objective sentence", "--objective window --window 7", "--scheme iobes", "--scheme io --lowercase"]
            .into_iter()
            .enumerate()
    {
        let out = place.path(&format!("out{i}")).display().to_string();
        let options = format!("--epochs 1 --vectors {vectors} --freeze-vectors {kind}");
        let output =
            wordmill(&format!("train ner --train {text} --valid {text} --test {text} --out {out} {options}"), "");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        assert!(told.contains("1 empty word;") && told.contains("1 tag joined by commas"), "{told}");
        let tagged = done(&format!("tag {out} {text}"), "");
        assert_eq!(tagged.lines().count(), odd.lines().count() + 1 + 1238);
        // A byte order mark is no part of a word.
        let column = |text: &str| done(&format!("tag {out} --text --output column"), text);
        assert_eq!(column("\u{feff}#x lives\n"), column("#x lives\n"));
        // Frozen vectors are those of the file.
        let neighbors = done(&format!("neighbors {out} #x --json -n 100"), "");
        let cosine = (4.0 + 10.0 + 18.0) / (14.0f64.sqrt() * 77.0f64.sqrt());
        let found: serde_json::Value = serde_json::from_str(&neighbors).unwrap();
        let own = found["neighbors"].as_array().unwrap().iter().find(|pair| pair[0] == "word1").unwrap();
        assert!((own[1].as_f64().unwrap() - cosine).abs() < 1e-6, "{own} {cosine}");
    }
    let broken = place.file("broken", "a\tB-X\n\nb\tO\nc\tI-X\n\nd\tB-X\n");
    let output = wordmill(&format!("train ner --train {broken} --out {} --repair", place.path("r").display()), "");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("broken:4: 1 tag that the scheme iob2 does not allow"), "{told}");
}
