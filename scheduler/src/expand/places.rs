//! Where the parts of a recipe stand in the submission from which the recipe was made.

use recipe::problem::Places;

use crate::job::{ArmSpec, GlueSpec, KeepChoice};

/// The places of the pre-train recipe of the arm at `index`.
pub(super) fn of_pretrain(index: usize, arm: &ArmSpec, images: bool) -> Places {
    let mut places = Places::default().part("", "/pretrain").part("/model", "/model").part("/images", "/images");
    for (inner, field, is_of_arm) in [
        ("/model/embedding_norm", "embedding_norm", true),
        ("/model/order", "order", true),
        ("/model/embedding", "embedding", true),
        ("/layer_drop", "layer_drop", true),
        ("/growth", "growth", true),
        // The arm may replace these settings of the job.
        ("/learning_rate", "learning_rate", arm.learning_rate.is_some()),
        ("/objective", "objective", arm.objective.is_some()),
        ("/optimizer", "optimizer", arm.optimizer.is_some()),
        ("/micro_batches", "micro_batches", arm.micro_batches.is_some()),
    ] {
        if is_of_arm {
            places = places.part(inner, format!("/arms/{index}/{field}"));
        }
    }
    if images {
        // A model of images has as many positions as an image has tokens.
        places.part("/vocabulary", "/vocabulary").value("/model/positions", "/images")
    } else {
        places.part("/vocabulary", "/vocabulary/train")
    }
}

/// The places of a fine-tune recipe with the choice of blocks at `keep` and the learning rate at `rate`.
pub(super) fn of_finetune(glue: &GlueSpec, keep: usize, rate: usize) -> Places {
    let places = Places::default()
        .part("", "/glue")
        .part("/learning_rate/peak", format!("/glue/learning_rates/{rate}"))
        .part("/learning_rate/warmup", "/glue/warmup")
        .checked_elsewhere("/from")
        .checked_elsewhere("/optimizer");
    match glue.keep {
        KeepChoice::One(_) => places,
        KeepChoice::Several(_) => places.part("/keep", format!("/glue/keep/{keep}")),
    }
}

/// The places of the probe of a checkpoint that the job makes.
pub(super) fn of_probe() -> Places {
    Places::default().part("", "/probe").checked_elsewhere("/from")
}

/// The places of the probe of the published checkpoint from which the arm at `index` starts.
pub(super) fn of_published_probe(index: usize) -> Places {
    Places::default()
        .part("", "/probe")
        .part("/from", "/pretrain")
        .value("/from/model", format!("/arms/{index}/checkpoint"))
}

/// The places of the timing recipe.
pub(super) fn of_timing() -> Places {
    Places::default().part("", "/timing").checked_elsewhere("/arms")
}
