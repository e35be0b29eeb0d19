//! The identity of an agent process, by which the server tells it from the process before it and from any other.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use uuid::Uuid;

/// The file of the home that holds the instance of the newest agent.
const FILE: &str = "instance";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// A new id at each start.
    pub(crate) instance: Uuid,
    /// The instance of the agent that used this home before. It has ended, because this agent holds the lock on the home.
    pub(crate) predecessor: Option<Uuid>,
}

/// The instance of the newest agent in this home; `None` if there is none, or its file is not whole.
pub fn instance_in(home: &Path) -> io::Result<Option<Uuid>> {
    match fs::read_to_string(home.join(FILE)) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Identity {
    /// Draws an instance and leaves it in the locked home for the next agent.
    pub(crate) fn new(home: &Path) -> io::Result<Self> {
        // If a crash cut the file off, the server waits until the predecessor's lease has run out.
        let predecessor = instance_in(home)?;
        let instance = Uuid::now_v7();
        fs::write(home.join(FILE), format!("{instance}\n"))?;
        Ok(Self { instance, predecessor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_of_a_home_knows_the_one_before_it() {
        let home = tempfile::tempdir().unwrap();
        let first = Identity::new(home.path()).unwrap();
        assert_eq!(first.predecessor, None);
        let second = Identity::new(home.path()).unwrap();
        assert_eq!(second.predecessor, Some(first.instance));
        assert_ne!(second.instance, first.instance);
        fs::write(home.path().join(FILE), "0199").unwrap();
        assert_eq!(Identity::new(home.path()).unwrap().predecessor, None);
    }
}
