//! Draws the figures of `docs/` into a folder: `make figures`.

mod draw;

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).unwrap_or_else(|| "docs/figures".into()).into();
    std::fs::create_dir_all(&folder)?;
    for (name, svg) in draw::figures() {
        std::fs::write(folder.join(name), svg)?;
    }
    Ok(())
}
