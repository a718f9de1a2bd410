//! `--profile`: where the time of a training run was spent, as a table, as JSON, and as a trace.

use super::speed::{measure, measure_registers};
use crate::blas::{Backend, Precision};
use crate::error::{Error, Result, counted};
use crate::pool;
use crate::profile::{self, Part, Profile, Total};
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Duration of the reference measurement.
const LIMIT: Duration = Duration::from_millis(300);

/// Where the time was spent.
#[derive(Serialize)]
pub struct Profiled {
    seconds: f64,
    threads: usize,
    /// GFLOP/s of as many threads, measured after the run: on registers alone, or of large products of bfloat16.
    limit_gflops: f64,
    parts: Vec<Row>,
}

/// A part, a group of parts (`part` is `None`), or the rest (`group` is "rest").
#[derive(Serialize)]
struct Row {
    group: &'static str,
    part: Option<&'static str>,
    spans: u64,
    seconds: f64,
    /// Fraction of the run.
    share: f64,
    gflops: f64,
    /// The fraction of the threads' time spent in products.
    products: f64,
    /// The fraction of the threads' time spent in the part's tasks; `None` if there are no tasks.
    busy: Option<f64>,
}

/// Runs `work`; with `--profile` reports where its time was spent, compared with what the processor can do in the given precision, and
/// writes a trace if a file is given.
pub fn during<T>(
    option: Option<&Option<PathBuf>>,
    precision: Precision,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Option<Profiled>)> {
    let Some(path) = option else { return Ok((work()?, None)) };
    // A file that cannot be written is reported before the run.
    let file = match path {
        Some(path) => Some((path, File::create(path).map_err(|e| Error::io(path, "writing", e))?)),
        None => None,
    };
    profile::start();
    let done = work();
    let recorded = profile::finish();
    let done = done?;
    let Some(recorded) = recorded else { return Ok((done, None)) };
    if let Some((path, file)) = file {
        write_trace(path, file, &recorded)?;
    }
    let threads = pool::threads();
    let limit = match precision {
        Precision::F32 => measure_registers(threads, LIMIT)?,
        Precision::Bf16 => measure(Backend::Bf16, threads, LIMIT)?,
    };
    Ok((done, Some(Profiled::new(&recorded, threads, limit))))
}

impl Profiled {
    fn new(recorded: &Profile, threads: usize, limit_gflops: f64) -> Self {
        let all = recorded.time.as_secs_f64();
        let row = |group, part, total: Total| {
            let seconds = total.time.as_secs_f64();
            let of_threads = |time: Duration| time.as_secs_f64() / (threads as f64 * seconds).max(1e-9);
            Row {
                group,
                part,
                spans: total.count,
                seconds,
                share: seconds / all.max(1e-9),
                gflops: total.flop as f64 / seconds.max(1e-9) / 1e9,
                products: of_threads(total.multiplying),
                busy: (!total.tasks.is_zero()).then(|| of_threads(total.tasks)),
            }
        };
        let used: Vec<(Part, Total)> =
            Part::ALL.into_iter().zip(recorded.totals).filter(|(_, total)| total.count > 0).collect();
        let mut parts = Vec::new();
        for group in used.chunk_by(|a, b| a.0.names().0 == b.0.names().0) {
            let name = group[0].0.names().0;
            let sum = sum(group.iter().map(|(_, total)| *total));
            parts.push(row(name, None, Total { tasks: Duration::ZERO, ..sum }));
            if group.len() > 1 {
                parts.extend(group.iter().map(|(part, total)| row(name, Some(part.names().1), *total)));
            } else {
                parts.last_mut().expect("it was pushed").busy = row(name, None, sum).busy;
            }
        }
        let counted = sum(used.iter().map(|(_, total)| *total));
        let rest = Total { time: recorded.time.saturating_sub(counted.time), ..Total::default() };
        parts.push(row("rest", None, rest));
        parts.push(row("all", None, Total { time: recorded.time, tasks: Duration::ZERO, ..counted }));
        Profiled { seconds: all, threads, limit_gflops, parts }
    }
}

fn sum(totals: impl Iterator<Item = Total>) -> Total {
    totals.fold(Total::default(), |a, b| Total {
        count: a.count + b.count,
        time: a.time + b.time,
        flop: a.flop + b.flop,
        multiplying: a.multiplying + b.multiplying,
        tasks: a.tasks + b.tasks,
    })
}

impl fmt::Display for Profiled {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let threads = counted(self.threads, "thread");
        writeln!(f, "where the time went ({threads}, limit {:.0} GFLOP/s):", self.limit_gflops)?;
        let head = ["seconds", "share", "GFLOP/s", "of limit", "products", "busy"];
        writeln!(f, "{:24}{}", "", head.map(|name| format!("{name:>10}")).concat())?;
        for row in &self.parts {
            let name = row.part.map_or(row.group.to_owned(), |part| format!("  {part}"));
            let percent = |x: f64| format!("{:.1} %", 100.0 * x);
            let some = |x: f64, text: String| if x > 0.0 { text } else { String::new() };
            let limit = row.gflops / self.limit_gflops.max(1e-9);
            let columns = [
                format!("{:.3}", row.seconds),
                percent(row.share),
                some(row.gflops, format!("{:.1}", row.gflops)),
                some(row.gflops, percent(limit)),
                some(row.products, percent(row.products)),
                row.busy.map_or(String::new(), percent),
            ];
            let line = format!("{name:24}{}", columns.map(|text| format!("{text:>10}")).concat());
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Writes the events in the format of Chrome's trace viewer: complete events, times in microseconds.
fn write_trace(path: &Path, file: File, recorded: &Profile) -> Result<()> {
    let failed = |e: std::io::Error| Error::io(path, "writing", e);
    let mut out = BufWriter::new(file);
    out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[").map_err(failed)?;
    for (i, event) in recorded.events.iter().enumerate() {
        let (group, part) = event.part.names();
        let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
        let event = json!({
            "name": part,
            "cat": if event.task { "task" } else { group },
            "ph": "X",
            "ts": micros(event.begin),
            "dur": micros(event.time),
            "pid": 1,
            "tid": event.thread.unwrap_or(0),
        });
        write!(out, "{}\n{event}", if i == 0 { "" } else { "," }).map_err(failed)?;
    }
    let end = json!({ "dropped events": recorded.dropped });
    write!(out, "\n],\"otherData\":{end}}}\n").and_then(|()| out.flush()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Event;

    fn recorded() -> Profile {
        let ms = Duration::from_millis;
        let mut profile = Profile {
            time: ms(100),
            totals: Default::default(),
            events: vec![Event { part: Part::Logits, thread: Some(1), begin: ms(5), time: ms(2), task: true }],
            dropped: 7,
        };
        let total = |time, flop, multiplying, tasks| Total { count: 2, time, flop, multiplying, tasks };
        profile.totals[Part::Logits as usize] = total(ms(40), 4_000_000_000, ms(60), ms(70));
        profile.totals[Part::Gradients as usize] = total(ms(20), 2_000_000_000, ms(20), ms(40));
        profile.totals[Part::Update as usize] = total(ms(30), 0, ms(0), ms(0));
        profile
    }

    #[test]
    fn shares_add_up_and_rates_are_of_their_part() {
        let table = Profiled::new(&recorded(), 2, 200.0);
        let names: Vec<_> = table.parts.iter().map(|row| (row.group, row.part)).collect();
        let (logits, gradients) = (("output", Some("logits")), ("output", Some("gradients")));
        assert_eq!(names, [("output", None), logits, gradients, ("optimizer", None), ("rest", None), ("all", None)]);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        let groups = table.parts.iter().filter(|row| row.part.is_none() && row.group != "all");
        assert!(near(groups.map(|row| row.share).sum(), 1.0));
        let [output, logits, _, optimizer, rest, all] = table.parts.as_slice() else { panic!() };
        assert!(near(output.gflops, 100.0) && near(output.products, 80.0 / 120.0) && output.busy.is_none());
        assert!(
            near(logits.gflops, 100.0) && near(logits.products, 0.75) && logits.busy.is_some_and(|b| near(b, 0.875))
        );
        assert!(near(optimizer.share, 0.3) && near(rest.share, 0.1) && near(all.gflops, 60.0));
        let text = table.to_string();
        assert!(
            text.contains("output                       0.060    60.0 %     100.0    50.0 %    66.7 %\n"),
            "{text}"
        );
    }

    #[test]
    fn a_trace_is_json_that_chrome_reads() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write_trace(file.path(), file.reopen().unwrap(), &recorded()).unwrap();
        let trace: serde_json::Value = serde_json::from_reader(file.reopen().unwrap()).unwrap();
        let event = &trace["traceEvents"][0];
        assert_eq!((event["name"].as_str(), event["ph"].as_str()), (Some("logits"), Some("X")));
        assert_eq!(
            (event["ts"].as_f64(), event["dur"].as_f64(), event["tid"].as_u64()),
            (Some(5000.0), Some(2000.0), Some(1))
        );
        assert_eq!(trace["otherData"]["dropped events"], 7);
    }
}
