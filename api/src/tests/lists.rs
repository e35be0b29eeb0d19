//! Lists in pages.

use serde_json::json;

use super::server::Server;

/// The ids of all items of a list, read by following `Link`, and the number of pages.
async fn walk(server: &Server, first: &str) -> (Vec<String>, usize) {
    let (mut items, mut pages, mut next) = (Vec::new(), 0, first.to_owned());
    loop {
        let page = server.get(&next).await;
        assert_eq!(page.status, 200, "{}", page.text());
        pages += 1;
        let body = page.json();
        items.extend(body["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match (page.header("link"), body["next"].as_str()) {
            ("", None) => return (items, pages),
            (link, Some(cursor)) => {
                let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap();
                assert!(target.ends_with(&format!("cursor={cursor}")), "{link}");
                next = target.to_owned();
            }
            (link, None) => panic!("a last page with {link}"),
        }
    }
}

#[tokio::test]
async fn each_job_is_listed_once_newest_first() {
    let server = Server::with_data().await;
    let mut made = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        made.push(server.submit(name).await);
    }
    made.reverse();
    assert_eq!(walk(&server, "/jobs?limit=2").await, (made.clone(), 3));
    assert_eq!(walk(&server, "/jobs?limit=5").await, (made.clone(), 1));

    // A job that is submitted between two pages does not change the second one.
    let first = server.get("/jobs?limit=2").await;
    server.submit("f").await;
    let second = server.get(&format!("/jobs?limit=2&cursor={}", first.json()["next"].as_str().unwrap())).await.json();
    assert_eq!((&second["items"][0]["id"], &second["items"][1]["id"]), (&json!(made[2]), &json!(made[3])));
}

#[tokio::test]
async fn trials_are_listed_in_order_and_can_be_filtered() {
    let server = Server::with_data().await;
    let mut body = super::server::job("n");
    body["glue"] = json!({"tasks": ["rte"], "seeds": 3});
    let id = server.post("/jobs", &body).await.json()["id"].as_str().unwrap().to_owned();
    let (all, pages) = walk(&server, &format!("/jobs/{id}/trials?limit=4")).await;
    assert_eq!((all.len(), pages), (1 + 2 + 2 * 3, 3));
    let count = async |filter: &str| walk(&server, &format!("/jobs/{id}/trials?limit=2&{filter}")).await.0.len();
    assert_eq!(count("stage=finetune").await, 6);
    assert_eq!(count("stage=finetune&arm=pld").await, 3);
    assert_eq!(count("state=blocked").await, 6);
    assert_eq!(count("state=running").await, 0);

    let trial = server.get(&format!("/trials/{}", all[0])).await.json();
    assert_eq!((&trial["id"], &trial["job"], &trial["points"]), (&json!(all[0]), &json!(id), &json!([])));
    assert_eq!(trial["attempts"], json!([]));
    let logs = server.get(&format!("/trials/{}/logs", all[0])).await.json();
    assert_eq!(logs, json!({"items": [], "next": null}));
    assert_eq!(server.get(&format!("/jobs/{id}/curves?name=validation_loss")).await.json()["name"], "validation_loss");
}

#[tokio::test]
async fn each_node_is_listed_once_by_name() {
    let server = Server::start().await;
    for name in ["d", "b", "e", "a", "c"] {
        let slot = json!({"index": 0, "device": "cpu", "model": name, "threads": 1, "memory_bytes": 1});
        let node = json!({"name": name, "labels": {}, "slots": [slot]});
        let request = json!({"node": node, "instance": uuid::Uuid::now_v7(), "attempts": []});
        assert_eq!(server.post("/agents/sync", &request).await.status, 200);
    }
    let all = server.get("/nodes").await.json();
    let column = |pointer: &str| {
        all["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.pointer(pointer).unwrap().as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(column("/name"), ["a", "b", "c", "d", "e"]);
    assert_eq!(column("/slots/0/model"), column("/name"), "each with its own slots");
    assert_eq!(walk(&server, "/nodes?limit=2").await, (column("/id"), 3));
    assert_eq!(walk(&server, "/nodes?limit=5").await, (column("/id"), 1));
}

#[tokio::test]
async fn an_invalid_cursor_limit_or_filter_is_refused() {
    let server = Server::with_data().await;
    let id = server.submit("n").await;
    server.submit("m").await;
    for cursor in ["", "x", "00", "6a", "%01"] {
        server.get(&format!("/jobs?cursor={cursor}")).await.problem(400, "invalid_cursor");
    }
    server.get("/jobs?cursor=%00").await.problem(400, "invalid_parameter");
    let of_jobs = server.get("/jobs?limit=1").await.json()["next"].as_str().unwrap().to_owned();
    server.get(&format!("/jobs/{id}/trials?cursor={of_jobs}")).await.problem(400, "invalid_cursor");
    server.get(&format!("/nodes?cursor={of_jobs}")).await.problem(400, "invalid_cursor");
    for query in ["limit=0", "limit=1001", "limit=-1", "limit=two", "page=2"] {
        server.get(&format!("/jobs?{query}")).await.problem(400, "invalid_parameter");
        server.get(&format!("/nodes?{query}")).await.problem(400, "invalid_parameter");
    }
    for query in ["stage=warmup", "state=lost", "arms=pld"] {
        server.get(&format!("/jobs/{id}/trials?{query}")).await.problem(400, "invalid_parameter");
    }
}
