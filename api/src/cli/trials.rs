//! `lamina trials`.

use anyhow::Result;
use clap::Args;
use recipe::TrialReport;
use scheduler::trial::TrialView;

use super::client::{Client, Connection};
use super::jobs::named_or_newest;
use super::table::{lay_out, left, right, terminal_width, whole};
use super::waiting;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The job's id [default: the newest job]
    #[arg(value_name = "JOB")]
    job: Option<String>,
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
        left("arm"),
        left("task"),
        right("seed"),
        left("state"),
        right("step"),
        right("score"),
        left(""),
    ];
    let rows = trials.iter().map(trial_row).collect::<Vec<_>>();
    println!("{}", lay_out(&columns, &rows, terminal_width()));
    Ok(())
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
    let reason = failure.or_else(|| trial.waiting.as_ref().map(waiting::words));
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
