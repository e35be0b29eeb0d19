//! How a job becomes trials: the numbers are those of `examples/jobs/main.json`.

use super::svg::{Anchor, BLUE, Canvas, GREEN, GRID, INK, ORANGE, PALE, SOFT};

pub(super) fn draw() -> String {
    let mut canvas = Canvas::new(760, 420);
    canvas.bold((24.0, 32.0), 16, INK, Anchor::Start, "A job becomes trials");
    canvas.text(
        (24.0, 52.0),
        12,
        SOFT,
        Anchor::Start,
        "examples/jobs/main.json: 3 arms, 1 pre-train seed, 3 tasks, 5 seeds, 1 learning rate",
    );
    canvas.titled((24.0, 186.0), (112.0, 84.0), PALE, BLUE, "Job", "3 arms, a baseline");

    let (stage, fine) = (196.0, 424.0);
    canvas.titled((stage, 82.0), (140.0, 46.0), "white", INK, "timing", "1 trial, all arms in turns");
    canvas.arrow(&[(136.0, 228.0), (166.0, 228.0), (166.0, 105.0), (stage, 105.0)], INK, "");
    let arms = ["post-ln", "pre-ln", "pld"];
    for (index, arm) in arms.into_iter().enumerate() {
        let y = 158.0 + 72.0 * index as f64;
        canvas.titled((stage, y), (140.0, 46.0), "white", INK, "pre-train", arm);
        canvas.arrow(&[(136.0, 228.0), (166.0, 228.0), (166.0, y + 23.0), (stage, y + 23.0)], INK, "");
        canvas.arrow(&[(336.0, y + 23.0), (fine, y + 23.0)], GREEN, "");
        for back in [8.0, 4.0, 0.0] {
            canvas.rectangle((fine + back, y - back), (150.0, 46.0), "white", SOFT);
        }
        canvas.titled((fine, y), (150.0, 46.0), "white", INK, "15 × fine-tune", "3 tasks × 5 seeds");
        canvas.arrow(&[(fine + 158.0, y + 23.0), (606.0, y + 23.0), (606.0, 228.0), (628.0, 228.0)], INK, "");
    }
    canvas.text((380.0, 174.0), 11, GREEN, Anchor::Middle, "checkpoint");
    canvas.path(&[(336.0, 105.0), (606.0, 105.0), (606.0, 228.0)], INK, 1.5, "");
    canvas.titled((628.0, 186.0), (112.0, 84.0), PALE, BLUE, "Report", "speed, loss, spread");
    canvas.arrow(&[(266.0, 128.0), (266.0, 158.0)], ORANGE, "4 3");
    canvas.text((274.0, 147.0), 11, ORANGE, Anchor::Start, "reference_seconds");
    canvas.line((24.0, 366.0), (736.0, 366.0), GRID, 1.0);
    canvas.text(
        (24.0, 386.0),
        12,
        SOFT,
        Anchor::Start,
        "1 + 3 + 45 trials. Pre-training waits for timing only where the budget is in reference seconds.",
    );
    canvas.text((24.0, 404.0), 12, SOFT, Anchor::Start, "A job with a probe has one more trial per checkpoint.");
    canvas.finish("A job becomes one timing trial, a pre-train trial per arm and seed, and fine-tune trials that wait for their checkpoint")
}
