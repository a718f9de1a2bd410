//! Export of language models to PyTorch, and import from it.
//!
//! PyTorch's weights are ours transposed, with blocks in another order ([`Torch`]). Its GRU has the gates in the order r, z, n, with 1
//! − z in place of z, so that the weights and biases of z are negated (σ(−a) = 1 − σ(a)); the bias of q = h₋U_q + b_q is the third part
//! of `bias_hh`.

use super::language_model::TrainedLm;
use super::saved::{CONFIG, Saved, VOCABULARY};
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::layers::cells::{Cell, Columns, Kind, Torch, Unit};
use crate::models::LanguageModel;
use crate::models::language_model::{Config, Loss};
use crate::notices::Notice;
use crate::params::{Arena, TensorId};
use crate::text::{Inputs, Vocabulary};
use crate::train::fit::save_model;
use crate::train::tensor_file::{self, Header, Tensor};
use crate::train::writer::Writer;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::mem::take;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The name of the metadata entry that holds the nonlinearity.
const NOTE: &str = "activation";

/// A matrix or bias under PyTorch's name.
struct Named {
    name: String,
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// Names and shapes of a model's tensors in PyTorch: per layer weight_ih, weight_hh, bias_ih, bias_hh; then embedding,
/// output and its bias.
fn names_of(config: &Config) -> Vec<(String, Vec<usize>)> {
    let Config { words, embed, hidden, layers, .. } = *config;
    let rows = columns(config).torch.rows.len() * hidden;
    let layer = |l: usize| {
        let inputs = if l == 0 { embed } else { hidden };
        [
            (format!("rnn.weight_ih_l{l}"), vec![rows, inputs]),
            (format!("rnn.weight_hh_l{l}"), vec![rows, hidden]),
            (format!("rnn.bias_ih_l{l}"), vec![rows]),
            (format!("rnn.bias_hh_l{l}"), vec![rows]),
        ]
    };
    let tables = [
        ("embedding.weight".to_owned(), vec![words, embed]),
        ("output.weight".to_owned(), vec![words, hidden]),
        ("output.bias".to_owned(), vec![words]),
    ];
    (0..layers).flat_map(layer).chain(tables).collect()
}

/// The same tensors, all zero, after `check` has accepted each of them.
fn tensors_of(config: &Config, check: impl Fn(&str, &[usize]) -> Result<()>) -> Result<Vec<Named>> {
    let names = names_of(config);
    names.iter().try_for_each(|(name, shape)| check(name, shape))?;
    Ok(names.into_iter().map(|(name, shape)| Named { data: vec![0.0; shape.iter().product()], name, shape }).collect())
}

/// Calls `f` with the positions of equal elements, in PyTorch's [rows, columns] and in ours [columns, `blocks`], and the sign between
/// them. `places`: the positions of its blocks of H rows in ours, and their signs.
fn transposed(
    units: usize,
    columns: usize,
    blocks: &Range<usize>,
    places: impl Iterator<Item = (usize, f32)>,
    mut f: impl FnMut(usize, usize, f32),
) {
    for (block, (place, sign)) in places.enumerate() {
        for unit in 0..units {
            for column in 0..columns {
                let theirs = (block * units + unit) * columns + column;
                f(theirs, (column * blocks.len() + place - blocks.start) * units + unit, sign);
            }
        }
    }
}

/// The blocks of ours that correspond to weight_ih and bias_ih, with their signs; and those of weight_hh and bias_hh. Ours has one bias
/// for both.
fn places(torch: Torch) -> [impl Iterator<Item = (usize, f32)> + Clone; 2] {
    [false, true].map(|of_state| {
        torch.rows.iter().map(move |&(input, recurrent, sign)| (if of_state { recurrent } else { input }, sign))
    })
}

/// Calls `f` with the positions of the biases: 0 for bias_ih or 1 for bias_hh, the position there, the position in ours, and the sign.
fn biases(units: usize, torch: Torch, mut f: impl FnMut(usize, usize, usize, f32)) {
    for (which, places) in places(torch).into_iter().enumerate() {
        for (block, (place, sign)) in places.enumerate() {
            (0..units).for_each(|unit| f(which, block * units + unit, place * units + unit, sign));
        }
    }
}

/// The blocks of a model that PyTorch supports.
fn columns(config: &Config) -> &'static Columns {
    config.cell.stacked().expect("others are refused").columns()
}

/// PyTorch's modules of recurrent layers with their blocks of rows, and the corresponding cells.
fn modules() -> impl Iterator<Item = (Torch, Kind)> {
    Kind::ALL.into_iter().filter_map(|kind| Some((Cell::from(kind).stacked()?.columns().torch, kind)))
}

/// The names of all modules, such as "nn.RNN or nn.GRU".
fn names_of_modules(name: impl Fn(Torch) -> String) -> String {
    let names: Vec<String> = modules().map(|(torch, _)| name(torch)).collect();
    let (last, others) = names.split_last().expect("there are cells");
    format!("{} or {last}", others.join(", "))
}

/// Rejects models that PyTorch's recurrent layers cannot represent.
fn refuse(config: &Config) -> Result<()> {
    let what = match config.cell {
        Cell::GatedFeedback(_) => "a gated-feedback net",
        Cell::Rnn(Activation::Sigmoid) => "sigmoid units",
        _ if matches!(config.loss, Loss::Adaptive { .. }) => "an adaptive softmax",
        _ if config.reset_at.is_some() => "states that are reset at the end of a sentence",
        _ => return Ok(()),
    };
    Err(Error::Usage(format!("PyTorch's recurrent layers have no equivalent of {what}: this model cannot be exported")))
}

/// The tensors of a language model. Factors applied at test time, after dropout without scaling, are folded into the weights.
fn to_pytorch(model: &LanguageModel, w: &Arena<f32>) -> Vec<Named> {
    let config = model.config();
    let (units, columns) = (config.hidden, columns(config));
    let mut all = tensors_of(config, |_, _| Ok(())).expect("all are allowed");
    let factor = config.at_test as f32;
    for (l, p) in model.stack().iter().enumerate() {
        let [ih, hh, bih, bhh] = &mut all[4 * l..][..4] else { unreachable!("four tensors a layer") };
        let (input, recurrent, bias) = (w.slice(p.input), w.slice(p.recurrent), w.slice(p.bias));
        let [of_input, of_state] = places(columns.torch);
        transposed(units, ih.shape[1], &columns.input, of_input, |i, j, sign| ih.data[i] = sign * factor * input[j]);
        transposed(units, units, &columns.recurrent, of_state, |i, j, sign| hh.data[i] = sign * recurrent[j]);
        // Of two biases that are added, the first gets the whole value.
        let mut rest = bias.to_vec();
        biases(units, columns.torch, |which, i, j, sign| {
            [&mut *bih, &mut *bhh][which].data[i] = sign * take(&mut rest[j])
        });
    }
    let [embedding, output, bias] = &mut all[4 * config.layers..] else { unreachable!("three tables") };
    let [l, u, b] = model.tables();
    embedding.data.copy_from_slice(w.slice(l));
    output.data.iter_mut().zip(w.slice(u)).for_each(|(x, y)| *x = factor * y);
    bias.data.copy_from_slice(w.slice(b));
    all
}

/// The inverse: fills `w`.
fn of_pytorch(model: &LanguageModel, w: &mut Arena<f32>, all: &[Named]) {
    let config = model.config();
    let (units, columns) = (config.hidden, columns(config));
    for (l, p) in model.stack().iter().enumerate() {
        let [ih, hh, bih, bhh] = &all[4 * l..][..4] else { unreachable!("four tensors a layer") };
        let input = w.slice_mut(p.input);
        let [of_input, of_state] = places(columns.torch);
        transposed(units, ih.shape[1], &columns.input, of_input, |i, j, sign| input[j] = sign * ih.data[i]);
        let recurrent = w.slice_mut(p.recurrent);
        transposed(units, units, &columns.recurrent, of_state, |i, j, sign| recurrent[j] = sign * hh.data[i]);
        let bias = w.slice_mut(p.bias);
        bias.fill(0.0);
        biases(units, columns.torch, |which, i, j, sign| bias[j] += sign * [bih, bhh][which].data[i]);
    }
    let [embedding, output, bias] = &all[4 * config.layers..] else { unreachable!("three tables") };
    let [l, u, b] = model.tables();
    let mut put = |p: TensorId, x: &Named| w.slice_mut(p).copy_from_slice(&x.data);
    put(l, embedding);
    put(b, bias);
    if !config.tie {
        put(u, output);
    }
}

/// Writes the weights of a model as a safetensors file with the names of torch.nn, and its words next to it; returns
/// the path of the words.
pub fn export(trained: &TrainedLm, to: &Path) -> Result<PathBuf> {
    let TrainedLm { model, w, vocabulary } = trained;
    refuse(model.config())?;
    let named = to_pytorch(model, w);
    let tensors: Vec<Tensor> =
        named.iter().map(|x| Tensor { name: &x.name, shape: &x.shape, data: x.data.as_slice().into() }).collect();
    let activation = format!("{:?}", model.config().cell.activation()).to_lowercase();
    let notes = [("format", "pt".to_owned()), (NOTE, activation)];
    let words = to.with_extension("vocab.txt");
    let write = |path: &Path, write: &dyn Fn(&mut BufWriter<File>) -> std::io::Result<()>| {
        let file = File::create_new(path).map_err(|e| Error::io(path, "making the file", e))?;
        let mut file = BufWriter::new(file);
        write(&mut file).and_then(|()| file.flush()).map_err(|e| Error::io(path, "writing", e))
    };
    if let Some(path) = [to, &words].into_iter().find(|path| path.exists()) {
        return Err(Error::input(path, 0, "an existing file", "the name of a new file"));
    }
    let written = write(to, &|file| tensor_file::write(file, &notes, &tensors))
        .and_then(|()| write(&words, &|file| vocabulary.write_to(file)));
    if written.is_err() {
        // An incomplete export is removed; if that fails, the next export reports it.
        _ = std::fs::remove_file(to);
        _ = std::fs::remove_file(&words);
    }
    written.map(|()| words)
}

/// A model of another program.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// A safetensors file of its weights.
    pub file: &'a Path,
    /// The file of its words, with their counts.
    pub words: &'a Path,
    /// The nonlinearity of an nn.RNN, if it differs from the one noted in the file.
    pub activation: Option<Activation>,
}

/// Creates a model directory `out` from PyTorch weights, replacing an existing one if `force`; returns the number of its parameters.
pub fn import(source: &Source, out: &Path, force: bool, inputs: &Inputs) -> Result<usize> {
    Writer::check_free(out, force)?;
    let vocabulary = Vocabulary::read(source.words)?;
    let path = source.file;
    if path.is_dir() {
        return Err(Error::input(path, 0, "a directory", "a safetensors file"));
    }
    let mut file = File::open(path).map_err(|e| Error::io(path, "reading", e))?;
    refuse_pickles(&mut file, path)?;
    let header = Header::read(&mut file, path)?;
    let theirs = Theirs::of(&header, path)?;
    let mut config = config(&header, &theirs, vocabulary.len(), source)?;
    let mut all = tensors_of(&config, |name, shape| theirs.check(name, shape, path))?;
    let mut zero = Vec::new();
    for x in &mut all {
        match theirs.find(&x.name) {
            Some((name, _)) => header.read_as_f32(&mut file, path, name, &mut x.data)?,
            // Tied weights are one table; biases may be missing.
            None if x.name.ends_with(".weight") => {}
            None => zero.push(x.name.clone()),
        }
        if x.data.iter().any(|x| !x.is_finite()) {
            let found = format!("{} with a non-finite value", x.name);
            return Err(Error::input(path, 0, found, "finite weights"));
        }
    }
    if !zero.is_empty() {
        inputs.warn(Notice::of_file(path, 0, format!("no {}", zero.join(", "))).done("initialised to zero"))?;
    }
    let [embedding, output, _] = &mut all[config.layers * 4..] else { unreachable!("three tables") };
    if theirs.find(&embedding.name).is_none() {
        embedding.data.copy_from_slice(&output.data);
    }
    config.tie |= embedding.shape == output.shape && embedding.data == output.data;
    let model = LanguageModel::new(config);
    let mut w = Arena::zeros(model.layout());
    of_pytorch(&model, &mut w, &all);
    let mut words = Vec::new();
    vocabulary.write_to(&mut words).map_err(|e| Error::io(out, "listing the vocabulary", e))?;
    let saved = Saved::LanguageModel(model.config().clone()).to_json();
    let writer = Writer::create(out, force)?;
    writer.warnings.iter().try_for_each(|warning| inputs.warn(Notice::new(warning)))?;
    save_model(&writer, &w, &[(CONFIG, &saved), (VOCABULARY, &words)])?;
    Ok(model.layout().parameters())
}

/// The configuration that names and shapes of the tensors imply.
fn config(header: &Header, theirs: &Theirs, words: usize, source: &Source) -> Result<Config> {
    let path = source.file;
    let shape = |name: &str| theirs.find(name).map(|(_, shape)| shape);
    let matrix = |name: &str| match theirs.find(name) {
        Some((_, &[rows, columns])) if rows > 0 && columns > 0 => Ok((rows, columns)),
        Some((name, other)) => Err(Error::input(path, 0, format!("{name} of shape {other:?}"), "a matrix")),
        None => {
            let all: Vec<&str> = theirs.names.values().map(|(name, _)| name.as_str()).take(12).collect();
            let found = format!("no tensor {name} among {}", all.join(", "));
            let modules = names_of_modules(|torch| torch.module.into());
            Err(Error::input(path, 0, found, format!("those of an nn.Embedding, an {modules} and an nn.Linear")))
        }
    };
    let (recurrent, hidden) = matrix("rnn.weight_hh_l0")?;
    let Some((torch, cell)) = modules().find(|(torch, _)| torch.rows.len() * hidden == recurrent) else {
        let found = format!("rnn.weight_hh_l0 of shape [{recurrent}, {hidden}]");
        let expected = names_of_modules(|torch| match torch.rows.len() {
            1 => format!("an {} [H, H]", torch.module),
            blocks => format!("an {} [{blocks}H, H]", torch.module),
        });
        return Err(Error::input(path, 0, found, format!("that of {expected}")));
    };
    // Tied weights are one table, under the name of either.
    let table =
        if shape("embedding.weight").is_none() && shape("output.weight").is_some() { "output" } else { "embedding" };
    let (rows, embed) = matrix(&format!("{table}.weight"))?;
    if rows != words {
        let found = format!("{table}.weight with {rows} rows");
        let expected = format!("one for each of the {words} words of {}", source.words.display());
        return Err(Error::input(path, 0, found, expected));
    }
    let layers = (0..).take_while(|l| shape(&format!("rnn.weight_hh_l{l}")).is_some()).count();
    let noted = match header.note(NOTE) {
        Some("relu") => Activation::Relu,
        Some("tanh") | None => Activation::Tanh,
        Some(other) if source.activation.is_none() => {
            let found = format!("metadata with the activation {other:?}");
            return Err(Error::input(path, 0, found, "tanh or relu; or give --activation"));
        }
        Some(_) => Activation::Tanh,
    };
    let tie = shape("output.weight").is_none() || shape("embedding.weight").is_none();
    if tie && embed != hidden {
        let other = if table == "output" { "embedding" } else { "output" };
        let found = format!("no {other}.weight, and word vectors of width {embed}");
        return Err(Error::input(path, 0, found, format!("width {hidden}, as tied weights need")));
    }
    if layers > 64 {
        return Err(Error::input(path, 0, format!("{layers} layers"), "at most 64"));
    }
    if source.activation.is_some() && cell != Kind::Rnn {
        return Err(Error::Usage(format!("--activation is for an nn.RNN; the file holds an {}", torch.module)));
    }
    let activation = source.activation.unwrap_or(noted);
    let cell = Cell::new(cell, activation, Unit::Gru);
    let config = Config { words, embed, hidden, layers, cell, tie, ..Config::default() };
    let expected = names_of(&config);
    match theirs.names.iter().find(|(ours, _)| !expected.iter().any(|(name, _)| name == *ours)) {
        Some((_, (name, _))) => {
            let modules = names_of_modules(|torch| torch.module.into());
            let expected = format!("only an nn.Embedding, an {modules} in one direction, and an nn.Linear");
            Err(Error::input(path, 0, format!("the tensor {name}, which is not part of such a model"), expected))
        }
        None => Ok(config),
    }
}

/// The tensors of an imported file, under our names.
struct Theirs {
    /// Our name: theirs, and the shape.
    names: BTreeMap<String, (String, Vec<usize>)>,
}

impl Theirs {
    /// Returns an error if two tensors map to the same one of ours.
    fn of(header: &Header, path: &Path) -> Result<Self> {
        let mut names = BTreeMap::new();
        for (name, shape) in header.shapes() {
            let ours = our_name(&name);
            if let Some((before, _)) = names.insert(ours.clone(), (name.clone(), shape)) {
                let found = format!("{before} and {name}, either of which could be {ours}");
                return Err(Error::input(path, 0, found, "only one of them"));
            }
        }
        Ok(Theirs { names })
    }

    /// The name in the file and the shape of the tensor that we call `name`.
    fn find(&self, name: &str) -> Option<(&str, &[usize])> {
        self.names.get(name).map(|(name, shape)| (name.as_str(), shape.as_slice()))
    }

    /// Returns an error if that tensor has another shape, or is missing and a matrix of the recurrent layers.
    fn check(&self, name: &str, expected: &[usize], path: &Path) -> Result<()> {
        let found = match self.find(name) {
            Some((_, shape)) if shape == expected => return Ok(()),
            Some((name, shape)) => format!("{name} of shape {shape:?}"),
            None if name.starts_with("rnn.weight") => format!("no tensor {name}"),
            None => return Ok(()),
        };
        Err(Error::input(path, 0, found, format!("one of shape {expected:?}, to fit the others")))
    }
}

/// Our name of the tensor `name` of an imported file: wrappers of a model add prefixes, and layers have common names,
/// such as encoder and decoder in PyTorch's own example of a language model.
fn our_name(name: &str) -> String {
    const EMBEDDINGS: [&str; 9] = [
        "embedding",
        "embeddings",
        "encoder",
        "embed",
        "emb",
        "embedding_layer",
        "word_embedding",
        "word_embeddings",
        "wte",
    ];
    const OUTPUTS: [&str; 11] =
        ["output", "decoder", "out", "fc", "fc_out", "linear", "head", "lm_head", "proj", "output_layer", "classifier"];
    let mut rest = name;
    // Prefixes of DataParallel and DistributedDataParallel, torch.compile, Lightning.
    while let Some(inner) = ["module.", "_orig_mod.", "model."].iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = inner;
    }
    let (layer, last) = rest.rsplit_once('.').unwrap_or(("", rest));
    if ["weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l"].iter().any(|start| last.starts_with(start)) {
        return format!("rnn.{last}");
    }
    match last {
        "weight" if EMBEDDINGS.contains(&layer) => "embedding.weight".to_owned(),
        "weight" | "bias" if OUTPUTS.contains(&layer) => format!("output.{last}"),
        _ => rest.to_owned(),
    }
}

/// Recognises files written by torch.save, and returns the command that converts them to a safetensors file.
fn refuse_pickles(file: &mut File, path: &Path) -> Result<()> {
    let mut start = Vec::new();
    let read = file.take(512).read_to_end(&mut start).and_then(|_| file.rewind());
    read.map_err(|e| Error::io(path, "reading", e))?;
    // A zip archive whose first entry is data.pkl or next to it; before PyTorch 1.6 a bare pickle of protocol 2.
    let archive = start.starts_with(b"PK\x03\x04");
    if !archive && !start.starts_with(b"\x80\x02") {
        return Ok(());
    }
    if archive && start.windows(4).any(|name| name == b".npy") {
        return Err(Error::input(
            path,
            0,
            "an archive of NumPy arrays",
            "a safetensors file of an nn.Module's state_dict",
        ));
    }
    let python = |path: &Path| format!("'{}'", path.display().to_string().replace('\\', "\\\\").replace('\'', "\\'"));
    let (from, to) = (python(path), python(&path.with_extension("safetensors")));
    let command = format!(
        "python -c \"import torch; from safetensors.torch import save_file; x = torch.load({from}, map_location='cpu', weights_only=True); \
         x = x.get('state_dict', x.get('model', x)); save_file({{k: v.clone().contiguous() for k, v in x.items()}}, {to})\""
    );
    Err(Error::input(path, 0, "a PyTorch pickle", format!("a safetensors file, as made by: {command}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::language_model::Window;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What is written is read back, for any sizes.
        #[test]
        fn any_model_goes_there_and_back(
            (words, hidden, layers) in (3usize..9, 1usize..7, 1usize..4),
            (embed, cell, tie) in (1usize..7, 0usize..3, any::<bool>()),
            seed in any::<u64>(),
        ) {
            let cell = [Cell::Rnn(Activation::Tanh), Cell::Gru, Cell::Lstm][cell];
            let embed = if tie { hidden } else { embed };
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
        for (cell, tie) in
            [(Cell::Rnn(Activation::Tanh), false), (Cell::Gru, false), (Cell::Lstm, false), (Cell::Gru, true)]
        {
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

            // A model that scales at test time gives the same probabilities without scaling, with the exported weights.
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
