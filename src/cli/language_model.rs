//! Language models on text: where models and corpora meet.

use super::inputs::say;
use super::saved::{self, CONFIG, Saved, VOCABULARY, read_arena};
use crate::blas::Precision;
use crate::error::{Error, Result};
use crate::kernels::dropout::Keep;
use crate::layers::output::{Draws, Objective, Tail};
use crate::models::LanguageModel;
use crate::models::language_model::{Config, Loaded, Loss, Noise, Space, Window};
use crate::params::{Arena, Gradients, Layout};
use crate::profile::{Part, span};
use crate::rng::{Purpose, Stream};
use crate::sys::signals::Signals;
use crate::text::{Lanes, Lines, Vocabulary, Windows};
use crate::train::checkpoint::Checkpoint;
use crate::train::fit::{Outcome, SmallFile, Task};
use crate::train::schedule::{Measure, Score};
use rand::RngExt;
use std::path::Path;
use std::sync::Arc;

/// The option of a run whose texts are read without marks around their lines.
pub const STRIP_MARKS: &str = "strip-marks";

/// A trained language model.
pub struct Trained {
    /// The model.
    pub model: LanguageModel,
    /// Its weights.
    pub w: Arena<f32>,
    /// Its words.
    pub vocabulary: Vocabulary,
}

impl Trained {
    /// Loads the best checkpoint of a model directory; warnings go to standard error.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::read(&mut saved::open(dir)?)
    }

    /// The ln Z that the model, which is in `dir`, was trained to be normalised with; said on standard error.
    pub fn self_normalised(&self, dir: &Path) -> Result<f64> {
        let Some(ln_z) = self.model.ln_z() else {
            let what =
                format!("--self-normalised is for models that --loss nce has trained; {} is not one", dir.display());
            return Err(Error::Usage(what));
        };
        say(&format!("scores are not summed over the words: their ln Z is taken for {ln_z}, as in training"));
        Ok(ln_z)
    }

    /// Reads a checkpoint. Nothing is allocated before the file is known to hold it.
    pub fn read(checkpoint: &mut Checkpoint) -> Result<Self> {
        let saved = match Saved::read(checkpoint)? {
            Saved::LanguageModel(saved) => saved,
            other => return Err(other.wrong_kind(checkpoint.path(), "language models (wordmill train lm)")),
        };
        let vocabulary = Vocabulary::parse(&checkpoint.path().join(VOCABULARY), &checkpoint.read(VOCABULARY)?)?;
        let vocabulary = vocabulary.stripping_marks(saved::is_set(checkpoint, STRIP_MARKS)?);
        let config = checkpoint.path().join(CONFIG);
        let sane = |n: usize| (1..=1 << 20).contains(&n);
        if saved.words != vocabulary.len() {
            let what = format!("has {} words, its {VOCABULARY} {}", saved.words, vocabulary.len());
            return Err(Error::model(config, what));
        }
        let widths = sane(saved.embed) && sane(saved.hidden) && (!saved.tie || saved.embed == saved.hidden);
        let loss = match &saved.loss {
            Loss::Full => true,
            &Loss::Sampled { objective, draws, samples, .. } => {
                !saved.tie && sane(samples) && (draws == Draws::WithReplacement || objective == Objective::Softmax)
            }
            Loss::Adaptive { tails } => {
                !saved.tie && Tail::fit(tails, saved.words) && tails.iter().all(|tail| sane(tail.width))
            }
        };
        let reset = saved.reset_at.is_none_or(|word| (word as usize) < saved.words);
        let numbers = (1..=64).contains(&saved.layers) && saved.at_test > 0.0 && saved.at_test <= 1.0;
        if !(widths && loss && reset && numbers) {
            return Err(Error::model(config, "has sizes that no model has"));
        }
        // Whoever reads a model does not train it.
        let model = LanguageModel::new(Config { precision: Precision::F32, ..saved });
        let w = read_arena(checkpoint, model.layout())?;
        Ok(Trained { model, w, vocabulary })
    }
}

/// Lanes and steps of an evaluation, and the steps that a lane reads before its own part begins: the states of a GRU remember
/// hundreds of words.
const LANES: usize = 64;
const STEPS: usize = 32;
const BURN_IN: usize = 512;
/// Words that a lane has at least, if the text has more.
const LEAST: usize = 512;

/// Evaluates on a text in parallel lanes: every word is a target once, and every lane begins by reading the words before its
/// part, so that the result is that of one pass to about four digits, whatever the number of lanes.
pub struct Evaluator {
    space: Space<f32>,
    lanes: usize,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    out: Vec<f64>,
    /// Ends an evaluation when a signal is raised.
    signals: Option<Signals>,
    /// The targets' logits, of a model that learns to be normalised.
    logits: Vec<f64>,
}

/// What an evaluation finds.
#[derive(Clone, Copy, Debug)]
pub struct Evaluated {
    /// The mean loss in nats.
    pub loss: f64,
    /// The mean and the standard deviation of ln Z, the logarithm of the sum of e^o over the words, of a model that learns to keep it
    /// where [`LanguageModel::ln_z`] says.
    pub ln_z: Option<(f64, f64)>,
    /// The mean loss of known words only, without the ends of lines; none if there is none.
    pub known: Option<f64>,
}

impl Evaluator {
    /// Lanes for a text of `words`.
    fn lanes(words: usize) -> usize {
        (words / LEAST).clamp(1, LANES)
    }

    /// Working memory to evaluate texts of `words` words.
    pub fn new(model: &LanguageModel, words: usize) -> Self {
        let lanes = Self::lanes(words);
        let n = STEPS * lanes;
        Evaluator {
            space: model.evaluation_space(STEPS, lanes),
            lanes,
            inputs: vec![0; n],
            targets: vec![0; n],
            out: vec![0.0; n],
            signals: None,
            logits: vec![0.0; if model.ln_z().is_some() { n } else { 0 }],
        }
    }

    fn is_stopped(&self) -> bool {
        self.signals.as_ref().is_some_and(|signals| signals.stop().is_some())
    }

    /// Bytes of [`Evaluator::new`].
    pub fn bytes(model: &LanguageModel, words: usize) -> usize {
        model.space_bytes::<f32>(STEPS, Self::lanes(words), false)
    }

    /// Measures all words of `ids`, each given those before it; the first follows `eos`. Words other than `unk` and `eos` are also
    /// measured apart. The loss is NaN if a signal that
    /// [`Task::heed`] has told it of has ended it.
    pub fn evaluate(&mut self, model: &LanguageModel, w: &Arena<f32>, ids: &[u32], [unk, eos]: [u32; 2]) -> Evaluated {
        let (lanes, length) = (self.lanes, ids.len().div_ceil(self.lanes));
        // The word before target i, for all i that a lane may reach.
        let before = |i: isize| if i < 1 { eos } else { *ids.get(i as usize - 1).unwrap_or(&eos) };
        self.space.reset();
        let fill = |inputs: &mut [u32], targets: &mut [u32], from: isize| {
            for (i, (input, target)) in inputs.iter_mut().zip(targets).enumerate() {
                let at = (i % lanes * length) as isize + from + (i / lanes) as isize;
                (*input, *target) = (before(at), before(at + 1));
            }
        };
        let burn_in = BURN_IN.min(length) as isize;
        let mut at = -burn_in;
        while at < 0 && !self.is_stopped() {
            let n = STEPS.min(-at as usize) * lanes;
            fill(&mut self.inputs[..n], &mut self.targets[..n], at);
            model.advance(&mut self.space, &self.inputs[..n], w);
            at += (n / lanes) as isize;
            if at == 0 {
                // The first lane has nothing before it.
                model.forget_lane(&mut self.space, 0);
            }
        }
        let (mut total, mut sum, mut squares) = (0.0, 0.0, 0.0);
        let (mut of_known, mut known) = (0.0, 0_u64);
        for at in (0..length).step_by(STEPS) {
            if self.is_stopped() {
                return Evaluated { loss: f64::NAN, ln_z: None, known: None };
            }
            let steps = STEPS.min(length - at);
            let n = steps * lanes;
            fill(&mut self.inputs[..n], &mut self.targets[..n], at as isize);
            let window = Window { inputs: &self.inputs[..n], targets: &self.targets[..n], loss_from: 0 };
            model.log_probabilities(&mut self.out[..n], &mut self.space, window, w);
            let counted = |i: &usize| (i % lanes) * length + at + i / lanes < ids.len();
            total -= (0..n).filter(counted).map(|i| self.out[i]).sum::<f64>();
            for i in (0..n).filter(counted).filter(|&i| ![unk, eos].contains(&self.targets[i])) {
                of_known -= self.out[i];
                known += 1;
            }
            if !self.logits.is_empty() {
                model.target_logits(&mut self.logits[..n], &self.space, w);
                for ln_z in (0..n).filter(counted).map(|i| self.logits[i] - self.out[i]) {
                    sum += ln_z;
                    squares += ln_z * ln_z;
                }
            }
            model.carry(&mut self.space, steps);
        }
        let n = ids.len() as f64;
        let ln_z = (!self.logits.is_empty()).then(|| (sum / n, (squares / n - (sum / n).powi(2)).max(0.0).sqrt()));
        Evaluated { loss: total / n, ln_z, known: (known > 0).then(|| of_known / known as f64) }
    }
}

/// The natural-log probability of every line, its end included, each read alone after an `<eos>`. With `ln_z` the words' scores are
/// taken for normalised by it, and not summed over the vocabulary.
pub fn score(trained: &Trained, lines: &Lines, ln_z: Option<f64>) -> Vec<f64> {
    let all: Vec<&[u32]> = lines.iter().collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(all[i].len()));
    let mut scores = vec![0.0; all.len()];
    let n = STEPS * LANES;
    let (inputs, targets, out) = (vec![0; n], vec![0; n], vec![0.0; n]);
    let mut scorer = Scorer { trained, ln_z, spaces: Default::default(), inputs, targets, out };
    for batch in order.chunks(LANES) {
        let lines: Vec<&[u32]> = batch.iter().map(|&i| all[i]).collect();
        for (&i, score) in batch.iter().zip(scorer.score(&lines)) {
            scores[i] = score;
        }
    }
    scores
}

/// Reads lines beside each other, one in each lane.
struct Scorer<'a> {
    trained: &'a Trained,
    ln_z: Option<f64>,
    /// Memory for 1, 2, 4 … lanes, made when it is first needed.
    spaces: [Option<Space<f32>>; 1 + LANES.ilog2() as usize],
    inputs: Vec<u32>,
    targets: Vec<u32>,
    out: Vec<f64>,
}

impl Scorer<'_> {
    /// The scores of `lines`, of which none is longer than the one before. When half of the lanes have come to the end of their
    /// lines the others go on in memory for half as many: what is long and alone costs what it costs alone.
    fn score(&mut self, lines: &[&[u32]]) -> Vec<f64> {
        let mut scores = vec![0.0; lines.len()];
        // Of several sizes, that of 2^size lanes.
        let size_for = |lanes: usize| lanes.next_power_of_two().ilog2() as usize;
        let mut size = size_for(lines.len());
        self.space(size).reset();
        let mut at = 0;
        while at < lines[0].len() {
            let reading = lines.partition_point(|line| line.len() > at);
            let smaller = size_for(reading);
            if smaller < size {
                let before = self.spaces[size].take().expect("it was read with");
                self.space(smaller).take_lanes(&before, reading);
                self.spaces[size] = Some(before);
                size = smaller;
            }
            let (lanes, steps) = (1 << size, STEPS.min(lines[0].len() - at));
            self.read(&lines[..reading], at, steps, size);
            for (i, out) in self.out[..steps * lanes].iter().enumerate() {
                let (lane, t) = (i % lanes, at + i / lanes);
                if lane < reading && t < lines[lane].len() {
                    scores[lane] += out;
                }
            }
            at += steps;
        }
        scores
    }

    /// Memory for 2^size lanes.
    fn space(&mut self, size: usize) -> &mut Space<f32> {
        let (model, lanes) = (&self.trained.model, 1 << size);
        self.spaces[size].get_or_insert_with(|| match self.ln_z {
            Some(_) => model.state_space(STEPS, lanes),
            None => model.evaluation_space(STEPS, lanes),
        })
    }

    /// Reads the words of `lines` from `at` on; `out` gets their log-probabilities, step by step.
    fn read(&mut self, lines: &[&[u32]], at: usize, steps: usize, size: usize) {
        let Trained { model, w, vocabulary } = self.trained;
        let (lanes, eos) = (1 << size, vocabulary.eos());
        let n = steps * lanes;
        for i in 0..n {
            let (line, t) = (lines.get(i % lanes).copied().unwrap_or_default(), at + i / lanes);
            self.inputs[i] = if t == 0 { eos } else { *line.get(t - 1).unwrap_or(&eos) };
            self.targets[i] = *line.get(t).unwrap_or(&eos);
        }
        let ln_z = self.ln_z;
        let window = Window { inputs: &self.inputs[..n], targets: &self.targets[..n], loss_from: 0 };
        let (space, out) = (self.spaces[size].as_mut().expect("it was made"), &mut self.out[..n]);
        match ln_z {
            Some(ln_z) => {
                model.follow(space, window, w);
                model.target_logits(out, space, w);
                out.iter_mut().for_each(|score| *score -= ln_z);
            }
            None => model.log_probabilities(out, space, window, w),
        }
        model.carry(space, steps);
    }
}

/// Words on which a model that learns from samples is checked at the end of its run.
const CHECKED: usize = 512;

/// A language model and the text it learns from.
pub struct LmTask<'a> {
    model: &'a LanguageModel,
    lanes: Lanes<'a>,
    windows: Windows,
    valid: Option<(&'a [u32], Evaluator)>,
    /// For the check at the end, of a model that learns from samples.
    check: Option<Evaluator>,
    special: [u32; 2],
    space: Space<f32>,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    keep: Keep,
    forget: f64,
    seed: u64,
    files: Vec<SmallFile>,
}

/// What an [`LmTask`] is made of.
pub struct LmData<'a> {
    /// The model.
    pub model: &'a LanguageModel,
    /// The training text in lanes.
    pub lanes: Lanes<'a>,
    /// Its windows.
    pub windows: Windows,
    /// τ
    pub tau: usize,
    /// The validation text.
    pub valid: Option<&'a [u32]>,
    /// The words' counts in the training text.
    pub counts: &'a [u64],
    /// The ids of `<unk>` and `<eos>`.
    pub special: [u32; 2],
    /// Dropout.
    pub keep: Keep,
    /// Probability that a lane begins a window with a state of zero.
    pub forget: f64,
    /// The run's seed.
    pub seed: u64,
    /// The small files of a checkpoint.
    pub files: Vec<SmallFile>,
}

impl<'a> LmTask<'a> {
    /// Bytes of the memory that evaluation takes, on a validation text of so many words, and at the end.
    pub fn evaluation_bytes(model: &LanguageModel, valid: Option<usize>) -> usize {
        let checked = model.recipe().map(|_| CHECKED);
        [valid, checked].into_iter().flatten().map(|words| Evaluator::bytes(model, words)).sum()
    }

    /// Allocates the working memory.
    pub fn new(data: LmData<'a>) -> Self {
        let LmData { model, lanes, windows, tau, valid, counts, special, keep, forget, seed, files } = data;
        let tokens = tau * lanes.lanes();
        LmTask {
            model,
            lanes,
            windows,
            valid: valid.map(|ids| (ids, Evaluator::new(model, ids.len()))),
            check: model.recipe().is_some().then(|| Evaluator::new(model, CHECKED)),
            special,
            space: model.training_space(tau, lanes.lanes(), counts),
            inputs: vec![0; tokens],
            targets: vec![0; tokens],
            keep,
            forget,
            seed,
            files,
        }
    }
}

impl Task for LmTask<'_> {
    fn layout(&self) -> &Arc<Layout> {
        self.model.layout()
    }

    fn rows(&self) -> usize {
        self.inputs.len() + self.model.samples(self.lanes.lanes())
    }

    fn is_cross_entropy(&self) -> bool {
        self.model.recipe().is_none()
    }

    fn steps_per_epoch(&self) -> u64 {
        self.windows.count() as u64
    }

    fn targets_before(&self, steps: u64) -> u64 {
        let position = steps.checked_sub(1).map_or(0, |last| self.windows.get(last as usize).end);
        (position * self.lanes.lanes()) as u64
    }

    type Touched = Loaded;

    fn touch(&mut self, g: &mut Gradients<f32>, step: u64) -> Loaded {
        let filling = span(Part::Data);
        let index = (step % self.steps_per_epoch()) as usize;
        if index == 0 {
            self.space.reset();
        }
        let mut stream = Stream::new(self.seed, Purpose::Forget, step, 0);
        for lane in 0..self.lanes.lanes() {
            if stream.random::<f64>() < self.forget {
                self.model.forget_lane(&mut self.space, lane);
            }
        }
        let window = self.windows.get(index);
        let n = window.len() * self.lanes.lanes();
        self.lanes.fill(window.positions(), &mut self.inputs[..n], &mut self.targets[..n]);
        drop(filling);
        let data = Window { inputs: &self.inputs[..n], targets: &self.targets[..n], loss_from: window.loss_from };
        self.model.touch(g, &mut self.space, data, Noise { keep: self.keep, seed: self.seed, step })
    }

    fn step(&mut self, g: &mut Gradients<f32>, step: u64, loaded: Loaded, w: &Arena<f32>) -> Outcome {
        let index = (step % self.steps_per_epoch()) as usize;
        let window = self.windows.get(index);
        let loss = self.model.step(g, &mut self.space, loaded, w);
        if index + 1 < self.windows.count() {
            self.model.carry(&mut self.space, self.windows.get(index + 1).carry_from);
        }
        Outcome { loss, targets: ((window.len() - window.loss_from) * self.lanes.lanes()) as u64 }
    }

    /// Over all words also where a step's is over a sample, of which the loss of a worthless model may be low.
    fn loss_after(&mut self, g: &mut Gradients<f32>, step: u64, w: &Arena<f32>) -> f64 {
        let window = self.windows.get((step % self.steps_per_epoch()) as usize);
        let lanes = self.lanes.lanes();
        if let Some(evaluator) = &mut self.check {
            let mut ids = Vec::with_capacity(CHECKED);
            for lane in 0..lanes {
                ids.extend(self.targets[..window.len() * lanes].iter().skip(lane).step_by(lanes));
            }
            ids.truncate(CHECKED);
            return evaluator.evaluate(self.model, w, &ids, self.special).loss;
        }
        let states: Vec<Vec<f32>> = self.space.states().map(<[f32]>::to_vec).collect();
        let n = window.len() * lanes;
        let data = Window { inputs: &self.inputs[..n], targets: &self.targets[..n], loss_from: window.loss_from };
        let noise = Noise { keep: self.keep, seed: self.seed, step };
        let loss = self.model.loss_and_gradient(g, &mut self.space, data, noise, w);
        self.space.states_mut().zip(&states).for_each(|(state, before)| state.copy_from_slice(before));
        loss
    }

    fn classes(&self) -> Option<usize> {
        Some(self.model.config().words)
    }

    fn heed(&mut self, signals: &Signals) {
        self.valid.iter_mut().for_each(|(_, evaluator)| evaluator.signals = Some(signals.clone()));
    }

    fn validate(&mut self, w: &Arena<f32>) -> Option<Score> {
        let (ids, evaluator) = self.valid.as_mut()?;
        Some(Score::perplexity(evaluator.evaluate(self.model, w, ids, self.special).loss.exp()))
    }

    fn measure(&self) -> Measure {
        Measure::Perplexity
    }

    fn files(&self) -> &[SmallFile] {
        &self.files
    }

    fn carried(&mut self) -> Vec<&mut [f32]> {
        self.space.states_mut().collect()
    }
}
