//! `--config FILE`: every option may also be set in a TOML file, as `hidden = 100` for `--hidden 100`; a model's
//! directory stands for the options it was trained with.
//!
//! The keys of the file become arguments before the user's own, so that only clap knows the options and the command
//! line takes precedence. `--preset NAME` stands for a built-in file, which comes before either. A key that is not an
//! option, or whose value the option does not accept, is an error that names its line.

use crate::error::{Error, Result};
use crate::tasks::saved;
use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, ValueEnum};
use std::any::TypeId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The option that names the file.
const CONFIG: &str = "config";
/// The option that names a preset.
const PRESET: &str = "preset";

/// A named set of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// A good model from a million words in a minute or two
    Fast,
}

impl Preset {
    /// The options as TOML.
    fn options(self) -> &'static str {
        match self {
            Preset::Fast => include_str!("presets/fast.toml"),
        }
    }
}

/// The arguments `args` (the program's name first) of `command`, which is built if necessary, with those of the
/// `--config` file inserted after the verb. `command` should let later options override earlier ones
/// (`args_override_self`).
pub fn expand(args: impl IntoIterator<Item = OsString>, command: &mut Command) -> Result<Vec<OsString>> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    command.build();
    let (verb, at) = verb(&args, command);
    let own = args.get(1..).unwrap_or_default();
    let preset = value_of(own, "--preset").filter(|_| verb.get_arguments().any(|arg| arg.get_long() == Some(PRESET)));
    // A name that is unknown is reported by clap.
    let preset = preset.and_then(|name| Preset::from_str(name.to_str()?, false).ok());
    if let Some(mut path) = value_of(own, "--config").map(PathBuf::from) {
        let bytes = if path.is_dir() {
            // Through the checkpoint: its run may be about to remove the file.
            let mut checkpoint = saved::open(&path)?;
            path = checkpoint.path().join(saved::OPTIONS);
            checkpoint.read(saved::OPTIONS)?
        } else {
            std::fs::read(&path).map_err(|e| Error::io(&path, "reading", e))?
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                let found = format!("invalid UTF-8 at byte {}", e.utf8_error().valid_up_to());
                return Err(Error::input(&path, 0, found, "a TOML file"));
            }
        };
        args.splice(at..at, arguments(&path, &text, verb)?);
    }
    if let Some(preset) = preset {
        args.splice(at..at, arguments(Path::new("the preset"), preset.options(), verb)?);
    }
    Ok(args)
}

/// The innermost subcommand that `args` name, and the index of the first argument after its name.
fn verb<'a>(args: &[OsString], command: &'a Command) -> (&'a Command, usize) {
    let (mut verb, mut at, mut next) = (command, args.len().min(1), 1);
    while let Some(arg) = args.get(next).and_then(|arg| arg.to_str()) {
        next += 1;
        if let Some(name) = arg.strip_prefix("--") {
            let takes_value = |arg: &Arg| arg.get_long() == Some(name) && arg.get_action().takes_values();
            next += usize::from(verb.get_arguments().any(takes_value));
        } else if let Some(inner) = verb.find_subcommand(arg) {
            (verb, at) = (inner, next);
        } else if !arg.starts_with('-') {
            break;
        }
    }
    (verb, at)
}

/// The value of the last option `name` in `args`.
fn value_of(args: &[OsString], name: &str) -> Option<OsString> {
    let mut found = None;
    let mut args = args.iter().take_while(|arg| *arg != "--");
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        match text.strip_prefix(name) {
            Some("") => found = args.next().cloned().or(found),
            Some(value) => found = value.strip_prefix('=').map(OsString::from).or(found),
            None => {}
        }
    }
    found
}

/// The arguments of `verb` equivalent to the TOML `text` of the file at `path`.
fn arguments(path: &Path, text: &str, verb: &Command) -> Result<Vec<OsString>> {
    let line = |at: usize| 1 + text.bytes().take(at).filter(|b| *b == b'\n').count();
    let table = DeTable::parse(text).map_err(|e| {
        let found = e.message().replace('\n', " ");
        Error::input(path, e.span().map_or(0, |span| line(span.start)), found, "a TOML file")
    })?;
    let mut all = Vec::new();
    for (key, value) in table.get_ref() {
        let name = key.get_ref().as_ref();
        let line = line(key.span().start);
        let wrong = |found: String, expected: String| Error::input(path, line, found, expected);
        let arg = option(verb, name).ok_or_else(|| unknown(name, verb, &wrong))?;
        let values = arguments_of(arg, value.get_ref())
            .map_err(|(found, expected)| wrong(format!("{name} = {found}"), expected))?;
        check(verb, &values).map_err(|found| wrong(found, format!("a value that --{name} accepts")))?;
        all.extend(values.into_iter().map(OsString::from));
    }
    Ok(all)
}

/// Whether a file may set `arg`: everything but positional arguments, help, version and the options that name option files.
fn settable(arg: &Arg) -> bool {
    let action = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append | ArgAction::SetTrue);
    action && arg.get_long().is_some_and(|long| long != CONFIG && long != PRESET)
}

fn option<'a>(verb: &'a Command, name: &str) -> Option<&'a Arg> {
    verb.get_arguments().find(|arg| arg.get_long() == Some(name) && settable(arg))
}

fn unknown(name: &str, verb: &Command, wrong: &impl Fn(String, String) -> Error) -> Error {
    let names = verb.get_arguments().filter(|arg| settable(arg)).filter_map(Arg::get_long);
    let distance = |other: &str| strsim::osa_distance(&name.replace('_', "-"), other);
    let nearest = names.map(|other| (distance(other), other)).min();
    let expected = match nearest {
        Some((distance, other)) if distance <= 1 + name.len() / 3 => {
            format!("an option; did you mean \"{other}\"?")
        }
        _ => format!("an option of {}", verb.get_bin_name().unwrap_or(verb.get_name())),
    };
    wrong(format!("the unknown key \"{name}\""), expected)
}

/// The arguments that set `arg` to `value`; otherwise what was found and what was expected.
fn arguments_of(arg: &Arg, value: &DeValue<'_>) -> std::result::Result<Vec<String>, (String, String)> {
    let name = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            DeValue::Boolean(true) => Ok(vec![format!("--{name}")]),
            DeValue::Boolean(false) => Ok(Vec::new()),
            other => Err((show(other), "true or false".to_owned())),
        };
    }
    let many = matches!(arg.get_action(), ArgAction::Append) || arg.get_num_args().is_some_and(|n| n.max_values() > 1);
    match value {
        DeValue::Array(values) if many => {
            values.iter().map(|value| Ok(format!("--{name}={}", scalar(arg, value.get_ref())?))).collect()
        }
        value => Ok(vec![format!("--{name}={}", scalar(arg, value)?)]),
    }
}

/// A value as written on the command line, if its type is that of the option.
fn scalar(arg: &Arg, value: &DeValue<'_>) -> std::result::Result<String, (String, String)> {
    let wanted = Kind::of(arg.get_value_parser());
    let fits = match value {
        DeValue::String(_) => matches!(wanted, Kind::Text | Kind::Other),
        DeValue::Integer(_) => wanted != Kind::Text && wanted != Kind::Boolean,
        DeValue::Float(_) => matches!(wanted, Kind::Float | Kind::Other),
        DeValue::Boolean(_) => matches!(wanted, Kind::Boolean | Kind::Other),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => false,
    };
    if !fits {
        return Err((show(value), wanted.name().to_owned()));
    }
    Ok(match value {
        DeValue::String(text) => text.clone().into_owned(),
        // No option's parser reads 0x40 or 0o100; the digits alone would be another number.
        DeValue::Integer(integer) if integer.radix() != 10 => {
            let number = i128::from_str_radix(integer.as_str(), integer.radix());
            number.map_err(|_| (show(value), wanted.name().to_owned()))?.to_string()
        }
        DeValue::Integer(integer) => integer.as_str().to_owned(),
        DeValue::Float(float) => float.as_str().to_owned(),
        other => show(other),
    })
}

/// A value as shown in an error: truncated, on one line.
fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            let cut: String = text.chars().take(40).collect();
            let dots = if cut.len() < text.len() { "…" } else { "" };
            format!("{cut:?}{dots}")
        }
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// What kind of value an option takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Float,
    Boolean,
    /// A type of this program, checked by its own parser.
    Other,
}

impl Kind {
    fn of(parser: &ValueParser) -> Self {
        let is = |ids: &[TypeId]| ids.iter().any(|id| parser.type_id() == *id);
        let text = [TypeId::of::<String>(), TypeId::of::<PathBuf>(), TypeId::of::<OsString>()];
        let integers = [TypeId::of::<usize>(), TypeId::of::<u64>(), TypeId::of::<u32>(), TypeId::of::<u16>()];
        let more_integers = [TypeId::of::<u8>(), TypeId::of::<i64>(), TypeId::of::<i32>(), TypeId::of::<isize>()];
        if is(&text) || parser.possible_values().is_some() && !is(&[TypeId::of::<bool>()]) {
            Kind::Text
        } else if is(&integers) || is(&more_integers) {
            Kind::Integer
        } else if is(&[TypeId::of::<f64>(), TypeId::of::<f32>()]) {
            Kind::Float
        } else if is(&[TypeId::of::<bool>()]) {
            Kind::Boolean
        } else {
            Kind::Other
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Text => "a string",
            Kind::Integer => "an integer",
            Kind::Float => "a number",
            Kind::Boolean => "true or false",
            Kind::Other => "a string or a number",
        }
    }
}

/// Has clap check these arguments of `verb` on their own; an error is its message in one line.
fn check(verb: &Command, arguments: &[String]) -> std::result::Result<(), String> {
    let alone = verb.clone().no_binary_name(true).mut_args(|arg| arg.required(false)).subcommand_required(false);
    match alone.try_get_matches_from(arguments) {
        Err(e) if e.kind() != ErrorKind::MissingRequiredArgument => Err(super::one_line(&e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
    use std::io::Write;

    #[derive(Parser, Debug)]
    #[command(name = "wordmill", args_override_self = true)]
    struct TestCli {
        #[arg(long, global = true)]
        config: Option<PathBuf>,
        #[arg(long)]
        quiet: bool,
        #[command(subcommand)]
        verb: Verb,
    }

    #[derive(Subcommand, Debug)]
    enum Verb {
        #[command(subcommand)]
        Train(Train),
        Eval {
            dir: PathBuf,
        },
    }

    #[derive(Subcommand, Debug)]
    enum Train {
        Lm(Lm),
    }

    #[derive(Clone, Debug, PartialEq, clap::ValueEnum)]
    enum Cell {
        Tanh,
        Relu,
    }

    fn positive(text: &str) -> std::result::Result<f64, String> {
        match text.parse() {
            Ok(value) if value > 0.0 => Ok(value),
            _ => Err("found no positive number".to_owned()),
        }
    }

    #[derive(Args, Debug)]
    struct Lm {
        #[arg(long)]
        train: PathBuf,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        hidden: u32,
        #[arg(long, default_value_t = 0.9, value_parser = positive, allow_negative_numbers = true)]
        keep_prob: f64,
        #[arg(long, value_enum, default_value_t = Cell::Tanh)]
        activation: Cell,
        #[arg(long)]
        reset_at_eos: bool,
        #[arg(long)]
        note: Vec<String>,
        #[arg(long, conflicts_with = "max_vocab")]
        min_count: Option<u64>,
        #[arg(long)]
        max_vocab: Option<u64>,
    }

    fn parse(config: &str, args: &str) -> Result<TestCli> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(config.as_bytes()).unwrap();
        let args = args.replace("FILE", file.path().to_str().unwrap());
        let expanded = expand(args.split(' ').map(OsString::from), &mut TestCli::command())?;
        let matches = TestCli::command().try_get_matches_from(expanded);
        let cli = matches.and_then(|matches| TestCli::from_arg_matches(&matches));
        cli.map_err(|e| Error::Usage(super::super::one_line(&e)))
    }

    fn lm(config: &str, args: &str) -> Lm {
        match parse(config, args).unwrap().verb {
            Verb::Train(Train::Lm(lm)) => lm,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_sets_options_and_the_command_line_wins() {
        let config = "# a comment\ntrain = \"a b.txt\"\nhidden = 1_000\nkeep-prob = 1\nactivation = \"relu\"\nreset-at-eos = true\nnote = [\"x\", \"--y\"]\n";
        let from_file = lm(config, "wordmill train lm --config FILE");
        assert_eq!((from_file.train.to_str(), from_file.hidden, from_file.keep_prob), (Some("a b.txt"), 1000, 1.0));
        assert_eq!((from_file.activation, from_file.reset_at_eos), (Cell::Relu, true));
        assert_eq!(from_file.note, ["x", "--y"]);
        for args in [
            "wordmill train lm --hidden 7 --config FILE",
            "wordmill --quiet train lm --config=FILE --hidden 7",
            "wordmill --config FILE --quiet train lm --hidden=7",
        ] {
            let both = lm(config, args);
            assert_eq!((both.hidden, both.keep_prob), (7, 1.0), "{args}");
        }
        assert_eq!(lm("hidden = 0x10\nreset-at-eos = false", "wordmill train lm --config FILE --train x").hidden, 16);
        // Without a file nothing changes, not even what is wrong.
        let args = ["wordmill", "train", "lm", "--hiden", "3", "--", "--config"].map(OsString::from);
        assert_eq!(expand(args.clone(), &mut TestCli::command()).unwrap(), args);
        assert_eq!(expand([], &mut TestCli::command()).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (config, line, expected) in [
            (
                "hidden = 5\nhiden = 5\n",
                2,
                "found the unknown key \"hiden\", expected an option; did you mean \"hidden\"?",
            ),
            (
                "keep_prob = 5\n",
                1,
                "found the unknown key \"keep_prob\", expected an option; did you mean \"keep-prob\"?",
            ),
            ("\n\nelephants = 5\n", 3, "found the unknown key \"elephants\", expected an option of wordmill train lm"),
            ("config = \"x\"\n", 1, "found the unknown key \"config\", expected an option of wordmill train lm"),
            ("help = true\n", 1, "found the unknown key \"help\", expected an option of wordmill train lm"),
            ("hidden = \"100\"\n", 1, "found hidden = \"100\", expected an integer"),
            ("hidden = 1.5\n", 1, "found hidden = 1.5, expected an integer"),
            ("hidden = true\n", 1, "found hidden = true, expected an integer"),
            ("hidden = [1]\n", 1, "found hidden = an array, expected an integer"),
            ("keep-prob = \"x\"\n", 1, "found keep-prob = \"x\", expected a number"),
            ("train = 5\n", 1, "found train = 5, expected a string"),
            ("activation = 5\n", 1, "found activation = 5, expected a string"),
            ("reset-at-eos = 1\n", 1, "found reset-at-eos = 1, expected true or false"),
            ("reset-at-eos = \"true\"\n", 1, "found reset-at-eos = \"true\", expected true or false"),
            ("[train]\nlm = 1\n", 1, "found train = a table, expected a string"),
            ("hidden = 1979-05-27\n", 1, "found hidden = 1979-05-27, expected an integer"),
            ("note = [\"x\", 1]\n", 1, "found note = 1, expected a string"),
            ("note = []\nhidden = 0\n", 2, "found invalid value '0' for '--hidden <HIDDEN>'"),
            (
                "keep-prob = nan\n",
                1,
                "found invalid value 'nan' for '--keep-prob <KEEP_PROB>': found no positive number",
            ),
            ("keep-prob = -1\n", 1, "found invalid value '-1' for '--keep-prob <KEEP_PROB>': found no positive number"),
            ("activation = \"rellu\"\n", 1, "found invalid value 'rellu' for '--activation <ACTIVATION>'"),
            ("hidden = 5\nhidden = 6\n", 2, "found duplicate key"),
            ("hidden = \n", 1, "expected a TOML file"),
        ] {
            let error = parse(config, "wordmill train lm --train x --config FILE").unwrap_err();
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains(&format!(":{line}: ")), "{config:?}: {text}");
            assert!(!text.contains('\n'), "{text:?}");
            assert_eq!(error.exit_code(), 3);
        }
    }

    #[test]
    fn other_verbs_and_missing_files() {
        let eval = parse("", "wordmill eval DIR --config FILE").unwrap();
        assert!(matches!(eval.verb, Verb::Eval { .. }), "{eval:?}");
        let text = parse("hidden = 5", "wordmill eval DIR --config FILE").unwrap_err().to_string();
        assert!(text.contains("expected an option of wordmill eval"), "{text}");
        let missing = parse("", "wordmill eval DIR --config none.toml").unwrap_err();
        assert_eq!(missing.exit_code(), 6);
        let both = parse("min-count = 5", "wordmill train lm --config FILE --train x --max-vocab 5").unwrap_err();
        assert!(both.to_string().contains("cannot be used with"), "{both}");
    }
}
