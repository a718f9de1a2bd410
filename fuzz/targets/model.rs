//! Model directories whose manifest is right and whose files are anything: one of the files of a small model is replaced,
//! or its tensors' header is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

type Files = Vec<(String, Vec<u8>)>;

/// The files of a small language model and of a small tagger, made once by the program.
static MODELS: LazyLock<[Files; 2]> = LazyLock::new(|| {
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
        let files = fs::read_dir(&step).expect("a directory").map(|entry| entry.expect("an entry").path());
        let mut files: Files = files.map(|path| (name(&path), fs::read(&path).expect("a file"))).collect();
        files.retain(|(name, _)| name != "manifest.sha256");
        files.sort();
        files
    };
    let lm = train("lm", &text, "--embed 2 --hidden 3 --tau 2 --batch 2 --max-steps 1 --threads 1 -q");
    let ner = train("ner", &conll, "--embed 2 --hidden 3 --max-steps 1 --threads 1 -q");
    [lm, ner]
});

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let kind = (choice & 1) as usize;
    let mut files = MODELS[kind].clone();
    let which = (choice >> 1) as usize % files.len();
    let (name, bytes) = &mut files[which];
    if name.ends_with(".safetensors") && choice & 0x80 != 0 {
        // Another header before the values that belong there.
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
        let values = bytes.split_off(header);
        *bytes = (data.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(data);
        bytes.extend(values);
    } else {
        *bytes = data.to_vec();
    }
    let dir: PathBuf = wordmill_fuzz::directory().join("step-000000000001");
    _ = fs::create_dir(&dir);
    let mut manifest = String::new();
    for (name, bytes) in &files {
        fs::write(dir.join(name), bytes).expect("a file can be written");
        let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        manifest += &format!("{hash}  {name}\n");
    }
    fs::write(dir.join("manifest.sha256"), manifest).expect("a file can be written");
    let lines = wordmill_fuzz::file("lines", b"a b zz\n");
    wordmill_fuzz::limited(|| {
        let verb = ["score", "tag"][kind];
        let mut args: Vec<OsString> = ["wordmill", verb].map(Into::into).to_vec();
        args.extend([dir.clone().into(), lines.into()]);
        args.extend(if kind == 1 { vec!["--text".into()] } else { vec![] });
        _ = wordmill::cli::run(args);
    });
    for (name, _) in files {
        _ = fs::remove_file(dir.join(name));
    }
});
