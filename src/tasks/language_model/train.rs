//! Training of a language model on a text.

use super::task::{LmData, LmTask};
use super::{TrainedLm, check_precision};
use crate::error::{Error, Result, counted, reject};
use crate::kernels::dropout::Keep;
use crate::layers::output::{Draws, Objective, Tail, clusters};
use crate::models::language_model::{Config, Loss, Sizes};
use crate::models::{Init, LanguageModel};
use crate::notices::Notice;
use crate::tasks::memory;
use crate::tasks::run::{self, Run, Start, Summary};
use crate::tasks::saved::{Saved, VOCABULARY};
use crate::tasks::tuning::{self, Subject, Tuning};
use crate::text::marks::Marks;
use crate::text::{Corpus, Inputs, Lanes, Subset, Vocabulary, Windows};
use crate::train::optimizer::Rule;
use crate::train::progress::Progress;
use std::path::PathBuf;

/// The plan for training a language model.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The text: one sentence per line, words separated by spaces.
    pub train: PathBuf,
    /// Validation text; its perplexity is computed after every epoch.
    pub valid: Option<PathBuf>,
    /// Validate on about this many words only.
    pub eval_tokens: Option<usize>,
    /// Words that occur less often are unknown.
    pub min_count: u64,
    /// Keep the most frequent words only.
    pub max_vocab: Option<usize>,
    /// Sentence markers of other tools in the text.
    pub marks: Marks,
    /// The model, except for what depends on the text: its words, the id of `reset_at`, and the tails of an adaptive softmax.
    pub model: Config,
    /// Ranks of the first word of each tail of an adaptive softmax; without them, those that minimise the time of a step.
    pub cutoffs: Option<Vec<usize>>,
    /// Factor by which the units of each tail are reduced from those of the tail before it.
    pub tail_divisor: usize,
    /// Reset the state to zero at the beginning of every sentence.
    pub reset_at_eos: bool,
    /// BPTT length: time steps that gradients are propagated back.
    pub tau: usize,
    /// Steps the window advances.
    pub stride: usize,
    /// Dropout.
    pub keep: Keep,
    /// Probability that the state of a lane is reset to zero before a window.
    pub forget: f64,
    /// Initialisation of the weights.
    pub init: Init,
    /// A tuning file, from which the number of threads and the block sizes are read.
    pub tuning: Option<PathBuf>,
    /// Number of threads, overriding that of `tuning`; 0: not set.
    pub threads: usize,
    /// The run.
    pub run: run::Plan,
}

impl Plan {
    /// The defaults of the program: a simple recurrent network.
    pub fn new(train: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Plan {
            train: train.into(),
            valid: None,
            eval_tokens: None,
            min_count: 1,
            max_vocab: None,
            marks: Marks::default(),
            model: Config::default(),
            cutoffs: None,
            tail_divisor: 4,
            reset_at_eos: false,
            tau: 10,
            stride: 10,
            keep: Keep::inverted(0.9),
            forget: 0.01,
            init: Init::Uniform,
            tuning: None,
            threads: 0,
            run: run::Plan { rate: 0.004, clip: 5.0, epochs: 5, ..run::Plan::new(out) },
        }
    }

    /// Rejects what contradicts each other.
    fn check(&self) -> Result<()> {
        let Config { embed, hidden, tie, loss, sizes, precision, .. } = &self.model;
        if self.stride > self.tau {
            let what = format!("--stride {}: expected at most --tau {}", self.stride, self.tau);
            return Err(Error::Usage(what));
        }
        let resumes = self.run.start == Start::Resume;
        let (full, blocks) = (*loss == Loss::Full, sizes.chunk.is_some() || sizes.block.is_some());
        let widths = format!("--tie needs word vectors of width --hidden {hidden}, found --embed {embed}");
        let is_unique_nce = matches!(loss, Loss::Sampled { objective: Objective::Nce(_), draws: Draws::Unique, .. });
        reject(&[
            (
                *tie && !full,
                "--tie needs --loss full: sampled rows are updated separately from word vectors, \
                 and tails have other widths",
            ),
            (*tie && embed != hidden, &widths),
            (is_unique_nce, "--recipe unique is only for --loss sampled; nce draws with replacement"),
            (self.tuning.is_some() && resumes, "--tuning is only for a new run; a resumed run keeps its block sizes"),
            (blocks && !full, "--chunk and --block are only for --loss full"),
            (
                self.eval_tokens.is_some() && self.valid.is_none(),
                "--eval-tokens needs --valid, the text it takes a subset of",
            ),
        ])?;
        check_precision(*precision)
    }

    /// Whether a step is computed over a sample of the words.
    fn samples(&self) -> bool {
        matches!(self.model.loss, Loss::Sampled { .. })
    }

    /// The loss for words with `counts`: the tails of an adaptive softmax are as requested, or chosen automatically.
    fn loss(&self, counts: &[u64]) -> Result<Loss> {
        if !matches!(self.model.loss, Loss::Adaptive { .. }) {
            return Ok(self.model.loss.clone());
        }
        let hidden = self.model.hidden;
        let Some(cutoffs) = &self.cutoffs else {
            let tails = clusters::choose(counts, hidden, self.tail_divisor, self.stride * self.run.batch);
            return Ok(Loss::Adaptive { tails });
        };
        match cutoffs.last().filter(|&&last| last >= counts.len()) {
            Some(last) => {
                Err(Error::Usage(format!("--cutoffs {last}: expected less than the vocabulary size, {}", counts.len())))
            }
            None => Ok(Loss::Adaptive { tails: clusters::tails_at(cutoffs, hidden, self.tail_divisor) }),
        }
    }

    /// The model, for a vocabulary of `words` words.
    fn model(&self, words: usize, eos: u32, loss: Loss) -> LanguageModel {
        let reset_at = self.reset_at_eos.then_some(eos);
        LanguageModel::new(Config { words, reset_at, loss, ..self.model.clone() })
    }

    /// Applies [`Plan::tuning`] for a vocabulary of `words` words to settings that the plan leaves open.
    fn tune(&mut self, words: usize, run: &mut Run) -> Result<()> {
        let Some(path) = &self.tuning else { return Ok(()) };
        let path = tuning::place(path)?;
        let Config { precision, embed, hidden, layers, .. } = self.model;
        let subject = Subject {
            isa: Subject::isa(),
            precision,
            cell: self.model.cell.kind(),
            sampled: self.model.loss != Loss::Full,
            words,
            embed,
            hidden,
            layers,
            tau: self.tau,
            batch: self.run.batch,
        };
        let tuning = Tuning::read(&path)?;
        let Some(entry) = tuning.find(&subject) else {
            let kind = if subject.sampled { "with a sampled loss" } else { "with the full softmax" };
            let model = format!("no {:?} {kind} in {precision:?} on {}", subject.cell, subject.isa);
            return Err(Error::input(
                &path,
                0,
                model.to_lowercase(),
                "an entry for such a model, as written by wordmill tune",
            ));
        };
        let Subject { words, embed, hidden, layers, .. } = entry.subject;
        run.progress.say(&format!(
            "{}: settings found for {} words, embedding size {embed}, {layers} x {hidden} units{}",
            path.display(),
            words,
            if entry.subject == subject { "" } else { ", the closest entry to this model" }
        ));
        let (found, Sizes { shard, chunk, block }) = (entry.sizes, self.model.sizes);
        self.model.sizes =
            Sizes { shard: shard.or(found.shard), chunk: chunk.or(found.chunk), block: block.or(found.block) };
        if self.threads == 0 {
            self.threads = entry.threads;
        }
        let Sizes { shard, chunk, block } = self.model.sizes;
        for (name, value) in [("shard", shard), ("chunk", chunk), ("block", block), ("threads", Some(self.threads))] {
            value.into_iter().for_each(|value| run.note(name, value));
        }
        run.threads = Some(self.threads);
        Ok(())
    }

    /// Reduces the batch size, and then the BPTT length, if the text has too few words.
    fn fit_batch(&mut self, tokens: usize, inputs: &Inputs) -> Result<()> {
        let targets = tokens.saturating_sub(1);
        let batch = &mut self.run.batch;
        let fits = batch.checked_mul(self.tau).is_some_and(|needed| needed <= targets);
        if fits || targets == 0 {
            return Ok(());
        }
        let words = counted(tokens, "word");
        let given = format!("{words}, too few for --batch {batch} lanes of --tau {} steps", self.tau);
        self.tau = self.tau.min(targets);
        self.stride = self.stride.min(self.tau);
        *batch = (targets / self.tau).max(1);
        let fits = format!("--batch {batch} --tau {}", self.tau);
        let notice = Notice::of_file(&self.train, 0, given).done(format!("trained with {fits}"));
        inputs.warn(notice.option(format!("{fits} selects this explicitly")))
    }

    /// Bytes that training allocates: weights, gradients and optimizer states, the working memory of steps and
    /// evaluation, and that of saving.
    fn bytes(&self, model: &LanguageModel, valid: Option<usize>) -> usize {
        let batch = self.run.batch;
        let touched = self.tau * batch + model.samples(batch);
        memory::learning_bytes(model.layout(), model.layout(), self.run.optimizer, touched, 0)
            + model.space_bytes::<f32>(self.tau, batch, true)
            + LmTask::evaluation_bytes(model, valid)
    }

    /// Options each of which alone would make the run fit in `room` bytes.
    fn what_fits(&self, vocabulary: &Vocabulary, valid: Option<usize>, room: usize) -> Vec<String> {
        let fits = |plan: &Plan, words: usize| {
            // Cutoffs may lie beyond a smaller vocabulary.
            let Ok(loss) = plan.loss(&vocabulary.counts()[..words]) else { return false };
            let model = plan.model(words, vocabulary.eos().min(words as u32 - 1), loss);
            memory::predicted_peak(plan.bytes(&model, valid)) <= room
        };
        let words = vocabulary.len();
        let with = |change: &dyn Fn(&mut Plan)| {
            let mut plan = self.clone();
            change(&mut plan);
            fits(&plan, words)
        };
        let tie = self.model.tie;
        let hidden = memory::largest(self.model.hidden, |hidden| {
            with(&|plan| {
                plan.model.hidden = hidden;
                // With --tie, word vectors are as wide as the hidden layer.
                plan.model.embed = if tie { hidden } else { plan.model.embed };
            })
        });
        let embed = memory::largest(self.model.embed, |embed| !tie && with(&|plan| plan.model.embed = embed));
        let cheaper = |rule: Rule| self.run.optimizer != rule && with(&|plan| plan.run.optimizer = rule);
        let most = memory::largest(words, |most| fits(self, most)).filter(|&most| most >= 3);
        let rowwise = cheaper(Rule::AdagradRowwise).then(|| "--optimizer adagrad-rowwise".to_owned());
        let sgd = cheaper(Rule::Sgd).then(|| "--optimizer sgd".to_owned());
        let named = [("--hidden", hidden), ("--embed", embed), ("--max-vocab", most)];
        let numbers = named.into_iter().filter_map(|(name, most)| Some(format!("{name} {}", most?)));
        numbers.chain(rowwise).chain(sgd).collect()
    }
}

/// Trains, inside a thread pool.
pub fn train(plan: &Plan, inputs: &Inputs, progress: Progress) -> Result<Summary> {
    plan.check()?;
    let progress = if plan.samples() { progress.without_perplexity() } else { progress };
    let data = [("train", Some(plan.train.as_path())), ("valid", plan.valid.as_deref())];
    let mut run = Run::begin(&plan.run, "lm", data, &[], inputs, progress)?;
    let mut plan = plan.clone();

    let (vocabulary, corpus) = Corpus::read_training(&plan.train, plan.min_count, plan.max_vocab, &plan.marks, inputs)?;
    if let Some(token) = &plan.marks.unk_token
        && corpus.unknown == 0
    {
        let found = format!("no word {token}, given by --unk-token");
        inputs.warn(Notice::of_file(&plan.train, 0, found).done("no word is read as unknown"))?;
    }
    if let Loss::Sampled { samples, .. } = plan.model.loss
        && samples >= vocabulary.len()
    {
        let words = vocabulary.len();
        inputs.warn(Notice::new(format!(
            "--samples {samples} for a vocabulary of {words} words: --loss full is no slower"
        )))?;
    }
    let mut valid = None;
    if let Some(path) = plan.valid.as_deref() {
        let corpus = Corpus::read_with(path, &vocabulary, inputs)?;
        corpus.warn_of_unknown(path, inputs)?;
        valid = Some(corpus.ids);
    }
    if let (Some(ids), Some(tokens)) = (&mut valid, plan.eval_tokens) {
        let subset = Subset::choose(ids, vocabulary.eos(), tokens);
        run.progress.say(&format!("validating on {subset}"));
        *ids = subset.ids;
    }
    plan.tune(vocabulary.len(), &mut run)?;
    // The batch size is saved as given: a resumed run reduces it again.
    plan.fit_batch(corpus.ids.len(), inputs)?;
    let plan = &plan;
    let lanes = Lanes::new(&plan.train, &corpus.ids, plan.run.batch, plan.tau)?;
    let windows = Windows::new(lanes.length(), plan.tau, plan.stride)?;
    // A resumed run keeps its tails, even if they would be chosen differently now.
    let loss = match run.checkpoint.as_mut().map(Saved::read).transpose()? {
        Some(Saved::LanguageModel(Config { loss: Loss::Adaptive { tails }, .. }))
            if Tail::fit(&tails, vocabulary.len()) =>
        {
            Loss::Adaptive { tails }
        }
        _ => plan.loss(vocabulary.counts())?,
    };
    let model = plan.model(vocabulary.len(), vocabulary.eos(), loss);
    let mut words = Vec::new();
    vocabulary.write_to(&mut words).map_err(|e| Error::io(&plan.run.out, "listing the vocabulary", e))?;
    let unknown = 100.0 * corpus.unknown as f64 / corpus.ids.len() as f64;
    run.progress.say(&format!(
        "{} of text, {} in the vocabulary, {unknown:.2} % unknown",
        counted(corpus.ids.len(), "word"),
        vocabulary.len()
    ));
    if let Loss::Adaptive { tails } = &model.config().loss {
        run.progress.say(&shown(tails, vocabulary.counts()));
    }
    let valid_words = valid.as_ref().map(Vec::len);
    let predicted = memory::predicted_peak(plan.bytes(&model, valid_words));
    let (parameters, mb) = (model.layout().parameters(), predicted as f64 / 1e6);
    run.progress.say(&format!("{parameters} parameters; predicted peak memory {mb:.0} MB"));
    memory::check("training", predicted, |room| plan.what_fits(&vocabulary, valid_words, room), inputs)?;
    run.open()?;

    let files = run.files(&Saved::LanguageModel(model.config().clone()), vec![(VOCABULARY, words)])?;
    let mut task = LmTask::new(LmData {
        model: &model,
        lanes,
        windows,
        tau: plan.tau,
        valid: valid.as_deref(),
        counts: vocabulary.counts(),
        special: [vocabulary.unk(), vocabulary.eos()],
        keep: plan.keep,
        forget: plan.forget,
        seed: plan.run.seed,
        files,
    });
    let w = match run.before::<TrainedLm>()? {
        Some(before) => {
            let counts = before.vocabulary.counts() == vocabulary.counts();
            if !counts || !before.vocabulary.words().eq(vocabulary.words()) {
                let expected = "the training text of the run to resume";
                return Err(Error::input(&plan.train, 0, "a different text", expected));
            }
            before.w
        }
        None => model.begin(plan.init, plan.run.seed, vocabulary.counts()),
    };
    let optimizer = plan.run.optimizer(model.layout());
    let summary = run.fit(&mut task, w, optimizer, model.config().precision)?;
    Ok(Summary { words: Some(vocabulary.len()), ..summary })
}

/// The tails of an adaptive softmax, each with its share of the text.
fn shown(tails: &[Tail], counts: &[u64]) -> String {
    let share = |words: &[u64]| 100.0 * words.iter().sum::<u64>() as f64 / counts.iter().sum::<u64>().max(1) as f64;
    let Some(head) = tails.first().map(|tail| tail.first) else {
        return "adaptive softmax: no tails, as they would not reduce the time of a step".into();
    };
    let mut text = format!("adaptive softmax: {head} words in the head ({:.1} % of the text)", share(&counts[..head]));
    for (words, tail) in Tail::ranges(tails, counts.len()).zip(tails) {
        text += &format!("; {} with {} units ({:.1} %)", words.len(), tail.width, share(&counts[words]));
    }
    text
}
