//! BERT in forward order: embeddings, attention and feed-forward sublayers, heads. Models of images differ only in
//! their embeddings and heads.
//!
//! Shapes in comments: `B` sequences, `S` tokens in each, `H` hidden width, `A` heads, `D = H/A`, `I` intermediate
//! width, `V` vocabulary, `M` masked positions.

pub mod attention;
mod dropout;
pub mod embeddings;
pub mod encoder;
pub mod heads;
pub mod input;
pub mod layout;
mod linear;
pub mod patches;
pub mod published;
pub mod sublayer;
pub mod weights;

pub use encoder::Encoder;
pub use heads::{Classifier, Detector, LabelHead, MlmHead, NextSentenceHead};
pub use input::Input;
pub use layout::{Family, Head, TextFamily, TextHead};
pub use weights::Weights;
