//! BERT in forward order: embeddings, blocks of an attention and a feed-forward half, heads.
//!
//! Shapes in comments: `B` sequences, `S` tokens in each, `H` hidden width, `A` heads, `D = H/A`, `I` intermediate width,
//! `V` vocabulary, `M` masked positions.

pub mod attention;
pub mod block;
mod dropout;
pub mod embeddings;
pub mod encoder;
pub mod heads;
pub mod layout;
mod linear;
pub mod published;
pub mod weights;

pub use encoder::{Encoder, Input};
pub use heads::{Classifier, MlmHead};
pub use layout::Head;
pub use weights::Weights;
