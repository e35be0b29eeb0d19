//! Keep probability over depth, and over the run.

use recipe::{Depth, DepthIndex, LayerDrop, Moment, Schedule};

use super::svg::{Anchor, BLUE, Canvas, GREEN, GRID, INK, ORANGE, Point, SOFT};

const BLOCKS: u32 = 12;
const LIMIT: f64 = 0.5;

pub(super) fn draw() -> String {
    let mut canvas = Canvas::new(760, 340);
    profiles(&mut canvas);
    run(&mut canvas);
    canvas.finish("Keep probability of 12 blocks: over depth at theta 0.5, and over a run with a linear schedule")
}

fn profiles(canvas: &mut Canvas) {
    let (left, top, width, height) = (56.0, 74.0, 250.0, 206.0);
    // From 0.4 to 1; a block has a column, and the lines are labelled at their right.
    let at = |block: f64, keep: f64| {
        (left + width * (block - 1.0) / f64::from(BLOCKS - 1), top + height * (1.0 - keep) / 0.6)
    };
    canvas.bold((24.0, 32.0), 16, INK, Anchor::Start, "Over depth, at θ = 0.5");
    canvas.text((24.0, 52.0), 12, SOFT, Anchor::Start, "keep probability p of block l, 12 blocks");
    for keep in [1.0, 0.9, 0.8, 0.7, 0.6, 0.5] {
        canvas.line(at(1.0, keep), at(12.0, keep), GRID, 1.0);
        canvas.text((left - 8.0, at(1.0, keep).1 + 4.0), 11, SOFT, Anchor::End, &format!("{keep:.1}"));
    }
    for block in [1, 4, 8, 12] {
        canvas.text((at(block.into(), 1.0).0, top + height + 2.0), 11, SOFT, Anchor::Middle, &format!("l = {block}"));
    }
    let linear = |depth_index| LayerDrop { depth_index, ..LayerDrop::progressive(LIMIT) };
    let uniform = LayerDrop { depth: Depth::Uniform, ..LayerDrop::progressive(LIMIT) };
    let lines = [
        (linear(DepthIndex::Zero), ORANGE, "zero", -9.0),
        (linear(DepthIndex::Ild), GREEN, "ild", -5.0),
        (linear(DepthIndex::One), BLUE, "one", 8.0),
        (uniform, SOFT, "uniform", 22.0),
    ];
    for (layer_drop, colour, name, below) in lines {
        let points: Vec<Point> =
            (1..=BLOCKS).map(|block| at(block.into(), layer_drop.keep(block, BLOCKS, LIMIT))).collect();
        canvas.path(&points, colour, 1.5, "");
        for point in &points {
            canvas.circle(*point, 2.5, "white", colour);
        }
        let (x, y) = points[points.len() - 1];
        canvas.bold((x + 12.0, y + 4.0 + below), 12, colour, Anchor::Start, name);
    }
}

fn run(canvas: &mut Canvas) {
    const COLUMNS: u64 = 56;
    let (left, top, width, height) = (436.0, 74.0, 280.0, 192.0);
    canvas.bold((408.0, 32.0), 16, INK, Anchor::Start, "Over a run with the linear schedule");
    canvas.text((408.0, 52.0), 12, SOFT, Anchor::Start, "keep probability p of block l, depth index one, θ limit 0.5");
    let layer_drop = LayerDrop { schedule: Schedule::Linear, ..LayerDrop::progressive(LIMIT) };
    let size = (width / COLUMNS as f64, height / f64::from(BLOCKS));
    for column in 0..COLUMNS {
        let theta = layer_drop.theta(&Moment::of_step(column, COLUMNS), Some(COLUMNS));
        for block in 1..=BLOCKS {
            let at = (left + size.0 * column as f64, top + height - size.1 * f64::from(block));
            canvas.cell(at, size, &shade(layer_drop.keep(block, BLOCKS, theta)));
        }
    }
    for block in [1, 6, 12] {
        let y = top + height - size.1 * (f64::from(block) - 0.5) + 4.0;
        canvas.text((left - 6.0, y), 11, SOFT, Anchor::End, &block.to_string());
    }
    canvas.text((left, 284.0), 11, SOFT, Anchor::Start, "u = 0");
    canvas.text((left + width, 284.0), 11, SOFT, Anchor::End, "u = 1");
    let steps = 40;
    for step in 0..steps {
        let keep = 1.0 - LIMIT * f64::from(step) / f64::from(steps - 1);
        canvas.cell((left + 60.0 + 4.0 * f64::from(step), 300.0), (4.0, 12.0), &shade(keep));
    }
    canvas.text((left + 54.0, 310.0), 11, SOFT, Anchor::End, "p = 1");
    canvas.text((left + 60.0 + 160.0 + 6.0, 310.0), 11, SOFT, Anchor::Start, "0.5");
}

/// From nearly white at p = 1 to blue at p = 0.5.
fn shade(keep: f64) -> String {
    let (light, dark) = ([233.0, 240.0, 248.0], [29.0, 95.0, 166.0]);
    let along = (1.0 - keep) / (1.0 - LIMIT);
    let [r, g, b] = [0, 1, 2].map(|i| (light[i] + (dark[i] - light[i]) * along).round() as u8);
    format!("#{r:02x}{g:02x}{b:02x}")
}
