//! The contribution of each block.

use super::cell::{known, number};
use super::part::Part;
use super::table::Table;
use crate::probe::{BlockMeans, ProbeArm};

pub(super) fn section(arms: &[ProbeArm]) -> Vec<Part> {
    if arms.is_empty() {
        return Vec::new();
    }
    let rows: Vec<(&ProbeArm, &BlockMeans)> =
        arms.iter().flat_map(|arm| arm.blocks.iter().map(move |block| (arm, block))).collect();
    let table = Table::of(&rows)
        .left("Arm", |(arm, _)| arm.arm.clone())
        .right("n", |(arm, _)| arm.n.to_string())
        .right("Block", |(_, block)| block.block.to_string())
        .right("Removed", |(_, block)| increase(Some(block.removed_adds)))
        .right("Swapped", |(_, block)| increase(block.swapped_adds))
        // This number belongs to the whole arm, so only the first of its rows has it.
        .right("Shuffled", |(arm, block)| if block.block == 1 { increase(arm.shuffled_adds) } else { String::new() })
        .right("Cosine", |(_, block)| number(block.cosine, 4))
        .right("Distance", |(_, block)| number(block.distance, 3))
        .right("Gradient", |(_, block)| number(block.gradient_norm, 4));
    vec![
        Part::heading("Contribution of each block"),
        "Increase of the validation loss if the block is removed, if it is swapped with the next one, and if all \
         blocks are in random order; cosine and L2 distance of a token's vector before and after the block; L2 norm of \
         the gradient of its weights. Means over n checkpoints."
            .into(),
        table.into(),
    ]
}

fn increase(loss: Option<f64>) -> String {
    known(loss, |loss| format!("{loss:+.4}"))
}
