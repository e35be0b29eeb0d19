//! The report as text: tables that are aligned as they stand and can go into a paper's draft.

use std::fmt::Write as _;

use recipe::report::OpenMemory;

use crate::comparison::Comparison;
use crate::content::Report;
use crate::effects::{Effect, Factor};
use crate::glue::{BEST_OF, GlueArm, GlueAverage, GlueReport};
use crate::pretrain::{PretrainArm, PretrainSeed};
use crate::probe::ProbeArm;
use crate::speed::{ArmSpeed, Speed};
use crate::statistics::Summary;
use crate::table::Table;

/// What stands where a number is not known.
const UNKNOWN: &str = "–";

impl Report {
    /// Markdown. Scores and shares are times 100, with one decimal; n stands beside every mean, hours beside steps.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# {}\n\n", self.name);
        let state = if self.complete { "complete" } else { "not complete yet" };
        let _ =
            writeln!(text, "Job {}, {state}. Baseline: {}. Intervals in brackets are 95 %.", self.job, self.baseline);
        if let Some(speed) = &self.speed {
            speed_section(speed, &mut text);
        }
        if self.pretrain.iter().any(|arm| !arm.seeds.is_empty()) {
            pretrain_section(&self.pretrain, &mut text);
        }
        if !self.effects.is_empty() {
            effect_section(&self.effects, &mut text);
        }
        if !self.probes.is_empty() {
            probe_section(&self.probes, &mut text);
        }
        if !self.glue.is_empty() {
            glue_section(&self.glue, &mut text);
            average_section(&self.glue_averages, &mut text);
        }
        if !self.notes.is_empty() {
            text.push_str("\n## Notes\n\n");
            for note in &self.notes {
                let _ = writeln!(text, "- {note}");
            }
        }
        text
    }
}

fn speed_section(speed: &Speed, text: &mut String) {
    text.push_str("\n## Speed\n\n");
    if let Some(device) = &speed.device {
        let _ = writeln!(
            text,
            "Interleaved on one device: {} ({}), {} threads, libtorch {}.\n",
            device.model, device.name, device.threads, device.libtorch
        );
    }
    let mut table = Table::new([
        "Arm",
        "Turns",
        "ms/step",
        "Speed-up",
        "Step saving, %",
        "Limit, %",
        "Share of limit, %",
        "Tokens/s",
    ]);
    for arm in &speed.arms {
        table.row(speed_row(arm));
    }
    table.write(text);
    if speed.arms.iter().any(|arm| arm.memory.is_some() || arm.largest_batch.is_some()) {
        memory_section(speed, text);
    }
}

fn memory_section(speed: &Speed, text: &mut String) {
    text.push_str("\n## Memory\n\n");
    text.push_str("In MiB, as libtorch's allocator hands it out: weights, moments and gradients; the most in a step; its mean.\n\n");
    let mut table = Table::new([
        "Arm",
        "State",
        "Peak",
        "Mean",
        "Peak, mean, fewest open",
        "Peak, mean, most open",
        "Largest batch",
    ]);
    let mebibytes =
        |bytes: Option<u64>| bytes.map_or(UNKNOWN.into(), |bytes| number(bytes as f64 / f64::from(1 << 20), 1));
    for arm in &speed.arms {
        let memory = arm.memory.as_ref();
        let open = |row: Option<&OpenMemory>| match row {
            Some(row) => {
                let [peak, mean] = [Some(row.peak_bytes), row.mean_bytes].map(mebibytes);
                format!("{peak}, {mean} ({})", f64::from(row.open_sublayers) / 2.0)
            }
            None => UNKNOWN.into(),
        };
        table.row([
            arm.arm.clone(),
            mebibytes(memory.map(|memory| memory.state_bytes)),
            mebibytes(memory.map(|memory| memory.peak_bytes)),
            mebibytes(memory.map(|memory| memory.mean_bytes)),
            open(memory.and_then(|memory| memory.by_open.first())),
            open(memory.and_then(|memory| memory.by_open.last())),
            arm.largest_batch.map_or(UNKNOWN.into(), |batch| batch.to_string()),
        ]);
    }
    table.write(text);
}

fn speed_row(arm: &ArmSpeed) -> [String; 8] {
    let time = &arm.seconds_per_step;
    [
        arm.arm.clone(),
        time.n.to_string(),
        with_interval(number(time.mean * 1e3, 1), time.interval.map(|i| i.map(|s| s * 1e3)), 1),
        arm.ratio_to_baseline.map_or(UNKNOWN.into(), |r| with_interval(format!("{r:.2}x"), arm.ratio_interval, 2)),
        percent(arm.step_saving),
        percent(arm.limit_saving),
        percent(arm.share_of_limit),
        number(arm.tokens_per_second, 0),
    ]
}

fn pretrain_section(arms: &[PretrainArm], text: &mut String) {
    text.push_str("\n## Pre-training\n\n");
    let mut table = Table::new([
        "Arm",
        "Rate",
        "n",
        "Validation loss",
        "sd",
        "Difference",
        "p",
        "p, spread",
        "Diverged",
        "Diverged, %",
        "Steps",
        "Hours",
        "Reference hours",
    ]);
    for arm in arms {
        let loss = arm.validation_loss.as_ref();
        let ended = loss.map_or(0, |loss| loss.n);
        let difference = arm.comparison.as_ref();
        table.row([
            arm.arm.clone(),
            arm.learning_rate.map_or(UNKNOWN.into(), |rate| format!("{rate:e}")),
            if ended == arm.seeds.len() { ended.to_string() } else { format!("{ended} of {}", arm.seeds.len()) },
            loss.map_or(UNKNOWN.into(), |loss| with_interval(number(loss.mean, 4), loss.interval, 4)),
            loss.and_then(|loss| loss.sd).map_or(UNKNOWN.into(), |sd| number(sd, 4)),
            difference.map_or(UNKNOWN.into(), |c| with_interval(format!("{:+.4}", c.mean_difference), c.interval, 4)),
            p_value(difference.and_then(|c| c.p_paired_t)),
            p_value(difference.and_then(|c| c.p_brown_forsythe)),
            format!("{} of {}", arm.diverged, arm.results()),
            arm.diverged_share().map_or(UNKNOWN.into(), |share| {
                with_interval(percent(Some(share)), arm.diverged_interval.map(|ends| ends.map(|end| 100.0 * end)), 1)
            }),
            mean_of(&arm.seeds, |seed| seed.steps.map(|steps| steps as f64), 0),
            mean_of(&arm.seeds, |seed| seed.hours, 3),
            mean_of(&arm.seeds, |seed| seed.reference_hours, 3),
        ]);
    }
    table.write(text);
    if arms.iter().any(|arm| arm.validation_accuracy.is_some()) {
        accuracy_table(arms, text);
    }
}

fn effect_section(effects: &[Effect], text: &mut String) {
    text.push_str("\n## Layer drop and norm, each alone\n\n");
    text.push_str(
        "Arms that differ in nothing else, at one learning rate or each at that of its lowest validation loss.\n\n",
    );
    let mut table = Table::new(["Arm", "Against", "Effect", "Rate", "Pairs", "Difference in loss", "p", "Speed-up"]);
    for effect in effects {
        let factors = effect.factors.iter().map(|factor| match factor {
            Factor::Norm => "Pre-LN",
            Factor::LayerDrop => "layer drop",
        });
        let (own, base) = (effect.learning_rates[0], effect.learning_rates[1]);
        let loss = effect.loss.as_ref();
        table.row([
            effect.arm.clone(),
            effect.against.clone(),
            factors.collect::<Vec<_>>().join(" and "),
            if effect.each_at_its_best { format!("{own:e}, {base:e}") } else { format!("{own:e}") },
            loss.map_or(0, |loss| loss.n_pairs).to_string(),
            loss.map_or(UNKNOWN.into(), |c| with_interval(format!("{:+.4}", c.mean_difference), c.interval, 4)),
            p_value(loss.and_then(|c| c.p_paired_t)),
            effect.speed_up.map_or(UNKNOWN.into(), |ratio| format!("{ratio:.2}x")),
        ]);
    }
    table.write(text);
}

/// Of classifiers of images, in percent.
fn accuracy_table(arms: &[PretrainArm], text: &mut String) {
    text.push('\n');
    let mut table = Table::new(["Arm", "n", "Validation accuracy, %", "sd", "Difference", "p"]);
    let hundredfold = |interval: Option<[f64; 2]>| interval.map(|ends| ends.map(|end| 100.0 * end));
    for arm in arms {
        let (own, difference) = (arm.validation_accuracy.as_ref(), arm.accuracy_comparison.as_ref());
        table.row([
            arm.arm.clone(),
            own.map_or(0, |own| own.n).to_string(),
            own.map_or(UNKNOWN.into(), |own| with_interval(number(100.0 * own.mean, 2), hundredfold(own.interval), 2)),
            own.and_then(|own| own.sd).map_or(UNKNOWN.into(), |sd| number(100.0 * sd, 2)),
            difference.map_or(UNKNOWN.into(), |c| {
                with_interval(format!("{:+.2}", 100.0 * c.mean_difference), hundredfold(c.interval), 2)
            }),
            p_value(difference.and_then(|c| c.p_paired_t)),
        ]);
    }
    table.write(text);
}

fn probe_section(arms: &[ProbeArm], text: &mut String) {
    text.push_str("\n## Blocks\n\n");
    text.push_str("What the validation loss rises by without a block, with it and the next swapped, and with all in random order.\n\n");
    let mut table =
        Table::new(["Arm", "n", "Block", "Removed", "Swapped", "Shuffled", "Cosine", "Distance", "Gradient"]);
    for arm in arms {
        for block in &arm.blocks {
            let first = block.block == 1;
            let added = |value: Option<f64>| value.map_or(UNKNOWN.into(), |value| format!("{value:+.4}"));
            table.row([
                arm.arm.clone(),
                arm.n.to_string(),
                block.block.to_string(),
                added(Some(block.removed_adds)),
                added(block.swapped_adds),
                if first { added(arm.shuffled_adds) } else { String::new() },
                number(block.cosine, 4),
                number(block.distance, 3),
                number(block.gradient_norm, 4),
            ]);
        }
    }
    table.write(text);
}

fn mean_of(seeds: &[PretrainSeed], value: impl Fn(&PretrainSeed) -> Option<f64>, decimals: usize) -> String {
    let values: Vec<f64> = seeds.iter().filter_map(value).collect();
    Summary::of(&values).map_or(UNKNOWN.into(), |summary| number(summary.mean, decimals))
}

fn glue_section(tasks: &[GlueReport], text: &mut String) {
    text.push_str("\n## GLUE, dev\n\n");
    let mut table = Table::new([
        "Task",
        "Arm",
        "Blocks",
        "Rate",
        "Selection",
        "n",
        "Mean",
        "sd",
        "Median",
        "Min",
        "Max",
        "Failed",
        "Failed, %",
        "Hours",
    ]);
    for task in tasks {
        for arm in &task.arms {
            table.row(glue_row(&title(task), arm));
        }
    }
    table.write(text);
    best_of_section(tasks, text);
    let equal = |task: &'_ GlueReport| task.comparisons.clone();
    let selected = |task: &'_ GlueReport| task.selected_comparisons.clone();
    comparison_section("at equal rates", tasks, equal, text);
    // Where both sides have the same rate, it stands above.
    let differ = |comparison: &Comparison| comparison.learning_rate != comparison.baseline_learning_rate;
    if tasks.iter().flat_map(|task| &task.selected_comparisons).any(differ) {
        comparison_section("each at its selected rate", tasks, selected, text);
    }
}

/// What a number of runs buys, where there are enough of them to tell.
fn best_of_section(tasks: &[GlueReport], text: &mut String) {
    let rows = || tasks.iter().flat_map(|task| task.arms.iter().map(move |arm| (task, arm)));
    if rows().all(|(_, arm)| arm.scores.len() < 5) {
        return;
    }
    text.push_str("\n## GLUE, expected best of k runs\n\n");
    let names = BEST_OF.map(|runs| format!("k = {runs}"));
    let [a, b, c, d, e] = names.each_ref().map(String::as_str);
    let mut table = Table::new(["Task", "Arm", "Blocks", "Rate", "n", a, b, c, d, e]);
    for (task, arm) in rows() {
        let expected = |runs| arm.best_of.iter().find(|best| best.runs == runs).map(|best| best.expected);
        let [a, b, c, d, e] = BEST_OF.map(|runs| percent(expected(runs)));
        let rate = format!("{:e}", arm.learning_rate);
        table.row([title(task), arm.arm.clone(), arm.blocks.to_string(), rate, arm.n.to_string(), a, b, c, d, e]);
    }
    table.write(text);
}

fn comparison_section(
    which: &str,
    tasks: &[GlueReport],
    comparisons: impl Fn(&GlueReport) -> Vec<Comparison>,
    text: &mut String,
) {
    let rows: Vec<_> = tasks.iter().map(|task| (title(task), comparisons(task))).collect();
    if rows.iter().all(|(_, comparisons)| comparisons.is_empty()) {
        return;
    }
    let _ = write!(text, "\n## GLUE, against the baseline, {which}\n\n");
    let mut table = Table::new([
        "Task",
        "Arm",
        "Blocks",
        "Rate",
        "Pairs",
        "Difference",
        "p",
        "p, Holm",
        "p, Wilcoxon",
        "p, spread",
    ]);
    for (title, comparisons) in &rows {
        for comparison in comparisons {
            table.row(comparison_row(title, comparison));
        }
    }
    table.write(text);
    text.push_str(
        "\np: paired t; Holm: the same, corrected over the tasks of an arm; Wilcoxon: exact signed rank; spread: \
         Brown-Forsythe.\n",
    );
}

fn average_section(averages: &[GlueAverage], text: &mut String) {
    if averages.is_empty() {
        return;
    }
    text.push_str("\n## GLUE, mean over tasks\n\n");
    let mut table = Table::new(["Arm", "Tasks", "Blocks", "Mean"]);
    for average in averages {
        let tasks: Vec<&str> = average.tasks.iter().map(|task| task.name()).collect();
        table.row([average.arm.clone(), tasks.join(", "), average.blocks.to_string(), percent(Some(average.mean))]);
    }
    table.write(text);
}

fn title(task: &GlueReport) -> String {
    format!("{} ({})", task.task.name(), task.metrics.join(", "))
}

fn glue_row(task: &str, arm: &GlueArm) -> [String; 14] {
    let hundred = |interval: Option<[f64; 2]>| interval.map(|interval| interval.map(|value| value * 100.0));
    [
        task.to_owned(),
        arm.arm.clone(),
        arm.blocks.to_string(),
        format!("{:e}", arm.learning_rate),
        // A star stands at the rate to report.
        format!("{}{}", percent(arm.selection), if arm.selected && arm.selection.is_some() { "*" } else { "" }),
        arm.n.to_string(),
        arm.mean.map_or(UNKNOWN.into(), |mean| with_interval(number(mean * 100.0, 1), hundred(arm.interval), 1)),
        percent(arm.sd),
        percent(arm.median),
        percent(arm.min),
        percent(arm.max),
        format!("{} of {}", arm.failed, arm.n),
        with_interval(percent(Some(arm.failed as f64 / arm.n as f64)), hundred(arm.failed_interval), 1),
        arm.hours.map_or(UNKNOWN.into(), |hours| number(hours, 3)),
    ]
}

fn comparison_row(task: &str, comparison: &Comparison) -> [String; 10] {
    let rate = |rate: Option<f64>| rate.map_or(UNKNOWN.into(), |rate| format!("{rate:e}"));
    let (own, baselines) = (rate(comparison.learning_rate), rate(comparison.baseline_learning_rate));
    [
        task.to_owned(),
        comparison.arm.clone(),
        comparison.blocks.map_or(UNKNOWN.into(), |blocks| blocks.to_string()),
        if own == baselines { own } else { format!("{own}, {baselines}") },
        comparison.n_pairs.to_string(),
        with_interval(
            format!("{:+.1}", comparison.mean_difference * 100.0),
            comparison.interval.map(|interval| interval.map(|value| value * 100.0)),
            1,
        ),
        p_value(comparison.p_paired_t),
        p_value(comparison.p_holm),
        p_value(comparison.p_wilcoxon),
        p_value(comparison.p_brown_forsythe),
    ]
}

fn number(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$}")
}

fn percent(share: Option<f64>) -> String {
    share.map_or(UNKNOWN.into(), |share| number(share * 100.0, 1))
}

fn with_interval(value: String, interval: Option<[f64; 2]>, decimals: usize) -> String {
    match interval {
        Some([low, high]) => format!("{value} [{low:.decimals$}, {high:.decimals$}]"),
        None => value,
    }
}

fn p_value(p: Option<f64>) -> String {
    match p {
        None => UNKNOWN.into(),
        Some(p) if p < 0.001 => "<0.001".into(),
        Some(p) => number(p, 3),
    }
}
