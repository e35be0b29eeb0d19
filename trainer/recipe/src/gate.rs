//! The draws of layer drop, which open or close each sublayer at a step.
//!
//! This module makes a draw and its scale together, from one probability. A draw is counter-based: it depends on (seed,
//! step, draw, unit) alone, so every rank and every replay makes the same draw.

use serde::{Deserialize, Serialize};

use crate::model::Sublayer;
use crate::seeds::{Purpose, generator, permutation, uniform};

/// The part of the encoder that one draw opens or closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Unit {
    /// A block, both halves together, as in the paper. If the model has its own `order`: two successive sublayers.
    #[default]
    Block,
    /// The attention halves; the feed-forward halves are always open.
    Attention,
    /// The feed-forward halves; the attention halves are always open.
    FeedForward,
    /// Each half of a block, by a draw of its own.
    Independent,
}

/// The sequences that share one draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Draw {
    /// All sequences of a step, as in the paper.
    #[default]
    Batch,
    /// All sequences of a micro-batch.
    MicroBatch,
    /// One sequence: a unit processes the sequences whose draw opened it.
    Sequence,
}

/// How the units of one draw depend on each other. Every sampler but `top` opens each unit with its keep probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Sampler {
    /// Units are drawn independently, as in the paper. The number of open units varies, and sometimes all are open.
    #[default]
    Independent,
    /// Systematic sampling over the units in a random order (Madow 1949): the number of open units is its mean, rounded
    /// up or down, so that peak memory and step time are bounded.
    Systematic,
    /// No sampling: the first units are open and the top ones closed. The number of open units, averaged over steps, is
    /// the sum of the keep probabilities. Open branches are not scaled.
    Top,
}

/// The sequences of a batch that a sublayer processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    None,
    All,
    /// The sequences with these indices, in ascending order: at least one, and not all.
    Some(Vec<u32>),
}

/// The draw of one sublayer at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    pub rows: Rows,
    /// Factor on the branch of an open sublayer: 1/p, or 1 if scaling is off.
    pub scale: f64,
}

impl Gate {
    /// The gate of evaluation, validation and fine-tuning.
    pub const OPEN: Gate = Gate { rows: Rows::All, scale: 1.0 };
    pub const CLOSED: Gate = Gate { rows: Rows::None, scale: 1.0 };

    /// The gates of a model with `blocks` blocks of which the first `grown` exist so far: these are open, the others
    /// closed.
    pub fn full_depth(grown: u32, blocks: u32) -> Vec<Gate> {
        let gate = |block| if block < grown { Gate::OPEN } else { Gate::CLOSED };
        (0..blocks).flat_map(|block| [gate(block), gate(block)]).collect()
    }

    pub fn is_open(&self) -> bool {
        self.rows != Rows::None
    }

    /// Share of the `batch` sequences that the sublayer processes.
    pub fn share(&self, batch: u32) -> f64 {
        match &self.rows {
            Rows::None => 0.0,
            Rows::All => 1.0,
            Rows::Some(rows) => rows.len() as f64 / f64::from(batch),
        }
    }
}

/// The work behind `gates` (one per sublayer), counted in blocks: half the number of open sublayers, each weighted by
/// the share of the `batch` sequences that it processes.
pub fn open_blocks(gates: &[Gate], batch: u32) -> f64 {
    gates.iter().map(|gate| gate.share(batch)).sum::<f64>() / 2.0
}

/// Identifies one draw: equal keys give equal gates.
#[derive(Debug, Clone, Copy)]
pub struct DrawKey {
    pub seed: u64,
    pub step: u64,
    /// Index of the micro-batch within its step, from 0.
    pub micro_batch: u32,
    /// Sequences in a micro-batch.
    pub batch: u32,
}

impl Unit {
    /// The unit of the sublayer at `place` (from 0, in forward order); `None` for a sublayer that is always open.
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

/// The gates of all sublayers, in forward order. `keep` holds the keep probability of each unit, and `unit_of` the unit
/// of each sublayer.
pub(crate) fn draw(
    key: &DrawKey,
    keep: &[f64],
    unit_of: &[Option<usize>],
    draw: Draw,
    sampler: Sampler,
    scale: bool,
) -> Vec<Gate> {
    // The numbers of the draws. Draw 0 is the same whether it serves a step, a micro-batch or a sequence.
    let draws = match draw {
        Draw::Batch => 0..1,
        Draw::MicroBatch => key.micro_batch..key.micro_batch + 1,
        Draw::Sequence => key.micro_batch * key.batch..(key.micro_batch + 1) * key.batch,
    };
    let opened: Vec<Vec<bool>> = draws.map(|number| open_units(key, number, keep, sampler)).collect();
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

fn open_units(key: &DrawKey, number: u32, keep: &[f64], sampler: Sampler) -> Vec<bool> {
    // Units count from 1: counter 0 is for draws that concern all units.
    let draws = |unit: usize| generator(key.seed, Purpose::Gate, key.step, u64::from(number) << 16 | unit as u64);
    match sampler {
        Sampler::Independent => keep.iter().zip(1..).map(|(&p, unit)| uniform(&mut draws(unit)) < p).collect(),
        Sampler::Systematic => {
            let mut draws = draws(0);
            let order = permutation(&mut draws, keep.len());
            let offset = uniform(&mut draws);
            let mut open = vec![false; keep.len()];
            let mut end = 0.0f64;
            for unit in order {
                // A unit is open if one of the points offset, offset + 1, ... falls into its interval [begin, end).
                let begin = end;
                end += keep[unit as usize];
                open[unit as usize] = (end - offset).ceil() > (begin - offset).ceil();
            }
            open
        }
        Sampler::Top => {
            // A Kronecker sequence fills [0, 1) evenly, so that rounding down adds no bias over many steps.
            const GOLDEN: f64 = 0.618_033_988_749_894_9;
            let offset = ((key.step + 1) as f64 * GOLDEN).fract();
            let count = (keep.iter().sum::<f64>() + offset).floor() as usize;
            (0..keep.len()).map(|unit| unit < count).collect()
        }
    }
}
