//! Training of a tagger on tagged text.

use super::read::{read_tagged, read_to_learn};
use super::task::{NerData, NerTask};
use super::{Encoder, SUFFIXES, Tagger, warn_of_unseen, words_and_ends};
use crate::blas::Precision;
use crate::error::{Error, Result, counted, reject};
use crate::kernels::dropout::Keep;
use crate::models::ner::Objective;
use crate::models::{Init, Ner, ner};
use crate::notices::Notice;
use crate::params::Arena;
use crate::tasks::Model;
use crate::tasks::memory::Needs;
use crate::tasks::run::{self, Run, Summary};
use crate::tasks::saved::{NerConfig as Config, Saved, VOCABULARY};
use crate::text::Inputs;
use crate::text::conll::Form;
use crate::text::tags::{Labels, Scheme};
use crate::text::vectors::Vectors;
use crate::text::words::Coverage;
use crate::train::progress::Progress;
use std::path::PathBuf;

/// The plan for training a tagger.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tagged text: one token per line.
    pub train: PathBuf,
    /// Tagged validation text; its F1 is computed after every epoch.
    pub valid: Option<PathBuf>,
    /// Tagged text to evaluate the best model on after training.
    pub test: Option<PathBuf>,
    /// The columns of words and tags.
    pub form: Form,
    /// Tagging scheme that is learned; `None`: that of the training text.
    pub scheme: Option<Scheme>,
    /// Pretrained word vectors.
    pub vectors: Option<PathBuf>,
    /// Whether these are frozen.
    pub freeze_vectors: bool,
    /// Window size: tokens that the network sees at a time, an odd number.
    pub window: usize,
    /// Embedding size; `None`: 50, or that of the vectors.
    pub embed: Option<usize>,
    /// Hidden units.
    pub hidden: usize,
    /// Whether capitalisation is a feature.
    pub caps: bool,
    /// Whether suffixes are features.
    pub suffix: bool,
    /// Training objective.
    pub objective: Objective,
    /// Dropout.
    pub keep: Keep,
    /// Whether the case of words is ignored.
    pub lowercase: bool,
    /// Words that occur less often are replaced by a more general form.
    pub min_count: u64,
    /// Replaces a word that occurs n times by `<unk>` with probability A / (A + n).
    pub unknown: f64,
    /// The run; a batch has this many tokens on average.
    pub run: run::Plan,
}

impl Plan {
    /// The defaults of the program.
    pub fn new(train: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Plan {
            train: train.into(),
            valid: None,
            test: None,
            form: Form::default(),
            scheme: None,
            vectors: None,
            freeze_vectors: false,
            window: 3,
            embed: None,
            hidden: 100,
            caps: true,
            suffix: true,
            objective: Objective::Sentence,
            keep: Keep::inverted(0.9),
            lowercase: false,
            min_count: 1,
            unknown: 0.25,
            run: run::Plan { epochs: 10, l2: 0.001, ..run::Plan::new(out) },
        }
    }
}

/// Trains, inside a thread pool.
pub fn train(plan: &Plan, inputs: &Inputs, progress: Progress) -> Result<Summary> {
    let never_trained = plan.freeze_vectors && plan.vectors.is_none();
    reject(&[(never_trained, "--freeze-vectors needs --vectors: otherwise random vectors would never be trained")])?;
    let data = [("train", Some(plan.train.as_path())), ("valid", plan.valid.as_deref())];
    let other = [("test", plan.test.as_deref()), ("vectors", plan.vectors.as_deref())];
    let mut run = Run::begin(&plan.run, "ner", data, &other, inputs, progress.without_perplexity())?;
    let files = [Some(&plan.train), plan.valid.as_ref(), plan.test.as_ref(), plan.vectors.as_ref()];
    // Inputs are read before an existing model is replaced.
    for path in files.into_iter().flatten() {
        inputs.check(path)?;
    }
    let Plan { caps, suffix, .. } = *plan;
    let (train, mut kinds, form) = read_to_learn(&plan.train, plan.form, plan.scheme, inputs)?;
    let labels = Labels { scheme: train.gold.scheme, kinds: kinds.clone() };
    if kinds.is_empty() {
        return Err(Error::input(&plan.train, 0, "no entity: every tag is O", "tags to train on"));
    }
    let mut read = |path: &PathBuf| {
        let tagged = read_tagged(path, form, Some(labels.scheme), &mut kinds, inputs)?;
        warn_of_unseen(&labels, &tagged, &kinds, inputs)?;
        Ok::<_, Error>(tagged)
    };
    let valid = plan.valid.as_ref().map(&mut read).transpose()?;
    let test = plan.test.as_ref().map(&mut read).transpose()?;

    let (words, ends) = words_and_ends(&train.file);
    let all = words.iter().copied();
    let encoder = Encoder::build(all, plan.min_count, plan.lowercase, caps, suffix);
    let vectors = match &plan.vectors {
        None => None,
        Some(path) => Some(Vectors::read(path, encoder.words.words().iter().map(String::as_str), inputs)?),
    };
    let embed = match (&vectors, plan.embed) {
        (Some(vectors), Some(embed)) if vectors.width != embed => {
            let what = format!("--embed {embed}: the vectors of --vectors have width {}", vectors.width);
            return Err(Error::Usage(what));
        }
        (Some(vectors), _) => vectors.width,
        (None, embed) => embed.unwrap_or(50),
    };
    let around = plan.window / 2;
    let encoded = encoder.encode(&words, &ends, around);
    let encoded_valid = valid.as_ref().map(|valid| {
        let (words, ends) = words_and_ends(&valid.file);
        encoder.encode(&words, &ends, around)
    });
    let with = |embed: usize, hidden: usize| {
        Ner::new(ner::Config {
            tables: encoder.tables(embed),
            window: plan.window,
            hidden,
            labels: labels.count(),
            objective: plan.objective,
        })
    };
    let net = with(embed, plan.hidden);
    let bytes = |needs: Needs| {
        let net = with(needs.embed.unwrap_or(embed), needs.hidden.unwrap_or(plan.hidden));
        NerTask::bytes(&net, &encoded, encoded_valid.as_ref(), needs)
    };
    run.check_memory([Some(plan.hidden), vectors.is_none().then_some(embed)], bytes)?;
    let config = Config { net: net.config().clone(), labels, lowercase: plan.lowercase, caps, suffix, form };
    let labels = &config.labels;

    run.note("embed", embed);
    run.open()?;
    let mut files = vec![(VOCABULARY, encoder.words.text().into_bytes())];
    if suffix {
        files.push((SUFFIXES, serde_json::to_vec(&encoder.suffixes).expect("lists of suffixes are JSON")));
    }
    let files = run.files(&Saved::Ner(config.clone()), files)?;
    run.progress.say(&format!(
        "{} in {}, {} words, {} labels in the scheme {}, {} parameters",
        counted(words.len(), "token"),
        counted(ends.len(), "sentence"),
        encoder.words.len(),
        labels.count(),
        labels.scheme,
        net.layout().parameters()
    ));
    let w = match run.before::<Tagger>()? {
        None => {
            let mut w = Arena::zeros(net.layout());
            Init::Xavier.fill(&mut w, plan.run.seed);
            if let Some(vectors) = &vectors {
                let coverage = load_vectors(w.slice_mut(net.words()), vectors, encoder.words.words());
                run.progress.say(&format!("vectors: {coverage}"));
                if coverage.exact + coverage.lower + coverage.digits == 0
                    && let Some(path) = &plan.vectors
                {
                    let notice = Notice::of_file(path, 0, "no vector for any word of the training text");
                    inputs.warn(notice.done("all words are initialised as without --vectors"))?;
                }
            }
            w
        }
        Some(before) => {
            let same = before.config == config
                && before.encoder.words.words() == encoder.words.words()
                && before.encoder.suffixes == encoder.suffixes;
            if !same {
                let expected = "the training text of the run to resume";
                return Err(Error::input(&plan.train, 0, "a different text", expected));
            }
            before.w
        }
    };
    if let Some(valid) = &valid {
        run.progress.say(&format!(
            "words of {}: {}",
            valid.file.path().display(),
            encoder.words.coverage(valid.file.words())
        ));
    }

    let targets = train.gold.tags.iter().map(|&tag| labels.label(tag).map_or(0, |label| label as u32)).collect();
    let unknown = |number: usize| {
        let share = plan.unknown / (plan.unknown + encoder.words.count(number as u32) as f64);
        if number < 3 || plan.unknown == 0.0 { 0 } else { (share * 4_294_967_296.0) as u32 }
    };
    let mut task = NerTask::new(NerData {
        net: &net,
        labels,
        train: encoded,
        targets,
        valid: encoded_valid.zip(valid.as_ref()).map(|(encoded, valid)| (encoded, valid, &kinds)),
        batch: plan.run.batch,
        keep: plan.keep,
        unknown: (0..encoder.words.len()).map(unknown).collect(),
        freeze: plan.freeze_vectors,
        seed: plan.run.seed,
        files,
    });
    let optimizer = plan.run.optimizer(net.layout()).lazy();
    let summary = run.fit(&mut task, w, optimizer, Precision::F32)?;
    let test = match &test {
        None => None,
        Some(test) => Some(Tagger::load(&plan.run.out)?.evaluate_tagged(test, &kinds, inputs)?),
    };
    Ok(Summary { words: Some(encoder.words.len()), test, ..summary })
}

/// Replaces the random vectors of known words by pretrained ones.
fn load_vectors(table: &mut [f32], vectors: &Vectors, words: &[String]) -> Coverage {
    for (row, word) in table.chunks_exact_mut(vectors.width).zip(words) {
        if let Some((vector, _)) = vectors.find(word) {
            row.copy_from_slice(vector);
        }
    }
    vectors.coverage(words.iter().map(String::as_str))
}
