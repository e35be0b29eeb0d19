//! A simulated agent, which reports what a test tells it to.

use scheduler::control::Control;
use serde_json::{Value, json};
use uuid::Uuid;

use super::server::Server;

/// An agent with two processor slots, and the control loop, one call at a time.
pub(super) struct Agent<'a> {
    server: &'a Server,
    pub(super) control: Control,
    instance: Uuid,
}

impl<'a> Agent<'a> {
    pub(super) fn new(server: &'a Server) -> Self {
        let app = &server.app;
        let control = Control::new(app.store.clone(), app.artifacts.clone(), app.policy.clone());
        Self { server, control, instance: Uuid::now_v7() }
    }

    pub(super) async fn sync(&self, attempts: Value) -> Value {
        let slot =
            |index| json!({"index": index, "device": "cpu", "model": "m", "threads": 1, "memory_bytes": 1 << 30});
        let request = json!({
            "node": {"name": "n1", "labels": {}, "slots": [slot(0), slot(1)]},
            "instance": self.instance,
            "attempts": attempts,
        });
        let answer = self.server.post("/agents/sync", &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The assignments of the agent after one round of the control loop.
    pub(super) async fn assigned(&self) -> Vec<Value> {
        self.control.round().await.unwrap();
        self.sync(json!([])).await["run"].as_array().unwrap().clone()
    }

    /// Reports a successful attempt with these events and this report.
    pub(super) async fn carry_out(&self, assignment: &Value, events: Vec<Value>, report: Value) {
        let started = json!({
            "event": "started", "fingerprint": "f", "total_steps": 2000,
            "device": {"name": "cpu", "model": "m", "threads": 1, "libtorch": "2.11.0", "trainer": "0.1.0"},
        });
        let finished = json!({"event": "finished", "report": report});
        let events = [vec![started], events, vec![finished]].concat();
        let sequenced = |(index, event): (usize, Value)| json!({"sequence": index + 1, "event": event});
        let attempt = json!({
            "attempt": assignment["attempt"],
            "state": {"state": "ended", "outcome": {"as": "succeeded"}},
            "events": events.into_iter().enumerate().map(sequenced).collect::<Vec<_>>(),
            "log": [{"sequence": 1, "text": "hello"}],
        });
        let answer = self.sync(json!([attempt])).await;
        assert_eq!(answer["acknowledged"][0]["closed"], true, "{answer}");
    }
}
