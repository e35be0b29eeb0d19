//! Writes the files beside the weights, so that the folder of a checkpoint opens in Hugging Face's transformers.

use std::borrow::Cow;

use recipe::model::{INIT_STANDARD_DEVIATION, LAYER_NORM_EPSILON};
use recipe::published::{CONFIG, LAMINA, MODELING, TOKENIZER, VOCABULARY};
use recipe::{ImageObjective, ImageShape, Model, Norm};
use serde_json::{Map, Value, json};

use super::layout::{TextFamily, TextHead};
use crate::data::vocabulary::Vocabulary;

/// The content of [`MODELING`].
const MODELING_TEXT: &str = include_str!("../../transformers/modeling_lamina.py");
/// The field of a configuration that names the classes in [`MODELING`].
const AUTO_MAP: &str = "auto_map";

/// The names and contents of the files that describe the model of `config` to transformers: the configuration, for text
/// the vocabulary and the settings of its tokenizer, and the Python module if the configuration refers to it.
///
/// # Errors
/// None in practice: a configuration is plain JSON.
pub fn files<'a>(
    config: &Value,
    vocabulary: Option<&'a Vocabulary>,
) -> Result<Vec<(&'static str, Cow<'a, str>)>, serde_json::Error> {
    let mut files = vec![(CONFIG, pretty(config)?.into())];
    if let Some(vocabulary) = vocabulary {
        files.push((VOCABULARY, vocabulary.text().into()));
        files.push((TOKENIZER, pretty(&tokenizer_config(config))?.into()));
    }
    if config.get(AUTO_MAP).is_some() {
        files.push((MODELING, MODELING_TEXT.into()));
    }
    Ok(files)
}

fn pretty(value: &Value) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// The settings of the tokenizer that [`Vocabulary`] is, for the model of `config`.
fn tokenizer_config(config: &Value) -> Value {
    json!({
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": true,
        "tokenize_chinese_chars": true,
        "strip_accents": null,
        "model_max_length": config["max_position_embeddings"],
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    })
}

/// The configuration of the published architecture that computes the same function: `bert` for Post-LN, `megatron-bert`
/// for Pre-LN without LayerNorm after the embeddings, `electra` for Post-LN that detects replaced tokens. Loading any
/// other model as one of these would silently ignore a part of it: it gets a model type of its own, whose classes are
/// in [`MODELING`]. [`recipe::published`] can read `lamina-bert`.
pub fn config(model: &Model, vocabulary: u32, padding: u32, head: TextHead) -> Value {
    let electra = head.family() == TextFamily::Electra;
    let (model_type, family) = match (model.norm, model.embedding_norm) {
        (Norm::Post, _) if electra && model.order.is_none() => ("electra", "Electra"),
        _ if electra => ("lamina-electra", "LaminaElectra"),
        _ if model.order.is_some() => (LAMINA, "LaminaBert"),
        (Norm::Post, _) => ("bert", "Bert"),
        (Norm::Pre, false) => ("megatron-bert", "MegatronBert"),
        (Norm::Pre, true) => (LAMINA, "LaminaBert"),
    };
    let suffix = match head {
        TextHead::Mlm { next_sentence: false } => "ForMaskedLM",
        TextHead::Mlm { next_sentence: true } | TextHead::Electra(_) => "ForPreTraining",
        TextHead::Classifier { .. } => "ForSequenceClassification",
    };
    let mut config = json!({
        "architectures": [format!("{family}{suffix}")],
        "model_type": model_type,
        "vocab_size": vocabulary,
        "hidden_size": model.hidden,
        "embedding_size": model.embedding_width(),
        "num_hidden_layers": model.blocks,
        "num_attention_heads": model.heads,
        "intermediate_size": model.intermediate,
        "hidden_act": "gelu",
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
        "max_position_embeddings": model.positions,
        "type_vocab_size": 2,
        "initializer_range": INIT_STANDARD_DEVIATION,
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "pad_token_id": padding,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
    });
    if let TextHead::Classifier { outputs, .. } = head {
        config["num_labels"] = json!(outputs);
    }
    if family.starts_with("Lamina") {
        config["norm"] = json!(model.norm);
        config["order"] = json!(model.order);
        config["embedding_norm"] = json!(model.embedding_norm);
        config[AUTO_MAP] = auto_map(family, electra);
    }
    config
}

/// The class of [`MODELING`] behind each `Auto...` class of transformers.
fn auto_map(family: &str, electra: bool) -> Value {
    // An ELECTRA checkpoint is published as its discriminator, which does not predict words.
    let words = if electra { None } else { Some("ForMaskedLM") };
    let suffixes = ["Config", "Model", "ForPreTraining", "ForSequenceClassification"].into_iter().chain(words);
    let module = MODELING.trim_end_matches(".py");
    let entry = |suffix: &str| {
        let auto = if suffix.starts_with("For") { format!("AutoModel{suffix}") } else { format!("Auto{suffix}") };
        (auto, json!(format!("{module}.{family}{suffix}")))
    };
    Value::Object(suffixes.map(entry).collect::<Map<_, _>>())
}

/// The configuration of a model of images of `shape`. No published architecture computes the same function: Hugging
/// Face's `ViTModel` has other names for its blocks, and Pre-LN only.
pub fn image_config(model: &Model, shape: ImageShape, rule: ImageObjective, classes: u32) -> Value {
    let mut config = json!({
        "image_size": [shape.height, shape.width],
        "num_channels": shape.channels,
        "hidden_size": model.hidden,
        "num_hidden_layers": model.blocks,
        "num_attention_heads": model.heads,
        "intermediate_size": model.intermediate,
        "hidden_act": "gelu",
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
        "max_position_embeddings": model.positions,
        "norm": model.norm,
        "order": model.order,
        "embedding_norm": model.embedding_norm,
        "initializer_range": INIT_STANDARD_DEVIATION,
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "torch_dtype": "float32",
    });
    let (name, model_type, field, value) = match rule {
        ImageObjective::Classifier { patch } => ("LaminaViTForImageClassification", "lamina-vit", "patch_size", patch),
        ImageObjective::Pixels { levels } => ("LaminaPixelsForCausalLM", "lamina-pixels", "vocab_size", levels + 1),
    };
    config["architectures"] = json!([name]);
    config["model_type"] = json!(model_type);
    config[field] = json!(value);
    if let ImageObjective::Classifier { .. } = rule {
        config["num_labels"] = json!(classes);
    }
    config
}

#[cfg(test)]
mod tests {
    use recipe::Size;
    use recipe::published::Config;

    use super::*;

    #[test]
    fn a_written_configuration_is_read_back_or_refused() {
        let size = Size { blocks: 3, hidden: 32, heads: 2, intermediate: 64 };
        let orders = [None, Some("ssfsff".to_owned())];
        for (norm, embedding_norm) in [(Norm::Post, true), (Norm::Pre, true), (Norm::Pre, false)] {
            for order in &orders {
                let model = Model { embedding_norm, order: order.clone(), ..Model::of_size(size, norm) };
                let written = |head| config(&model, 100, 0, head).to_string();
                let read = Config::read(written(TextHead::MLM).as_bytes()).unwrap();
                assert_eq!((read.model, read.vocabulary), (model.clone(), 100));
                let electra =
                    Config::read(written(TextHead::Electra(recipe::Electra::default())).as_bytes()).unwrap_err();
                assert!(electra.contains("-electra\" is not known") || electra.contains("\"electra\""), "{electra}");
            }
        }
    }
}
