//! A panic of the program, in whatever thread: one line, exit code 70, and the last checkpoint as it was. The process-wide hook is
//! of the essence, so that each case is a process: this file runs itself, and what it calls is what `main` calls.

mod common;

use rayon::prelude::*;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;
use wordmill::params::{Arena, Gradients, Layout, Role};
use wordmill::sys::disk::{Disk, Op};
use wordmill::sys::panics::{EXIT_CODE, reported};
use wordmill::sys::signals::Signals;
use wordmill::train::checkpoint::{MODEL, ModelDir, Purpose};
use wordmill::train::fit::{Fit, Outcome, Plan, SmallFile, State, Task};
use wordmill::train::metrics::Metrics;
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::progress::{Progress, Style};
use wordmill::train::saver::Saver;
use wordmill::train::schedule::{EarlyStopping, Measure, Schedule, ScheduleKind, Score};
use wordmill::train::stepper::Stepper;
use wordmill::train::writer::Writer;

/// A bowl with 1,000 parameters, in which step `breaks` meets a mistake in a worker thread.
struct Bowl {
    layout: Arc<Layout>,
    files: Vec<SmallFile>,
    breaks: u64,
}

impl Task for Bowl {
    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }
    fn rows(&self) -> usize {
        0
    }
    fn steps_per_epoch(&self) -> u64 {
        4
    }
    fn targets_before(&self, steps: u64) -> u64 {
        steps
    }
    type Touched = ();
    fn touch(&mut self, _g: &mut Gradients<f32>, _step: u64) {}
    fn step(&mut self, g: &mut Gradients<f32>, step: u64, (): (), w: &Arena<f32>) -> Outcome {
        g.arena.all_mut().copy_from_slice(w.all());
        let breaks = self.breaks;
        g.arena.all_mut().par_chunks_mut(16).enumerate().for_each(|(i, _)| {
            assert!(step + 1 != breaks || i != 17, "the capacity of\nstep {breaks} is too small");
        });
        Outcome { loss: 1.0, targets: 1 }
    }
    fn classes(&self) -> Option<usize> {
        None
    }
    fn validate(&mut self, _: &Arena<f32>) -> Option<Score> {
        None
    }
    fn measure(&self) -> Measure {
        Measure::CrossEntropy
    }
    fn files(&self) -> &[SmallFile] {
        &self.files
    }
}

/// Trains it for 3 epochs of 4 steps.
fn train(out: &Path, breaks: u64, disk: Disk) -> ExitCode {
    let mut layout = Layout::default();
    layout.add("w", 10, 100, Role::Weight);
    let layout = Arc::new(layout);
    let mut task = Bowl { layout: layout.clone(), files: vec![("config.json", b"{}\n".to_vec())], breaks };
    let mut w = Arena::zeros(&layout);
    common::fill_uniform(&mut w, 1.0, 1);
    let plan = Plan { epochs: 3, max_steps: None, save_every: Duration::from_secs(600), resume: String::new() };
    let schedule = Schedule::new(ScheduleKind::Constant, 0.1, 12);
    let optimizer = Optimizer::new(Rule::Sgd, f64::INFINITY, 0.0, &layout);
    wordmill::pool::pool(3).expect("a pool").install(|| {
        let mut fit = Fit {
            task: &mut task,
            stepper: Stepper::new(w, Gradients::zeros(&layout, 0), optimizer, 0),
            state: State::new(schedule, EarlyStopping::new(None)),
            plan,
            saver: Saver::new(Writer::create(out, false).expect("a directory").on(disk)),
            metrics: Metrics::create(out).expect("a file"),
            progress: Progress::new(Style::Quiet),
            signals: Signals::install().expect("signals"),
        };
        fit.run().expect("nothing is wrong with the data");
    });
    ExitCode::SUCCESS
}

/// What the child named so does.
fn child(name: &str, out: &Path) -> ExitCode {
    match name {
        "right" => train(out, 0, Disk::default()),
        "worker" => train(out, 10, Disk::default()),
        "saver" => {
            let second = |path: &Path| path.to_string_lossy().contains("step-000000000008");
            train(
                out,
                0,
                Disk::failing(move |op, path| {
                    assert!(op != Op::Write || !second(path), "a mistake in saving");
                    Ok(())
                }),
            )
        }
        "both" => {
            let code = std::panic::catch_unwind(|| child("saver", out));
            code.unwrap_or_else(|_| panic!("a mistake on the way out"))
        }
        "thread" => {
            _ = std::thread::Builder::new()
                .name("lost".into())
                .spawn(|| panic!("nobody joins"))
                .expect("a thread")
                .join();
            ExitCode::SUCCESS
        }
        "usage" => wordmill::cli::run(["wordmill", "train", "ner", "--frobnicate"].map(OsString::from)),
        _ => unreachable!("no such child"),
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let [_, which, name, out] = &args[..]
        && which == "child"
    {
        let command = ["wordmill", "train", "my data"].map(OsString::from);
        return reported(&command, || child(name.to_str().expect("a name"), Path::new(out)));
    }
    let temp = tempfile::tempdir().expect("a directory");
    let run = |name: &str| {
        let out = temp.path().join(name);
        let mut command = Command::new(&args[0]);
        let output = command.args(["child", name]).arg(&out).env_remove("RUST_BACKTRACE").output().expect("it runs");
        let lines = String::from_utf8(output.stderr).expect("UTF-8");
        println!("{name}: {:?} {lines}", output.status.code());
        (output.status.code(), lines, out)
    };
    let newest = |out: &Path| {
        let mut checkpoint = ModelDir::open(out).expect("a model").load_newest(Purpose::Resume).expect("a checkpoint");
        assert_eq!(checkpoint.shapes(MODEL).expect("tensors"), [("w".to_owned(), vec![10, 100])]);
        checkpoint.step()
    };
    let broken = Some(i32::from(EXIT_CODE));

    let (code, lines, out) = run("right");
    assert_eq!((code, lines.as_str(), newest(&out)), (Some(0), "", 12));
    let (code, lines, out) = run("worker");
    assert_eq!((code, lines.lines().count(), newest(&out)), (broken, 1, 8));
    for part in
        ["bug in wordmill", "the capacity of step 10 is too small", "tests/panics.rs:", "train 'my data'", "wordmill-"]
    {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    for name in ["saver", "both"] {
        let (code, lines, out) = run(name);
        assert_eq!((code, lines.lines().count(), newest(&out)), (broken, 1, 4), "{name}");
        assert!(lines.contains("a mistake in saving at") && lines.contains("thread saver"), "{lines}");
    }
    let (code, lines, _) = run("thread");
    assert!(code == broken && lines.contains("nobody joins") && lines.contains("thread lost"), "{lines}");
    let (code, lines, _) = run("usage");
    assert!(code == Some(2) && lines.starts_with("wordmill: unexpected argument"), "{lines}");
    ExitCode::SUCCESS
}
