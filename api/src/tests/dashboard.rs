//! The dashboard's page. It is served with or without a built dashboard.

use axum::body::Body;
use axum::http::{Method, Request, header};

use super::server::{Answer, Server};

async fn browse(server: &Server, method: Method, path: &str, accept: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
    server.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_browser_gets_the_page_for_every_address_that_is_not_a_route() {
    let server = Server::start().await;
    for path in ["/", "/index.html", "/some/view"] {
        let page = browse(&server, Method::GET, path, "text/html,application/xhtml+xml").await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert!(page.text().starts_with("<!doctype html>"), "{}", page.text());
    }
    browse(&server, Method::GET, "/some/view", "application/json").await.problem(404, "not_found");
    browse(&server, Method::POST, "/some/view", "text/html").await.problem(404, "not_found");
    browse(&server, Method::GET, "/jobs", "text/html").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn the_page_may_not_load_from_other_servers_or_be_in_a_frame() {
    let page = browse(&Server::start().await, Method::GET, "/", "text/html").await;
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'self';") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"));
    assert_eq!((page.header("x-content-type-options"), page.header("x-frame-options")), ("nosniff", "DENY"));
    assert_eq!(page.header("cache-control"), "no-cache");
}

#[tokio::test]
async fn files_outside_the_dashboards_folder_are_not_served() {
    let server = Server::start().await;
    for path in
        ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "/..%2fCargo.toml", "/assets/../../../Cargo.toml", "//etc/passwd"]
    {
        let answer = browse(&server, Method::GET, path, "*/*").await;
        answer.problem(404, "not_found");
    }
}
