//! Vocabularies, GLUE files and corpora, as they are published.
//!
//! The server reads a file with this code before it registers it, and the trainer reads it with the same code before it
//! trains, so that what the trainer would refuse is refused when it is registered. A reader takes an open file and not a
//! path: the server opens files beneath its data roots, and a path is for messages only. Nothing is held in memory
//! without a bound.
//!
//! | module | content |
//! |---|---|
//! | [`lines`] | the lines of a text, none longer than a bound |
//! | [`vocabulary`] | `vocab.txt` |
//! | [`glue`] | the files of GLUE's tasks |
//! | [`corpus`] | text, plain or compressed |

pub mod corpus;
mod error;
pub mod glue;
pub mod lines;
pub mod vocabulary;

pub use error::TextError;
