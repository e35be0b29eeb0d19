//! The plan of a job, as `submit --dry-run` shows it.

pub(super) type Plan = serde_json::Value;

pub(super) fn show(plan: &Plan) -> String {
    serde_json::to_string_pretty(plan).unwrap_or_default()
}
