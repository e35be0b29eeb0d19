//! Makes cargo build the crate again when the embedded dashboard changes, appears or disappears.

use std::path::Path;

fn main() {
    let dist = Path::new("dashboard/dist");
    // Cargo treats a missing path as always changed, so the parent, which changes when the folder appears, is watched.
    let watched = if dist.exists() { "dashboard/dist" } else { "dashboard" };
    println!("cargo::rerun-if-changed={watched}");
}
