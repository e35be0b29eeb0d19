use proptest::prelude::*;

use super::*;
use crate::gate::{Rows, open_blocks};
use crate::model::{Model, Norm, Size};

fn exponential(theta_limit: f64, gamma: Option<f64>, depth_index: DepthIndex) -> LayerDrop {
    LayerDrop { gamma, depth_index, ..LayerDrop::progressive(theta_limit) }
}

fn constant(theta_limit: f64) -> LayerDrop {
    LayerDrop { schedule: Schedule::Constant, ..LayerDrop::progressive(theta_limit) }
}

fn model(blocks: u32) -> Model {
    Model::of_size(Size { blocks, hidden: 8, heads: 2, intermediate: 24 }, Norm::Pre)
}

fn at(step: u64, total: u64) -> Moment {
    Moment::of_step(step, total)
}

/// The gates of a step of `total`, a batch of eight sequences.
fn gates(drop: &LayerDrop, model: &Model, step: u64, total: u64, seed: u64) -> Vec<Gate> {
    let theta = drop.theta(&at(step, total), Some(total));
    drop.gates(&model.sublayers(), theta, &DrawKey { seed, step, micro_batch: 0, batch: 8 })
}

const INDEXES: [DepthIndex; 3] = [DepthIndex::One, DepthIndex::Zero, DepthIndex::Ild];
const UNITS: [Unit; 4] = [Unit::Block, Unit::Attention, Unit::FeedForward, Unit::Independent];

fn any_schedule() -> impl Strategy<Value = Schedule> {
    prop::sample::select(Schedule::ALL.to_vec())
}

proptest! {
    #[test]
    fn theta_starts_at_one_falls_and_ends_at_its_limit(limit in 0.01f64..1.0, total in 10u64..1_000_000) {
        let drop = exponential(limit, None, DepthIndex::One);
        let theta = |step| drop.theta(&at(step, total), Some(total));
        prop_assert_eq!(theta(0), 1.0);
        prop_assert!((theta(total) - limit).abs() < 1e-9);
        prop_assert!(theta(total / 2) <= theta(total / 4));
    }

    #[test]
    fn a_decreasing_drop_takes_the_thetas_of_a_run_in_reverse_order(limit in 0.01f64..1.0, total in 1u64..2000, schedule in any_schedule()) {
        let forward = LayerDrop { schedule, ..LayerDrop::progressive(limit) };
        let backward = LayerDrop { direction: Direction::Decreasing, ..forward };
        for step in (0..total).step_by(7) {
            let mirrored = backward.theta(&at(total - 1 - step, total), Some(total));
            // A step on the edge of a stair may belong to either.
            let tolerance = if schedule == Schedule::Step { 1.0 } else { 1e-9 };
            prop_assert!((forward.theta(&at(step, total), Some(total)) - mirrored).abs() < tolerance);
        }
    }

    #[test]
    fn the_closed_form_saving_is_the_mean_over_steps_and_sublayers(
        limit in 0.05f64..1.0, total in 2u64..800, schedule in any_schedule(), index in 0usize..3, unit in 0usize..4, uniform: bool,
        blocks in 1u32..14,
    ) {
        let drop = LayerDrop {
            schedule,
            unit: UNITS[unit],
            depth: if uniform { Depth::Uniform } else { Depth::Linear },
            ..exponential(limit, None, INDEXES[index])
        };
        let model = model(blocks);
        let sublayers = model.sublayers();
        let (mut done, mut all) = (0.0, 0.0);
        for step in 0..total {
            let theta = drop.theta(&at(step, total), Some(total));
            for (place, &sublayer) in sublayers.iter().enumerate() {
                let flops = model.sublayer_flops(sublayer, 16);
                let gated = drop.unit.of(place, &sublayers).is_some();
                all += flops;
                done += flops * if gated { drop.keep(place as u32 / 2 + 1, blocks, theta) } else { 1.0 };
            }
        }
        let saving = drop.encoder_saving(&model, 16, Some(total));
        prop_assert!((saving - (1.0 - done / all)).abs() < 1e-6, "{saving} against {}", 1.0 - done / all);
        if let Some(solved) = drop.limit_that_saves(saving, &model, 16, Some(total)).filter(|_| saving > 1e-6) {
            prop_assert!((solved - limit).abs() < 1e-6);
        }
    }

    #[test]
    fn systematic_sampling_opens_the_mean_number_of_units_rounded_up_or_down(limit in 0.05f64..1.0, step in 0u64..1000, seed: u64) {
        let drop = LayerDrop { sampler: Sampler::Systematic, ..constant(limit) };
        let mean: f64 = (1..=12).map(|block| drop.keep(block, 12, limit)).sum();
        let open = open_blocks(&gates(&drop, &model(12), step, 1000, seed), 8);
        prop_assert!((open - mean).abs() < 1.0 + 1e-9, "{open} open, {mean} expected");
    }
}

#[test]
fn the_expected_depths_are_those_of_the_paper() {
    // Expected depth at theta = 0.5, L = 12: (3L-1)/4 for `one`, (3L+1)/4 for `zero`.
    let at =
        |depth_index| 12.0 * (1.0 - LayerDrop { depth_index, ..constant(0.5) }.encoder_saving(&model(12), 16, Some(9)));
    assert!((at(DepthIndex::One) - 35.0 / 4.0).abs() < 1e-12);
    assert!((at(DepthIndex::Zero) - 37.0 / 4.0).abs() < 1e-12);
    assert!((at(DepthIndex::Ild) - 9.0).abs() < 1e-12);
}

#[test]
fn theta_is_the_papers_equation() {
    // fixtures/reference.json: (limit, gamma, step, theta).
    let reference: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/reference.json")).unwrap();
    for row in reference["theta"].as_array().unwrap() {
        let [limit, gamma] = ["limit", "gamma"].map(|field| row[field].as_f64().unwrap());
        let drop = exponential(limit, Some(gamma), DepthIndex::One);
        for (step, theta) in row["step"].as_array().unwrap().iter().zip(row["theta"].as_array().unwrap()) {
            let found = drop.theta(&at(step.as_u64().unwrap(), 20_000), Some(20_000));
            assert!((found - theta.as_f64().unwrap()).abs() < 1e-12, "{row}");
        }
    }
}

/// Share of steps in which each sublayer is open, with the mean of gate times scale.
fn marginals(drop: &LayerDrop, model: &Model, n: u64) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); model.sublayers().len()];
    for step in 0..n {
        for (sum, gate) in sums.iter_mut().zip(gates(drop, model, step, n, 3)) {
            let share = gate.share(8);
            *sum = (sum.0 + share, sum.1 + share * gate.scale);
        }
    }
    sums.into_iter().map(|(open, scaled)| (open / n as f64, scaled / n as f64)).collect()
}

#[test]
fn every_sampler_unit_and_draw_opens_with_the_keep_probability_and_scales_to_a_mean_of_one() {
    let (n, model) = (20_000u64, model(12));
    for sampler in [Sampler::Independent, Sampler::Systematic] {
        for draw in [Draw::Batch, Draw::MicroBatch, Draw::Sequence] {
            for unit in UNITS {
                let drop = LayerDrop { sampler, draw, unit, ..constant(0.5) };
                let sublayers = model.sublayers();
                for (place, (open, scaled)) in marginals(&drop, &model, n).into_iter().enumerate() {
                    let block = place as u32 / 2 + 1;
                    let gated = unit.of(place, &sublayers).is_some();
                    let p = if gated { drop.keep(block, 12, 0.5) } else { 1.0 };
                    let error = (p * (1.0 - p) / n as f64).sqrt();
                    assert!(
                        (open - p).abs() <= 4.0 * error,
                        "{sampler:?} {draw:?} {unit:?} block {block}: {open}, {p}"
                    );
                    assert!((scaled - 1.0).abs() <= 4.0 * error / p, "{sampler:?} {draw:?} {unit:?} block {block}");
                }
            }
        }
    }
}

#[test]
fn the_top_sampler_closes_the_last_blocks_at_equal_flops_without_scale() {
    let drop = LayerDrop { sampler: Sampler::Top, ..constant(0.5) };
    let model = model(12);
    let mut sum = 0.0;
    for step in 0..1000 {
        let gates = gates(&drop, &model, step, 1000, step);
        let open = open_blocks(&gates, 8);
        assert!(open == 8.0 || open == 9.0);
        assert!(gates.iter().zip(0..).all(|(gate, place)| gate.is_open() == (place < 2 * open as usize)));
        assert!(gates.iter().all(|gate| gate.scale == 1.0));
        sum += open;
    }
    assert!((sum / 1000.0 - 8.75).abs() < 0.01, "{sum}");
}

#[test]
fn the_draw_and_its_scale_use_one_probability() {
    // The released code drew with p_i and scaled by 1/p_{i+1}.
    let drop = exponential(0.5, Some(0.01), DepthIndex::Zero);
    let model = model(12);
    for step in [0, 10, 1000] {
        for (place, gate) in (0u32..).zip(gates(&drop, &model, step, 2000, 0)) {
            let theta = drop.theta(&at(step, 2000), Some(2000));
            assert_eq!(gate.scale, 1.0 / drop.keep(place / 2 + 1, 12, theta));
        }
    }
    assert!((0..500).all(|t| gates(&drop, &model, t, 2000, 9)[0].is_open()), "`zero` never closes the first block");
}

#[test]
fn micro_batches_of_a_step_share_their_gates_unless_each_has_its_own_draw() {
    // The released code drew per forward call, so that one step mixed several sub-networks.
    let sublayers = model(12).sublayers();
    let of = |draw, micro_batch| {
        let drop = LayerDrop { draw, ..constant(0.5) };
        (0..20)
            .map(|step| drop.gates(&sublayers, 0.5, &DrawKey { seed: 1, step, micro_batch, batch: 8 }))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(Draw::Batch, 0), of(Draw::Batch, 3));
    assert_ne!(of(Draw::MicroBatch, 0), of(Draw::MicroBatch, 3));
    assert_ne!(of(Draw::Sequence, 0), of(Draw::Sequence, 3));
}

#[test]
fn a_unit_drawn_per_sequence_processes_the_sequences_that_opened_it() {
    let drop = LayerDrop { draw: Draw::Sequence, ..constant(0.5) };
    let last = |step| gates(&drop, &model(12), step, 100, 0).pop().unwrap();
    let some = (0..100).map(last).find_map(|gate| match gate.rows {
        Rows::Some(rows) => Some(rows),
        Rows::All | Rows::None => None,
    });
    let rows = some.unwrap();
    assert!(!rows.is_empty() && rows.len() < 8 && rows.is_sorted() && rows.iter().all(|&row| row < 8), "{rows:?}");
}

#[test]
fn a_unit_of_a_sandwich_is_two_successive_sublayers() {
    let model = Model { order: Some("sssfsfsfsfff".into()), ..model(6) };
    let drop = LayerDrop { scale: false, ..constant(0.3) };
    for step in 0..50 {
        let gates = gates(&drop, &model, step, 100, 0);
        assert_eq!(gates.len(), 12);
        assert!(gates.chunks(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn theta_falls_linearly_or_along_a_cosine_from_one_to_its_limit() {
    // 1 - (1 - 0.6) u, and 1 - (1 - 0.6) (1 - cos(pi u)) / 2, at u = 0, 1/6, 1/4, 1/3, 1/2, 2/3, 3/4 and 11/12.
    let steps = [0, 2, 3, 4, 6, 8, 9, 11];
    let root = f64::sqrt;
    let linear = [1.0, 14.0 / 15.0, 0.9, 13.0 / 15.0, 0.8, 11.0 / 15.0, 0.7, 19.0 / 30.0];
    let cosine =
        [1.0, root(3.0) / 2.0, root(2.0) / 2.0, 0.5, 0.0, -0.5, -root(2.0) / 2.0, -(root(6.0) + root(2.0)) / 4.0];
    let cosine = cosine.map(|cosine| 0.8 + 0.2 * cosine);
    for (schedule, expected) in [(Schedule::Linear, linear), (Schedule::Cosine, cosine)] {
        let drop = LayerDrop { schedule, ..LayerDrop::progressive(0.6) };
        for (step, expected) in steps.into_iter().zip(expected) {
            let found = drop.theta(&at(step, 12), Some(12));
            assert!((found - expected).abs() < 1e-12, "{schedule:?}, step {step}: {found}, expected {expected}");
        }
    }
}

#[test]
fn the_keep_probability_is_theta_at_uniform_depth_and_falls_at_linear_depth() {
    let keep = |depth, theta| {
        let drop = LayerDrop { depth, ..LayerDrop::progressive(0.5) };
        [1, 2, 3, 4].map(|block| drop.keep(block, 4, theta))
    };
    for theta in [1.0, 0.8, 0.5] {
        assert_eq!(keep(Depth::Uniform, theta), [1.0 - (1.0 - theta); 4]);
    }
    assert_eq!(keep(Depth::Linear, 0.5), [0.875, 0.75, 0.625, 0.5]);
}

#[test]
fn the_scale_is_one_over_p_and_one_if_scaling_is_off() {
    for sampler in [Sampler::Independent, Sampler::Systematic] {
        let drop = |scale| LayerDrop { scale, sampler, ..constant(0.5) };
        let mut open = 0;
        for step in 0..50 {
            let [scaled, plain] = [true, false].map(|scale| gates(&drop(scale), &model(4), step, 50, 3));
            for (place, (scaled, plain)) in scaled.into_iter().zip(plain).enumerate() {
                assert_eq!(scaled.rows, plain.rows, "the same draws");
                assert_eq!(plain.scale, 1.0);
                assert_eq!(scaled.scale, 1.0 / [0.875, 0.75, 0.625, 0.5][place / 2]);
                open += u32::from(plain.is_open());
            }
        }
        assert!(open > 0 && open < 400);
    }
}

#[test]
fn settings_without_effect_or_out_of_range_are_refused_at_their_place() {
    let refused = |drop: LayerDrop, steps: Option<u64>| {
        let mut problems = Problems::default();
        drop.check(steps, &mut problems);
        problems.into_vec().into_iter().map(|problem| problem.pointer).collect::<Vec<_>>()
    };
    let drop = LayerDrop::progressive(0.5);
    assert!(refused(drop, Some(10)).is_empty());
    assert_eq!(refused(LayerDrop { gamma: Some(0.1), ..drop }, None), ["/gamma"]);
    assert_eq!(refused(LayerDrop { gamma: Some(0.1), schedule: Schedule::Linear, ..drop }, Some(10)), ["/gamma"]);
    assert_eq!(refused(LayerDrop { power: Some(2.0), ..drop }, Some(10)), ["/power"]);
    assert_eq!(refused(LayerDrop { levels: Some(2), ..drop }, Some(10)), ["/levels"]);
    assert_eq!(refused(LayerDrop { schedule: Schedule::Step, levels: Some(1), ..drop }, Some(10)), ["/levels"]);
    let indexed = LayerDrop { depth: Depth::Uniform, depth_index: DepthIndex::Ild, ..drop };
    assert_eq!(refused(indexed, Some(10)), ["/depth_index"]);
    let still = LayerDrop { schedule: Schedule::Constant, direction: Direction::Decreasing, ..drop };
    assert_eq!(refused(still, Some(10)), ["/direction"]);
    let top = LayerDrop { sampler: Sampler::Top, unit: Unit::Independent, draw: Draw::Sequence, ..drop };
    assert_eq!(refused(top, Some(10)), ["/unit", "/draw"]);
}
