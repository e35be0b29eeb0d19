//! The pointers to the parts of a recipe in the submission from which the recipe was made.

use recipe::problem::Pointers;

use crate::job::{ArmSpec, GlueSpec, KeepChoice};

/// The pointers of the pre-train recipe of the arm at `index`.
pub(super) fn of_pretrain(index: usize, arm: &ArmSpec, images: bool) -> Pointers {
    let mut pointers = Pointers::default().part("", "/pretrain").part("/model", "/model").part("/images", "/images");
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
            pointers = pointers.part(inner, format!("/arms/{index}/{field}"));
        }
    }
    if images {
        // A model of images has as many positions as an image has tokens.
        pointers.part("/vocabulary", "/vocabulary").value("/model/positions", "/images")
    } else {
        pointers.part("/vocabulary", "/vocabulary/train")
    }
}

/// The pointers of a fine-tune recipe with the choice of blocks at `keep` and the learning rate at `rate`.
pub(super) fn of_finetune(glue: &GlueSpec, keep: usize, rate: usize) -> Pointers {
    let pointers = Pointers::default()
        .part("", "/glue")
        .part("/learning_rate/peak", format!("/glue/learning_rates/{rate}"))
        .part("/learning_rate/warmup", "/glue/warmup")
        .checked_elsewhere("/from")
        .checked_elsewhere("/optimizer");
    match glue.keep {
        KeepChoice::One(_) => pointers,
        KeepChoice::Several(_) => pointers.part("/keep", format!("/glue/keep/{keep}")),
    }
}

/// The pointers of the probe of a checkpoint that the job makes.
pub(super) fn of_probe() -> Pointers {
    Pointers::default().part("", "/probe").checked_elsewhere("/from")
}

/// The pointers of the probe of the published checkpoint from which the arm at `index` starts.
pub(super) fn of_published_probe(index: usize) -> Pointers {
    Pointers::default()
        .part("", "/probe")
        .part("/from", "/pretrain")
        .value("/from/model", format!("/arms/{index}/checkpoint"))
}

/// The pointers of the timing recipe.
pub(super) fn of_timing() -> Pointers {
    Pointers::default().part("", "/timing").checked_elsewhere("/arms")
}
