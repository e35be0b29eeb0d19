//! Five mistakes in the code that was released with progressive layer dropping, with a test for each that it is not
//! made here.

#[expect(dead_code, reason = "other tests use the rest")]
mod program;

use program::{Bench, Exited, finetune, finish, learned, pretrain, spec};
use recipe::{Gate, Model, Moment, Norm, Optimizer as Rule, Pretrain, Seeds, Size};
use serde_json::{Value, json};
use tch::{Device, Kind};
use trainer::bert::{TextHead, Weights};
use trainer::optimizer::Optimizer;
use trainer::recompute::Tape;

const STEPS: u64 = 4000;

/// The released code draws a gate with the keep probability of one block and scales it with that of the next.
#[test]
fn mistake_1_a_branch_is_scaled_by_the_probability_that_its_gate_was_drawn_with() {
    let recipe = layer_dropped(json!({"schedule": "constant", "theta_limit": 0.5}), 1);
    for sublayer in 0..6 {
        let keep = 1.0 - (sublayer / 2 + 1) as f64 / 3.0 * 0.5;
        let mut sum = 0.0;
        for step in 0..STEPS {
            let gate = &recipe.gates(&Moment::of_step(step, STEPS), 0, 7)[sublayer];
            assert!((gate.scale - 1.0 / keep).abs() < 1e-12, "{gate:?}");
            sum += f64::from(u8::from(gate.is_open())) * gate.scale;
        }
        // The variance of a scaled gate is 1/p - 1.
        let error = ((1.0 / keep - 1.0) / STEPS as f64).sqrt();
        assert!((sum / STEPS as f64 - 1.0).abs() < 4.0 * error, "sublayer {sublayer}: mean {}", sum / STEPS as f64);
    }
}

/// The released code draws gates in each forward pass, so that the micro-batches of a step train different
/// sub-networks.
#[test]
fn mistake_2_all_micro_batches_of_a_step_train_the_same_sub_network() {
    let recipe = layer_dropped(json!({"theta_limit": 0.5}), 5);
    let gates = |step: u64, part: u32| recipe.gates(&Moment::of_step(step, STEPS), part, 7);
    let mut closed = 0;
    for step in 0..STEPS {
        let first = gates(step, 0);
        closed += first.iter().filter(|gate| !gate.is_open()).count();
        for part in 1..5 {
            assert_eq!(gates(step, part), first, "step {step}, part {part}");
        }
    }
    assert!(closed > 0);
}

/// With activation checkpointing or the fused kernel, the released code silently drops no blocks.
#[test]
fn mistake_3_recomputation_and_fused_kernels_leave_layer_drop_on() {
    let bench = Bench::new();
    for (name, drop) in
        [("batch", json!({"theta_limit": 0.3})), ("rows", json!({"draw": "sequence", "unit": "independent"}))]
    {
        let run = |recompute: bool| {
            let mut recipe = pretrain(40);
            recipe["layer_drop"] = drop.clone();
            recipe["recompute"] = json!(recompute);
            let out = format!("{name}-{recompute}");
            let run = finish(&mut bench.command(&out, &out, &spec(recipe))).succeeded();
            (values(&run, "open_blocks"), values(&run, "train_loss"), learned(&bench.checkpoint(&out)))
        };
        let (kept, recomputed) = (run(false), run(true));
        let mean = kept.0.iter().map(|&bits| f64::from_bits(bits)).sum::<f64>() / kept.0.len() as f64;
        assert!(mean < 2.7, "{name}: {mean} of 3 blocks are open");
        assert_eq!(kept.0, recomputed.0, "{name}");
        assert_eq!(kept.1, recomputed.1, "{name}");
        assert!(kept.2 == recomputed.2, "{name}: the same weights and moments, bit for bit");
    }
}

/// The GLUE script of the released code replaces the seed by a random number.
#[test]
fn mistake_4_a_fine_tune_is_a_function_of_its_seeds() {
    let bench = Bench::new();
    finish(&mut bench.command("pretrain", "pretrain", &spec(pretrain(5)))).succeeded();
    let run = |out: &str, seed: u64| {
        let mut spec = spec(finetune(pretrain(5), 1));
        spec["recipe"]["from_seeds"] = spec["seeds"].clone();
        for name in ["data", "dropout", "head"] {
            spec["seeds"][name] = json!(seed);
        }
        let mut command = bench.command(out, out, &spec);
        finish(command.arg("--from").arg(bench.checkpoint("pretrain"))).succeeded().report()["digest"].clone()
    };
    let first = run("first", 11);
    assert_eq!(run("again", 11), first);
    assert_ne!(run("other", 12), first);
}

/// The released code corrects the bias of Adam's moments neither in pre-training nor in fine-tuning.
#[test]
fn mistake_5_adam_corrects_its_bias_from_the_first_step_on() {
    const RATE: f64 = 1e-3;
    let size = Size { blocks: 1, hidden: 8, heads: 2, intermediate: 12 };
    // This is the only rule: no recipe can switch the correction off.
    let rule = Rule { weight_decay: 0.0, clip_norm: None, ..Rule::default() };
    let mut weights = Weights::new(&Model::of_size(size, Norm::Pre), 20, TextHead::MLM, &Seeds::default(), Device::Cpu);
    let mut optimizer = Optimizer::new(rule, &weights);
    let name = "bert.encoder.layer.0.output.dense.weight";
    let before = weights.named()[name].copy();
    for step in 1..=3 {
        // The gradient of each weight is 2 at every step.
        let loss = weights.groups().iter().flat_map(|group| group.leaves()).map(|leaf| leaf.sum(Kind::Float) * 2.0);
        let loss = loss.reduce(|a, b| a + b).unwrap();
        Tape::default().differentiate(&weights, &loss, &weights.open(&[Gate::OPEN, Gate::OPEN]));
        let _ = optimizer.clip(&weights);
        optimizer.update(&mut weights, RATE);
        // The corrected moments are those of a constant, so every step moves a weight by the whole rate.
        let moved = (&before - &weights.named()[name]) / RATE;
        let off = (moved - f64::from(step)).abs().max().double_value(&[]);
        assert!(off < 1e-3, "after step {step}: {off}");
    }
}

fn layer_dropped(drop: Value, micro_batches: u32) -> Pretrain {
    let mut recipe = program::without_stage(pretrain(STEPS));
    recipe["layer_drop"] = drop;
    recipe["micro_batches"] = json!(micro_batches);
    serde_json::from_value(recipe).unwrap()
}

fn values(run: &Exited, name: &str) -> Vec<u64> {
    run.points(name).into_iter().map(|(_, bits)| bits).collect()
}
