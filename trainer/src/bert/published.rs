//! Writes `config.json`, so that the folder of a checkpoint opens in Hugging Face's transformers.

use recipe::model::{INIT_STANDARD_DEVIATION, LAYER_NORM_EPSILON};
use recipe::published::LAMINA;
use recipe::{ImageObjective, ImageShape, Model, Norm};
use serde_json::{Value, json};

use super::layout::{TextFamily, TextHead};

/// The configuration of the published architecture that computes the same function: `bert` for Post-LN, `megatron-bert`
/// for Pre-LN without LayerNorm after the embeddings, `electra` for Post-LN that detects replaced tokens. A model
/// without a published counterpart gets a model type that transformers refuses, because loading it as one of these
/// would silently ignore a part of it. [`recipe::published`] can read `lamina-bert`.
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
    let head = match head {
        TextHead::Mlm { next_sentence: false } => "ForMaskedLM",
        TextHead::Mlm { next_sentence: true } | TextHead::Electra(_) => "ForPreTraining",
        TextHead::Classifier { .. } => "ForSequenceClassification",
    };
    let mut config = json!({
        "architectures": [format!("{family}{head}")],
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
    if model_type == LAMINA {
        config["norm"] = json!(model.norm);
        config["order"] = json!(model.order);
        config["embedding_norm"] = json!(model.embedding_norm);
    }
    config
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
