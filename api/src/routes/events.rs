//! What happens in a job, as it happens: server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use scheduler::id::JobId;
use serde_json::json;

use crate::error::{Error, ProblemDetails, chain};
use crate::extract::Path;
use crate::router::App;

/// Events that are read at a time.
const BATCH: u32 = 200;
/// Between two looks at the progress; also how late an event is when its announcement was lost.
const PERIOD: Duration = Duration::from_secs(1);
/// A comment after so long a silence keeps proxies from closing the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follows a job until it has ended. `Last-Event-ID` resumes after that event; without it the stream starts at the first.
///
/// Events are `trial` (a trial changed its state), `job` (the job changed its status), `started`, `evaluated`,
/// `checkpointed`, `finished`, `failed`, `interrupted`, each with its number as id; and `progress`, without an id, at
/// most once a second.
#[utoipa::path(
    get, path = "/jobs/{id}/events", tag = "jobs", security(("token" = [])),
    params(("id" = JobId, Path), ("Last-Event-ID" = Option<i64>, Header, description = "Number of the last event that was seen")),
    responses(
        (status = OK, body = String, content_type = "text/event-stream"),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn stream(
    State(app): State<App>,
    Path(job): Path<JobId>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let seen = last_event_id(&headers)?;
    // A job that is not there is a 404, not an empty stream.
    app.store.job(job).await?;
    let events = Sse::new(follow(app, job, seen)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Buffering proxies would hold events back.
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, events).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<i64, Error> {
    let Some(value) = headers.get("last-event-id") else { return Ok(0) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok()).filter(|number| *number >= 0);
    number.ok_or_else(|| Error::InvalidParameter("Last-Event-ID is the number of an event of this job".into()))
}

/// Ends when the job has ended and everything was sent, when the server stops, or when the database fails; the client
/// comes back with the last id.
fn follow(app: App, job: JobId, mut seen: i64) -> impl Stream<Item = Result<Event, Infallible>> {
    stream! {
        let mut announcements = app.store.announcements();
        let mut shown = None;
        loop {
            // Asked first: what happened before the job's end is then among the events that are read after.
            let read = async {
                let summary = app.store.job(job).await?.summary;
                let events = app.store.events(job, seen, BATCH).await?;
                Ok::<_, scheduler::store::StoreError>((summary, events))
            };
            let (summary, events) = match read.await {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(%job, error = chain(&error), "an event stream ends");
                    return;
                }
            };
            let more = events.len() == BATCH as usize;
            for event in events {
                seen = event.number;
                yield Ok(sent(event));
            }
            if more {
                continue;
            }
            let progress = json!({
                "status": summary.status, "progress": summary.progress, "trials": summary.trials,
                "estimated_end": summary.estimated_end,
            });
            if shown.as_ref() != Some(&progress) {
                yield Ok(Event::default().event("progress").data(progress.to_string()));
                shown = Some(progress);
            }
            if summary.status.is_ended() {
                return;
            }
            tokio::select! {
                () = app.shutdown.cancelled() => return,
                () = announced(&mut announcements, job) => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }
}
