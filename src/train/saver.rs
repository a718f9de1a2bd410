//! Saving during training: a separate thread hashes and writes what the training loop hands over between steps.
//!
//! A checkpoint is a snapshot of one moment. Tensors that every step writes entirely are copied at that moment. Tables, of which a step
//! writes few rows, are handed over block by block, in the order of the file; a row that a step is about to write before it has been
//! handed over is copied first, and the copy is saved in its place. The bytes are thus those of a checkpoint written while training
//! waits, and nothing is read by one thread while another writes it.
//!
//! Memory is bounded by the number of blocks in flight and by a limit on copied rows, beyond which training waits for
//! the disk. If the tensors to be copied exceed 16 MiB in total, nothing is copied and training waits for the whole
//! checkpoint.

use super::checkpoint::MODEL;
use super::tensor_file::{self, Spec};
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::params::TensorId;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Limits on the memory used for saving.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Numbers in a block.
    block: usize,
    /// Blocks in flight while training continues.
    blocks: usize,
    /// Maximum bytes of copied tensors, and the minimum of the limit on copied rows, which for a larger checkpoint is 1/32 of its size.
    copied: usize,
}

const LIMITS: Limits = Limits { block: 1 << 16, blocks: 64, copied: 16 << 20 };
/// Blocks in flight while training waits for all of them.
const WAITING: usize = 4;
/// Bytes of a copied row in addition to its numbers.
const ROW_OVERHEAD: usize = 16;

impl Limits {
    /// Maximum bytes of copied rows for a checkpoint of `bytes`.
    fn aside(&self, bytes: usize) -> usize {
        (bytes / 32).max(self.copied)
    }
}

/// A tensor of a checkpoint.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// The file it belongs to; the parts of a file are consecutive.
    pub file: &'static str,
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub data: &'a [f32],
    /// For a table of which a step changes only the rows listed as touched: the table and its number of rows.
    pub table: Option<(TensorId, usize)>,
}

/// Writes the checkpoints of a run.
#[derive(Debug)]
pub struct Saver {
    writer: Arc<Writer>,
    limits: Limits,
    pending: Option<Pending>,
}

/// A checkpoint in progress.
#[derive(Debug)]
struct Pending {
    /// Whether it is the best so far.
    best: bool,
    parts: VecDeque<Held>,
    /// Number of parts handed over.
    done: usize,
    /// Number of rows of the first of `parts` handed over.
    rows: usize,
    /// Bytes of copied rows, and their limit.
    aside: usize,
    limit: usize,
    /// Numbers in a block; the number of blocks, and its maximum.
    block: usize,
    blocks: usize,
    most: usize,
    full: Sender<Vec<f32>>,
    empty: Receiver<Vec<f32>>,
    thread: JoinHandle<Result<()>>,
}

/// A part that has not been handed over, or not completely.
#[derive(Debug)]
enum Held {
    /// Its copy.
    Copy(Vec<f32>),
    /// The original values of its rows, where a step has written them since.
    Table { table: TensorId, rows: usize, width: usize, aside: Aside },
    /// Its values, which do not change until everything is handed over.
    Still { len: usize },
}

/// Copies of rows.
#[derive(Debug, Default)]
struct Aside {
    places: HashMap<u32, u32>,
    free: Vec<u32>,
    values: Vec<f32>,
}

impl Aside {
    /// Copies a row, unless it has been copied; returns whether it was copied now.
    fn keep(&mut self, row: u32, values: &[f32]) -> bool {
        let Aside { places, free, values: all } = self;
        let hashbrown::hash_map::Entry::Vacant(entry) = places.entry(row) else { return false };
        match free.pop() {
            Some(place) => {
                all[place as usize * values.len()..][..values.len()].copy_from_slice(values);
                entry.insert(place);
            }
            None => {
                entry.insert((all.len() / values.len()) as u32);
                all.extend_from_slice(values);
            }
        }
        true
    }

    /// Moves the copies of `rows` into their `values`; returns how many there were.
    fn restore(&mut self, rows: std::ops::Range<usize>, width: usize, values: &mut [f32]) -> usize {
        let before = self.places.len();
        for (row, values) in rows.zip(values.chunks_exact_mut(width)) {
            if self.places.is_empty() {
                break;
            }
            if let Some(place) = self.places.remove(&(row as u32)) {
                values.copy_from_slice(&self.values[place as usize * width..][..width]);
                self.free.push(place);
            }
        }
        before - self.places.len()
    }
}

/// A file to be written by the thread: its name, the bytes before the values, and the name and length of each tensor.
struct Stream {
    file: &'static str,
    preamble: Vec<u8>,
    tensors: Vec<(String, usize)>,
}

impl Saver {
    /// Saves through `writer`.
    pub fn new(writer: Writer) -> Self {
        Saver { writer: Arc::new(writer), limits: LIMITS, pending: None }
    }

    /// Maximum bytes used for saving besides the tensors: `copied` bytes are in tensors that every step writes, `tables` in the others.
    pub fn bytes(copied: usize, tables: usize) -> usize {
        let Limits { block, blocks, copied: most } = LIMITS;
        if copied > most {
            return block * WAITING * 4;
        }
        copied + tables.min(block * blocks * 4) + tables.min(LIMITS.aside(copied + tables))
    }

    /// Whether a checkpoint is in progress.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Begins a checkpoint of this moment, as [`Writer::save`] would write it with the small files `files`; one in progress is finished
    /// first. `live` are the values of its parts, which have not changed except for rows passed to [`Saver::keep`].
    ///
    /// # Errors
    /// Errors of the previous checkpoint.
    ///
    /// # Panics
    /// As [`Writer::save`].
    pub fn begin(
        &mut self,
        step: u64,
        best: Option<u64>,
        files: &[(&str, &[u8])],
        parts: &[Item<'_>],
        live: &[&[f32]],
    ) -> Result<()> {
        self.finish(live)?;
        assert!(parts.iter().any(|part| part.file == MODEL), "a checkpoint needs {MODEL}");
        let bytes: usize = parts.iter().map(|part| size_of_val(part.data)).sum();
        let copied: usize = parts.iter().filter(|part| part.table.is_none()).map(|part| size_of_val(part.data)).sum();
        let waits = copied > self.limits.copied;
        let mut streams: Vec<Stream> = Vec::new();
        for parts in parts.chunk_by(|a, b| a.file == b.file) {
            let specs: Vec<Spec> = parts.iter().map(|part| Spec::f32(&part.name, &part.shape)).collect();
            let preamble = tensor_file::preamble(&Writer::notes(step, best), &specs);
            let tensors = parts.iter().map(|part| (part.name.clone(), part.data.len())).collect();
            streams.push(Stream { file: parts[0].file, preamble, tensors });
        }
        let held = |part: &Item<'_>| match part.table {
            Some((table, rows)) if !waits && !part.data.is_empty() => {
                Held::Table { table, rows, width: part.data.len() / rows, aside: Aside::default() }
            }
            _ if waits => Held::Still { len: part.data.len() },
            _ => Held::Copy(part.data.to_vec()),
        };
        let held = parts.iter().map(held).collect();
        let files: Vec<(String, Vec<u8>)> =
            files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let writer = Arc::clone(&self.writer);
        let ((full, blocks), (spare, empty)) = (channel(), channel());
        let write = move || write(&writer, step, best, &files, &streams, &blocks, &spare);
        let thread = std::thread::Builder::new().name("saver".into()).spawn(write);
        let thread = thread.map_err(|e| Error::io(self.writer.dir().path(), "starting a thread to save", e))?;
        self.pending = Some(Pending {
            best: best == Some(step),
            parts: held,
            done: 0,
            rows: 0,
            aside: 0,
            limit: self.limits.aside(bytes),
            block: self.limits.block,
            blocks: 0,
            most: if waits { WAITING } else { self.limits.blocks },
            full,
            empty,
            thread,
        });
        if waits { self.finish(live) } else { self.advance(live) }
    }

    /// Called before a step writes the rows `touched` of tables: copies those that the checkpoint in progress still needs. `live` are
    /// the values of its parts, in order. Anything else that writes rows must call [`Saver::finish`] first.
    pub fn keep<'g>(&mut self, live: &[&[f32]], touched: impl Iterator<Item = (TensorId, &'g [u32])>) {
        let Some(pending) = &mut self.pending else { return };
        for (touched, touched_rows) in touched {
            for (i, part) in pending.parts.iter_mut().enumerate() {
                let Held::Table { table, width, aside, .. } = part else { continue };
                if *table != touched {
                    continue;
                }
                let (from, values) = (if i == 0 { pending.rows } else { 0 }, live[pending.done + i]);
                for &row in touched_rows.iter().filter(|&&row| row as usize >= from) {
                    if aside.keep(row, &values[row as usize * *width..][..*width]) {
                        pending.aside += *width * 4 + ROW_OVERHEAD;
                    }
                }
            }
        }
    }

    /// Called between steps: hands over as many blocks as fit, and waits for the disk only if too many rows are copied.
    ///
    /// # Errors
    /// Errors of writing; earlier checkpoints are unaffected.
    pub fn advance(&mut self, live: &[&[f32]]) -> Result<()> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        while pending.hand_over(live, pending.aside > pending.limit) {}
        if pending.thread.is_finished() { self.join() } else { Ok(()) }
    }

    /// Waits until the checkpoint in progress is on the disk.
    ///
    /// # Errors
    /// As [`Saver::advance`].
    pub fn finish(&mut self, live: &[&[f32]]) -> Result<()> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        while pending.hand_over(live, true) {}
        self.join()
    }

    /// Abandons the checkpoint in progress in favour of a later one that begins at once, unless it is the best or has been handed over.
    pub fn give_way(&mut self) {
        if self.pending.as_ref().is_some_and(|pending| !pending.best) {
            // An error of the disk recurs with the next checkpoint, or is over.
            _ = self.join();
        }
    }

    fn join(&mut self) -> Result<()> {
        let Some(Pending { full, thread, .. }) = self.pending.take() else { return Ok(()) };
        drop(full);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Saver {
    /// Abandons a checkpoint that was not completely handed over, and removes what was written of it.
    fn drop(&mut self) {
        if let Some(Pending { full, thread, .. }) = self.pending.take() {
            drop(full);
            // A panic of the thread must not become a second one during another, which would end the process.
            _ = thread.join();
        }
    }
}

impl Pending {
    /// Hands over one block, if there is one and a buffer is free, for which it waits if `wait`; returns whether it did.
    fn hand_over(&mut self, live: &[&[f32]], wait: bool) -> bool {
        let Some(part) = self.parts.front_mut() else { return false };
        let spare = match self.empty.try_recv() {
            Ok(block) => Some(block),
            Err(_) if self.blocks < self.most => {
                self.blocks += 1;
                Some(Vec::new())
            }
            Err(_) if wait => self.empty.recv().ok(),
            Err(_) => None,
        };
        // Without a thread nothing can be handed over: it has ended with an error, which joining reports.
        let Some(mut block) = spare else { return false };
        block.clear();
        let values = live.get(self.done).copied().unwrap_or_default();
        let ended = match part {
            Held::Copy(copy) => {
                block = std::mem::take(copy);
                true
            }
            Held::Table { rows, width, aside, .. } => {
                let end = (self.rows + (self.block / *width).max(1)).min(*rows);
                block.extend_from_slice(&values[self.rows * *width..end * *width]);
                self.aside -= aside.restore(self.rows..end, *width, &mut block) * (*width * 4 + ROW_OVERHEAD);
                self.rows = end;
                end == *rows
            }
            Held::Still { len } => {
                let end = (self.rows + self.block).min(*len);
                block.extend_from_slice(&values[self.rows..end]);
                self.rows = end;
                end == *len
            }
        };
        if ended {
            self.parts.pop_front();
            (self.done, self.rows) = (self.done + 1, 0);
        }
        self.full.send(block).is_ok()
    }
}

/// The thread: writes the blocks as they arrive, and completes the checkpoint.
fn write(
    writer: &Writer,
    step: u64,
    best: Option<u64>,
    files: &[(String, Vec<u8>)],
    streams: &[Stream],
    blocks: &Receiver<Vec<f32>>,
    spare: &Sender<Vec<f32>>,
) -> Result<()> {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let bytes = |stream: &Stream| stream.preamble.len() + stream.tensors.iter().map(|(_, len)| len * 4).sum::<usize>();
    let tensors: Vec<(&str, u64)> = streams.iter().map(|stream| (stream.file, bytes(stream) as u64)).collect();
    writer.commit(step, best, &files, &tensors, |write| {
        let mut lines = String::new();
        for Stream { file, preamble, tensors } in streams {
            let mut broken = None;
            let line = write(file, &mut |out| {
                out.write_all(preamble)?;
                for (name, len) in tensors {
                    let mut rest = *len;
                    while rest > 0 {
                        let block = blocks.recv().map_err(|_| io::Error::other("the run has ended"))?;
                        // All at once, which is faster than one by one; only then which one is not.
                        let finite = block.iter().fold(true, |all, x| all & x.is_finite());
                        let found = if finite { None } else { block.iter().find(|x| !x.is_finite()) };
                        if let Some(&value) = found {
                            let tensor = if *file == MODEL { format!("weight {name}") } else { name.clone() };
                            broken = Some(Error::NotFinite { tensor, step, value: value.into() });
                            return Err(io::Error::other("it is not finite"));
                        }
                        tensor_file::write_f32(out, &block)?;
                        rest -= block.len();
                        // The loop may no longer need it.
                        _ = spare.send(block);
                    }
                }
                Ok(())
            });
            lines += &line.map_err(|e| broken.take().unwrap_or(e))?;
        }
        Ok(lines)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Arena, Layout, Role};
    use crate::sys::disk::{Disk, Op};
    use crate::train::checkpoint::{ModelDir, OPTIMIZER, Purpose, STATE};
    use crate::train::tensor_file::Tensor;
    use crate::train::writer::Snapshot;
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;

    impl Saver {
        fn with(mut self, limits: Limits) -> Self {
            self.limits = limits;
            self
        }
    }

    /// Weights with two tables between tensors that every step writes, and a state for each.
    struct Run {
        w: Arena<f32>,
        state: Arena<f32>,
        step: u64,
        random: u64,
    }

    impl Run {
        fn new() -> Self {
            let mut layout = Layout::default();
            layout.add("recurrent", 5, 7, Role::Recurrent);
            layout.add("words", 901, 3, Role::Table);
            layout.add("bias", 1, 11, Role::Bias);
            layout.add("biases", 403, 1, Role::BiasTable);
            let layout = Arc::new(layout);
            Run { w: Arena::zeros(&layout), state: Arena::zeros(&layout), step: 0, random: 0x2545_F491_4F6C_DD1D }
        }

        fn random(&mut self) -> u64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random
        }

        fn live(&self) -> Vec<&[f32]> {
            let all = |arena: &'static str| match arena {
                "w" => &self.w,
                _ => &self.state,
            };
            ["w", "state"]
                .into_iter()
                .flat_map(|x| all(x).layout().tensors().map(move |(p, _)| all(x).slice(p)))
                .collect()
        }

        fn parts(&self) -> Vec<Item<'_>> {
            let mut parts = Vec::new();
            for (file, state) in [(MODEL, ""), (OPTIMIZER, "sum/")] {
                for (p, tensor) in self.w.layout().tensors() {
                    let (name, shape) = (format!("{state}{}", tensor.name), vec![tensor.rows, tensor.columns]);
                    let data = self.live()[parts.len()];
                    parts.push(Item {
                        file,
                        name,
                        shape,
                        data,
                        table: tensor.role.by_rows().then_some((p, tensor.rows)),
                    });
                }
            }
            parts
        }

        /// A step that touches some rows of the tables, after `saver` has copied them.
        fn step(&mut self, saver: Option<&mut Saver>) {
            self.step += 1;
            let layout = self.w.layout().clone();
            let mut touched: Vec<(TensorId, Vec<u32>)> = Vec::new();
            for (p, tensor) in layout.tensors().filter(|(_, tensor)| tensor.role.by_rows()) {
                let mut rows: Vec<u32> = (0..40).map(|_| (self.random() % tensor.rows as u64) as u32).collect();
                rows.sort_unstable();
                rows.dedup();
                touched.push((p, rows));
            }
            if let Some(saver) = saver {
                saver.keep(&self.live(), touched.iter().map(|(p, rows)| (*p, rows.as_slice())));
            }
            let step = self.step as f32;
            for arena in [&mut self.w, &mut self.state] {
                for (p, tensor) in layout.tensors() {
                    let columns = tensor.columns;
                    let rows = touched.iter().find(|(q, _)| *q == p).map(|(_, rows)| rows.clone());
                    let rows = rows.unwrap_or_else(|| (0..tensor.rows as u32).collect());
                    let values = arena.slice_mut(p);
                    for row in rows {
                        values[row as usize * columns..][..columns].iter_mut().for_each(|x| *x += step);
                    }
                }
            }
        }
    }

    fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
        let file = |path: std::path::PathBuf| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                tree(&path).into_iter().map(|(n, b)| (format!("{name}/{n}"), b)).collect()
            } else {
                vec![(name, std::fs::read(&path).expect("a file"))]
            }
        };
        entries.flat_map(file).filter(|(name, _)| name != "lock").collect()
    }

    fn files(step: u64) -> [(&'static str, Vec<u8>); 2] {
        [("config.json", b"{}".to_vec()), (STATE, format!("{step}").into_bytes())]
    }

    fn begin(saver: &mut Saver, run: &Run) -> Result<()> {
        let files = files(run.step);
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        saver.begin(run.step, Some(1), &files, &run.parts(), &run.live())
    }

    /// A slow disk that fails at operation number `fails`.
    fn slow(fails: u64) -> (Disk, Arc<Mutex<u64>>) {
        let count = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&count);
        let disk = Disk::failing(move |op, _| {
            let mut count = counter.lock().expect("nobody panics");
            *count += 1;
            if op == Op::Write {
                std::thread::sleep(Duration::from_micros(300));
            }
            if *count == fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        (disk, count)
    }

    /// What is saved during training equals, to the byte, what is saved while training waits; and training is unaffected.
    #[test]
    fn the_bytes_are_those_of_the_moment() {
        let small = |blocks, copied| Limits { block: 100, blocks, copied };
        // With space for many copied rows, for hardly any, and for no copies.
        for limits in [small(2, 1 << 20), small(1, 600), small(2, 100), LIMITS] {
            let temp = tempfile::tempdir().expect("a directory");
            let writer = |name: &str| Writer::create(temp.path().join(name), false).expect("a new directory");
            let mut saver = Saver::new(writer("during").on(slow(u64::MAX).0)).with(limits);
            let waiting = writer("waiting");
            let (mut run, mut other) = (Run::new(), Run::new());
            let (mut busy, mut most) = (0, 0);
            for step in 1..=60 {
                run.step(Some(&mut saver));
                other.step(None);
                saver.advance(&run.live()).expect("the disk is good");
                busy += u64::from(saver.is_busy());
                most = most.max(saver.pending.as_ref().map_or(0, |pending| pending.aside));
                if step % 20 == 1 {
                    begin(&mut saver, &run).expect("the disk is good");
                    let files = files(step);
                    let files: Vec<(&str, &[u8])> =
                        files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
                    let parts = other.parts();
                    let all: Vec<Tensor> = parts
                        .iter()
                        .map(|part| Tensor { name: &part.name, shape: &part.shape, data: part.data.into() })
                        .collect();
                    let (model, optimizer) = all.split_at(4);
                    let tensors = [(MODEL, model), (OPTIMIZER, optimizer)];
                    waiting.save(&Snapshot { step, best: Some(1), files: &files, tensors: &tensors }).expect("saved");
                }
            }
            saver.finish(&run.live()).expect("the disk is good");
            assert!(run.live() == other.live(), "training is another");
            assert!(tree(&temp.path().join("during")) == tree(&temp.path().join("waiting")), "{limits:?}");
            assert!(limits.copied < 600 || limits.block > 100 || busy > 5, "{limits:?}: {busy}");
            // A step may exceed the limit by its own rows.
            assert!(most <= limits.copied + 2 * 80 * (12 + ROW_OVERHEAD), "{limits:?}: {most}");
        }
    }

    /// Every operation fails once: the error is reported by the next step, the next save or the end, and the checkpoints before and
    /// after it are intact.
    #[test]
    fn a_disk_that_fails_meanwhile() {
        let limits = Limits { block: 100, blocks: 2, copied: 1 << 20 };
        let mut failures = 0;
        // The first checkpoint is saved in `quiet` operations.
        let temp = tempfile::tempdir().expect("a directory");
        let (disk, count) = slow(u64::MAX);
        let mut saver = Saver::new(Writer::create(temp.path(), false).expect("new").on(disk)).with(limits);
        let mut run = Run::new();
        run.step(None);
        begin(&mut saver, &run).and_then(|()| saver.finish(&run.live())).expect("the disk is good");
        let quiet = *count.lock().expect("nobody panics");
        for fails in quiet + 1..=2 * quiet {
            let temp = tempfile::tempdir().expect("a directory");
            let writer = Writer::create(temp.path(), false).expect("new").on(slow(fails).0);
            let mut saver = Saver::new(writer).with(limits);
            let mut run = Run::new();
            run.step(None);
            begin(&mut saver, &run).and_then(|()| saver.finish(&run.live())).expect("the disk is good so far");
            run.step(None);
            let mut result = begin(&mut saver, &run);
            for _ in 0..3 {
                run.step(Some(&mut saver));
                result = result.and_then(|()| saver.advance(&run.live()));
            }
            let ended = saver.finish(&run.live());
            failures += 1;
            let error = result.and(ended).expect_err("the failure is reported").to_string();
            assert!(error.contains("no storage space"), "{error}");
            let newest = || ModelDir::open(temp.path()).expect("there").load_newest(Purpose::Resume).expect("whole");
            assert!(newest().warnings.is_empty() && newest().step() >= 1, "{fails}: {error}");
            begin(&mut saver, &run).and_then(|()| saver.finish(&run.live())).expect("the disk is good again");
            assert_eq!(newest().step(), run.step);
        }
        assert!(failures > 20, "{failures}");
    }

    /// Non-finite values are not saved, but reported by name, wherever they are.
    #[test]
    fn nothing_is_saved_that_is_not_finite() {
        let temp = tempfile::tempdir().expect("a directory");
        let mut saver = Saver::new(Writer::create(temp.path(), false).expect("new"));
        let mut run = Run::new();
        run.step(None);
        begin(&mut saver, &run).and_then(|()| saver.finish(&run.live())).expect("all is finite");
        run.step(None);
        let (words, _) = run.w.layout().tensors().nth(1).expect("the second tensor");
        for (value, state, name) in [(f32::NAN, false, "weight words"), (f32::INFINITY, true, "sum/words")] {
            let arena = if state { &mut run.state } else { &mut run.w };
            let before = std::mem::replace(&mut arena.slice_mut(words)[2000], value);
            let saved = begin(&mut saver, &run).and_then(|()| saver.finish(&run.live()));
            let arena = if state { &mut run.state } else { &mut run.w };
            arena.slice_mut(words)[2000] = before;
            let Err(Error::NotFinite { tensor, step: 2, .. }) = saved else { panic!("{saved:?}") };
            assert_eq!(tensor, name);
            assert_eq!(saver.writer.dir().steps().expect("there"), [1]);
        }
    }

    /// A signal does not wait for the checkpoint of an earlier step, but the best one is kept.
    #[test]
    fn only_the_best_does_not_give_way() {
        let temp = tempfile::tempdir().expect("a directory");
        let limits = Limits { block: 100, blocks: 1, copied: 1 << 20 };
        let writer = Writer::create(temp.path(), false).expect("new").on(slow(u64::MAX).0);
        let mut saver = Saver::new(writer).with(limits);
        let mut run = Run::new();
        for _ in 1..=3 {
            run.step(Some(&mut saver));
            saver.give_way();
            begin(&mut saver, &run).expect("the disk is good");
        }
        saver.finish(&run.live()).expect("the disk is good");
        assert_eq!(saver.writer.dir().steps().expect("there"), [1, 3]);
    }

    /// A run that ends by a panic leaves no partial checkpoint.
    #[test]
    fn what_is_dropped_is_removed() {
        let temp = tempfile::tempdir().expect("a directory");
        let limits = Limits { block: 100, blocks: 1, copied: 1 << 20 };
        let writer = Writer::create(temp.path(), false).expect("new").on(slow(u64::MAX).0);
        let mut saver = Saver::new(writer).with(limits);
        let mut run = Run::new();
        run.step(None);
        begin(&mut saver, &run).expect("the disk is good");
        drop(saver);
        assert!(tree(temp.path()).is_empty(), "{:?}", tree(temp.path()).keys());
    }
}
