//! The recipes among the examples are valid, and their fingerprints never change.

use recipe::TrialSpec;

/// Stored results name these fingerprints: a recipe that means the same has to keep its fingerprint.
const FINGERPRINTS: [(&str, &str); 4] = [
    ("timing", "7937a5a882ee8fb0033ac3b4a687544cb4659b774b19b208723fa48664020f3f"),
    ("pretrain", "c83aa81f8f8de075f6ad506f72ab03c2d7d09ec20dcf84880d12cd387323f3c5"),
    ("finetune", "0a867afddf4b4951b08d463ecd8b2dc6e0ee1d83c390e2fb80249cdf799df3a7"),
    ("images", "2645a0b3feddb6e7ef0a98c9dc450ca37cfa2ff3e4522b58339eca0c0eefd7e5"),
];

#[test]
fn the_example_recipes_are_valid_and_keep_their_fingerprints() {
    for (name, fingerprint) in FINGERPRINTS {
        let path = format!("{}/../../examples/recipes/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let spec: TrialSpec = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(spec.validate(), [], "{name}");
        assert_eq!(spec.recipe.fingerprint().as_str(), fingerprint, "{name}");
    }
}
