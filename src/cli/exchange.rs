//! `wordmill export` and `wordmill import`: language models to PyTorch and back.
//!
//! PyTorch's weights are ours transposed. Its GRU has the gates in the order r, z, n with 1 − z in the place of z, so that the
//! weights and biases of z are negated (σ(−a) = 1 − σ(a)); the bias of q = h₋U_q + b_q is the third part of `bias_hh`.

use super::language_model::Trained;
use super::output_failed;
use super::saved::{CONFIG, Saved, VOCABULARY};
use super::vectors::words_and_vectors;
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::layers::recurrence::{Cell, Kind, Unit};
use crate::models::LanguageModel;
use crate::models::language_model::{Config, Loss};
use crate::params::{Arena, P};
use crate::text::Vocabulary;
use crate::train::fit::save_model;
use crate::train::tensor_file::{self, Header, Tensor, TensorMut};
use crate::train::writer::Writer;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::mem::take;
use std::path::{Path, PathBuf};

/// Write a language model for PyTorch: nn.Embedding, nn.RNN or nn.GRU, nn.Linear; or the word vectors of any model
///
/// For PyTorch, FILE gets the tensors embedding.weight, rnn.weight_ih_l0 … and output.weight, output.bias; FILE with .vocab.txt in the place of
/// its extension gets the words, a line each in the order of their numbers.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  wordmill export model --to pytorch model.safetensors
  wordmill export model --to word2vec vectors.txt
  python examples/pytorch.py model.safetensors test.txt")]
pub struct Export {
    /// Directory of the model
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// For which program
    #[arg(long, value_enum)]
    to: Program,
    /// File to write; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Programs that models are exchanged with.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Program {
    /// A safetensors file with the names of torch.nn
    Pytorch,
    /// Its word vectors, as word2vec's text: of any model that has words
    Word2vec,
}

/// Make a model of PyTorch's weights
///
/// FILE holds tensors as export writes them (a safetensors file); the cell, the sizes and the number of layers follow from their
/// names and shapes. Tables that are equal, or an output.weight that is missing,
/// mean tied weights.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  wordmill import trained.safetensors --vocab model.vocab.txt --out model")]
pub struct Import {
    /// File to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Words with their counts, as export writes them: word TAB count, a line each, in the order of their numbers
    #[arg(long, value_name = "FILE")]
    vocab: PathBuf,
    /// Directory of the model; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Non-linearity of an nn.RNN [default: what the file says, or tanh]
    #[arg(long, value_enum)]
    activation: Option<Activation>,
    /// Replace the model in --out
    #[arg(long)]
    force: bool,
}

/// The name of the note in a file that tells the non-linearity.
const NOTE: &str = "activation";

/// A matrix or bias under PyTorch's name.
struct Named {
    name: String,
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Named {
    fn new(name: impl Into<String>, shape: &[usize]) -> Self {
        Named { name: name.into(), shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] }
    }
}

/// PyTorch's tensors of a model, all zero: per layer weight_ih, weight_hh, bias_ih, bias_hh; then embedding, output and its bias.
fn tensors_of(config: &Config) -> Vec<Named> {
    let Config { words, embed, hidden, layers, .. } = *config;
    let rows = if config.cell == Cell::Gru { 3 * hidden } else { hidden };
    let layer = |l: usize| {
        let inputs = if l == 0 { embed } else { hidden };
        [
            Named::new(format!("rnn.weight_ih_l{l}"), &[rows, inputs]),
            Named::new(format!("rnn.weight_hh_l{l}"), &[rows, hidden]),
            Named::new(format!("rnn.bias_ih_l{l}"), &[rows]),
            Named::new(format!("rnn.bias_hh_l{l}"), &[rows]),
        ]
    };
    let tables = [
        Named::new("embedding.weight", &[words, embed]),
        Named::new("output.weight", &[words, hidden]),
        Named::new("output.bias", &[words]),
    ];
    (0..layers).flat_map(layer).chain(tables).collect()
}

/// Where a block of H rows of PyTorch's matrix is in ours: the block of columns, and its sign.
type Places = [(usize, f32); 3];
/// Rows r, z, n of weight_ih in W = [r | z | n], and of weight_hh in U = [q | r | z].
const INPUT: Places = [(0, 1.0), (1, -1.0), (2, 1.0)];
const RECURRENT: Places = [(1, 1.0), (2, -1.0), (0, 1.0)];
/// Where bias_ih and bias_hh have them in ours, [q | r | z | n], which are the sums of theirs.
const BIASES: [Places; 2] = [[(1, 1.0), (2, -1.0), (3, 1.0)], [(1, 1.0), (2, -1.0), (0, 1.0)]];
/// The same of a cell with one block.
const BIAS: [Places; 2] = [INPUT, INPUT];

/// Calls `f` with the places of equal elements, PyTorch's [rows, columns] and ours [columns, …], and the sign between them.
fn transposed(units: usize, blocks: usize, columns: usize, places: &Places, mut f: impl FnMut(usize, usize, f32)) {
    for (block, &(place, sign)) in places[..blocks].iter().enumerate() {
        for unit in 0..units {
            for column in 0..columns {
                let theirs = (block * units + unit) * columns + column;
                f(theirs, (column * blocks + place) * units + unit, sign);
            }
        }
    }
}

/// Calls `f` with the places of the biases: 0 for bias_ih and 1 for bias_hh, the place there, that in ours, and the sign.
fn biases(units: usize, blocks: usize, mut f: impl FnMut(usize, usize, usize, f32)) {
    let all = if blocks == 3 { BIASES } else { BIAS };
    for (which, places) in all.iter().enumerate() {
        for (block, &(place, sign)) in places[..blocks].iter().enumerate() {
            (0..units).for_each(|unit| f(which, block * units + unit, place * units + unit, sign));
        }
    }
}

/// Refuses what PyTorch's nn.RNN and nn.GRU do not have.
fn refuse(config: &Config) -> Result<()> {
    let what = match config.cell {
        Cell::GatedFeedback(_) => "a gated-feedback net",
        Cell::Rnn(Activation::Sigmoid) => "sigmoid units",
        _ if matches!(config.loss, Loss::Adaptive { .. }) => "an output layer in parts",
        _ if config.reset_at.is_some() => "states that are reset at the end of a sentence",
        _ => return Ok(()),
    };
    Err(Error::Usage(format!("PyTorch's nn.RNN and nn.GRU have nothing like {what}: this model cannot be exported")))
}

/// The tensors of a language model. What is multiplied at test time, after dropout without scaling, goes into the weights.
fn to_pytorch(model: &LanguageModel, w: &Arena<f32>) -> Vec<Named> {
    let config = model.config();
    let (units, blocks) = (config.hidden, if config.cell == Cell::Gru { 3 } else { 1 });
    let mut all = tensors_of(config);
    let factor = config.at_test as f32;
    for (l, p) in model.stack().iter().enumerate() {
        let [ih, hh, bih, bhh] = &mut all[4 * l..][..4] else { unreachable!("four tensors a layer") };
        let (input, recurrent, bias) = (w.slice(p.input), w.slice(p.recurrent), w.slice(p.bias));
        transposed(units, blocks, ih.shape[1], &INPUT, |i, j, sign| ih.data[i] = sign * factor * input[j]);
        let places = if blocks == 3 { &RECURRENT } else { &INPUT };
        transposed(units, blocks, units, places, |i, j, sign| hh.data[i] = sign * recurrent[j]);
        // All of a sum goes to the first of its parts.
        let mut rest = bias.to_vec();
        biases(units, blocks, |which, i, j, sign| [&mut *bih, &mut *bhh][which].data[i] = sign * take(&mut rest[j]));
    }
    let [embedding, output, bias] = &mut all[4 * config.layers..] else { unreachable!("three tables") };
    let [l, u, b] = model.tables();
    embedding.data.copy_from_slice(w.slice(l));
    output.data.iter_mut().zip(w.slice(u)).for_each(|(x, y)| *x = factor * y);
    bias.data.copy_from_slice(w.slice(b));
    all
}

/// The other way: fills `w`.
fn of_pytorch(model: &LanguageModel, w: &mut Arena<f32>, all: &[Named]) {
    let config = model.config();
    let (units, blocks) = (config.hidden, if config.cell == Cell::Gru { 3 } else { 1 });
    for (l, p) in model.stack().iter().enumerate() {
        let [ih, hh, bih, bhh] = &all[4 * l..][..4] else { unreachable!("four tensors a layer") };
        let input = w.slice_mut(p.input);
        transposed(units, blocks, ih.shape[1], &INPUT, |i, j, sign| input[j] = sign * ih.data[i]);
        let recurrent = w.slice_mut(p.recurrent);
        let places = if blocks == 3 { &RECURRENT } else { &INPUT };
        transposed(units, blocks, units, places, |i, j, sign| recurrent[j] = sign * hh.data[i]);
        let bias = w.slice_mut(p.bias);
        bias.fill(0.0);
        biases(units, blocks, |which, i, j, sign| bias[j] += sign * [bih, bhh][which].data[i]);
    }
    let [embedding, output, bias] = &all[4 * config.layers..] else { unreachable!("three tables") };
    let [l, u, b] = model.tables();
    let mut put = |p: P, x: &Named| w.slice_mut(p).copy_from_slice(&x.data);
    put(l, embedding);
    put(b, bias);
    if !config.tie {
        put(u, output);
    }
}

impl Export {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        if let Program::Word2vec = self.to {
            return self.vectors(out);
        }
        let Trained { model, w, vocabulary } = Trained::load(&self.model)?;
        refuse(model.config())?;
        let named = to_pytorch(&model, &w);
        let tensors: Vec<Tensor> =
            named.iter().map(|x| Tensor { name: &x.name, shape: &x.shape, data: x.data.as_slice().into() }).collect();
        let activation = format!("{:?}", model.config().cell.activation()).to_lowercase();
        let notes = [("format", "pt".to_owned()), (NOTE, activation)];
        let words = self.file.with_extension("vocab.txt");
        let write = |path: &Path, write: &dyn Fn(&mut BufWriter<File>) -> std::io::Result<()>| {
            let file = File::create_new(path).map_err(|e| Error::io(path, "making the file", e))?;
            let mut file = BufWriter::new(file);
            write(&mut file).and_then(|()| file.flush()).map_err(|e| Error::io(path, "writing", e))
        };
        if let Some(path) = [&self.file, &words].into_iter().find(|path| path.exists()) {
            return Err(Error::input(path, 0, "a file that is there already", "the name of a new file"));
        }
        let written = write(&self.file, &|file| tensor_file::write(file, &notes, &tensors))
            .and_then(|()| write(&words, &|file| vocabulary.write_to(file)));
        if written.is_err() {
            // Half an export is none; what cannot be removed is told by the next one.
            _ = std::fs::remove_file(&self.file);
            _ = std::fs::remove_file(&words);
        }
        written?;
        writeln!(out, "{} and {}", self.file.display(), words.display()).map_err(output_failed)
    }
}

impl Export {
    /// A line with the numbers of words and of numbers a word, then each word and its numbers. Words that stand for none of a text are
    /// left out.
    fn vectors(&self, out: &mut dyn Write) -> Result<()> {
        let (words, table) = words_and_vectors(&self.model)?;
        let width = table.len() / words.len();
        let kept = |word: &str| !matches!(word, "<unk>" | "<eos>" | "<s>" | "</s>") && !word.contains(' ');
        let rows = words.iter().zip(table.chunks_exact(width)).filter(|(word, _)| kept(word));
        let path = &self.file;
        let file = File::create_new(path).map_err(|e| Error::io(path, "making the file", e))?;
        let mut file = BufWriter::new(file);
        let mut write = || {
            writeln!(file, "{} {width}", rows.clone().count())?;
            for (word, row) in rows.clone() {
                write!(file, "{word}")?;
                row.iter().try_for_each(|x| write!(file, " {x}"))?;
                writeln!(file)?;
            }
            file.flush()
        };
        let written = write();
        if written.is_err() {
            // Half a file is none; what cannot be removed is told by the next export.
            _ = std::fs::remove_file(path);
        }
        written.map_err(|e| Error::io(path, "writing", e))?;
        writeln!(out, "{}", path.display()).map_err(output_failed)
    }
}

impl Import {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        Writer::check_free(&self.out, self.force)?;
        let vocabulary = Vocabulary::read(&self.vocab)?;
        let path = &self.file;
        if path.is_dir() {
            return Err(Error::input(path, 0, "a directory", "a safetensors file"));
        }
        let mut file = File::open(path).map_err(|e| Error::io(path, "reading", e))?;
        let header = Header::read(&mut file, path)?;
        let mut config = self.config(&header, vocabulary.len())?;
        // Before anything of these sizes is allocated.
        let held: usize = header.shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let least = LanguageModel::new(config.clone()).layout().parameters();
        if held < least {
            let found = format!("tensors of {held} numbers together");
            return Err(Error::input(path, 0, found, format!("at least {least}, as their shapes ask for")));
        }
        let mut all = tensors_of(&config);
        let kept = if config.tie { all.len() - 2..all.len() - 1 } else { 0..0 };
        let mut targets: Vec<TensorMut> = Vec::new();
        for (i, x) in all.iter_mut().enumerate() {
            if !kept.contains(&i) {
                targets.push(TensorMut { name: &x.name, shape: &x.shape, data: x.data.as_mut_slice().into() });
            }
        }
        header.read_tensors(&mut file, path, &mut targets)?;
        if let Some(x) = all.iter().find(|x| x.data.iter().any(|x| !x.is_finite())) {
            return Err(Error::input(path, 0, format!("{} with a value that is not finite", x.name), "finite weights"));
        }
        let [embedding, output, _] = &all[all.len() - 3..] else { unreachable!("three tables") };
        config.tie |= embedding.shape == output.shape && embedding.data == output.data;
        let model = LanguageModel::new(config);
        let mut w = Arena::zeros(model.layout());
        of_pytorch(&model, &mut w, &all);
        let mut words = Vec::new();
        vocabulary.write_to(&mut words).map_err(|e| Error::io(&self.out, "listing the vocabulary", e))?;
        let saved = Saved::LanguageModel(model.config().clone()).to_json();
        let writer = Writer::create(&self.out, self.force)?;
        save_model(&writer, &w, &[(CONFIG, &saved), (VOCABULARY, &words)])?;
        let parameters = model.layout().parameters();
        writeln!(out, "{parameters} parameters in {}", self.out.display()).map_err(output_failed)
    }

    /// What the names and shapes of the tensors say.
    fn config(&self, header: &Header, words: usize) -> Result<Config> {
        let shapes = header.shapes();
        let path = &self.file;
        let shape = |name: &str| shapes.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.as_slice());
        let matrix = |name: &str| match shape(name) {
            Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok((rows, columns)),
            Some(other) => Err(Error::input(path, 0, format!("{name} of shape {other:?}"), "a matrix")),
            None => Err(Error::input(path, 0, format!("no tensor {name}"), "the tensors that export writes")),
        };
        let (rows, embed) = matrix("embedding.weight")?;
        if rows != words {
            let found = format!("embedding.weight with {rows} rows");
            return Err(Error::input(
                path,
                0,
                found,
                format!("one for each of the {words} words of {}", self.vocab.display()),
            ));
        }
        let (rows, hidden) = matrix("rnn.weight_hh_l0")?;
        let cell = match rows / hidden {
            1 => Kind::Rnn,
            3 => Kind::Gru,
            _ => {
                let found = format!("rnn.weight_hh_l0 of shape [{rows}, {hidden}]");
                return Err(Error::input(path, 0, found, "that of an nn.RNN [H, H] or an nn.GRU [3H, H]"));
            }
        };
        let layers = (0..).take_while(|l| shape(&format!("rnn.weight_hh_l{l}")).is_some()).count();
        let noted = match header.note(NOTE) {
            Some("relu") => Activation::Relu,
            Some("tanh") | None => Activation::Tanh,
            Some(other) if self.activation.is_none() => {
                let found = format!("a note that the activation is {other:?}");
                return Err(Error::input(path, 0, found, "tanh or relu; or give --activation"));
            }
            Some(_) => Activation::Tanh,
        };
        let tie = shape("output.weight").is_none();
        if tie && embed != hidden {
            let found = format!("no output.weight, and word vectors of width {embed}");
            return Err(Error::input(path, 0, found, format!("width {hidden}, as tied weights have")));
        }
        if layers > 64 {
            return Err(Error::input(path, 0, format!("{layers} layers"), "at most 64"));
        }
        if self.activation.is_some() && cell != Kind::Rnn {
            return Err(Error::Usage("--activation is for an nn.RNN; the file holds an nn.GRU".into()));
        }
        let activation = self.activation.unwrap_or(noted);
        let cell = Cell::new(cell, activation, Unit::Gru);
        Ok(Config { words, embed, hidden, layers, cell, tie, ..Config::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::language_model::Window;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What is written is read, of any sizes.
        #[test]
        fn any_model_goes_there_and_back(
            (words, hidden, layers) in (3usize..9, 1usize..7, 1usize..4),
            (embed, gru, tie) in (1usize..7, any::<bool>(), any::<bool>()),
            seed in any::<u64>(),
        ) {
            let (cell, embed) = (if gru { Cell::Gru } else { Cell::Rnn(Activation::Tanh) }, if tie { hidden } else { embed });
            let model = LanguageModel::new(Config { words, embed, hidden, layers, cell, tie, ..Config::default() });
            let mut w = Arena::<f32>::zeros(model.layout());
            crate::models::Init::Uniform.fill(&mut w, seed);
            let mut again = Arena::zeros(model.layout());
            of_pytorch(&model, &mut again, &to_pytorch(&model, &w));
            prop_assert_eq!(again.all(), w.all());
        }
    }

    #[test]
    fn there_and_back() {
        for (cell, tie) in [(Cell::Rnn(Activation::Tanh), false), (Cell::Gru, false), (Cell::Gru, true)] {
            let embed = if tie { 4 } else { 3 };
            let config = Config { words: 7, embed, hidden: 4, layers: 2, cell, tie, ..Config::default() };
            let model = LanguageModel::new(config.clone());
            let mut w = Arena::<f32>::zeros(model.layout());
            crate::models::Init::Uniform.fill(&mut w, 1);
            for (p, tensor) in model.layout().tensors() {
                let bias = tensor.rows == 1;
                w.slice_mut(p).iter_mut().enumerate().for_each(|(i, x)| *x += if bias { i as f32 * 0.01 } else { 0.0 });
            }
            let mut again = Arena::zeros(model.layout());
            of_pytorch(&model, &mut again, &to_pytorch(&model, &w));
            assert_eq!(again.all(), w.all(), "{cell:?}");

            // A model that multiplies at test time gives the same probabilities when it does not, with the exported weights.
            let config = Config { tie: false, embed: 4, ..config };
            let model = LanguageModel::new(Config { at_test: 0.5, ..config.clone() });
            let plain = LanguageModel::new(config);
            let mut w = Arena::<f32>::zeros(model.layout());
            crate::models::Init::Uniform.fill(&mut w, 2);
            let mut folded = Arena::zeros(plain.layout());
            of_pytorch(&plain, &mut folded, &to_pytorch(&model, &w));
            let of = |model: &LanguageModel, w: &Arena<f32>| {
                let mut out = [0.0; 3];
                let window = Window { inputs: &[1, 2, 6], targets: &[2, 6, 0], loss_from: 0 };
                model.log_probabilities(&mut out, &mut model.space(3, 1), window, w);
                out
            };
            for (a, b) in of(&model, &w).into_iter().zip(of(&plain, &folded)) {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        }
    }
}
