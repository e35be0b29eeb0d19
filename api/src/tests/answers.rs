//! The submission of an arm to the GLUE server, from jobs that an agent carries out.

use std::io::{Cursor, Read};

use axum::body::Body;
use axum::http::{Method, header};
use recipe::Task;
use recipe::task::{ANSWERS_HEADER, Column, Target, TestSet};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::agent::Agent;
use super::server::{Answer, Server};

/// The files in the order in which the server lists them.
const FILES: [&str; 11] = [
    "AX.tsv",
    "CoLA.tsv",
    "MNLI-m.tsv",
    "MNLI-mm.tsv",
    "MRPC.tsv",
    "QNLI.tsv",
    "QQP.tsv",
    "RTE.tsv",
    "SST-2.tsv",
    "STS-B.tsv",
    "WNLI.tsv",
];

/// A server with all nine tasks, and a job of one arm on some of them that has ended.
async fn ended(tasks: &[&str], glue: Value, report: impl Fn(&Trial) -> Value, rows: Option<u64>) -> (Server, String) {
    let (server, id) = submitted(tasks, glue).await;
    let agent = Agent::new(&server);
    agent.sync(json!([])).await;
    loop {
        let assigned = agent.assigned().await;
        if assigned.is_empty() {
            return (server, id);
        }
        for assignment in &assigned {
            let mut reported = pretrained();
            if assignment["spec"]["recipe"]["stage"] == "finetune" {
                let trial = Trial::of(assignment);
                reported = report(&trial);
                reported["predictions"] = store(&server, &trial, rows).await;
            }
            agent.carry_out(assignment, vec![], reported).await;
        }
    }
}

/// A file with two examples of a task.
fn examples(task: Task) -> String {
    let row = task.row();
    let labels = match row.target {
        Target::Classes(classes) => [classes[0], classes[1]],
        Target::Score { .. } => ["1.0", "2.5"],
    };
    if !row.header {
        return labels.map(|label| format!("x\t{label}\t\ta\n")).concat();
    }
    let name = |column| match column {
        Column::Named(name) => name,
        Column::At(_) => unreachable!("a file with a header has names"),
    };
    let second = row.second.map_or("unused", name);
    let header = format!("{}\t{second}\t{}\n", name(row.first), name(row.label));
    header + &labels.map(|label| format!("a\tb\t{label}\n")).concat()
}

async fn submitted(tasks: &[&str], mut glue: Value) -> (Server, String) {
    let server = Server::with_data().await;
    let mut files = Vec::new();
    for task in Task::ALL {
        let row = task.row();
        files.extend(["train.tsv", row.dev].map(|file| (format!("{}/{file}", row.folder), examples(task))));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let folder = server.write("whole", &files);
    let registered = server.post("/datasets", &json!({"name": "glue", "kind": "glue", "path": folder})).await;
    assert_eq!(registered.status, 201, "{}", registered.text());
    glue["tasks"] = json!(tasks);
    let job = json!({"name": "n", "corpus": "wiki", "arms": [{"name": "pre-ln & co"}], "timing": null, "glue": glue});
    let answer = server.post("/jobs", &job).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    (server, id)
}

/// The properties in which the fine-tune trials of a test differ.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Trial {
    task: Task,
    rate: f64,
    seed: u64,
}

impl Trial {
    fn of(assignment: &Value) -> Self {
        let spec = &assignment["spec"];
        Self {
            task: Task::named(spec["recipe"]["task"].as_str().unwrap()).unwrap(),
            rate: spec["recipe"]["learning_rate"]["peak"].as_f64().unwrap(),
            seed: spec["seeds"]["head"].as_u64().unwrap(),
        }
    }

    /// The answers of the trial: the first one encodes its rate, the next ones encode its seed in binary.
    fn answers(&self, set: &TestSet, rows: u64) -> String {
        let answer = |row: u64| match (self.task.row().target, row) {
            (Target::Score { .. }, _) => format!("{}.125", self.seed),
            (Target::Classes(classes), 0) => classes[usize::from(self.rate > 1e-4)].to_owned(),
            (Target::Classes(classes), row) => classes[(self.seed >> (row - 1).min(63) & 1) as usize].to_owned(),
        };
        let lines = (0..rows).map(|row| format!("{row}\t{}\n", answer(row)));
        assert!(set.rows > 100, "room for what tells trials apart");
        std::iter::once("index\tprediction\n".to_owned()).chain(lines).collect()
    }
}

/// Puts a trial's answers into the artifact store and returns the list of files for its report. `rows` replaces the
/// official number of rows.
async fn store(server: &Server, trial: &Trial, rows: Option<u64>) -> Value {
    let mut files = Vec::new();
    for set in trial.task.row().tests {
        let rows = rows.unwrap_or(set.rows);
        let text = trial.answers(set, rows);
        let sha256 = hex::encode(Sha256::digest(&text));
        files.push(json!({"name": set.answers, "rows": rows, "sha256": sha256, "bytes": text.len()}));
        let put = server.request(Method::PUT, &format!("/artifacts/{sha256}")).body(Body::from(text)).unwrap();
        assert_eq!(server.send(put).await.status, 204);
    }
    json!(files)
}

fn pretrained() -> Value {
    json!({
        "stage": "pretrain", "steps": 2000, "trained_seconds": 9.0, "tokens": 1, "validation_loss": 6.5,
        "digest": "0".repeat(64), "checkpoint": "0".repeat(64),
    })
}

fn scored(score: f64, selection: Option<f64>) -> Value {
    json!({
        "stage": "finetune", "steps": 3, "trained_seconds": 1.0, "metrics": {}, "score": score, "majority_score": 0.5,
        "selection_score": selection, "digest": "d",
    })
}

fn address(id: &str, more: &str) -> String {
    format!("/jobs/{id}/submission.zip?arm=pre-ln+%26+co{more}")
}

/// The files of an archive, in its order.
fn unpacked(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/zip");
    let mut zip = ZipArchive::new(Cursor::new(answer.body.to_vec())).unwrap();
    let file = |index| {
        let mut text = String::new();
        let mut entry = zip.by_index(index).unwrap();
        entry.read_to_string(&mut text).unwrap();
        (entry.name().unwrap().into_owned(), text)
    };
    (0..FILES.len()).map(file).collect()
}

/// The files that a refusal names.
fn files_in_error(problem: &Value) -> Vec<&str> {
    problem["problems"].as_array().unwrap().iter().map(|p| p["pointer"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_archive_has_the_predictions_of_the_trials() {
    let tasks = Task::ALL.map(Task::name);
    let (server, id) = ended(&tasks, json!({"seeds": 1}), |_| scored(0.6, Some(0.6)), None).await;
    let answer = server.get(&address(&id, "")).await;
    let files = unpacked(&answer);
    assert_eq!(files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), FILES);
    for (task, set) in Task::test_sets() {
        let (_, text) = files.iter().find(|(name, _)| name == set.answers).unwrap();
        assert_eq!(*text, Trial { task, rate: 1e-4, seed: 0 }.answers(set, set.rows), "{}", set.answers);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(ANSWERS_HEADER), "{}", set.answers);
        assert_eq!(lines.count() as u64, set.rows, "{}", set.answers);
    }
    assert!(files[0].1.starts_with("index\tprediction\n0\tcontradiction\n1\tcontradiction\n"), "AX is a label of MNLI");
    assert!(files[7].1.starts_with("index\tprediction\n0\tentailment\n"));
    assert!(files[9].1.starts_with("index\tprediction\n0\t0.125\n"));

    let again = server.get(&address(&id, "")).await;
    assert_eq!(again.body, answer.body, "equal answers, equal bytes");
    let known = server.request(Method::GET, &address(&id, "")).header(header::IF_NONE_MATCH, answer.header("etag"));
    assert_eq!(server.send(known.body(Body::empty()).unwrap()).await.status, 304);
}

#[tokio::test]
async fn the_best_trial_on_the_selection_part_at_the_selected_rate_answers() {
    let report = |trial: &Trial| match (trial.rate > 1e-4, trial.seed) {
        // The lower rate has the best single trial, by dev and by selection, and the worse mean.
        (false, 0) => scored(0.9, Some(0.9)),
        (false, _) => scored(0.5, Some(0.5)),
        (true, 0) => scored(0.8, Some(0.7)),
        // The two best are equal: the lower seed.
        (true, _) => scored(0.6, Some(0.75)),
    };
    let glue = json!({"seeds": 3, "learning_rates": [1e-4, 2e-4]});
    let (server, id) = ended(&["rte"], glue, report, None).await;
    let files = unpacked(&server.get(&address(&id, "&fill=majority")).await);
    let set = &Task::Rte.row().tests[0];
    assert_eq!(files[7].1, Trial { task: Task::Rte, rate: 2e-4, seed: 1 }.answers(set, set.rows));
}

#[tokio::test]
async fn without_a_selection_part_dev_decides_between_seeds() {
    let report = |trial: &Trial| scored(0.5 + 0.1 * trial.seed as f64, None);
    let (server, id) = ended(&["wnli"], json!({"seeds": 2, "selection": null}), report, None).await;
    let files = unpacked(&server.get(&address(&id, "&fill=majority")).await);
    let set = &Task::Wnli.row().tests[0];
    assert_eq!(files[10].1, Trial { task: Task::Wnli, rate: 1e-4, seed: 1 }.answers(set, set.rows));
}

#[tokio::test]
async fn missing_files_are_named_unless_constants_fill_them() {
    let (server, id) = ended(&["rte", "mnli"], json!({"seeds": 1}), |_| scored(0.6, Some(0.6)), None).await;
    let problem = server.get(&address(&id, "")).await.problem(409, "incomplete_submission");
    assert_eq!(
        files_in_error(&problem),
        ["/CoLA.tsv", "/SST-2.tsv", "/MRPC.tsv", "/STS-B.tsv", "/QQP.tsv", "/QNLI.tsv", "/WNLI.tsv"]
    );
    assert_eq!(problem["problems"][6]["message"], "the arm was not fine-tuned on wnli");

    let files = unpacked(&server.get(&address(&id, "&fill=majority")).await);
    let first = |file: &str| files.iter().find(|(name, _)| name == file).unwrap().1.lines().nth(1).unwrap();
    assert_eq!((first("CoLA.tsv"), first("STS-B.tsv"), first("QNLI.tsv")), ("0\t1", "0\t2.500", "0\tentailment"));
    for ((_, text), file) in files.iter().zip(FILES) {
        let (_, set) = Task::test_sets().find(|(_, set)| set.answers == file).unwrap();
        assert_eq!(text.lines().count() as u64, set.rows + 1, "{file}");
    }
}

#[tokio::test]
async fn constants_do_not_fill_answers_that_may_still_come() {
    let (server, id) = submitted(&["rte"], json!({"seeds": 2})).await;
    let problem = server.get(&address(&id, "&fill=majority")).await.problem(409, "incomplete_submission");
    assert_eq!(files_in_error(&problem), ["/RTE.tsv"]);
    assert_eq!(problem["problems"][0]["message"], "2 fine-tune trials on rte have not ended yet");
}

#[tokio::test]
async fn several_rates_without_a_selection_part_are_refused() {
    let glue = json!({"seeds": 1, "learning_rates": [1e-4, 2e-4], "selection": null});
    let (server, id) = ended(&["rte"], glue, |_| scored(0.6, None), None).await;
    let problem = server.get(&address(&id, "&fill=majority")).await.problem(409, "incomplete_submission");
    assert_eq!(files_in_error(&problem), ["/RTE.tsv"]);
    assert!(problem["problems"][0]["message"].as_str().unwrap().contains("several learning rates"), "{problem}");
}

#[tokio::test]
async fn predictions_for_unofficial_test_files_are_refused() {
    let (server, id) = ended(&["rte"], json!({"seeds": 1}), |_| scored(0.6, None), Some(12)).await;
    let problem = server.get(&address(&id, "&fill=majority")).await.problem(409, "incomplete_submission");
    let message = "the file has 12 answers, the server expects 3000: the test data are not the official ones";
    assert_eq!(problem["problems"], json!([{"pointer": "/RTE.tsv", "message": message}]));
}

#[tokio::test]
async fn an_unknown_arm_and_a_mistyped_query_are_refused() {
    let (server, id) = submitted(&["rte"], json!({"seeds": 1})).await;
    let problem = server.get(&format!("/jobs/{id}/submission.zip?arm=pld")).await.problem(404, "not_found");
    assert_eq!(problem["detail"], "there is no arm \"pld\" in this job; its arms are pre-ln & co");
    server.get(&format!("/jobs/{id}/submission.zip")).await.problem(400, "invalid_parameter");
    server.get(&address(&id, "&fill=random")).await.problem(400, "invalid_parameter");
    server.get(&address(&id, "&filling=majority")).await.problem(400, "invalid_parameter");
    let nobody = address("01890000-0000-7000-8000-000000000001", "");
    server.get(&nobody).await.problem(404, "not_found");
}
