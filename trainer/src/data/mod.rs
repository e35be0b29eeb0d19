//! Text and images in, batches of numbers out. No tensors: everything here is plain numbers.
//!
//! | module | from | to |
//! |---|---|---|
//! | [`corpus`] | files of text | documents |
//! | [`vocabulary`] | `vocab.txt`, or a corpus | WordPiece ids |
//! | [`tokens`] | a corpus and a vocabulary | packed sequences on disk |
//! | [`masking`] | packed sequences and a step | a masked batch |
//! | [`images`] | images | batches of them |
//! | [`material`] | text or images | what a pre-training is shown |
//! | [`glue`] | the official files of a task | examples |
//! | [`batch`] | examples and an epoch | padded batches |
//! | [`ahead`] | what makes a batch | the same, in a thread of its own |

pub mod ahead;
pub mod batch;
pub mod corpus;
mod error;
pub mod glue;
pub mod images;
pub mod masking;
pub mod material;
mod pack;
mod pipeline;
pub mod tokens;
pub mod vocabulary;

pub use error::DataError;
