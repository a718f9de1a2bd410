//! Model directories whose manifest is right and whose files are anything: one of the files of a small model is replaced,
//! or its tensors' header is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use wordmill::tasks::Model as _;
use wordmill::tasks::language_model::TrainedLm;
use wordmill::tasks::score::score;
use wordmill::tasks::tagger::Tagger;
use wordmill::text::Lines;

/// A checkpoint's directory, and its files but the manifest: name, bytes and hash.
type Model = (PathBuf, Vec<(String, Vec<u8>, String)>);

fn hash_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A line of a manifest.
fn line(name: &str, hash: &str) -> String {
    format!("{hash}  {name}\n")
}

/// A small language model and a small tagger, made once by the program.
static MODELS: LazyLock<[Model; 2]> = LazyLock::new(|| {
    let dir = wordmill_fuzz::directory();
    let text = wordmill_fuzz::file("text", "a b c d a b\nb c a\n".repeat(8).as_bytes());
    let conll = wordmill_fuzz::file("text.conll", "A B-X\nb O\n\nc O\nD B-Y\nE I-Y\n\n".repeat(4).as_bytes());
    let train = |kind: &str, text: &Path, sizes: &str| {
        let out = dir.join(format!("model-{kind}"));
        let mut args: Vec<OsString> = ["wordmill", "train", kind, "--train"].map(Into::into).to_vec();
        args.extend([text.into(), "--out".into(), out.clone().into()]);
        args.extend(sizes.split(' ').map(Into::into));
        _ = wordmill::cli::run(args);
        let steps = fs::read_dir(&out).expect("the model was made").map(|entry| entry.expect("an entry").path());
        let step = steps.filter(|path| path.join("manifest.sha256").exists()).max().expect("a checkpoint");
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        let paths = fs::read_dir(&step).expect("a directory").map(|entry| entry.expect("an entry").path());
        let mut files: Vec<(String, Vec<u8>, String)> = paths
            .filter(|path| !path.ends_with("manifest.sha256"))
            .map(|path| (name(&path), fs::read(&path).expect("a file")))
            .map(|(name, bytes)| (name, bytes.clone(), hash_of(&bytes)))
            .collect();
        files.sort();
        (step, files)
    };
    let lm = train("lm", &text, "--embed 2 --hidden 3 --tau 2 --batch 2 --max-steps 1 --threads 1 -q");
    let ner = train("ner", &conll, "--embed 2 --hidden 3 --max-steps 1 --threads 1 -q");
    [lm, ner]
});

fuzz_target!(|data: &[u8]| {
    wordmill_fuzz::alone();
    let Some((&choice, data)) = data.split_first() else { return };
    let (dir, files) = &MODELS[(choice & 1) as usize];
    let which = (choice >> 1) as usize % files.len();
    let (name, before, _) = &files[which];
    let mut bytes = data.to_vec();
    if name.ends_with(".safetensors") && choice & 0x80 != 0 {
        // Another header before the values that belong there.
        let header = 8 + u64::from_le_bytes(*before.first_chunk().expect("a length")) as usize;
        bytes.splice(0..0, (data.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&before[header..]);
    }
    let manifest: String = files
        .iter()
        .map(|(own, _, hash)| if own == name { line(own, &hash_of(&bytes)) } else { line(own, hash) })
        .collect();
    fs::write(dir.join(name), &bytes).expect("a file can be written");
    fs::write(dir.join("manifest.sha256"), manifest).expect("a file can be written");
    wordmill_fuzz::limited(|| {
        if choice & 1 == 0 {
            if let Ok(trained) = TrainedLm::load(dir) {
                let lines = wordmill_fuzz::file("lines", b"a b zz\n");
                let lines = Lines::read_with(&lines, &trained.vocabulary, &Default::default()).expect("a plain text");
                assert_eq!(score(&trained, &lines, None).len(), 1);
            }
        } else if let Ok(tagger) = Tagger::load(dir) {
            let tags = tagger.tag(&["A", "b", "zz"], &[2, 3], &Default::default());
            assert_eq!(tags.expect("there is memory for three words").len(), 3);
        }
    });
    fs::write(dir.join(name), before).expect("a file can be written");
});
