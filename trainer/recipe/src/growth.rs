//! Training that starts shallow and grows: progressive stacking (Gong et al. 2019) and its relatives.

use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::problem::Problems;

/// From what the blocks start that a stage adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum NewBlocks {
    /// From the trained blocks, again and again from the first on: 3 become 6 as 1 2 3 1 2 3.
    #[default]
    Copy,
    /// From the starting values of the `init` seed.
    Fresh,
}

/// What becomes of the optimiser's state when the model grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum GrownState {
    /// Every weight keeps its moments, and a copy has those of its source.
    #[default]
    Keep,
    /// All moments start again from zero.
    Reset,
}

/// So many blocks until that share of the budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct GrowthStage {
    pub blocks: u32,
    pub until: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Growth {
    /// Shallowest first. After the last one, all blocks of the model.
    pub stages: Vec<GrowthStage>,
    #[serde(default)]
    pub new: NewBlocks,
    #[serde(default)]
    pub optimizer: GrownState,
}

impl Growth {
    pub fn check(&self, model: &Model, problems: &mut Problems) {
        problems.require(!self.stages.is_empty(), "stages", || "name at least one stage".into());
        problems
            .require(model.order.is_none(), "", || "blocks cannot be added to a sublayer order of one's own".into());
        problems.within("stages", |problems| {
            let (mut blocks, mut until) = (0, 0.0);
            for (index, stage) in self.stages.iter().enumerate() {
                problems.within(&index.to_string(), |problems| {
                    problems.require(stage.blocks > blocks && stage.blocks < model.blocks, "blocks", || {
                        format!("{}: above {blocks} and below the model's {}", stage.blocks, model.blocks)
                    });
                    problems.require(stage.until > until && stage.until < 1.0, "until", || {
                        format!("{}: a share of the budget above {until} and below 1", stage.until)
                    });
                });
                (blocks, until) = (stage.blocks, stage.until);
            }
        });
    }

    /// Blocks of the model when `share` of the budget is used up.
    pub fn blocks_at(&self, share: f64, blocks: u32) -> u32 {
        self.stages.iter().find(|stage| share < stage.until).map_or(blocks, |stage| stage.blocks)
    }

    /// The block (from 0) whose copy becomes `block` when `trained` blocks are there.
    pub const fn source(block: u32, trained: u32) -> u32 {
        block % trained
    }

    /// Share of encoder work saved over a run, against all `blocks` from the start.
    pub fn encoder_saving(&self, blocks: u32) -> f64 {
        let mut from = 0.0;
        let saved = self.stages.iter().map(|stage| {
            let share = stage.until - from;
            from = stage.until;
            share * (1.0 - f64::from(stage.blocks) / f64::from(blocks))
        });
        saved.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Norm, Size};

    fn gong() -> Growth {
        let stages = vec![GrowthStage { blocks: 3, until: 0.25 }, GrowthStage { blocks: 6, until: 0.5 }];
        Growth { stages, new: NewBlocks::Copy, optimizer: GrownState::Keep }
    }

    #[test]
    fn a_quarter_a_half_and_the_whole() {
        let at = |share| gong().blocks_at(share, 12);
        assert_eq!([0.0, 0.249, 0.25, 0.499, 0.5, 0.99].map(at), [3, 3, 6, 6, 12, 12]);
        assert_eq!((3..6).map(|block| Growth::source(block, 3)).collect::<Vec<_>>(), [0, 1, 2]);
        assert!((gong().encoder_saving(12) - (0.25 * 0.75 + 0.25 * 0.5)).abs() < 1e-12);
    }

    #[test]
    fn stages_out_of_order_are_refused_at_their_place() {
        let model = Model::of_size(Size { blocks: 6, hidden: 8, heads: 2, intermediate: 8 }, Norm::Pre);
        let mut problems = Problems::default();
        gong().check(&model, &mut problems);
        let mut wrong = gong();
        wrong.stages[0].until = 0.7;
        wrong.check(&model, &mut problems);
        let pointers: Vec<_> = problems.into_vec().into_iter().map(|problem| problem.pointer).collect();
        assert_eq!(pointers, ["/stages/1/blocks", "/stages/1/blocks", "/stages/1/until"]);
    }
}
