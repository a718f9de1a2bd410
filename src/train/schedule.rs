//! Learning rates over time, and when to stop.

use serde::{Deserialize, Serialize};

/// How the learning rate changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Constant.
    Constant,
    /// Halved whenever an evaluation does not improve on the best.
    Plateau,
    /// Decays linearly to zero over the planned steps.
    Linear,
}

/// What an evaluation measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// exp of the mean loss: the lower, the better.
    Perplexity,
    /// The mean loss of a classifier, in nats: the lower, the better.
    #[serde(rename = "cross_entropy")]
    CrossEntropy,
    /// F1 of entities, 0 to 1: the higher, the better.
    F1,
    /// The fraction of correct predictions, 0 to 1: the higher, the better.
    Accuracy,
    /// Area under the ROC curve, 0 to 1: the higher, the better.
    Auc,
    /// Spearman's rank correlation, -1 to 1: the higher, the better.
    Spearman,
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Measure::Perplexity => "perplexity",
            Measure::CrossEntropy => "cross-entropy",
            Measure::F1 => "F1",
            Measure::Accuracy => "accuracy",
            Measure::Auc => "ROC AUC",
            Measure::Spearman => "Spearman correlation",
        })
    }
}

/// The result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The measure.
    pub measure: Measure,
    /// Its value.
    pub value: f64,
}

impl Score {
    /// A perplexity.
    pub fn perplexity(value: f64) -> Self {
        Score { measure: Measure::Perplexity, value }
    }

    /// An F1, 0 to 1.
    pub fn f1(value: f64) -> Self {
        Score { measure: Measure::F1, value }
    }

    /// The value, if it is one of `measure`.
    pub fn of(self, measure: Measure) -> Option<f64> {
        (self.measure == measure).then_some(self.value)
    }

    fn better_than(self, other: Score) -> bool {
        match self.measure {
            Measure::Perplexity | Measure::CrossEntropy => self.value < other.value,
            _ => self.value > other.value,
        }
    }

    /// The better of two scores of the same measure.
    pub fn better(self, other: Score) -> Score {
        if other.better_than(self) { other } else { self }
    }
}

/// The value with its name, as readable text.
impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Score { measure, value } = self;
        match measure {
            Measure::Perplexity => write!(f, "{measure} {}", super::progress::short(*value)),
            Measure::F1 | Measure::Accuracy => write!(f, "{measure} {:.2} %", 100.0 * value),
            Measure::CrossEntropy | Measure::Auc | Measure::Spearman => write!(f, "{measure} {value:.4}"),
        }
    }
}

/// The best validation result so far; NaN is never better.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Best(Option<Score>);

impl Best {
    /// Whether `score` is better than all before it.
    fn improves(&mut self, score: Score) -> bool {
        let improved = !score.value.is_nan() && self.0.is_none_or(|best| score.better_than(best));
        if improved {
            self.0 = Some(score);
        }
        improved
    }
}

/// A learning rate schedule. It is saved with the training state, so that a resumed run continues it exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    kind: ScheduleKind,
    base: f64,
    planned_steps: u64,
    factor: f64,
    best: Best,
}

impl Schedule {
    /// Begins with the rate `base`. `planned_steps` is where [`ScheduleKind::Linear`] ends; other kinds do not use it.
    pub fn new(kind: ScheduleKind, base: f64, planned_steps: u64) -> Self {
        Schedule { kind, base, planned_steps, factor: 1.0, best: Best::default() }
    }

    /// The rate of optimizer step `step`, counted from 1. A linear schedule of N steps gives `base` at step 1,
    /// `base / N` at step N and 0 after it.
    pub fn rate(&self, step: u64) -> f64 {
        match self.kind {
            ScheduleKind::Constant | ScheduleKind::Plateau => self.base * self.factor,
            ScheduleKind::Linear => {
                let left = (self.planned_steps + 1).saturating_sub(step.max(1));
                self.base * left as f64 / self.planned_steps.max(1) as f64
            }
        }
    }

    /// Changes the kind, rate and plan to those of `now`, keeping the history of evaluations.
    pub fn revise(&mut self, now: Schedule) {
        (self.kind, self.base, self.planned_steps) = (now.kind, now.base, now.planned_steps);
    }

    /// Records an evaluation on the validation data.
    pub fn evaluated(&mut self, score: Score) {
        if !self.best.improves(score) && self.kind == ScheduleKind::Plateau {
            self.factor *= 0.5;
        }
    }
}

/// The consequence of an evaluation for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It is the best so far.
    pub best: bool,
    /// There has been no improvement for too long.
    pub stop: bool,
}

/// Early stopping, which also records the best step. Saved with the training state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    patience: Option<u64>,
    /// The best of the evaluations that count for patience.
    best: Best,
    since_best: u64,
    /// The best of all evaluations.
    kept: Best,
    best_step: Option<u64>,
}

impl EarlyStopping {
    /// Stops at the `patience`-th evaluation in a row that is not better than the best; `None` never stops.
    pub fn new(patience: Option<u64>) -> Self {
        EarlyStopping { patience, best: Best::default(), since_best: 0, kept: Best::default(), best_step: None }
    }

    /// Records the evaluation after optimizer step `step`.
    pub fn evaluated(&mut self, step: u64, score: Score) -> Verdict {
        self.since_best = if self.best.improves(score) { 0 } else { self.since_best + 1 };
        let best = self.observe_without_patience(step, score);
        Verdict { best, stop: self.patience.is_some_and(|patience| self.since_best >= patience.max(1)) }
    }

    /// Records an evaluation that takes place only because the run stops here: it may be the best, which is returned, but does not
    /// count for patience, so that a resumed run continues as if it had never stopped.
    pub fn observe_without_patience(&mut self, step: u64, score: Score) -> bool {
        let best = self.kept.improves(score);
        if best {
            self.best_step = Some(step);
        }
        best
    }

    /// Changes the patience.
    pub fn revise(&mut self, patience: Option<u64>) {
        self.patience = patience;
    }

    /// The step of the best evaluation so far.
    pub fn best_step(&self) -> Option<u64> {
        self.best_step
    }

    /// The best evaluation so far.
    pub fn best(&self) -> Option<Score> {
        self.kept.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through_json<T: Serialize + for<'de> Deserialize<'de>>(value: &T) -> T {
        serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
    }

    #[test]
    fn linear_ends_at_zero() {
        let schedule = Schedule::new(ScheduleKind::Linear, 0.8, 4);
        let rates: Vec<f64> = (1..=6).map(|step| schedule.rate(step)).collect();
        for (rate, expected) in rates.iter().zip([0.8, 0.6, 0.4, 0.2, 0.0, 0.0]) {
            assert!((rate - expected).abs() <= 1e-15, "{rates:?}");
        }
    }

    #[test]
    fn plateau_halves_only_without_improvement() {
        let mut schedule = Schedule::new(ScheduleKind::Plateau, 0.1, 0);
        let mut rates = Vec::new();
        for perplexity in [50.0, 40.0, 40.0, 39.0, 39.5, f64::NAN] {
            // Saved and loaded between any two evaluations.
            schedule = through_json(&schedule);
            schedule.evaluated(Score::perplexity(perplexity));
            rates.push(schedule.rate(7));
        }
        assert_eq!(rates, [0.1, 0.1, 0.05, 0.05, 0.025, 0.0125]);
        let mut constant = Schedule::new(ScheduleKind::Constant, 0.1, 0);
        constant.evaluated(Score::perplexity(1.0));
        constant.evaluated(Score::perplexity(2.0));
        assert_eq!(constant.rate(1_000_000), 0.1);
    }

    #[test]
    fn stops_after_patience_and_remembers_the_best() {
        let mut stopping = EarlyStopping::new(Some(2));
        let verdicts = [30.0, 20.0, 25.0, 19.0, 19.0, 21.0].map(|perplexity| {
            stopping = through_json(&stopping);
            stopping.evaluated(perplexity as u64 * 10, Score::perplexity(perplexity))
        });
        assert_eq!(verdicts.map(|v| v.best), [true, true, false, true, false, false]);
        assert_eq!(verdicts.map(|v| v.stop), [false, false, false, false, false, true]);
        assert_eq!((stopping.best_step(), stopping.best()), (Some(190), Some(Score::perplexity(19.0))));
        // Such an evaluation may be the best, but does not count for patience.
        let mut glimpsing = EarlyStopping::new(Some(1));
        glimpsing.evaluated(10, Score::perplexity(30.0));
        assert!(
            glimpsing.observe_without_patience(15, Score::perplexity(20.0))
                && !glimpsing.observe_without_patience(16, Score::perplexity(40.0))
        );
        assert_eq!(glimpsing.evaluated(20, Score::perplexity(25.0)), Verdict { best: false, stop: false });
        assert_eq!((glimpsing.best_step(), glimpsing.best()), (Some(15), Some(Score::perplexity(20.0))));
        assert!(glimpsing.evaluated(30, Score::perplexity(26.0)).stop);
        let mut never = EarlyStopping::new(None);
        assert!((0..100).all(|step| !never.evaluated(step, Score::perplexity(f64::NAN)).stop));
        assert_eq!(never.best_step(), None);
    }

    #[test]
    fn a_higher_f1_is_better() {
        let mut stopping = EarlyStopping::new(Some(2));
        let verdicts = [0.5, 0.6, f64::NAN, 0.7, 0.7, 0.2].map(|f1| stopping.evaluated(1, Score::f1(f1)));
        assert_eq!(verdicts.map(|v| v.best), [true, true, false, true, false, false]);
        assert_eq!(verdicts.map(|v| v.stop), [false, false, false, false, false, true]);
        let mut schedule = Schedule::new(ScheduleKind::Plateau, 0.1, 0);
        [0.5, 0.6, 0.4].into_iter().for_each(|f1| schedule.evaluated(Score::f1(f1)));
        assert_eq!(schedule.rate(1), 0.05);
    }

    /// Saved numbers must be read back bit-identically, or a resumed run is a different run.
    #[test]
    fn states_survive_json_to_the_bit() {
        let mut x = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            x = x.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            let value = f64::from_bits(x);
            if value.is_finite() {
                let back: f64 = through_json(&value);
                assert_eq!(back.to_bits(), value.to_bits(), "{value}");
            }
        }
    }
}
