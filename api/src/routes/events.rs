//! The events of a job as server-sent events, while it runs.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures::Stream;
use protocol::error_chain;
use protocol::id::JobId;
use scheduler::job::{JobStatus, JobSummary, TrialCounts};
use scheduler::store::{EventRow, Progress};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{Error, ProblemDetails};
use crate::extract::Path;
use crate::streams::{BATCH, Follower, Message, PERIOD};

/// After this silence a comment is sent, so that proxies do not close the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follows a job until it has ended. With `Last-Event-ID` the stream starts after that event, otherwise at the first
/// one.
///
/// These events have a number as their id: `trial` (a trial changed its state), `job` (the job changed its status),
/// `started`, `evaluated`, `checkpointed`, `finished`, `failed`, `interrupted` and `checkpoint_forgotten`. The event
/// `progress` (the progress of the job and its running trials) has no id and comes at most once a second.
#[utoipa::path(
    get, operation_id = "stream_job_events", path = "/jobs/{id}/events", tag = "jobs", security(("token" = [])),
    params(("id" = JobId, Path), ("Last-Event-ID" = Option<i64>, Header, description = "Number of the last event that the client has read")),
    responses(
        (status = OK, description = "`data` is an `EventRow`; for `progress` it is the job's status, progress, counts and running trials", body = EventRow, content_type = "text/event-stream"),
        (status = NOT_FOUND, body = ProblemDetails, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn stream(
    State(app): State<App>,
    Path(job): Path<JobId>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let seen = last_event_id(&headers)?;
    // A job that does not exist is a 404, not an empty stream.
    app.store.event_count(job).await?;
    let follower = app.streams.follow(&app.store, job, &app.shutdown)?;
    let events = Sse::new(follow(app, job, seen, follower)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Without the second header nginx would hold events back in a buffer.
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, events).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<i64, Error> {
    let Some(value) = headers.get("last-event-id") else { return Ok(0) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok()).filter(|number| *number >= 0);
    number.ok_or_else(|| Error::InvalidParameter("Last-Event-ID must be the number of an event of this job".into()))
}

/// The stream of events. It ends when the job has ended and every event was sent, when the server stops, or when the
/// database fails; the client then connects again with the last id.
fn follow(app: App, job: JobId, mut seen: i64, follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    stream! {
        // The whole value moves into the stream. Otherwise only its field `looks` would, and its place be free at once.
        let mut follower = follower;
        let mut progress = LastProgress::default();
        loop {
            let look = follower.looks.borrow_and_update().clone();
            if let Some(look) = look {
                // The events before those that all followers share.
                while seen < look.before {
                    let older = match app.store.events(job, seen, BATCH.min(look.before - seen)).await {
                        Ok(older) if !older.is_empty() => older,
                        Ok(_) => break,
                        Err(error) => {
                            tracing::warn!(%job, error = error_chain(&error), "an event stream ends early");
                            return;
                        }
                    };
                    for event in older {
                        seen = event.id;
                        yield Ok(message(&event.into()));
                    }
                }
                for event in look.events.iter().filter(|event| event.number > seen) {
                    yield Ok(message(event));
                }
                seen = look.events.last().map_or(seen, |event| seen.max(event.number));
                if let Some(event) = progress.update(&look.summary, &look.running) {
                    yield Ok(event);
                }
                if look.summary.status.is_ended() {
                    return;
                }
            }
            tokio::select! {
                () = app.shutdown.cancelled() => return,
                changed = follower.looks.changed() => if changed.is_err() { return },
            }
        }
    }
}

fn message(event: &Message) -> Event {
    Event::default().id(event.number.to_string()).event(&event.kind).data(&event.data)
}

/// The data of the event `progress`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct JobProgress {
    status: JobStatus,
    /// Share of the planned FLOPs that is done, from 0 to 1.
    progress: f64,
    trials: TrialCounts,
    estimated_end: Option<DateTime<Utc>>,
    running: Vec<Progress>,
}

/// The data of the last `progress` event, and when it was sent.
#[derive(Default)]
struct LastProgress(Option<(JobProgress, Instant)>);

impl LastProgress {
    /// The next `progress` event; `None` if nothing has changed or if the last one is younger than [`PERIOD`]. The end
    /// of the job is sent at once.
    fn update(&mut self, summary: &JobSummary, running: &[Progress]) -> Option<Event> {
        let now = JobProgress {
            status: summary.status,
            progress: summary.progress,
            trials: summary.trials,
            estimated_end: summary.estimated_end,
            running: running.to_vec(),
        };
        if let Some((last, at)) = &self.0
            && (*last == now || (at.elapsed() < PERIOD && !summary.status.is_ended()))
        {
            return None;
        }
        let event = Event::default().event("progress").json_data(&now);
        self.0 = Some((now, Instant::now()));
        event.inspect_err(|error| tracing::error!(%error, "the progress of a job cannot be written as JSON")).ok()
    }
}
