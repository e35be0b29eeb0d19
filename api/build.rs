//! Rebuilds when the dashboard that is embedded changes, appears or goes.

use std::path::Path;

fn main() {
    let dist = Path::new("dashboard/dist");
    // Cargo takes a missing path as always changed; its parent changes exactly when it appears.
    let watched = if dist.exists() { "dashboard/dist" } else { "dashboard" };
    println!("cargo::rerun-if-changed={watched}");
}
