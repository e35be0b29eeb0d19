//! GLUE-shaped tasks about generated scenes. The files have the columns, headers and labels of the official files, so
//! that the trainer reads both in the same way.

use recipe::Task;

use super::grammar::{Draw, Scene, Style, sentence};
use super::words::NAMES;

/// A file with its lines, which include the header.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) lines: Vec<String>,
}

/// Number of rows of train, dev and test.
const ROWS: [usize; 3] = [1200, 300, 300];
const LABELS_IN_TEST: [bool; 3] = [true, true, false];

/// One labelled input; `second` is empty for a task with a single sentence.
struct Example {
    first: String,
    second: String,
    label: String,
}

/// The three files of a task.
pub(super) fn files(task: Task, seed: u64) -> Vec<File> {
    let dev = task.row().dev;
    let names = ["train.tsv", dev, if dev == "dev_matched.tsv" { "test_matched.tsv" } else { "test.tsv" }];
    let part = |(part, name): (usize, &'static str)| {
        let mut draw = Draw::new(seed, 100 + 10 * task as u64 + part as u64);
        let labelled = LABELS_IN_TEST[part];
        let header = header(task, labelled).map(String::from);
        let rows = (0..ROWS[part]).map(|index| row(task, index, &example(task, &mut draw), labelled));
        File { name, lines: header.into_iter().chain(rows).collect() }
    };
    names.into_iter().enumerate().map(part).collect()
}

fn example(task: Task, draw: &mut Draw) -> Example {
    match task {
        Task::Cola => acceptability(draw),
        Task::Sst2 => sentiment(draw),
        Task::Mrpc => paraphrase(draw),
        Task::StsB => similarity(draw),
        Task::Qqp => same_question(draw),
        Task::Mnli => inference(draw, ["entailment", "neutral", "contradiction"]),
        Task::Rte => inference(draw, ["entailment", "not_entailment", "not_entailment"]),
        Task::Qnli => answered(draw),
        Task::Wnli => reference(draw),
    }
}

/// A clause with a noun of the other number between subject and verb. The label is 1 if the verb agrees with its
/// subject.
fn acceptability(draw: &mut Draw) -> Example {
    let (scene, right) = (Scene::any(draw), draw.one_in(2));
    let number = if right { scene.people } else { 1 - scene.people };
    Example {
        first: sentence(&scene.with_distractor(draw, number)),
        second: String::new(),
        label: u8::from(right).to_string(),
    }
}

/// A phrase of praise (label 1) or blame (label 0). In a fifth of the phrases, "not" turns one into the other.
fn sentiment(draw: &mut Draw) -> Example {
    let (scene, denied) = (Scene::any(draw), draw.one_in(5));
    let not = if denied { " not" } else { "" };
    let words =
        format!("the {} {} {}{not} {}", scene.person(), scene.place(), scene.be(), scene.character(draw.below(2)));
    let label = u8::from(scene.good != denied).to_string();
    // As in the real task, the text is in lower case, ends in a space, and is a phrase rather than a sentence.
    Example { first: format!("{words} "), second: String::new(), label }
}

/// Two sentences about the same scene in different words (label 1), or about scenes that differ in one part.
fn paraphrase(draw: &mut Draw) -> Example {
    let (scene, same) = (Scene::any(draw), draw.one_in(2));
    let other = if same { scene } else { changed(draw, scene) };
    let style = Style { synonym: 0, time_first: draw.one_in(2) };
    let second = other.describe(Style { synonym: 1, time_first: !style.time_first });
    Example { first: scene.describe(style), second, label: u8::from(same).to_string() }
}

/// The scene with another person, deed, thing or character.
fn changed(draw: &mut Draw, scene: Scene) -> Scene {
    match draw.below(4) {
        0 => Scene { person: draw.other(scene.person, 6), ..scene },
        1 => Scene { deed: draw.other(scene.deed, 4), ..scene },
        2 => Scene { thing: draw.other(scene.thing, 6), ..scene },
        _ => Scene { good: !scene.good, ..scene },
    }
}

/// Two sentences, each about a scene. The score is the number of parts that the scenes share, out of five: 0 if their
/// topics differ, 5 if the scenes are the same.
fn similarity(draw: &mut Draw) -> Example {
    let scene = Scene::any(draw);
    let mut other = scene;
    if draw.one_in(6) {
        let topic = draw.other(scene.topic, 8);
        other = Scene::draw(draw, topic);
    } else {
        for part in 0..draw.below(5) {
            other = match part {
                0 => Scene { character: draw.other(other.character, 8), ..other },
                1 => Scene { thing: draw.other(other.thing, 6), ..other },
                2 => Scene { person: draw.other(other.person, 6), ..other },
                _ => Scene { deed: draw.other(other.deed, 4), ..other },
            };
        }
    }
    let same_topic = scene.topic == other.topic;
    let shared = [
        same_topic,
        same_topic && scene.person == other.person,
        same_topic && scene.deed == other.deed,
        same_topic && scene.thing == other.thing,
        same_topic && (scene.character, scene.good) == (other.character, other.good),
    ];
    let score = shared.iter().filter(|part| **part).count();
    let second = other.describe(Style { synonym: draw.below(2), time_first: draw.one_in(2) });
    Example { first: scene.describe(Style::default()), second, label: format!("{score}.000") }
}

/// Two questions. The label is 1 if they have the same answer.
fn same_question(draw: &mut Draw) -> Example {
    let (scene, same) = (Scene::any(draw), draw.one_in(2));
    let other = if same { scene } else { Scene { deed: draw.other(scene.deed, 4), ..scene } };
    let does = ["does", "do"][scene.people];
    let first = format!("Where {does} the {} {} the {}?", scene.person(), scene.verb(0)[1], scene.thing());
    let second = format!("In which place {does} the {} {} the {}?", other.person(), other.verb(1)[1], other.thing());
    Example { first, second, label: u8::from(same).to_string() }
}

/// A sentence about a scene, and a claim. `labels` are the labels of a claim that follows, of one that may be true, and
/// of one that cannot be true.
fn inference(draw: &mut Draw, labels: [&str; 3]) -> Example {
    let scene = Scene::any(draw);
    // If two of the three classes have the same label, the other class is drawn as often as both of them, so that a
    // constant guess does not score well.
    let class = match labels[1] == labels[2] {
        true if draw.one_in(2) => 0,
        true => 1 + draw.below(2),
        false => draw.below(3),
    };
    let (person, be) = (scene.person(), scene.be());
    let claim = match (class, draw.below(2)) {
        (0, 0) => format!("the {person} {be} {}", scene.character(draw.below(2))),
        (0, _) => format!(
            "{} {} the {} {}",
            indefinite(&scene),
            scene.verb(draw.below(2))[scene.people],
            scene.thing(),
            scene.place()
        ),
        (1, 0) => {
            let other = Scene { character: draw.other(scene.character, 8), ..scene };
            format!("the {person} {be} also {}", other.character(draw.below(2)))
        }
        (1, _) => {
            format!("the {person} {} the {}", ["likes", "like"][scene.people], draw.pick(&scene.topic().things)[1])
        }
        (_, 0) => format!("the {person} {be} {}", Scene { good: !scene.good, ..scene }.character(draw.below(2))),
        (_, _) => format!("nobody {} the {} {}", scene.verb(draw.below(2))[0], scene.thing(), scene.place()),
    };
    let premise = scene.describe(Style { synonym: draw.below(2), time_first: draw.one_in(2) });
    Example { first: premise, second: sentence(&claim), label: labels[class].into() }
}

/// The person, named by a general word: "a seafarer" or "some seafarers".
fn indefinite(scene: &Scene) -> String {
    let kind = scene.topic().kind[scene.people];
    let article = match (scene.people, kind.starts_with(['a', 'e', 'i', 'o', 'u'])) {
        (1, _) => "some",
        (_, true) => "an",
        (_, false) => "a",
    };
    format!("{article} {kind}")
}

/// A question and a sentence. The label is `entailment` if the sentence contains the answer.
fn answered(draw: &mut Draw) -> Example {
    let (scene, holds) = (Scene::any(draw), draw.one_in(2));
    let told = if holds {
        scene
    } else {
        Scene { thing: draw.other(scene.thing, 6), person: draw.other(scene.person, 6), ..scene }
    };
    let question = match draw.below(2) {
        0 => format!("Who {} the {}?", scene.verb(0)[0], scene.thing()),
        _ => format!(
            "Where {} the {} {} the {}?",
            ["does", "do"][scene.people],
            scene.person(),
            scene.verb(0)[1],
            scene.thing()
        ),
    };
    let label = if holds { "entailment" } else { "not_entailment" };
    Example {
        first: question,
        second: told.describe(Style { synonym: 0, time_first: draw.one_in(2) }),
        label: label.into(),
    }
}

/// A sentence with a pronoun, and its last clause with a name in place of the pronoun. The label is 1 if the pronoun
/// means that name.
fn reference(draw: &mut Draw) -> Example {
    let (half, right) = (NAMES.len() / 2, draw.one_in(2));
    let mut pair = [NAMES[draw.below(half)], NAMES[half + draw.below(half)]];
    if draw.one_in(2) {
        pair.reverse();
    }
    let [(giver, _), (taker, _)] = pair;
    let (meant, pronoun) = *draw.pick(&pair);
    let claimed = if right {
        meant
    } else if meant == giver {
        taker
    } else {
        giver
    };
    let scene = Scene::any(draw);
    let (thing, verb) = (scene.thing(), scene.verb(0)[0]);
    let first = format!(
        "{giver} gives the {thing} to {taker} because {pronoun} {verb} the {} {}.",
        draw.pick(&scene.topic().things)[1],
        scene.place()
    );
    let claim =
        first.split_once(&format!(" {pronoun} ")).map_or_else(String::new, |(_, rest)| format!("{claimed} {rest}"));
    Example { first, second: claim, label: u8::from(right).to_string() }
}

/// The official header line; `None` for the files that have none.
fn header(task: Task, labelled: bool) -> Option<&'static str> {
    Some(match (task, labelled) {
        (Task::Cola, true) => return None,
        (Task::Cola, false) => "index\tsentence",
        (Task::Sst2, true) => "sentence\tlabel",
        (Task::Sst2, false) => "index\tsentence",
        (Task::Mrpc, true) => "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        (Task::Mrpc, false) => "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
        (Task::StsB, true) => "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        (Task::StsB, false) => "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2",
        (Task::Qqp, true) => "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        (Task::Qqp, false) => "id\tquestion1\tquestion2",
        (Task::Mnli, true) => {
            "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label"
        }
        (Task::Mnli, false) => {
            "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2"
        }
        (Task::Qnli, true) => "index\tquestion\tsentence\tlabel",
        (Task::Qnli, false) => "index\tquestion\tsentence",
        (Task::Rte | Task::Wnli, true) => "index\tsentence1\tsentence2\tlabel",
        (Task::Rte | Task::Wnli, false) => "index\tsentence1\tsentence2",
    })
}

fn row(task: Task, index: usize, example: &Example, labelled: bool) -> String {
    let Example { first, second, label } = example;
    match (task, labelled) {
        (Task::Cola, true) => format!("gen\t{label}\t{}\t{first}", if label == "0" { "*" } else { "" }),
        (Task::Cola | Task::Sst2, false) => format!("{index}\t{first}"),
        (Task::Sst2, true) => format!("{first}\t{label}"),
        (Task::Mrpc, _) => {
            let lead = if labelled { label.clone() } else { index.to_string() };
            format!("{lead}\t{}\t{}\t{first}\t{second}", 2 * index, 2 * index + 1)
        }
        (Task::StsB, _) => with_label(
            format!("{index}\tgenerated\tgenerated\tnone\t{index}\tnone\tnone\t{first}\t{second}"),
            label,
            labelled,
        ),
        (Task::Qqp, true) => format!("{index}\t{}\t{}\t{first}\t{second}\t{label}", 2 * index, 2 * index + 1),
        (Task::Mnli, _) => {
            let line = format!("{index}\t{index}\t{index}g\tgenerated\t\t\t\t\t{first}\t{second}");
            with_label(line, &format!("{label}\t{label}"), labelled)
        }
        (Task::Qqp | Task::Qnli | Task::Rte | Task::Wnli, _) => {
            with_label(format!("{index}\t{first}\t{second}"), label, labelled)
        }
    }
}

fn with_label(line: String, label: &str, labelled: bool) -> String {
    if labelled { format!("{line}\t{label}") } else { line }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use recipe::task::{Column, Target};

    use super::*;

    /// The number of rows of each label. As in the trainer, the task's row in the GLUE table names the columns.
    fn labels(task: Task, file: &File) -> BTreeMap<String, usize> {
        let table = task.row();
        let mut lines = file.lines.iter();
        let header = if table.header { lines.next().unwrap().trim_start_matches('\u{feff}') } else { "" };
        let place = |column: Column| match column {
            Column::At(place) => place,
            Column::Named(name) => header.split('\t').position(|field| field == name).unwrap(),
        };
        let mut found = BTreeMap::new();
        for line in lines {
            let fields: Vec<&str> = line.split('\t').collect();
            assert!(!fields[place(table.first)].is_empty(), "{line}");
            assert!(table.second.is_none_or(|column| !fields[place(column)].is_empty()), "{line}");
            *found.entry(fields[place(table.label)].to_owned()).or_default() += 1;
        }
        found
    }

    #[test]
    fn every_task_has_the_official_columns_and_labels_of_balanced_classes() {
        for task in Task::ALL {
            for file in &files(task, 1)[..2] {
                let found = labels(task, file);
                let rows: usize = found.values().sum();
                assert_eq!(rows, if file.name == "train.tsv" { 1200 } else { 300 }, "{}", task.name());
                match task.row().target {
                    Target::Classes(classes) => {
                        let mut known: Vec<&str> = classes.to_vec();
                        known.sort_unstable();
                        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), known, "{}", task.name());
                        let largest = *found.values().max().unwrap() as f64 / rows as f64;
                        assert!(largest < 1.25 / classes.len() as f64, "{}: {largest}", task.name());
                    }
                    Target::Score { low, high } => {
                        assert!(found.len() > 3, "{found:?}");
                        let in_range =
                            |score: &String| (f64::from(low)..=f64::from(high)).contains(&score.parse().unwrap());
                        assert!(found.keys().all(in_range), "{found:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn test_files_have_no_labels() {
        for task in Task::ALL {
            let test = &files(task, 1)[2];
            let header = &test.lines[0];
            match task.row().label {
                Column::Named(label) => assert!(header.split('\t').all(|field| field != label), "{header}"),
                Column::At(_) => assert_eq!(header, "index\tsentence"),
            }
            let fields = |line: &String| line.split('\t').count();
            assert!(test.lines.iter().all(|line| fields(line) == fields(header)), "{}", task.name());
        }
    }

    #[test]
    fn the_label_says_if_the_pronoun_fits_the_claimed_name() {
        let mut draw = Draw::new(3, 0);
        for _ in 0..200 {
            let Example { first, second, label } = reference(&mut draw);
            let claimed = second.split(' ').next().unwrap();
            let (_, pronoun) = NAMES.iter().find(|(name, _)| *name == claimed).unwrap();
            assert_eq!(first.contains(&format!(" {pronoun} ")), label == "1", "{first} {second} {label}");
        }
    }
}
