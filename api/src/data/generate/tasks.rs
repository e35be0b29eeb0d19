//! GLUE-shaped tasks about generated facts: the columns, headers and labels of the official files, so that whatever
//! reads those reads these.

use recipe::Task;

use super::grammar::{Draw, Fact, Style, sentence};
use super::words::NAMES;

/// Lines of one file, the header among them.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) lines: Vec<String>,
}

/// Rows of train, dev and test.
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

/// Whether the verb agrees with its subject across a noun of the other number.
fn acceptability(draw: &mut Draw) -> Example {
    let (fact, right) = (Fact::any(draw), draw.one_in(2));
    let number = if right { fact.people } else { 1 - fact.people };
    Example {
        first: sentence(&fact.with_distractor(draw, number)),
        second: String::new(),
        label: u8::from(right).to_string(),
    }
}

/// Praise or blame, with "not" in a fifth of the sentences.
fn sentiment(draw: &mut Draw) -> Example {
    let (fact, denied) = (Fact::any(draw), draw.one_in(5));
    let not = if denied { " not" } else { "" };
    let words = format!("the {} {} {}{not} {}", fact.person(), fact.place(), fact.be(), fact.character(draw.below(2)));
    let label = u8::from(fact.good != denied).to_string();
    // Like the real task: lower case, spaces before punctuation, a phrase rather than a sentence.
    Example { first: format!("{words} "), second: String::new(), label }
}

/// The same fact in other words, or one that differs in one thing.
fn paraphrase(draw: &mut Draw) -> Example {
    let (fact, same) = (Fact::any(draw), draw.one_in(2));
    let other = if same { fact } else { changed(draw, fact) };
    let style = Style { synonym: 0, time_first: draw.one_in(2) };
    let second = other.say(Style { synonym: 1, time_first: !style.time_first });
    Example { first: fact.say(style), second, label: u8::from(same).to_string() }
}

/// The fact with another person, deed, thing or character.
fn changed(draw: &mut Draw, fact: Fact) -> Fact {
    match draw.below(4) {
        0 => Fact { person: draw.other(fact.person, 6), ..fact },
        1 => Fact { deed: draw.other(fact.deed, 4), ..fact },
        2 => Fact { thing: draw.other(fact.thing, 6), ..fact },
        _ => Fact { good: !fact.good, ..fact },
    }
}

/// From 0, about something else, to 5, the same: how many of five parts two facts share.
fn similarity(draw: &mut Draw) -> Example {
    let fact = Fact::any(draw);
    let mut other = fact;
    if draw.one_in(6) {
        let topic = draw.other(fact.topic, 8);
        other = Fact::draw(draw, topic);
    } else {
        for part in 0..draw.below(5) {
            other = match part {
                0 => Fact { character: draw.other(other.character, 8), ..other },
                1 => Fact { thing: draw.other(other.thing, 6), ..other },
                2 => Fact { person: draw.other(other.person, 6), ..other },
                _ => Fact { deed: draw.other(other.deed, 4), ..other },
            };
        }
    }
    let same_topic = fact.topic == other.topic;
    let shared = [
        same_topic,
        same_topic && fact.person == other.person,
        same_topic && fact.deed == other.deed,
        same_topic && fact.thing == other.thing,
        same_topic && (fact.character, fact.good) == (other.character, other.good),
    ];
    let score = shared.iter().filter(|part| **part).count();
    let second = other.say(Style { synonym: draw.below(2), time_first: draw.one_in(2) });
    Example { first: fact.say(Style::default()), second, label: format!("{score}.000") }
}

/// Two questions with the same answer, or not.
fn same_question(draw: &mut Draw) -> Example {
    let (fact, same) = (Fact::any(draw), draw.one_in(2));
    let other = if same { fact } else { Fact { deed: draw.other(fact.deed, 4), ..fact } };
    let does = ["does", "do"][fact.people];
    let first = format!("Where {does} the {} {} the {}?", fact.person(), fact.verb(0)[1], fact.thing());
    let second = format!("In which place {does} the {} {} the {}?", other.person(), other.verb(1)[1], other.thing());
    Example { first, second, label: u8::from(same).to_string() }
}

/// A claim that follows from a fact, one that may be true, and one that cannot be.
fn inference(draw: &mut Draw, labels: [&str; 3]) -> Example {
    let fact = Fact::any(draw);
    // Where two of the three have one label, the third comes as often as both: a constant guess must not score well.
    let class = match labels[1] == labels[2] {
        true if draw.one_in(2) => 0,
        true => 1 + draw.below(2),
        false => draw.below(3),
    };
    let (person, be) = (fact.person(), fact.be());
    let claim = match (class, draw.below(2)) {
        (0, 0) => format!("the {person} {be} {}", fact.character(draw.below(2))),
        (0, _) => format!(
            "{} {} the {} {}",
            indefinite(&fact),
            fact.verb(draw.below(2))[fact.people],
            fact.thing(),
            fact.place()
        ),
        (1, 0) => {
            let other = Fact { character: draw.other(fact.character, 8), ..fact };
            format!("the {person} {be} also {}", other.character(draw.below(2)))
        }
        (1, _) => format!("the {person} {} the {}", ["likes", "like"][fact.people], draw.pick(&fact.topic().things)[1]),
        (_, 0) => format!("the {person} {be} {}", Fact { good: !fact.good, ..fact }.character(draw.below(2))),
        (_, _) => format!("nobody {} the {} {}", fact.verb(draw.below(2))[0], fact.thing(), fact.place()),
    };
    let premise = fact.say(Style { synonym: draw.below(2), time_first: draw.one_in(2) });
    Example { first: premise, second: sentence(&claim), label: labels[class].into() }
}

/// "a seafarer" or "some seafarers".
fn indefinite(fact: &Fact) -> String {
    let kind = fact.topic().kind[fact.people];
    let article = match (fact.people, kind.starts_with(['a', 'e', 'i', 'o', 'u'])) {
        (1, _) => "some",
        (_, true) => "an",
        (_, false) => "a",
    };
    format!("{article} {kind}")
}

/// Whether a sentence holds the answer to a question.
fn answered(draw: &mut Draw) -> Example {
    let (fact, holds) = (Fact::any(draw), draw.one_in(2));
    let told = if holds {
        fact
    } else {
        Fact { thing: draw.other(fact.thing, 6), person: draw.other(fact.person, 6), ..fact }
    };
    let question = match draw.below(2) {
        0 => format!("Who {} the {}?", fact.verb(0)[0], fact.thing()),
        _ => format!(
            "Where {} the {} {} the {}?",
            ["does", "do"][fact.people],
            fact.person(),
            fact.verb(0)[1],
            fact.thing()
        ),
    };
    let label = if holds { "entailment" } else { "not_entailment" };
    Example { first: question, second: told.say(Style { synonym: 0, time_first: draw.one_in(2) }), label: label.into() }
}

/// Whom a pronoun means.
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
    let fact = Fact::any(draw);
    let (thing, verb) = (fact.thing(), fact.verb(0)[0]);
    let first = format!(
        "{giver} gives the {thing} to {taker} because {pronoun} {verb} the {} {}.",
        draw.pick(&fact.topic().things)[1],
        fact.place()
    );
    let claim =
        first.split_once(&format!(" {pronoun} ")).map_or_else(String::new, |(_, rest)| format!("{claimed} {rest}"));
    Example { first, second: claim, label: u8::from(right).to_string() }
}

/// The official header line, or none.
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

    /// The labels of a file, found as the trainer finds them: by the task's own table.
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
    fn test_files_hold_no_labels() {
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
    fn a_pronoun_means_the_one_of_its_kind() {
        let mut draw = Draw::new(3, 0);
        for _ in 0..200 {
            let Example { first, second, label } = reference(&mut draw);
            let claimed = second.split(' ').next().unwrap();
            let (_, pronoun) = NAMES.iter().find(|(name, _)| *name == claimed).unwrap();
            assert_eq!(first.contains(&format!(" {pronoun} ")), label == "1", "{first} {second} {label}");
        }
    }
}
