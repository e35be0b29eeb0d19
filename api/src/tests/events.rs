//! The event stream of a job.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use futures::StreamExt;
use serde_json::Value;
use tokio::time::timeout;
use tower::ServiceExt;

use super::server::Server;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq)]
struct Message {
    id: Option<i64>,
    event: String,
    data: Value,
}

fn messages(text: &str) -> Vec<Message> {
    let blocks = text.split("\n\n").filter(|block| block.lines().any(|line| line.starts_with("data:")));
    blocks
        .map(|block| {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            Message {
                id: field("id:").map(|id| id.parse().unwrap()),
                event: field("event:").unwrap().to_owned(),
                data: serde_json::from_str(field("data:").unwrap()).unwrap(),
            }
        })
        .collect()
}

fn request(server: &Server, job: &str, last: Option<&str>) -> Request<Body> {
    let mut request = server.request(Method::GET, &format!("/jobs/{job}/events"));
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    request.body(Body::empty()).unwrap()
}

/// All messages of the stream of a job that has ended.
async fn all(server: &Server, job: &str, last: Option<&str>) -> Vec<Message> {
    let answer = timeout(PATIENCE, server.send(request(server, job, last))).await.expect("the stream does not end");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/event-stream");
    messages(&answer.text())
}

async fn cancel(server: &Server, job: &str) {
    let request = server.request(Method::POST, &format!("/jobs/{job}/cancel")).body(Body::empty()).unwrap();
    assert_eq!(server.send(request).await.status, 200);
}

#[tokio::test]
async fn the_stream_of_an_ended_job_has_all_events_and_ends() {
    let server = Server::with_data().await;
    let job = server.submit("n").await;
    cancel(&server, &job).await;
    let messages = all(&server, &job, None).await;
    let ids: Vec<i64> = messages.iter().filter_map(|message| message.id).collect();
    assert_eq!(ids, (1..=ids.len() as i64).collect::<Vec<_>>());
    assert_eq!((messages[0].event.as_str(), &messages[0].data["data"]["status"]), ("job", &"queued".into()));
    let cancelled =
        messages.iter().filter(|message| message.event == "trial" && message.data["data"]["state"] == "cancelled");
    assert_eq!(cancelled.count(), 3);
    let last = messages.last().unwrap();
    assert_eq!((last.event.as_str(), last.id, &last.data["status"]), ("progress", None, &"cancelled".into()));
}

#[tokio::test]
async fn a_client_that_reconnects_gets_exactly_the_events_that_it_missed() {
    let server = Server::with_data().await;
    let job = server.submit("n").await;
    cancel(&server, &job).await;
    let messages = all(&server, &job, None).await;
    let numbered: Vec<Message> = messages.into_iter().filter(|message| message.id.is_some()).collect();
    for seen in 0..=numbered.len() {
        let rest = all(&server, &job, Some(&seen.to_string())).await;
        let rest: Vec<Message> = rest.into_iter().filter(|message| message.id.is_some()).collect();
        assert_eq!(rest, numbered[seen..], "after {seen}");
    }
    for wrong in ["x", "-1", ""] {
        server.send(request(&server, &job, Some(wrong))).await.problem(400, "invalid_parameter");
    }
}

/// Reads a live stream until a message is `wanted`.
async fn read_until(body: &mut axum::body::BodyDataStream, text: &mut String, wanted: impl Fn(&Message) -> bool) {
    let read = async {
        while !messages(text).iter().any(&wanted) {
            let chunk = body.next().await.expect("the stream ended").unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    timeout(PATIENCE, read).await.expect("the wanted message did not come");
}

#[tokio::test]
async fn an_open_stream_gets_new_events_at_once() {
    let server = Server::with_data().await;
    let job = server.submit("n").await;
    let response = server.router.clone().oneshot(request(&server, &job, None)).await.unwrap();
    let (mut body, mut text) = (response.into_body().into_data_stream(), String::new());
    read_until(&mut body, &mut text, |message| message.event == "progress").await;
    cancel(&server, &job).await;
    read_until(&mut body, &mut text, |message| message.data["status"] == "cancelled").await;
    let rest = timeout(PATIENCE, body.collect::<Vec<_>>()).await.expect("the stream does not end");
    assert!(rest.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let server = Server::with_data().await;
    let job = server.submit("n").await;
    let response = server.router.clone().oneshot(request(&server, &job, None)).await.unwrap();
    let (mut body, mut text) = (response.into_body().into_data_stream(), String::new());
    read_until(&mut body, &mut text, |message| message.event == "progress").await;
    server.app.shutdown.cancel();
    timeout(PATIENCE, async { while body.next().await.is_some() {} }).await.expect("the stream outlives the server");
}
