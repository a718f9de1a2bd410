use super::*;
use crate::params::TensorId;
use crate::train::stepper::Stepper;

const ROWS: usize = 7;
const COLUMNS: usize = 19;
const STEPS: u64 = 900;

/// A weight, a table and the biases of its rows.
fn layout() -> (Arc<Layout>, [TensorId; 3]) {
    let mut layout = Layout::default();
    let weight = layout.add("weight", 3, 5, Role::Weight);
    let table = layout.add("table", ROWS, COLUMNS, Role::OutputTable);
    let bias = layout.add("bias", ROWS, 1, Role::BiasTable);
    (Arc::new(layout), [weight, table, bias])
}

fn number(i: u64) -> f64 {
    (i as f64 * 0.754_877_666_246_693).fract() * 2.0 - 1.0
}

/// The rows that a step touches: the first in every step, the last but one in step 3 and the last step, the last never.
fn touched(step: u64) -> Vec<u32> {
    let of = |row: u64| match row {
        5 => step == 3 || step == STEPS,
        6 => false,
        row => step.is_multiple_of(1 + row * row * 4),
    };
    (0..ROWS as u64).filter(|&row| of(row)).map(|row| row as u32).collect()
}

fn list<R: Real>(g: &mut Gradients<R>, step: u64, p: [TensorId; 3]) {
    p[1..].iter().for_each(|&p| *g.table_mut(p).list() = touched(step));
}

fn fill<R: Real>(g: &mut Gradients<R>, step: u64, p: [TensorId; 3]) {
    g.arena.slice_mut(p[0]).iter_mut().zip(step * 31..).for_each(|(x, i)| *x = R::of(number(i)));
    for (p, salt) in [(p[1], 7), (p[2], 13)] {
        // Some elements are so small that ε matters.
        let values = g.table_mut(p).parts_mut().1.iter_mut().zip(step * salt..);
        values.for_each(|(x, i)| *x = R::of(number(i) * if i.is_multiple_of(3) { 1e-7 } else { 0.1 }));
    }
}

fn rate(step: u64) -> f64 {
    if step < 500 { 0.02 } else { 0.01 + 1e-5 * step as f64 }
}

/// Runs all steps; after those for which `catch` holds, every row is caught up, and with `again` a new optimizer takes over the states.
fn run<R: Real>(rule: Rule, catch: impl Fn(u64) -> bool, again: bool) -> (Arena<R>, Vec<Arena<R>>) {
    let (layout, p) = layout();
    let mut w = Arena::<R>::zeros(&layout);
    w.all_mut().iter_mut().zip(0..).for_each(|(x, i)| *x = R::of(number(i)));
    let optimizer = || Optimizer::new(rule, 0.7, 1e-3, &layout);
    let mut stepper = Stepper::new(w, Gradients::zeros(&layout, ROWS), optimizer(), 0);
    for step in 1..=STEPS {
        stepper.touch(|g, _| list(g, step, p)).step(|g, (), _| fill(g, step, p)).update(rate(step));
        if catch(step) {
            stepper.catch_up_all();
            if again {
                let mut other = optimizer();
                for (to, from) in other.states_mut(step).iter_mut().zip(stepper.optimizer.states()) {
                    to.all_mut().copy_from_slice(from.all());
                }
                stepper.optimizer = other;
            }
        }
    }
    stepper.catch_up_all();
    (stepper.w, stepper.optimizer.states().to_vec())
}

/// The equations applied to every element in every step.
fn by_the_equations(rule: Rule) -> Arena<f64> {
    let (layout, p) = layout();
    let mut g = Gradients::<f64>::zeros(&layout, ROWS);
    let mut w = Arena::<f64>::zeros(&layout);
    let (mut m, mut v) = (w.clone(), w.clone());
    w.all_mut().iter_mut().zip(0..).for_each(|(x, i)| *x = number(i));
    for step in 1..=STEPS {
        list(&mut g, step, p);
        fill(&mut g, step, p);
        let all = g.dense(&layout);
        let norm = all.all().iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = (0.7 / norm).min(1.0);
        for (p, tensor) in layout.tensors() {
            for row in 0..tensor.rows {
                let at = row * tensor.columns..(row + 1) * tensor.columns;
                let g: Vec<f64> = all.slice(p)[at.clone()].iter().map(|g| g * scale).collect();
                let decay = if tensor.role == Role::Weight { 1e-3 } else { 0.0 };
                let mean = g.iter().map(|g| g * g).sum::<f64>() / g.len() as f64;
                for (i, g) in at.zip(g) {
                    let (w, m, v) = (&mut w.slice_mut(p)[i], &mut m.slice_mut(p)[i], &mut v.slice_mut(p)[i]);
                    let g = g + decay * *w;
                    if rule == Rule::Adam {
                        *m = 0.9 * *m + 0.1 * g;
                        *v = 0.999 * *v + 0.001 * g * g;
                        let (first, second) = (1.0 - 0.9f64.powf(step as f64), 1.0 - 0.999f64.powf(step as f64));
                        *w -= rate(step) * *m / first / ((*v / second).sqrt() + 1e-8);
                    } else {
                        *v += if tensor.role.by_rows() { mean } else { g * g };
                        *w -= rate(step) * g / (v.sqrt() + 1e-8);
                    }
                }
            }
        }
    }
    w
}

/// Rows that miss steps end where they would be without missing any: by Adam's rule in every step, or with one sum per row.
#[test]
fn rows_are_where_the_equations_say() {
    for rule in [Rule::Adam, Rule::AdagradRowwise] {
        let (want, double, single) =
            (by_the_equations(rule), run::<f64>(rule, |_| false, false).0, run::<f32>(rule, |_| false, false).0);
        for (p, tensor) in want.layout().tensors() {
            for ((want, double), single) in want.slice(p).iter().zip(double.slice(p)).zip(single.slice(p)) {
                let (close, near) = ((double - want).abs() <= 1e-10, (f64::from(*single) - want).abs() <= 2e-5);
                assert!(close && near, "{rule:?}, {}: {want} {double} {single}", tensor.name);
            }
        }
    }
}

/// Results are bit-identical no matter when rows are caught up, and whether the run was stopped there.
#[test]
fn catching_up_early_changes_nothing() {
    let bits = |(w, states): (Arena<f32>, Vec<Arena<f32>>)| -> Vec<u32> {
        states.iter().chain([&w]).flat_map(|arena| arena.all()).map(|x| x.to_bits()).collect()
    };
    for rule in [Rule::Sgd, Rule::Adagrad, Rule::AdagradRowwise, Rule::Adam] {
        let late = bits(run(rule, |_| false, false));
        assert!(late == bits(run(rule, |step| step.is_multiple_of(7), false)), "{rule:?}");
        assert!(late == bits(run(rule, |step| step == 4 || step == 123 || step == 700, true)), "{rule:?}");
    }
}

/// SparseAdam is a different rule: untouched rows stay.
#[test]
fn lazy_rows_stay() {
    let (layout, p) = layout();
    let optimizer = Optimizer::new(Rule::Adam, f64::INFINITY, 0.0, &layout).lazy();
    let mut stepper = Stepper::new(Arena::<f64>::zeros(&layout), Gradients::zeros(&layout, ROWS), optimizer, 0);
    let mut moved = Vec::new();
    for step in 1..=6 {
        let before = stepper.w.clone();
        stepper.touch(|g, _| list(g, step, p)).step(|g, (), _| fill(g, step, p)).update(0.1);
        stepper.catch_up_all();
        let rows = stepper.w.slice(p[1]).chunks(COLUMNS).zip(before.slice(p[1]).chunks(COLUMNS));
        moved.push(rows.zip(0..).filter(|((now, then), _)| now != then).map(|(_, row)| row).collect::<Vec<u32>>());
    }
    assert_eq!(moved, (1..=6).map(touched).collect::<Vec<_>>());
}
