//! A server of files for tests. It uses a bare socket because an HTTP library would not end in the middle of a body.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A server of files by path, each of version "one". It answers while the test runs.
pub(super) struct Server {
    url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Each connection is closed after this many bytes of a body.
    piece: usize,
    has_ranges: bool,
    /// The first byte that each request asked for.
    requests: Vec<Option<usize>>,
}

impl Server {
    pub(super) fn start<const N: usize>(files: [(&str, Vec<u8>); N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let files = files.into_iter().map(|(path, content)| (path.to_owned(), content)).collect();
        let state = State { files, piece: usize::MAX, has_ranges: true, requests: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                shared.lock().unwrap().answer(&connection.unwrap());
            }
        });
        Self { url, state }
    }

    pub(super) fn breaking_after(self, piece: usize) -> Self {
        self.state.lock().unwrap().piece = piece;
        self
    }

    pub(super) fn without_ranges(self) -> Self {
        self.state.lock().unwrap().has_ranges = false;
        self
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The first byte that each request asked for, `None` for a request without a range.
    pub(super) fn ranges(&self) -> Vec<Option<usize>> {
        self.state.lock().unwrap().requests.clone()
    }
}

impl State {
    fn answer(&mut self, mut connection: &TcpStream) {
        let lines = BufReader::new(connection).lines().map(|line| line.unwrap());
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let path = head[0].split(' ').nth(1).unwrap().trim_start_matches('/');
        let head: Vec<String> = head.iter().map(|line| line.to_lowercase()).collect();
        let wanted = head.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
        self.requests.push(wanted);
        let is_same = head.iter().any(|line| line == "if-range: \"one\"");
        let start = wanted.filter(|_| is_same && self.has_ranges).unwrap_or(0);
        let content = self.files.get(path).map_or(&[][..], Vec::as_slice);
        let (status, body) = match () {
            () if !self.files.contains_key(path) => ("404 Not Found", content),
            () if start > 0 && start >= content.len() => ("416 Range Not Satisfiable", &[][..]),
            () if start > 0 => ("206 Partial Content", &content[start..]),
            () => ("200 OK", content),
        };
        let range = match start {
            0 => String::new(),
            _ => format!("Content-Range: bytes {start}-{}/{}\r\n", content.len() - 1, content.len()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nETag: \"one\"\r\n{range}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(&body[..length.min(self.piece)]).unwrap();
    }
}
