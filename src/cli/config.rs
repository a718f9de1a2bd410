//! `--config FILE`: every option may also be set in a TOML file, as `hidden = 100` for `--hidden 100`; a model's
//! directory stands for the options it was trained with.
//!
//! The keys of the file become arguments before the user's own, so that only clap knows the options and the command
//! line takes precedence. `--preset NAME` stands for a built-in file, which comes before either. A key that is not an
//! option, or whose value the option does not accept, is an error that names its line.

use crate::error::{Error, Result};
use crate::tasks::options;
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
    if let Some(path) = value_of(own, "--config") {
        let (path, text) = options::text(path.into())?;
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
pub fn value_of(args: &[OsString], name: &str) -> Option<OsString> {
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
    let wanted = Type::of(arg.get_value_parser());
    let fits = match value {
        DeValue::String(_) => matches!(wanted, Type::Text | Type::Other),
        DeValue::Integer(_) => wanted != Type::Text && wanted != Type::Boolean,
        DeValue::Float(_) => matches!(wanted, Type::Float | Type::Other),
        DeValue::Boolean(_) => matches!(wanted, Type::Boolean | Type::Other),
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
enum Type {
    Text,
    Integer,
    Float,
    Boolean,
    /// A type of this program, checked by its own parser.
    Other,
}

impl Type {
    fn of(parser: &ValueParser) -> Self {
        let is = |ids: &[TypeId]| ids.iter().any(|id| parser.type_id() == *id);
        let text = [TypeId::of::<String>(), TypeId::of::<PathBuf>(), TypeId::of::<OsString>()];
        let integers = [TypeId::of::<usize>(), TypeId::of::<u64>(), TypeId::of::<u32>(), TypeId::of::<u16>()];
        let more_integers = [TypeId::of::<u8>(), TypeId::of::<i64>(), TypeId::of::<i32>(), TypeId::of::<isize>()];
        if is(&text) || parser.possible_values().is_some() && !is(&[TypeId::of::<bool>()]) {
            Type::Text
        } else if is(&integers) || is(&more_integers) {
            Type::Integer
        } else if is(&[TypeId::of::<f64>(), TypeId::of::<f32>()]) {
            Type::Float
        } else if is(&[TypeId::of::<bool>()]) {
            Type::Boolean
        } else {
            Type::Other
        }
    }

    fn name(self) -> &'static str {
        match self {
            Type::Text => "a string",
            Type::Integer => "an integer",
            Type::Float => "a number",
            Type::Boolean => "true or false",
            Type::Other => "a string or a number",
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

    /// What the command line becomes when FILE holds `config`.
    fn expanded(config: &str, args: &str) -> Result<Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let args = args.replace("FILE", file.path().to_str().unwrap());
        let args = expand(args.split(' ').map(OsString::from), &mut super::super::definition())?;
        let shown = |arg: OsString| arg.into_string().unwrap().replace(file.path().to_str().unwrap(), "FILE");
        Ok(args.into_iter().map(shown).collect())
    }

    #[test]
    fn a_file_stands_before_the_users_own_options() {
        let config = "# a comment\ntrain = \"a b.txt\"\nhidden = 1_000\nkeep-prob = 1\nactivation = \"relu\"\n\
                      reset-at-eos = true\ntie = false\nlr = 1e-3\nclip = 0x10\n";
        let inserted =
            "--train=a b.txt,--hidden=1000,--keep-prob=1,--activation=relu,--reset-at-eos,--lr=1e-3,--clip=16";
        for args in [
            "wordmill,train,lm,<>,--hidden,7,--config,FILE",
            "wordmill,--config,FILE,train,lm,<>,--hidden=7",
            "wordmill,train,lm,<>,--config,other.toml,--config=FILE",
        ] {
            let all = expanded(config, &args.replace(",<>", "").replace(',', " ")).unwrap();
            assert_eq!(all.join(","), args.replace("<>", inserted));
        }
        let many = expanded("columns = [1, 2]\n", "wordmill --config FILE eval m pairs.tsv").unwrap();
        assert_eq!(many[4..], ["--columns=1", "--columns=2", "m", "pairs.tsv"]);
        // Without a file nothing changes, not even what is wrong.
        let args = "wordmill train lm --hiden 3 -- --config";
        assert_eq!(expanded("", args).unwrap().join(" "), args);
        assert_eq!(expand([], &mut super::super::definition()).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let lm = "an option of wordmill train lm";
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
            ("\n\nelephants = 5\n", 3, &format!("found the unknown key \"elephants\", expected {lm}")),
            ("config = \"x\"\n", 1, &format!("found the unknown key \"config\", expected {lm}")),
            ("preset = \"fast\"\n", 1, "found the unknown key \"preset\", expected an option"),
            ("help = true\n", 1, "found the unknown key \"help\", expected an option"),
            ("hidden = \"100\"\n", 1, "found hidden = \"100\", expected an integer"),
            ("hidden = 1.5\n", 1, "found hidden = 1.5, expected an integer"),
            ("hidden = true\n", 1, "found hidden = true, expected an integer"),
            ("hidden = [1]\n", 1, "found hidden = an array, expected an integer"),
            ("hidden = 1979-05-27\n", 1, "found hidden = 1979-05-27, expected an integer"),
            ("keep-prob = \"x\"\n", 1, "found keep-prob = \"x\", expected a number"),
            ("train = 5\n", 1, "found train = 5, expected a string"),
            ("activation = 5\n", 1, "found activation = 5, expected a string"),
            ("reset-at-eos = 1\n", 1, "found reset-at-eos = 1, expected true or false"),
            ("reset-at-eos = \"true\"\n", 1, "found reset-at-eos = \"true\", expected true or false"),
            ("[train]\nlm = 1\n", 1, "found train = a table, expected a string"),
            ("keep-prob = 1\nhidden = 0\n", 2, "found invalid value '0' for '--hidden <H>'"),
            ("keep-prob = nan\n", 1, "found invalid value 'nan' for '--keep-prob <P>'"),
            ("keep-prob = -1\n", 1, "found invalid value '-1' for '--keep-prob <P>': expected a positive number"),
            ("activation = \"rellu\"\n", 1, "found invalid value 'rellu' for '--activation <ACTIVATION>'"),
            ("hidden = 5\nhidden = 6\n", 2, "found duplicate key"),
            ("hidden = \n", 1, "expected a TOML file"),
        ] {
            let error = expanded(config, "wordmill train lm --train x --config FILE").unwrap_err();
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains(&format!(":{line}: ")), "{config:?}: {text}");
            assert!(!text.contains('\n'), "{text:?}");
            assert_eq!(error.exit_code(), 3);
        }
        let other = expanded("hidden = 5", "wordmill eval DIR t.txt --config FILE").unwrap_err().to_string();
        assert!(other.contains("expected an option of wordmill eval"), "{other}");
        assert_eq!(expanded("", "wordmill eval DIR t.txt --config none.toml").unwrap_err().exit_code(), 6);
    }
}
