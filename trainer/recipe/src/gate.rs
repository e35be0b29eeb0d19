//! Which sublayers are open at a step: the draws of layer drop.
//!
//! A draw and its scale are made here together, from one probability. Draws are counter-based: a function of (seed, step,
//! draw, unit) alone, so every rank and every replay makes the same.

use serde::{Deserialize, Serialize};

use crate::model::Sublayer;
use crate::seeds::{Purpose, generator, permutation, uniform};

/// What is opened and closed as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Unit {
    /// A block, both halves together (the paper's). In an order of one's own: two sublayers that follow each other.
    #[default]
    Block,
    /// The attention halves; the feed-forward halves are always open.
    Attention,
    /// The feed-forward halves; the attention halves are always open.
    FeedForward,
    /// Each half for itself.
    Independent,
}

/// For what one draw holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Draw {
    /// For all sequences of a step (the paper's).
    #[default]
    Batch,
    /// For those of one micro-batch.
    MicroBatch,
    /// For one sequence: an open unit works on the sequences that drew it open.
    Sequence,
}

/// How the units of one draw depend on each other. Each opens every unit with its keep probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Sampler {
    /// Not at all (the paper's): the number of open units spreads, and all are open now and then.
    #[default]
    Independent,
    /// Systematic sampling over the units in a random order (Madow 1949): the number of open units is their mean, rounded
    /// up or down, so peak memory and step time are bounded.
    Systematic,
    /// No sampling: the first units are open, so many that the mean over steps is that of the keep probabilities. Open
    /// branches are not scaled.
    Top,
}

/// Which sequences of a batch go through a sublayer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    None,
    All,
    /// These, in ascending order: at least one, and not all.
    Some(Vec<u32>),
}

/// One sublayer's draw at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    pub rows: Rows,
    /// Factor on the branch where it is open: 1/p, or 1 where scaling is off.
    pub scale: f64,
}

impl Gate {
    /// What evaluation, validation and fine-tuning use.
    pub const OPEN: Gate = Gate { rows: Rows::All, scale: 1.0 };
    pub const CLOSED: Gate = Gate { rows: Rows::None, scale: 1.0 };

    /// The gates of a model with `blocks` blocks of which the first `grown` exist so far: these are open, the others closed.
    pub fn full_depth(grown: u32, blocks: u32) -> Vec<Gate> {
        let gate = |block| if block < grown { Gate::OPEN } else { Gate::CLOSED };
        (0..blocks).flat_map(|block| [gate(block), gate(block)]).collect()
    }

    pub fn is_open(&self) -> bool {
        self.rows != Rows::None
    }

    /// Share of `batch` sequences that go through.
    pub fn share(&self, batch: u32) -> f64 {
        match &self.rows {
            Rows::None => 0.0,
            Rows::All => 1.0,
            Rows::Some(rows) => rows.len() as f64 / f64::from(batch),
        }
    }
}

/// Blocks' worth of work that passes `gates` (one per sublayer): half the number of open sublayers, each counted by the
/// share of the `batch` sequences that go through it.
pub fn open_blocks(gates: &[Gate], batch: u32) -> f64 {
    gates.iter().map(|gate| gate.share(batch)).sum::<f64>() / 2.0
}

/// For whom gates are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub seed: u64,
    pub step: u64,
    /// Which micro-batch of the step, from 0.
    pub micro_batch: u32,
    /// Sequences in a micro-batch.
    pub batch: u32,
}

impl Unit {
    /// The unit that the sublayer at `place` (from 0, in forward order) belongs to; `None` where it is always open.
    pub(crate) fn of(self, place: usize, sublayers: &[Sublayer]) -> Option<usize> {
        let before = |kind: Sublayer| sublayers[..place].iter().filter(|&&other| other == kind).count();
        match (self, sublayers[place]) {
            (Unit::Block, _) => Some(place / 2),
            (Unit::Independent, _) => Some(place),
            (Unit::Attention, Sublayer::Attention) => Some(before(Sublayer::Attention)),
            (Unit::FeedForward, Sublayer::FeedForward) => Some(before(Sublayer::FeedForward)),
            (Unit::Attention, Sublayer::FeedForward) | (Unit::FeedForward, Sublayer::Attention) => None,
        }
    }
}

/// The gates of all sublayers, in forward order. `keep` holds the keep probability of each unit, `unit_of` the unit of
/// each sublayer.
pub(crate) fn draw(
    ask: &Ask,
    keep: &[f64],
    unit_of: &[Option<usize>],
    draw: Draw,
    sampler: Sampler,
    scale: bool,
) -> Vec<Gate> {
    // One draw per step; per micro-batch; per sequence. The first of each is the same.
    let draws = match draw {
        Draw::Batch => 0..1,
        Draw::MicroBatch => ask.micro_batch..ask.micro_batch + 1,
        Draw::Sequence => ask.micro_batch * ask.batch..(ask.micro_batch + 1) * ask.batch,
    };
    let opened: Vec<Vec<bool>> = draws.map(|number| open_units(ask, number, keep, sampler)).collect();
    let gate = |unit: usize| {
        let open = |row: &Vec<bool>| row[unit];
        let rows = if opened.iter().all(open) {
            Rows::All
        } else if opened.iter().any(open) {
            Rows::Some((0..).zip(&opened).filter(|(_, row)| row[unit]).map(|(index, _)| index).collect())
        } else {
            Rows::None
        };
        let scaled = scale && sampler != Sampler::Top;
        Gate { rows, scale: if scaled { 1.0 / keep[unit] } else { 1.0 } }
    };
    let gates: Vec<Gate> = (0..keep.len()).map(gate).collect();
    unit_of.iter().map(|unit| unit.map_or(Gate::OPEN, |unit| gates[unit].clone())).collect()
}

fn open_units(ask: &Ask, number: u32, keep: &[f64], sampler: Sampler) -> Vec<bool> {
    // Units count from 1, so that 0 is free for what concerns them all.
    let draws = |unit: usize| generator(ask.seed, Purpose::Gate, ask.step, u64::from(number) << 16 | unit as u64);
    match sampler {
        Sampler::Independent => keep.iter().zip(1..).map(|(&p, unit)| uniform(&mut draws(unit)) < p).collect(),
        Sampler::Systematic => {
            let mut draws = draws(0);
            let order = permutation(&mut draws, keep.len());
            let offset = uniform(&mut draws);
            let mut open = vec![false; keep.len()];
            let mut end = 0.0f64;
            for unit in order {
                // The unit whose stretch of the line holds one of the points offset, offset + 1, ...
                let begin = end;
                end += keep[unit as usize];
                open[unit as usize] = (end - offset).ceil() > (begin - offset).ceil();
            }
            open
        }
        Sampler::Top => {
            // A Kronecker sequence: between 0 and 1 as evenly as can be, so rounding adds nothing over steps.
            const GOLDEN: f64 = 0.618_033_988_749_894_9;
            let offset = ((ask.step + 1) as f64 * GOLDEN).fract();
            let count = (keep.iter().sum::<f64>() + offset).floor() as usize;
            (0..keep.len()).map(|unit| unit < count).collect()
        }
    }
}
