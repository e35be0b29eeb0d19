//! Arguments that name a thing by its id: what is said if they do not.

use std::str::FromStr;

use protocol::id::{JobId, TokenId, TrialId};

/// The things that have ids, each with the command that lists them.
const LISTED: [(&str, &str); 3] =
    [("job", "lamina jobs"), ("trial", "lamina trials JOB"), ("token", "lamina token list")];

pub(super) fn job(text: &str) -> Result<JobId, String> {
    id(text, "job")
}

pub(super) fn trial(text: &str) -> Result<TrialId, String> {
    id(text, "trial")
}

pub(super) fn token(text: &str) -> Result<TokenId, String> {
    id(text, "token")
}

fn id<T: FromStr>(text: &str, thing: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not the id of a {thing}; {}", where_listed(thing)))
}

fn where_listed(thing: &str) -> String {
    let command = LISTED.iter().find(|(listed, _)| *listed == thing).map_or("lamina --help", |(_, command)| command);
    format!("`{command}` lists {thing}s with their ids")
}

/// Where the thing is listed that, as a server's answer says, does not exist; `None` if it has no id.
pub(super) fn hint(answer: &str) -> Option<String> {
    let thing = answer.strip_prefix("there is no ")?.split(' ').next()?;
    LISTED.iter().any(|(listed, _)| *listed == thing).then(|| where_listed(thing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_that_is_no_id_is_answered_with_the_command_that_lists_them() {
        let id = JobId::new();
        assert_eq!(job(&id.to_string()), Ok(id));
        assert_eq!(job("abc").unwrap_err(), "not the id of a job; `lamina jobs` lists jobs with their ids");
        assert!(trial("../tokens?").unwrap_err().contains("`lamina trials JOB` lists trials"));
        assert!(token("").unwrap_err().contains("`lamina token list` lists tokens"));
    }

    #[test]
    fn an_unknown_id_has_the_same_hint() {
        assert_eq!(hint("there is no job 0190").unwrap(), "`lamina jobs` lists jobs with their ids");
        assert_eq!(hint("there is no arm \"x\" in this job"), None);
        assert_eq!(hint("internal error"), None);
    }
}
