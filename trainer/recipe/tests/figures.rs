//! The figures in `docs/figures` are what `make figures` draws.

#[path = "../examples/figures/draw/mod.rs"]
mod draw;

#[test]
fn the_figures_of_the_docs_are_current() {
    for (name, svg) in draw::figures() {
        let path = format!("{}/../../docs/figures/{name}", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == svg, "docs/figures/{name} is out of date: run `make figures` and commit what it draws");
    }
}
