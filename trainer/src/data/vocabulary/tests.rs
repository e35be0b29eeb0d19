use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use recipe::seeds::{Purpose, generator};
use texts::TextError;

use super::*;
use crate::data::corpus::Corpus;

const SMALL: &str = "[PAD]\nthe\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\ndog\nsat\nun\n##aff\n##able\n,\n.\n\"\n[\n]\ncreme\n\
                     東\n京\nmask\n##s\nis\ncls\n";

/// A vocabulary for tests, with its special tokens at unusual places.
pub(in crate::data) fn small() -> Vocabulary {
    Vocabulary::of_text(Path::new("vocab.txt"), SMALL.as_bytes()).unwrap()
}

/// The folder of real data and BERT's vocabulary in it; None, with a message, if there is no such folder.
pub(in crate::data) fn real() -> Option<(PathBuf, Vocabulary)> {
    let Some(data) = std::env::var_os("LAMINA_DATA").map(PathBuf::from) else {
        eprintln!("skipped: LAMINA_DATA is not set");
        return None;
    };
    let vocabulary = Vocabulary::read(&data.join("vocab/bert-base-uncased-vocab.txt")).unwrap();
    Some((data, vocabulary))
}

fn tokens(text: &str) -> Vec<String> {
    let vocabulary = small();
    let names: Vec<&str> = SMALL.lines().collect();
    vocabulary.encoder().encode(text).unwrap().into_iter().map(|id| names[id as usize].to_owned()).collect()
}

#[test]
fn text_is_tokenised_as_by_uncased_bert() {
    assert_eq!(tokens("The cat, the DOG."), ["the", "cat", ",", "the", "dog", "."]);
    assert_eq!(tokens("unaffable cats"), ["un", "##aff", "##able", "cat", "##s"]);
    assert_eq!(tokens("Crème crème"), ["creme", "creme"]);
    assert_eq!(tokens("東京"), ["東", "京"]);
    assert_eq!(tokens("catz dog"), ["[UNK]", "dog"]);
    // Cleaning deletes control characters, which joins what is around them, and turns special spaces into ordinary
    // ones.
    assert_eq!(tokens("c\u{b}a\u{200b}t\u{0}\u{a0}sat\u{2028}sat"), ["cat", "sat", "sat"]);
    assert_eq!(tokens(&"a".repeat(101)), ["[UNK]"]);
    assert_eq!(tokens(" \n\t"), Vec::<String>::new());
}

#[test]
fn a_special_token_written_in_the_text_is_ordinary_text() {
    assert_eq!(tokens("[MASK] is [CLS]"), ["[", "mask", "]", "is", "[", "cls", "]"]);
}

#[test]
fn a_bad_vocabulary_is_refused_with_its_line() {
    let error = |text: &str| match Vocabulary::of_text(Path::new("v.txt"), text.as_bytes()) {
        Ok(_) => panic!("accepted {text:?}"),
        Err(error) => error.to_string(),
    };
    assert_eq!(error(""), "v.txt: the vocabulary has no [PAD], no [UNK], no [CLS], no [SEP], no [MASK]");
    assert_eq!(error("[PAD]\n[UNK]\n[CLS]\n[SEP]\nx\n"), "v.txt: the vocabulary has no [MASK]");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocab.txt");
    fs::write(&path, b"[PAD]\nx\n\xff\n").unwrap();
    assert!(matches!(Vocabulary::read(&path), Err(DataError::Text(TextError::NotUtf8 { line: 3, .. }))));
    fs::write(&path, SMALL.replace('\n', "\r\n")).unwrap();
    assert_eq!(Vocabulary::read(&path).unwrap().special, small().special);
}

/// As in the official vocabulary of Chinese BERT. `transformers` gives such a token the number of its line, and of two
/// equal tokens the number of the later line.
#[test]
fn a_token_may_be_white_space_or_be_there_twice() {
    let text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n\u{2028}\ncat\nthe\n\ndog\n";
    let vocabulary = Vocabulary::of_text(Path::new("v.txt"), text.as_bytes()).unwrap();
    assert_eq!(vocabulary.size(), 11);
    assert_eq!(vocabulary.encoder().encode("the\u{2028}cat dog").unwrap(), [8, 7, 10]);
    let mut draws = generator(1, Purpose::Mask, 0, 0);
    assert!((0..1000).all(|_| (5..11).contains(&vocabulary.random_ordinary(&mut draws))));
}

#[test]
fn random_tokens_are_uniform_over_those_that_are_not_special() {
    let vocabulary = small();
    let mut draws = generator(1, Purpose::Mask, 0, 0);
    let mut counts = vec![0u32; vocabulary.size() as usize];
    const EACH: u32 = 1000;
    for _ in 0..EACH * (vocabulary.size() - 5) {
        counts[vocabulary.random_ordinary(&mut draws) as usize] += 1;
    }
    for (id, count) in (0..).zip(counts) {
        match vocabulary.is_special(id) {
            true => assert_eq!(count, 0),
            // Six standard deviations.
            false => assert!(count.abs_diff(EACH) < 190, "{id}: {count}"),
        }
    }
    let bare = Vocabulary::of_text(Path::new("v"), SPECIAL_TOKENS.join("\n").as_bytes()).unwrap();
    assert_eq!(bare.random_ordinary(&mut draws), bare.mask());
}

/// Ids from `transformers` 5.23 (its Python tokenizer) with the vocabulary of bert-base-uncased.
#[test]
fn ids_equal_those_of_transformers() {
    let Some((_, vocabulary)) = real() else { return };
    let mut encoder = vocabulary.encoder();
    let cases: [(&str, &[u32]); 8] = [
        ("Hello, World!", &[7592, 1010, 2088, 999]),
        ("unaffable", &[14477, 20961, 3468]),
        ("Crème brûlée à la Ångström", &[13675, 21382, 7987, 9307, 2063, 1037, 2474, 17076, 15687]),
        (
            "東京 is 3,776m below Mt. Fuji?",
            &[1879, 1755, 2003, 1017, 1010, 6255, 2575, 2213, 2917, 11047, 1012, 20933, 1029],
        ),
        ("I can't   believe\tit's 50% off!", &[1045, 2064, 1005, 1056, 2903, 2009, 1005, 1055, 2753, 1003, 2125, 999]),
        ("ａｂｃ naïve ﬁancée", &[100, 15743, 1984, 6651, 2063]),
        (
            "tab\u{b}vertical\u{200b}zero\u{a0}nbsp\u{2028}line",
            &[21628, 16874, 7476, 6290, 2080, 1050, 5910, 2361, 2240],
        ),
        ("😀 emoji", &[100, 7861, 29147, 2072]),
    ];
    for (text, ids) in cases {
        assert_eq!(encoder.encode(text).unwrap(), ids, "{text}");
    }
}

/// Every id of a whole file, by digest, against Python's `tokenizers` 0.23.3 run paragraph by paragraph.
#[test]
fn a_whole_corpus_gets_the_ids_of_the_python_tokenizer() {
    let Some((data, vocabulary)) = real() else { return };
    let (mut encoder, mut digest) = (vocabulary.encoder(), Sha256::new());
    let (mut documents, mut count) = (0, 0);
    for document in Corpus::open(&data.join("corpus/wiki-valid.txt.xz")).unwrap().documents() {
        let ids = encoder.encode(&document.unwrap().text).unwrap();
        ids.iter().for_each(|id| digest.update(id.to_le_bytes()));
        (documents, count) = (documents + 1, count + ids.len());
    }
    assert_eq!((documents, count), (DOCUMENTS, IDS));
    assert_eq!(hex::encode(digest.finalize()), DIGEST);
}

const DOCUMENTS: usize = 122;
const IDS: usize = 476_098;
const DIGEST: &str = "b5b3254dbfaa5f95689b18c8fed931765ed01cd1d5309f5adbed99e1646ed8ee";

fn trained(text: &str, size: u32) -> Vocabulary {
    let mut counts = WordCounts::new();
    count_words(text, &mut counts).unwrap();
    train(Path::new("corpus"), counts, size).unwrap()
}

/// Words with many equally frequent pairs, so that the order in which ties are broken decides the result.
fn ambiguous_text() -> String {
    let syllables = ["ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "é", "東"];
    let word = |i: usize| [syllables[i % 12], syllables[i / 12 % 12], syllables[i / 144 % 12]].concat();
    (0..1728).map(|i| word(i) + " ").cycle().take(2 * 1728).collect()
}

#[test]
fn training_gives_the_same_file_every_time() {
    let text = ambiguous_text();
    let first = trained(&text, 400);
    // Each thread, and each map in it, hashes with its own keys.
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| trained(&text, 400))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap().text(), first.text());
        }
    });
    // The digest is pinned, since another process has to get the same vocabulary.
    assert_eq!((first.size(), first.digest()), (400, TRAINED));
}

const TRAINED: &str = "006f57a66aa345805b1c0df321c63366227b0f203dd9006ff322115120c647f1";

#[test]
fn a_trained_vocabulary_has_special_tokens_an_alphabet_and_all_words_of_its_text() {
    let text = ambiguous_text();
    let vocabulary = trained(&text, 400);
    assert!(vocabulary.text().starts_with("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\n"));
    let ids = vocabulary.encoder().encode(&text).unwrap();
    assert!(!ids.contains(&vocabulary.unknown()));
    let alone = trained(&text, 60);
    assert!(alone.encoder().encode(&text).unwrap().len() > ids.len(), "a larger vocabulary needs fewer pieces");
    // The text has too few patterns to fill the vocabulary.
    assert!(trained("cat cat", 1000).size() < 20);
}

#[test]
fn a_trained_vocabulary_stays_within_the_bounds_of_one_that_is_read() {
    let long = "abcdefgh".repeat(1000);
    let vocabulary = trained(&format!("{long} {long} {}", ambiguous_text()), 4000);
    assert!(vocabulary.text().lines().all(|token| token.len() <= 2 + 200 * 4));
}

#[test]
fn the_alphabet_leaves_room_for_words() {
    let rare: String = ('\u{4e00}'..'\u{5800}').map(|c| format!("{c} ")).collect();
    let vocabulary = trained(&format!("{} {rare}", ambiguous_text()), 400);
    assert_eq!(vocabulary.size(), 400);
    let single = vocabulary.text().lines().filter(|token| token.trim_start_matches("##").chars().count() == 1).count();
    assert!((20..=200).contains(&single), "{single} tokens of one character");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The encoder splits the text, caches words and treats ASCII separately; the library normalises the whole text at
    /// once.
    #[test]
    fn the_encoder_equals_the_library_on_any_text(
        pieces in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                "the", "Cat", " ", "\n", "\t", "\r", ",", "\u{b}", "\u{c}", "\u{85}", "\u{a0}", "\u{300}", "\u{345}", "東",
                "é", "e\u{301}", "İ", "ß", "Σ", "\u{200d}", "\u{0}", "[MASK]", "\u{3000}", "\u{fffd}", "\u{ad}", "一",
            ]).prop_map(str::to_owned),
            any::<char>().prop_map(String::from),
            (0u8..128).prop_map(|byte| char::from(byte).into()),
        ], 0..40),
    ) {
        let text = pieces.concat();
        let vocabulary = small();
        let mut expected = Vec::new();
        for word in unicode_words(&text).unwrap() {
            expected.extend(vocabulary.model.tokenize(&word).unwrap().iter().map(|token| token.id));
        }
        let mut encoder = vocabulary.encoder();
        prop_assert_eq!(&encoder.encode(&text).unwrap(), &expected);
        prop_assert_eq!(&encoder.encode(&text).unwrap(), &expected, "from the cache");
    }
}
