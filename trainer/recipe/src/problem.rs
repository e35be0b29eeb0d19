//! What is wrong with a recipe, said all at once.

use serde::{Deserialize, Serialize};

/// One reason why an input is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// RFC 6901 pointer into the refused document, such as `/arms/1/layer_drop/theta_limit`.
    pub pointer: String,
    /// One sentence: what was found and what is allowed.
    pub message: String,
}

/// Collects problems under a path, so that a check never has to know where its object sits.
#[derive(Debug, Default)]
pub struct Problems {
    path: String,
    found: Vec<Problem>,
}

impl Problems {
    /// Collects the problems of an object that stands at `pointer` of its document.
    pub fn at(pointer: impl Into<String>) -> Self {
        Self { path: pointer.into(), found: Vec::new() }
    }

    /// Notes a problem at `field` of the current object; an empty `field` means the object itself.
    pub fn add(&mut self, field: &str, message: impl Into<String>) {
        let pointer = if field.is_empty() { self.path.clone() } else { format!("{}/{}", self.path, escape(field)) };
        self.found.push(Problem { pointer, message: message.into() });
    }

    /// Notes `message` at `field` unless `holds`.
    pub fn require(&mut self, holds: bool, field: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.add(field, message());
        }
    }

    /// Runs `check` with `field` appended to the path.
    pub fn within(&mut self, field: &str, check: impl FnOnce(&mut Self)) {
        let outer = self.path.len();
        self.path.push('/');
        self.path.push_str(&escape(field));
        check(self);
        self.path.truncate(outer);
    }

    /// All problems, in the order in which they were found.
    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}

fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}
