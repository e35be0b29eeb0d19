//! The plan of a job, which `submit --dry-run` shows.

use std::time::Duration;

use recipe::Problem;
use scheduler::expand::{ArmPlan, Basis, Estimate, PlannedJob};

use super::markdown::wrap;
use super::table::{lay_out, left, right};
use super::text;
use crate::terminal::width;

/// The plan as text: the totals, what they take of this fleet, a table of the arms, and the warnings.
pub(super) fn show(planned: &PlannedJob) -> String {
    let PlannedJob { plan, estimate, power } = planned;
    let trials = &plan.trials;
    let columns =
        [left("arm"), right("one pre-train"), right("encoder saves"), right("all saves"), right("peak memory")];
    let rows: Vec<_> = plan.arms.iter().map(|arm| row(arm, estimate)).collect();
    format!(
        "{} trials: {} timing, {} pre-train, {} fine-tune{}\n{} steps, {}\n{}\n{}\n\n{}{}",
        trials.total(),
        trials.timing,
        trials.pretrain,
        trials.finetune,
        if trials.probe > 0 { format!(", {} probe", trials.probe) } else { String::new() },
        plan.steps,
        text::flops(plan.flops),
        wrap(&hours(estimate), 0, width()),
        wrap(&power.sentence, 0, width()),
        lay_out(&columns, &rows, width()),
        warnings(planned).map(|warning| format!("\n{}", wrap(&warning, 2, width()))).collect::<String>()
    )
}

/// What is likely to go wrong, a line each.
pub(super) fn warnings(planned: &PlannedJob) -> impl Iterator<Item = String> {
    planned.estimate.warnings.iter().map(|Problem { pointer, message }| match pointer.as_str() {
        "" => format!("warning: {message}"),
        pointer => format!("warning: {pointer}: {message}"),
    })
}

/// One line about time.
fn hours(estimate: &Estimate) -> String {
    let on_one = text::duration(Duration::try_from_secs_f64(estimate.slot_hours * 3600.0).unwrap_or(Duration::MAX));
    let slots = match estimate.slots {
        1 => "1 slot takes trials now".into(),
        slots => format!("{slots} slots take trials now"),
    };
    match &estimate.basis {
        Basis::Timed { device, .. } => format!("about {on_one} on one slot ({device}, as timed before); {slots}"),
        Basis::Nominal { flops_per_second } => format!(
            "{on_one} on one slot of {}/s; no job has been timed here yet, so the real speed is not known; {slots}",
            text::flops(*flops_per_second)
        ),
    }
}

fn row(arm: &ArmPlan, estimate: &Estimate) -> Vec<String> {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let memory = estimate.memory.iter().find(|memory| memory.arm == arm.name);
    let memory = memory.map_or("-".into(), |memory| {
        format!("{}{}", if memory.measured { "" } else { "about " }, text::bytes(memory.peak_bytes))
    });
    vec![
        arm.name.clone(),
        text::flops(arm.pretrain_flops),
        percent(arm.encoder_saving),
        percent(arm.flop_saving),
        memory,
    ]
}

#[cfg(test)]
mod tests {
    use protocol::id::JobId;
    use report::{Power, Rules};
    use scheduler::expand::{MemoryEstimate, Plan, PlannedTrials};

    use super::*;

    #[test]
    fn a_plan_names_its_trials_and_what_each_arm_saves() {
        let arm = ArmPlan {
            name: "pld".into(),
            pretrain_flops: 2e14,
            encoder_saving: 0.247,
            flop_saving: 0.2,
            theta_limit: Some(0.5),
        };
        let trials = PlannedTrials { timing: 1, pretrain: 2, finetune: 20, probe: 0 };
        let estimate = Estimate {
            slot_hours: 0.25,
            basis: Basis::Timed { job: JobId::new(), device: "EPYC".into(), flops_per_second: 1e11 },
            slots: 2,
            largest_slot_bytes: 1 << 30,
            memory: vec![MemoryEstimate { arm: "pld".into(), peak_bytes: 2_000_000_000, measured: true }],
            warnings: vec![Problem { pointer: "/arms/0".into(), message: "too large".into() }],
        };
        let power = Power::new(1, 1, Rules::default());
        let plan = Plan { trials, steps: 4200, flops: 1.5e15, arms: vec![arm] };
        let shown = show(&PlannedJob { plan, estimate, power });
        let shown = console::strip_ansi_codes(&shown).into_owned();
        let expected = "23 trials: 1 timing, 2 pre-train, 20 fine-tune\n4200 steps, 1.5 PFLOP\n\
                        about 15 min 00 s on one slot (EPYC, as timed before); 2 slots take trials now\n\
                        With one pre-train seed, nothing but speed can be told about an arm: set \
                        pretrain.seeds to 3 or more.\n\n\
                        arm  one pre-train  encoder saves  all saves  peak memory\n\
                        pld      200 TFLOP         24.7 %     20.0 %       2.0 GB\n\
                        warning: /arms/0: too large";
        assert_eq!(shown, expected);
    }
}
