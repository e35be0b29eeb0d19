//! Scenes and the sentences that describe them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::words::{BAD, Forms, GOOD, TIMES, TOPICS, Topic};

/// Random draws that depend only on a seed and a purpose, so that one file does not change if another one grows.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(purpose);
        Self(generator)
    }

    /// A number from 0 to `end`, exclusive.
    pub(super) fn below(&mut self, end: usize) -> usize {
        // Lemire's method (arXiv:1805.10941) without rejection; at the sizes in use here, its bias is below 2^-32.
        ((u128::from(self.0.next_u64()) * end as u128) >> 64) as usize
    }

    /// A number from 0 to `end`, exclusive, other than `not`.
    pub(super) fn other(&mut self, not: usize, end: usize) -> usize {
        (not + 1 + self.below(end - 1)) % end
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A scene: a person of some character does a deed to a thing, at a place and a time. The numbers are indices into the
/// lists of [`super::words`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scene {
    pub(super) topic: usize,
    pub(super) person: usize,
    /// Number of the person: 0 is singular, 1 is plural.
    pub(super) people: usize,
    pub(super) good: bool,
    pub(super) character: usize,
    pub(super) deed: usize,
    pub(super) thing: usize,
    /// Number of the thing: 0 is singular, 1 is plural.
    pub(super) things: usize,
    pub(super) place: usize,
    pub(super) time: usize,
}

/// The choice among sentences of equal meaning: the index of the synonym, and the position of the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) synonym: usize,
    pub(super) time_first: bool,
}

impl Scene {
    pub(super) fn draw(draw: &mut Draw, topic: usize) -> Self {
        Self {
            topic,
            person: draw.below(6),
            people: draw.below(2),
            good: draw.one_in(2),
            character: draw.below(8),
            deed: draw.below(4),
            thing: draw.below(6),
            things: draw.below(2),
            place: draw.below(3),
            time: draw.below(6),
        }
    }

    pub(super) fn any(draw: &mut Draw) -> Self {
        let topic = draw.below(TOPICS.len());
        Self::draw(draw, topic)
    }

    pub(super) fn topic(&self) -> &'static Topic {
        &TOPICS[self.topic]
    }

    pub(super) fn person(&self) -> &'static str {
        self.topic().people[self.person][self.people]
    }

    pub(super) fn thing(&self) -> &'static str {
        self.topic().things[self.thing][self.things]
    }

    pub(super) fn character(&self, synonym: usize) -> &'static str {
        (if self.good { GOOD } else { BAD })[self.character][synonym]
    }

    pub(super) fn verb(&self, synonym: usize) -> Forms {
        self.topic().deeds[self.deed][synonym]
    }

    pub(super) fn place(&self) -> &'static str {
        self.topic().places[self.place]
    }

    pub(super) fn time(&self) -> &'static str {
        TIMES[self.time]
    }

    /// "is" or "are", by the number of the person.
    pub(super) fn be(&self) -> &'static str {
        ["is", "are"][self.people]
    }

    /// A sentence with every part of the scene: "The kind captain pulls the ropes on the deck at noon."
    pub(super) fn describe(&self, style: Style) -> String {
        let Style { synonym, time_first } = style;
        let (who, verb) =
            (format!("the {} {}", self.character(synonym), self.person()), self.verb(synonym)[self.people]);
        let (what, place, time) = (self.thing(), self.place(), self.time());
        sentence(&match time_first {
            true => format!("{time} {who} {verb} the {what} {place}"),
            false => format!("{who} {verb} the {what} {place} {time}"),
        })
    }

    /// A sentence about the scene, in one of the forms that occur in the corpus.
    pub(super) fn corpus_sentence(&self, draw: &mut Draw) -> String {
        let synonym = draw.below(2);
        let verb = self.verb(synonym)[self.people];
        let (person, thing, be) = (self.person(), self.thing(), self.be());
        let (character, place, time) = (self.character(synonym), self.place(), self.time());
        match draw.below(8) {
            0 => sentence(&format!("the {person} who {verb} the {thing} {be} {character}")),
            1 => sentence(&format!("the {person} {place} {be} very {character}")),
            2 => sentence(&self.with_distractor(draw, self.people)),
            3 => sentence(&format!("{time} the {person} and the {} stay {place}", self.topic().kind[1])),
            4 => sentence(&format!("the {thing} {place} {} to the {person}", ["belongs", "belong"][self.things])),
            5 => sentence(&format!(
                "why {} the {person} {verb_base} the {thing} {place}",
                ["does", "do"][self.people],
                verb_base = self.verb(synonym)[1]
            ))
            .replace('.', "?"),
            _ => self.describe(Style { synonym, time_first: draw.one_in(2) }),
        }
    }

    /// A clause about the deed, with a noun of the other number between subject and verb. `number` is the number of the
    /// verb: 0 is singular, 1 is plural. The clause is grammatical if the subject has the same number.
    pub(super) fn with_distractor(&self, draw: &mut Draw, number: usize) -> String {
        let distractor = draw.pick(&self.topic().things)[1 - self.people];
        let verb = self.verb(draw.below(2))[number];
        format!("the {} near the {distractor} {verb} the {} {}", self.person(), self.thing(), self.place())
    }
}

/// The words as a sentence, with a capital letter and a full stop.
pub(super) fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_and_verb_agree_unless_another_number_is_given() {
        let scene = Scene {
            topic: 0,
            person: 0,
            people: 0,
            good: true,
            character: 0,
            deed: 0,
            thing: 0,
            things: 1,
            place: 0,
            time: 1,
        };
        assert_eq!(scene.describe(Style::default()), "The kind captain pulls the ropes on the deck at noon.");
        let plural = Scene { people: 1, ..scene };
        let style = Style { synonym: 1, time_first: true };
        assert_eq!(plural.describe(style), "At noon the gentle captains draw the ropes on the deck.");
        let wrong = scene.with_distractor(&mut Draw::new(0, 0), 1);
        assert!(wrong.contains(" pull ") || wrong.contains(" draw "), "{wrong}");
    }

    #[test]
    fn draws_depend_only_on_seed_and_purpose_and_stay_in_range() {
        let series = |seed, purpose| {
            let mut draw = Draw::new(seed, purpose);
            (0..100).map(|_| draw.below(7)).collect::<Vec<_>>()
        };
        assert_eq!(series(1, 2), series(1, 2));
        assert_ne!(series(1, 2), series(1, 3));
        assert_ne!(series(1, 2), series(2, 2));
        assert!(series(1, 2).iter().all(|n| *n < 7));
        let mut draw = Draw::new(0, 0);
        assert!((0..100).all(|_| draw.other(3, 5) != 3));
    }
}
