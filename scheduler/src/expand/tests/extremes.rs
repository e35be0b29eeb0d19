//! Jobs with numbers that nobody means.

use serde_json::{Value, json};

use super::*;

/// Calls `visit` with a pointer to each number of the value.
fn numbers(value: &Value, at: &str, visit: &mut impl FnMut(&str)) {
    match value {
        Value::Number(_) => visit(at),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, item)| numbers(item, &format!("{at}/{place}"), visit));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| numbers(field, &format!("{at}/{name}"), visit));
        }
        _ => {}
    }
}

/// A job with every number that a job may have.
fn full() -> Value {
    let mut job = example();
    job["model"] = json!({"blocks": 6, "hidden": 64, "heads": 4, "intermediate": 128});
    job["pretrain"]["optimizer"] = json!({"algorithm": "adamw", "weight_decay": 0.01, "epsilon": 1e-8});
    job["pretrain"]["divergence"] = json!(2.0);
    job["pretrain"]["micro_batches"] = json!(2);
    job["pretrain"]["held_out"] = json!(0.1);
    job["pretrain"]["validate_every"] = json!(100);
    job["pretrain"]["validation_sequences"] = json!(64);
    job["glue"]["batch"] = json!(16);
    job["glue"]["length"] = json!(128);
    job["glue"]["keep"] = json!(["all", {"first": 4}]);
    job["timing"] =
        json!({"rounds": 32, "steps_per_turn": 2, "warmup_steps": 1, "largest_batch": {"limit_bytes": 1 << 30}});
    job["probe"] = json!({"sequences": 64, "shuffles": 2});
    let arms = job["arms"].as_array_mut().unwrap();
    arms.push(json!({"name": "matched", "match": {"arm": "pld"}, "micro_batches": 2,
                     "layer_drop": {"schedule": "linear", "depth": "uniform", "theta_limit": 0.5}}));
    arms.push(json!({"name": "electra", "objective": {"rate": 0.15, "rate_end": 0.2, "mask": 0.8, "random": 0.1,
                     "electra": {"divisor": 2, "weight": 50.0}}, "embedding": 32}));
    arms.push(json!({"name": "grown", "growth": {"stages": [{"blocks": 3, "until": 0.5}]},
                     "learning_rate": {"peak": 1e-3, "warmup": 0.1, "decay": "cosine"}}));
    job
}

#[test]
fn no_number_makes_an_expansion_panic() {
    assert_eq!(pointers(&serde_json::from_value(full()).unwrap()), Vec::<String>::new());
    let mut places = Vec::new();
    numbers(&full(), "", &mut |at| places.push(at.to_owned()));
    assert!(places.len() > 40, "{places:?}");
    let extremes = json!([0, 1, 2, -1, u32::MAX, i64::MAX, 0.0, -0.5, 5e-324, 1e-12, 1.0, 1.5, 1e19, 1e308, -1e308]);
    let budgets = ["steps", "seconds", "reference_seconds"];
    let mut refused = 0;
    for budget in budgets {
        let mut base = full();
        base["pretrain"].as_object_mut().unwrap().remove("steps");
        base["pretrain"][budget] = json!(2000);
        for at in places.iter().map(String::as_str).chain([&*format!("/pretrain/{budget}")]) {
            for extreme in extremes.as_array().unwrap() {
                let mut job = base.clone();
                let Some(number) = job.pointer_mut(at) else { continue };
                *number = extreme.clone();
                // Jobs of more trials than a job may have are refused before they are expanded.
                let Ok(spec) = serde_json::from_value::<JobSpec>(job) else { continue };
                let unknown = Datasets { corpus: None, ..datasets() };
                refused += usize::from(expand(&spec, &unknown).is_err());
                let costs = expand(&spec, &datasets()).map(|expansion| expansion.plan.flops);
                assert!(
                    costs.as_ref().is_ok_and(|flops| flops.is_finite()) || costs.is_err(),
                    "{at} {extreme}: {costs:?}"
                );
            }
        }
    }
    assert!(refused > 500, "{refused}");
}
