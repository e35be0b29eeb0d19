//! The switchable block: two halves, one gate.

use super::svg::{Anchor, BLUE, Canvas, GRID, INK, PALE, SOFT};

pub(super) fn draw() -> String {
    let mut canvas = Canvas::new(760, 372);
    canvas.bold((24.0, 32.0), 16, INK, Anchor::Start, "The switchable block, Pre-LN");
    canvas.text((24.0, 52.0), 12, SOFT, Anchor::Start, "h = x + G · attention(LN x) / p");
    canvas.text((264.0, 52.0), 12, SOFT, Anchor::Start, "x′ = h + G · feed-forward(LN h) / p");
    let y = 140.0;
    canvas.bold((24.0, y + 5.0), 15, INK, Anchor::Start, "x");
    half(&mut canvas, 40.0, y, "Attention");
    canvas.line((370.0, y), (384.0, y), INK, 1.5);
    canvas.bold((376.0, y - 8.0), 15, INK, Anchor::Middle, "h");
    half(&mut canvas, 384.0, y, "Feed-forward");
    canvas.arrow(&[(714.0, y), (728.0, y)], INK, "");
    canvas.bold((734.0, y + 5.0), 15, INK, Anchor::Start, "x′");
    // The gate reaches both halves.
    canvas.titled((262.0, 212.0), (236.0, 46.0), PALE, BLUE, "G ~ Bernoulli(p)", "one draw per block and step");
    for x in [314.0, 658.0] {
        let bottom = y + 12.0;
        let start = if x < 380.0 { (x, 212.0) } else { (498.0, 235.0) };
        if x < 380.0 {
            canvas.arrow(&[start, (x, bottom)], BLUE, "");
        } else {
            canvas.arrow(&[start, (x, 235.0), (x, bottom)], BLUE, "");
        }
    }
    let cases = [
        ("Open, in training", "both halves run, scaled by 1/p", "the scale keeps the mean"),
        ("Closed, in training", "x′ = x", "no forward, backward or gradient"),
        ("Validation, fine-tuning", "every block is open", "no scale"),
    ];
    for (index, (title, first, second)) in cases.into_iter().enumerate() {
        let x = 24.0 + 242.0 * index as f64;
        canvas.rectangle((x, 284.0), (228.0, 70.0), "white", GRID);
        canvas.bold((x + 14.0, 305.0), 13, INK, Anchor::Start, title);
        canvas.text((x + 14.0, 324.0), 12, INK, Anchor::Start, first);
        canvas.text((x + 14.0, 342.0), 12, SOFT, Anchor::Start, second);
    }
    canvas.finish("The switchable block: attention and feed-forward halves share one gate, which closes both or scales both by 1/p")
}

/// From `left` to the sum 320 to its right: residual line above, branch below.
fn half(canvas: &mut Canvas, left: f64, y: f64, body: &str) {
    let sum = left + 320.0;
    canvas.arrow(&[(left, y), (left + 34.0, y)], INK, "");
    canvas.titled((left + 34.0, y - 17.0), (40.0, 34.0), "white", INK, "LN", "");
    canvas.arrow(&[(left + 74.0, y), (left + 92.0, y)], INK, "");
    canvas.titled((left + 92.0, y - 17.0), (96.0, 34.0), "white", INK, body, "");
    canvas.arrow(&[(left + 188.0, y), (left + 202.0, y)], INK, "");
    canvas.titled((left + 202.0, y - 17.0), (48.0, 34.0), "white", INK, "drop", "");
    canvas.arrow(&[(left + 250.0, y), (left + 262.0, y)], INK, "");
    canvas.circle((left + 274.0, y), 12.0, PALE, BLUE);
    canvas.bold((left + 274.0, y + 4.5), 13, BLUE, Anchor::Middle, "×");
    canvas.text((left + 274.0, y - 18.0), 11, BLUE, Anchor::Middle, "G/p");
    canvas.arrow(&[(left + 286.0, y), (sum - 10.0, y)], INK, "");
    canvas.arrow(&[(left + 14.0, y), (left + 14.0, y - 52.0), (sum, y - 52.0), (sum, y - 10.0)], INK, "");
    canvas.circle((sum, y), 10.0, "white", INK);
    canvas.bold((sum, y + 4.5), 14, INK, Anchor::Middle, "+");
}
