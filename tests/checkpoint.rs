//! Model directories under attack: kills, full disks, failing system calls, damaged bytes, a second process.

#[path = "common/cases.rs"]
mod cases;

use cases::{Case, cells, losses, rules, together};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use wordmill::Error;
use wordmill::models::Init;
use wordmill::models::language_model::{LanguageModel, Loaded, Space, Window};
use wordmill::params::{Arena, Gradients, Layout};
use wordmill::sys::disk::{Disk, Op};
use wordmill::sys::signals::Signals;
use wordmill::train::checkpoint::{Checkpoint, MODEL, ModelDir, OPTIMIZER, Purpose, STATE};
use wordmill::train::fit::{Fit, Outcome, Plan, SmallFile, State, Task, read_optimizer, read_weights};
use wordmill::train::metrics::Metrics;
use wordmill::train::optimizer::{Optimizer, Rule};
use wordmill::train::progress::{Progress, Style};
use wordmill::train::saver::Saver;
use wordmill::train::schedule::{EarlyStopping, Measure, Schedule, ScheduleKind, Score};
use wordmill::train::stepper::Stepper;
use wordmill::train::tensor_file::{Tensor, TensorMut};
use wordmill::train::writer::{Snapshot, Writer};

/// The values of the weights after `step` steps.
fn weights(step: u64, len: usize) -> Vec<f32> {
    (0..len).map(|i| (step as f32).mul_add(0.37, i as f32 * 1e-3).sin()).collect()
}

fn save_sized(writer: &Writer, step: u64, best: Option<u64>, rows: usize) -> Result<(), Error> {
    let (w, m) = (weights(step, rows * 3), weights(step + 1000, rows * 3));
    let scale = [step as f64 / 3.0];
    let shape = [rows, 3];
    let model = [
        Tensor { name: "embedding", shape: &shape, data: w[..].into() },
        Tensor { name: "scale", shape: &[1], data: scale[..].into() },
    ];
    let optimizer = [Tensor { name: "embedding.m", shape: &shape, data: m[..].into() }];
    let state = format!("{{\"step\": {step}}}\n");
    writer.save(&Snapshot {
        step,
        best,
        files: &[("config.json", b"{}\n"), ("vocab.txt", b"the\nof\n"), (STATE, state.as_bytes())],
        tensors: &[(MODEL, &model), (OPTIMIZER, &optimizer)],
    })
}

fn save(writer: &Writer, step: u64, best: Option<u64>) -> Result<(), Error> {
    save_sized(writer, step, best, 2)
}

/// Everything in the checkpoint is what was saved at its step.
fn check_contents(checkpoint: &mut Checkpoint, rows: usize) {
    let step = checkpoint.step();
    let (mut w, mut m, mut scale) = (vec![0.0; rows * 3], vec![0.0; rows * 3], [0.0]);
    let shape = [rows, 3];
    let mut targets = [
        TensorMut { name: "embedding", shape: &shape, data: (&mut w[..]).into() },
        TensorMut { name: "scale", shape: &[1], data: (&mut scale[..]).into() },
    ];
    checkpoint.read_tensors(MODEL, &mut targets).unwrap();
    let mut targets = [TensorMut { name: "embedding.m", shape: &shape, data: (&mut m[..]).into() }];
    checkpoint.read_tensors(OPTIMIZER, &mut targets).unwrap();
    assert_eq!(w, weights(step, rows * 3));
    assert_eq!(m, weights(step + 1000, rows * 3));
    assert_eq!(scale, [step as f64 / 3.0]);
    assert_eq!(checkpoint.read(STATE).unwrap(), format!("{{\"step\": {step}}}\n").as_bytes());
    assert_eq!(checkpoint.read("vocab.txt").unwrap(), b"the\nof\n");
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All files below `dir` with their contents.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for name in entries(dir) {
        let path = dir.join(name);
        if path.is_dir() {
            all.extend(tree(&path));
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

/// A model directory with checkpoints of `steps`, and the directory it lies in.
fn model(steps: &[u64]) -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("model");
    let writer = Writer::create(&path, false).unwrap();
    for &step in steps {
        save(&writer, step, None).unwrap();
    }
    (temp, path)
}

fn newest(path: &Path) -> Result<Checkpoint, Error> {
    ModelDir::open(path)?.load_newest(Purpose::Resume)
}

/// What the error is about, on one line.
fn message<T>(result: Result<T, Error>) -> String {
    let text = result.err().expect("an error").to_string();
    assert!(!text.contains('\n'), "{text:?}");
    text
}

#[test]
fn what_is_saved_is_loaded() {
    let (_temp, path) = model(&[7]);
    let mut checkpoint = newest(&path).unwrap();
    assert_eq!((checkpoint.step(), checkpoint.best()), (7, None));
    check_contents(&mut checkpoint, 2);
    assert_eq!(
        checkpoint.shapes(MODEL).unwrap(),
        [("scale".to_owned(), vec![1]), ("embedding".to_owned(), vec![2, 3])]
    );
    // Its own directory serves as well as the model directory.
    let mut alone = newest(&path.join("step-000000000007")).unwrap();
    check_contents(&mut alone, 2);
    // Another reader of the format agrees.
    let bytes = fs::read(path.join("step-000000000007").join(MODEL)).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("embedding").unwrap();
    let expected: Vec<u8> = weights(7, 6).iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!((tensor.shape(), tensor.data()), (&[2, 3][..], &expected[..]));
    assert_eq!(bytes.len() % 8, 0, "values lie aligned");
}

#[test]
fn the_same_snapshot_gives_the_same_bytes() {
    let ((_a, first), (_b, second)) = (model(&[5]), model(&[5]));
    let read = |path: &Path| fs::read(path.join("step-000000000005/manifest.sha256")).unwrap();
    assert_eq!(read(&first), read(&second));
}

#[test]
fn sha256sum_checks_the_manifest_and_modes_are_ordinary() {
    let (_temp, path) = model(&[1]);
    let dir = path.join("step-000000000001");
    match Command::new("sha256sum").args(["-c", "--strict", "manifest.sha256"]).current_dir(&dir).output() {
        Ok(out) => assert!(out.status.success(), "{out:?}"),
        Err(e) => println!("skipped: sha256sum cannot be run here: {e}"),
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let plain = _temp.path().join("plain");
        fs::write(&plain, "").unwrap();
        for name in entries(&dir) {
            assert_eq!(mode(&dir.join(&name)), mode(&plain), "{name}");
        }
    }
}

#[test]
fn the_previous_and_the_best_are_kept() {
    let (_temp, path) = model(&[]);
    let writer = Writer::create(&path, false).unwrap();
    for (step, best) in [(10, 10), (20, 20), (30, 20), (40, 20), (50, 20)] {
        save(&writer, step, Some(best)).unwrap();
    }
    assert_eq!(writer.dir().steps().unwrap(), [20, 40, 50]);
    let mut best = writer.dir().load_best(Purpose::Resume).unwrap();
    assert_eq!(best.step(), 20);
    check_contents(&mut best, 2);
    assert_eq!(newest(&path).unwrap().step(), 50);
    // A better one: the old best goes with the next save that does not name it.
    save(&writer, 60, Some(60)).unwrap();
    assert_eq!(writer.dir().steps().unwrap(), [50, 60]);
    assert_eq!(entries(&path), ["lock", "step-000000000050", "step-000000000060"]);
}

#[test]
fn a_step_can_be_saved_again() {
    let (_temp, path) = model(&[1, 2]);
    let (writer, _) = Writer::resume(&path).unwrap();
    save(&writer, 2, Some(2)).unwrap();
    assert_eq!(entries(&path), ["lock", "step-000000000001", "step-000000000002"]);
    assert_eq!(newest(&path).unwrap().best(), Some(2));
}

#[test]
fn a_damaged_best_gives_the_newest_with_a_warning() {
    let (_temp, path) = model(&[]);
    let writer = Writer::create(&path, false).unwrap();
    for step in [1, 2, 3] {
        save(&writer, step, Some(1)).unwrap();
    }
    fs::remove_file(path.join("step-000000000001/vocab.txt")).unwrap();
    let checkpoint = writer.dir().load_best(Purpose::Use).unwrap();
    assert_eq!(checkpoint.step(), 3);
    assert!(checkpoint.warnings[0].contains("step-000000000001/vocab.txt: is missing"), "{:?}", checkpoint.warnings);
}

/// The newest of two checkpoints is damaged by `damage`; the warning must name `named`, the older one be used, and
/// training go on from there.
fn falls_back(named: &str, damage: impl Fn(&Path)) {
    let (_temp, path) = model(&[1, 2]);
    damage(&path.join("step-000000000002"));
    let mut checkpoint = newest(&path).unwrap();
    assert_eq!(checkpoint.step(), 1, "{named}");
    check_contents(&mut checkpoint, 2);
    let [warning] = &checkpoint.warnings[..] else { panic!("{:?}", checkpoint.warnings) };
    assert!(warning.contains(named) && warning.contains("step 1 is used"), "{warning}");
    let (writer, checkpoint) = Writer::resume(&path).unwrap();
    assert_eq!(checkpoint.step(), 1);
    save(&writer, 2, None).unwrap();
    assert_eq!(writer.dir().load_newest(Purpose::Resume).unwrap().step(), 2);
    assert_eq!(entries(&path), ["damaged-step-000000000002", "lock", "step-000000000001", "step-000000000002"]);
}

#[test]
fn damage_is_named_and_passed_over() {
    falls_back("state.json: is missing", |dir| fs::remove_file(dir.join(STATE)).unwrap());
    falls_back("manifest.sha256: is missing", |dir| fs::remove_file(dir.join("manifest.sha256")).unwrap());
    falls_back("notes.txt: is unexpected", |dir| fs::write(dir.join("notes.txt"), "x").unwrap());
    falls_back("vocab.txt: is damaged or truncated", |dir| fs::write(dir.join("vocab.txt"), "the\nif\n").unwrap());
    falls_back("vocab.txt: is not a file", |dir| {
        fs::remove_file(dir.join("vocab.txt")).unwrap();
        fs::create_dir(dir.join("vocab.txt")).unwrap();
    });
    falls_back("model.safetensors: is truncated: found", |dir| {
        let bytes = fs::read(dir.join(MODEL)).unwrap();
        fs::write(dir.join(MODEL), &bytes[..bytes.len() - 3]).unwrap();
    });
    falls_back("found the checkpoint of step 1, expected step 2", |dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir(dir).unwrap();
        let older = dir.with_file_name("step-000000000001");
        for name in entries(&older) {
            fs::copy(older.join(&name), dir.join(&name)).unwrap();
        }
    });
}

#[test]
fn nothing_whole_is_an_error_that_names_the_newest() {
    let (_temp, path) = model(&[1, 2]);
    for step in ["step-000000000001", "step-000000000002"] {
        fs::write(path.join(step).join("config.json"), "").unwrap();
    }
    let text = message(newest(&path));
    assert!(text.contains("step-000000000002/config.json: is damaged or truncated"), "{text}");
    assert_eq!(newest(&path).unwrap_err().exit_code(), 4);
    assert!(Writer::resume(&path).is_err());
}

/// Each single bit flipped and each length cut to, of each file of a small checkpoint.
#[test]
fn every_bit_flip_and_every_truncation_is_detected() {
    let (_temp, path) = model(&[3]);
    let dir = path.join("step-000000000003");
    let (mut flips, mut cuts) = (0, 0);
    for name in entries(&dir) {
        let file = dir.join(&name);
        let good = fs::read(&file).unwrap();
        let detected = |bytes: &[u8], what: &dyn Fn() -> String| {
            fs::write(&file, bytes).unwrap();
            let error = Checkpoint::open(&dir, Purpose::Resume);
            assert!(error.is_err(), "{name}: {} is not detected", what());
            message(error);
        };
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            detected(&bytes, &|| format!("flip of bit {bit}"));
            flips += 1;
        }
        for len in 0..good.len() {
            detected(&good[..len], &|| format!("truncation to {len} bytes"));
            cuts += 1;
        }
        let mut longer = good.clone();
        longer.push(b'\n');
        detected(&longer, &|| "a byte too many".to_owned());
        fs::write(&file, good).unwrap();
        check_contents(&mut Checkpoint::open(&dir, Purpose::Resume).unwrap(), 2);
    }
    println!("{flips} bit flips and {cuts} truncations, all detected");
    assert!(flips > 5000 && cuts > 500);
}

#[test]
fn a_model_can_be_used_without_its_training_state() {
    let (_temp, path) = model(&[1]);
    let dir = path.join("step-000000000001");
    fs::remove_file(dir.join(OPTIMIZER)).unwrap();
    fs::write(dir.join(STATE), "changed").unwrap();
    let checkpoint = ModelDir::open(&path).unwrap().load_newest(Purpose::Use).unwrap();
    assert!(checkpoint.has(MODEL) && !checkpoint.has(STATE));
    assert!(newest(&path).is_err());
}

#[test]
fn tensors_must_be_those_of_the_model() {
    let (_temp, path) = model(&[1]);
    let mut checkpoint = newest(&path).unwrap();
    let (mut w, mut wide, mut scale) = ([0f32; 6], [0f64; 6], [0f64; 1]);
    let scale = TensorMut { name: "scale", shape: &[1], data: (&mut scale[..]).into() };
    let embedding = TensorMut { name: "embedding", shape: &[3, 2], data: (&mut w[..]).into() };
    let mut targets = [scale, embedding];
    let text = message(checkpoint.read_tensors(MODEL, &mut targets));
    assert!(text.ends_with("tensor embedding: found F32 [2, 3], expected F32 [3, 2]"), "{text}");
    (targets[1].name, targets[1].shape) = ("output", &[2, 3]);
    let text = message(checkpoint.read_tensors(MODEL, &mut targets));
    assert!(text.ends_with("the tensor output is missing"), "{text}");
    targets[1] = TensorMut { name: "embedding", shape: &[2, 3], data: (&mut wide[..]).into() };
    let text = message(checkpoint.read_tensors(MODEL, &mut targets));
    assert!(text.ends_with("tensor embedding: found F32 [2, 3], expected F64 [2, 3]"), "{text}");
    let text = message(checkpoint.read_tensors(MODEL, &mut targets[..1]));
    assert!(text.contains("contains the tensor embedding, which this model does not have"), "{text}");
    assert_eq!((w, wide), ([0.0; 6], [0.0; 6]), "nothing was read");
}

/// Files whose manifest is right but whose header lies are refused without allocating what they claim.
#[test]
fn headers_are_not_believed() {
    let (_temp, path) = model(&[1]);
    let dir = path.join("step-000000000001");
    let honest = fs::read(dir.join(MODEL)).unwrap();
    let header_len = u64::from_le_bytes(honest[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&honest[8..8 + header_len]).unwrap().to_owned();
    let with_header = |json: &str| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.extend(&honest[8 + header_len..]);
        bytes
    };
    let huge = r#"{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#;
    let overflow = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}"#;
    let cases: [(Vec<u8>, &str); 8] = [
        (b"\xff\xff\xff\xff\xff\x00\x00\x00ab".to_vec(), "header length of 1099511627775"),
        (b"\xff\xff\x00\x00\x00\x00\x00\x00ab".to_vec(), "is truncated: found 10 bytes, expected 65543"),
        (b"abc".to_vec(), "is truncated: found 3 bytes, expected 8"),
        (with_header(huge), "is truncated"),
        (with_header(overflow), "invalid header"),
        (with_header(&"[".repeat(10_000)), "invalid header"),
        (with_header(&header.replace("\"step\":\"1\"", "\"stop\":\"1\"")), "does not contain its step"),
        (
            with_header(&header.replace("\"wordmill\":\"1\"", "\"wordmill\":\"2\"")),
            "found layout version 2, expected 1",
        ),
    ];
    for (bytes, expected) in cases {
        fs::write(dir.join(MODEL), &bytes).unwrap();
        let files = ["config.json", MODEL, OPTIMIZER, STATE, "vocab.txt"];
        let Ok(sums) = Command::new("sha256sum").args(files).current_dir(&dir).output() else {
            println!("skipped: sha256sum cannot be run here");
            return;
        };
        fs::write(dir.join("manifest.sha256"), sums.stdout).unwrap();
        let text = message(newest(&path));
        assert!(text.contains(expected), "{text}; expected {expected}");
    }
}

#[test]
fn directories_that_are_not_ours_are_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("letters");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("dear.txt"), "x").unwrap();
    for force in [false, true] {
        assert!(message(Writer::create(&path, force)).contains("contains dear.txt, which is not a file of wordmill"));
    }
    assert_eq!(entries(&path), ["dear.txt"]);
    assert!(message(ModelDir::open(&path)).contains("is not a model directory"));
    assert!(message(Writer::resume(&path)).contains("is not a model directory"));
    assert_eq!(entries(&path), ["dear.txt"]);
    let file = path.join("dear.txt");
    assert!(message(Writer::create(&file, true)).contains("found a file"));
    assert!(message(ModelDir::open(&file)).contains("found a file"));
    assert!(message(ModelDir::open(temp.path().join("none"))).contains("no such model directory"));
    assert!(message(Writer::resume(temp.path().join("none"))).contains("no such model directory"));
    assert_eq!(entries(temp.path()), ["letters"]);
}

#[test]
fn another_model_is_replaced_only_by_force() {
    let (_temp, path) = model(&[1, 2]);
    fs::write(path.join("metrics.jsonl"), "x").unwrap();
    let before = tree(&path);
    let text = message(Writer::create(&path, false));
    assert!(
        text.contains("contains a model of 2 steps; continue it with --resume or replace it with --force"),
        "{text}"
    );
    assert_eq!(tree(&path), before);
    // What the user put beside the weights is not removed with them.
    fs::write(path.join("step-000000000001/notes.txt"), "mine").unwrap();
    // It stays until the first checkpoint of the new one is there.
    let writer = Writer::create(&path, true).unwrap();
    assert_eq!(entries(&path), ["lock", "step-000000000001", "step-000000000002"]);
    assert_eq!(ModelDir::open(&path).unwrap().load_newest(Purpose::Use).unwrap().step(), 2);
    save(&writer, 1, None).unwrap();
    assert_eq!(entries(&path), ["damaged-step-000000000001", "lock", "step-000000000001"]);
    assert_eq!(fs::read(path.join("damaged-step-000000000001/notes.txt")).unwrap(), b"mine");
}

#[test]
fn a_reader_keeps_its_checkpoint_while_training_removes_it() {
    let (_temp, path) = model(&[1]);
    let mut checkpoint = newest(&path).unwrap();
    let (writer, _) = Writer::resume(&path).unwrap();
    for step in [2, 3, 4] {
        save(&writer, step, None).unwrap();
    }
    assert!(!path.join("step-000000000001").exists());
    check_contents(&mut checkpoint, 2);
}

#[test]
fn what_a_killed_run_left_is_swept_and_undone() {
    let (_temp, path) = model(&[1, 2]);
    // Killed while writing step 3, while removing, and between the two renames that replace step 2.
    fs::create_dir(path.join(".partial-step-000000000003")).unwrap();
    fs::write(path.join(".partial-step-000000000003/config.json"), "{").unwrap();
    fs::write(path.join(".partial-metrics.jsonl"), "{").unwrap();
    fs::rename(path.join("step-000000000002"), path.join(".replaced-step-000000000002")).unwrap();
    // A reader takes no part in this.
    assert_eq!(newest(&path).unwrap().step(), 1);
    let (_writer, checkpoint) = Writer::resume(&path).unwrap();
    assert_eq!(checkpoint.step(), 2);
    assert_eq!(entries(&path), ["lock", "step-000000000001", "step-000000000002"]);
}

#[test]
fn space_is_checked_before_writing() {
    let (_temp, path) = model(&[1]);
    let (writer, _) = Writer::resume(&path).unwrap();
    writer.check_space(1000).unwrap();
    let error = writer.check_space(u64::MAX / 2).unwrap_err();
    assert_eq!(error.exit_code(), 6);
    let text = error.to_string();
    assert!(text.contains("saving the checkpoint failed: found") && text.contains("MB free on the disk"), "{text}");
}

/// Makes the n-th operation on the disk fail, for every n, in a save, in a save of the same step again, and in one
/// that removes an old checkpoint.
#[test]
fn every_failing_operation_leaves_what_was_there() {
    for (kind, name) in [(io::ErrorKind::StorageFull, "ENOSPC"), (io::ErrorKind::Other, "EIO")] {
        for step in [2, 3] {
            let mut failures = 0;
            for n in 0.. {
                let (_temp, path) = model(&[1, 2]);
                let (writer, _) = Writer::resume(&path).unwrap();
                let count = Arc::new(AtomicU64::new(0));
                let counter = Arc::clone(&count);
                let writer = writer.on(Disk::failing(move |_, _| {
                    let fails = counter.fetch_add(1, Ordering::Relaxed) == n;
                    if fails { Err(io::Error::new(kind, "injected")) } else { Ok(()) }
                }));
                let result = save(&writer, step, None);
                if count.load(Ordering::Relaxed) <= n {
                    result.unwrap();
                    break;
                }
                failures += 1;
                let text = message(result);
                assert!(text.ends_with("failed: injected"), "{text}");
                // Whatever the directory holds is whole, nothing partial is left by a failed write, and both this
                // run and a new one can go on.
                let mut checkpoint = newest(&path).unwrap();
                assert!(checkpoint.warnings.is_empty() && checkpoint.step() >= 2, "{name} at {n}: {text}");
                check_contents(&mut checkpoint, 2);
                if text.contains("saving") && !path.join("step-000000000003").exists() {
                    assert_eq!(
                        entries(&path).iter().filter(|e| e.starts_with(".partial")).count(),
                        0,
                        "{name} at {n}: {text}"
                    );
                }
                let writer = writer.on(Disk::default());
                save(&writer, step, None).unwrap();
                save(&writer, 4, None).unwrap();
                drop(writer);
                let (_writer, mut checkpoint) = Writer::resume(&path).unwrap();
                check_contents(&mut checkpoint, 2);
                assert_eq!(checkpoint.step(), 4);
                assert!(entries(&path).iter().all(|e| !e.starts_with('.')), "{:?}", entries(&path));
            }
            println!("{name}: {failures} operations failed in turn while saving step {step}");
            assert!(failures > 25, "{failures}");
        }
    }
}

/// What a power cut would show, and no kill can: all is on the disk before it is renamed, the manifest last, and
/// the old checkpoint goes only when the new one's name is on the disk too.
#[test]
fn everything_is_on_the_disk_before_it_counts() {
    let (_temp, path) = model(&[1, 2]);
    let (writer, _) = Writer::resume(&path).unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let entry = Arc::clone(&log);
    let writer = writer.on(Disk::failing(move |op, path| {
        entry.lock().unwrap().push((op, path.to_owned()));
        Ok(())
    }));
    save(&writer, 3, None).unwrap();
    let log = log.lock().unwrap().clone();
    let partial = path.join(".partial-step-000000000003");
    let last = |op: Op, path: &Path| {
        let at = log.iter().rposition(|(o, p)| *o == op && p == path);
        at.unwrap_or_else(|| panic!("no {op:?} of {}", path.display()))
    };
    let renamed = last(Op::Rename, &partial);
    let dir_synced = last(Op::Sync, &partial);
    let manifest_created = last(Op::Create, &partial.join("manifest.sha256"));
    let names = entries(&path.join("step-000000000003"));
    assert_eq!(names.len(), 6);
    for name in &names {
        let file = partial.join(name);
        let (written, synced) = (last(Op::Write, &file), last(Op::Sync, &file));
        assert!(written < synced && synced < dir_synced, "{name}");
        assert!(name == "manifest.sha256" || synced < manifest_created, "{name}");
    }
    let removed = last(Op::Rename, &path.join("step-000000000001"));
    let root_synced = last(Op::Sync, &path);
    assert!(dir_synced < renamed && renamed < root_synced && root_synced < removed, "{log:?}");
}

#[test]
fn short_writes_are_completed() {
    let (_temp, path) = model(&[1]);
    let (writer, _) = Writer::resume(&path).unwrap();
    let writer = writer.on(Disk::failing(|op, _| match op {
        Op::Write => Err(io::ErrorKind::Interrupted.into()),
        _ => Ok(()),
    }));
    save(&writer, 2, None).unwrap();
    let mut checkpoint = newest(&path).unwrap();
    assert_eq!(checkpoint.step(), 2);
    check_contents(&mut checkpoint, 2);
}

/// Not a test of its own: what the tests below run in another process, told by the environment.
#[test]
#[ignore = "a helper that other tests start"]
fn helper() {
    let Ok(dir) = std::env::var("WORDMILL_TEST_DIR") else {
        return;
    };
    let out = |line: String| {
        println!("{line}");
        io::stdout().flush().unwrap();
    };
    match std::env::var("WORDMILL_TEST_ROLE").unwrap().as_str() {
        // Saves one checkpoint after the other, and says which are done.
        "save" => {
            let (writer, mut step) = match Writer::resume(&dir) {
                Ok((writer, mut checkpoint)) => {
                    assert_eq!(checkpoint.warnings, [""; 0]);
                    check_contents(&mut checkpoint, ROWS);
                    (writer, checkpoint.step())
                }
                Err(_) => (Writer::create(&dir, false).unwrap(), 0),
            };
            assert!(entries(Path::new(&dir)).iter().all(|name| !name.starts_with('.')));
            loop {
                step += 1;
                // Each step twice: the second replaces the first.
                for _ in 0..2 {
                    save_sized(&writer, step, Some(step / 5 * 5), ROWS).unwrap();
                    out(format!("saved {step}"));
                }
            }
        }
        // Holds the lock until it is killed.
        "hold" => {
            let _writer = Writer::create(&dir, false).unwrap();
            out("saved 0".to_owned());
            std::thread::sleep(Duration::from_secs(60));
        }
        // Saves under a limit on the size of files.
        "limit" => {
            Signals::install().unwrap();
            let (writer, _) = Writer::resume(&dir).unwrap();
            out(format!("saved {}", message(save_sized(&writer, 9, None, 40_000))));
        }
        // Runs until asked to stop, then takes its time.
        "signal" => {
            let signals = Signals::install().unwrap();
            let _held = signals.hold();
            out("saved 0".to_owned());
            while signals.raised().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            out(format!("saved {}", signals.raised().unwrap()));
            std::thread::sleep(Duration::from_secs(60));
        }
        role => panic!("no role {role}"),
    }
}

/// Rows of the tensors that are saved while kills rain.
const ROWS: usize = 20_000;

/// Starts [`helper`] in another process, through `shell` if that is not empty.
fn start(role: &str, dir: &Path, shell: &str) -> Child {
    let test = std::env::current_exe().unwrap();
    let args = ["helper", "--exact", "--ignored", "--nocapture"];
    let mut command = if shell.is_empty() {
        let mut command = Command::new(test);
        command.args(args);
        command
    } else {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{shell}; exec \"$0\" \"$@\"")).arg(test).args(args);
        command
    };
    command.env("WORDMILL_TEST_DIR", dir).env("WORDMILL_TEST_ROLE", role);
    command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

/// What follows "saved " in the next line of the helper that has it.
fn next(lines: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if let Some((_, what)) = line.split_once("saved ") {
            return Some(what.trim_end().to_owned());
        }
        line.clear();
    }
    None
}

/// `WORDMILL_TEST_KILLS` sets how many; 30 take about two seconds.
#[test]
fn kills_lose_nothing() {
    let kills: u64 = std::env::var("WORDMILL_TEST_KILLS").map_or(30, |n| n.parse().unwrap());
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("model");
    let (mut orphans, mut interrupted) = (0, 0);
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for _ in 0..kills {
        let mut child = start("save", &path, "");
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut saved: u64 = next(&mut lines).expect("the helper saves").parse().unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_micros(random % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(step) = next(&mut lines) {
            saved = step.parse().unwrap();
        }
        orphans += u64::from(entries(&path).iter().any(|name| name.starts_with('.')));
        // As the next run sees it: nothing is damaged, and nothing that was reported as saved is lost.
        let (writer, mut checkpoint) = Writer::resume(&path).unwrap();
        assert_eq!(checkpoint.warnings, [""; 0]);
        check_contents(&mut checkpoint, ROWS);
        assert!(checkpoint.step() >= saved, "{} was saved, {} is there", saved, checkpoint.step());
        interrupted += u64::from(checkpoint.step() > saved);
        let names = entries(&path);
        assert!(names.iter().all(|name| name == "lock" || name.starts_with("step-")), "{names:?}");
        drop(writer);
    }
    println!("{kills} kills: {orphans} left a partial directory, {interrupted} came between rename and report");
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let (_temp, path) = model(&[]);
    let mut child = start("hold", &path, "");
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    next(&mut lines).expect("the helper holds the lock");
    for attempt in [Writer::create(&path, false), Writer::create(&path, true), Writer::resume(&path).map(|(w, _)| w)] {
        let text = message(attempt);
        assert!(text.contains(&format!("is being written by process {};", child.id())), "{text}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock has gone with the process.
    let writer = Writer::create(&path, false).unwrap();
    let own = message(Writer::create(&path, false));
    assert!(own.contains(&format!("process {}", std::process::id())), "{own}");
    drop(writer);
    Writer::create(&path, false).unwrap();
}

#[test]
fn a_full_disk_is_one_line_and_costs_nothing() {
    let (_temp, path) = model(&[1, 2]);
    let before = tree(&path);
    // 100 blocks of 512 or 1024 bytes; the checkpoint needs 480 kB.
    let mut child = start("limit", &path, "ulimit -f 100");
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let text = next(&mut lines).expect("the helper reports");
    assert!(child.wait().unwrap().success());
    assert!(text.contains("model.safetensors: saving the checkpoint failed: File too large"), "{text}");
    assert_eq!(tree(&path), before);
}

#[test]
fn the_first_signal_asks_and_the_second_ends() {
    let temp = tempfile::tempdir().unwrap();
    for (signal, number) in [("INT", 2), ("TERM", 15)] {
        let mut child = start("signal", temp.path(), "");
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        next(&mut lines).expect("the helper is ready");
        let send = || Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(send().success());
        assert_eq!(next(&mut lines), Some(number.to_string()));
        assert!(send().success());
        assert_eq!(child.wait().unwrap().code(), Some(128 + number));
    }
}

#[test]
fn metrics_have_each_step_once_across_resumes() {
    use wordmill::train::metrics::{Report, read};
    let report = |step: u64| Report {
        epoch: step as f64 / 10.0,
        step,
        tokens: step * 640,
        seconds: step as f64,
        words_per_second: 640.0,
        train_loss: 9.0 / step as f64,
        valid_f1: None,
        valid: None,
        valid_perplexity: step.is_multiple_of(2).then_some(500.0 / step as f64),
        learning_rate: 0.001,
        grad_norm: 1.5,
        grad_norms: Default::default(),
    };
    let steps = |reports: &[Report]| reports.iter().map(|r| r.step).collect::<Vec<u64>>();
    let (_temp, path) = model(&[]);
    let file = path.join("metrics.jsonl");
    let mut metrics = Metrics::create(&path).unwrap();
    for step in 1..=6 {
        metrics.append(report(step)).unwrap();
    }
    drop(metrics);
    let whole = fs::read(&file).unwrap();
    // Cut anywhere, as a killed run may leave it.
    let drops = Cell::new(0);
    for len in 0..=whole.len() {
        fs::write(&file, &whole[..len]).unwrap();
        let mut metrics = Metrics::resume(&path, 4).unwrap();
        let kept = steps(metrics.reports());
        assert_eq!(kept, (1..=kept.len() as u64).collect::<Vec<_>>());
        assert!(kept.len() <= 4);
        drops.set(drops.get() + usize::from(kept.len() < 4));
        metrics.append(report(kept.len() as u64 + 1)).unwrap();
        let all: Vec<Report> = (1..=kept.len() as u64 + 1).map(report).collect();
        assert_eq!(read(&file).unwrap(), all);
        assert_eq!(entries(&path), ["lock", "metrics.jsonl"]);
    }
    assert!(drops.get() > 0);
    // A line that is wrong and not torn is left out with a warning that has its number, be it text or not.
    let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for damage in [&b"{\"epoch\": 1}\n"[..], b"\xff\xfe\n"] {
        fs::write(&file, [&whole[..first], damage, &whole[first..]].concat()).unwrap();
        assert!(message(read(&file)).contains("metrics.jsonl:2: found "));
        let metrics = Metrics::resume(&path, 9).unwrap();
        assert_eq!(steps(metrics.reports()), [1, 2, 3, 4, 5, 6]);
        let [warning] = &metrics.warnings[..] else { panic!("{:?}", metrics.warnings) };
        assert!(warning.contains("metrics.jsonl:2: found ") && warning.ends_with("is skipped"), "{warning}");
        assert_eq!(fs::read(&file).unwrap(), whole);
    }
    // No metrics at all: begin anew.
    fs::remove_file(&file).unwrap();
    assert!(Metrics::resume(&path, 9).unwrap().reports().is_empty());
    Metrics::create(&path).unwrap().draw("words", true).unwrap();
    assert!(fs::read_to_string(path.join("curves.svg")).unwrap().contains("no data"));
}

/// A case on texts that differ from step to step.
struct Texts {
    case: Case,
    model: LanguageModel,
    space: Space<f32>,
}

impl Task for Texts {
    type Touched = Loaded;

    fn layout(&self) -> &Arc<Layout> {
        self.model.layout()
    }

    fn rows(&self) -> usize {
        self.case.steps * self.case.lanes + self.model.samples(self.case.lanes)
    }

    fn steps_per_epoch(&self) -> u64 {
        4
    }

    fn targets_before(&self, steps: u64) -> u64 {
        steps * (self.case.steps * self.case.lanes) as u64
    }

    fn touch(&mut self, g: &mut Gradients<f32>, step: u64) -> Loaded {
        let (inputs, targets) = (self.case.ids(step as usize), self.case.ids(step as usize + 1));
        let window = Window { inputs: &inputs, targets: &targets, loss_from: 0 };
        self.model.touch(g, &mut self.space, window, self.case.noise(step))
    }

    fn step(&mut self, g: &mut Gradients<f32>, _step: u64, loaded: Loaded, w: &Arena<f32>) -> Outcome {
        let loss = self.model.step(g, &mut self.space, loaded, w);
        self.model.carry(&mut self.space, self.case.steps);
        Outcome { loss, targets: self.targets_before(1) }
    }

    fn loss_after(&mut self, g: &mut Gradients<f32>, step: u64, w: &Arena<f32>) -> f64 {
        let before: Vec<Vec<f32>> = self.space.states().map(<[f32]>::to_vec).collect();
        let loaded = self.touch(g, step);
        let loss = self.step(g, step, loaded, w).loss;
        self.space.states_mut().zip(&before).for_each(|(state, before)| state.copy_from_slice(before));
        loss
    }

    fn validate(&mut self, _w: &Arena<f32>) -> Option<Score> {
        None
    }

    fn measure(&self) -> Measure {
        Measure::Perplexity
    }

    fn classes(&self) -> Option<usize> {
        Some(self.case.config.words)
    }

    fn is_cross_entropy(&self) -> bool {
        self.model.recipe().is_none()
    }

    fn files(&self) -> &[SmallFile] {
        &[]
    }

    fn carried(&mut self) -> Vec<&mut [f32]> {
        self.space.states_mut().collect()
    }
}

/// Trains a case in `dir` until `last`, from its newest checkpoint on if it has one.
fn train(case: &Case, rule: Rule, dir: &Path, last: u64) {
    let model = case.model();
    let mut task = Texts { space: case.space(&model), case: case.clone(), model };
    let mut w = Arena::zeros(task.layout());
    Init::Xavier.fill(&mut w, 3);
    let mut optimizer = Optimizer::new(rule, 0.3, 1e-4, task.layout());
    let mut state = State::new(Schedule::new(ScheduleKind::Constant, 0.05, 9), EarlyStopping::new(None));
    let (writer, metrics) = if dir.exists() {
        let (writer, mut checkpoint) = Writer::resume(dir).unwrap();
        read_weights(&mut checkpoint, &mut w).unwrap();
        read_optimizer(&mut checkpoint, &mut optimizer, task.carried()).unwrap();
        state = serde_json::from_slice(&checkpoint.read(STATE).unwrap()).unwrap();
        state.finished = false;
        (writer, Metrics::resume(dir, state.step).unwrap())
    } else {
        (Writer::create(dir, false).unwrap(), Metrics::create(dir).unwrap())
    };
    let g = Gradients::zeros(task.layout(), task.rows());
    let plan = Plan { epochs: 5, max_steps: Some(last), save_every: Duration::from_secs(1000), resume: String::new() };
    let mut fit = Fit {
        task: &mut task,
        stepper: Stepper::new(w, g, optimizer, state.step),
        state,
        plan,
        saver: Saver::new(writer),
        metrics,
        progress: Progress::new(Style::Quiet),
        signals: Signals::install().unwrap(),
    };
    fit.run().unwrap();
}

/// Every cell, loss and optimizer: a run that is stopped after three steps and resumed ends in the same bytes.
#[test]
fn whatever_is_trained_resumes_as_if_it_had_not_stopped() {
    const WORDS: usize = 101;
    for ((cell, loss), rule) in together(&together(&cells(), &losses(WORDS)), &rules()) {
        let case = Case::large(cell, WORDS).loss(loss);
        let temp = tempfile::tempdir().unwrap();
        let [whole, parts] = ["whole", "parts"].map(|name| temp.path().join(name));
        train(&case, rule, &whole, 7);
        train(&case, rule, &parts, 3);
        train(&case, rule, &parts, 7);
        for file in [MODEL, OPTIMIZER] {
            let [whole, parts] = [&whole, &parts].map(|dir| fs::read(newest(dir).unwrap().path().join(file)).unwrap());
            assert!(whole == parts, "{case:?}, {rule:?}: {file}");
        }
    }
}
