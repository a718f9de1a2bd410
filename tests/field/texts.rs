//! Texts and language models.

use crate::program::{Desk, SMALL_LM, text};

/// A desk with a text and a model of it.
fn model() -> Desk {
    let desk = Desk::new();
    desk.file("t.txt", text(60));
    desk.run(&format!("train lm --train t.txt --out lm {SMALL_LM}")).works().warns_of_nothing();
    desk
}

/// `text` with a word before and one behind each line.
fn within(before: &str, text: &str, behind: &str) -> String {
    text.lines().map(|line| format!("{before} {line} {behind}\n")).collect()
}

#[test]
fn marks_around_lines_are_warned_of_and_stripped() {
    let desk = model();
    let plain = desk.run("score lm t.txt").works().out;
    for (before, behind) in [("<s>", "</s>"), ("[CLS]", "[SEP]"), ("<bos>", "<eos>"), ("<sos>", "</s>")] {
        let marked = within(before, &text(60), behind);
        desk.file("m.txt", &marked);
        let named = ["m.txt:1: nearly every line has", before, behind, "--strip-marks"];
        desk.run("eval lm m.txt").works().warns(&named);
        desk.run("score lm m.txt").works().warns(&named);
        desk.run(&format!("train lm --train m.txt --out m --force {SMALL_LM}")).works().warns(&named);
        // A model that has learned them misses them.
        if behind != "<eos>" {
            desk.run("eval m m.txt").works().warns_of_nothing();
            desk.run("eval m t.txt").works().warns(&["t.txt:1: lines without", before, behind]);
        }
        assert_eq!(desk.run("score lm m.txt --strip-marks").works().warns_of_nothing().out, plain);
        // The run's option is the model's.
        desk.run(&format!("train lm --train m.txt --strip-marks --valid m.txt --out m --force {SMALL_LM}"))
            .works()
            .warns_of_nothing();
        assert_eq!(desk.run("score m m.txt").works().warns_of_nothing().out, plain);
        assert_eq!(desk.run("score m t.txt").works().warns_of_nothing().out, plain);
        desk.run("eval m m.txt").works().warns_of_nothing();
        desk.run("train lm --out m --resume --max-steps 3").works().warns_of_nothing();
        desk.run(&format!("generate m --prompt {before}")).works().warns_of_nothing();
    }
    desk.run(&format!("train lm --train m.txt --out x --strict {SMALL_LM}")).refuses(3, &["--strip-marks"]);
}

#[test]
fn other_unknown_words_are_warned_of_and_taken_for_it() {
    let desk = Desk::new();
    for token in ["<UNK>", "UNK", "[UNK]", "<unknown>"] {
        desk.file("u.txt", text(60).replace("mat", token));
        let told = [&format!("u.txt: the word `{token}` occurs 60 times"), "--unk-token"];
        desk.run(&format!("train lm --train u.txt --out u --force {SMALL_LM}")).works().warns(&told);
        let run = format!("train lm --train u.txt --out u --force {SMALL_LM} --unk-token {token}");
        desk.run(&run).works().warns_of_nothing();
        assert_eq!(desk.run("eval u u.txt --json").works().json()["unknown"], 60);
        desk.run("train lm --out u --resume --max-steps 3").works().warns_of_nothing();
    }
    let run = format!("train lm --train u.txt --out x --unk-token <none> {SMALL_LM}");
    desk.run(&run).works().warns(&["u.txt: no word <none>, given by --unk-token"]);
}

#[test]
fn utterance_ids_are_kept_or_warned_of() {
    let desk = model();
    let plain = desk.run("score lm t.txt").works().warns_of_nothing().out;
    let kaldi: String = text(60).lines().enumerate().map(|(i, line)| format!("utt-{i} {line}\n")).collect();
    desk.file("text", &kaldi);
    let scored = desk.run("score lm text --ids").works().warns_of_nothing().out;
    let expected: String = plain.lines().enumerate().map(|(i, score)| format!("utt-{i} {score}\n")).collect();
    assert_eq!(scored, expected);
    let first = desk.run("score lm text --ids --json").works().out;
    assert_eq!(serde_json::from_str::<serde_json::Value>(first.lines().next().unwrap()).unwrap()["id"], "utt-0");
    desk.run("score lm text").works().warns(&["text:1: the first words of nearly all lines are unknown", "--ids"]);
    desk.file("text", "utt-1 the cat\n\n");
    desk.run("score lm text --ids").refuses(3, &["text:2: found an empty line"]);
    desk.file("text", "utt-1\nutt-2 the cat\n");
    assert_eq!(desk.run("score lm text --ids").works().out.lines().count(), 2);
    // Known words that are all different.
    let words: Vec<String> = (0..30).map(|i| format!("w{i}")).collect();
    desk.file("w.txt", format!("{}\n", words.join(" ")).repeat(10));
    desk.run(&format!("train lm --train w.txt --out w {SMALL_LM}")).works();
    desk.file("n.txt", words.iter().map(|word| format!("{word} w1 w2 w3\n")).collect::<String>());
    desk.run("score w n.txt").works().warns(&["n.txt:1: the first words of nearly all lines are all different"]);
    // So are those of a few lines of prose, and their second words.
    let lines = |count: usize| (0..count).map(|i| format!("w{i} w{} w3\n", (i + 7) % 30)).collect::<String>();
    for count in [20, 30] {
        assert_eq!(desk.feed("score w -", lines(count)).works().warns_of_nothing().out.lines().count(), count);
    }
    // And in a text to learn from.
    let told = ["k.txt:1: nearly all lines begin with a unique word"];
    desk.file("k.txt", kaldi);
    desk.run(&format!("train lm --train k.txt --out k {SMALL_LM}")).works().warns(&told);
}

#[test]
fn scores_are_natural_or_to_base_10_and_may_be_costs_without_ends() {
    let desk = model();
    let numbers = |options: &str| -> Vec<f64> {
        let out = desk.run(&format!("score lm t.txt {options}")).works().out;
        out.lines().map(|line| line.parse().unwrap()).collect()
    };
    let natural = numbers("");
    for (a, b) in natural.iter().zip(numbers("--log10")) {
        assert!((a / std::f64::consts::LN_10 - b).abs() < 2e-6, "{a} {b}");
    }
    assert!(natural.iter().zip(numbers("--negate")).all(|(a, b)| *a == -b));
    let without = numbers("--no-eos");
    assert!(natural.iter().zip(&without).all(|(a, b)| a < b));
    // What is left out is the end's own probability.
    desk.file("one.txt", "\nthe\n");
    let out = desk.run("score lm one.txt --no-eos").works().out;
    assert_eq!(out.lines().next(), Some("0.000000"));
    let json = desk.run("score lm one.txt --no-eos --json").works().out;
    assert!(json.contains("\"words\":0") && json.contains("\"words\":1"), "{json}");
    assert_eq!(desk.run("score lm one.txt --no-eos --negate").works().out.lines().next(), Some("0.000000"));
}

#[test]
fn a_corpus_in_one_line_is_cut_for_evaluation() {
    let desk = model();
    desk.file("one.txt", text(2000).replace('\n', " "));
    let run = desk.run("eval lm one.txt --eval-tokens 2000 --json").works();
    let tokens = run.json()["tokens"].as_u64().unwrap();
    assert!((2000..3001).contains(&tokens), "{tokens}");
    let run = format!("train lm --train one.txt --valid one.txt --eval-tokens 1000 --out o {SMALL_LM}");
    let run = desk.run(&run).works();
    run.warns(&["one.txt:1: one line of 16001 words", "hardly learns the ends of sentences"]);
}

#[test]
fn many_unknown_words_are_warned_of() {
    let desk = model();
    desk.file("other.txt", "un chat dort sur le tapis\n".repeat(5));
    desk.run("eval lm other.txt").works().warns(&["other.txt: 85.7 % of the words are unknown to the model"]);
    let run = desk.run(&format!("train lm --train t.txt --valid other.txt --out o {SMALL_LM}")).works();
    run.warns(&["other.txt: 85.7 % of the words are unknown"]);
    let run = desk.run(&format!("train lm --train t.txt --max-vocab 4 --out p {SMALL_LM}")).works();
    run.warns(&["t.txt: ", "% of the words are unknown", "--max-vocab"]);
}

#[test]
fn perplexity_is_also_that_of_known_words() {
    let desk = model();
    let eval = desk.run("eval lm t.txt --json").works().json();
    let (all, known) = (eval["perplexity"].as_f64().unwrap(), eval["perplexity_of_known_words"].as_f64().unwrap());
    assert!(known > 1.0 && known != all, "{known} {all}");
    let shown = desk.run("eval lm t.txt").works().out;
    assert!(shown.contains(&format!("perplexity {known:.3} without unknown words and ends of lines")), "{shown}");
    // By hand: the scores of a line without its end.
    desk.file("one.txt", "the cat\n");
    let score: f64 = desk.run("score lm one.txt --no-eos").works().out.trim().parse().unwrap();
    let eval = desk.run("eval lm one.txt --json").works().json();
    let known = eval["perplexity_of_known_words"].as_f64().unwrap();
    assert!((known.ln() + score / 2.0).abs() < 1e-5, "{known} {score}");
    desk.file("none.txt", "un chat\n");
    assert!(desk.run("eval lm none.txt --json").works().json().get("perplexity_of_known_words").is_none());
}

#[test]
fn generate_says_which_words_are_unknown() {
    let desk = model();
    let mut command = desk.command(["generate", "lm", "--prompt", "the dog sat on dog <unk>"]);
    let run = crate::program::Run::of(command.output().unwrap()).works();
    run.warns(&["unknown words in the prompt: dog; read as <unk>"]);
    let mut command = desk.command(["generate", "lm", "--json", "--prompt", "the dog"]);
    let run = crate::program::Run::of(command.output().unwrap()).works();
    assert_eq!(run.json()["unknown"], serde_json::json!(["dog"]));
    desk.run("generate lm --prompt the --json").works().warns_of_nothing();
}

#[test]
fn a_text_shorter_than_a_batch_makes_it_smaller() {
    let desk = Desk::new();
    desk.file("short.txt", "the cat sat\non the mat\n");
    let run = desk.run("train lm --train short.txt --valid short.txt --out m --epochs 2").works();
    run.warns(&["short.txt: 8 words, too few for --batch 64 lanes of --tau 10 steps", "--batch 1 --tau 7"]);
    desk.run("train lm --out m --resume --epochs 3").works().warns(&["--batch 1 --tau 7"]);
    desk.file("longer.txt", text(10));
    let run = desk.run("train lm --train longer.txt --out l --epochs 2").works();
    run.warns(&["longer.txt: 90 words", "--batch 8 --tau 10"]);
    desk.file("word.txt", "a\n");
    desk.run("train lm --train word.txt --valid word.txt --out w --epochs 1").works();
    let strict = desk.run("train lm --train short.txt --out s --strict");
    strict.refuses(3, &["short.txt: found 8 words", "--batch 1 --tau 7 selects this explicitly"]);
}

#[test]
fn empty_lines_are_warned_of_where_they_are_many() {
    let desk = Desk::new();
    desk.file("e.txt", text(30).replace('\n', "\n\n\n"));
    let run = desk.run(&format!("train lm --train e.txt --out e {SMALL_LM}")).works();
    run.warns(&["e.txt: 60 of the first 90 lines are empty"]);
}

#[test]
fn score_warns_of_many_unknown_words_as_eval_does() {
    let desk = model();
    desk.file("u.txt", "the zebra ate grass\n");
    for verb in ["score", "eval"] {
        desk.run(&format!("{verb} lm u.txt")).works().warns(&["u.txt: 60.0 % of the words are unknown", "--strict"]);
        desk.run(&format!("{verb} lm u.txt --strict")).refuses(3, &["60.0 % of the words are unknown"]);
    }
}
