//! Options for input files, the same for every command that reads any.

use crate::error::{Error, Result};
use crate::notices::{Notices, say};
use crate::text::Inputs;
use crate::text::inputs::{BadUtf8, Decoding};
use encoding_rs::Encoding;
use serde::Serialize;
use std::io::Write;

/// How input files are read.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InputOptions {
    /// Treat warnings about choices that an option controls as errors
    #[arg(long)]
    #[serde(skip)]
    strict: bool,
    /// Encoding of texts and tables that are not UTF-8, such as latin1, windows-1251, gb18030 or shift_jis; UTF-16 is
    /// detected automatically
    #[arg(long, value_name = "LABEL", value_parser = encoding)]
    encoding: Option<String>,
    /// Bytes that are not valid UTF-8: reject the file, drop them, or replace them by U+FFFD
    #[arg(long, value_name = "WHAT", default_value = "fail", value_enum)]
    #[serde(skip_serializing_if = "BadUtf8::is_default")]
    bad_utf8: BadUtf8,
    /// Normalise white space: treat no-break and other Unicode spaces as spaces and Unicode line separators as line
    /// ends, and drop zero-width characters, direction marks, soft hyphens and control characters
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    unicode_spaces: Option<bool>,
}

fn encoding(label: &str) -> std::result::Result<String, String> {
    let known = Encoding::for_label(label.as_bytes()).map(|_| label.to_owned());
    known.ok_or_else(|| "expected the label of an encoding, such as latin1, windows-1251, gb18030 or shift_jis".into())
}

impl InputOptions {
    /// The reader of input files. Warnings go to standard error, unless `quiet`.
    pub fn inputs(&self, quiet: bool) -> Inputs {
        let warn = move |text: &str| {
            if !quiet {
                say(&format!("warning: {text}"));
            }
        };
        let decoding = Decoding {
            encoding: self.encoding.as_ref().and_then(|label| Encoding::for_label(label.as_bytes())),
            bad_utf8: self.bad_utf8,
            unicode_spaces: self.unicode_spaces == Some(true),
        };
        Inputs::new(Notices::new(self.strict, warn), decoding)
    }

    /// The same for a text that a trained model is applied to: options that are not given are those of `before`, the
    /// options of its run.
    pub fn like_training(&self, before: &toml::Table) -> Inputs {
        let encoding = before.get("encoding").and_then(toml::Value::as_str);
        let options = InputOptions {
            encoding: self.encoding.clone().or_else(|| encoding.map(str::to_owned)),
            unicode_spaces: self.unicode_spaces.or_else(|| before.get("unicode-spaces")?.as_bool()),
            ..self.clone()
        };
        options.inputs(false)
    }
}

/// `result` as a JSON object with all warnings in its member `warnings`.
pub fn json(result: &impl Serialize, inputs: &Inputs) -> String {
    let mut object = serde_json::to_value(result).expect("a plain struct of numbers is JSON");
    object["warnings"] = serde_json::to_value(inputs.notices().all()).expect("warnings are JSON");
    object.to_string()
}

/// Prints a result as one line of JSON, or as `text`, which ends its own lines.
pub fn print(out: &mut dyn Write, json: bool, result: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
    let text = if json { format!("{}\n", serde_json::to_string(result).expect("results are JSON")) } else { text() };
    out.write_all(text.as_bytes()).map_err(Error::output)
}
