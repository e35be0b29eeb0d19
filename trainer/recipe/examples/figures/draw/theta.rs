//! Theta over a run, for each schedule.

use recipe::{Direction, LayerDrop, Model, Moment, Norm, Schedule, Size};

use super::svg::{Anchor, BLUE, Canvas, GRID, INK, ORANGE, Point, SOFT};

const LIMIT: f64 = 0.5;
const STEPS: u64 = 240;
const PLOT: Point = (196.0, 104.0);

pub(super) fn draw() -> String {
    let mut canvas = Canvas::new(760, 448);
    canvas.bold((24.0, 32.0), 16, INK, Anchor::Start, "θ over a run, with a limit of 0.5");
    canvas.text(
        (24.0, 52.0),
        12,
        SOFT,
        Anchor::Start,
        "θ = 1 − 0.5 f(u), with u the share of the budget that is used up. Savings: encoder FLOPs of 12 blocks.",
    );
    let key = |canvas: &mut Canvas, x: f64, colour: &str, dashes: &str, text: &str| {
        canvas.path(&[(x, 28.0), (x + 26.0, 28.0)], colour, 2.0, dashes);
        canvas.text((x + 32.0, 32.0), 12, INK, Anchor::Start, text);
    };
    key(&mut canvas, 528.0, BLUE, "", "increasing");
    key(&mut canvas, 640.0, ORANGE, "5 4", "decreasing");
    for (index, schedule) in Schedule::ALL.into_iter().enumerate() {
        let (column, row) = ((index % 3) as f64, (index / 3) as f64);
        panel(&mut canvas, (52.0 + 238.0 * column, 108.0 + 194.0 * row), schedule);
    }
    canvas.finish("Theta over a run for the six schedules, increasing and decreasing")
}

/// The value of a schedule with its default parameters at the share u.
const fn formula(schedule: Schedule) -> &'static str {
    match schedule {
        Schedule::Exponential => "1 − exp(−100 u)",
        Schedule::Linear => "u",
        Schedule::Polynomial => "u³",
        Schedule::Cosine => "(1 − cos πu) / 2",
        Schedule::Step => "4 levels",
        Schedule::Constant => "1",
    }
}

/// One schedule; `(left, top)` is the upper left corner of its axes.
fn panel(canvas: &mut Canvas, (left, top): Point, schedule: Schedule) {
    let increasing = LayerDrop { schedule, ..LayerDrop::progressive(LIMIT) };
    // The axis reaches from 0.4 to 1.
    let at = |share: f64, theta: f64| (left + PLOT.0 * share, top + PLOT.1 * (1.0 - theta) / 0.6);
    canvas.bold((left, top - 12.0), 13, INK, Anchor::Start, schedule.name());
    canvas.text((left + PLOT.0, top - 12.0), 12, SOFT, Anchor::End, formula(schedule));
    for theta in [1.0, 0.75, LIMIT] {
        let (x, y) = at(0.0, theta);
        canvas.line((x, y), at(1.0, theta), GRID, 1.0);
        canvas.text((x - 6.0, y + 4.0), 11, SOFT, Anchor::End, &theta.to_string());
    }
    for (share, anchor) in [(0.0, Anchor::Start), (1.0, Anchor::End)] {
        canvas.text((left + PLOT.0 * share, top + PLOT.1 + 14.0), 11, SOFT, anchor, &format!("u = {share}"));
    }
    let curve = |layer_drop: &LayerDrop| -> Vec<Point> {
        (0..STEPS)
            .map(|step| Moment::of_step(step, STEPS))
            .map(|moment| at(moment.share, layer_drop.theta(&moment, Some(STEPS))))
            .collect()
    };
    if schedule != Schedule::Constant {
        let decreasing = LayerDrop { direction: Direction::Decreasing, ..increasing };
        canvas.path(&curve(&decreasing), ORANGE, 2.0, "5 4");
    }
    canvas.path(&curve(&increasing), BLUE, 2.0, "");
    let base = Size::named("base").expect("a named size");
    let saving = increasing.encoder_saving(&Model::of_size(base, Norm::Pre), 128, Some(STEPS));
    let text = format!("saves {:.1} %", 100.0 * saving);
    canvas.text((left + PLOT.0 / 2.0, top + PLOT.1 + 14.0), 11, INK, Anchor::Middle, &text);
}
