//! Checkpoints in Hugging Face's layout: what their `config.json` has to say.

use serde::Deserialize;

use crate::model::{LAYER_NORM_EPSILON, Model, Norm, Size};
use crate::problem::Problems;

/// The `model_type` of what no published architecture computes; how the blocks are made up is said beside it.
pub const LAMINA: &str = "lamina-bert";
/// The files of a published folder that are read.
pub const CONFIG: &str = "config.json";
pub const MODEL: &str = "model.safetensors";
pub const VOCABULARY: &str = "vocab.txt";
/// Says whether the tokenizer lowercases; absent means that it does.
pub const TOKENIZER: &str = "tokenizer_config.json";

/// Why a published checkpoint cannot be trained here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The file whose content says so.
    pub file: &'static str,
    pub why: String,
}

/// What the small files of a published folder say together: [`CONFIG`], [`TOKENIZER`] where there is one, and the number of
/// tokens in [`VOCABULARY`].
///
/// # Errors
/// A model that is not implemented or whose sizes do not fit together, a tokenizer that is not the one here, or more tokens
/// than the model embeds.
pub fn check(config: &[u8], tokenizer: Option<&[u8]>, tokens: u64) -> Result<Config, Unfit> {
    let unfit = |file| move |why| Unfit { file, why };
    let config = Config::read(config).map_err(unfit(CONFIG))?;
    let mut problems = Problems::default();
    config.model.check(&mut problems);
    if let Some(problem) = problems.into_vec().first() {
        return Err(unfit(CONFIG)(format!("{}: {}", problem.pointer, problem.message)));
    }
    if !tokenizer.map_or(Ok(true), lowercases).map_err(unfit(TOKENIZER))? {
        return Err(unfit(TOKENIZER)("do_lower_case is false: text is lowercased here".into()));
    }
    if tokens > u64::from(config.vocabulary) {
        let why = format!("it has {tokens} tokens, where the model embeds {}", config.vocabulary);
        return Err(unfit(VOCABULARY)(why));
    }
    Ok(config)
}

/// What `config.json` says of the function that the weights belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// With the dropouts that it was trained with, 0.1 where it does not say.
    pub model: Model,
    /// Rows of the word embedding.
    pub vocabulary: u32,
}

impl Config {
    /// Reads the configuration of a model of the BERT family: `bert` (Post-LN), `megatron-bert` (Pre-LN without LayerNorm
    /// after the embeddings) or `lamina-bert` (as `norm`, `embedding_norm` and `order` say; Pre-LN with that LayerNorm where
    /// they do not).
    ///
    /// # Errors
    /// One sentence: a field that is missing, or whose value means a function that is not implemented here.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let (norm, embedding_norm) = match raw.model_type.as_str() {
            "bert" => (Norm::Post, true),
            "megatron-bert" => (Norm::Pre, false),
            LAMINA => (raw.norm, raw.embedding_norm),
            other => {
                return Err(format!(
                    "the model_type {other:?} is not known: there are bert, megatron-bert, lamina-bert"
                ));
            }
        };
        let only = |field: &str, found: &dyn std::fmt::Display, holds: bool, wanted: &str| {
            if holds { Ok(()) } else { Err(format!("{field} is {found}: only {wanted} is implemented")) }
        };
        only("hidden_act", &raw.hidden_act, raw.hidden_act == "gelu", "gelu")?;
        let positions = &raw.position_embedding_type;
        only("position_embedding_type", positions, positions == "absolute", "absolute")?;
        only("type_vocab_size", &raw.type_vocab_size, raw.type_vocab_size == 2, "2")?;
        only("is_decoder", &raw.is_decoder, !raw.is_decoder, "false")?;
        let epsilon = raw.layer_norm_eps;
        only("layer_norm_eps", &epsilon, epsilon == LAYER_NORM_EPSILON, &LAYER_NORM_EPSILON.to_string())?;
        let size = Size {
            blocks: raw.num_hidden_layers,
            hidden: raw.hidden_size,
            heads: raw.num_attention_heads,
            intermediate: raw.intermediate_size,
        };
        let model = Model {
            positions: raw.max_position_embeddings,
            embedding_norm,
            order: raw.order.filter(|_| raw.model_type == LAMINA),
            dropout: raw.hidden_dropout_prob,
            attention_dropout: raw.attention_probs_dropout_prob,
            ..Model::of_size(size, norm)
        };
        Ok(Self { model, vocabulary: raw.vocab_size })
    }
}

/// Whether the tokenizer of this `tokenizer_config.json` lowercases, as the one here does.
///
/// # Errors
/// When it is no JSON object.
fn lowercases(tokenizer: &[u8]) -> Result<bool, String> {
    #[derive(Deserialize)]
    struct Tokenizer {
        #[serde(default = "yes")]
        do_lower_case: bool,
    }
    serde_json::from_slice(tokenizer).map(|read: Tokenizer| read.do_lower_case).map_err(|error| error.to_string())
}

/// As it is written. What has a default here has the same one in transformers.
#[derive(Deserialize)]
struct Raw {
    model_type: String,
    vocab_size: u32,
    hidden_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    intermediate_size: u32,
    max_position_embeddings: u32,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    #[serde(default = "two")]
    type_vocab_size: u32,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
    #[serde(default = "pre")]
    norm: Norm,
    #[serde(default = "yes")]
    embedding_norm: bool,
    #[serde(default)]
    order: Option<String>,
    #[serde(default = "tenth")]
    hidden_dropout_prob: f64,
    #[serde(default = "tenth")]
    attention_probs_dropout_prob: f64,
}

fn yes() -> bool {
    true
}
fn pre() -> Norm {
    Norm::Pre
}
fn gelu() -> String {
    "gelu".into()
}
fn absolute() -> String {
    "absolute".into()
}
fn two() -> u32 {
    2
}
fn epsilon() -> f64 {
    LAYER_NORM_EPSILON
}
fn tenth() -> f64 {
    0.1
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Of bert-base-uncased, as it is published.
    fn base() -> Value {
        json!({
            "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": false,
            "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
            "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
            "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": "absolute",
            "transformers_version": "4.6.0.dev0", "type_vocab_size": 2, "use_cache": true, "vocab_size": 30522
        })
    }

    fn with(field: &str, value: Value) -> Result<Config, String> {
        let mut config = base();
        config[field] = value;
        Config::read(config.to_string().as_bytes())
    }

    #[test]
    fn bert_base_is_read_as_post_ln_base() {
        let config = with("use_cache", json!(true)).unwrap();
        assert_eq!(config.vocabulary, 30522);
        assert_eq!(config.model, Model::of_size(Size::named("base").unwrap(), Norm::Post));
        let megatron = with("model_type", json!("megatron-bert")).unwrap().model;
        assert_eq!((megatron.norm, megatron.embedding_norm), (Norm::Pre, false));
        let lamina = with("model_type", json!("lamina-bert")).unwrap().model;
        assert_eq!((lamina.norm, lamina.embedding_norm), (Norm::Pre, true));
    }

    #[test]
    fn another_function_is_refused_by_its_field() {
        for (field, value) in [
            ("model_type", json!("electra")),
            ("hidden_act", json!("relu")),
            ("position_embedding_type", json!("relative_key")),
            ("type_vocab_size", json!(1)),
            ("is_decoder", json!(true)),
            ("layer_norm_eps", json!(1e-5)),
            ("hidden_size", Value::Null),
        ] {
            let why = with(field, value.clone()).unwrap_err();
            assert!(why.contains(field) || value.is_null(), "{why}");
        }
        let mut missing = base();
        missing.as_object_mut().unwrap().remove("hidden_size");
        assert!(Config::read(missing.to_string().as_bytes()).unwrap_err().contains("`hidden_size`"));
    }

    #[test]
    fn a_cased_tokenizer_is_told_by_its_flag() {
        assert_eq!(lowercases(b"{}"), Ok(true));
        assert_eq!(lowercases(br#"{"do_lower_case": false, "model_max_length": 512}"#), Ok(false));
        assert!(lowercases(b"[").is_err());
    }
}
