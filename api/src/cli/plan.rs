//! The plan of a job, which `submit --dry-run` shows.

use scheduler::expand::{ArmPlan, Plan};

use super::table::{lay_out, left, right, terminal_width};
use super::text;

/// The plan as text: the totals, then a table of the arms.
pub(super) fn show(plan: &Plan) -> String {
    let trials = &plan.trials;
    let columns = [left("arm"), right("one pre-train"), right("encoder saves"), right("all saves")];
    let rows: Vec<_> = plan.arms.iter().map(row).collect();
    format!(
        "{} trials: {} timing, {} pre-train, {} fine-tune{}\n{} steps, {}\n\n{}",
        trials.total(),
        trials.timing,
        trials.pretrain,
        trials.finetune,
        if trials.probe > 0 { format!(", {} probe", trials.probe) } else { String::new() },
        plan.steps,
        text::flops(plan.flops),
        lay_out(&columns, &rows, terminal_width())
    )
}

fn row(arm: &ArmPlan) -> Vec<String> {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    vec![arm.name.clone(), text::flops(arm.pretrain_flops), percent(arm.encoder_saving), percent(arm.flop_saving)]
}

#[cfg(test)]
mod tests {
    use scheduler::expand::PlannedTrials;

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
        let shown = show(&Plan { trials, steps: 4200, flops: 1.5e15, arms: vec![arm] });
        let shown = console::strip_ansi_codes(&shown).into_owned();
        let expected = "23 trials: 1 timing, 2 pre-train, 20 fine-tune\n4200 steps, 1.5 PFLOP\n\n\
                        arm  one pre-train  encoder saves  all saves\npld      200 TFLOP         24.7 %     20.0 %";
        assert_eq!(shown, expected);
    }
}
