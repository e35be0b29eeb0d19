//! The migrations are compiled in; cargo does not know that a new one is a change.

fn main() {
    println!("cargo::rerun-if-changed=../migrations");
}
