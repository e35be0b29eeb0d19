//! The figures: file names and SVG texts. Equal code draws equal bytes, so a test can compare them with the files.

mod block;
mod keep;
mod svg;
mod theta;
mod trials;

pub(crate) fn figures() -> [(&'static str, String); 4] {
    [
        ("block.svg", block::draw()),
        ("theta.svg", theta::draw()),
        ("keep.svg", keep::draw()),
        ("trials.svg", trials::draw()),
    ]
}
