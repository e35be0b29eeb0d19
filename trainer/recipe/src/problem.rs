//! The reasons why an input is refused, collected so that a client sees all of them at once.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// One reason why an input is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// RFC 6901 pointer into the refused document, such as `/arms/1/layer_drop/theta_limit`.
    pub pointer: String,
    /// One sentence: what was found, and what is allowed.
    pub message: String,
}

/// The most problems that are collected. A longer list tells a person nothing more, and each one quotes the input.
pub const MOST_PROBLEMS: usize = 100;

/// The first [`MOST_PROBLEMS`] problems, and after them one that tells how many there are besides.
pub fn first(mut problems: Vec<Problem>) -> Vec<Problem> {
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    // A list that was shortened before ends in such a problem, and is not shortened again.
    if more > 1 {
        problems.truncate(MOST_PROBLEMS);
        problems.push(Problem { pointer: String::new(), message: more_problems(more) });
    }
    problems
}

fn more_problems(more: usize) -> String {
    format!("there are {more} more problems, which are not listed")
}

/// Collects problems under a path, so that a check never has to know where its object sits. The same problem at the
/// same place is noted once.
#[derive(Debug, Default)]
pub struct Problems {
    path: String,
    found: Vec<Problem>,
    /// Problems beyond [`MOST_PROBLEMS`], which are counted only.
    more: usize,
}

impl Problems {
    /// Collects the problems of an object that stands at `pointer` of its document.
    pub fn at(pointer: impl Into<String>) -> Self {
        Self { path: pointer.into(), ..Self::default() }
    }

    /// Notes a problem at `field` of the current object; an empty `field` means the object itself.
    pub fn add(&mut self, field: impl Display, message: impl Into<String>) {
        let field = field.to_string();
        let inner = if field.is_empty() { String::new() } else { format!("/{}", pointer_token(&field)) };
        self.note(&inner, message.into());
    }

    /// Notes `message` at `field` unless `holds`.
    pub fn require(&mut self, holds: bool, field: impl Display, message: impl FnOnce() -> String) {
        if !holds {
            self.add(field, message());
        }
    }

    /// Notes a problem at `field` if it has more than `most` items.
    pub fn bound(&mut self, field: impl Display, items: usize, most: usize) {
        self.require(items <= most, field, || format!("{items} items: at most {most} are allowed"));
    }

    /// Runs `check` with `field` appended to the path.
    pub fn within(&mut self, field: impl Display, check: impl FnOnce(&mut Self)) {
        let outer = self.path.len();
        self.path.push('/');
        self.path.push_str(&pointer_token(&field.to_string()));
        check(self);
        self.path.truncate(outer);
    }

    /// Runs `check` on an object that was put together from parts of the current one, and notes what it finds at the
    /// `pointers` of those parts in the current one.
    pub fn assembled(&mut self, pointers: &Pointers, check: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        check(&mut inner);
        self.more += inner.more;
        for Problem { pointer, message } in inner.found {
            if let Some(pointer) = pointers.of(&pointer) {
                self.note(&pointer, message);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems in the order in which they were found. If there are more than [`MOST_PROBLEMS`], one more at the
    /// end tells how many.
    pub fn into_vec(self) -> Vec<Problem> {
        let Self { path: _, mut found, more } = self;
        if more > 0 {
            found.push(Problem { pointer: String::new(), message: more_problems(more) });
        }
        found
    }

    fn note(&mut self, inner: &str, message: String) {
        if self.found.len() >= MOST_PROBLEMS {
            self.more += 1;
            return;
        }
        let problem = Problem { pointer: format!("{}{inner}", self.path), message };
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }
}

/// The pointers to the parts of an object in the document from which it was put together. The longest pointer that
/// reaches a problem decides; a problem that none reaches keeps its pointer.
///
/// A pre-train recipe has its layer drop from an arm, its sizes from the model, and the rest from the job's settings:
///
/// ```
/// let pointers = recipe::problem::Pointers::default()
///     .part("", "/pretrain")
///     .part("/model", "/model")
///     .part("/layer_drop", "/arms/2/layer_drop");
/// assert_eq!(pointers.of("/layer_drop/gamma").as_deref(), Some("/arms/2/layer_drop/gamma"));
/// assert_eq!(pointers.of("/steps").as_deref(), Some("/pretrain/steps"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Pointers {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    inner: String,
    outer: Outer,
}

#[derive(Debug, Clone)]
enum Outer {
    /// Everything in the part stands below this pointer.
    Part(String),
    /// The whole part follows from the value at this pointer.
    Value(String),
    CheckedElsewhere,
}

impl Pointers {
    /// The part at `inner` of the object stands at `outer` of the document, with everything in it.
    #[must_use]
    pub fn part(self, inner: impl Into<String>, outer: impl Into<String>) -> Self {
        self.with(inner.into(), Outer::Part(outer.into()))
    }

    /// The part at `inner` of the object follows from the one value at `outer` of the document, such as a name.
    #[must_use]
    pub fn value(self, inner: impl Into<String>, outer: impl Into<String>) -> Self {
        self.with(inner.into(), Outer::Value(outer.into()))
    }

    /// The problems of the part at `inner` of the object are not noted, because another check does so.
    #[must_use]
    pub fn checked_elsewhere(self, inner: impl Into<String>) -> Self {
        self.with(inner.into(), Outer::CheckedElsewhere)
    }

    fn with(mut self, inner: String, outer: Outer) -> Self {
        self.parts.push(Part { inner, outer });
        self
    }

    /// The pointer into the document of `pointer` into the object; `None` for a part that is checked elsewhere.
    pub fn of(&self, pointer: &str) -> Option<String> {
        let rest = |part: &Part| {
            let rest = pointer.strip_prefix(&part.inner)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(rest)
        };
        let reaching = self.parts.iter().filter_map(|part| Some((part, rest(part)?)));
        let Some((part, rest)) = reaching.max_by_key(|(part, _)| part.inner.len()) else {
            return Some(pointer.to_owned());
        };
        match &part.outer {
            Outer::Part(outer) => Some(format!("{outer}{rest}")),
            Outer::Value(outer) => Some(outer.clone()),
            Outer::CheckedElsewhere => None,
        }
    }
}

/// A name as one step of a JSON pointer (RFC 6901, section 3).
pub fn pointer_token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(problems: Problems) -> Vec<String> {
        problems.into_vec().into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn a_pointer_leads_from_the_document_to_the_field() {
        let mut problems = Problems::at("/recipe");
        problems.within("arms", |problems| problems.within(2, |problems| problems.add("a/b~c", "wrong")));
        problems.add("", "wrong");
        problems.require(true, "steps", || unreachable!("it holds"));
        assert_eq!(pointers(problems), ["/recipe/arms/2/a~1b~0c", "/recipe"]);
    }

    #[test]
    fn the_same_problem_is_noted_once_at_each_place() {
        let mut problems = Problems::default();
        for field in ["steps", "batch", "steps"] {
            problems.add(field, "0 is too few");
        }
        problems.add("steps", "and another reason");
        assert_eq!(pointers(problems), ["/steps", "/batch", "/steps"]);
    }

    #[test]
    fn past_the_first_problems_only_their_number_is_kept() {
        let mut problems = Problems::default();
        for index in 0..MOST_PROBLEMS + 7 {
            problems.add(index, "wrong");
        }
        let found = problems.into_vec();
        assert_eq!(found.len(), MOST_PROBLEMS + 1);
        let last =
            Problem { pointer: String::new(), message: "there are 7 more problems, which are not listed".into() };
        assert_eq!(found.last(), Some(&last));
        assert_eq!(first(found.clone()), found);
        assert_eq!(first([found.clone(), found.clone()].concat()).len(), MOST_PROBLEMS + 1);
    }

    #[test]
    fn a_part_is_found_by_its_longest_pointer() {
        let pointers = Pointers::default()
            .part("", "/pretrain")
            .part("/model/order", "/arms/1/order")
            .part("/model", "/model")
            .value("/from", "/arms/1/checkpoint")
            .checked_elsewhere("/from/seeds");
        for (inner, outer) in [
            ("/steps", Some("/pretrain/steps")),
            ("", Some("/pretrain")),
            ("/model/order", Some("/arms/1/order")),
            ("/model/heads", Some("/model/heads")),
            ("/model", Some("/model")),
            ("/models", Some("/pretrain/models")),
            ("/from/model/heads", Some("/arms/1/checkpoint")),
            ("/from/seeds/init", None),
        ] {
            assert_eq!(pointers.of(inner).as_deref(), outer, "{inner}");
        }
        assert_eq!(Pointers::default().of("/steps").as_deref(), Some("/steps"));
    }

    #[test]
    fn an_assembled_object_is_refused_where_its_parts_stand_and_once_for_all_that_share_them() {
        let mut problems = Problems::at("/job");
        for arm in 0..2 {
            let pointers =
                Pointers::default().part("", "/pretrain").part("/layer_drop", format!("/arms/{arm}/layer_drop"));
            problems.assembled(&pointers, |problems| {
                problems.add("steps", "0 is too few");
                problems.within("layer_drop", |problems| problems.add("gamma", "below 0"));
            });
        }
        problems.add("name", "empty");
        assert_eq!(
            pointers(problems),
            ["/job/pretrain/steps", "/job/arms/0/layer_drop/gamma", "/job/arms/1/layer_drop/gamma", "/job/name"]
        );
    }
}
