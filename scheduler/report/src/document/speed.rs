//! Time per step and memory.

use recipe::report::{ArmMemory, OpenMemory};

use super::cell::{known, number, percent, percent_with_interval, with_interval};
use super::figure::{Figure, Row};
use super::part::Part;
use super::table::Table;
use crate::speed::{ArmSpeed, Speed};

pub(super) fn section(speed: &Speed) -> Vec<Part> {
    let mut section = vec![Part::heading("Speed")];
    if let Some(device) = &speed.device {
        let device = format!(
            "All arms were timed in turns on one device: {} ({}), {} threads, libtorch {}.",
            device.model, device.name, device.threads, device.libtorch
        );
        section.push(device.into());
    }
    let table = Table::of(&speed.arms)
        .left("Arm", |row| row.arm.clone())
        .right("Speed-up", |row| {
            known(row.ratio_to_baseline, |ratio| with_interval(format!("{ratio:.2}x"), row.ratio_interval, 1.0, 2))
        })
        .right("Step saving, %", |row| percent(row.step_saving))
        .right("Limit, %", |row| percent(row.limit_saving))
        .right("Share of limit, %", |row| percent_with_interval(row.share_of_limit, row.share_of_limit_interval))
        .right("ms/step", |row| number(1e3 * row.seconds_per_step, 1))
        .right("Tokens/s", |row| number(row.tokens_per_second, 0));
    let rounds = speed.rounds;
    section.extend([
        format!(
            "Speed-up: step time of the baseline divided by that of the arm, as the pseudomedian over {rounds} rounds of \
             random order (Hodges and Lehmann 1963), adjusted from the blocks that were open in a turn to those that \
             are open on average in the run; all other numbers of a row follow from it. Step saving: 1 - 1/speed-up. \
             Limit: the step saving if closed blocks took no time, which is the encoder's share of a step times the \
             share of encoder work that layer drop saves by its schedule."
        )
        .into(),
        table.into(),
        Part::Figure(figure(speed)),
    ]);
    if speed.arms.iter().any(|row| row.memory.is_some() || row.largest_batch.is_some()) {
        section.extend(memory_section(&speed.arms));
    }
    section
}

fn figure(speed: &Speed) -> Figure {
    let row = |arm: &ArmSpeed| Row {
        label: arm.arm.clone(),
        points: Vec::new(),
        estimate: arm.ratio_to_baseline,
        interval: arm.ratio_interval,
    };
    Figure {
        title: "Speed-up of a step with its 95 % interval; the dashed line is the baseline.".into(),
        axis: "step time of the baseline / step time of the arm".into(),
        reference: Some(1.0),
        rows: speed.arms.iter().map(row).collect(),
    }
}

fn memory_section(arms: &[ArmSpeed]) -> Vec<Part> {
    let table = Table::of(arms)
        .left("Arm", |row| row.arm.clone())
        .right("State", |row| mebibytes(row.memory.as_ref().map(|memory| memory.state_bytes)))
        .right("Peak", |row| mebibytes(row.memory.as_ref().map(|memory| memory.peak_bytes)))
        .right("Mean", |row| mebibytes(row.memory.as_ref().map(|memory| memory.mean_bytes)))
        .right("Peak, mean, fewest open", |row| open_memory(row, |memory| memory.by_open.first()))
        .right("Peak, mean, most open", |row| open_memory(row, |memory| memory.by_open.last()))
        .right("Largest batch", |row| known(row.largest_batch, |sequences| sequences.to_string()));
    vec![
        Part::heading("Memory"),
        "MiB that libtorch's allocator has handed out. State: weights, optimiser moments and gradients. Peak and mean \
         are over the time of the steps and include the state; in the columns for the steps with the fewest and the \
         most open blocks, parentheses hold the number of open blocks. Largest batch: the number of sequences that fit \
         into memory."
            .into(),
        table.into(),
    ]
}

fn open_memory(row: &ArmSpeed, steps: impl Fn(&ArmMemory) -> Option<&OpenMemory>) -> String {
    known(row.memory.as_ref().and_then(steps), |steps| {
        let [peak, mean] = [Some(steps.peak_bytes), steps.mean_bytes].map(mebibytes);
        format!("{peak}, {mean} ({})", f64::from(steps.open_sublayers) / 2.0)
    })
}

fn mebibytes(bytes: Option<u64>) -> String {
    known(bytes, |bytes| number(bytes as f64 / f64::from(1 << 20), 1))
}
