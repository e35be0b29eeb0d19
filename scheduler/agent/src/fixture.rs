//! Values for the agent's unit tests, and for its tests with a server, which include this file.

use serde_json::json;

use protocol::Assignment;
use protocol::id::{AttemptId, TrialId};

/// A new attempt of a small pre-train trial that needs no files.
pub(crate) fn assignment(slot: u32) -> Assignment {
    let recipe = json!({
        "stage": "pretrain",
        "model": {"blocks": 2, "hidden": 12, "heads": 2, "intermediate": 20, "norm": "pre"},
        "learning_rate": {"peak": 1e-3}, "steps": 5, "batch": 2, "length": 16,
        "corpus": {"name": "wiki"}, "vocabulary": {"kind": "trained", "size": 200}, "validate_every": 5
    });
    Assignment {
        attempt: AttemptId::new(),
        trial: TrialId::new(),
        slot,
        spec: serde_json::from_value(json!({"recipe": recipe})).unwrap(),
        corpus: None,
        vocabulary: None,
        glue: None,
        checkpoint: None,
        from: None,
        resume: None,
        interrupt: false,
    }
}
