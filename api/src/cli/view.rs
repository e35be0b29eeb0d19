//! What the commands read of the server's answers. Fields that they do not show are left out, so that an older client
//! gets along with a newer server.

use chrono::{DateTime, Utc};
use recipe::{Failure, Seeds};
use serde::Deserialize;
use uuid::Uuid;

#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    #[serde(default)]
    pub(super) next: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Job {
    pub(super) id: Uuid,
    pub(super) name: String,
    /// `queued`, `running`, `succeeded`, `partial`, `failed` or `cancelled`.
    pub(super) status: String,
    pub(super) created_at: DateTime<Utc>,
    pub(super) finished_at: Option<DateTime<Utc>>,
    pub(super) arms: Vec<String>,
    pub(super) trials: Counts,
    /// From 0 to 1.
    pub(super) progress: f64,
    pub(super) estimated_end: Option<DateTime<Utc>>,
}

impl Job {
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.status.as_str(), "queued" | "running")
    }
}

/// Trials by state.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    pub(super) blocked: u64,
    pub(super) queued: u64,
    pub(super) running: u64,
    pub(super) paused: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
}

impl Counts {
    pub(super) fn ended(self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }

    pub(super) fn all(self) -> u64 {
        self.ended() + self.blocked + self.queued + self.running + self.paused
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Trial {
    pub(super) id: Uuid,
    /// `timing`, `pretrain` or `finetune`.
    pub(super) stage: String,
    pub(super) arm: Option<String>,
    pub(super) task: Option<String>,
    pub(super) seeds: Seeds,
    pub(super) state: String,
    #[serde(default)]
    pub(super) pending_reason: Option<String>,
    #[serde(default)]
    pub(super) step: u64,
    #[serde(default)]
    pub(super) total_steps: u64,
    pub(super) failure: Option<Failure>,
    #[serde(default)]
    report: Option<serde_json::Value>,
}

impl Trial {
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "cancelled")
    }

    /// Share of its steps that are made, from 0 to 1.
    pub(super) fn progress(&self) -> f64 {
        match self.state.as_str() {
            "succeeded" | "failed" | "cancelled" => 1.0,
            _ if self.total_steps == 0 => 0.0,
            _ => (self.step as f64 / self.total_steps as f64).min(1.0),
        }
    }

    /// The seed that tells repetitions apart: a job numbers them by the order of the data.
    pub(super) fn seed(&self) -> u64 {
        self.seeds.data
    }

    /// Fine-tuning score or final validation loss.
    pub(super) fn score(&self) -> Option<f64> {
        let report = self.report.as_ref()?;
        report.get("score").or_else(|| report.get("validation_loss"))?.as_f64()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) live: bool,
    pub(super) slots: Vec<Slot>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Slot {
    pub(super) index: u32,
    pub(super) device: String,
    pub(super) model: String,
    pub(super) threads: u32,
    pub(super) memory_bytes: u64,
    pub(super) attempt: Option<OpenAttempt>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OpenAttempt {
    pub(super) trial: Uuid,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dataset {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) digest: String,
    pub(crate) path: String,
    pub(crate) bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Token {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) scope: String,
    pub(super) created_at: Option<DateTime<Utc>>,
    /// The secret, only in the answer to its creation.
    #[serde(default)]
    pub(super) token: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Logs {
    pub(super) items: Vec<LogLine>,
    /// Set when there are more lines.
    pub(super) next: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LogLine {
    pub(super) id: i64,
    pub(super) text: String,
}
