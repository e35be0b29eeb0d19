//! `lamina trials`.

use anyhow::Result;
use clap::Args;
use protocol::id::JobId;
use recipe::TrialReport;
use scheduler::trial::{TrialState, TrialView};

use super::client::{Client, Connection};
use super::jobs::named_or_newest;
use super::named;
use super::table::{lay_out, left, right, whole};
use super::waiting;
use crate::terminal::{say, width};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The job's id [default: the newest job]
    #[arg(value_name = "JOB", value_parser = named::job)]
    job: Option<JobId>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    let job = named_or_newest(&client, arguments.job).await?;
    let trials = client.list::<TrialView>(&format!("/jobs/{job}/trials")).await?;
    let columns = [
        whole("trial"),
        left("stage"),
        // With this width, its seed and its state, a trial can be told from the others on 80 columns.
        left("arm").at_least(8),
        left("task"),
        right("seed").leaves(4),
        left("state"),
        right("step").leaves(2),
        right("score").leaves(3),
        left("reason").leaves(1),
    ];
    let rows = trials.iter().map(trial_row).collect::<Vec<_>>();
    say(lay_out(&columns, &rows, width()))
}

/// The score of a fine-tune trial, or the validation loss.
fn score(trial: &TrialView) -> Option<f64> {
    match trial.report.as_ref()? {
        TrialReport::Finetune(report) => Some(report.score),
        TrialReport::Pretrain(report) => Some(report.validation_loss),
        TrialReport::Probe(report) => Some(report.validation_loss),
        TrialReport::Timing(_) => None,
    }
}

fn trial_row(trial: &TrialView) -> Vec<String> {
    let failure = trial.failure.as_ref().map(|failure| failure.message.clone());
    // Its step may be lower than that of the attempt before.
    let again = trial.state == TrialState::Running && trial.attempt_count > 1;
    let reason = failure
        .or_else(|| trial.waiting.as_ref().map(waiting::words))
        .or_else(|| again.then(|| format!("attempt {}", trial.attempt_count)));
    vec![
        trial.id.to_string(),
        trial.stage.name().into(),
        trial.arm.clone().unwrap_or_default(),
        trial.task.clone().unwrap_or_default(),
        trial.seeds.data.to_string(),
        trial.state.name().into(),
        trial.total_steps.map(|total| format!("{}/{total}", trial.step)).unwrap_or_default(),
        score(trial).map(|score| format!("{score:.4}")).unwrap_or_default(),
        reason.unwrap_or_default(),
    ]
}
