//! `wordmill train`

use super::run::train;
use super::train_lm::LmFlags;
use super::train_ner::NerFlags;
use super::train_pseudo_siamese::PseudoSiameseFlags;
use super::train_siamese::SiameseFlags;
use super::train_softmax::SoftmaxFlags;
use crate::error::Result;
use std::io::Write;

/// Train a model
#[derive(Debug, clap::Subcommand)]
pub enum Train {
    Lm(Box<LmFlags>),
    Ner(Box<NerFlags>),
    Siamese(Box<SiameseFlags>),
    PseudoSiamese(Box<PseudoSiameseFlags>),
    Softmax(Box<SoftmaxFlags>),
}

impl Train {
    /// Runs the command; a summary goes to `out`. `before` holds the options of the run to resume.
    pub fn run(self, before: Option<Train>, out: &mut dyn Write) -> Result<()> {
        /// The flags of the same kind of model.
        macro_rules! of {
            ($kind:ident) => {
                before.as_ref().and_then(|before| if let Train::$kind(flags) = before { Some(&**flags) } else { None })
            };
        }
        match &self {
            Train::Lm(flags) => train(&**flags, of!(Lm), out),
            Train::Ner(flags) => train(&**flags, of!(Ner), out),
            Train::Siamese(flags) => train(&**flags, of!(Siamese), out),
            Train::PseudoSiamese(flags) => train(&**flags, of!(PseudoSiamese), out),
            Train::Softmax(flags) => train(&**flags, of!(Softmax), out),
        }
    }
}
