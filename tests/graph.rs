//! Computation graphs: every operation against finite differences, what is refused, what is run, and the models of the library
//! said a second time: the second oracle of their hand-written gradients.

#[path = "common/cases.rs"]
mod cases;
mod common;

use cases::{Case, cells, fill_states, losses};
use common::{assert_all_close, assert_close, check_gradient, fill_uniform, uniform};
use ndarray::{Array2, ArrayView2, Axis, arr2};
use std::sync::Arc;
use wordmill::graph::{Builder, Error, Feed, Id, Node, Session, Side};
use wordmill::kernels::dropout::{Keep, factors};
use wordmill::layers::output::{Draws, Negatives, Objective, Sampler};
use wordmill::layers::recurrence::Masks;
use wordmill::models::graphs::{self, ModelGraph, Output, Unrolled, language_model, tagger};
use wordmill::models::language_model::{Config, Loss, Space, Window};
use wordmill::models::pseudo_siamese::Input;
use wordmill::models::{Ner, PseudoSiamese, Siamese, ner, pseudo_siamese, siamese};
use wordmill::params::{Arena, Gradients, Layout, Role, TensorId};
use wordmill::rng::{Place, Purpose, Stream};

/// Two variables, a [3, 4] and b [3, 4]; a row r, a column c, a square s, a number o.
fn variables() -> (Arc<Layout>, Vec<TensorId>) {
    let mut layout = Layout::default();
    let shapes = [("a", 3, 4), ("b", 3, 4), ("r", 1, 4), ("c", 3, 1), ("s", 4, 4), ("o", 1, 1), ("t", 4, 3)];
    let all = shapes.map(|(name, rows, columns)| layout.add(name, rows, columns, Role::Weight));
    (Arc::new(layout), all.to_vec())
}

type Make = for<'b> fn(&'b Builder, &[Node<'b>], Node<'b>) -> Node<'b>;

/// One of each operation, and of each way to use it, of the variables of [`variables`] and three ids below 3.
const OPERATIONS: [(&str, Make); 38] = [
    ("product", |_, v, _| v[0].dot(v[4])),
    ("product with the right transposed", |_, v, _| v[0].dot_transposed(v[1])),
    ("product with the left transposed", |_, v, _| v[0].transposed_dot(v[1])),
    ("product of itself", |_, v, _| v[4].dot(v[4])),
    ("add", |_, v, _| v[0] + v[1]),
    ("add a row", |_, v, _| v[0] + v[2]),
    ("add to a row", |_, v, _| v[2] + v[0]),
    ("add a column", |_, v, _| v[0] + v[3]),
    ("add a number", |_, v, _| v[0] + v[5]),
    ("add row and column", |_, v, _| v[2] + v[3]),
    ("subtract", |_, v, _| v[0] - v[1]),
    ("subtract a row", |_, v, _| v[0] - v[2]),
    ("subtract from a column", |_, v, _| v[3] - v[1]),
    ("multiply", |_, v, _| v[0] * v[1]),
    ("multiply by a row", |_, v, _| v[0] * v[2]),
    ("multiply a column", |_, v, _| v[3] * v[0]),
    ("affine", |_, v, _| v[0].affine(-1.7, 0.3)),
    ("square", |_, v, _| v[0].square()),
    ("root", |_, v, _| v[0].square().affine(1.0, 0.5).power(0.5)),
    ("reciprocal", |_, v, _| v[0].square().affine(1.0, 0.5).power(-1.0)),
    ("σ", |_, v, _| v[0].sigmoid()),
    ("tanh", |_, v, _| v[0].tanh()),
    ("relu", |_, v, _| v[0].affine(1.0, 0.01).relu()),
    ("softplus", |_, v, _| (v[0] * 9.0).softplus()),
    ("transpose", |_, v, _| v[0].transpose().dot(v[3])),
    ("reshape", |_, v, _| v[0].reshape((2, 6)).square().reshape((4, 3))),
    ("broadcast", |_, v, _| v[2].broadcast((5, 4))),
    ("sum of rows", |_, v, _| v[0].square().sum_rows()),
    ("sum of columns", |_, v, _| v[0].square().sum_columns()),
    ("sum", |_, v, _| v[0].square().sum()),
    ("concat", |b, v, _| b.concat(Side::Columns, &[v[0], v[3], v[1]])),
    ("stack", |b, v, _| b.concat(Side::Rows, &[v[0], v[2], v[4]])),
    ("slice", |b, v, _| b.concat(Side::Columns, &[v[0].columns(1..3).rows(1..3), v[1].rows(0..2)])),
    ("gather and scatter", |_, v, ids| v[4].gather(ids).square().scatter(ids, 5)),
    ("softmax", |_, v, _| v[0].softmax()),
    ("log-sum-exp", |_, v, _| v[0].log_sum_exp()),
    ("cross-entropy", |_, v, ids| v[0].cross_entropy(ids)),
    ("one-hot", |_, v, ids| v[0] * ids.one_hot(4)),
];

/// Each operation, under a loss that weighs each of its elements differently.
fn loss_of(make: Make) -> impl for<'b> Fn(&'b Builder, &[Node<'b>]) -> Node<'b> {
    move |b, v| {
        let out = make(b, v, b.ids("ids", 3, 3));
        let (rows, columns) = out.shape();
        (out * b.placeholder("weights", rows, columns)).sum()
    }
}

#[test]
fn gradients_of_every_operation() {
    let (layout, handles) = variables();
    let mut w = Arena::<f64>::zeros(&layout);
    fill_uniform(&mut w, 0.9, 3);
    for (name, make) in OPERATIONS {
        let builder = Builder::default();
        let (loss, gradients) = {
            let v: Vec<Node> = handles.iter().map(|&p| builder.variable(&layout, p)).collect();
            let loss = loss_of(make)(&builder, &v);
            let gradients: Vec<Id> = builder.gradients(loss, &v).iter().map(|node| node.id()).collect();
            (loss.id(), gradients)
        };
        let graph = builder.finish().unwrap_or_else(|error| panic!("{name}: {error}"));
        let weights_shape = graph.nodes().find(|(_, node)| node.name.as_deref() == Some("weights")).unwrap().1.shape;
        let weights = uniform::<f64>(weights_shape.0 * weights_shape.1, 1.0, 8);
        let weights = ArrayView2::from_shape(weights_shape, &weights).unwrap();
        let feed = [("weights", Feed::Matrix(weights)), ("ids", Feed::Ids(&[2, 0, 2]))];
        let mut session = Session::new(&graph);
        let fetches: Vec<Id> = gradients.iter().copied().chain([loss]).collect();
        session.run(&graph, &feed, &w, &fetches).unwrap();
        let got: Vec<Array2<f64>> = gradients.iter().map(|&id| session.value(id).to_owned()).collect();
        // Finite differences of all variables, those that do not matter included.
        let mut used = 0;
        for ((&p, got), h) in handles.iter().zip(&got).zip(std::iter::repeat(2e-3)) {
            let mut at = w.clone();
            let numeric: Vec<f64> = (0..at.slice(p).len())
                .map(|i| {
                    let x = w.slice(p)[i];
                    let mut value = |offset: f64| {
                        at.slice_mut(p)[i] = x + offset * h;
                        session.run(&graph, &feed, &at, &[loss]).unwrap();
                        at.slice_mut(p)[i] = x;
                        session.number(loss)
                    };
                    (8.0 * (value(1.0) - value(-1.0)) - (value(2.0) - value(-2.0))) / (12.0 * h)
                })
                .collect();
            let what = format!("{name}, ∂{}", layout.tensor(p).name);
            if numeric.iter().any(|x| *x != 0.0) {
                used += 1;
                assert_all_close(&what, got.as_slice().unwrap(), &numeric, 1e-6);
            } else {
                assert!(got.iter().all(|&x| x == 0.0), "{what}: {got}");
            }
        }
        assert!(used > 0, "{name} depends on nothing");
    }
}

/// A gradient is made of nodes, which have gradients: ∂/∂w ‖∂J/∂w‖² against differences of the gradient.
#[test]
fn gradients_of_gradients() {
    let (layout, handles) = variables();
    let mut w = Arena::<f64>::zeros(&layout);
    fill_uniform(&mut w, 0.9, 4);
    let builder = Builder::default();
    let (norm, second) = {
        let v: Vec<Node> = handles.iter().map(|&p| builder.variable(&layout, p)).collect();
        let ids = builder.ids("ids", 3, 3);
        let h = (v[0].dot(v[4]) + v[2]).tanh() * v[1].sigmoid() + v[3].softplus() * v[5];
        let loss = (h.dot(v[6]).softmax().square().sum_columns() + h.cross_entropy(ids)).sum();
        let first = builder.gradients(loss, &v);
        let norm = first.iter().map(|g| g.square().sum()).reduce(|a, b| a + b).unwrap();
        (norm.id(), builder.gradients(norm, &v).iter().map(|node| node.id()).collect::<Vec<_>>())
    };
    let graph = builder.finish().unwrap();
    let mut session = Session::new(&graph);
    let feed = [("ids", Feed::Ids(&[2, 0, 1]))];
    session.run(&graph, &feed, &w, &second).unwrap();
    let mut gradient = Arena::zeros(&layout);
    handles.iter().zip(&second).for_each(|(&p, &id)| gradient.matrix_mut(p).assign(&session.value(id)));
    check_gradient(&gradient, &w, 1e-6, |w| {
        session.run(&graph, &feed, w, &[norm]).unwrap();
        session.number(norm)
    });
}

/// What is wrong is told with the operation and the shapes of both its inputs; only the first mistake is told.
#[test]
fn wrong_shapes_are_told() {
    let (layout, handles) = variables();
    let told = |make: Make| {
        let builder = Builder::default();
        {
            let v: Vec<Node> = handles.iter().map(|&p| builder.variable(&layout, p)).collect();
            let wrong = make(&builder, &v, builder.ids("ids", 3, 5));
            // Later mistakes, and a backward pass, do not hide it.
            let later = (wrong.dot(v[0]).reshape((2, 2)) + wrong).columns(0..9).gather(v[1]);
            builder.gradients(later.sum(), &v);
        }
        builder.finish().expect_err("the shapes are wrong").to_string()
    };
    assert_eq!(told(|_, v, _| v[0].dot(v[1])), "a · b: does not take [3, 4] and [3, 4]");
    assert_eq!(told(|_, v, _| v[0].dot_transposed(v[6])), "a · bᵀ: does not take [3, 4] and [4, 3]");
    assert_eq!(told(|_, v, _| v[0] + v[6]), "+: does not take [3, 4] and [4, 3]");
    assert_eq!(told(|_, v, _| v[0] * v[4]), "∘: does not take [3, 4] and [4, 4]");
    assert_eq!(told(|b, v, _| b.concat(Side::Columns, &[v[0], v[2]])), "concat: does not take [3, 4] and [1, 4]");
    assert_eq!(told(|_, v, _| v[0].columns(2..5)), "columns 2…: does not take [3, 4]");
    assert_eq!(told(|_, v, _| v[0].reshape((5, 2))), "reshape: does not take [3, 4]");
    assert_eq!(told(|_, v, ids| v[0].gather(ids)), "gather rows: does not take [3, 4] and [3]");
    assert_eq!(told(|_, v, ids| v[4].cross_entropy(ids)), "cross-entropy: does not take [4, 4] and [3]");
    assert_eq!(told(|_, v, ids| v[0] + ids), "+: does not take [3, 4] and [3]");
    assert_eq!(told(|b, v, _| b.gradients(v[0], &v[..1])[0]), "gradients: does not take [3, 4]");
    let builder = Builder::default();
    builder.placeholder("x", 1, 2);
    builder.ids("x", 3, 2);
    assert_eq!(builder.finish().unwrap_err(), Error::Twice("x".into()));
}

/// x [2, 3] · w [3, 2], and y below 2.
fn small() -> (wordmill::graph::Graph, [Id; 3], Arena<f64>) {
    let mut layout = Layout::default();
    let p = layout.add("w", 3, 2, Role::Weight);
    let layout = Arc::new(layout);
    let builder = Builder::default();
    let ids = {
        let (x, y) = (builder.placeholder("x", 2, 3), builder.ids("y", 2, 2));
        let w = builder.variable(&layout, p);
        let theta = x.dot(w);
        let loss = theta.cross_entropy(y).sum();
        let dw = builder.gradients(loss, &[w])[0];
        [theta.id(), loss.id(), dw.id()]
    };
    let mut w = Arena::zeros(&layout);
    fill_uniform(&mut w, 1.0, 1);
    (builder.finish().unwrap(), ids, w)
}

/// A feed dictionary has a value of the right shape for every placeholder that a fetch needs; others need none.
#[test]
fn feeds_are_checked() {
    let (graph, [theta, loss, _], w) = small();
    let mut session = Session::new(&graph);
    let (x, wide) = (arr2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), arr2(&[[0.0; 4]; 2]));
    let x = ("x", Feed::Matrix(x.view()));
    let mut told = |feed: &[(&str, Feed<f64>)], fetch: Id| match session.run(&graph, feed, &w, &[fetch]) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert_eq!(told(&[x, ("y", Feed::Ids(&[0, 1]))], loss), "");
    assert_eq!(told(&[x], theta), "", "θ does not depend on y");
    // A value of an earlier run does not stand in for one that is missing.
    assert_eq!(told(&[x], loss), "placeholder y is not fed");
    assert_eq!(told(&[], loss), "placeholder x is not fed");
    let unknown = "placeholder z is fed, but the graph has none of that name";
    assert_eq!(told(&[x, ("z", Feed::Ids(&[0]))], theta), unknown);
    assert_eq!(told(&[x, ("w", x.1)], theta).replace("placeholder w", "placeholder z"), unknown, "w is a variable");
    assert_eq!(told(&[x, x], theta), "placeholder x is fed twice");
    let misshapen = "placeholder x: fed a matrix [2, 4], expected a matrix [2, 3]";
    assert_eq!(told(&[("x", Feed::Matrix(wide.view()))], theta), misshapen);
    assert_eq!(told(&[("x", Feed::Ids(&[1, 1]))], theta), "placeholder x: fed ids [2], expected a matrix [2, 3]");
    assert_eq!(told(&[x, ("y", Feed::Ids(&[0]))], loss), "placeholder y: fed ids [1], expected ids [2]");
    assert_eq!(told(&[x, ("y", Feed::Ids(&[0, 2]))], loss), "placeholder y: fed 2, expected numbers below 2");
}

/// Each run binds new values; only what the fetches need is computed.
#[test]
fn a_run_computes_what_is_fetched() {
    let (graph, [theta, loss, dw], w) = small();
    let mut session = Session::new(&graph);
    let x = [arr2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), arr2(&[[0.0; 3]; 2])];
    let mut run = |x: &Array2<f64>, fetches: &[Id]| {
        let feed = [("x", Feed::Matrix(x.view())), ("y", Feed::Ids(&[0, 1]))];
        let computed = session.run(&graph, &feed, &w, fetches).unwrap();
        (computed, session.value(theta).to_owned())
    };
    // θ = x · w is one node; the loss adds cross-entropy and its sum.
    assert_eq!(run(&x[0], &[theta]), (1, x[0].dot(&w.matrix(w.layout().tensors().next().unwrap().0))));
    assert_eq!(run(&x[1], &[theta]), (1, arr2(&[[0.0; 2]; 2])));
    assert_eq!(run(&x[0], &[loss]).0, 3);
    assert_eq!(run(&x[0], &[]).0, 0);
    // The gradient: not the loss itself but 1, its broadcast, softmax, one-hot, their difference, that times g, and the product.
    assert_eq!(run(&x[0], &[dw]).0, 1 + 7);
    assert_eq!(run(&x[0], &[dw, loss]).0, 3 + 7);
}

/// Values that a model's window of steps has as placeholders.
struct Fed {
    matrices: Vec<(String, Array2<f64>)>,
    ids: Vec<(String, Vec<u32>)>,
}

impl Fed {
    fn feed(&self) -> Vec<(&str, Feed<'_, f64>)> {
        let matrices = self.matrices.iter().map(|(name, x)| (name.as_str(), Feed::Matrix(x.view())));
        matrices.chain(self.ids.iter().map(|(name, x)| (name.as_str(), Feed::Ids(x)))).collect()
    }

    /// Compares loss and gradients with those of the graph.
    fn compare(&self, what: &str, graph: &ModelGraph, w: &Arena<f64>, loss: f64, gradient: &Arena<f64>) {
        let mut g = Arena::zeros(w.layout());
        let mut session = Session::new(&graph.graph);
        let own = graph.step(&mut g, &mut session, &self.feed(), w).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_close(what, loss, own, 1e-10, 0.0);
        for (p, tensor) in w.layout().tensors() {
            assert_all_close(&format!("{what}, ∂{}", tensor.name), gradient.slice(p), g.slice(p), 1e-10);
        }
    }
}

/// What a word that never happens has added to its logit.
const NEVER: f64 = -1e30;

/// One layer of every cell, on six lanes of 17 words.
fn all_cells() -> impl Iterator<Item = Case> {
    cells().into_iter().map(|cell| Case::small(cell).with(|case| (case.config.words, case.lanes) = (17, 6)))
}

/// A step of the language model, hand-written and as a graph.
fn compare(case: &Case) {
    let Case { steps, lanes, loss_from, keep, seed, .. } = *case;
    let Config { embed, hidden, layers, variational, .. } = case.config;
    let (inputs, targets) = (case.ids(1), case.ids(2));
    let model = case.model();
    let mut w = Arena::<f64>::zeros(model.layout());
    fill_uniform(&mut w, 0.9, 5);
    let step = 9;
    let mut space: Space<f64> = case.space(&model);
    fill_states(&mut space);
    let state = |(l, state): (usize, &[f64])| {
        (format!("h{l}"), Array2::from_shape_vec((lanes, state.len() / lanes), state.to_vec()).unwrap())
    };
    let mut fed = Fed { matrices: space.states().enumerate().map(state).collect(), ids: Vec::new() };
    let mut g = case.gradients(&model);
    let window = Window { inputs: &inputs, targets: &targets, loss_from };
    let loss = model.loss_and_gradient(&mut g, &mut space, window, case.noise(step), &w);

    // Masks are those of one shard.
    let masks = Masks { training: Some((keep, seed, step)), at_test: 1.0, variational, shard: 0 };
    let dropout = !keep.everything();
    for l in (0..=layers).filter(|_| dropout) {
        let (width, from) = (if l == 0 { embed } else { hidden }, if l == layers { loss_from } else { 0 });
        let mut mask = vec![1.0; (steps - from) * lanes * width];
        masks.apply(l, lanes * width, &mut mask);
        for (t, mask) in (from..steps).zip(mask.chunks_exact(lanes * width)) {
            fed.matrices.push((format!("mask{l}.{t}"), Array2::from_shape_vec((lanes, width), mask.to_vec()).unwrap()));
        }
    }
    for (t, (x, y)) in inputs.chunks_exact(lanes).zip(targets.chunks_exact(lanes)).enumerate() {
        fed.ids.push((format!("x{t}"), x.to_vec()));
        if t >= loss_from {
            fed.ids.push((format!("y{t}"), y.to_vec()));
        }
    }
    let output = match case.config.loss {
        Loss::Full | Loss::Adaptive { .. } => Output::Full,
        Loss::Sampled { objective, draws, negatives, samples: drawn, power } => {
            let sampler = match power {
                Some(power) => Sampler::unigram(&case.counts(), power),
                None => Sampler::log_uniform(case.config.words),
            };
            let shift = |&word: &u32| {
                let (q, s) = (sampler.probability(word), drawn as f64);
                -match (objective, draws) {
                    (Objective::Softmax, Draws::WithReplacement) => (s * q).ln(),
                    (Objective::Softmax, Draws::Unique) => (1.0 - (1.0 - q).powf(s)).ln(),
                    (Objective::Nce(ln_z), _) => (s * q).ln() + ln_z,
                }
            };
            let samples = if negatives == Negatives::PerLane { lanes } else { 1 };
            let mut all = Vec::new();
            for i in 0..samples {
                let mut stream = Stream::new(seed, Purpose::Negatives, step, i as u32);
                let mut words: Vec<u32> = (0..drawn).map(|_| sampler.draw(&mut stream)).collect();
                words.sort_unstable();
                if draws == Draws::Unique {
                    words.dedup();
                }
                // What is missing never happens.
                let distinct = words.len();
                words.resize(drawn, 0);
                let shift = |j: usize| if j < distinct { shift(&words[j]) } else { NEVER };
                let name = |what: &str| if samples == 1 { what.to_owned() } else { format!("{what}.{i}") };
                fed.matrices.push((name("shift"), Array2::from_shape_fn((1, drawn), |(_, j)| shift(j))));
                fed.ids.push((name("sample"), words.clone()));
                all.push(words);
            }
            for (t, y) in targets.chunks_exact(lanes).enumerate().skip(loss_from) {
                fed.matrices.push((format!("shift{t}"), Array2::from_shape_fn((lanes, 1), |(i, _)| shift(&y[i]))));
                let hit = |(i, j): (usize, usize)| y[i] == all[i % samples][j] && draws == Draws::Unique;
                let hits = Array2::from_shape_fn((lanes, drawn), |at| if hit(at) { NEVER } else { 0.0 });
                fed.matrices.push((format!("hits{t}"), hits));
            }
            Output::Sampled { drawn, logistic: objective != Objective::Softmax }
        }
    };
    let unrolled = Unrolled { steps, lanes, loss_from, dropout, output };
    let graph = language_model(&model, unrolled).unwrap_or_else(|error| panic!("{case:?}: {error}"));
    fed.compare(&format!("{case:?}"), &graph, &w, loss, &g.dense(model.layout()));
}

#[test]
fn language_models_of_every_cell_in_one_to_three_layers() {
    for case in all_cells() {
        for layers in 1..=3 {
            compare(&case.layers(layers));
        }
    }
}

#[test]
fn language_models_with_masks_ties_and_strides() {
    for case in all_cells() {
        compare(&case.layers(2).keep(0.6));
        compare(&case.layers(3).keep(0.7).tied().with(|case| {
            case.loss_from = 2;
            case.config.variational = true;
        }));
    }
}

#[test]
fn language_models_of_every_cell_with_every_loss() {
    for case in all_cells() {
        for loss in losses(case.config.words) {
            let case = case.loss(loss);
            compare(&case);
            compare(&case.layers(2).keep(0.8).with(|case| case.loss_from = 1));
        }
    }
}

#[test]
#[should_panic(expected = "word vectors are tied to output weights that every step writes wholly")]
fn a_sample_goes_with_no_tied_weights() {
    let sampled = losses(17).into_iter().find(|loss| matches!(loss, Loss::Sampled { .. })).unwrap();
    compare(&all_cells().next().unwrap().loss(sampled).tied());
}

/// States begin at zero within a window, and gradients end there.
#[test]
fn language_models_that_begin_anew_at_a_word() {
    for case in all_cells() {
        for layers in 1..=3 {
            // One that is read in the second step, and again.
            let word = case.ids(1)[case.lanes + 2];
            compare(&case.layers(layers).keep(0.8).with(|case| {
                case.config.reset_at = Some(word);
                case.loss_from = layers % 2;
            }));
        }
    }
}

/// The tagger with both objectives, features and dropout.
#[test]
fn taggers() {
    let tables: [(usize, usize); 3] = [(11, 5), (6, 2), (9, 3)];
    let sentences = [3, 1, 6];
    let tokens: usize = sentences.iter().sum();
    let (window, hidden, labels) = (3, 7, 4);
    for objective in [ner::Objective::Window, ner::Objective::Sentence] {
        for (count, keep) in [(1, 1.0), (3, 0.6)] {
            let table =
                |(i, &(rows, width)): (usize, &(usize, usize))| ner::Table { name: format!("table{i}"), rows, width };
            let tables = tables[..count].iter().enumerate().map(table).collect();
            let net = Ner::new(ner::Config { tables, window, hidden, labels, objective });
            let mut w = Arena::<f64>::zeros(net.layout());
            fill_uniform(&mut w, 0.9, 5);
            let ids = |rows: usize| (0..tokens * window).map(|i| ((i * i * 5 + i / 4) % (rows - 1)) as u32).collect();
            let inputs: Vec<Vec<u32>> = net.config().tables.iter().map(|table| ids(table.rows)).collect();
            let targets: Vec<u32> = (0..tokens).map(|i| ((i * 7 + i / 3) % labels) as u32).collect();
            let ends: Vec<usize> = (1..=sentences.len()).map(|n| sentences[..n].iter().sum()).collect();
            let (keep, seed, step) = (Keep::inverted(keep), 3, 9);
            let mut g = Gradients::zeros(net.layout(), tokens * window);
            let batch = ner::Batch { inputs: &inputs, ends: &ends };
            let noise = ner::Noise { keep, seed, step, freeze: false };
            let loss = net.step(&mut g, &mut net.space(tokens, true), batch, &targets, noise, &w);

            let mut fed = Fed { matrices: Vec::new(), ids: Vec::new() };
            for (table, ids) in net.config().tables.iter().zip(&inputs) {
                fed.ids.push((format!("ids.{}", table.name), ids.clone()));
            }
            let x = net.config().tables.iter().map(|table| table.width).sum::<usize>() * window;
            for (layer, (name, width)) in [("mask.x", x), ("mask.h", hidden)].into_iter().enumerate() {
                if !keep.everything() {
                    let mut mask = vec![0.0; tokens * width];
                    factors(keep, Place::new(seed, Purpose::Dropout, step, (layer << 16) as u32), &mut mask);
                    fed.matrices.push((name.into(), Array2::from_shape_vec((tokens, width), mask).unwrap()));
                }
            }
            match objective {
                ner::Objective::Window => fed.ids.push(("y".into(), targets)),
                ner::Objective::Sentence => {
                    for (s, &end) in ends.iter().enumerate() {
                        let y = &targets[end - sentences[s]..end];
                        let before = std::iter::once(labels as u32).chain(y.iter().copied()).take(y.len());
                        fed.ids.push((format!("before{s}"), before.collect()));
                        fed.ids.push((format!("y{s}"), y.to_vec()));
                    }
                }
            }
            let graph = tagger(&net, &sentences, !keep.everything()).unwrap();
            fed.compare(&format!("{objective:?}, {count} tables"), &graph, &w, loss, &g.dense(net.layout()));
        }
    }
}

/// Siamese nets with both losses, pairs of all grades, and more of them than a shard.
#[test]
fn siamese_nets() {
    let (words, embed, hidden, pairs) = (23, 4, 7, 70);
    for loss in [siamese::Loss::Source, siamese::Loss::Contrastive { margin: 0.8 }] {
        let net = Siamese::new(siamese::Config { words, embed, hidden, loss, freeze: false });
        let mut w = Arena::<f64>::zeros(net.layout());
        fill_uniform(&mut w, 0.9, 5);
        let first: Vec<u32> = (0..pairs).map(|i| (i * 7 + i / 9) % words as u32).collect();
        let second: Vec<u32> = first.iter().zip(0..).map(|(word, i)| (word + 1 + i % 5) % words as u32).collect();
        let alike: Vec<f32> = (0..pairs).map(|i| (i * 3 % 5) as f32 / 4.0).collect();
        let mut g = Gradients::zeros(net.layout(), 2 * pairs as usize);
        let batch = siamese::Batch { first: &first, second: &second, alike: &alike };
        let own = net.step(&mut g, &mut net.space(pairs as usize), batch, &w);
        let y = Array2::from_shape_fn((alike.len(), 1), |(i, _)| f64::from(alike[i]));
        let mut fed = Fed { matrices: Vec::new(), ids: vec![("first".into(), first), ("second".into(), second)] };
        if loss != siamese::Loss::Source {
            fed.matrices.push(("alike".into(), y));
        }
        let graph = graphs::siamese(&net, pairs as usize).unwrap();
        fed.compare(&format!("{loss:?}"), &graph, &w, own, &g.dense(net.layout()));
    }
}

/// Pseudo-Siamese nets on words and on rows of numbers, with and without the penalty of dropout.
#[test]
fn pseudo_siamese_nets() {
    let (words, embed, hidden, labels, n) = (23, 4, 7, 5, 70);
    for (dropout_penalty, of_words) in [(0.0, true), (0.3, true), (0.2, false)] {
        let of = of_words.then_some(words);
        let config = pseudo_siamese::Config { words: of, embed, hidden, labels, freeze: !of_words, dropout_penalty };
        let net = PseudoSiamese::new(config);
        let mut w = Arena::<f64>::zeros(net.layout());
        fill_uniform(&mut w, 0.9, 5);
        let mut numbers = Array2::zeros((words, embed));
        numbers.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 7 % 11) as f64 / 5.0 - 1.0);
        let ids: Vec<u32> = (0..n).map(|i| (i * 7 + i / 9) % words as u32).collect();
        let targets: Vec<u32> = (0..n).map(|i| (i * i + i / 3) % labels as u32).collect();
        let mut g = Gradients::zeros(net.layout(), n as usize);
        let rows = numbers.as_slice().unwrap();
        let input = if of_words { Input::Words(&ids) } else { Input::Rows(&ids, rows) };
        let loss = net.step(&mut g, &mut net.space(n as usize), input, &targets, &w);
        let mut fed = Fed { matrices: Vec::new(), ids: vec![("y".into(), targets)] };
        if of_words {
            fed.ids.push(("x".into(), ids));
        } else {
            let chosen: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
            fed.matrices.push(("x".into(), numbers.select(Axis(0), &chosen)));
        }
        let graph = graphs::pseudo_siamese(&net, n as usize).unwrap();
        fed.compare(&format!("penalty of dropout {dropout_penalty}"), &graph, &w, loss, &g.dense(net.layout()));
    }
}

/// Pictures have every node and every edge once, and text that XML and DOT take.
#[test]
fn drawings() {
    let (graph, ..) = small();
    let edges = graph.nodes().map(|(_, node)| node.inputs.len()).sum::<usize>();
    let (dot, svg) = (graph.dot(), graph.svg("x < y & z"));
    assert_eq!(dot.matches(" -> ").count(), edges);
    assert_eq!(dot.matches("[label=").count(), graph.nodes().count());
    assert!(dot.starts_with("digraph") && dot.ends_with("}\n") && dot.contains("label=\"x\\n[2, 3]\""), "{dot}");
    assert_eq!(svg.matches("marker-end").count(), edges);
    assert_eq!(svg.matches("rx=\"5\"").count(), graph.nodes().count());
    assert!(svg.contains("x &lt; y &amp; z") && svg.contains(">cross-entropy<") && svg.contains(">[3, 2]<"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

/// `wordmill graph` draws every model, and says what it refuses.
#[test]
fn drawn_from_the_command_line() {
    let run = |args: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_wordmill")).arg("graph").args(args).output().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("graph.svg");
    let svg = file.to_str().unwrap();
    let recurrent = ["rnn", "gru", "lstm", "gated-feedback", "sampled", "adaptive"];
    for model in recurrent.into_iter().chain(["ner", "ner-sentence", "siamese", "pseudo-siamese", "softmax"]) {
        let more: &[&str] = if recurrent.contains(&model) { &["--layers", "2"] } else { &[] };
        let (plain, both) = (run(&[model, "--svg", svg]), run(&[&[model, "--gradients"], more].concat()));
        assert!(plain.status.success() && both.status.success(), "{plain:?} {both:?}");
        let (svg, dot) = (std::fs::read_to_string(&file).unwrap(), String::from_utf8(both.stdout).unwrap());
        assert!(svg.contains(">variable<") && !svg.contains(">backward<"), "{model}");
        assert!(dot.contains("label=\"∂"), "{model}: {dot}");
    }
    for (wrong, part) in
        [(["rnn", "--steps", "17"], "--steps"), (["siamese", "--layers", "2"], "only for language models")]
    {
        let wrong = run(&wrong);
        assert_eq!(wrong.status.code(), Some(2));
        assert!(String::from_utf8(wrong.stderr).unwrap().contains(part));
    }
}
