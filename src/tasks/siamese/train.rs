//! Training of a Siamese network on pairs of words.

use super::{Encoded, SiameseTask, TrainedSiamese};
use crate::blas::Precision;
use crate::error::{Error, Result, counted};
use crate::models::siamese::{self, Loss};
use crate::models::{Init, Siamese};
use crate::params::Arena;
use crate::tasks::lexicon::Lexicon;
use crate::tasks::memory::Needs;
use crate::tasks::run::{self, Run, Summary};
use crate::tasks::saved::{Saved, SiameseConfig as Config, VOCABULARY};
use crate::text::Inputs;
use crate::text::pairs::{Grades, Pairs};
use crate::train::progress::Progress;
use std::path::PathBuf;

/// The plan for training a Siamese network.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Pairs of similar and dissimilar words.
    pub pairs: PathBuf,
    /// Validation pairs, evaluated after every epoch.
    pub valid: Option<PathBuf>,
    /// Columns of the words and of their label, from 1; if empty, the first suitable columns.
    pub columns: Vec<usize>,
    /// The file of word vectors.
    pub vectors: PathBuf,
    /// Number of leading rows that the model keeps, besides those of the words in the pairs.
    pub max_vocab: usize,
    /// Whether the vectors are trained, too.
    pub train_vectors: bool,
    /// Hidden units.
    pub hidden: usize,
    /// The loss.
    pub loss: Loss,
    /// The run.
    pub run: run::Plan,
}

impl Plan {
    /// The defaults of the program.
    pub fn new(pairs: impl Into<PathBuf>, vectors: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Plan {
            pairs: pairs.into(),
            valid: None,
            columns: Vec::new(),
            vectors: vectors.into(),
            max_vocab: 20_000,
            train_vectors: false,
            hidden: 100,
            loss: Loss::Contrastive { margin: 1.0 },
            run: run::Plan { l2: 0.0001, ..run::Plan::new(out) },
        }
    }
}

/// Trains, inside a thread pool.
pub fn train(plan: &Plan, inputs: &Inputs, progress: Progress) -> Result<Summary> {
    let data = [("pairs", Some(plan.pairs.as_path())), ("valid", plan.valid.as_deref())];
    let other = [("vectors", Some(plan.vectors.as_path()))];
    let progress = progress.without_perplexity().counting("pairs");
    let mut run = Run::begin(&plan.run, "siamese", data, &other, inputs, progress)?;
    // Inputs are read before an existing model is replaced.
    let train = Pairs::read(&plan.pairs, &plan.columns, inputs)?;
    let valid = plan.valid.as_ref().map(|path| Pairs::read(path, &plan.columns, inputs)).transpose()?;
    let words = train.words().chain(valid.iter().flat_map(Pairs::words));
    let lexicon = Lexicon::read(&plan.vectors, plan.max_vocab, words, inputs)?;
    let grades = Grades::of(train.pairs.iter().map(|pair| pair.label));
    let contrastive = matches!(plan.loss, Loss::Contrastive { .. });
    let wanted = "both similar and dissimilar pairs";
    if contrastive && grades.is_one() {
        return Err(Error::input(&plan.pairs, 0, format!("only the label {}", grades.low), wanted));
    }
    let encode = |pairs: &Pairs| Encoded::new(pairs, &lexicon.words, grades, inputs);
    let encoded = encode(&train)?;
    if contrastive && Grades::of(encoded.labels()).is_one() {
        let left = encoded.pairs();
        let found = format!("only one label in the {left} of {} pairs whose words have vectors", train.pairs.len());
        return Err(Error::input(&plan.pairs, 0, found, wanted));
    }
    let encoded_valid = valid.as_ref().map(encode).transpose()?;
    if let (Some(encoded), Some(valid)) = (&encoded_valid, &valid)
        && Grades::of(encoded.labels()).is_one()
    {
        return Err(Error::input(&valid.path, 0, "only one label", "pairs with at least two labels"));
    }
    let with = |hidden: usize| {
        let (words, embed, freeze) = (lexicon.words.len(), lexicon.width(), !plan.train_vectors);
        Siamese::new(siamese::Config { words, embed, hidden, loss: plan.loss, freeze })
    };
    let net = with(plan.hidden);
    let config = Config { net: net.config().clone(), grades };
    let bytes = |needs: Needs| {
        let net = with(needs.hidden.unwrap_or(plan.hidden));
        lexicon.beside(net.layout(), SiameseTask::bytes(&net, &encoded, encoded_valid.as_ref(), needs))
    };
    run.check_memory([Some(plan.hidden), None], bytes)?;

    run.open()?;
    run.progress.say(&format!(
        "{}, {} with vectors of {}, {} parameters, {} of them trained",
        counted(encoded.pairs(), "pair"),
        counted(lexicon.words.len() - 3, "word"),
        counted(lexicon.width(), "number"),
        net.layout().parameters(),
        net.trained().parameters()
    ));
    let w = match run.before::<TrainedSiamese>()? {
        None => {
            let mut w = Arena::zeros(net.layout());
            Init::Xavier.fill(&mut w, plan.run.seed);
            lexicon.fill(w.slice_mut(net.words()));
            w
        }
        Some(before) => {
            if before.config != config || before.words.words() != lexicon.words.words() {
                let expected = "the pairs and vectors of the run to resume";
                return Err(Error::input(&plan.pairs, 0, "different ones", expected));
            }
            before.w
        }
    };
    let files = run.files(&Saved::Siamese(config), vec![(VOCABULARY, lexicon.words.text().into_bytes())])?;
    drop(lexicon);
    let optimizer = plan.run.optimizer(net.trained()).lazy();
    let mut task = SiameseTask::new(&net, encoded, encoded_valid, plan.run.batch, plan.run.seed, files);
    run.fit(&mut task, w, optimizer, Precision::F32)
}
