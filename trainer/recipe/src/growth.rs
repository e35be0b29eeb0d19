//! Training that starts shallow and grows: progressive stacking (Gong et al. 2019) and its relatives.

use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::problem::Problems;

/// How the blocks that a growth stage adds are initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum NewBlocks {
    /// As copies of the trained blocks in turn: 3 blocks become 6 as 1 2 3 1 2 3.
    #[default]
    Copy,
    /// With the initial values that the `init` seed gives them.
    Fresh,
}

/// What happens to the optimiser's moments when the model grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum GrownState {
    /// Every weight keeps its moments, and a copy gets those of its source.
    #[default]
    Keep,
    /// All moments are set to zero.
    Reset,
}

/// The model has `blocks` blocks until the share `until` of the budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct GrowthStage {
    pub blocks: u32,
    pub until: f64,
}

/// Training in stages of increasing depth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Growth {
    /// The stages, shallowest first. After the last one the model has all its blocks.
    pub stages: Vec<GrowthStage>,
    #[serde(default)]
    pub new: NewBlocks,
    #[serde(default)]
    pub optimizer: GrownState,
}

impl Growth {
    /// Each stage has at least one block more than the one before.
    pub const MOST_STAGES: usize = 1024;

    pub fn check(&self, model: &Model, problems: &mut Problems) {
        problems.bound("stages", self.stages.len(), Self::MOST_STAGES);
        problems.require(!self.stages.is_empty(), "stages", || {
            "there is no stage: name at least one, or leave `growth` out".into()
        });
        problems.require(model.order.is_none(), "", || {
            "a model with an `order` of its own cannot grow: leave `growth` or `order` out".into()
        });
        problems.within("stages", |problems| {
            let (mut blocks, mut until) = (0, 0.0);
            for (index, stage) in self.stages.iter().enumerate() {
                problems.within(index, |problems| {
                    problems.require(stage.blocks > blocks && stage.blocks < model.blocks, "blocks", || {
                        format!(
                            "{} blocks: choose more than {blocks} and fewer than the model's {}",
                            stage.blocks, model.blocks
                        )
                    });
                    problems.require(stage.until > until && stage.until < 1.0, "until", || {
                        format!("{}: choose a share of the budget above {until} and below 1", stage.until)
                    });
                });
                (blocks, until) = (stage.blocks, stage.until);
            }
        });
    }

    /// Number of blocks once the share `share` of the budget is spent; `blocks` is the full depth.
    pub fn blocks_at(&self, share: f64, blocks: u32) -> u32 {
        self.stages.iter().find(|stage| share < stage.until).map_or(blocks, |stage| stage.blocks)
    }

    /// The block (from 0) of which `block` becomes a copy, if `trained` blocks exist.
    pub const fn source(block: u32, trained: u32) -> u32 {
        block % trained
    }

    /// Share of the encoder's work that is saved over a run, compared with `blocks` blocks from the start.
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
    fn three_blocks_become_six_and_twelve_at_a_quarter_and_half_of_the_budget() {
        let at = |share| gong().blocks_at(share, 12);
        assert_eq!([0.0, 0.249, 0.25, 0.499, 0.5, 0.99].map(at), [3, 3, 6, 6, 12, 12]);
        assert_eq!((3..6).map(|block| Growth::source(block, 3)).collect::<Vec<_>>(), [0, 1, 2]);
        assert!((gong().encoder_saving(12) - (0.25 * 0.75 + 0.25 * 0.5)).abs() < 1e-12);
    }

    #[test]
    fn a_stage_that_is_not_deeper_and_later_than_the_one_before_is_refused() {
        let model = Model::of_size(Size { blocks: 6, hidden: 8, heads: 2, intermediate: 8 }, Norm::Pre);
        let mut problems = Problems::default();
        gong().check(&model, &mut problems);
        let mut wrong = gong();
        wrong.stages[0].until = 0.7;
        wrong.check(&model, &mut problems);
        let pointers: Vec<_> = problems.into_vec().into_iter().map(|problem| problem.pointer).collect();
        assert_eq!(pointers, ["/stages/1/blocks", "/stages/1/until"]);
    }
}
