//! Text and images in, batches of plain numbers out: nothing here knows of tensors.
//!
//! | module | from | to |
//! |---|---|---|
//! | [`corpus`] | text files | documents |
//! | [`vocabulary`] | `vocab.txt`, or a corpus | WordPiece ids |
//! | [`tokens`] | a corpus and a vocabulary | packed sequences on disk |
//! | [`masking`] | packed sequences and a step | masked batches |
//! | [`images`] | images | batches of patches or intensities |
//! | [`material`] | text or images | the batches of a pre-training |
//! | [`glue`] | the official files of a task | examples |
//! | [`batch`] | examples and an epoch | padded batches |
//! | [`prefetcher`] | a function that makes a batch | the same function, one batch ahead in its own thread |

pub mod batch;
pub mod corpus;
mod error;
pub mod glue;
pub mod images;
pub mod masking;
pub mod material;
mod pack;
mod pipeline;
pub mod prefetcher;
pub mod pretrain_batch;
pub mod tokens;
pub mod vocabulary;

pub use error::DataError;
