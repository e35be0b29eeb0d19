//! What happens in a job, as it happens: server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use protocol::error_chain;
use protocol::id::JobId;
use scheduler::job::JobSummary;
use scheduler::store::{EventRow, Progress, StoreError};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep};

use crate::error::{Error, ProblemDetails};
use crate::extract::Path;
use crate::router::App;

/// Events that are read at a time.
const BATCH: i64 = 200;
/// Between two looks at the progress; also how late an event is when its announcement was lost.
const PERIOD: Duration = Duration::from_secs(1);
/// A comment after so long a silence keeps proxies from closing the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follows a job until it has ended. `Last-Event-ID` resumes after that event; without it the stream starts at the first.
///
/// Events are `trial` (a trial changed its state), `job` (the job changed its status), `started`, `evaluated`,
/// `checkpointed`, `finished`, `failed`, `interrupted`, `checkpoint_forgotten`, each with its number as id; and `progress`
/// (where the job and its running trials stand), without an id, at most once a second.
#[utoipa::path(
    get, operation_id = "stream_job_events", path = "/jobs/{id}/events", tag = "jobs", security(("token" = [])),
    params(("id" = JobId, Path), ("Last-Event-ID" = Option<i64>, Header, description = "Number of the last event that was seen")),
    responses(
        (status = OK, description = "`data` is an `EventRow`; of `progress`, the job's status, progress, counts and running trials", body = EventRow, content_type = "text/event-stream"),
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
        // Before the first look, so that nothing falls between the two.
        let mut announcements = app.store.subscribe();
        let mut progress = Said::default();
        loop {
            // The job is read first: when it has ended, all its events are among those that are read after it.
            let (summary, running, events) = match look(&app, job, seen).await {
                Ok(seen) => seen,
                Err(error) => {
                    tracing::warn!(%job, error = error_chain(&error), "an event stream ends early");
                    return;
                }
            };
            let more = events.len() == BATCH as usize;
            for event in events {
                seen = event.id;
                yield Ok(sent(&event));
            }
            if more {
                continue;
            }
            if let Some(event) = progress.news(&summary, &running) {
                yield Ok(event);
            }
            if summary.status.is_ended() {
                return;
            }
            tokio::select! {
                () = app.shutdown.cancelled() => return,
                () = announced(&mut announcements, job) => {}
                () = sleep(PERIOD) => {}
            }
        }
    }
}

async fn look(app: &App, job: JobId, seen: i64) -> Result<(JobSummary, Vec<Progress>, Vec<EventRow>), StoreError> {
    let summary = app.store.job(job).await?.summary;
    Ok((summary, app.store.progress(job).await?, app.store.events(job, seen, BATCH).await?))
}

/// Returns when something happened to the job, or when announcements were missed.
async fn announced(announcements: &mut Receiver<JobId>, job: JobId) {
    loop {
        match announcements.recv().await {
            Ok(other) if other != job => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // Nothing more will come: the period alone sets the pace.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

fn sent(event: &EventRow) -> Event {
    Event::default().id(event.id.to_string()).event(&event.kind).data(json!(event).to_string())
}

/// What `progress` said last, and when.
#[derive(Default)]
struct Said(Option<(Value, Instant)>);

impl Said {
    /// The event, if there is something new to say and it was not said a moment ago. A job's end is always said.
    fn news(&mut self, summary: &JobSummary, running: &[Progress]) -> Option<Event> {
        let now = json!({
            "status": summary.status,
            "progress": summary.progress,
            "trials": summary.trials,
            "estimated_end": summary.estimated_end,
            "running": running,
        });
        if let Some((said, at)) = &self.0
            && (*said == now || (at.elapsed() < PERIOD && !summary.status.is_ended()))
        {
            return None;
        }
        let event = Event::default().event("progress").data(now.to_string());
        self.0 = Some((now, Instant::now()));
        Some(event)
    }
}
