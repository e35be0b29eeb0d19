//! The known name that somebody may have meant.

use strsim::damerau_levenshtein;

/// The candidate that differs from `name` by the fewest typing errors, if they are at most a third of its letters. Upper
/// and lower case count as equal. Among equally near candidates, the first one is returned.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The cost grows with the product of both lengths, and nobody mistypes so long a name.
    const LONGEST: usize = 200;
    let lower = name.to_lowercase();
    let most_errors = (lower.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| lower.len() <= LONGEST && candidate.len() <= LONGEST)
        .map(|candidate| (damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(errors, _)| *errors <= most_errors)
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "NAME"?` for the [`nearest`] of the candidates, or an empty text.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_has_its_nearest_candidate() {
        let names = ["steps", "batch", "length", "learning_rate", "wiki-00"];
        for (typed, meant) in [
            ("stpes", Some("steps")),
            ("step", Some("steps")),
            ("Learning-Rate", Some("learning_rate")),
            ("wiki00", Some("wiki-00")),
            ("optimizer", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed:?}");
        }
        assert_eq!(nearest("ab", ["ax", "ay"]), Some("ax"));
        assert_eq!(nearest(&"x".repeat(300), ["x".repeat(300).as_str()]), None);
    }

    #[test]
    fn a_question_names_the_candidate() {
        assert_eq!(did_you_mean("pdl", ["pre-ln", "pld"]), "; did you mean \"pld\"?");
        assert_eq!(did_you_mean("electra", ["pre-ln", "pld"]), "");
    }
}
