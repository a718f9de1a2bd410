//! Seen to crash, hang or mislead.

use super::program::{Desk, SMALL_NER, text};
use std::fmt::Write;
use std::process::Stdio;

/// Sentences of such lengths, of which the last token of each is an entity.
fn tagged(lengths: impl IntoIterator<Item = usize>) -> String {
    lengths.into_iter().fold(String::new(), |mut text, n| {
        write!(text, "{}A B-X\n\n", "w O\n".repeat(n - 1)).unwrap();
        text
    })
}

/// Point 1: a batch whose longest sentence is longer than that of the batch before, in fewer tokens.
#[test]
fn training_on_a_longer_sentence_in_fewer_tokens() {
    let desk = Desk::new();
    for (i, lengths) in [[65, 1, 31, 34], [34, 31, 1, 65], [1, 1, 1, 200]].into_iter().enumerate() {
        desk.file("train", tagged(lengths));
        for more in ["", "--batch 1", "--objective window"] {
            desk.run(&format!("train ner --train train --out m{i} --force {SMALL_NER} {more} -q")).works();
        }
    }
}

/// Point 2: memory that decodes one block of sentences decodes a later one with a longer sentence.
#[test]
fn decoding_a_longer_sentence_after_shorter_ones() {
    let desk = Desk::new();
    desk.file("train", tagged([2]));
    desk.run(&format!("train ner --train train --out m {SMALL_NER} -q")).works();
    let blocks = (0..17).flat_map(|_| [31, 34].into_iter().chain([32; 30]).chain([65]).chain([32; 30]));
    desk.file("test", tagged(blocks));
    desk.run("eval m test --threads 1").works();
    let tags = desk.run("tag m test --threads 1").works();
    assert_eq!(tags.out.lines().filter(|line| line.starts_with("A ")).count(), 17 * 63);
    desk.run(&format!("train ner --train train --valid test --out v {SMALL_NER} -q")).works();
}

/// Point 3: what the last step does is seen in no later one.
#[test]
fn a_last_step_into_nonsense_is_not_saved() {
    let desk = Desk::new();
    desk.file("text", text(40));
    desk.file("tagged", tagged([5; 40]));
    desk.file("vectors", (0..40).map(|i| format!("w{i} {} 1\n", i % 9)).collect::<String>());
    desk.file("pairs", (0..30).map(|i| format!("w{i}\tw{}\t{}\n", i + 9, i % 2)).collect::<String>());
    desk.file("labels", (0..30).map(|i| format!("w{i}\tk{}\n", i % 3)).collect::<String>());
    desk.file("table", (0..30).fold("a,b,k\n".to_owned(), |all, i| format!("{all}{},{},k{}\n", i % 7, i % 5, i % 3)));
    let lm = "lm --train text --embed 4 --hidden 5 --batch 4 --tau 3";
    let commands = [
        lm,
        &format!("{lm} --cell gru --loss nce --samples 4"),
        "ner --train tagged",
        "ner --train tagged --objective window",
        "siamese --pairs pairs --vectors vectors",
        "pseudo-siamese --train labels --vectors vectors",
        "softmax --train table",
    ];
    for (i, command) in commands.into_iter().enumerate() {
        let wild = "--optimizer sgd --lr 1e10 --max-steps 1 --threads 1";
        desk.run(&format!("train {command} --out m{i} {wild}")).refuses(5, &["step 1: ", "a lower --lr may help"]);
        assert!(!desk.path().join(format!("m{i}/step-000000000001")).exists(), "{command}: it is saved all the same");
        // The same at the usual rate.
        desk.run(&format!("train {command} --out m{i} --force --max-steps 2 --threads 1 -q")).works();
    }
    // A loss over samples that looks small, and a perplexity that does not.
    let wild = "--loss sampled --samples 4 --optimizer sgd --lr 5000 --epochs 1 --threads 1 --clip 1e30";
    desk.run(&format!("train {lm} --out w {wild}")).refuses(5, &["a lower --lr may help"]);
}

/// Point 5: a long line among short ones costs its own work. What is measured is time, with much to spare: before, 64 lanes ran as
/// long as the longest of them.
#[test]
fn a_long_line_among_short_ones_is_scored_in_its_own_time() {
    let desk = Desk::new();
    desk.file("text", text(100));
    desk.run("train lm --train text --out m --embed 30 --hidden 60 --max-steps 2 -q --threads 1").works();
    let long = "the cat sat ".repeat(2500);
    desk.file("long", format!("{long}\n"));
    desk.file("many", text(500) + &long + "\n" + &text(500));
    desk.file("short", text(1000));
    let time = |file: &str| {
        let mut command = desk.command(["score", "m", file, "--threads", "1"]);
        let begin = std::time::Instant::now();
        assert!(command.stdout(Stdio::null()).status().unwrap().success());
        begin.elapsed().as_secs_f64()
    };
    let (alone, many) = (time("long") + time("short"), time("many"));
    assert!(many < 4.0 * alone + 0.2, "{many} s, alone {alone} s");
    let all = desk.run("score m many").works().out;
    let alone = desk.run("score m long").works().out;
    assert_eq!(all.lines().nth(500), alone.lines().next());
}

/// Point 6: what a long sentence is predicted to take is what it takes, and what there is no room for is refused before.
#[test]
#[cfg(target_os = "linux")]
fn memory_of_a_long_sentence_is_predicted_and_refused() {
    let desk = Desk::new();
    desk.file("train", tagged([60_000, 3, 5]));
    let options = "--embed 100 --hidden 30 --features none --max-sentence 100000 --max-steps 1 --threads 1 --json";
    let run = desk.run(&format!("train ner --train train --out m {options}")).works();
    let predicted = run.err.split("predicted peak memory ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let (predicted, peak) = (predicted.parse::<f64>().unwrap(), run.json()["peak_memory_mb"].as_f64().unwrap());
    assert!((predicted / peak - 1.0).abs() < 0.1, "predicted {predicted} MB, peak {peak} MB");
    let limited = |command: &str| {
        let mut shell = std::process::Command::new("sh");
        let line = format!("ulimit -v 160000 && exec \"$0\" {command}");
        shell.args(["-c", &line, env!("CARGO_BIN_EXE_wordmill")]).current_dir(desk.path()).stdin(Stdio::null());
        super::program::Run::of(shell.output().unwrap())
    };
    for command in ["eval m train --threads 1", "tag m train --threads 1"] {
        limited(command).refuses(2, &["longest sentence: 60000 tokens", "GB of memory"]);
        desk.run(command).works();
    }
}

/// Point 7: figures that are not defined are not numbers that are none.
#[test]
fn figures_that_are_not_defined() {
    let desk = Desk::new();
    desk.file("vectors", (0..40).map(|i| format!("w{i} {} 1\n", i % 9)).collect::<String>() + "zero 0 0\nnil 0 0\n");
    desk.file("labels", (0..30).map(|i| format!("w{i}\tk{}\n", i % 3)).collect::<String>());
    desk.file("unknown", "w1\tother\nw2\tsome\n");
    desk.run("train pseudo-siamese --train labels --vectors vectors --out p --max-steps 2 -q --threads 1").works();
    let run = desk.run("eval p unknown --json").works();
    let found = run.json();
    assert!(found["loss"].is_null() && found["accuracy"] == 0.0 && found["words"] == 2, "{}", run.out);
    let shown = desk.run("eval p unknown").works().out;
    assert!(shown.contains("loss not defined") && !shown.contains("NaN"), "{shown}");

    desk.file("pairs", (0..30).map(|i| format!("w{i}\tw{}\t{}\n", i + 9, i % 3)).collect::<String>());
    desk.run("train siamese --pairs pairs --vectors vectors --out s --max-steps 2 -q --threads 1").works();
    desk.file("same", "w1\tw1\t0\nw2\tw2\t1\nw3\tw3\t2\n");
    let found = desk.run("eval s same --json").works().json();
    assert!(found["spearman"].is_null() && found.get("spearman").is_some() && found["mean_distance"] == 0.0, "{found}");
    let shown = desk.run("eval s same").works().out;
    assert!(shown.contains("not defined: all distances are equal") && !shown.contains("NaN"), "{shown}");
    desk.run("train siamese --pairs pairs --valid same --vectors vectors --out t --max-steps 2 --threads 1").works();

    // A word without direction is a neighbour of none, and has none.
    let found = desk.run("neighbors p w1 --count 99 --json").works();
    assert!(!found.out.contains("null") && !found.out.contains("zero"), "{}", found.out);
    let found = desk.run("neighbors p zero --json").works().warns(&["`zero` has no neighbours", "zeros"]);
    assert_eq!(found.json()["neighbors"], serde_json::json!([]));

    desk.file("one", "w1\tw2\t1\nw3\tw4\t1\nw5\tmissing\t0\n");
    let train = desk.run("train siamese --pairs one --vectors vectors --out o --threads 1");
    train.refuses(3, &["one: found only one label in the"]);
}
