//! Options for the columns of CSV files.

use crate::tasks::columns::Choice;
use crate::text::table::{Missing, Style};
use serde::Serialize;

/// Options for the columns of a CSV file.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ColumnOptions {
    /// Column of the class in a CSV file: its name, or its number from 1 [default: one that is named label, class, target or y, or
    /// the only one of words, or the last]
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// Columns of a CSV file that are left out: names or numbers, separated by commas
    #[arg(long, value_name = "COLUMNS")]
    drop: Option<String>,
    /// What becomes of numbers that are missing in a CSV file (empty fields, NA, NaN, ?) [default: mean]
    #[arg(long, value_enum)]
    missing: Option<MissingKind>,
    /// The decimal point of a CSV file: . or , [default: .]
    #[arg(long, value_name = "CHARACTER", value_parser = [".", ","])]
    decimal: Option<String>,
    /// Whether the first row of a CSV file holds the names of its columns [default: what its fields look like]
    #[arg(long, value_enum)]
    header: Option<YesNo>,
    /// Keep a first column of a CSV file that only numbers its rows, as pandas writes it
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keep_index: bool,
    /// What is done to the numbers of each column of a CSV file first [default: standard]
    #[arg(long, value_enum)]
    scale: Option<Scale>,
}

/// What is done to the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Scale {
    /// Less the mean of the training examples, divided by their standard deviation; both are saved with the model
    Standard,
    /// Nothing
    None,
}

/// What becomes of numbers that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum MissingKind {
    /// The mean of the column in the training examples is taken for them
    Mean,
    /// Their rows are left out
    Drop,
    /// The file is refused
    Fail,
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

    /// Whether any is given.
    pub fn given(&self) -> bool {
        let ColumnOptions { label, drop, missing, decimal, header, keep_index, scale } = self;
        let others = missing.is_some() || header.is_some() || scale.is_some();
        label.is_some() || drop.is_some() || decimal.is_some() || *keep_index || others
    }

    /// What is chosen.
    pub fn choice(&self) -> Choice {
        let style = Style {
            decimal_comma: self.decimal.as_deref() == Some(","),
            missing: match self.missing {
                None | Some(MissingKind::Mean) => Missing::Mean,
                Some(MissingKind::Drop) => Missing::Drop,
                Some(MissingKind::Fail) => Missing::Fail,
            },
            missing_given: self.missing.is_some(),
            header: self.header.map(|header| header == YesNo::Yes),
        };
        let unscaled = self.scale == Some(Scale::None);
        Choice { label: self.label.clone(), drop: self.drop.clone(), keep_index: self.keep_index, unscaled, style }
    }
}
