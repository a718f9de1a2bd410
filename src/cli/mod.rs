//! The command line: arguments, and how errors are reported.

mod bar;
mod columns;
mod complexity;
pub mod config;
mod demo;
mod eval;
mod exchange;
mod form;
mod generate;
mod graph;
mod info;
mod inputs;
mod inspect;
mod neighbors;
mod next;
mod run;
mod score;
mod synth;
mod tag;
mod train;
mod train_lm;
mod train_ner;
mod train_pseudo_siamese;
mod train_siamese;
mod train_softmax;
mod tune;
mod values;

use crate::error::{Error, Result, STANDARD_OUTPUT};
use crate::kernels::Isa;
use crate::notices::say;
use crate::sys::signals::Signals;
use crate::tasks::options;
use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Trains word-level neural nets on CPUs: fast, and with bit-identical results for any number of threads.
#[derive(Debug, Parser)]
#[command(name = "wordmill", version, args_override_self = true, arg_required_else_help = true)]
struct Cli {
    /// TOML file with options of the command, such as "hidden = 100", or a model directory, whose options are used; the
    /// command line takes precedence
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

/// One variant per command, each in its own file.
#[derive(Debug, Subcommand)]
enum Verb {
    #[command(subcommand)]
    Train(train::Train),
    Eval(eval::Eval),
    Generate(generate::Generate),
    Next(next::Next),
    Score(score::Score),
    Tag(tag::TagText),
    Neighbors(neighbors::Neighbors),
    Info(info::Info),
    Inspect(inspect::Inspect),
    Graph(graph::DrawGraph),
    Export(exchange::Export),
    Import(exchange::Import),
    Synth(synth::Synth),
    Tune(tune::Tune),
    Complexity(complexity::Complexity),
    Demo(demo::Demo),
}

impl Verb {
    /// Runs the command; results go to `out`, everything else to standard error. `before` is the command of the run to
    /// resume.
    fn run(self, before: Option<Verb>, out: &mut (dyn Write + Send)) -> Result<()> {
        // A wrong WORDMILL_ISA is reported here, before any kernel runs.
        Isa::chosen()?;
        match self {
            Verb::Train(verb) => {
                let before = before.and_then(|before| if let Verb::Train(train) = before { Some(train) } else { None });
                verb.run(before, out)
            }
            Verb::Eval(verb) => verb.run(out),
            Verb::Generate(verb) => verb.run(out),
            Verb::Next(verb) => verb.run(out),
            Verb::Score(verb) => verb.run(out),
            Verb::Tag(verb) => verb.run(out),
            Verb::Neighbors(verb) => verb.run(out),
            Verb::Info(verb) => verb.run(out),
            Verb::Inspect(verb) => verb.run(out),
            Verb::Graph(verb) => verb.run(out),
            Verb::Export(verb) => verb.run(out),
            Verb::Import(verb) => verb.run(out),
            Verb::Synth(verb) => verb.run(out),
            Verb::Tune(verb) => verb.run(out),
            Verb::Complexity(verb) => verb.run(out),
            Verb::Demo(verb) => verb.run(out),
        }
    }
}

/// Runs the program with these arguments, its name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // From here on a signal ends the process with one line; during training the model is saved first.
    if let Err(error) = Signals::install() {
        return tell(&error);
    }
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout());
    let (cli, before) = match parse(args) {
        Ok(parsed) => parsed,
        Err(Stop::Help(help)) => {
            // Standard output may be closed; there is nothing else to do.
            _ = help.print();
            return ExitCode::from(help.exit_code() as u8);
        }
        Err(Stop::Error(error)) => return tell(&error),
    };
    match cli.verb.run(before.map(|cli| cli.verb), &mut out).and_then(|()| out.flush().map_err(Error::output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => tell(&error),
    }
}

/// Why there is nothing to run.
enum Stop {
    /// Help or the version was asked for.
    Help(clap::Error),
    Error(Error),
}

/// The definition of the command line. A negative number is a value, not an unknown option: `--lr -1` is reported as an
/// invalid rate.
pub fn definition() -> Command {
    fn values(command: Command) -> Command {
        let option = |arg: &Arg| arg.get_long().is_some() && arg.get_action().takes_values();
        let command = command.mut_args(|arg| if option(&arg) { arg.allow_negative_numbers(true) } else { arg });
        command.mut_subcommands(values)
    }
    values(Cli::command())
}

/// The command; with `train … --resume` also that of the run to resume.
fn parse(args: impl IntoIterator<Item = OsString>) -> std::result::Result<(Cli, Option<Cli>), Stop> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let before = resumed(&args).map_err(Stop::Error)?;
    // The options it was trained with come before the user's own.
    args.extend(before.iter().flat_map(|args| args[3..].iter().cloned()));
    let command_line = |args: Vec<OsString>| {
        let mut command = definition();
        let args = config::expand(args, &mut command).map_err(Stop::Error)?;
        let cli = command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
        cli.map_err(|e| match e.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Stop::Help(e),
            _ => Stop::Error(Error::Usage(one_line(&e))),
        })
    };
    Ok((command_line(args)?, before.map(command_line).transpose()?))
}

/// Of `train KIND … --resume --out DIR`, the command `wordmill train KIND --config FILE` of the run in DIR.
fn resumed(args: &[OsString]) -> Result<Option<Vec<OsString>>> {
    let train = args.iter().position(|arg| arg == "train");
    let Some(kind) = train.and_then(|at| args.get(at + 1)).filter(|_| args.iter().any(|arg| arg == "--resume")) else {
        return Ok(None);
    };
    let out = config::value_of(args, "--out");
    let out = out.ok_or_else(|| Error::Usage("--resume needs --out, the directory of the run to resume".into()))?;
    if args.iter().any(|arg| arg.to_string_lossy().starts_with("--config")) {
        let what =
            "--resume uses the options of the run it continues; change them on the command line, not with --config";
        return Err(Error::Usage(what.into()));
    }
    let verb = kind.to_string_lossy();
    let options = options::to_resume(Path::new(&out), Some(&*verb).filter(|verb| !verb.starts_with('-')))?;
    let command = ["wordmill".into(), "train".into(), kind.clone(), "--config".into(), options.into()];
    Ok(Some(command.to_vec()))
}

/// Prints `error` as one line on standard error and returns its exit code. A closed standard output, as in `wordmill
/// score … | head`, is not an error.
fn tell(error: &Error) -> ExitCode {
    if let Error::Io { path, source, .. } = error
        && path == Path::new(STANDARD_OUTPUT)
        && source.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    let line = error.to_string().replace(['\n', '\r'], " ");
    say(&format!("wordmill: {line}"));
    ExitCode::from(error.exit_code())
}

/// Clap's message in one line: the error and its tips, without the usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraphs = text.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<&str>>().join(" "));
    let telling = |p: &String| !p.is_empty() && !p.starts_with("Usage:") && !p.starts_with("For more information");
    let lines: Vec<String> = paragraphs.filter(telling).collect();
    lines.join("; ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn mistakes_are_one_line() {
        let parse_error = |args: &str| match parse(args.split(' ').map(OsString::from)) {
            Err(Stop::Error(error)) => (error.to_string(), error.exit_code()),
            _ => panic!("{args} is a mistake"),
        };
        let (text, code) = parse_error("wordmill --confg x");
        assert_eq!(text, "unexpected argument '--confg' found; tip: a similar argument exists: '--config'");
        assert_eq!(code, 2);
        let (text, _) = parse_error("wordmill frobnicate");
        assert!(
            text.starts_with("unrecognized subcommand 'frobnicate'") || text.starts_with("unexpected argument"),
            "{text}"
        );
        let (text, code) = parse_error("wordmill --config /nonexistent/x.toml");
        assert!(text.starts_with("/nonexistent/x.toml: reading failed: "), "{text}");
        assert_eq!(code, 6);
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(tell(&Error::output(gone())), ExitCode::SUCCESS);
        assert_ne!(tell(&Error::io("file", "writing", gone())), ExitCode::SUCCESS);
        assert_ne!(tell(&Error::output(io::ErrorKind::StorageFull.into())), ExitCode::SUCCESS);
    }
}
