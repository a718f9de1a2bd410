//! Signals, file systems, standard streams, other programs.
//!
//! Failing calls are made by a small C library that is loaded before the C library (`failing.c`): it sees what the
//! standard library of Rust and rustix (which is built on the C library for this) call, so that it is the call itself
//! that fails, not something before it. Where there is no `cc`, those tests are skipped.
#![cfg(target_os = "linux")]

use crate::program::{Desk, Run, SMALL_LM, SMALL_NER, text};
use std::fs;
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A model that is never done by itself.
const ENDLESS: &str = "--embed 4 --hidden 5 --batch 2 --tau 3 --epochs 1000000 --threads 1 --schedule constant";

/// A program that does not outlive its test.
struct Running(Option<Child>);

impl Running {
    fn of(command: &mut Command) -> Self {
        Running(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().expect("it has not ended")
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().expect("it has not ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

fn start(desk: &Desk, line: &str) -> Running {
    Running::of(&mut desk.command(line.split_whitespace()))
}

fn end(mut child: Running) -> Run {
    Run::of(child.0.take().expect("it has not ended").wait_with_output().unwrap())
}

/// Sends a signal, as `TERM`.
fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
}

/// Waits until `done`.
#[track_caller]
fn wait(child: &mut Child, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        assert!(begin.elapsed() < Duration::from_secs(120), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A set of signals in the process's status, as `SigCgt`.
fn signals(process: &str, set: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(':'));
    line.map_or(0, |line| u64::from_str_radix(line.trim(), 16).unwrap())
}

/// Waits until the process has taken SIGXFSZ, the last of its signals, for itself.
#[track_caller]
fn wait_for_handlers(child: &mut Child) {
    let process = child.id().to_string();
    wait(child, || signals(&process, "SigCgt") >> (25 - 1) & 1 == 1);
}

/// Under `nohup` the tests themselves, and what they start, do not hear SIGHUP.
fn hears_hangups() -> bool {
    let hears = signals("self", "SigIgn") & 1 == 0;
    if !hears {
        println!("skipped: SIGHUP is ignored here, as under nohup");
    }
    hears
}

fn newest(dir: &Path) -> Option<u64> {
    let steps = fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("step-")?.parse().ok());
    steps.max()
}

fn weights(dir: &Path) -> Vec<u8> {
    let step = newest(dir).expect("a checkpoint");
    fs::read(dir.join(format!("step-{step:012}/model.safetensors"))).unwrap()
}

/// The values of a tensor file, without what it says of them.
fn values(bytes: &[u8]) -> &[u8] {
    &bytes[8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize..]
}

/// Data for each kind of model, and the command that trains one for several epochs.
fn five(desk: &Desk) -> [(&'static str, String); 5] {
    desk.file("text", text(60));
    let conll: String = (0..40).map(|i| format!("Ann B-PER\nsaw O\nBerlin B-LOC\nin O\nx{} O\n\n", i % 9)).collect();
    desk.file("conll", conll);
    let rows: String = (0..60).map(|i| format!("{},{},c{}\n", i % 7, (i * 5) % 11, i % 3)).collect();
    desk.file("rows.csv", format!("a,b,label\n{rows}"));
    let word = |i: usize| ["cat", "dog", "cow", "car", "bus", "van"][i % 6];
    let vectors: String =
        (0..6).map(|i| format!("{} {} {} {}\n", word(i), i, (i * i) % 5, usize::from(i < 3))).collect();
    desk.file("vectors", vectors);
    let pairs: String = (0..36)
        .filter(|i| i / 6 != i % 6)
        .map(|i| format!("{}\t{}\t{}\n", word(i / 6), word(i % 6), u8::from((i / 6 < 3) == (i % 6 < 3))))
        .collect();
    desk.file("pairs", pairs);
    let more = "--epochs 6 --threads 1 --batch 8 -q";
    [
        ("lm", "--train text --valid text --embed 4 --hidden 5 --batch 4 --tau 5 --epochs 6 --threads 1 -q".to_owned()),
        ("ner", format!("--train conll --valid conll --embed 4 --hidden 5 {more}")),
        ("softmax", format!("--train rows.csv --valid rows.csv {more}")),
        ("siamese", format!("--pairs pairs --valid pairs --vectors vectors --hidden 4 {more}")),
        ("pseudo-siamese", format!("--train rows.csv --valid rows.csv --hidden 4 {more}")),
    ]
}

#[test]
fn hangup_and_spent_time_save_as_sigterm_does() {
    let desk = Desk::new();
    desk.file("text", text(60));
    for (signal, name, number) in [("TERM", "SIGTERM", 15), ("HUP", "SIGHUP", 1), ("XCPU", "SIGXCPU", 24)] {
        if signal == "HUP" && !hears_hangups() {
            continue;
        }
        let mut child = start(&desk, &format!("train lm --train text --out {signal} {ENDLESS} -q"));
        wait(&mut child, || newest(&desk.path().join(signal)).is_some());
        send(&child, signal);
        if signal != "TERM" {
            // A lost terminal sends its signal more than once, and so does a limit of processor time: no second of
            // those ends at once.
            send(&child, signal);
        }
        let run = end(child).refuses(128 + number, &[&format!("stopped by {name}; continue with: "), "--resume"]);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        let saved = newest(&desk.path().join(signal)).unwrap();
        // As if it had never stopped.
        let last = saved + 5;
        desk.run(&format!("train lm --out {signal} --resume --max-steps {last} -q")).works();
        desk.run(&format!("train lm --train text --out whole --force {ENDLESS} --max-steps {last} -q")).works();
        assert!(
            values(&weights(&desk.path().join(signal))) == values(&weights(&desk.path().join("whole"))),
            "{signal}"
        );
    }
}

/// `nohup` means that the run goes on when its terminal goes.
#[test]
fn nohup_is_respected() {
    let desk = Desk::new();
    desk.file("text", text(60));
    let line = format!("train lm --train text --out m {ENDLESS} -q");
    let program = env!("CARGO_BIN_EXE_wordmill");
    let mut command = Command::new("nohup");
    command.arg(program).args(line.split_whitespace()).current_dir(desk.path());
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(child) = spawned else { return println!("skipped: no nohup") };
    let mut child = Running(Some(child));
    wait(&mut child, || newest(&desk.path().join("m")).is_some());
    let before = newest(&desk.path().join("m"));
    send(&child, "HUP");
    wait(&mut child, || newest(&desk.path().join("m")) > before);
    send(&child, "TERM");
    end(child).refuses(143, &["stopped by SIGTERM"]);
}

#[test]
fn usr1_saves_and_the_run_goes_on() {
    let desk = Desk::new();
    desk.file("text", text(20_000));
    // One epoch takes long, so that nothing else is saved.
    for signal in ["USR1", "USR2"] {
        let line = format!("train lm --train text --out {signal} --embed 50 --hidden 100 --epochs 50 --threads 1");
        let mut child = start(&desk, &line);
        let out = desk.path().join(signal);
        wait_for_handlers(&mut child);
        send(&child, signal);
        wait(&mut child, || newest(&out).is_some());
        let saved = newest(&out).unwrap();
        send(&child, signal);
        wait(&mut child, || newest(&out) > Some(saved));
        send(&child, "TERM");
        let run = end(child).refuses(143, &["stopped by SIGTERM"]);
        let told = |line: &&str| line.starts_with("saved after step ") && line.ends_with(" on request of a signal");
        assert_eq!(run.err.lines().filter(told).count(), 2, "{}", run.err);
    }
}

/// Ended by time again and again, a run of each kind of model ends in the bytes of one that was not.
#[test]
fn max_minutes_saves_ends_and_says_how_to_go_on() {
    let desk = Desk::new();
    for (verb, options) in five(&desk) {
        desk.run(&format!("train {verb} {options} --out whole-{verb}")).works();
        let mut line = format!("train {verb} {options} --out {verb} --max-minutes 1e-9 --json");
        let mut stops = 0;
        loop {
            let run = desk.run(&line).works();
            let resume = format!("wordmill train {verb} --out {verb} --resume");
            match run.json().get("continue_with") {
                Some(found) => assert_eq!(found, &resume),
                None => break,
            }
            stops += 1;
            let limit = ["1e-9", "0.0005", "10"][stops.min(2)];
            line = format!("train {verb} --out {verb} --resume -q --json --max-minutes {limit}");
        }
        assert!(stops >= 1, "{verb}: it was never stopped");
        let (whole, parts) = (desk.path().join(format!("whole-{verb}")), desk.path().join(verb));
        assert_eq!(newest(&whole), newest(&parts), "{verb}");
        assert!(values(&weights(&whole)) == values(&weights(&parts)), "{verb}: another model");
    }
    let run = desk.run(&format!("train lm --train text --out told {ENDLESS} --max-minutes 1e-9")).works();
    let told = "stopped after step 1, the limit of --max-minutes; continue with: wordmill train lm --out told --resume";
    assert!(run.err.lines().any(|line| line == told), "{}", run.err);
    desk.run("train lm --out told --resume --max-minutes 0").refuses(2, &["--max-minutes"]);
}

/// The first signal ends a command that waits for its input, in opening a pipe that nobody writes to and in reading one.
#[test]
fn a_signal_ends_a_command_that_waits_for_input() {
    let desk = Desk::new();
    desk.file("text", text(40));
    desk.file("conll", "Ann B-PER\nsaw O\n\n".repeat(20));
    desk.run(&format!("train lm --train text --out lm {SMALL_LM} -q")).works();
    desk.run(&format!("train ner --train conll --out ner {SMALL_NER} -q")).works();
    let pipe = desk.path().join("pipe");
    let opened = |process: u32| {
        let fds = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path.ends_with("pipe"))
    };
    let lines = [
        "train lm --train pipe --out new",
        "train lm --train text --valid pipe --out new",
        "train ner --train pipe --out new",
        "train softmax --train pipe --out new",
        "eval lm pipe",
        "eval ner pipe",
        "score lm pipe",
        "tag ner pipe",
    ];
    let ends = [("INT", "Ctrl-C", 130), ("TERM", "SIGTERM", 143), ("HUP", "SIGHUP", 129), ("XCPU", "SIGXCPU", 152)];
    for (i, line) in lines.into_iter().enumerate() {
        let (signal, name, code) = ends[i % ends.len()];
        if signal == "HUP" && !hears_hangups() {
            continue;
        }
        for written in [false, true] {
            // A new one each time: a process that another test is just starting may have an end of the old one for a moment.
            _ = fs::remove_file(&pipe);
            assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            let mut child = start(&desk, line);
            wait_for_handlers(&mut child);
            let writer = written.then(|| {
                // Opening waits until the program has opened the other end.
                let mut writer = fs::File::options().write(true).open(&pipe).unwrap();
                // It may look at a file before it reads it, and close it again.
                _ = writer.write_all(b"Ann B-PER\n");
                writer
            });
            if written {
                let process = child.id();
                wait(&mut child, || opened(process));
            }
            std::thread::sleep(Duration::from_millis(300));
            send(&child, signal);
            let run = end(child).refuses(code, &[&format!("stopped by {name}")]);
            assert!(!run.err.contains("continue with"), "{line}: {}", run.err);
            drop(writer);
        }
        assert!(!desk.path().join("new").exists(), "{line}: nothing was to be saved");
    }
    // Standard input that stays open.
    let mut command = desk.command(["tag", "ner"]);
    let mut child = Running::of(command.stdin(Stdio::piped()));
    let stdin = child.stdin.take();
    std::thread::sleep(Duration::from_millis(300));
    send(&child, "INT");
    end(child).refuses(130, &["stopped by Ctrl-C"]);
    drop(stdin);
}

/// The library of failing calls; none where there is no C compiler.
fn failing() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<(TempDir, std::path::PathBuf)>> = OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let (source, library) = (dir.path().join("failing.c"), dir.path().join("failing.so"));
        fs::write(&source, include_str!("failing.c")).unwrap();
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").output();
        match made {
            Ok(made) if made.status.success() => Some((dir, library)),
            Ok(made) => panic!("{}", String::from_utf8_lossy(&made.stderr)),
            Err(error) => {
                println!("skipped: no cc: {error}");
                None
            }
        }
    };
    LIBRARY.get_or_init(make).as_ref().map(|(_, library)| library.as_path())
}

/// Runs the program while the calls fail that `what` names; none where the library cannot be made.
fn run_failing(desk: &Desk, what: &str, line: &str) -> Option<Run> {
    let mut command = desk.command(line.split_whitespace());
    command.env("LD_PRELOAD", failing()?).env("WORDMILL_TEST_FAIL", what);
    Some(Run::of(command.output().unwrap()))
}

/// A removed checkpoint that someone holds open on NFS is not empty, and not the end of the run.
#[test]
fn nfs_keeps_removed_checkpoints_that_are_open() {
    let desk = Desk::new();
    desk.file("text", text(40));
    let line = format!("train lm --train text --valid text --out m {SMALL_LM} --epochs 5 --max-steps 9999 -q");
    let Some(run) = run_failing(&desk, "held", &line) else { return };
    run.works();
    let names = || -> Vec<String> {
        let entries = fs::read_dir(desk.path().join("m")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let partial = || names().iter().filter(|name| name.starts_with(".partial-")).count();
    assert!(partial() >= 2, "the library had no effect: {:?}", names());
    // A later run on the same machine cannot sweep it either, nor use its names; it goes when the files are closed.
    run_failing(&desk, "held", "train lm --out m --resume --epochs 6 -q").unwrap().works();
    run_failing(&desk, "held", &format!("{line} --force")).unwrap().works();
    desk.run("train lm --out m --resume --epochs 6 -q").works();
    assert_eq!(partial(), 0, "{:?}", names());
    desk.run("eval m text").works().warns_of_nothing();
}

#[test]
fn a_file_system_without_locks() {
    let desk = Desk::new();
    desk.file("text", text(40));
    let line = |out: &str| format!("train lm --train text --out {out} {SMALL_LM}");
    for (i, error) in ["ENOSYS", "ENOLCK", "EOPNOTSUPP"].into_iter().enumerate() {
        let (what, out) = (format!("flock={error}"), format!("m{i}"));
        let Some(run) = run_failing(&desk, &what, &line(&out)) else { return };
        run.works().warns(&[&format!("{out}/lock"), "does not support locks", "continuing without"]);
        let resumed = run_failing(&desk, &what, &format!("train lm --out {out} --resume --max-steps 3 --json"));
        let run = resumed.unwrap().works().warns(&["does not support locks"]);
        assert_eq!(run.json()["warnings"].as_array().unwrap().len(), 1, "{}", run.out);
    }
    // Any other error of the lock is one.
    run_failing(&desk, "flock=EIO", &line("bad"))
        .unwrap()
        .refuses(6, &["bad/lock: locking the model directory failed"]);
    // All models, and import.
    for (verb, options) in five(&desk) {
        let options = options.replace(" -q", "");
        let run = run_failing(&desk, "flock=ENOLCK", &format!("train {verb} {options} --out {verb}")).unwrap();
        run.works().warns(&["does not support locks"]);
    }
    desk.run("export lm --to pytorch x.safetensors").works();
    let run = run_failing(&desk, "flock=ENOLCK", "import x.safetensors --vocab x.vocab.txt --out i").unwrap();
    run.works().warns(&["does not support locks"]);
}

#[test]
fn a_file_system_that_does_not_know_its_size() {
    let desk = Desk::new();
    desk.file("text", text(40));
    let Some(run) = run_failing(&desk, "statvfs=0", &format!("train lm --train text --out m {SMALL_LM}")) else {
        return;
    };
    run.works().warns_of_nothing();
    // One that knows that it is full is.
    let run = run_failing(&desk, "statvfs=full", &format!("train lm --train text --out n {SMALL_LM}")).unwrap();
    run.refuses(6, &["found 0.0 MB free on the disk"]);
}

#[test]
fn a_directory_that_cannot_be_synced() {
    let desk = Desk::new();
    desk.file("text", text(40));
    let line = format!("train lm --train text --out m {SMALL_LM}");
    let Some(run) = run_failing(&desk, "fsync-directory=EINVAL", &line) else { return };
    run.works().warns_of_nothing();
    // A disk that fails under a file is another thing.
    let run = run_failing(&desk, "fsync-file=EIO", &format!("train lm --train text --out n {SMALL_LM}")).unwrap();
    run.refuses(6, &["saving the checkpoint failed"]);
    assert_eq!(newest(&desk.path().join("n")), None);
}

#[test]
fn what_file_managers_leave_is_passed_over() {
    let desk = Desk::new();
    desk.file("text", text(40));
    let litter = |dir: &str| {
        for name in [".DS_Store", "._model.safetensors", ".nfs0000000001", "Thumbs.db", "desktop.ini", ".directory"] {
            desk.file(&format!("{dir}/{name}"), "x");
        }
        ["lost+found", "@eaDir"].iter().for_each(|name| fs::create_dir_all(desk.path().join(dir).join(name)).unwrap());
    };
    fs::create_dir(desk.path().join("m")).unwrap();
    litter("m");
    desk.run(&format!("train lm --train text --out m {SMALL_LM}")).works().warns_of_nothing();
    // Within a checkpoint too, which is used, continued, replaced and removed as if it were not there.
    litter("m/step-000000000002");
    for line in ["eval m text", "eval m/step-000000000002 text", "score m text"] {
        desk.run(line).works().warns_of_nothing();
    }
    for steps in [3, 4, 5] {
        desk.run(&format!("train lm --out m --resume --max-steps {steps}")).works().warns_of_nothing();
    }
    let steps = |dir: &str| fs::read_dir(desk.path().join(dir)).unwrap().flatten();
    assert_eq!(steps("m").filter(|entry| entry.file_name().to_string_lossy().starts_with("step-")).count(), 2);
    desk.run(&format!("train lm --train text --out m {SMALL_LM} --force")).works().warns_of_nothing();
    assert!(desk.path().join("m/.DS_Store").exists() && desk.path().join("m/lost+found").exists());
    // A file of somebody's is not.
    desk.file("m/dear.txt", "x");
    desk.run(&format!("train lm --train text --out m {SMALL_LM} --force")).refuses(4, &["contains dear.txt"]);
}

/// Results and exit codes are those of a standard error that someone reads.
#[test]
fn standard_error_may_be_full_or_gone() {
    let desk = Desk::new();
    five(&desk);
    desk.run(&format!("train lm --train text --out lm {SMALL_LM} -q")).works();
    desk.run(&format!("train lm --train text --out nce --loss nce --samples 3 {SMALL_LM} -q")).works();
    desk.run(&format!("train ner --train conll --out ner {SMALL_NER} -q")).works();
    desk.run("train siamese --pairs pairs --vectors vectors --out twins --epochs 1 -q").works();
    desk.file("unknown.conll", "Ann B-NEW\nsaw O\n\n".repeat(3));
    desk.file("unknown.pairs", "cat\tdog\t1\ncat\tzebra\t0\ncow\tbus\t0\n");
    // A damaged newest checkpoint is warned of.
    desk.run("train lm --out lm --resume --max-steps 3 -q").works();
    let model = desk.path().join("lm/step-000000000003/model.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&model, bytes).unwrap();
    let lines = [
        "eval lm text --json",
        "score nce text --self-normalised",
        "eval ner unknown.conll",
        "eval twins unknown.pairs",
        "train lm --train text --out again --force --embed 4 --hidden 5 --max-steps 2",
        "train lm --train nowhere --out again --force",
        "frobnicate",
    ];
    let shell = |line: &str, stderr: &str| {
        let program = env!("CARGO_BIN_EXE_wordmill");
        let line = format!("exec '{program}' {line} {stderr}");
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", &line]).current_dir(desk.path()).stdin(Stdio::null()).output().unwrap();
        // How fast it was is another each time.
        let out = String::from_utf8(output.stdout).unwrap();
        let out = out.split("\"words_per_second\"").next().unwrap().to_owned();
        (output.status.code().expect("it ends by itself"), out, output.stderr.len())
    };
    for line in lines {
        let (code, out, said) = shell(line, "");
        assert!(said > 0, "{line} has nothing to say");
        for gone in ["2>/dev/full", "2>&-"] {
            let (code_now, out_now, _) = shell(line, gone);
            assert_eq!((code_now, &out_now), (code, &out), "{line} {gone}");
        }
    }
    // Results that cannot be written are an error, in one line.
    let output = Command::new("sh")
        .args(["-c", &format!("exec '{}' score nce text > /dev/full", env!("CARGO_BIN_EXE_wordmill"))])
        .current_dir(desk.path())
        .output()
        .unwrap();
    Run::of(output).refuses(6, &["standard output: writing failed"]);
}

/// A reader of standard error that has gone, as in `2>&1 | head -1`.
#[test]
fn nobody_reads_standard_error() {
    let desk = Desk::new();
    desk.file("text", text(40));
    let mut command = desk.command(format!("train lm --train text --out m {SMALL_LM} --json").split_whitespace());
    let mut child = Running::of(&mut command);
    drop(child.stderr.take());
    end(child).works().json();
}

/// Another program cuts a text short, or writes it anew, when it has just been mapped: one line, not SIGBUS.
#[test]
fn a_text_that_changes_while_it_is_read() {
    let desk = Desk::new();
    desk.file("text", text(5_000));
    desk.file("conll", "Ann B-PER\nsaw O\n\n".repeat(20));
    desk.run(&format!("train lm --train text --out lm {SMALL_LM} -q")).works();
    for line in [
        "train lm --train changing --out m --max-steps 1".to_owned(),
        "train lm --train text --valid changing --out m --max-steps 1".to_owned(),
        "eval lm changing".to_owned(),
        "score lm changing".to_owned(),
    ] {
        for (what, expected) in [("cut", "cut short while it was read"), ("anew", "written to while it was read")] {
            let path = desk.file("changing", text(5_000));
            // Not in the same moment, which a file's time would not tell apart.
            std::thread::sleep(Duration::from_millis(30));
            let Some(run) = run_failing(&desk, what, &line) else { return };
            run.refuses(3, &["changing: found ", expected]);
            assert!(!desk.path().join("m").exists(), "{line}");
            fs::remove_file(path).unwrap();
        }
    }
}

/// A reader opens a model while its run removes the checkpoint that the reader was about to open.
#[test]
fn readers_beside_a_run_that_removes_checkpoints() {
    let desk = Desk::new();
    desk.file("text", text(40));
    desk.file("few", text(4));
    let line = format!("train lm --train text --valid few --out m {ENDLESS} --save-every 1e-6 -q");
    let mut command = desk.command(line.split_whitespace());
    if let Some(library) = failing() {
        command.env("LD_PRELOAD", library).env("WORDMILL_TEST_FAIL", "fsync=no");
    }
    let mut child = Running::of(&mut command);
    wait(&mut child, || newest(&desk.path().join("m")).is_some());
    let (begin, mut steps, mut reads) = (Instant::now(), Vec::new(), 0);
    while reads < 80 || steps.len() < 20 {
        assert!(begin.elapsed() < Duration::from_secs(120), "the run hardly saves: {steps:?}");
        desk.run(["score m few", "eval m few --json", "neighbors m cat", "generate m --sentences 1"][reads % 4])
            .works();
        steps.push(newest(&desk.path().join("m")));
        steps.dedup();
        reads += 1;
    }
    send(&child, "TERM");
    end(child).refuses(143, &["stopped by SIGTERM"]);
}

/// The same at the one moment that matters: the only checkpoint that there was when the reader looked.
#[test]
fn a_checkpoint_removed_while_it_is_opened() {
    let desk = Desk::new();
    desk.file("text", text(40));
    desk.file("few", text(4));
    desk.run(&format!("train lm --train text --out m {SMALL_LM} -q")).works();
    desk.run(&format!("train lm --train text --out n {SMALL_LM} --max-steps 3 -q")).works();
    fs::rename(desk.path().join("n/step-000000000003"), desk.path().join("next")).unwrap();
    let Some(run) = run_failing(&desk, "removed", "score m few") else { return };
    let found = run.works().warns_of_nothing().out;
    assert_eq!(newest(&desk.path().join("m")), Some(3), "the library had no effect");
    assert_eq!(found, desk.run("score m few").works().out);
}

/// The contents decide, not the path: for every kind of model.
#[test]
fn data_of_a_run_that_goes_on_may_have_moved() {
    let desk = Desk::new();
    let options = |verb: &str| match verb {
        "lm" => &[("train", "text"), ("valid", "text")][..],
        "ner" => &[("train", "conll"), ("valid", "conll")],
        "siamese" => &[("pairs", "pairs"), ("valid", "pairs"), ("vectors", "vectors")],
        _ => &[("train", "rows.csv"), ("valid", "rows.csv")],
    };
    let at = |name: &str| desk.path().join(name);
    for (verb, line) in five(&desk) {
        let line = line.replace("--epochs 6", "--epochs 2 --schedule constant");
        desk.run(&format!("train {verb} {line} --out {verb}")).works();
        let longer = line.replace("--epochs 2", "--epochs 3");
        desk.run(&format!("train {verb} {longer} --out whole-{verb}")).works();
        let files = options(verb);
        fs::create_dir_all(at("elsewhere")).unwrap();
        let names: std::collections::BTreeSet<&str> = files.iter().map(|(_, name)| *name).collect();
        names.iter().for_each(|name| fs::rename(at(name), at("elsewhere").join(name)).unwrap());
        let resume = format!("train {verb} --out {verb} --resume --epochs 3 -q");
        let (first, name) = files[0];
        desk.run(&resume).refuses(3, &[&format!("{name}: found no such file"), &format!("give --{first} FILE")]);
        let given = |wrong: &str| -> String {
            let path = |option: &str, name: &str| {
                if option == wrong { format!("elsewhere/other-{name}") } else { format!("elsewhere/{name}") }
            };
            files.iter().map(|(option, name)| format!(" --{option} {}", path(option, name))).collect()
        };
        // One line more is another text.
        let (option, name) = ("valid", files[1].1);
        let mut other = fs::read(at("elsewhere").join(name)).unwrap();
        let line_end = other[..other.len() - 2].iter().rposition(|&byte| byte == b'\n').unwrap();
        other.truncate(line_end + 1);
        if verb == "ner" {
            other = b"Ann B-PER\n\n".repeat(9);
        }
        fs::write(at("elsewhere").join(format!("other-{name}")), other).unwrap();
        desk.run(&format!("{resume}{}", given(option)))
            .refuses(3, &[&format!("elsewhere/other-{name}: found different contents")]);
        desk.run(&format!("{resume}{}", given(""))).works();
        assert!(values(&weights(&at(verb))) == values(&weights(&at(&format!("whole-{verb}")))), "{verb}");
        // From now on they are there.
        desk.run(&format!("train {verb} --out {verb} --resume --epochs 4 -q")).works();
        names.iter().for_each(|name| fs::rename(at("elsewhere").join(name), at(name)).unwrap());
    }
    // Data that the run did not have are not taken.
    desk.run(&format!("train lm --train text --out plain {SMALL_LM} -q")).works();
    desk.run("train lm --out plain --resume --max-steps 3 --valid text").refuses(2, &["--valid", "has nothing"]);
}

/// A file of tensors, under these names.
fn safetensors(tensors: &[(&str, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut bytes) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, data) in tensors {
        let offsets = [bytes.len(), bytes.len() + data.len()];
        header
            .insert((*name).to_owned(), serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
        bytes.extend(data);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &bytes].concat()
}

/// Numbers that half precision and bfloat16 have exactly, as bytes of `dtype`.
fn numbers(dtype: &str, count: usize, seed: usize) -> Vec<u8> {
    // Small multiples of 1/8.
    let value = |i: usize| ((i * 7 + seed * 3) % 13) as f32 / 8.0 - 0.75;
    let half = |x: f32| {
        let bits = x.to_bits();
        let (sign, exponent, fraction) = (bits >> 31, bits >> 23 & 0xFF, bits >> 13 & 0x3FF);
        if x == 0.0 { 0 } else { (sign << 15 | (exponent - 112) << 10 | fraction) as u16 }
    };
    let bytes = |x: f32| match dtype {
        "F32" => x.to_le_bytes().to_vec(),
        "F64" => f64::from(x).to_le_bytes().to_vec(),
        "F16" => half(x).to_le_bytes().to_vec(),
        "BF16" => x.to_bits().to_le_bytes()[2..].to_vec(),
        other => panic!("{other}"),
    };
    (0..count).flat_map(|i| bytes(value(i))).collect()
}

/// State dicts as people have them: wrapped, in half precision, without biases, tied, under PyTorch's example's names.
#[test]
fn pytorch_files_from_elsewhere() {
    let desk = Desk::new();
    desk.file("vocab", "<eos>\t9\nthe\t5\na\t3\ncat\t2\n<unk>\t0\n");
    desk.file("text", "the cat\na the\n");
    const WORDS: usize = 5;
    let (embed, hidden) = (4, 4);
    // The same numbers under each spelling must be the same model.
    let model = |dtype: &str, [table, rnn, output]: [&str; 3], biases: bool, tied: Option<&str>| -> Vec<u8> {
        let names = [
            (format!("{table}.weight"), vec![WORDS, embed], 1),
            (format!("{rnn}weight_ih_l0"), vec![3 * hidden, embed], 2),
            (format!("{rnn}weight_hh_l0"), vec![3 * hidden, hidden], 3),
            (format!("{rnn}bias_ih_l0"), vec![3 * hidden], 4),
            (format!("{rnn}bias_hh_l0"), vec![3 * hidden], 5),
            (format!("{output}.weight"), vec![WORDS, hidden], if tied.is_some() { 1 } else { 6 }),
            (format!("{output}.bias"), vec![WORDS], 7),
        ];
        let kept = names.iter().filter(|(name, ..)| {
            (biases || !name.contains("bias")) && tied.is_none_or(|table| *name != format!("{table}.weight"))
        });
        let tensors: Vec<_> = kept
            .map(|(name, shape, seed)| {
                (name.as_str(), dtype, shape.clone(), numbers(dtype, shape.iter().product(), *seed))
            })
            .collect();
        safetensors(&tensors)
    };
    let scores = |bytes: Vec<u8>, told: &[&str]| -> String {
        desk.file("x.safetensors", bytes);
        let run = desk.run("import x.safetensors --vocab vocab --out x --force").works();
        if told.is_empty() {
            run.warns_of_nothing()
        } else {
            run.warns(told)
        };
        desk.run("score x text").works().out
    };
    let own = ["embedding", "rnn.", "output"];
    let plain = scores(model("F32", own, true, None), &[]);
    for names in [
        ["encoder", "rnn.", "decoder"],
        ["module.embedding", "module.rnn.", "module.output"],
        ["_orig_mod.encoder", "_orig_mod.gru.", "_orig_mod.decoder"],
        ["module._orig_mod.model.emb", "module._orig_mod.model.rnn.", "module._orig_mod.model.fc"],
        ["model.word_embeddings", "model.", "model.lm_head"],
    ] {
        assert_eq!(scores(model("F32", names, true, None), &[]), plain, "{names:?}");
    }
    for dtype in ["F16", "BF16", "F64"] {
        assert_eq!(scores(model(dtype, own, true, None), &[]), plain, "{dtype}");
    }
    // One table for both, whichever it is called.
    let tied = scores(model("F32", own, true, Some("nothing")), &[]);
    assert_ne!(tied, plain);
    assert_eq!(scores(model("F32", ["encoder", "rnn.", "decoder"], true, Some("decoder")), &[]), tied);
    assert_eq!(scores(model("F32", ["encoder", "rnn.", "decoder"], true, Some("encoder")), &[]), tied);
    // No biases are biases of zero.
    let told = ["x.safetensors: no rnn.bias_ih_l0, rnn.bias_hh_l0, output.bias; initialised to zero"];
    let unbiased = scores(model("F16", own, false, None), &told);
    assert_ne!(unbiased, plain);
    assert_eq!(scores(model("F32", own, false, None), &told), unbiased);

    // What is not such a model is named.
    let import = |bytes: &[u8], name: &str| {
        desk.file(name, bytes);
        desk.run(&format!("import {name} --vocab vocab --out y"))
    };
    let of = |names: &[(&str, &[usize])]| -> Vec<u8> {
        let tensors: Vec<_> = names
            .iter()
            .map(|(name, shape)| (*name, "F32", shape.to_vec(), numbers("F32", shape.iter().product(), 1)))
            .collect();
        safetensors(&tensors)
    };
    let (e, o, ih) =
        (("encoder.weight", &[5, 4][..]), ("decoder.weight", &[5, 4][..]), ("rnn.weight_ih_l0", &[4, 4][..]));
    let hh = ("rnn.weight_hh_l0", &[4, 4][..]);
    import(&of(&[e, o, ("rnn.weight_ih_l0", &[20, 4]), ("rnn.weight_hh_l0", &[20, 4])]), "five")
        .refuses(3, &["shape [20, 4]", "an nn.RNN [H, H], an nn.GRU [3H, H] or an nn.LSTM [4H, H]"]);
    import(&of(&[e, o, ih, hh, ("rnn.weight_ih_l0_reverse", &[4, 4])]), "two").refuses(3, &["weight_ih_l0_reverse"]);
    import(&of(&[e, o, ih, hh, ("norm.weight", &[4])]), "norm").refuses(3, &["the tensor norm.weight"]);
    import(&of(&[e, ("emb.weight", &[5, 4]), ih, hh]), "both").refuses(3, &["emb.weight", "encoder.weight"]);
    import(&of(&[e, o, hh]), "no-ih").refuses(3, &["no tensor rnn.weight_ih_l0", "[4, 4]"]);
    import(&of(&[e, o, ("rnn.weight_ih_l0", &[4, 3]), hh]), "narrow").refuses(3, &["weight_ih_l0 of shape [4, 3]"]);
    import(&of(&[("transformer.h.weight", &[4, 4])]), "other")
        .refuses(3, &["no tensor rnn.weight_hh_l0", "transformer.h.weight"]);
    let mut whole = model("F32", own, true, None);
    let at = whole.windows(5).position(|bytes| bytes == b"\"F32\"").unwrap();
    whole[at..at + 5].copy_from_slice(b"\"I32\"");
    import(&whole, "integers").refuses(4, &["embedding.weight: found I32"]);
    // Pickles, with the command that makes a safetensors file.
    for start in [&b"PK\x03\x04\0\0\0\0archive/data.pkl"[..], b"\x80\x02\x8a\nl\xfc\x9cF"] {
        let parts = ["a PyTorch pickle", "python -c", "torch.load('a model.pt'", "save_file(", "'a model.safetensors'"];
        desk.file("a model.pt", start);
        let output = desk.command(["import", "a model.pt", "--vocab", "vocab", "--out", "y"]).output().unwrap();
        Run::of(output).refuses(3, &parts);
    }
    import(b"PK\x03\x04\0\0\0\0weight.npy", "arrays.npz").refuses(3, &["NumPy"]);
    assert!(!desk.path().join("y").exists());
}
