//! Where the problems of a recipe stand in the submission from which the recipe was made.

use recipe::{Problem, Recipe};

use crate::job::{ArmSpec, GlueSpec, KeepChoice};

/// Checks `recipe` and adds its problems to `found`, each once. `place` turns a pointer into the recipe to a pointer into the
/// submission; it drops a problem that another recipe of the job has as well.
pub(super) fn check(recipe: &Recipe, found: &mut Vec<Problem>, place: impl Fn(&str) -> Option<String>) {
    for Problem { pointer, message } in recipe.validate() {
        if let Some(pointer) = place(&pointer) {
            note(found, Problem { pointer, message });
        }
    }
}

/// Adds a problem unless it is known: several recipes share most of their settings.
pub(super) fn note(found: &mut Vec<Problem>, problem: Problem) {
    if !found.contains(&problem) {
        found.push(problem);
    }
}

/// The place of a setting of the pre-train recipe of the arm at `index`.
pub(super) fn of_pretrain(inner: &str, index: usize, arm: &ArmSpec, images: bool) -> String {
    match inner {
        "/model/embedding_norm" => format!("/arms/{index}/embedding_norm"),
        "/vocabulary" if images => "/vocabulary".into(),
        "/vocabulary" => "/vocabulary/train".into(),
        // A model of images has as many positions as an image has tokens.
        "/model/positions" if images => "/images".into(),
        _ if inner.starts_with("/images") => inner.into(),
        _ if inner.starts_with("/layer_drop") => format!("/arms/{index}{inner}"),
        "/model/order" | "/model/embedding" => inner.replacen("/model", &format!("/arms/{index}"), 1),
        _ if inner.starts_with("/growth") => format!("/arms/{index}{inner}"),
        _ if inner.starts_with("/learning_rate") && arm.learning_rate.is_some() => format!("/arms/{index}{inner}"),
        _ if inner.starts_with("/objective") && arm.objective.is_some() => format!("/arms/{index}{inner}"),
        _ if inner.starts_with("/optimizer") && arm.optimizer.is_some() => format!("/arms/{index}{inner}"),
        _ if inner.starts_with("/micro_batches") && arm.micro_batches.is_some() => format!("/arms/{index}{inner}"),
        _ if inner.starts_with("/model") => inner.into(),
        _ => format!("/pretrain{inner}"),
    }
}

/// The place of a setting of a fine-tune recipe with the choice of blocks at `keep` and the learning rate at `rate`; `None`
/// for the settings of its pre-training.
pub(super) fn of_finetune(inner: &str, glue: &GlueSpec, keep: usize, rate: usize) -> Option<String> {
    Some(match inner {
        "/learning_rate/peak" => format!("/glue/learning_rates/{rate}"),
        "/learning_rate/warmup" => "/glue/warmup".into(),
        "/keep" if matches!(glue.keep, KeepChoice::Several(_)) => format!("/glue/keep/{keep}"),
        _ if inner.starts_with("/from") || inner.starts_with("/optimizer") => return None,
        _ => format!("/glue{inner}"),
    })
}

/// The place of a setting of the probe of a published checkpoint, that of the arm at `index`.
pub(super) fn of_published_probe(inner: &str, index: usize) -> String {
    match inner.strip_prefix("/from") {
        None => format!("/probe{inner}"),
        Some(model) if model.starts_with("/model") => format!("/arms/{index}/checkpoint"),
        Some(inner) => format!("/pretrain{inner}"),
    }
}
