//! CoNLL files and their tags.

use super::program::{Desk, Run, SMALL_NER};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// A desk with a tagger trained on `train.conll`, and what training said.
fn trained(text: &str, options: &str) -> (Desk, Run) {
    let desk = Desk::new();
    desk.file("train.conll", text);
    let run = train(&desk, options);
    (desk, run)
}

fn train(desk: &Desk, options: &str) -> Run {
    desk.run(&format!("train ner --train train.conll --out m --force --json {SMALL_NER} {options}"))
}

/// Trains on a text, evaluates and tags it, each with a warning that holds `parts`, and gives the report of the evaluation.
fn all_warn(text: &str, options: &str, parts: &[&str]) -> serde_json::Value {
    let (desk, run) = trained(text, options);
    run.works().warns(parts);
    let report = desk.run("eval m train.conll --json").works().warns(parts).json();
    assert_eq!(desk.run("tag m train.conll").works().out.lines().count(), text.lines().count());
    report
}

/// Trains on a text and evaluates, each with a warning that holds `parts`, and gives the report of the evaluation.
fn all_warn_of_training(text: &str, parts: &[&str]) -> serde_json::Value {
    let (desk, run) = trained(text, "");
    run.works().warns(parts);
    desk.run("eval m train.conll --json").works().warns(parts).json()
}

/// Sentences of a person and a place in `scheme`, whose tags are those of `Ann Lee in Rome today`.
fn in_tags(tags: [&str; 5]) -> String {
    let sentence: Vec<String> =
        ["Ann", "Lee", "in", "Rome", "today"].iter().zip(tags).map(|(word, tag)| format!("{word} {tag}")).collect();
    format!("{}\n\n", sentence.join("\n")).repeat(4)
}

const PLAIN: [&str; 5] = ["B-PER", "I-PER", "O", "B-LOC", "O"];

/// Entities of the gold standard by type.
fn golds(report: &serde_json::Value) -> Vec<(String, u64)> {
    let types = report["conlleval"]["types"].as_object().unwrap();
    types.iter().map(|(name, score)| (name.clone(), score["gold"].as_u64().unwrap())).collect()
}

fn has(expected: &[(&str, u64)], report: &serde_json::Value) {
    let expected: Vec<(String, u64)> = expected.iter().map(|(name, n)| (name.to_string(), *n)).collect();
    assert_eq!(golds(report), expected);
}

#[test]
fn unlawful_tags_are_read_as_conlleval_reads_them() {
    let mut text = "Ann I-PER\nLee I-PER\nin O\nRome I-LOC\n\n".repeat(5);
    text += "the O\nCup B-MISC\nof O\nRome I-LOC\n\nthe O\nOscars B-MISC\n\n";
    let told = ["train.conll:27: 2 tags", "scheme iob1 does not allow", "`B-MISC` after `O`", "conlleval", "--strict"];
    let report = all_warn(&text, "", &told);
    has(&[("LOC", 6), ("MISC", 2), ("PER", 5)], &report);
    assert_eq!(report["scheme"], "iob1");

    let (desk, run) = trained(&text, "");
    assert_eq!(run.works().json()["warnings"][0]["line"], 27);
    train(&desk, "--strict").refuses(3, &["train.conll:27", "--strict"]);
    desk.run("eval m train.conll --strict").refuses(3, &["train.conll:27", "--strict"]);
    // What used to be the option for it.
    train(&desk, "--repair").works();
    desk.run("eval m train.conll --repair").works();
    let options = desk.file("old.toml", "train = \"train.conll\"\nout = \"n\"\nrepair = true\nepochs = 1\n");
    desk.run(&format!("train ner --config {}", options.display())).works();
}

#[test]
fn comment_lines() {
    let plain = in_tags(PLAIN);
    let mut text = String::new();
    for sentence in plain.split_inclusive("\n\n") {
        text += &format!("# sent_id = 1\n# text = Ann Lee in Rome today\n## prose\n#\ta\turl\n{sentence}");
    }
    text += "#hope O\n# O\n#x B-PER\n\n# O\n# newdoc\nit O\n";
    let (desk, run) = trained(&text, "");
    run.works().warns_of_nothing();
    let report = desk.run("eval m train.conll --json").works().warns_of_nothing().json();
    assert_eq!(report["tokens"], 4 * 5 + 5);
    has(&[("LOC", 4), ("PER", 5)], &report);
    // Comments stay as they are, tokens get a column.
    let tagged = desk.run("tag m train.conll").works().out;
    for (before, after) in text.lines().zip(tagged.lines()) {
        let comment = before.starts_with('#') && !before.ends_with([' ', 'O', 'R']);
        match before.is_empty() || comment {
            true => assert_eq!(before, after),
            false => assert_eq!(before, after.rsplit_once(' ').unwrap().0),
        }
    }
    assert_eq!(text.lines().count(), tagged.lines().count());
}

#[test]
fn comments_of_as_many_columns_as_rows() {
    let text = "#\thttp://a.b/c\t[2010-07-04]\t\n1\tAnn\tB-PER\tO\n2\tin\tO\tO\n3\tRome\tB-LOC\tO\n\n".repeat(3);
    let (desk, run) = trained(&text, "--word-column 2 --column 3");
    run.works().warns_of_nothing();
    let report = desk.run("eval m train.conll --json").works().warns_of_nothing().json();
    has(&[("LOC", 3), ("PER", 3)], &report);
}

#[test]
fn a_comment_with_a_tab_does_not_turn_the_separator() {
    let (_, run) = trained(&format!("#\tof\tsomebody\n{}", in_tags(PLAIN)), "");
    assert_eq!(run.works().warns_of_nothing().json()["tokens"], 20);
}

#[test]
fn token_numbers_first() {
    let sentence = "1\tAnn\tB-PER\n2\tin\tO\n3\tRome\tB-LOC\n\n";
    let (desk, run) = trained(&sentence.repeat(4), "");
    run.works().warns(&["train.conll:1", "1, 2, 3", "--word-column 2"]);
    train(&desk, "--strict").refuses(3, &["--word-column 2"]);
    train(&desk, "--word-column 2").works().warns_of_nothing();
    // Saved with the model: eval and tag find the words.
    let report = desk.run("eval m train.conll --json").works().warns_of_nothing();
    assert_eq!(report.json()["tokens"], 12);
    assert!(desk.run("neighbors m Rome Ann -n 1").works().out.contains("Ann"));
    let tagged = desk.run("tag m train.conll").works().warns_of_nothing().out;
    assert!(tagged.lines().filter(|line| !line.is_empty()).all(|line| line.split('\t').count() == 4), "{tagged}");
    desk.file("words", "Ann\nin\n");
    desk.run("tag m words").refuses(3, &["words:1", "column 2 (--word-column N)"]);
    assert_eq!(desk.run("tag m words --word-column 1").works().out.lines().count(), 2);
    train(&desk, "--word-column 3 --column 3").refuses(2, &["column 3 contains the words"]);
}

#[test]
fn multiword_ranges_and_empty_nodes_are_no_tokens() {
    let sentence = "# sent_id = 1\n1-2\tAnnlee\t_\n1\tAnn\tB-PER\n2\tLee\tI-PER\n2.1\tleft\t_\n3\tRome\tB-LOC\n\n";
    let (desk, run) = trained(&sentence.repeat(4), "--word-column 2");
    assert_eq!(run.works().json()["tokens"], 12);
    let report = desk.run("eval m train.conll --json").works().json();
    has(&[("LOC", 4), ("PER", 4)], &report);
    let tagged = desk.run("tag m train.conll").works().out;
    assert!(tagged.starts_with("# sent_id = 1\n1-2\tAnnlee\t_\n1\tAnn\tB-PER\t"), "{tagged}");
}

#[test]
fn ragged_rows() {
    let text = format!("{}the x y O\nPope B-PER\n", in_tags(PLAIN));
    let report = all_warn(&text, "", &["train.conll:25: 1 row", "another number of columns than 2", "--strict"]);
    assert_eq!(report["tokens"], 22);
    let (_, run) = trained(&format!("{text}word\n"), "");
    run.refuses(3, &["train.conll:27", "1 column", "`word`", "a word and its tag"]);
}

#[test]
fn no_empty_lines_at_all() {
    let text: String = (0..600)
        .map(|i| match i % 6 {
            0 => "Ann B-PER\n",
            5 => "yesterday. O\n",
            _ => "walked O\n",
        })
        .collect();
    let told = ["train.conll:1", "1 sentence of more than 200 tokens", "empty lines", "100 pieces", "--max-sentence N"];
    let report = all_warn(&text, "--max-sentence 200", &told);
    assert_eq!((report["sentences"].as_u64(), report["tokens"].as_u64()), (Some(100), Some(600)));
    has(&[("PER", 100)], &report);
    // Without full stops, at that length; by itself for what no sentence is.
    let report = all_warn(&"w O\nv B-X\n".repeat(1500), "", &["more than 2000 tokens", "2 pieces"]);
    assert_eq!(report["sentences"], 2);
}

#[test]
fn bilou_bmes_and_their_like() {
    for tags in [
        ["B-PER", "L-PER", "O", "U-LOC", "O"],
        ["B-PER", "E-PER", "O", "S-LOC", "O"],
        ["B-PER", "E-PER", "O", "W-LOC", "O"],
        ["b-PER", "l-PER", "o", "u-LOC", "o"],
    ] {
        let (desk, run) = trained(&in_tags(tags), "");
        run.works();
        let report = desk.run("eval m train.conll --json").works().json();
        assert_eq!(report["scheme"], "iobes", "{tags:?}");
        has(&[("LOC", 4), ("PER", 4)], &report);
    }
    let long = "a B-X\nb M-X\nc E-X\nd S-X\n\n".repeat(3);
    let (desk, run) = trained(&long, "");
    run.works().warns_of_nothing();
    has(&[("X", 6)], &desk.run("eval m train.conll --json").works().json());
}

#[test]
fn other_outside_tags() {
    for outside in ["0", "o", "OTHER", "_", "-"] {
        let report = all_warn(
            &in_tags(["B-PER", "I-PER", outside, "B-LOC", outside]),
            "",
            &["train.conll:3", &format!("the tag `{outside}` (8 times)"), "read as O", "--strict"],
        );
        has(&[("LOC", 4), ("PER", 4)], &report);
    }
}

#[test]
fn prefixes_written_otherwise() {
    for tags in [
        ["B_PER", "I_PER", "O", "B_LOC", "O"],
        ["PER-B", "PER-I", "O", "LOC-B", "O"],
        ["b-PER", "i-PER", "O", "b-LOC", "O"],
        ["B:PER", "I:PER", "O", "B:LOC", "O"],
    ] {
        let (desk, run) = trained(&in_tags(tags), "");
        run.works().warns_of_nothing();
        let report = desk.run("eval m train.conll --json").works().json();
        assert_eq!(report["scheme"], "iob2");
        has(&[("LOC", 4), ("PER", 4)], &report);
    }
}

#[test]
fn prefixes_where_none_belongs() {
    let tags = ["B-PER", "I-PER", "I-O", "B-LOC", "O"];
    let report = all_warn(&in_tags(tags), "", &["the tag `I-O` (4 times)", "read as O"]);
    has(&[("LOC", 4), ("PER", 4)], &report);
    let tags = ["B-B-PER", "B-I-PER", "O", "B-B-LOC", "O"];
    let report = all_warn(&in_tags(tags), "", &["the tag `B-B-PER` (4 times)", "read as B-PER"]);
    has(&[("LOC", 4), ("PER", 4)], &report);
}

#[test]
fn no_outside_tag_at_all() {
    let text = "The DT\ncat NN\nsat VBD\non IN\na DT\nmat NN\n\n".repeat(3);
    all_warn(&text, "", &["no tag is O", "4 types (`DT`, `NN`, `VBD`, `IN`)", "--column N"]);
}

#[test]
fn what_is_probably_no_entity_type() {
    let text = "The DT\ncat NN\nsat O\n. .\n\n".repeat(3);
    let (_, run) = trained(&text, "");
    run.works().warns(&["entity types without a letter: `.`", "--column N"]);
}

#[test]
fn empty_fields_are_named() {
    let (_, run) = trained("a\tB-X\nb\t\n", "");
    run.refuses(3, &["train.conll:2", "an empty tag", "ends in a tab with nothing after it"]);
    let (desk, run) = trained("a\tB-X\t\nb\tO\t\n", "");
    run.refuses(3, &["train.conll:1", "its last column 3 is empty", "--column 2"]);
    train(&desk, "--column 2").works();
    let (_, run) = trained("a\tB-X\n\tO\n", "");
    run.works().warns(&["train.conll:2: 1 empty word", "kept"]);
}

#[test]
fn tokens_that_are_a_space() {
    let text = "\u{acbd}\tB-OG\n\u{ae30}\tI-OG\n \tO\n\u{b420}\tO\n\n".repeat(3);
    let (desk, run) = trained(&text, "");
    run.works().warns_of_nothing();
    assert_eq!(desk.run("eval m train.conll --json").works().json()["tokens"], 12);
    let tagged = desk.run("tag m train.conll").works().out;
    assert_eq!(tagged.lines().filter(|line| line.starts_with(" \tO\t")).count(), 3);
}

#[test]
fn white_space_of_unicode_ends_a_sentence() {
    for blank in ["\u{a0}", "\u{3000} ", "\u{feff}\u{200b}", "\u{c}"] {
        let text = in_tags(PLAIN).replace("\n\n", &format!("\n{blank}\n"));
        let report = all_warn(&text, "", &["train.conll:6: 4 lines with only Unicode white space", "end sentences"]);
        assert_eq!(report["sentences"], 4, "{blank:?}");
    }
    // As a tag it can be seen.
    let (_, run) = trained("a\tB-X\nb\t\u{a0}\n", "");
    run.refuses(3, &["train.conll:2", "the tag `\\u{a0}`"]);
}

#[test]
fn the_tag_first_and_the_word_last() {
    let text: String = in_tags(PLAIN)
        .lines()
        .map(|line| line.split_once(' ').map_or("\n".into(), |(word, tag)| format!("{tag} {word}\n")))
        .collect();
    let (desk, run) = trained(&text, "");
    run.refuses(3, &["train.conll:1", "tags in column 1 and words in column 2", "--column 1 --word-column 2"]);
    train(&desk, "--column 1 --word-column 2").works().warns_of_nothing();
    has(&[("LOC", 4), ("PER", 4)], &desk.run("eval m train.conll --json").works().json());
    desk.run("tag m train.conll").works();
}

#[test]
fn many_classes_are_listed_shortly() {
    let text: String = (0..143).map(|i| format!("w{i} B-class{i}\nx O\n\n")).collect();
    let (desk, run) = trained(&text, "");
    run.works();
    let report = desk.run("eval m train.conll").works().out;
    assert!(report.contains("most frequent of") && report.lines().all(|line| line.chars().count() < 200), "{report}");
    desk.file("other.conll", text.replace("class", "kind"));
    let told = desk.run("eval m other.conll").works();
    told.warns(&["tags that do not occur in the training text: B-kind0 (1)", "and 133 more"]);
}

#[test]
fn test_files_with_nothing_to_find_give_figures() {
    let (desk, run) = trained(&in_tags(PLAIN), "");
    run.works();
    desk.file("none.conll", "w O\n\nw O\n");
    let report = desk.run("eval m none.conll --json").works();
    assert!(!report.out.contains("NaN") && report.json()["conlleval"]["overall"]["gold"] == 0, "{}", report.out);
    assert!(!desk.run("eval m none.conll").works().out.contains("NaN"));
    train(&desk, "--valid none.conll --test none.conll").works().json();
}

#[test]
fn tags_joined_by_commas_and_documents() {
    let text = format!("-DOCSTART- O\n\n{}-DOCSTART- -X- O O\nAnn B-PER,B-LOC\n", in_tags(PLAIN));
    let report = all_warn(&text, "", &["1 tag joined by commas", "the first of each is used"]);
    has(&[("LOC", 4), ("PER", 5)], &report);
}

#[test]
fn words_with_spaces_one_per_line() {
    let (desk, run) = trained(&in_tags(PLAIN), "");
    run.works();
    let out = desk.feed("tag m", "Ann\nNew York\ntoday\n\nLee\n").works().out;
    let expected = ["Ann\t", "New York\t", "today\t", "", "Lee\t"];
    assert!(out.lines().zip(expected).all(|(line, word)| line.starts_with(word)), "{out}");
    // A sentence at a time, all lines of which are single words, is as it always was.
    assert!(desk.feed("tag m", "Ann\nLee\n").works().out.starts_with("Ann "));
}

#[test]
fn tag_writes_what_it_read_and_a_column() {
    let (desk, run) = trained(&in_tags(PLAIN), "");
    run.works();
    let text = "# sent_id = 1\r\nAnn NN  B-PER\r\n  in O\r\n\r\n \t \n-DOCSTART- x\n#hope O \nRome NN extra B-LOC\n\u{a0}\nlast O";
    desk.file("odd", text);
    let lines = |text: &str| text.split('\n').map(str::to_owned).collect::<Vec<_>>();
    for out in [desk.run("tag m odd").works().out, desk.feed("tag m", text).works().out] {
        let (before, after) = (lines(text), lines(&out));
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            let (line, end) = before.strip_suffix('\r').map_or((before.as_str(), ""), |line| (line, "\r"));
            match line.starts_with("# ") || line.trim().is_empty() {
                true => assert_eq!(before, after),
                false => {
                    let added = after.strip_prefix(line.trim_end()).and_then(|rest| rest.strip_suffix(end)).unwrap();
                    assert!(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"].contains(&added.trim()), "{after:?}");
                }
            }
        }
    }
}

#[test]
fn a_co_process_gets_a_line_for_each_line() {
    let (desk, run) = trained(&in_tags(PLAIN), "");
    run.works();
    for (options, asked) in [("--text", "Ann Lee in Rome\n"), ("", "Ann\nLee\n\n"), ("", "# sent_id = 1\nAnn\n\n")] {
        let mut command = desk.command(["tag", "m"].into_iter().chain(options.split_whitespace()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        // The pipe stays open: whoever waits here waits for ever.
        for _ in 0..3 {
            input.write_all(asked.as_bytes()).unwrap();
            for line in asked.lines() {
                let mut answer = String::new();
                output.read_line(&mut answer).unwrap();
                let plain = answer.replace(['[', ']'], "").replace("PER ", "").replace("LOC ", "");
                assert!(plain.starts_with(line), "{line:?}: {answer:?}");
            }
        }
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_packed_pipe_is_tagged_too() {
    let (desk, run) = trained(&in_tags(PLAIN), "");
    run.works();
    // UTF-16 with a mark.
    let bytes: Vec<u8> =
        std::iter::once(0xFEFF).chain("Ann\nLee\n".encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(desk.feed("tag m", bytes).works().out.lines().count(), 2);
}

#[test]
fn nested_tags_in_the_last_column() {
    // Inner tags are few and stand last, as in GermEval-2014.
    let outer = "1\tAnn\tB-PER\tO\n2\tof\tO\tO\n3\tRome\tB-LOC\tO\n\n".repeat(9);
    let text = format!("{outer}1\tRome\tB-ORG\tB-LOC\n2\tFC\tI-ORG\tO\n\n");
    let (desk, run) = trained(&text, "--word-column 2");
    let told = ["columns 3 and 4 both contain tags", "using column 3, which has 19 entities", "has 1", "--column 4"];
    run.works().warns(&told);
    // The choice is saved with the model.
    let report = desk.run("eval m train.conll --json").works().warns_of_nothing().json();
    has(&[("LOC", 9), ("ORG", 1), ("PER", 9)], &report);
    train(&desk, "--word-column 2 --strict").refuses(3, &["--column 4"]);
    train(&desk, "--word-column 2 --column 4").works().warns_of_nothing();
    has(&[("LOC", 1)], &desk.run("eval m train.conll --json").works().json());
    let (_, run) = trained(&outer, "--word-column 2");
    run.refuses(3, &["no entity in the last column, 4", "--column 3 reads them from column 3, which has 18 entities"]);
}

#[test]
fn chunks_before_the_tags_are_no_choice() {
    let text =
        "Ann NNP B-NP B-PER\nsaw VBD B-VP O\nthe DT B-NP O\ncat NN I-NP O\n\n".repeat(9).replacen("B-PER", "O", 8);
    let (desk, run) = trained(&text, "");
    run.works().warns_of_nothing();
    has(&[("PER", 1)], &desk.run("eval m train.conll --json").works().json());
    // Gold and predicted tags are of the same types, and about as many.
    let both = "Ann B-PER B-PER\nin O O\nRome B-LOC O\n\n".repeat(4);
    let (_, run) = trained(&both, "");
    run.works().warns(&["columns 2 and 3 both contain tags", "using the last, which has 4 entities", "--column 2"]);
}

#[test]
fn ragged_rows_whose_last_column_is_no_tag() {
    let (desk, run) = trained(&format!("{}Ann B-PER a remark\n", in_tags(PLAIN)), "");
    let told = ["train.conll:25", "the tag `remark` in the last of 4 columns", "line 1 has 2 columns", "--column 2"];
    run.refuses(3, &told);
    train(&desk, "--column 2").works();
}

#[test]
fn one_sentence_of_hundreds_of_tokens() {
    let text = "Ann B-PER\nwalked O\nhome. O\n".repeat(70);
    let told = ["train.conll:1", "one sentence of 210 tokens", "empty lines", "--max-sentence N"];
    assert_eq!(all_warn_of_training(&text, &told)["sentences"], 1);
    let (_, run) = trained(&text, "--max-sentence 100");
    run.works().warns(&["1 sentence of more than 100 tokens", "70 pieces"]);
}

#[test]
fn files_of_comments_only() {
    let (_, run) = trained("# sent_id = 1\n# text = a\n", "");
    run.works().warns(&["train.conll:1", "all lines begin with `#`", "read as rows"]);
    let (_, run) = trained("#one\n#two\n", "");
    run.refuses(3, &["train.conll:1", "1 column", "all lines begin with `#`: does the file contain only comments?"]);
    let (_, run) = trained("#Ann B-PER\n#in O\n#Rome B-LOC\n\n", "");
    run.works().warns(&["train.conll:1", "all lines begin with `#`", "read as rows", "--strict"]);
}

#[test]
fn many_odd_tags_are_listed_shortly() {
    let text: String = (0..40).map(|i| format!("w{i} B-B-X{i}\nx O\n\n")).collect();
    let (_, run) = trained(&text, "");
    let run = run.works();
    assert_eq!(run.err.lines().filter(|line| line.starts_with("warning: ")).count(), 4, "{}", run.err);
    run.warns(&["train.conll:1:", "`B-B-X0` (1 time)", "read as B-X0"]).warns(&[
        "train.conll:10: and 37 more tags",
        "and 32 more",
        "--strict",
    ]);
}
