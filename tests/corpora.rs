//! Corpora as they are distributed: each trains, evaluates and tags, with at most one option, which a message names.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/ner");

fn wordmill(args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wordmill")).args(args.split_whitespace()).output().unwrap()
}

/// Standard output and standard error of what must work.
fn works(args: &str) -> [String; 2] {
    let Output { status, stdout, stderr } = wordmill(args);
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(status.success(), "{args}: {err}");
    [out, err]
}

/// A corpus: folder, text to train on and text to evaluate and tag, an option, and what of a warning there is without that option,
/// or with none if there is no option.
struct Corpus {
    name: &'static str,
    files: [&'static str; 2],
    option: &'static str,
    warning: Option<&'static str>,
    /// Sentences and tokens of the second file.
    size: [u64; 2],
}

#[rustfmt::skip]
const CORPORA: [Corpus; 8] = [
    Corpus { name: "wnut17", files: ["emerging.dev.conll", "emerging.test.annotated"], option: "",
        warning: None, size: [1287, 23_394] },
    Corpus { name: "wikigold", files: ["wikigold.conll.txt"; 2], option: "", warning: None, size: [1696, 39_007] },
    Corpus { name: "bc2gm", files: ["devel.tsv"; 2], option: "", warning: None, size: [2519, 71_042] },
    Corpus { name: "ncbi-disease", files: ["devel.tsv", "test.tsv"], option: "", warning: None, size: [940, 24_497] },
    Corpus { name: "lener-br", files: ["dev.conll", "test.conll"], option: "", warning: None, size: [1389, 47_630] },
    Corpus { name: "germeval2014", files: ["NER-de-dev.tsv"; 2], option: "--word-column 2",
        warning: Some("--word-column 2"), size: [2200, 41_653] },
    Corpus { name: "klue", files: ["klue-ner-v1.1_dev.tsv"; 2], option: "", warning: None, size: [5000, 285_929] },
    Corpus { name: "europeana", files: ["enp_NL.kb.bio"; 2], option: "", warning: Some("--max-sentence"), size: [0, 182_482] },
];

#[test]
fn all_corpora_train_evaluate_and_tag() {
    if !Path::new(ROOT).exists() {
        println!("skipped: no {ROOT}");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    for Corpus { name, files, option, warning, size } in CORPORA {
        let [train, test]: [PathBuf; 2] = files.map(|file| Path::new(ROOT).join(name).join(file));
        let (train, test, out) = (train.display(), test.display(), place.path().join(name));
        let out = out.display();
        let options = format!("--train {train} --out {out} --max-steps 3 --hidden 10 --embed 10 --threads 2");
        if !option.is_empty() {
            let [_, told] = works(&format!("train ner {options}"));
            let told: Vec<&str> = told.lines().filter(|line| line.starts_with("warning: ")).collect();
            assert!(warning.is_some_and(|text| told.iter().any(|line| line.contains(text))), "{name}: {told:?}");
        }
        let [_, told] = works(&format!("train ner {options} --force {option}"));
        let expected = match name {
            _ if option.is_empty() => warning,
            // Its last column holds the inner tags of nested entities.
            "germeval2014" => Some("columns 3 and 4 both contain tags; using column 3"),
            _ => None,
        };
        let told: Vec<&str> = told.lines().filter(|line| line.starts_with("warning: ")).collect();
        match expected {
            Some(text) => assert!(told.iter().any(|line| line.contains(text)), "{name}: {told:?}"),
            None => assert!(told.is_empty(), "{name}: {told:?}"),
        }
        // Without the option: what is saved with the model counts.
        let [report, _] = works(&format!("eval {out} {test} --json"));
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["tokens"], size[1], "{name}");
        assert!(size[0] == 0 || report["sentences"] == size[0], "{name}: {}", report["sentences"]);
        assert!(report["conlleval"]["overall"]["f1"].is_number(), "{name}");

        let [tagged, _] = works(&format!("tag {out} {test}"));
        let before = std::fs::read_to_string(Path::new(ROOT).join(name).join(files[1])).unwrap();
        let mut tokens = 0;
        for (before, after) in before.split('\n').zip(tagged.split('\n')) {
            let document = before.starts_with("-DOCSTART-");
            if before != after {
                let (line, _) = after.rsplit_once(['\t', ' ']).unwrap();
                assert_eq!(line, before, "{name}");
                tokens += u64::from(!document);
            }
        }
        assert_eq!(tokens, size[1], "{name}");
        assert_eq!(tagged.split('\n').count(), before.split('\n').count(), "{name}");
    }
}
