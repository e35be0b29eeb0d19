//! Datasets: folders and files on the server's disk, registered under a name.

use std::path::PathBuf;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use scheduler::dataset::{self, DatasetKind, DatasetView};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::Json;
use crate::error::{Error, ProblemDetails};
use crate::page::Page;
use scheduler::work::Workers;

/// Longest name of a data set, in characters.
pub(crate) const LONGEST_NAME: usize = 100;
/// Data sets that are read at the same time. Each reads a disk and hashes on a core of its own.
const SCANS_AT_ONCE: usize = 2;
/// Registrations that wait for their turn. `lamina data import` sends one at a time.
const SCANS_WAITING: usize = 8;
/// Time to read one data set. At 200 MB/s, which a network disk gives, this is 120 GB.
const SCAN_LIMIT: Duration = Duration::from_secs(600);

/// The workers that read data sets which are being registered.
pub(crate) fn scans(shutdown: CancellationToken) -> Workers {
    Workers::new("reading data sets", SCANS_AT_ONCE, SCANS_WAITING, shutdown)
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registration {
    /// 1 to 100 letters, digits, dots, dashes and underscores.
    name: String,
    kind: DatasetKind,
    /// Absolute path on the server's disk, beneath one of its data roots.
    #[schema(value_type = String)]
    path: PathBuf,
}

/// Registers a folder or file under a name. The server reads every byte for the digest. A name that is registered again
/// stands for the new content.
///
/// The path leads to a regular file, or a folder, beneath a data root of the server (`--data-root`), and its links stay
/// beneath that root. Every other path gets the same answer, whether something is there or not. The files are read as the
/// trainer reads them, and what it would refuse is refused here. Bounds: 10000 files and folders, 8 folders inside each
/// other; vocabulary 16 MiB and 1 KiB a line; `config.json` and `tokenizer_config.json` 4 MiB; line of a GLUE file 1 MiB;
/// line of a corpus 16 MiB, decompressed, of which the first 4 MiB of each file are read; images of a file 4 GiB,
/// decompressed, and 67108864 labels. Two data sets are read at a time and eight more wait; a further request is answered
/// 503 with `Retry-After`. Reading ends when the client leaves and after 10 minutes (503, code `timed_out`).
#[utoipa::path(
    post, operation_id = "register_dataset", path = "/datasets", tag = "datasets", security(("token" = [])), request_body = Registration,
    responses(
        (status = CREATED, body = DatasetView),
        (status = UNPROCESSABLE_ENTITY, body = ProblemDetails, content_type = "application/problem+json"),
        (status = SERVICE_UNAVAILABLE, description = "The server is busy, stops, or has read for too long", body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn register(
    State(app): State<App>,
    Json(registration): Json<Registration>,
) -> Result<(StatusCode, Json<DatasetView>), Error> {
    let Registration { name, kind, path } = registration;
    if !is_name(&name) {
        let message = format!("a name has 1 to {LONGEST_NAME} letters, digits, dots, dashes and underscores");
        return Err(Error::invalid("/name", message));
    }
    if !path.is_absolute() {
        return Err(Error::invalid("/path", "the path must be absolute, on the server's disk"));
    }
    let roots = app.roots.clone();
    let scan = app.scans.run(SCAN_LIMIT, move |stop| dataset::scan(&roots, kind, &name, &path, stop)).await?;
    let scan = scan.map_err(|error| Error::invalid("/path", error.to_string()))?;
    Ok((StatusCode::CREATED, Json(app.store.register_dataset(&scan).await?)))
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(allowed)
}

/// The registered datasets, each name with its newest content.
#[utoipa::path(
    get, operation_id = "list_datasets", path = "/datasets", tag = "datasets", security(("token" = [])),
    responses((status = OK, body = Page<DatasetView>)),
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<Page<DatasetView>>, Error> {
    Ok(Json(Page::whole(app.store.datasets().await?)))
}
