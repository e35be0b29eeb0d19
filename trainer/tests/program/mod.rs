//! Runs `lamina-trainer` as its users do: a process with files, events and an exit status.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use recipe::seeds::{Purpose, below, generator};
use recipe::{Event, Failure};
use serde_json::{Value, json};

/// A test fails if there is no event for this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A temporary folder with a small generated corpus, GLUE files and recipes. A test writes its own images.
pub(crate) struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { root: tempfile::tempdir().unwrap() };
        fs::write(bench.path("text.txt"), text(120)).unwrap();
        fs::create_dir_all(bench.path("glue/RTE")).unwrap();
        for (file, lines) in [("train.tsv", 45), ("dev.tsv", 21)] {
            fs::write(bench.path("glue/RTE").join(file), entailment(lines)).unwrap();
        }
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes `spec` to a file and returns the command that runs it, with the flags that its stage needs.
    pub(crate) fn command(&self, name: &str, out: &str, spec: &Value) -> Command {
        let recipe = self.path(&format!("{name}.json"));
        fs::write(&recipe, spec.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lamina-trainer"));
        command.arg("run").arg("--recipe").arg(recipe).arg("--out").arg(self.path(out));
        command.args(["--threads", "1", "--device", "cpu"]);
        if spec["recipe"]["stage"] == "finetune" {
            command.arg("--glue").arg(self.path("glue"));
        } else {
            let recipe = &spec["recipe"];
            let images = [recipe, &recipe["from"], &recipe["arms"][0]["recipe"]].iter().any(|r| !r["images"].is_null());
            command.arg("--corpus").arg(self.path(if images { "images" } else { "text.txt" }));
            command.arg("--cache").arg(self.path("cache"));
        }
        command
    }

    /// The newest checkpoint under `out`.
    pub(crate) fn checkpoint(&self, out: &str) -> PathBuf {
        let entries = fs::read_dir(self.path(out).join("checkpoints")).unwrap();
        entries.map(|entry| entry.unwrap().path()).max().unwrap()
    }
}

/// A pre-train recipe with dropout and layer drop, so small that a step takes a few milliseconds.
pub(crate) fn pretrain(steps: u64) -> Value {
    json!({
        "stage": "pretrain",
        "model": {"blocks": 3, "hidden": 32, "heads": 2, "intermediate": 48, "positions": 64, "norm": "pre"},
        "layer_drop": {"theta_limit": 0.5},
        "learning_rate": {"peak": 1e-3},
        "steps": steps,
        "batch": 5,
        "length": 24,
        "corpus": {"name": "generated"},
        "vocabulary": {"kind": "trained", "size": 200},
        "held_out": 0.1,
        "validate_every": 10,
    })
}

pub(crate) fn finetune(from: Value, epochs: u32) -> Value {
    json!({
        "stage": "finetune",
        "from": without_stage(from),
        "from_seeds": {},
        "task": "rte",
        "glue": {"name": "generated"},
        "epochs": epochs,
        "batch": 4,
        "length": 32,
        "learning_rate": {"peak": 1e-3, "warmup": 0.1},
    })
}

/// A pre-train recipe in the form in which another recipe contains it.
pub(crate) fn without_stage(mut recipe: Value) -> Value {
    recipe.as_object_mut().unwrap().remove("stage");
    recipe
}

/// `recipe` with the fields of `change`; null removes a field.
pub(crate) fn changed(mut recipe: Value, change: &Value) -> Value {
    merge(&mut recipe, change);
    recipe
}

/// Merges as in RFC 7396 (JSON Merge Patch).
fn merge(target: &mut Value, change: &Value) {
    let (Value::Object(fields), Value::Object(changes)) = (&mut *target, change) else {
        *target = change.clone();
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key).or_insert(Value::Null), change);
        }
    }
}

pub(crate) fn spec(recipe: Value) -> Value {
    json!({"recipe": recipe, "seeds": {"init": 1, "data": 2, "dropout": 3, "gate": 4, "head": 5}})
}

/// A running trainer and its events so far.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<Event>,
    pub(crate) events: Vec<Event>,
}

/// A trainer that has ended.
#[derive(Debug)]
pub(crate) struct Exited {
    /// The exit status; None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) events: Vec<Event>,
    pub(crate) log: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                let line = line.unwrap();
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, events: Vec::new() }
    }

    /// Waits for an event that is `wanted`; false if the trainer ended without one.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> bool {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(event) => {
                    let found = wanted(&event);
                    self.events.push(event);
                    if found {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => panic!("no event for {PATIENCE:?} after {:?}", self.events.last()),
            }
        }
    }

    pub(crate) fn kill(mut self) -> Exited {
        self.child.kill().unwrap();
        self.exited()
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    pub(crate) fn exited(mut self) -> Exited {
        self.until(|_| false);
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        Exited { code: self.child.wait().unwrap().code(), events: self.events, log }
    }
}

/// Runs the trainer to its end.
pub(crate) fn finish(command: &mut Command) -> Exited {
    Running::start(command).exited()
}

impl Exited {
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.log);
        self
    }

    /// The failure that ended the trainer, checked against the exit status.
    pub(crate) fn failure(&self) -> &Failure {
        let Some(Event::Failed { failure }) = self.events.last() else { panic!("no failure: {}", self.log) };
        assert_eq!(self.code, Some(i32::from(failure.kind.exit_code())), "{failure:?}");
        failure
    }

    pub(crate) fn report(&self) -> Value {
        let Some(Event::Finished { report }) = self.events.last() else { panic!("not finished: {}", self.log) };
        serde_json::to_value(report).unwrap()
    }

    /// (step, bits of the value) of each point of that name, in the order of the events.
    pub(crate) fn points(&self, name: &str) -> Vec<(u64, u64)> {
        let points = self.events.iter().flat_map(|event| match event {
            Event::Progress { points, .. } | Event::Evaluated { points, .. } => &points[..],
            _ => &[],
        });
        points.filter(|point| point.name == name).map(|point| (point.step, point.value.to_bits())).collect()
    }

    pub(crate) fn resumed_from(&self) -> Option<u64> {
        self.events.iter().find_map(|event| match event {
            Event::Started { resumed_from, .. } => *resumed_from,
            _ => None,
        })
    }
}

/// Documents of two lines. Some words are much more frequent than others, so that there is something to learn.
fn text(documents: u64) -> String {
    (0..documents).map(|document| format!("{}\n{}\n\n", sentence(document, 0, 40), sentence(document, 1, 25))).collect()
}

fn entailment(lines: u64) -> String {
    let label = |line: u64| ["entailment", "not_entailment"][(line % 2) as usize];
    let row =
        |line| format!("{line}\t{}\t{}\t{}\n", sentence(line, 2, 9), sentence(line, 3, 4 + line % 5), label(line));
    format!("index\tsentence1\tsentence2\tlabel\n{}", (0..lines).map(row).collect::<String>())
}

fn sentence(document: u64, place: u64, words: u64) -> String {
    const SYLLABLES: [&str; 12] = ["ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "ra", "se"];
    let mut draws = generator(0, Purpose::Shuffle, document, place);
    let mut syllable = || SYLLABLES[(0..3).map(|_| below(&mut draws, 12)).fold(11, u64::min) as usize];
    (0..words).map(|_| syllable().to_owned() + syllable()).collect::<Vec<_>>().join(" ")
}

/// The content of the files that must not depend on how often a run was interrupted.
pub(crate) fn learned(checkpoint: &Path) -> [Vec<u8>; 2] {
    ["model.safetensors", "optimizer.safetensors"].map(|file| fs::read(checkpoint.join(file)).unwrap())
}
