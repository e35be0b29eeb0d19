//! What the commands print, on a terminal and into a pipe. A small server of fixed answers stands for Lamina's.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitStatus, Output, Stdio};

use console::{measure_text_width, strip_ansi_codes};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};

const JOB: &str = "01a2237e-4878-77e7-8448-eacecd775100";
const TRIAL: &str = "01a2237e-487a-7500-a26d-a2bd11fbc5d1";
const EMPTY: &str = "01a2237e-487a-7500-a26d-a2bd11fbc5d2";
/// A name whose characters take two columns, with as many of them as a name may have.
const WIDE: &str = "名前の長い仕事🚀名前の長い仕事🚀名前";

/// The commands that only read, each with the bodies of all answers that it needs in [`answer`].
const READING: [&[&str]; 11] = [
    &["jobs"],
    &["trials", JOB],
    &["nodes"],
    &["datasets"],
    &["token", "list"],
    &["submit", "--dry-run", "-"],
    &["report", JOB],
    &["report", "--markdown", JOB],
    &["report", "--json", JOB],
    &["logs", TRIAL],
    &["openapi"],
];

const HELP: [&[&str]; 6] = [
    &["--help"],
    &["agent", "--help"],
    &["trials", "--help"],
    &["submit", "--help"],
    &["help", "watch"],
    &["--version"],
];

fn arm(n: usize) -> String {
    format!("{}-{n:02}", "progressive-layer-dropping-".repeat(3).split_at(61).0)
}

fn job() -> Value {
    let arms: Vec<String> = (0..35).map(arm).collect();
    json!({"id": JOB, "name": WIDE, "status": "cancelled", "created_at": "2026-11-28T18:00:00Z",
        "started_at": "2026-11-28T19:50:00Z", "finished_at": "2026-11-28T20:00:00Z", "arms": arms, "baseline": arm(0), "progress": 0.5, "estimated_end": null,
        "trials": {"blocked": 0, "queued": 0, "running": 0, "paused": 0, "succeeded": 0, "failed": 1, "cancelled": 34}})
}

fn trial(n: usize) -> Value {
    let (state, failure) = match n {
        0 => ("failed", json!({"kind": "internal", "message": "first line\nsecond\u{1b}[2J\u{1b}]0;owned\u{7}\r"})),
        _ => ("cancelled", Value::Null),
    };
    json!({"id": TRIAL.replace("c5d1", &format!("c{n:03}")), "job": JOB, "stage": "pretrain", "arm": arm(n), "task": null,
        "learning_rate": null, "keep": null, "seeds": {"init": 7, "data": 1234, "dropout": 7, "gate": 7, "head": 7},
        "state": state, "waits_for": null, "waiting": null, "step": 999_999, "total_steps": 2_000_000,
        "trained_seconds": 1.0, "estimated_end": null, "fingerprint": "", "attempt_count": 2,
        "created_at": "2026-11-28T18:00:00Z", "started_at": "2026-11-28T19:50:00Z", "finished_at": "2026-11-28T20:00:00Z",
        "failure": failure, "report": null, "node": null, "slot": null})
}

fn list(items: impl IntoIterator<Item = Value>) -> String {
    json!({"items": items.into_iter().collect::<Vec<_>>(), "next": null}).to_string()
}

fn report() -> String {
    let heads = ["ms/step", "Speed-up", "Step saving, %", "Limit, %", "Share of limit, %", "Tokens/s"];
    let row = |n| format!("| {} | rte | {}\n", arm(n), "15.4 [11.8, 19.0] | ".repeat(heads.len()));
    format!(
        "# {WIDE}\n\nOne two \u{1b}[31mthree\u{1b}[0m four five six seven eight nine ten eleven twelve thirteen fourteen.\n\n\
         | Arm | Task | {} |\n|:---|:---|{}\n{}\n## Notes\n\n- none\n",
        heads.join(" | "),
        "---:|".repeat(heads.len()),
        (0..35).map(row).collect::<String>()
    )
}

fn log() -> String {
    let texts = [
        "  0%|    |\r 50%|██  |\r100%|████|".to_owned(),
        "\u{1b}[2J\u{1b}[31mloss\u{1b}[0m 0.5\u{1b}]0;owned\u{7}\u{9b}2J\u{8}".to_owned(),
        "x".repeat(500),
        String::new(),
        "the last line".to_owned(),
    ];
    let line =
        |(id, text): (usize, String)| json!({"id": id, "attempt": TRIAL, "text": text, "at": "2026-11-28T18:00:00Z"});
    list(texts.into_iter().enumerate().map(line))
}

/// The status and the body of the answer to a request.
fn answer(method: &str, path: &str) -> (u16, String) {
    let node = |trial: &str| {
        json!({"id": JOB, "name": arm(1), "instance": JOB, "live": true, "draining": true, "labels": {},
            "last_seen": "2026-11-28T18:00:00Z", "slots": [{"index": 15, "device": "cuda:15", "model": WIDE, "threads": 256,
            "memory_bytes": 80_000_000_000_u64, "attempt": {"id": JOB, "trial": trial, "job": JOB}}]})
    };
    let dataset = json!({"name": arm(2), "kind": "vocabulary", "path": format!("/data/{}/{WIDE}", arm(3)), "files": 1,
        "digest": "0".repeat(64), "bytes": 999_000_000, "facts": {"kind": "corpus"}, "registered_at": "2026-11-28T18:00:00Z"});
    let token = json!({"id": JOB, "name": arm(4), "scope": "write", "prefix": "lamina_5afa23fb",
        "created_at": "2026-11-28T18:00:00Z", "expires_at": "2027-11-28T18:00:00Z", "revoked_at": null});
    let plan = |n| json!({"name": arm(n), "pretrain_flops": 1.3e14, "encoder_saving": 0.4, "flop_saving": 0.4, "theta_limit": 0.5});
    let planned = json!({"trials": {"timing": 1, "pretrain": 35, "finetune": 99_999, "probe": 0}, "steps": 7_010_500,
        "flops": 3.2e15, "arms": (0..35).map(plan).collect::<Vec<_>>(), "power": {
            "seeds": 3, "questions": 105, "difference": 40.3, "sameness": 57.1,
            "sentence": "3 pre-train seeds and 105 questions: 8 of 10 studies would tell a difference of 40 standard \
                         deviations of the paired differences over seeds, and sameness within 57.",
        }, "estimate": {"slot_hours": 9.0, "slots": 1,
        "basis": {"kind": "timed", "job": JOB, "device": "Intel(R) Xeon(R) Processor", "flops_per_second": 3.7e10},
        "largest_slot_bytes": 1, "memory": [],
        "warnings": [{"pointer": "/pretrain/batch", "message": "this batch needs more memory than the largest slot of this fleet has now"}]}});
    let body = match (method, path.split('?').next().unwrap_or(path)) {
        ("POST", "/jobs") => planned.to_string(),
        ("GET", "/jobs") => list([job()]),
        ("GET", "/nodes") => list([node(TRIAL)]),
        ("GET", "/datasets") => list([dataset]),
        ("GET", "/tokens") => list([token]),
        ("GET", path) if path == format!("/jobs/{JOB}") => job().to_string(),
        ("GET", path) if path == format!("/jobs/{JOB}/trials") => list((0..35).map(trial)),
        ("GET", _) if path.ends_with("/report?format=markdown") => report(),
        ("GET", path) if path == format!("/jobs/{JOB}/report") => json!({"name": "\u{9b}2J"}).to_string(),
        ("GET", path) if path == format!("/trials/{TRIAL}") || path == format!("/trials/{EMPTY}") => {
            trial(0).to_string()
        }
        ("GET", path) if path == format!("/trials/{TRIAL}/logs") => log(),
        ("GET", path) if path == format!("/trials/{EMPTY}/logs") => list([]),
        _ => {
            let problem = json!({"title": "Not found", "status": 404, "code": "not_found",
                "detail": format!("there is no {} of this id", if path.starts_with("/trials") { "trial" } else { "job" })});
            return (404, problem.to_string());
        }
    };
    (200, body)
}

fn serve(stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap_or(0),
            Some(_) => {}
            None => break,
        }
    }
    io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
    let mut words = first.split(' ');
    let (status, body) = answer(words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let length = body.len();
    write!(
        &stream,
        "HTTP/1.1 {status} X\r\ndate: Sat, 28 Nov 2026 20:30:00 GMT\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// The URL of a server that runs until the test ends.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that has gone needs no answer.
            let _ = serve(stream);
        }
    });
    format!("http://{address}")
}

fn lamina(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamina"));
    command.args(arguments).env_clear().envs([("LAMINA_URL", server), ("LAMINA_TOKEN", "t"), ("TERM", "xterm")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the command prints on a terminal of 80 columns and 24 lines, and its status.
fn on_terminal(command: &mut Command) -> (String, ExitStatus) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let path = std::ffi::OsStr::from_bytes(name.as_bytes());
    let side = || OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).unwrap();
    let mut child = command.stdout(side()).stderr(side()).spawn().unwrap();
    // The terminal ends when the last process that has it open has ended, so this one closes its copies.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut printed = Vec::new();
    // The end of a terminal is an error on Linux.
    let _ = File::from(terminal).read_to_end(&mut printed);
    (String::from_utf8(printed).unwrap().replace("\r\n", "\n"), child.wait().unwrap())
}

fn into_pipe(server: &str, arguments: &[&str]) -> Output {
    lamina(server, arguments).output().unwrap()
}

/// The text if it has nothing that a terminal would act on.
fn plain(text: &str) -> &str {
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    text
}

#[test]
fn tables_and_reports_fit_80_columns_and_ids_stay_whole() {
    let server = server();
    let is_for_people =
        |arguments: &&&[&str]| !["--json", "--markdown", "openapi", "logs"].iter().any(|word| arguments.contains(word));
    for arguments in READING.iter().filter(is_for_people).chain(&HELP) {
        let (printed, status) = on_terminal(&mut lamina(&server, arguments));
        assert!(status.success(), "{arguments:?}: {printed}");
        let text = strip_ansi_codes(&printed);
        for line in plain(&text).lines() {
            assert!(measure_text_width(line) <= 80, "{arguments:?}: too wide: {line}");
        }
        let id = match arguments[0] {
            "jobs" | "token" => JOB,
            "nodes" => TRIAL,
            "trials" if arguments.contains(&JOB) => &TRIAL.replace("c5d1", "c034"),
            _ => continue,
        };
        assert!(text.contains(id), "{arguments:?}: {text}");
    }
}

#[test]
fn a_pipe_gets_every_column_and_every_name_whole() {
    let server = server();
    for (arguments, whole) in [
        (&["jobs"][..], vec![WIDE.to_owned(), arm(34), "0 of 35".into()]),
        (&["trials", JOB], vec![arm(34), "999999/2000000".into(), "first line second".into()]),
        (&["nodes"], vec![arm(1), format!("cuda:15 {WIDE}"), TRIAL.into()]),
        (&["datasets"], vec![arm(2), format!("/data/{}/{WIDE}", arm(3))]),
        (&["token", "list"], vec![arm(4), "until 2027-11-28".into()]),
        (&["report", JOB], vec![arm(34), "Share of limit, %".into(), "eleven twelve thirteen fourteen.".into()]),
    ] {
        let output = into_pipe(&server, arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        for part in whole {
            assert!(plain(&text).contains(&part), "{arguments:?}: {part} is missing: {text}");
        }
    }
}

#[test]
fn a_pipe_that_is_closed_ends_a_command_quietly() {
    let server = server();
    let closed = || {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        writer
    };
    for arguments in READING.iter().chain(&HELP) {
        let output = lamina(&server, arguments).stdout(closed()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
    // The status of a job that was cancelled; nothing else may pass for it.
    let output = lamina(&server, &["watch", JOB]).stdout(closed()).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let output = lamina(&server, &["watch", JOB]).stderr(closed()).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(141), 0), "{output:?}");
    let output = lamina(&server, &["cancel", TRIAL]).stderr(closed()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = lamina(&server(), &["jobs"]).stdout(full).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && message.contains("No space left"), "{message}");
}

#[test]
fn an_argument_that_names_nothing_is_answered_with_what_it_should_name() {
    let server = server();
    for (arguments, thing, listed) in [
        (&["cancel"][..], "job", "lamina jobs"),
        (&["report"], "job", "lamina jobs"),
        (&["trials"], "job", "lamina jobs"),
        (&["watch"], "job", "lamina jobs"),
        (&["submission", "--arm", "pld", "--out", "/nonexistent/x"], "job", "lamina jobs"),
        (&["logs"], "trial", "lamina trials JOB"),
        (&["checkpoint", "--out", "/nonexistent/x"], "trial", "lamina trials JOB"),
        (&["token", "revoke"], "token", "lamina token list"),
    ] {
        for typed in ["abc", "../tokens?x", "名前", ""] {
            let output = into_pipe(&server, &[arguments, &[typed]].concat());
            let message = String::from_utf8(output.stderr).unwrap();
            let expected = format!("not the id of a {thing}; `{listed}` lists {thing}s with their ids");
            assert!(message.contains(&expected) && message.contains(typed), "{arguments:?} {typed}: {message}");
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        }
    }
    for (arguments, listed) in [(["trials", TRIAL], "`lamina jobs`"), (["logs", JOB], "`lamina trials JOB`")] {
        let message = String::from_utf8(into_pipe(&server, &arguments).stderr).unwrap();
        assert!(message.starts_with("lamina: there is no ") && message.contains(listed), "{message}");
    }
    let message = String::from_utf8(into_pipe(&server, &["node", "drain", "abc"]).stderr).unwrap();
    assert!(message.contains("no node \"abc\"; `lamina nodes` lists"), "{message}");
}

#[test]
fn a_log_does_not_act_on_the_terminal() {
    let server = server();
    let (printed, _) = on_terminal(&mut lamina(&server, &["logs", TRIAL]));
    let lines: Vec<&str> = plain(&printed).lines().collect();
    let long = "x".repeat(500);
    assert_eq!(lines, ["100%|████|", "loss 0.5\u{fffd}", long.as_str(), "", "the last line"]);
    assert_eq!(into_pipe(&server, &["logs", TRIAL]).stdout, printed.as_bytes(), "a pipe gets the same");
    let empty = into_pipe(&server, &["logs", EMPTY]);
    assert!(empty.status.success() && empty.stdout.is_empty(), "{empty:?}");
    assert_eq!(String::from_utf8(empty.stderr).unwrap(), format!("the log of trial {EMPTY} is empty\n"));
}

#[test]
fn json_keeps_its_value_and_does_not_act_on_the_terminal() {
    let (printed, _) = on_terminal(&mut lamina(&server(), &["report", "--json", JOB]));
    assert_eq!(serde_json::from_str::<Value>(plain(&printed)).unwrap(), json!({"name": "\u{9b}2J"}));
}

#[test]
fn a_cancelled_job_is_not_shown_as_done() {
    let server = server();
    let (watched, status) = on_terminal(lamina(&server, &["watch", JOB]).env("TERM", "dumb"));
    assert!(!watched.contains("100 %") && watched.contains("cancelled"), "{watched}");
    assert!(
        watched.contains("cancelled after 10 min 00 s: 0 of 35 trials succeeded, 1 failed, 34 cancelled"),
        "{watched}"
    );
    assert_eq!(status.code(), Some(4));
    let (bars, _) = on_terminal(&mut lamina(&server, &["watch", JOB]));
    assert!(!bars.contains("100 %") && bars.contains(" 50 %") && bars.contains("all arms"), "{bars}");
    let jobs = String::from_utf8(into_pipe(&server, &["jobs"]).stdout).unwrap();
    assert!(!jobs.contains("100 %") && jobs.contains("0 of 35"), "{jobs}");
}

#[test]
fn there_are_styles_only_where_they_are_wanted() {
    let server = server();
    let styled = |name: &str, value: &str, arguments: &[&str]| {
        on_terminal(lamina(&server, arguments).env(name, value)).0.contains('\u{1b}')
    };
    for arguments in [&["report", JOB][..], &["jobs"], &["--help"], &["cancel", "abc"]] {
        assert!(styled("TERM", "xterm", arguments), "{arguments:?}");
        assert!(!styled("NO_COLOR", "1", arguments) && !styled("TERM", "dumb", arguments), "{arguments:?}");
        let output = into_pipe(&server, arguments);
        assert!(!output.stdout.contains(&27) && !output.stderr.contains(&27), "{output:?}");
    }
    assert!(!styled("TERM", "dumb", &["watch", JOB]));
    // Bars move the cursor, but have no colour.
    let (bars, _) = on_terminal(lamina(&server, &["watch", JOB]).env("NO_COLOR", "1"));
    let is_colour =
        |sequence: &str| sequence.trim_start_matches(['[', ';', '0', '1', '2', '3', '8', '9']).starts_with('m');
    assert!(!bars.split('\u{1b}').skip(1).any(is_colour), "{bars:?}");
}
