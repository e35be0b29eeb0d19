//! The recipes that the README names are valid.

use recipe::TrialSpec;

#[test]
fn the_examples_are_valid_recipes() {
    for name in ["timing", "pretrain", "finetune", "images"] {
        let path = format!("{}/../../examples/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let spec: TrialSpec = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(spec.recipe.validate(), [], "{name}");
    }
}
