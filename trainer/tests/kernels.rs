//! Compares the fused operators with libtorch's own, forward and backward, for every instruction set of this processor.
//! All sizes differ, and none is a multiple of a vector's length.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use tch::{Device, Kind, Tensor, no_grad};
use trainer::kernel::{self, Adam, Attention, Buffers, Dropout, Matrix, Noise, Sink};

/// The choice of kernels holds for the whole process, so tests that make it take turns.
static CHOICE: Mutex<()> = Mutex::new(());

/// Runs `operator` on copies of `inputs` with libtorch's operators and with each set of kernels. For outputs and
/// gradients, the norm of the difference over the norm is at most `tolerance`.
fn agree(inputs: &[Tensor], tolerance: f64, operator: impl Fn(&[Tensor]) -> Vec<Tensor>) {
    let _choice = CHOICE.lock().unwrap_or_else(|held| held.into_inner());
    let run = |set: &str| -> Option<Vec<Tensor>> {
        if !kernel::choose(set) {
            return None;
        }
        assert_eq!(kernel::chosen(), set);
        let leaves: Vec<Tensor> = inputs.iter().map(|x| x.detach().copy().set_requires_grad(true)).collect();
        let outputs = operator(&leaves);
        // Every element has its own weight, so that no gradients cancel out.
        let weighted = |x: &Tensor| {
            let places = Tensor::arange(x.numel() as i64, (Kind::Float, Device::Cpu)).view_as(x);
            (x.to_kind(Kind::Float) * (places * 0.7).sin()).sum(Kind::Float)
        };
        let total = outputs.iter().map(weighted).fold(Tensor::from(0.0f32), |sum, part| sum + part);
        let gradients = Tensor::run_backward(&[total], &leaves, false, false);
        Some(outputs.into_iter().chain(gradients).map(|x| x.detach().to_kind(Kind::Double)).collect())
    };
    let expected = run("libtorch").unwrap();
    let mut sets = 0;
    for set in ["portable", "avx2", "avx512"] {
        let Some(found) = run(set) else { continue };
        sets += 1;
        assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found.size(), expected.size());
            let error = (found - expected).norm().double_value(&[]);
            let size = expected.norm().double_value(&[]);
            assert!(error <= tolerance * size, "{set}, tensor {index}: off by {error:e} of {size:e}");
        }
    }
    kernel::choose("");
    assert!(sets > 0, "the portable kernels run everywhere");
}

const SINGLE: f64 = 2e-6;
/// bfloat16 has 8 significant bits, and the fused operators round less often than libtorch's.
const HALF: f64 = 2e-2;

fn random(shape: &[i64], seed: i64) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// Widths with different remainders when they are split into vectors of sixteen, and row counts that two threads cannot
/// share evenly.
const SHAPES: [[i64; 2]; 6] = [[1, 1], [3, 15], [7, 16], [13, 37], [5, 128], [11, 300]];

fn types() -> [(Kind, f64); 2] {
    [(Kind::Float, SINGLE), (Kind::BFloat16, HALF)]
}

#[test]
fn norm_is_layer_norm_and_adds_the_gradient_of_the_residual_path() {
    for [rows, n] in SHAPES.into_iter().filter(|[_, n]| *n > 1) {
        let inputs = [random(&[rows, n], 1) * 3.0 + 1.0, random(&[n], 2), random(&[n], 3)];
        for (kind, tolerance) in types() {
            agree(&inputs, tolerance.max(1e-5), |x| {
                let (normed, through) = kernel::norm(&x[0], &x[1], &x[2], 1e-12, kind == Kind::BFloat16);
                assert_eq!(normed.kind(), kind);
                vec![normed, through]
            });
        }
    }
}

#[test]
fn gelu_is_the_exact_gelu_of_input_plus_bias() {
    for [rows, n] in SHAPES {
        let inputs = [random(&[rows, n], 1) * 3.0, random(&[n], 2)];
        for (kind, tolerance) in types() {
            agree(&inputs, tolerance, |x| vec![kernel::gelu(&x[0].to_kind(kind), &x[1])]);
        }
    }
}

#[test]
fn drop_scales_the_dropout_of_input_plus_bias_and_adds_the_residual() {
    let noise = Noise::new(3, 5, 0);
    for [rows, n] in SHAPES {
        let inputs = [random(&[rows, n], 1), random(&[n], 2), random(&[rows, n], 3)];
        for rate in [0.0, 0.1, 0.6] {
            for (kind, tolerance) in types() {
                let dropout = noise.at(7, rate);
                agree(&inputs, tolerance, |x| vec![kernel::drop(&x[0].to_kind(kind), &x[1], &x[2], dropout, 1.7)]);
            }
        }
    }
}

#[test]
fn multiply_is_a_matrix_product_in_the_type_of_its_input() {
    let inputs = [random(&[3, 7, 37], 1), random(&[21, 37], 2)];
    for (kind, tolerance) in types() {
        agree(&inputs, tolerance, |x| vec![kernel::multiply(&x[0].to_kind(kind), &matrix(&x[1], None))]);
    }
}

#[test]
fn embed_returns_rows_and_gives_padding_no_gradient() {
    for [tokens, rows, n] in [[1, 1, 1], [60, 5, 37], [40, 300, 16]] {
        let ids = Tensor::arange(tokens, (Kind::Int64, Device::Cpu)).g_mul_scalar(7).remainder(rows).view([tokens, 1]);
        for padding in [-1, 0] {
            let inputs = [random(&[rows, n], 1)];
            agree(&inputs, SINGLE, |x| vec![kernel::embed(&ids, &matrix(&x[0], None), padding)]);
        }
    }
}

/// Three operators use one weight. The gradient in the sink is the one that the graph would have returned, and a second
/// pass adds to it.
#[test]
fn gradients_are_added_up_in_the_sink() {
    let _choice = CHOICE.lock().unwrap_or_else(|held| held.into_inner());
    let (weight, x, bias) = (random(&[29, 21], 1), random(&[13, 21], 2), random(&[29], 3));
    let numbers = |n: i64| Tensor::arange(n, (Kind::Int64, Device::Cpu)).g_mul_scalar(5).remainder(29);
    let differentiated = |kind: Kind, sink: Option<Sink>, passes: usize| {
        let weight = weight.detach().copy().set_requires_grad(true);
        let used = matrix(&weight, sink);
        let mut sum = None;
        for _ in 0..passes {
            let x = x.to_kind(kind);
            let products = kernel::multiply(&x, &used).to_kind(Kind::Float).square().sum(Kind::Float);
            let rows = kernel::embed(&numbers(40), &used, -1).sin().sum(Kind::Float);
            let loss = products + rows + kernel::likelihood(&x, &used, &bias, &numbers(13), 1.0) * 3.0;
            let [given] = Tensor::run_backward(&[loss], &[&weight], false, false).try_into().unwrap();
            sum = Some(match sum {
                Some(sum) if given.defined() => sum + given,
                Some(sum) => sum,
                None => given,
            });
        }
        sum.unwrap()
    };
    for (kind, tolerance) in types() {
        for passes in [1, 3] {
            let expected = differentiated(kind, None, passes);
            // The earlier content of the buffer does not matter.
            let gradient = Tensor::full([29, 21], f64::NAN, (Kind::Float, Device::Cpu));
            let written = Tensor::zeros([1], (Kind::Uint8, Device::Cpu));
            let sink = Sink { gradient: gradient.shallow_clone(), written: written.shallow_clone() };
            assert!(!differentiated(kind, Some(sink), passes).defined());
            assert_eq!(written.int64_value(&[0]), 1);
            let error = (&gradient - &expected).norm().double_value(&[]) / expected.norm().double_value(&[]);
            assert!(error < tolerance, "{kind:?}, {passes} passes: off by {error:e}");
        }
    }
}

fn matrix(value: &Tensor, sink: Option<Sink>) -> Matrix {
    Matrix { value: value.shallow_clone(), half: Some(no_grad(|| value.to_kind(Kind::BFloat16))), sink }
}

#[test]
fn attention_is_softmax_and_dropout_over_the_unmasked_tokens() {
    for [b, s, heads, d] in [[2, 1, 1, 1], [3, 7, 2, 5], [2, 65, 3, 16], [1, 131, 2, 37], [2, 128, 2, 64]] {
        let inputs = [random(&[b, s, 3 * heads * d], 1), random(&[3 * heads * d], 2)];
        // The last i tokens of sequence i are padding.
        let places = Tensor::arange(s, (Kind::Int64, Device::Cpu)).view([1, s]);
        let tokens =
            places.lt_tensor(&(Tensor::arange(b, (Kind::Int64, Device::Cpu)) * -1 + s).clamp_min(1).view([b, 1]));
        for (tokens, causal, rate) in [(None, false, 0.0), (Some(&tokens), false, 0.2), (Some(&tokens), true, 0.2)] {
            let dropout = Noise::new(1, 2, 0).at(9, rate);
            for (kind, tolerance) in types() {
                let attention = Attention { heads, tokens, causal, dropout };
                agree(&inputs, tolerance.max(1e-5), |x| vec![attention.forward(&x[0].to_kind(kind), &x[1])]);
            }
        }
    }
}

#[test]
fn likelihood_is_the_cross_entropy_of_the_logits() {
    for [m, h, v] in [[1, 5, 3], [13, 37, 99], [1100, 8, 301]] {
        let inputs = [random(&[m, h], 1), random(&[v, h], 2), random(&[v], 3)];
        let labels = Tensor::arange(m, (Kind::Int64, Device::Cpu)).g_mul_scalar(7).remainder(v);
        for (kind, tolerance) in types() {
            agree(&inputs, tolerance.max(1e-5), |x| {
                vec![kernel::likelihood(&x[0].to_kind(kind), &matrix(&x[1], None), &x[2], &labels, 0.3)]
            });
        }
    }
}

#[test]
fn every_instruction_set_draws_the_same_dropout() {
    let _choice = CHOICE.lock().unwrap_or_else(|held| held.into_inner());
    let dropout = Noise::new(5, 6, 1).at(3, 0.25);
    let drawn = |set: &str| kernel::choose(set).then(|| dropout.kept(13, 301));
    let expected = drawn("portable").unwrap();
    for set in ["avx2", "avx512"] {
        assert!(drawn(set).is_none_or(|found| found == expected), "{set}");
    }
    kernel::choose("");
}

#[test]
fn every_element_is_kept_with_the_same_probability() {
    const STEPS: u64 = 400;
    let n = 131;
    let mut counts = Tensor::zeros([7, n], (Kind::Float, Device::Cpu));
    for step in 0..STEPS {
        counts += Noise::new(1, step, 0).at(2, 0.1).kept(7, n);
    }
    let spread = (STEPS as f64 * 0.1 * 0.9).sqrt();
    let off = (&counts - STEPS as f64 * 0.9).abs().max().double_value(&[]);
    assert!(off < 5.0 * spread, "{off}");
    let (total, draws) = (counts.sum(Kind::Double).double_value(&[]), (7 * n * STEPS as i64) as f64);
    assert!((total - draws * 0.9).abs() < 4.0 * (draws * 0.09).sqrt(), "{total} of {draws}");
}

#[test]
fn each_seed_step_micro_batch_and_site_has_its_own_draws() {
    let draws = |seed, step, part, site| Noise::new(seed, step, part).at(site, 0.5).kept(3, 64);
    let here = draws(1, 2, 3, 4);
    assert_eq!(here, draws(1, 2, 3, 4));
    for other in [draws(2, 2, 3, 4), draws(1, 3, 3, 4), draws(1, 2, 4, 4), draws(1, 2, 3, 5)] {
        let same = here.eq_tensor(&other).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!((0.3..0.7).contains(&same), "{same}");
    }
    assert_ne!(here.get(0), here.get(1));
}

#[test]
fn adam_computes_its_formula_for_each_element() {
    let _choice = CHOICE.lock().unwrap_or_else(|held| held.into_inner());
    let rule = Adam { rate: 0.02, beta1: 0.9, beta2: 0.99, epsilon: 1e-6, weight_decay: 5.0, updates: 3 };
    let correction = |beta: f64| 1.0 - beta.powi(3);
    let (rate, root) = (0.02 / correction(0.9), 1.0 / correction(0.99).sqrt());
    for n in [1, 15, 16, 301, 9001] {
        let [value, first, gradient] = [1, 2, 3].map(|seed| random(&[n], seed));
        let second = random(&[n], 4).square();
        let (factor, decayed) = (0.5, n * 2 / 3);
        let g = &gradient * factor;
        let (m, v) = (&first * 0.9 + &g * 0.1, &second * 0.99 + g.square() * 0.01);
        let kept = Tensor::arange(n, (Kind::Int64, Device::Cpu)).lt(decayed).to_kind(Kind::Float) * -0.1 + 1.0;
        let expected = &value * kept - &m / (v.sqrt() * root + 1e-6) * rate;
        for set in ["portable", "avx2", "avx512", "libtorch"] {
            if !kernel::choose(set) {
                continue;
            }
            let [mut values, mut first, mut second] = [&value, &first, &second].map(Tensor::copy);
            let mut half = Tensor::zeros([n], (Kind::BFloat16, Device::Cpu));
            let buffers = Buffers {
                values: &mut values,
                first: &mut first,
                second: &mut second,
                gradient: &gradient.copy(),
                half: Some(&mut half),
            };
            rule.update(buffers, Some(&Tensor::from(factor)), decayed);
            for (found, expected) in [(&values, &expected), (&first, &m), (&second, &v)] {
                let error = (found - expected).abs().max().double_value(&[]);
                assert!(error < 1e-6, "{set}, {n} elements: {error}");
            }
            assert_eq!(half, values.to_kind(Kind::BFloat16), "{set}");
            let (sum, expected) =
                (kernel::square_sum(&gradient), gradient.square().sum(Kind::Double).double_value(&[]));
            assert!((sum / expected - 1.0).abs() < 1e-6, "{set}: {sum}, expected {expected}");
        }
    }
    kernel::choose("");
}

#[test]
fn an_error_of_libtorch_is_a_panic_with_its_message() {
    let refused = catch_unwind(|| kernel::multiply(&random(&[2, 3], 1), &matrix(&random(&[4, 5], 2), None)));
    let words = *refused.unwrap_err().downcast::<String>().unwrap();
    assert!(words.contains("mat1 and mat2 shapes cannot be multiplied"), "{words}");
    assert_eq!(Dropout::NONE.kept(2, 3), Tensor::ones([2, 3], (Kind::Float, Device::Cpu)));
}

#[test]
fn tensors_of_wrong_type_or_size_are_refused_before_any_access() {
    let _choice = CHOICE.lock().unwrap_or_else(|held| held.into_inner());
    let numbers = |kind: Kind| Tensor::arange(3, (kind, Device::Cpu));
    let (x, weight, bias) = (random(&[3, 5], 1), random(&[4, 5], 2).set_requires_grad(true), random(&[4], 3));
    let zeros = |shape: &[i64], kind: Kind| Tensor::zeros(shape, (kind, Device::Cpu));
    let words_of = |operator: &dyn Fn() -> Tensor| {
        let refused = catch_unwind(AssertUnwindSafe(operator)).map(|_| ());
        refused.map_err(|panic| *panic.downcast::<String>().unwrap())
    };
    let flag = || zeros(&[1], Kind::Uint8);
    let places: [(Tensor, Tensor, &str); 8] = [
        (zeros(&[4, 5], Kind::Float), flag(), ""),
        (zeros(&[4, 5], Kind::Double), flag(), "CPUDoubleType"),
        (zeros(&[4, 5], Kind::BFloat16), flag(), "CPUBFloat16Type"),
        (zeros(&[4, 4], Kind::Float), flag(), "[4, 4]"),
        (zeros(&[20], Kind::Float), flag(), "[20]"),
        (zeros(&[5, 4], Kind::Float).tr(), flag(), "one piece"),
        (zeros(&[4, 5], Kind::Float), zeros(&[1], Kind::Bool), "CPUBoolType"),
        (zeros(&[4, 5], Kind::Float), zeros(&[0], Kind::Uint8), "[0]"),
    ];
    for (gradient, written, why) in places {
        let used = || {
            let sink = Sink { gradient: gradient.shallow_clone(), written: written.shallow_clone() };
            matrix(&weight, Some(sink))
        };
        let multiply = || kernel::multiply(&x, &used());
        let embed = || kernel::embed(&numbers(Kind::Int64), &used(), -1);
        let likelihood = || kernel::likelihood(&x, &used(), &bias, &numbers(Kind::Int64), 1.0);
        for (name, operator) in
            [("multiply", &multiply as &dyn Fn() -> Tensor), ("embed", &embed), ("likelihood", &likelihood)]
        {
            match words_of(operator) {
                Ok(()) => assert_eq!(why, "", "{name}"),
                Err(words) => assert!(!why.is_empty() && words.contains(why), "{name}, {why}: {words}"),
            }
        }
    }
    let (ids, plain) = (numbers(Kind::Int64), matrix(&weight, None));
    let rows = |count: i64| random(&[count, 5], 4);
    let whole = Attention { heads: 2, tokens: None, causal: false, dropout: Dropout::NONE };
    let qkv = random(&[2, 3, 12], 5);
    let wrong: [(&dyn Fn() -> Tensor, &str); 10] = [
        (&|| kernel::norm(&x, &rows(1), &random(&[4], 1), 1e-12, false).0, "the bias of LayerNorm: 5 elements"),
        (&|| kernel::norm(&x, &random(&[4], 1), &rows(1), 1e-12, true).0, "the weight of LayerNorm: 5 elements"),
        (&|| kernel::gelu(&x, &bias), "a bias: 5 elements"),
        (&|| kernel::drop(&x, &bias, &x, Dropout::NONE, 1.0), "a bias: 5 elements"),
        (&|| kernel::drop(&x, &rows(1), &rows(2), Dropout::NONE, 1.0), "a residual: 15 elements"),
        (&|| whole.forward(&qkv, &bias), "a bias: 12 elements"),
        (&|| Attention { heads: 5, ..whole }.forward(&qkv, &random(&[12], 1)), "of 5 heads are not [2, 3, 12]"),
        (&|| kernel::likelihood(&x, &plain, &rows(1), &ids, 1.0), "a bias: 4 elements"),
        (&|| kernel::likelihood(&rows(2), &plain, &bias, &ids, 1.0), "labels: 2 elements"),
        (&|| kernel::likelihood(&x, &plain, &bias, &(&ids + 2), 1.0), "label 4 is none of 4"),
    ];
    for (operator, why) in wrong {
        let words = words_of(operator).unwrap_err();
        assert!(words.contains(why), "{why}: {words}");
    }
    for kind in [Kind::Int, Kind::Uint8, Kind::Float] {
        let words = words_of(&|| kernel::embed(&numbers(kind), &matrix(&weight, None), -1)).unwrap_err();
        assert!(words.starts_with("ids are int64, not "), "{words}");
    }
}
