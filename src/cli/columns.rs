//! Options for the columns of CSV files.

use crate::tasks::columns::Choice;
use crate::text::table::{Missing, Style};
use serde::Serialize;

/// Options for the columns of a CSV file.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ColumnOptions {
    /// Column of the class in a CSV file: its name, or its number from 1 [default: the one named label, class, target
    /// or y, or the only one with words, or the last]
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// Columns of a CSV file to ignore: names or numbers, separated by commas
    #[arg(long, value_name = "COLUMNS")]
    drop: Option<String>,
    /// How missing numbers in a CSV file are handled (empty fields, NA, NaN, ?) [default: mean]
    #[arg(long, value_enum)]
    missing: Option<Missing>,
    /// Decimal point of a CSV file: . or , [default: .]
    #[arg(long, value_name = "CHARACTER", value_parser = [".", ","])]
    decimal: Option<String>,
    /// Whether the first row of a CSV file is a header with the names of the columns [default: detected]
    #[arg(long, value_enum)]
    header: Option<YesNo>,
    /// Keep a first column of a CSV file that only numbers its rows, such as an index written by pandas
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keep_index: bool,
    /// How the numbers of each column of a CSV file are scaled [default: standard]
    #[arg(long, value_enum)]
    scale: Option<Scale>,
}

/// How numbers are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Scale {
    /// Standardised: minus the mean of the training examples, divided by their standard deviation; both are saved with
    /// the model
    Standard,
    /// Not at all
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum YesNo {
    Yes,
    No,
}

impl ColumnOptions {
    /// Names of the options, without their dashes.
    pub const NAMES: [&str; 7] = ["label", "drop", "missing", "decimal", "header", "keep-index", "scale"];

    /// Whether any of them is given.
    pub fn given(&self) -> bool {
        let ColumnOptions { label, drop, missing, decimal, header, keep_index, scale } = self;
        let others = missing.is_some() || header.is_some() || scale.is_some();
        label.is_some() || drop.is_some() || decimal.is_some() || *keep_index || others
    }

    /// The choices made.
    pub fn choice(&self) -> Choice {
        let style = Style {
            decimal_comma: self.decimal.as_deref() == Some(","),
            missing: self.missing.unwrap_or(Missing::Mean),
            missing_given: self.missing.is_some(),
            header: self.header.map(|header| header == YesNo::Yes),
        };
        let unscaled = self.scale == Some(Scale::None);
        Choice { label: self.label.clone(), drop: self.drop.clone(), keep_index: self.keep_index, unscaled, style }
    }
}
