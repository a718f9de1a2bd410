//! Tests how the time of a training step scales, from the measurements of `cargo bench -- complexity`.

use super::regression::{Estimate, least_squares};
use crate::error::{Error, Result};
use crate::sys::files;
use crate::train::plot;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::path::Path;

/// Tolerated difference between claimed and measured exponent.
const TOLERANCE: f64 = 0.1;

/// The time per token for a model of given sizes.
#[derive(Clone, Debug)]
struct Point {
    sweep: String,
    v: f64,
    d: f64,
    h: f64,
    tau: f64,
    stride: f64,
    /// In nanoseconds.
    time: f64,
}

impl Point {
    /// Recurrent steps per target.
    fn walk(&self) -> f64 {
        self.tau / self.stride
    }
}

/// A theoretical claim about the points of one sweep.
struct Claim {
    sweep: &'static str,
    text: &'static str,
    /// The size that varies, and its name.
    size: fn(&Point) -> f64,
    name: &'static str,
    exponent: f64,
    /// The assumption of the claim.
    assumption: fn(&Point) -> bool,
}

/// d ≪ D_h ≪ |V|.
fn output_dominates(p: &Point) -> bool {
    p.d * 4.0 <= p.h && p.h * 15.0 <= p.v
}

/// d ≪ D_h, and |V| ≪ τ/stride D_h.
fn recurrence_dominates(p: &Point) -> bool {
    p.d * 4.0 <= p.h && p.v * 4.0 <= p.walk() * p.h
}

const CLAIMS: [Claim; 7] = [
    Claim {
        sweep: "vocabulary",
        text: "output layer: grows as |V|",
        size: |p| p.v,
        name: "|V|",
        exponent: 1.0,
        assumption: output_dominates,
    },
    Claim {
        sweep: "hidden",
        text: "output layer: grows as D_h",
        size: |p| p.h,
        name: "D_h",
        exponent: 1.0,
        assumption: output_dominates,
    },
    Claim {
        sweep: "embedding",
        text: "word vectors: d does not matter",
        size: |p| p.d,
        name: "d",
        exponent: 0.0,
        assumption: output_dominates,
    },
    Claim {
        sweep: "recurrent",
        text: "recurrent layer: grows as D_h^2",
        size: |p| p.h,
        name: "D_h",
        exponent: 2.0,
        assumption: recurrence_dominates,
    },
    Claim {
        sweep: "tau",
        text: "stride 1: grows as tau",
        size: |p| p.tau,
        name: "tau",
        exponent: 1.0,
        assumption: recurrence_dominates,
    },
    Claim {
        sweep: "tau, stride tau",
        text: "stride tau: tau does not matter",
        size: |p| p.tau,
        name: "tau",
        exponent: 0.0,
        assumption: |_| true,
    },
    Claim {
        sweep: "sampled",
        text: "sampled softmax: |V| does not matter",
        size: |p| p.v,
        name: "|V|",
        exponent: 0.0,
        assumption: |_| true,
    },
];

/// The verdict of the measurements on a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Holds,
    Open,
    Refuted,
}

impl Verdict {
    fn of(exponent: f64, found: Estimate) -> Verdict {
        let (low, high) = (exponent - TOLERANCE, exponent + TOLERANCE);
        if low <= found.low && found.high <= high {
            Verdict::Holds
        } else if found.high < low || found.low > high {
            Verdict::Refuted
        } else {
            Verdict::Open
        }
    }

    fn name(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::Open => "open",
            Verdict::Refuted => "refuted",
        }
    }
}

/// A claim with its verdict.
#[derive(Serialize)]
struct Judged {
    claim: &'static str,
    exponent: f64,
    points: usize,
    fitted: Option<Estimate>,
    verdict: Verdict,
}

/// The theory's formula, fitted to all points of the full softmax: coefficients in nanoseconds.
#[derive(Serialize)]
struct Model {
    /// Coefficient of |V| D_h.
    output: Estimate,
    /// Coefficient of τ/stride D_h².
    recurrent: Estimate,
    /// Time per token.
    token: Estimate,
    points: usize,
    /// The root of the mean squared relative error.
    error: f64,
}

/// All claims with their verdicts.
#[derive(Serialize)]
pub struct Report {
    claims: Vec<Judged>,
    model: Option<Model>,
}

/// Tests the claims on criterion's results in `from`, and draws a plot for each claim into the directory `out`.
pub fn complexity(from: &Path, out: &Path) -> Result<Report> {
    if !from.exists() {
        let expected = "the measurements of cargo bench -- complexity; --from says where others are";
        return Err(Error::input(from, 0, "no such directory", expected));
    }
    let points = read(from)?;
    let report = Report { claims: CLAIMS.iter().map(|claim| judge(claim, &points)).collect(), model: fit(&points) };
    fs::create_dir_all(out).map_err(|e| Error::io(out, "making the directory", e))?;
    for (claim, judged) in CLAIMS.iter().zip(&report.claims) {
        let of: Vec<&Point> = points.iter().filter(|p| p.sweep == claim.sweep).collect();
        if !of.is_empty() {
            let path = out.join(format!("{}.svg", claim.sweep.replace(", ", "-").replace(' ', "-")));
            let svg = draw(claim, judged, &of).map_err(|e| Error::io(&path, "drawing", std::io::Error::other(e)))?;
            files::write(&path, svg)?;
        }
    }
    Ok(report)
}

/// The points of the group `complexity` among criterion's results in `from`.
fn read(from: &Path) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    let mut directories = vec![from.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).map_err(|e| Error::io(&directory, "reading", e))?;
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(|e| Error::io(&directory, "reading", e))?.path());
        }
        paths.sort();
        let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
        for path in paths.into_iter().filter(|path| path.is_dir()) {
            if name(&path) == "new" {
                points.extend(read_point(&path)?);
            } else if name(&path) != "base" && name(&path) != "report" {
                directories.push(path);
            }
        }
    }
    if points.is_empty() {
        return Err(Error::input(from, 0, "no result of the group complexity", "those of: cargo bench -- complexity"));
    }
    Ok(points)
}

/// The relevant part of `benchmark.json`.
#[derive(Deserialize)]
struct Benchmark {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
    throughput: Option<Throughput>,
}

#[derive(Deserialize)]
struct Throughput {
    #[serde(rename = "Elements")]
    elements: Option<f64>,
}

/// The relevant part of `estimates.json`.
#[derive(Deserialize)]
struct Estimates {
    mean: Statistic,
    slope: Option<Statistic>,
}

#[derive(Deserialize)]
struct Statistic {
    point_estimate: f64,
}

/// The point described by the files of `directory`, if it belongs to the group.
fn read_point(directory: &Path) -> Result<Option<Point>> {
    fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
        let bytes = fs::read(path).map_err(|e| Error::io(path, "reading", e))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::input(path, e.line(), e.to_string(), "a result of criterion"))
    }
    let path = directory.join("benchmark.json");
    let benchmark: Benchmark = json(&path)?;
    if benchmark.group_id != "complexity" {
        return Ok(None);
    }
    let estimates: Estimates = json(&directory.join("estimates.json"))?;
    let name = benchmark.value_str.unwrap_or_default();
    let size = |key: &str| {
        let value = name.split(' ').find_map(|part| part.split_once('=').filter(|(k, _)| *k == key));
        let value: Option<f64> = value.and_then(|(_, value)| value.parse().ok());
        value.filter(|&x| x > 0.0).ok_or_else(|| {
            Error::input(&path, 0, format!("the name \"{name}\""), format!("one with {key}=… of the group complexity"))
        })
    };
    let tokens = benchmark.throughput.and_then(|t| t.elements).filter(|&n| n > 0.0);
    let tokens = tokens.ok_or_else(|| Error::input(&path, 0, "no throughput", "tokens of a step"))?;
    let time = estimates.slope.unwrap_or(estimates.mean).point_estimate / tokens;
    Ok(Some(Point {
        sweep: benchmark.function_id.unwrap_or_default(),
        v: size("V")?,
        d: size("D")?,
        h: size("H")?,
        tau: size("tau")?,
        stride: size("stride")?,
        time,
    }))
}

/// ln t = p ln x + q of the claim's points.
fn power_law(claim: &Claim, points: &[&Point]) -> Option<[Estimate; 2]> {
    let rows: Vec<[f64; 2]> = points.iter().map(|p| [(claim.size)(p).ln(), 1.0]).collect();
    let times: Vec<f64> = points.iter().map(|p| p.time.ln()).collect();
    least_squares(&rows, &times)
}

fn assumed<'a>(claim: &Claim, points: impl IntoIterator<Item = &'a Point>) -> Vec<&'a Point> {
    points.into_iter().filter(|p| p.sweep == claim.sweep && (claim.assumption)(p)).collect()
}

fn judge(claim: &Claim, points: &[Point]) -> Judged {
    let points = assumed(claim, points);
    let fitted = power_law(claim, &points).map(|[exponent, _]| exponent);
    let verdict = fitted.map_or(Verdict::Open, |fitted| Verdict::of(claim.exponent, fitted));
    Judged { claim: claim.text, exponent: claim.exponent, points: points.len(), fitted, verdict }
}

/// t = a |V| D_h + b τ/stride D_h² + c, fitted to the least squared relative error.
fn fit(points: &[Point]) -> Option<Model> {
    let points: Vec<&Point> = points.iter().filter(|p| p.sweep != "sampled").collect();
    let row = |p: &&Point| [p.v * p.h, p.walk() * p.h * p.h, 1.0].map(|x| x / p.time);
    let rows: Vec<[f64; 3]> = points.iter().map(row).collect();
    let [output, recurrent, token] = least_squares(&rows, &vec![1.0; rows.len()])?;
    let error = |[a, b, c]: &[f64; 3]| (1.0 - a * output.value - b * recurrent.value - c * token.value).powi(2);
    let error = (rows.iter().map(error).sum::<f64>() / rows.len() as f64).sqrt();
    Some(Model { output, recurrent, token, points: points.len(), error })
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        writeln!(out, "{:38}{:>8}{:>8}{:>18}{:>8}  verdict", "claim", "claimed", "fitted", "95 % interval", "points")?;
        for Judged { claim, exponent, points, fitted, verdict } in &self.claims {
            let (value, interval) = match fitted {
                Some(Estimate { value, low, high }) => (format!("{value:.2}"), format!("{low:.2} … {high:.2}")),
                None => ("-".into(), "-".into()),
            };
            writeln!(out, "{claim:38}{exponent:>8}{value:>8}{interval:>18}{points:>8}  {}", verdict.name())?;
        }
        let Some(Model { output, recurrent, token, points, error }) = &self.model else { return Ok(()) };
        writeln!(out, "\nt = a |V| D_h + b tau/stride D_h^2 + c, in ns per token, {points} points:")?;
        for (name, Estimate { value, low, high }) in [("a", output), ("b", recurrent), ("c", token)] {
            // Each of these terms is three products, forward and backward, of two operations per element.
            let speed =
                if name == "c" { String::new() } else { format!("  which corresponds to {:.0} GFLOP/s", 6.0 / value) };
            writeln!(out, "  {name} = {value:.4} ({low:.4} … {high:.4}){speed}")?;
        }
        writeln!(out, "  mean relative error {:.0} %", 100.0 * error)
    }
}

/// The points of a claim on logarithmic axes, with the power law fitted to those that meet its assumption.
fn draw(
    claim: &Claim,
    judged: &Judged,
    points: &[&Point],
) -> std::result::Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let at = |p: &&Point| ((claim.size)(p), p.time);
    let used = assumed(claim, points.iter().copied());
    let law = power_law(claim, &used);
    let line: Vec<(f64, f64)> = match law {
        Some([p, q]) => {
            used.iter().map(|point| (claim.size)(point)).map(|x| (x, (p.value * x.ln() + q.value).exp())).collect()
        }
        None => Vec::new(),
    };
    let exponent = judged.fitted.map_or(String::new(), |e| format!(", fitted {:.2}", e.value));
    let title = format!("{}: claimed {}{exponent}, {}", claim.text, claim.exponent, judged.verdict.name());
    let all: Vec<(f64, f64)> = points.iter().map(at).collect();
    let inside: Vec<(f64, f64)> = used.iter().map(at).collect();
    plot::log_log(&title, claim.name, "ns per token", &all, &inside, &line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points of all sweeps, with times from `time`, at the sizes of the benchmark.
    fn points(time: impl Fn(&Point) -> f64) -> Vec<Point> {
        let of = |sweep: &str, [v, d, h, tau, stride]: [f64; 5]| {
            let mut point = Point { sweep: sweep.into(), v, d, h, tau, stride, time: 0.0 };
            point.time = time(&point);
            point
        };
        let doubled = |n: i32| (0..n).map(|i| 2f64.powi(i));
        let mut all: Vec<Point> =
            [1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6].map(|v| of("vocabulary", [v, 16.0, 64.0, 10.0, 10.0])).to_vec();
        all.extend(doubled(5).map(|x| of("hidden", [2e4, 16.0, 64.0 * x, 10.0, 10.0])));
        all.extend(doubled(4).map(|x| of("embedding", [1e4, 8.0 * x, 256.0, 10.0, 10.0])));
        all.extend(doubled(5).map(|x| of("recurrent", [64.0, 16.0, 64.0 * x, 16.0, 1.0])));
        all.extend(doubled(7).map(|tau| of("tau", [64.0, 16.0, 256.0, tau, 1.0])));
        all.extend(doubled(7).map(|tau| of("tau, stride tau", [1e3, 16.0, 256.0, tau, tau])));
        all.extend([1e4, 1e5, 1e6].map(|v| of("sampled", [v, 256.0, 256.0, 10.0, 10.0])));
        all
    }

    fn theory(p: &Point) -> f64 {
        // Measurements scatter: 1 % or so, with no pattern.
        let noise = 1.0 + 0.01 * (p.v * 3.0 + p.h * 5.0 + p.tau * 7.0 + p.d).sin();
        if p.sweep == "sampled" {
            return 9e3 * noise;
        }
        (0.06 * p.v * p.h + 0.08 * p.walk() * p.h * p.h + 20.0) * noise
    }

    #[test]
    fn theory_holds_where_times_are_its_own() {
        let points = points(theory);
        for claim in &CLAIMS {
            let judged = judge(claim, &points);
            let fitted = judged.fitted.unwrap();
            assert_eq!(judged.verdict, Verdict::Holds, "{}: {fitted:?}", claim.text);
            assert!(fitted.low <= fitted.value && fitted.value <= fitted.high);
            assert!(judged.points >= 3, "{}", claim.text);
        }
        let model = fit(&points).unwrap();
        assert!((model.output.value - 0.06).abs() < 1e-3 && (model.recurrent.value - 0.08).abs() < 2e-3);
        assert!(model.output.low < 0.06 && model.output.high > 0.06 && model.error < 0.02);
    }

    #[test]
    fn what_grows_otherwise_is_refuted_and_what_scatters_is_open() {
        let judged = |sweep: &str, time: &dyn Fn(&Point) -> f64| {
            let claim = CLAIMS.iter().find(|claim| claim.sweep == sweep).unwrap();
            judge(claim, &points(time)).verdict
        };
        assert_eq!(judged("sampled", &|p| theory(p) * p.v.powf(0.3)), Verdict::Refuted);
        assert_eq!(judged("vocabulary", &|p| theory(p) * p.v.powf(-0.2)), Verdict::Refuted);
        assert_eq!(judged("recurrent", &|p| theory(p) * p.h), Verdict::Refuted);
        assert_eq!(judged("tau", &|p| theory(p).sqrt()), Verdict::Refuted);
        assert_eq!(judged("hidden", &|p| theory(p) * (1.0 + 0.9 * p.h.sin())), Verdict::Open);
    }

    #[test]
    fn results_of_criterion_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let nothing = read(dir.path()).unwrap_err();
        assert!(nothing.to_string().contains("cargo bench -- complexity"), "{nothing}");
        let of = |group: &str, value: &str| {
            format!(
                r#"{{"group_id":"{group}","function_id":"tau","value_str":"{value}","throughput":{{"Elements":64}},"title":"x"}}"#
            )
        };
        let estimates = r#"{"mean":{"point_estimate":7.0},"median":{},"slope":{"point_estimate":6400.0}}"#;
        write("complexity/tau/a/new/benchmark.json", &of("complexity", "V=64 D=16 H=256 tau=8 stride=2"));
        write("complexity/tau/a/new/estimates.json", estimates);
        write("complexity/tau/a/base/benchmark.json", "{}");
        write("gemm/b/new/benchmark.json", &of("gemm", ""));
        let points = read(dir.path()).unwrap();
        let [p] = points.as_slice() else { panic!("{points:?}") };
        assert_eq!(
            (p.sweep.as_str(), p.v, p.d, p.h, p.tau, p.stride, p.time),
            ("tau", 64.0, 16.0, 256.0, 8.0, 2.0, 100.0)
        );
        assert_eq!(p.walk(), 4.0);

        write("complexity/tau/a/new/benchmark.json", &of("complexity", "V=64 D=16 H=none"));
        let wrong = read(dir.path()).unwrap_err().to_string();
        assert!(wrong.contains("benchmark.json: found the name \"V=64 D=16 H=none\", expected one with H="), "{wrong}");
    }

    #[test]
    fn plots_and_tables_tell_the_verdict() {
        let points = points(|p| theory(p) * p.v.powf(0.3));
        let report = Report { claims: CLAIMS.iter().map(|claim| judge(claim, &points)).collect(), model: fit(&points) };
        let text = report.to_string();
        let line = text.lines().find(|line| line.starts_with("sampled")).unwrap();
        assert!(line.contains("0.30") && line.ends_with("refuted"), "{text}");
        let of: Vec<&Point> = points.iter().filter(|p| p.sweep == "sampled").collect();
        let svg = draw(&CLAIMS[6], &report.claims[6], &of).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("refuted") && svg.matches("<circle").count() >= 3);
    }
}
