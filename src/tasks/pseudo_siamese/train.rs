//! Training of a pseudo-Siamese network on words with labels, or on rows of numbers.

use super::{Encoded, PseudoSiameseTask, Sees, TrainedPseudoSiamese};
use crate::blas::Precision;
use crate::error::{Error, Result, counted};
use crate::models::pseudo_siamese;
use crate::models::{Init, PseudoSiamese};
use crate::params::Arena;
use crate::tasks::columns::Choice;
use crate::tasks::lexicon::Lexicon;
use crate::tasks::memory::Needs;
use crate::tasks::run::{self, Run, Summary};
use crate::tasks::saved::{PseudoSiameseConfig as Config, Saved, VOCABULARY};
use crate::text::Inputs;
use crate::text::labelled::LabelledWords;
use crate::train::progress::Progress;
use std::path::PathBuf;

/// The plan for training a pseudo-Siamese network.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Words with labels, or the rows of a CSV file.
    pub train: PathBuf,
    /// The same for validation; accuracy is computed after every epoch.
    pub valid: Option<PathBuf>,
    /// How words or rows are read.
    pub source: Sees<WordSource, Choice>,
    /// Hidden units of each of the two layers.
    pub hidden: usize,
    /// The fraction of units whose expected dropout penalty is added.
    pub dropout_penalty: f64,
    /// The run.
    pub run: run::Plan,
}

/// Words and their vectors.
#[derive(Clone, Debug)]
pub struct WordSource {
    /// The file of word vectors.
    pub vectors: PathBuf,
    /// Number of leading rows that the model keeps, besides those of the labelled words.
    pub max_vocab: usize,
    /// Whether the vectors are frozen.
    pub freeze: bool,
    /// Columns of a word and its label, from 1; if empty, the first suitable columns.
    pub columns: Vec<usize>,
}

impl Plan {
    /// The defaults of the program, for the rows of a CSV file.
    pub fn new(train: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Plan {
            train: train.into(),
            valid: None,
            source: Sees::Columns(Choice::default()),
            hidden: 100,
            dropout_penalty: 0.0,
            run: run::Plan { l2: 0.0001, ..run::Plan::new(out) },
        }
    }
}

/// The data of a run.
struct Data {
    train: Encoded,
    valid: Option<Encoded>,
    labels: Vec<String>,
    sees: Sees<Lexicon>,
}

impl Data {
    /// Words, and their vectors in `vectors`.
    fn of_words(plan: &Plan, words: &WordSource, inputs: &Inputs) -> Result<Self> {
        let train = LabelledWords::read(&plan.train, &words.columns, inputs)?;
        let valid = plan.valid.as_ref().map(|path| LabelledWords::read(path, &words.columns, inputs)).transpose()?;
        let labels = train.labels();
        if labels.len() < 2 {
            let found = format!("only the label {}", labels[0]);
            return Err(Error::input(&plan.train, 0, found, "at least two labels"));
        }
        let of_data =
            train.words.iter().chain(valid.iter().flat_map(|valid| &valid.words)).map(|word| word.word.as_str());
        let lexicon = Lexicon::read(&words.vectors, words.max_vocab, of_data, inputs)?;
        let encode = |file: &LabelledWords| Encoded::words(file, &lexicon.words, &labels, inputs);
        let (train, valid) = (encode(&train)?, valid.as_ref().map(encode).transpose()?);
        Ok(Data { train, valid, labels, sees: Sees::Words(lexicon) })
    }

    /// The rows of CSV files.
    fn of_rows(plan: &Plan, choice: &Choice, inputs: &Inputs) -> Result<Self> {
        let (train, columns) = choice.read(&plan.train, inputs).map_err(|error| match error {
            Error::Input { path, line, found, expected } => Error::Input {
                path,
                line,
                found,
                expected: format!("{expected} (or --vectors, for words with labels)"),
            },
            other => other,
        })?;
        let valid = plan.valid.as_ref().map(|path| columns.read(path, &train.names, inputs)).transpose()?;
        let labels = train.names.clone();
        Ok(Data { train: Encoded::rows(train), valid: valid.map(Encoded::rows), labels, sees: Sees::Columns(columns) })
    }
}

/// Trains, inside a thread pool.
pub fn train(plan: &Plan, inputs: &Inputs, progress: Progress) -> Result<Summary> {
    let data = [("train", Some(plan.train.as_path())), ("valid", plan.valid.as_deref())];
    let (vectors, progress) = match &plan.source {
        Sees::Words(words) => (Some(words.vectors.as_path()), progress),
        Sees::Columns(_) => (None, progress.without_perplexity().counting("examples")),
    };
    let mut run = Run::begin(&plan.run, "pseudo-siamese", data, &[("vectors", vectors)], inputs, progress)?;
    // Inputs are read before an existing model is replaced.
    let Data { train, valid, labels, sees } = match &plan.source {
        Sees::Words(words) => Data::of_words(plan, words, inputs)?,
        Sees::Columns(choice) => Data::of_rows(plan, choice, inputs)?,
    };
    let (words, embed) = match &sees {
        Sees::Words(lexicon) => (Some(lexicon.words.len()), lexicon.width()),
        Sees::Columns(columns) => (None, columns.count()),
    };
    let freeze = match &plan.source {
        Sees::Words(words) => words.freeze,
        Sees::Columns(_) => true,
    };
    let with = |hidden: usize| {
        PseudoSiamese::new(pseudo_siamese::Config {
            words,
            embed,
            hidden,
            labels: labels.len(),
            freeze,
            dropout_penalty: plan.dropout_penalty,
        })
    };
    let net = with(plan.hidden);
    let bytes = |needs: Needs| {
        let net = with(needs.hidden.unwrap_or(plan.hidden));
        let training = PseudoSiameseTask::bytes(&net, &train, valid.as_ref(), needs);
        match &sees {
            Sees::Words(lexicon) => lexicon.beside(net.layout(), training),
            Sees::Columns(_) => training,
        }
    };
    run.check_memory([Some(plan.hidden), None], bytes)?;
    let columns = match &sees {
        Sees::Words(_) => None,
        Sees::Columns(columns) => Some(columns.clone()),
    };
    let config = Config { net: net.config().clone(), labels, columns };

    run.open()?;
    let (examples, labels, parameters) = (train.examples(), config.labels.len(), net.layout().parameters());
    run.progress.say(&match &sees {
        Sees::Words(lexicon) => format!(
            "{} with {labels} labels, {} with vectors of {}, {parameters} parameters, {} of them trained",
            counted(examples, "word"),
            counted(lexicon.words.len() - 3, "word"),
            counted(embed, "number"),
            net.trained().parameters()
        ),
        Sees::Columns(_) => format!(
            "{} of {}, {labels} labels, {parameters} parameters",
            counted(examples, "example"),
            counted(embed, "number")
        ),
    });
    let w = match run.before::<TrainedPseudoSiamese>()? {
        None => {
            let mut w = Arena::zeros(net.layout());
            Init::Xavier.fill(&mut w, plan.run.seed);
            if let (Sees::Words(lexicon), Some(table)) = (&sees, net.words()) {
                lexicon.fill(w.slice_mut(table));
            }
            w
        }
        Some(before) => {
            let same_input = match (&before.sees, &sees) {
                (Sees::Words(before), Sees::Words(now)) => before.words() == now.words.words(),
                (Sees::Columns(before), Sees::Columns(now)) => now.continues(before),
                _ => false,
            };
            if before.config.net != config.net || before.config.labels != config.labels || !same_input {
                let what = if words.is_some() { "words and vectors" } else { "rows" };
                let expected = format!("the {what} of the run to resume");
                return Err(Error::input(&plan.train, 0, "different ones", expected));
            }
            before.w
        }
    };
    let words = match sees {
        Sees::Words(lexicon) => vec![(VOCABULARY, lexicon.words.text().into_bytes())],
        Sees::Columns(_) => Vec::new(),
    };
    let files = run.files(&Saved::PseudoSiamese(config), words)?;
    let optimizer = plan.run.optimizer(net.trained()).lazy();
    let mut task = PseudoSiameseTask::new(&net, train, valid, plan.run.batch, plan.run.seed, files);
    run.fit(&mut task, w, optimizer, Precision::F32)
}
