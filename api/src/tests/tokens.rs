//! Access tokens and their scopes.

use axum::body::Body;
use axum::http::{Method, Request, header};
use scheduler::token::Scope;
use serde_json::json;

use super::server::{Answer, Server, job};

async fn call(server: &Server, authorization: Option<&str>, method: Method, uri: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(uri).header(header::CONTENT_TYPE, "application/json");
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    server.send(request.body(Body::from(job("n").to_string())).unwrap()).await
}

#[tokio::test]
async fn a_request_without_a_valid_token_is_refused() {
    let server = Server::with_data().await;
    let mut forged = server.token(Scope::Admin).await;
    // The forged token has the same prefix and another last character.
    let last = forged.pop().unwrap();
    forged.push(if last == '0' { '1' } else { '0' });
    for authorization in [
        None,
        Some("Bearer"),
        Some("Bearer x"),
        Some("Basic YTpi"),
        Some(&*format!("Bearer {forged}")),
        Some("Bearer lamina_é"),
    ] {
        for (method, uri) in
            [(Method::POST, "/jobs"), (Method::GET, "/jobs"), (Method::GET, "/tokens"), (Method::POST, "/agents/sync")]
        {
            let refused = call(&server, authorization, method, uri).await;
            refused.problem(401, "unauthenticated");
            let challenge = refused.header("www-authenticate");
            assert!(challenge.starts_with("Bearer realm=\"lamina\""), "{challenge}");
            // RFC 6750: an error is told only to those who brought a token.
            let brought = authorization.is_some_and(|value| value.starts_with("Bearer ") && value.is_ascii());
            assert_eq!(challenge.contains("error=\"invalid_token\""), brought, "{authorization:?}: {challenge}");
        }
    }
    assert_eq!(server.count_jobs().await, 0);
}

#[tokio::test]
async fn a_scope_allows_its_own_calls_and_those_of_smaller_scopes_only() {
    let server = Server::with_data().await;
    let digest = "0".repeat(64);
    let artifact = format!("/artifacts/{digest}");
    // Each call with the smallest scope that it needs, and its status if the scope suffices.
    let calls = [
        (Scope::Read, Method::GET, "/jobs", 200),
        (Scope::Read, Method::GET, "/nodes", 200),
        (Scope::Write, Method::POST, "/jobs", 201),
        (Scope::Admin, Method::GET, "/tokens", 200),
        (Scope::Agent, Method::POST, "/agents/sync", 422),
    ];
    for held in [Scope::Admin, Scope::Write, Scope::Read, Scope::Agent] {
        let authorization = format!("Bearer {}", server.token(held).await);
        for (wanted, method, uri, allowed) in calls.clone() {
            let answer = call(&server, Some(&authorization), method, uri).await;
            if held.allows(wanted) {
                assert_eq!(answer.status.as_u16(), allowed, "{held:?} {uri}: {}", answer.text());
            } else {
                answer.problem(403, "forbidden");
            }
        }
        // Agents and readers may both fetch artifacts; this one does not exist.
        call(&server, Some(&authorization), Method::GET, &artifact).await.problem(404, "not_found");
    }
    let reader = format!("Bearer {}", server.token(Scope::Read).await);
    call(&server, Some(&reader), Method::PUT, &artifact).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_secret_is_shown_once_and_works_until_the_token_is_revoked() {
    let server = Server::start().await;
    let made = server.post("/tokens", &json!({"name": "ci", "scope": "read"})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let (id, secret) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert_eq!((&made["name"], &made["scope"]), (&json!("ci"), &json!("read")));
    let list = server.get("/tokens").await;
    assert!(list.text().contains(id) && !list.text().contains(secret));

    let authorization = format!("Bearer {secret}");
    assert_eq!(call(&server, Some(&authorization), Method::GET, "/jobs").await.status, 200);
    for _ in 0..2 {
        assert_eq!(
            server
                .send(server.request(Method::DELETE, &format!("/tokens/{id}")).body(Body::empty()).unwrap())
                .await
                .status,
            204
        );
    }
    call(&server, Some(&authorization), Method::GET, "/jobs").await.problem(401, "unauthenticated");
    let gone = server.request(Method::DELETE, &format!("/tokens/{}", uuid::Uuid::nil()));
    server.send(gone.body(Body::empty()).unwrap()).await.problem(404, "not_found");
    server.post("/tokens", &json!({"name": " ", "scope": "read"})).await.problem(422, "invalid_body");
    server.post("/tokens", &json!({"name": "n", "scope": "root"})).await.problem(422, "invalid_body");
}

#[tokio::test]
async fn health_and_metrics_need_no_token() {
    let server = Server::start().await;
    for uri in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(call(&server, None, Method::GET, uri).await.status, 200, "{uri}");
    }
}
