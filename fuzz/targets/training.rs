//! Training steps, evaluation and tagging on files of any content: the whole program, as a user runs it. The input is a byte that
//! chooses the model, one that chooses options, then the training file, a zero byte, and the validation file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::LazyLock;

/// Vectors of a few words.
static VECTORS: LazyLock<OsString> = LazyLock::new(|| {
    let rows: String = ('a'..='z').zip(0..).map(|(word, i)| format!("{word} {} {}\n", i % 5, i % 3)).collect();
    wordmill_fuzz::file("vectors", rows.as_bytes()).into()
});

/// Runs the program; whether it succeeded. A mistake of ours is a panic, which ends the target.
fn run(words: &str, more: &[&OsString]) -> bool {
    let args = std::iter::once("wordmill").chain(words.split_whitespace()).map(OsString::from);
    wordmill::cli::run(args.chain(more.iter().map(|&word| word.clone()))) == ExitCode::SUCCESS
}

fuzz_target!(|data: &[u8]| {
    let [model, options, data @ ..] = data else { return };
    let at = data.iter().position(|byte| *byte == 0);
    let (train, valid) = at.map_or((data, data), |at| (&data[..at], &data[at + 1..]));
    let train: OsString = wordmill_fuzz::file("train", train).into();
    let valid: OsString = wordmill_fuzz::file("valid", valid).into();
    let out: OsString = wordmill_fuzz::directory().join("trained").into();
    let batch = [1, 3, 40, 100_000][*options as usize & 3];
    let second = options & 4 != 0;
    let choose = |[no, yes]: [&'static str; 2]| if second { yes } else { no };
    let window = 1 + 2 * (*options as usize >> 3 & 7);
    let (command, name) = match model % 6 {
        0 => (format!("ner --window {window} --objective {} --embed 3", choose(["sentence", "window"])), "--train"),
        1 => {
            let more = choose(["--loss full", "--loss sampled --samples 3"]);
            (format!("lm --tau {} --embed 3 {more}", 1 + window / 2), "--train")
        }
        2 => (choose(["siamese", "siamese --train-vectors"]).into(), "--pairs"),
        3 => (choose(["pseudo-siamese", "pseudo-siamese --freeze-vectors"]).into(), "--train"),
        4 => ("pseudo-siamese".into(), "--train"),
        _ => (choose(["softmax", "softmax --dropout-penalty 0.2"]).into(), "--train"),
    };
    let hidden = if model % 6 == 5 { "" } else { "--hidden 4" };
    let line = format!("train {command} {hidden} --batch {batch} --epochs 2 --max-steps 5 --threads 1 -q --force");
    let (name, with_valid, with_out): (OsString, OsString, OsString) = (name.into(), "--valid".into(), "--out".into());
    let mut more = vec![&with_out, &out, &name, &train, &with_valid, &valid];
    let vectors: OsString = "--vectors".into();
    if matches!(model % 6, 2 | 3) {
        more.extend([&vectors, &*VECTORS]);
    }
    wordmill_fuzz::limited(|| {
        if run(&line, &more) {
            run("eval --threads 1", &[&out, &valid]);
            match model % 6 {
                0 => _ = run("tag --threads 1", &[&out, &valid]),
                1 => _ = run("score --threads 1", &[&out, &valid]),
                _ => {}
            }
        }
    });
});
