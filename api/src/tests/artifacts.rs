//! Artifacts: files that are named by their digest.

use std::fs;

use axum::body::Body;
use axum::http::{Method, header};
use sha2::{Digest, Sha256};

use super::server::{Answer, Server};

fn name(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

async fn put(server: &Server, name: &str, content: &[u8]) -> Answer {
    let request = server.request(Method::PUT, &format!("/artifacts/{name}")).body(Body::from(content.to_vec()));
    server.send(request.unwrap()).await
}

async fn fetch(server: &Server, method: Method, name: &str, range: Option<&str>) -> Answer {
    let mut request = server.request(method, &format!("/artifacts/{name}"));
    if let Some(range) = range {
        request = request.header(header::RANGE, range);
    }
    server.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn an_artifact_is_fetched_whole_or_in_part() {
    let server = Server::start().await;
    // The content is longer than the limit of a body and than a part of an upload.
    let content: Vec<u8> = (0..9_000_001u32).map(|i| (i % 251) as u8).collect();
    let name = name(&content);
    fetch(&server, Method::HEAD, &name, None).await.status.is_client_error().then_some(()).unwrap();
    for _ in 0..2 {
        assert_eq!(put(&server, &name, &content).await.status, 204);
    }
    let head = fetch(&server, Method::HEAD, &name, None).await;
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.body.len()), (200, "9000001", 0));
    let whole = fetch(&server, Method::GET, &name, None).await;
    assert_eq!((whole.status.as_u16(), whole.header("accept-ranges")), (200, "bytes"));
    assert_eq!(whole.header("etag"), format!("\"{name}\""));
    assert!(whole.body == content);

    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=8388600-8388700", 8_388_600, 8_388_701),
        ("bytes=-3", 8_999_998, 9_000_001),
        ("bytes=9000000-", 9_000_000, 9_000_001),
    ] {
        let part = fetch(&server, Method::GET, &name, Some(range)).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/9000001", to - 1));
        assert!(part.body == content[from..to], "{range}");
    }
    let past = fetch(&server, Method::GET, &name, Some("bytes=9000001-")).await;
    past.problem(416, "range_not_satisfiable");
    assert_eq!(past.header("content-range"), "bytes */9000001");
    assert_eq!(fetch(&server, Method::GET, &name, Some("bytes=5-2")).await.status, 200);
}

#[tokio::test]
async fn bytes_with_another_digest_than_the_name_are_not_stored() {
    let server = Server::start().await;
    let name = name(b"good");
    put(&server, &name, b"evil").await.problem(422, "digest_mismatch");
    fetch(&server, Method::GET, &name, None).await.problem(404, "not_found");
    assert_eq!(put(&server, &name, b"good").await.status, 204);
    assert_eq!(fetch(&server, Method::GET, &name, None).await.text(), "good");
}

#[tokio::test]
async fn a_name_that_is_not_a_digest_is_not_found() {
    let server = Server::start().await;
    fs::write(server.folder.path().join("secret"), "s").unwrap();
    let good = name(b"good");
    assert_eq!(put(&server, &good, b"good").await.status, 204);
    let names = [
        "..",
        "../secret",
        "..%2fsecret",
        "..%2Fsecret",
        "%2e%2e%2fsecret",
        "%2e%2e/secret",
        "..%5csecret",
        "..\\secret",
        "%252e%252e%252fsecret",
        "..%c0%afsecret",
        "..%ef%bc%8fsecret",
        "....//secret",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "file:%2f%2f%2fetc%2fpasswd",
        "%00",
        "sha256",
        "",
    ];
    let near = [
        good.to_uppercase(),
        good[1..].to_owned(),
        format!("{good}0"),
        format!("{good}%00"),
        format!("{good}%2f.."),
        format!("../sha256/{}/{good}", &good[..2]),
        format!("sha256/{}/{good}", &good[..2]),
        format!("%20{}", &good[1..]),
        format!("g{}", &good[1..]),
    ];
    for name in names.map(str::to_owned).iter().chain(&near) {
        // A URI must not contain a backslash, so the test sends it percent-encoded.
        let name = name.replace('\\', "%5c");
        for method in [Method::GET, Method::HEAD, Method::PUT] {
            let answer = fetch(&server, method.clone(), &name, None).await;
            assert!(matches!(answer.status.as_u16(), 400 | 404), "{method} {name:?}: {}", answer.status);
            assert!(!answer.text().contains("root:") && answer.text() != "s" && answer.text() != "good", "{name:?}");
        }
    }
}

#[tokio::test]
async fn a_file_of_a_dataset_is_served_until_its_content_changes() {
    let server = Server::with_data().await;
    let file = server.folder.path().join("wiki/wiki.txt");
    let content = fs::read(&file).unwrap();
    let name = name(&content);
    let fetched = fetch(&server, Method::GET, &name, None).await;
    assert!(fetched.status == 200 && fetched.body == content);
    assert_eq!(fetch(&server, Method::GET, &name, Some("bytes=1-2")).await.body, content[1..3]);

    fs::write(&file, "another text").unwrap();
    fetch(&server, Method::GET, &name, None).await.problem(409, "dataset_changed");
    fs::remove_file(&file).unwrap();
    assert!(fetch(&server, Method::GET, &name, None).await.status.is_client_error());
}
