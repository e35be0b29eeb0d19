//! `lamina datasets`.

use anyhow::Result;
use scheduler::dataset::DatasetView;

use super::client::{Client, Connection};
use super::table::{lay_out, left, right};
use super::text;
use crate::page::Page;
use crate::terminal::{say, width};

pub(crate) async fn run(connection: &Connection) -> Result<()> {
    let client = Client::new(connection)?;
    let datasets = client.get::<Page<DatasetView>>("/datasets").await?.body.items;
    if datasets.is_empty() {
        return say("No data sets yet. Register some with: lamina data import DIR");
    }
    // A job names its data sets, so their names are left whole as long as anything else can be shortened.
    let columns =
        [left("name").at_least(32), left("kind"), right("size"), left("digest").leaves(2), left("path").leaves(1)];
    let rows: Vec<_> = datasets
        .into_iter()
        .map(|dataset| {
            let digest = dataset.digest.chars().take(12).collect();
            vec![dataset.name, dataset.kind.name().into(), text::bytes(dataset.bytes), digest, dataset.path]
        })
        .collect();
    say(lay_out(&columns, &rows, width()))
}
