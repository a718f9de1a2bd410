//! Scores of lines as decoders need them, likely next words, and what `eval` says of lines.

use crate::program::{Desk, SMALL_LM, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// A desk with a model of a few words.
fn model() -> Desk {
    let desk = Desk::new();
    desk.file("t.txt", text(60));
    desk.run(&format!("train lm --train t.txt --out lm --lr 0.05 {SMALL_LM}")).works();
    desk
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} of {value}"))
}

/// Hypotheses of a few sentences: the same words but for one that is left out, doubled or another.
fn hypotheses() -> Vec<String> {
    let mut all = Vec::new();
    for i in 0..300_usize {
        let line = text(1 + i / 30).lines().last().unwrap().to_owned();
        let mut words: Vec<&str> = line.split(' ').collect();
        match (i % 9, i % 3) {
            (place, 0) if place < words.len() => _ = words.remove(place),
            (place, 1) => words.insert(place.min(words.len()), "mat"),
            (place, _) if place < words.len() => words[place] = "the",
            _ => {}
        }
        all.push(words.join(" "));
    }
    all
}

/// Every line's score is its own, to the bit, whatever it shares with others, in any order and on any number of threads.
#[test]
fn lines_that_begin_alike_have_the_scores_they_have_alone() {
    let desk = model();
    let mut all = hypotheses();
    all.extend(["".into(), "the".into(), "the cat".into(), "un chat".into(), "the cat".into(), "the cat ".repeat(900)]);
    desk.file("all", all.join("\n") + "\n");
    let mut backwards: Vec<&str> = all.iter().map(String::as_str).collect();
    backwards.reverse();
    desk.file("backwards", backwards.join("\n") + "\n");
    for how in ["", "--no-eos", "--words", "--words --no-eos"] {
        let together = desk.run(&format!("score lm all --json {how} --threads 1")).works().out;
        let others = desk.run(&format!("score lm backwards --json {how} --threads 3")).works().out;
        let mut others: Vec<&str> = others.lines().collect();
        others.reverse();
        assert_eq!(together.lines().collect::<Vec<&str>>(), others, "{how}");
        for i in [0, 1, 77, 299, 300, 301, 302, 304, 305] {
            desk.file("alone", format!("{}\n", all[i]));
            let alone = desk.run(&format!("score lm alone --json {how}")).works().out;
            assert_eq!(together.lines().nth(i), Some(alone.trim_end()), "{how}: {:?}", all[i]);
        }
    }
    // More lines than are scored together.
    desk.file("many", (all.join("\n") + "\n").repeat(9));
    let once = desk.run("score lm all").works().out;
    assert_eq!(desk.run("score lm many").works().out, once.repeat(9));
}

/// Every path through the words, by `next` and by `score`: their probabilities are those of a tree, and sum to one.
#[test]
fn probabilities_of_all_next_words_are_those_of_scores() {
    let desk = model();
    for options in ["", "--loss adaptive --cutoffs 5"] {
        desk.run(&format!("train lm --train t.txt --out m --force --lr 0.05 {SMALL_LM} {options}")).works();
        let next = |prompt: &str| {
            let output = desk.command(["next", "m", "--top", "99", "--unknown", "--json", "--prompt", prompt]).output();
            lines(&crate::program::Run::of(output.unwrap()).works().out).remove(0)
        };
        for prompt in ["", "the cat", "the cat number 3 sat"] {
            let answer = next(prompt);
            assert_eq!(answer["prompt"], prompt);
            let words = answer["next"].as_array().unwrap();
            let sum: f64 = words.iter().map(|word| number(word, "probability")).sum();
            assert!((sum - 1.0).abs() < 1e-6 && words.len() == 16, "{sum}: {answer}");
            assert!(words.is_sorted_by(|a, b| number(a, "probability") >= number(b, "probability")));
            // Each of them continues the prompt.
            let word = |word: &Value| format!("{prompt} {}\n", word["word"].as_str().unwrap());
            desk.file("next", words.iter().map(word).collect::<String>());
            let scores = lines(&desk.run("score m next --no-eos --json").works().out);
            desk.file("prompt", format!("{prompt}\n"));
            let before = number(&lines(&desk.run("score m prompt --no-eos --json").works().out)[0], "log_probability");
            let whole = number(&lines(&desk.run("score m prompt --json").works().out)[0], "log_probability");
            for (score, word) in scores.iter().zip(words) {
                let found = number(score, "log_probability") - before;
                assert!((found - number(word, "probability").ln()).abs() < 1e-5, "{prompt}: {word} {found}");
                if word["word"] == "<eos>" {
                    assert!((whole - before - found).abs() < 1e-9);
                }
            }
        }
    }
}

#[test]
fn next_words_are_printed_and_answered_line_by_line() {
    let desk = model();
    let run = desk.run("next lm --prompt the --top 3").works().warns_of_nothing();
    let words: Vec<Vec<&str>> = run.out.lines().map(|line| line.split('\t').collect()).collect();
    assert!(words.len() == 3 && words.iter().all(|word| word.len() == 2), "{}", run.out);
    assert!(!desk.run("next lm --prompt the --top 99").works().out.contains("<unk>"));
    assert_eq!(desk.run("next lm --prompt dog").works().warns(&["unknown words in the prompt: dog"]).code, 0);
    // The same in one line each.
    let answers = desk.feed("next lm --top 3", "the\r\n\nthe dog\nthe").works().out;
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0], run.out.trim_end().replace('\t', " ").replace('\n', "\t"));
    assert_eq!(answers[0], answers[3]);
    let json = lines(&desk.feed("next lm --top 2 --json", "the dog\n").works().out);
    assert_eq!(json[0]["unknown"], serde_json::json!(["dog"]));
    desk.feed("next lm", b"the\n\xFF\n").refuses(3, &["standard input:2: found invalid UTF-8"]);
    desk.run("next lm --prompt the --top 0").refuses(2, &["--top"]);
    talk(&desk, "next lm --top 1", &["the", "cat"], |answer| assert_eq!(answer.trim_end().split(' ').count(), 2));
}

/// Writes a line and waits for its answer, line after line.
fn talk(desk: &Desk, command: &str, lines: &[&str], check: impl Fn(&str)) {
    let mut command = desk.command(command.split(' '));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for line in lines {
        writeln!(to, "{line}").unwrap();
        let mut answer = String::new();
        from.read_line(&mut answer).unwrap();
        check(&answer);
    }
    drop(to);
    assert!(child.wait().unwrap().success());
}

#[test]
fn standard_input_is_scored_line_by_line() {
    let desk = model();
    let all = hypotheses();
    desk.file("all", all.join("\n") + "\n");
    let scores = desk.run("score lm all").works().out;
    let at = std::cell::Cell::new(0);
    let some: Vec<&str> = all.iter().take(5).map(String::as_str).collect();
    talk(&desk, "score lm -", &some, |answer| {
        assert_eq!(Some(answer.trim_end()), scores.lines().nth(at.get()));
        at.set(at.get() + 1);
    });
    talk(&desk, "score lm - --ids", &["utt-1 the cat", "utt-2"], |answer| {
        assert!(answer.starts_with("utt-"), "{answer}")
    });
    // All at once, and without an end of the last line.
    assert_eq!(desk.feed("score lm -", all.join("\n")).works().out, scores);
    assert_eq!(desk.feed("score lm -", all.join("\r\n")).works().out, scores);
    // Warnings and errors are those of a file, with its lines.
    let run = desk.feed("score lm -", "un chat\nun chien\n").works();
    run.warns(&["standard input: 66.7 % of the words are unknown"]);
    desk.feed("score lm - --strict", "un chat\nun chien\n").refuses(3, &["66.7 % of the words are unknown"]);
    desk.feed("score lm -", "").refuses(3, &["standard input: found an empty file"]);
    desk.feed("score lm -", "\u{feff}").refuses(3, &["standard input: found an empty file"]);
    desk.feed("score lm -", "the\ncat\0\n").refuses(3, &["standard input:2: found a NUL byte"]);
    let ids: String = (0..40).map(|i| format!("utt-{i} the cat sat on a mat\n")).collect();
    desk.feed("score lm -", ids).works().warns(&["standard input:1: the first words of nearly all lines are unknown"]);
    // A text of old Macs is one line for the pipe.
    assert_eq!(desk.feed("score lm -", all.join("\r")).works().out, scores);
}

/// Lines of a stream that arrive later are counted from its beginning.
#[test]
fn errors_in_later_parts_of_a_stream_name_its_lines() {
    let desk = model();
    for (more, told) in [
        ("", "standard input:3: found invalid UTF-8 (0xFF), expected"),
        ("--ids", "standard input:3: found invalid UTF-8"),
    ] {
        let mut command = desk.command(format!("score lm - {more}").split_whitespace());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let mut to = child.stdin.take().unwrap();
        to.write_all(b"a the\nb the\n").unwrap();
        let mut from = BufReader::new(child.stdout.take().unwrap());
        (0..2).for_each(|_| assert!(from.read_line(&mut String::new()).unwrap() > 0));
        to.write_all(b"c \xFF\n").unwrap();
        drop(to);
        let run = crate::program::Run::of(child.wait_with_output().unwrap());
        run.refuses(3, &[told]);
    }
}

#[test]
fn words_have_scores_of_their_own() {
    let desk = model();
    desk.file("text", "utt-1-1 the cat\r\nutt-1-2\nutt-1-1 the dog <eos> cat\n");
    let out = desk.run("score lm text --ids --words").works().out;
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    let words: Vec<&str> = rows.iter().map(|row| *row.get(1).unwrap_or(&"")).collect();
    assert_eq!(words, ["the", "cat", "<eos>", "", "<eos>", "", "the", "dog", "<eos>", "cat", "<eos>", ""]);
    assert!(rows.iter().all(|row| row.len() == 1 || row[0].starts_with("utt-1-")), "{out}");
    // They sum to the lines' scores.
    let all = lines(&desk.run("score lm text --ids --words --json").works().out);
    for line in &all {
        let each = line["by_word"].as_array().unwrap();
        let sum: f64 = each.iter().map(|word| number(word, "log_probability")).sum();
        assert!((sum - number(line, "log_probability")).abs() < 1e-12 && each.len() as f64 == number(line, "words"));
    }
    assert!(lines(&desk.run("score lm text --ids --json").works().out)[0].get("by_word").is_none());
    assert_eq!(all[2]["id"], "utt-1-1");
    // Costs to base 10, without the end.
    let costs = desk.run("score lm text --ids --words --negate --log10 --no-eos").works().out;
    let first: f64 = costs.lines().next().unwrap().split('\t').next_back().unwrap().parse().unwrap();
    let natural = number(&all[0]["by_word"][0], "log_probability");
    assert!((first + natural / std::f64::consts::LN_10).abs() < 1e-6, "{first} {natural}");
    assert_eq!(costs.lines().count(), 2 + 1 + 1 + 4 + 1);
    // Without marks around lines, which are no words then.
    desk.file("marked", "<s> the cat </s>\n");
    let out = desk.run("score lm marked --words --strip-marks").works().out;
    let words: Vec<&str> = out.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(words, ["the", "cat", "<eos>", ""]);
}

#[test]
fn unknown_words_have_penalties_or_probabilities() {
    let desk = model();
    desk.file("text", "the dog saw the zebra\n\ndog\nthe cat\n");
    let scores = |options: &str| -> Vec<f64> {
        let out = desk.run(&format!("score lm text --json {options}")).works().out;
        lines(&out).iter().map(|line| number(line, "log_probability")).collect()
    };
    let plain = scores("");
    let more = |options: &str, added: [f64; 4]| {
        for ((with, plain), added) in scores(options).iter().zip(&plain).zip(added) {
            assert!((with - plain - added).abs() < 1e-9, "{options}: {with} {plain} {added}");
        }
    };
    more("--unk-penalty -2.5", [-7.5, 0.0, -2.5, 0.0]);
    desk.file("log", "dog\t-3\r\nzebra\t-4\nthe\t-9\n");
    more("--unk-probs log", [-7.0, 0.0, -3.0, 0.0]);
    more("--unk-probs log --unk-penalty -1", [-8.0, 0.0, -3.0, 0.0]);
    desk.file("unk.probs", "dog 0.25\nzebra 0.5\nsaw 1\n");
    more("--unk-probs unk.probs", [0.125_f64.ln(), 0.0, 0.25_f64.ln(), 0.0]);
    // A word without one is warned of, unless the penalty says what it has.
    let told = ["text: 1 unknown word without a log-probability in --unk-probs", "--unk-penalty"];
    desk.run("score lm text --unk-probs log").works().warns(&told);
    let run = desk.run("score lm text --unk-probs log --unk-penalty -1").works();
    assert!(!run.err.contains("--unk-probs"), "{}", run.err);
    desk.file("bad", "dog -3\nzebra\n");
    desk.run("score lm text --unk-probs bad").refuses(3, &["bad:2: found `zebra`"]);
    desk.run("score lm text --unk-penalty x").refuses(2, &["--unk-penalty", "expected a number"]);
    desk.feed("score lm - --unk-probs -", "dog -3\n").refuses(2, &["standard input is given twice"]);
}

#[test]
fn eval_counts_unknown_words_and_ends_or_not_and_shows_lines() {
    let desk = Desk::new();
    desk.file("t.txt", text(60));
    desk.run(&format!("train lm --train t.txt --out lm --lr 0.05 --reset-at-eos {SMALL_LM}")).works();
    desk.file("e.txt", "the dog sat\n\nthe cat\nun chat\n");
    let eval = desk.run("eval lm e.txt --lines --json").works().json();
    let by_line = eval["by_line"].as_array().unwrap();
    let scores = lines(&desk.run("score lm e.txt --words --json").works().out);
    assert_eq!(by_line.len(), 4);
    let mut sums = [(0.0, 0.0); 4];
    for (line, score) in by_line.iter().zip(&scores) {
        for key in ["words", "unknown", "log_probability"] {
            assert!((number(line, key) - number(score, key)).abs() < 1e-4, "{line} {score}");
        }
        let mean = -number(line, "log_probability") / number(line, "words");
        assert!((number(line, "perplexity") / mean.exp() - 1.0).abs() < 1e-9);
        for word in score["by_word"].as_array().unwrap() {
            let (is_unknown, is_end) =
                (["dog", "un", "chat"].map(Value::from).contains(&word["word"]), word["word"] == "<eos>");
            for (sum, counts) in sums.iter_mut().zip([true, !is_unknown, !is_end, !is_unknown && !is_end]) {
                if counts {
                    *sum = (sum.0 - number(word, "log_probability"), sum.1 + 1.0);
                }
            }
        }
    }
    let keys =
        ["perplexity", "perplexity_without_unknown_words", "perplexity_without_line_ends", "perplexity_of_known_words"];
    let shown = desk.run("eval lm e.txt --lines").works().out;
    for (key, (sum, count)) in keys.into_iter().zip(sums) {
        let expected = (sum / count).exp();
        assert!((number(&eval, key) / expected - 1.0).abs() < 1e-4, "{key}: {} {expected}", number(&eval, key));
        assert!(shown.contains(&format!("perplexity {:.3}", number(&eval, key))), "{key}: {shown}");
    }
    assert!(shown.starts_with("words\tlog-probability\tperplexity\tunknown\n4\t-"), "{shown}");
    assert_eq!(shown.lines().nth(2).unwrap().split('\t').next(), Some("1"));
    assert!(desk.run("eval lm e.txt --json").works().json().get("by_line").is_none());
    desk.run("eval lm e.txt --lines --eval-tokens 5").refuses(2, &["--lines", "--eval-tokens"]);
    desk.file("v.csv", "a,class\n1,x\n2,y\n3,x\n4,y\n");
    desk.run("train softmax --train v.csv --out s --epochs 1").works();
    desk.run("eval s v.csv --lines").refuses(2, &["--lines is only for language models"]);
}

#[test]
fn generation_keeps_to_likely_words_and_stops() {
    let desk = model();
    let generate = |options: &str| desk.run(&format!("generate lm --sentences 20 --words 12 {options}")).works().out;
    // The most likely word alone.
    assert_eq!(generate("--top-p 0.000001 --seed 1"), generate("--top-k 1 --seed 2"));
    assert_eq!(generate("--top-p 1"), generate(""));
    let few: std::collections::BTreeSet<String> =
        generate("--top-p 0.2").split_whitespace().map(str::to_owned).collect();
    let all: std::collections::BTreeSet<String> = generate("").split_whitespace().map(str::to_owned).collect();
    assert!(few.len() < all.len(), "{few:?} {all:?}");
    for line in lines(&generate("--stop cat --stop mat --json --temperature 2")) {
        let words: Vec<&str> = line["text"].as_str().unwrap().split_whitespace().collect();
        let stops = words.iter().filter(|word| ["cat", "mat"].contains(word)).count();
        let last = words.last().is_some_and(|word| ["cat", "mat"].contains(word));
        assert!(stops == usize::from(last) && words.len() as f64 == number(&line, "words"), "{line}");
        assert!(!last || line["ended"] == true, "{line}");
    }
    assert!(generate("--stop cat --stop mat --temperature 2").lines().any(|line| line.ends_with("cat")));
    desk.run("generate lm --stop dog").refuses(2, &["--stop dog", "not a word of the model"]);
    desk.run("generate lm --top-p 0").refuses(2, &["--top-p"]);
}
