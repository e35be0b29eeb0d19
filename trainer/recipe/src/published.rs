//! Checkpoints in Hugging Face's layout: the files of one, and whether a `config.json` describes a model that can be
//! trained here.

use serde::Deserialize;

use crate::model::{LAYER_NORM_EPSILON, Model, Norm, Size};
use crate::problem::Problems;

/// The `model_type` of a model that no published architecture computes. Further fields describe its blocks.
pub const LAMINA: &str = "lamina-bert";
/// The description of the model.
pub const CONFIG: &str = "config.json";
/// The weights.
pub const MODEL: &str = "model.safetensors";
/// The vocabulary, one WordPiece per line.
pub const VOCABULARY: &str = "vocab.txt";
/// The settings of the tokenizer. Without this file the tokenizer lowercases.
pub const TOKENIZER: &str = "tokenizer_config.json";
/// The Python module that computes a model which no published architecture computes.
pub const MODELING: &str = "modeling_lamina.py";
/// Largest [`CONFIG`] and largest [`TOKENIZER`] in bytes. Published ones have some kilobytes, and a tokenizer with a
/// template and a thousand added tokens some hundred.
pub const MOST_CONFIG_BYTES: u64 = 4 << 20;

/// The reason why a published checkpoint cannot be trained here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfitCheckpoint {
    /// The file with the content that does not fit.
    pub file: &'static str,
    pub reason: String,
}

/// Reads and checks the small files of a published folder: [`CONFIG`], [`TOKENIZER`] if there is one, and the number of
/// tokens in [`VOCABULARY`].
///
/// # Errors
/// The model is not implemented or its sizes do not fit together, the tokenizer is not the one implemented here, or
/// there are more tokens than the model embeds.
pub fn check(config: &[u8], tokenizer: Option<&[u8]>, tokens: u64) -> Result<Config, UnfitCheckpoint> {
    let unfit = |file| move |reason| UnfitCheckpoint { file, reason };
    let config = Config::read(config).map_err(unfit(CONFIG))?;
    let mut problems = Problems::default();
    config.model.check(&mut problems);
    if let Some(problem) = problems.into_vec().first() {
        return Err(unfit(CONFIG)(format!("{}: {}", problem.pointer, problem.message)));
    }
    if !tokenizer.map_or(Ok(true), lowercases).map_err(unfit(TOKENIZER))? {
        return Err(unfit(TOKENIZER)(
            "do_lower_case is false, but text is lowercased here: use an uncased checkpoint".into(),
        ));
    }
    if tokens > u64::from(config.vocabulary) {
        let reason = format!("it has {tokens} tokens, more than the {} that the model embeds", config.vocabulary);
        return Err(unfit(VOCABULARY)(reason));
    }
    Ok(config)
}

/// The content of `config.json`, as far as it defines the function of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Its dropouts are those of the original training, or 0.1 if the file does not give them.
    pub model: Model,
    /// Rows of the word embedding.
    pub vocabulary: u32,
}

impl Config {
    /// Reads the configuration of a model of the BERT family: `bert` (Post-LN), `megatron-bert` (Pre-LN without
    /// LayerNorm after the embeddings) or `lamina-bert` (given by the fields `norm`, `embedding_norm` and `order`; by
    /// default Pre-LN with that LayerNorm).
    ///
    /// # Errors
    /// One sentence that names the field which is missing, or whose value means a function that is not implemented.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let raw: RawConfig = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let (norm, embedding_norm) = match raw.model_type.as_str() {
            "bert" => (Norm::Post, true),
            "megatron-bert" => (Norm::Pre, false),
            LAMINA => (raw.norm, raw.embedding_norm),
            other => {
                return Err(format!("the model_type {other:?} is not known: bert, megatron-bert and lamina-bert are"));
            }
        };
        let only = |field: &str, found: &dyn std::fmt::Display, holds: bool, wanted: &str| {
            if holds { Ok(()) } else { Err(format!("{field} is {found}, but only {wanted} is implemented")) }
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

/// True if the tokenizer of this `tokenizer_config.json` lowercases, as the one implemented here does.
///
/// # Errors
/// The file is not a JSON object.
fn lowercases(tokenizer: &[u8]) -> Result<bool, String> {
    #[derive(Deserialize)]
    struct Tokenizer {
        #[serde(default = "yes")]
        do_lower_case: bool,
    }
    serde_json::from_slice(tokenizer).map(|read: Tokenizer| read.do_lower_case).map_err(|error| error.to_string())
}

/// The fields of `config.json`. A default here is the default of the library `transformers`.
#[derive(Deserialize)]
struct RawConfig {
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

    /// The published configuration of bert-base-uncased.
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
    fn the_configuration_of_bert_base_gives_the_size_base_with_post_ln() {
        let config = with("use_cache", json!(true)).unwrap();
        assert_eq!(config.vocabulary, 30522);
        assert_eq!(config.model, Model::of_size(Size::named("base").unwrap(), Norm::Post));
        let megatron = with("model_type", json!("megatron-bert")).unwrap().model;
        assert_eq!((megatron.norm, megatron.embedding_norm), (Norm::Pre, false));
        let lamina = with("model_type", json!("lamina-bert")).unwrap().model;
        assert_eq!((lamina.norm, lamina.embedding_norm), (Norm::Pre, true));
    }

    #[test]
    fn a_model_that_computes_another_function_is_refused_by_the_field_that_says_so() {
        for (field, value) in [
            ("model_type", json!("electra")),
            ("hidden_act", json!("relu")),
            ("position_embedding_type", json!("relative_key")),
            ("type_vocab_size", json!(1)),
            ("is_decoder", json!(true)),
            ("layer_norm_eps", json!(1e-5)),
            ("hidden_size", Value::Null),
        ] {
            let reason = with(field, value.clone()).unwrap_err();
            assert!(reason.contains(field) || value.is_null(), "{reason}");
        }
        let mut missing = base();
        missing.as_object_mut().unwrap().remove("hidden_size");
        assert!(Config::read(missing.to_string().as_bytes()).unwrap_err().contains("`hidden_size`"));
    }

    #[test]
    fn a_cased_tokenizer_is_recognised_by_its_flag() {
        assert_eq!(lowercases(b"{}"), Ok(true));
        assert_eq!(lowercases(br#"{"do_lower_case": false, "model_max_length": 512}"#), Ok(false));
        assert!(lowercases(b"[").is_err());
    }
}
