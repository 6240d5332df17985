//! Performance measures: verification and open-set identification (ISO/IEC 19795-1), ranked retrieval, calibration,
//! decisions. Inputs are numbers only; nothing reads a file or knows the modality.
//!
//! Scores are similarities, and a score equal to the threshold is accepted.

mod binary;
mod bootstrap;
mod calibration;
mod clustering;
mod curve;
mod detection;
mod folds;
mod identification;
mod pairwise;
mod rate;
mod retrieval;
pub mod scored;
mod verification;

pub use binary::{CalibrationResults, Decisions, decisions};
pub use bootstrap::{ByPerson, Share, equal_error, people};
pub use calibration::{Bin, Reliability, cllr, min_cllr, reliability};
pub use clustering::{ClusterAgreement, cluster_agreement};
pub use curve::{CurvePoint, Histogram, probit};
pub use detection::{BoxCorners, Detection, NamedBox, detection};
pub use folds::{Fold, FoldAccuracy, Folds, folds};
pub use identification::{AnswerRate, AnswerRates, AtFpir, Decided, Identification, PromisedRate, identification};
pub use pairwise::{Pairwise, ValuePair, pairwise};
pub use rate::{Interval, Rate, Support};
pub use retrieval::{RankedRelevance, RankingOutcome, Retrieval, retrieval, retrieval_of};
pub use verification::{AtFmr, Verification, verification};
