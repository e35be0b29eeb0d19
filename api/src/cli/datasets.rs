//! `lamina datasets`.

use anyhow::Result;
use scheduler::dataset::DatasetView;

use super::client::{Client, Connection};
use super::table::{lay_out, left, right, terminal_width};
use super::text;
use crate::page::Page;

pub(crate) async fn run(connection: &Connection) -> Result<()> {
    let client = Client::new(connection)?;
    let datasets = client.get::<Page<DatasetView>>("/datasets").await?.body.items;
    if datasets.is_empty() {
        println!("No data sets yet. Register some with: lamina data import DIR");
        return Ok(());
    }
    let columns = [left("name"), left("kind"), right("size"), left("digest"), left("path")];
    let rows: Vec<_> = datasets
        .into_iter()
        .map(|dataset| {
            let digest = dataset.digest.chars().take(12).collect();
            vec![dataset.name, dataset.kind.name().into(), text::bytes(dataset.bytes), digest, dataset.path]
        })
        .collect();
    println!("{}", lay_out(&columns, &rows, terminal_width()));
    Ok(())
}
