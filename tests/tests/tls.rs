//! Tests of `deploy/nginx/lamina.conf` with a real nginx in front of a real service.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tests::{Background, Service, free_port, installed, program, until};

fn run(command: &mut Command) {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Writes to `folder` an authority, and a certificate for `localhost` that it has signed.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority"));
    openssl(&format!("req {key} -keyout privkey.pem -out site.csr -subj /CN=localhost"));
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").expect("a file");
    openssl("x509 -req -in site.csr -CA ca.pem -CAkey ca.key -days 2 -extfile names -out fullchain.pem");
}

/// Starts nginx with the site of `deploy/` on `port`.
fn nginx(folder: &Path, service: &Service, port: u16) -> Background {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nginx/lamina.conf");
    let mut site = fs::read_to_string(path).expect("the site");
    for (ours, here) in [
        ("listen 443", format!("listen 127.0.0.1:{port}")),
        ("/etc/ssl/lamina", folder.display().to_string()),
        ("http://127.0.0.1:8642", service.url().to_owned()),
        ("lamina.example.org", "localhost".to_owned()),
    ] {
        assert!(site.contains(ours), "the site has no {ours}");
        site = site.replace(ours, &here);
    }
    let at = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {at}/{name};\n")).concat();
    let whole = format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}{site}}}\n"
    );
    fs::write(folder.join("nginx.conf"), whole).expect("the configuration");
    let mut command = Command::new("nginx");
    command.arg("-e").arg(folder.join("error.log")).arg("-c").arg(folder.join("nginx.conf"));
    Background::start("nginx", &mut command, folder.join("output"))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_agents_and_streams_work_through_nginx_with_tls() {
    let test = "clients_agents_and_streams_work_through_nginx_with_tls";
    if !installed("nginx", "Debian: apt-get install nginx-light", test)
        || !installed("openssl", "Debian: apt-get install openssl", test)
    {
        return;
    }
    let service = Service::start().await;
    let folder = TempDir::new().expect("a folder");
    certificates(folder.path());
    let port = free_port();
    let _nginx = nginx(folder.path(), &service, port);
    let url = format!("https://localhost:{port}");
    let authority = folder.path().join("ca.pem");
    let curl = |arguments: &[&str]| {
        let mut command = tokio::process::Command::new("curl");
        command.args(["-sS", "--fail-with-body", "--cacert"]).arg(&authority);
        command.arg("-H").arg(format!("Authorization: Bearer {}", service.token())).args(arguments);
        command
    };
    until("nginx answers", Duration::from_secs(20), || async {
        curl(&[&format!("{url}/readyz")]).output().await.ok().filter(|output| output.status.success())
    })
    .await;

    // An agent joins through the proxy.
    let mut agent = Command::new(program("lamina"));
    agent
        .args(["agent", "--server", &url, "--name", "behind-tls"])
        .arg("--token-file")
        .arg(service.home().join("agent-token"))
        .arg("--home")
        .arg(folder.path().join("agent"))
        .env("SSL_CERT_FILE", &authority);
    let _agent = Background::start("the agent", &mut agent, folder.path().join("agent.log"));
    until("the agent has joined", Duration::from_secs(30), || async {
        let nodes = service.try_get("/nodes").await?;
        nodes["items"].as_array()?.iter().any(|node| node["name"] == "behind-tls").then_some(())
    })
    .await;

    // A body of several megabytes goes through. It is larger than nginx accepts by default and than its buffers.
    let large = folder.path().join("large");
    fs::write(&large, vec![7; 5 << 20]).expect("a file");
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(vec![7; 5 << 20]));
    let artifact = format!("{url}/artifacts/{digest}");
    let put = curl(&["-T", large.to_str().expect("a path"), &artifact]).output().await.expect("curl starts");
    assert!(put.status.success(), "{}{}", String::from_utf8_lossy(&put.stdout), String::from_utf8_lossy(&put.stderr));

    // The command line submits a job, and its events arrive while it runs.
    let data = service.generate_data().await;
    service.register("text", "corpus", &data.join("corpus/generated-text.txt")).await;
    service.register("words", "vocabulary", &data.join("vocab/generated-words-vocab.txt")).await;
    let job = folder.path().join("job.json");
    let spec = json!({
        "name": "behind TLS", "corpus": "text", "vocabulary": "words",
        "model": {"blocks": 2, "hidden": 32, "heads": 2, "intermediate": 64},
        "pretrain": {"steps": 1_000_000, "batch": 4, "length": 32}, "arms": [{"name": "pre-ln"}], "timing": null
    });
    fs::write(&job, spec.to_string()).expect("a job");
    let submitted = tokio::process::Command::new(program("lamina"))
        .args(["submit", job.to_str().expect("a path")])
        .env("LAMINA_URL", &url)
        .env("LAMINA_TOKEN", service.token())
        .env("SSL_CERT_FILE", &authority)
        .output()
        .await
        .expect("lamina starts");
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let id = service.get("/jobs").await["items"][0]["id"].as_str().expect("an id").to_owned();
    let events = folder.path().join("events");
    let mut stream = Command::new("curl");
    stream
        .args(["-sSN", "--cacert"])
        .arg(&authority)
        .arg("-H")
        .arg(format!("Authorization: Bearer {}", service.token()))
        .arg(format!("{url}/jobs/{id}/events"));
    let _stream = Background::start("curl", &mut stream, events.clone());
    until("an event has passed the proxy", Duration::from_secs(20), || async {
        fs::read_to_string(&events).ok()?.contains("event: started").then_some(())
    })
    .await;
    assert_eq!(service.get(&format!("/jobs/{id}")).await["status"], "running");
    service.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
    service.ended(&id, Duration::from_secs(60)).await;
}
