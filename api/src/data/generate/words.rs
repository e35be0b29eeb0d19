//! The words of the generated language: topics, each with its own people, things, deeds and places.

/// Singular and plural (of a noun), or the forms that go with a singular and a plural subject (of a verb).
pub(super) type Forms = [&'static str; 2];

pub(super) struct Topic {
    /// A general word for all people of the topic.
    pub(super) kind: Forms,
    pub(super) people: [Forms; 6],
    pub(super) things: [Forms; 6],
    /// Pairs of verbs with the same meaning.
    pub(super) deeds: [[Forms; 2]; 4],
    pub(super) places: [&'static str; 3],
}

#[rustfmt::skip]
pub(super) const TOPICS: [Topic; 8] = [
    // Sea.
    Topic { kind: ["seafarer", "seafarers"],
        people: [["captain", "captains"], ["sailor", "sailors"], ["pilot", "pilots"], ["fisherman", "fishermen"], ["diver", "divers"], ["mate", "mates"]],
        things: [["rope", "ropes"], ["anchor", "anchors"], ["net", "nets"], ["sail", "sails"], ["oar", "oars"], ["barrel", "barrels"]],
        deeds: [[["pulls", "pull"], ["draws", "draw"]], [["mends", "mend"], ["repairs", "repair"]], [["lifts", "lift"], ["raises", "raise"]], [["stows", "stow"], ["stores", "store"]]],
        places: ["on the deck", "in the harbour", "near the lighthouse"] },
    // Farm.
    Topic { kind: ["villager", "villagers"],
        people: [["farmer", "farmers"], ["shepherd", "shepherds"], ["miller", "millers"], ["gardener", "gardeners"], ["milkmaid", "milkmaids"], ["beekeeper", "beekeepers"]],
        things: [["plough", "ploughs"], ["fence", "fences"], ["cow", "cows"], ["apple", "apples"], ["sack", "sacks"], ["cart", "carts"]],
        deeds: [[["watches", "watch"], ["guards", "guard"]], [["gathers", "gather"], ["collects", "collect"]], [["buys", "buy"], ["purchases", "purchase"]], [["pushes", "push"], ["shoves", "shove"]]],
        places: ["in the field", "behind the barn", "beside the mill"] },
    // Kitchen.
    Topic { kind: ["servant", "servants"],
        people: [["cook", "cooks"], ["baker", "bakers"], ["waiter", "waiters"], ["butler", "butlers"], ["maid", "maids"], ["brewer", "brewers"]],
        things: [["loaf", "loaves"], ["kettle", "kettles"], ["plate", "plates"], ["knife", "knives"], ["pie", "pies"], ["spoon", "spoons"]],
        deeds: [[["cleans", "clean"], ["washes", "wash"]], [["cuts", "cut"], ["slices", "slice"]], [["brings", "bring"], ["fetches", "fetch"]], [["warms", "warm"], ["heats", "heat"]]],
        places: ["in the cellar", "by the oven", "at the table"] },
    // Court.
    Topic { kind: ["official", "officials"],
        people: [["judge", "judges"], ["lawyer", "lawyers"], ["clerk", "clerks"], ["witness", "witnesses"], ["sheriff", "sheriffs"], ["notary", "notaries"]],
        things: [["letter", "letters"], ["contract", "contracts"], ["seal", "seals"], ["verdict", "verdicts"], ["ledger", "ledgers"], ["law", "laws"]],
        deeds: [[["reads", "read"], ["studies", "study"]], [["signs", "sign"], ["confirms", "confirm"]], [["questions", "question"], ["doubts", "doubt"]], [["copies", "copy"], ["transcribes", "transcribe"]]],
        places: ["in the courtroom", "at the archive", "before the council"] },
    // Forest.
    Topic { kind: ["ranger", "rangers"],
        people: [["hunter", "hunters"], ["woodcutter", "woodcutters"], ["guide", "guides"], ["trapper", "trappers"], ["forester", "foresters"], ["scout", "scouts"]],
        things: [["tree", "trees"], ["axe", "axes"], ["deer trail", "deer trails"], ["tent", "tents"], ["log", "logs"], ["lantern", "lanterns"]],
        deeds: [[["finds", "find"], ["discovers", "discover"]], [["hides", "hide"], ["conceals", "conceal"]], [["carries", "carry"], ["bears", "bear"]], [["marks", "mark"], ["labels", "label"]]],
        places: ["under the pines", "across the valley", "beyond the ridge"] },
    // School.
    Topic { kind: ["scholar", "scholars"],
        people: [["teacher", "teachers"], ["pupil", "pupils"], ["librarian", "librarians"], ["tutor", "tutors"], ["professor", "professors"], ["student", "students"]],
        things: [["book", "books"], ["map", "maps"], ["lesson", "lessons"], ["poem", "poems"], ["slate", "slates"], ["riddle", "riddles"]],
        deeds: [[["explains", "explain"], ["clarifies", "clarify"]], [["writes", "write"], ["composes", "compose"]], [["learns", "learn"], ["masters", "master"]], [["shows", "show"], ["presents", "present"]]],
        places: ["in the classroom", "at the library", "outside the hall"] },
    // Music.
    Topic { kind: ["musician", "musicians"],
        people: [["singer", "singers"], ["fiddler", "fiddlers"], ["drummer", "drummers"], ["pianist", "pianists"], ["dancer", "dancers"], ["composer", "composers"]],
        things: [["song", "songs"], ["melody", "melodies"], ["violin", "violins"], ["drum", "drums"], ["costume", "costumes"], ["score", "scores"]],
        deeds: [[["practises", "practise"], ["rehearses", "rehearse"]], [["praises", "praise"], ["admires", "admire"]], [["tunes", "tune"], ["adjusts", "adjust"]], [["chooses", "choose"], ["selects", "select"]]],
        places: ["on the stage", "in the theatre", "behind the curtain"] },
    // Town.
    Topic { kind: ["merchant", "merchants"],
        people: [["grocer", "grocers"], ["tailor", "tailors"], ["banker", "bankers"], ["jeweller", "jewellers"], ["potter", "potters"], ["printer", "printers"]],
        things: [["coin", "coins"], ["coat", "coats"], ["ring", "rings"], ["vase", "vases"], ["poster", "posters"], ["basket", "baskets"]],
        deeds: [[["sells", "sell"], ["trades", "trade"]], [["counts", "count"], ["tallies", "tally"]], [["makes", "make"], ["produces", "produce"]], [["wraps", "wrap"], ["packs", "pack"]]],
        places: ["in the market", "along the street", "under the arcade"] },
];

/// Pairs of adjectives with the same meaning. All of them praise.
pub(super) const GOOD: [[&str; 2]; 8] = [
    ["kind", "gentle"],
    ["clever", "smart"],
    ["brave", "courageous"],
    ["cheerful", "merry"],
    ["honest", "truthful"],
    ["splendid", "superb"],
    ["skilful", "able"],
    ["charming", "delightful"],
];

/// Pairs of adjectives with the same meaning. All of them blame, and each pair is the opposite of the pair in [`GOOD`]
/// with the same index.
pub(super) const BAD: [[&str; 2]; 8] = [
    ["cruel", "harsh"],
    ["foolish", "stupid"],
    ["cowardly", "fearful"],
    ["gloomy", "sad"],
    ["lying", "false"],
    ["awful", "terrible"],
    ["clumsy", "awkward"],
    ["boring", "tedious"],
];

pub(super) const TIMES: [&str; 6] =
    ["in the morning", "at noon", "in the evening", "at night", "every day", "on sundays"];

/// Names, each with its pronoun.
pub(super) const NAMES: [(&str, &str); 16] = [
    ("Anna", "she"),
    ("Clara", "she"),
    ("Emma", "she"),
    ("Helen", "she"),
    ("Julia", "she"),
    ("Mary", "she"),
    ("Rose", "she"),
    ("Sarah", "she"),
    ("Albert", "he"),
    ("David", "he"),
    ("Edward", "he"),
    ("George", "he"),
    ("Henry", "he"),
    ("John", "he"),
    ("Peter", "he"),
    ("Thomas", "he"),
];
