"""The models of Lamina that transformers does not have: BERT and ELECTRA with LayerNorm before each sublayer (Pre-LN)
or after it (Post-LN), with or without LayerNorm after the embeddings, and with their sublayers in any order.

A checkpoint of such a model brings this file along, and loads with it:

    AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)

Weights have the names that they have in BertFor..., MegatronBertFor... and ElectraFor... of transformers. Layer drop
belongs to training alone, so every block is open here. Shapes in comments: B sequences, S tokens in each, H hidden
width, E width of the embeddings, A heads, V words.
"""

from typing import Optional

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput


class LaminaBertConfig(PretrainedConfig):
    model_type = "lamina-bert"

    vocab_size: int = 30522
    hidden_size: int = 768
    embedding_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    tie_word_embeddings: bool = True
    # "pre" or "post": the place of LayerNorm in a sublayer.
    norm: str = "pre"
    # True if LayerNorm follows the sum of the embeddings.
    embedding_norm: bool = True
    # The sublayers in forward order: "s" for self-attention, "f" for feed-forward. None means "sfsf...".
    order: Optional[str] = None


class LaminaElectraConfig(LaminaBertConfig):
    model_type = "lamina-electra"


class Embeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        if config.embedding_norm:
            self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids, token_type_ids=None, position_ids=None):
        """Ids [B, S] to [B, S, E]."""
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        x = x + self.position_embeddings(position_ids)
        if hasattr(self, "LayerNorm"):
            x = self.LayerNorm(x)
        return self.dropout(x)


class Sublayer(nn.Module):
    """Half of a block: `x + F(LN x)` with Pre-LN, `LN(x + F(x))` with Post-LN. A subclass has the branch F."""

    def __init__(self, config, width):
        super().__init__()
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.output = nn.ModuleDict({"dense": nn.Linear(width, config.hidden_size)})
        self.is_pre = config.norm == "pre"
        if self.is_pre:
            self.ln = norm
        else:
            self.output["LayerNorm"] = norm
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x, mask):
        """[B, S, H] to [B, S, H]. `mask` [B, 1, 1, S] is true at tokens and false at padding."""
        if self.is_pre:
            return x + self.dropout(self.branch(self.ln(x), mask))
        return self.output["LayerNorm"](x + self.dropout(self.branch(x, mask)))


class Attention(Sublayer):
    def __init__(self, config):
        width = config.hidden_size
        super().__init__(config, width)
        self.self = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.heads = config.num_attention_heads
        self.weights_dropout = config.attention_probs_dropout_prob

    def branch(self, x, mask):
        # Each [B, S, H] -> [B, A, S, H / A].
        query, key, value = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.self.values())
        rate = self.weights_dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        return self.output["dense"](mixed.transpose(1, 2).flatten(2))


class Block(Sublayer):
    """The feed-forward half. The published names have the attention half inside it."""

    def __init__(self, config):
        super().__init__(config, config.intermediate_size)
        self.attention = Attention(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.intermediate_size)})

    def branch(self, x, mask):
        return self.output["dense"](functional.gelu(self.intermediate["dense"](x)))


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layer = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.order = config.order or "sf" * config.num_hidden_layers
        if config.norm == "pre":
            # Pre-LN leaves the sum of its branches unnormalised, so one more LayerNorm ends the stack.
            self.ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x, mask):
        """The states [B, S, H]: the input, then one for each two sublayers. The last one is normalised."""
        halves = {"s": iter([block.attention for block in self.layer]), "f": iter(self.layer)}
        states = [x]
        for half in self.order:
            states.append(next(halves[half])(states[-1], mask))
        last = self.ln(states[-1]) if hasattr(self, "ln") else states[-1]
        return (*states[:-1:2], last)


class Pooler(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden):
        """[B, S, H] to [B, H], from the token [CLS]."""
        return torch.tanh(self.dense(hidden[:, 0]))


class LaminaPreTrainedModel(PreTrainedModel):
    config_class = LaminaBertConfig
    base_model_prefix = "bert"
    _supports_sdpa = True
    # ELECTRA's generator lies beside the discriminator, which alone is used.
    _keys_to_ignore_on_load_unexpected = [r"^generator"]

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, Words):
            nn.init.zeros_(module.bias)


class LaminaBertModel(LaminaPreTrainedModel):
    def __init__(self, config, add_pooling_layer=True):
        super().__init__(config)
        self.embeddings = Embeddings(config)
        if config.embedding_size != config.hidden_size:
            self.embeddings_project = nn.Linear(config.embedding_size, config.hidden_size)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self):
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value):
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        output_hidden_states=False,
        **_,
    ):
        """`input_ids`, `attention_mask` (1 at tokens, 0 at padding) and `token_type_ids` are [B, S]."""
        x = self.embeddings(input_ids, token_type_ids, position_ids)
        if hasattr(self, "embeddings_project"):
            x = self.embeddings_project(x)
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        states = self.encoder(x, mask)
        return BaseModelOutputWithPooling(
            last_hidden_state=states[-1],
            pooler_output=None if self.pooler is None else self.pooler(states[-1]),
            hidden_states=states if output_hidden_states else None,
        )


class LaminaElectraModel(LaminaBertModel):
    config_class = LaminaElectraConfig
    base_model_prefix = "electra"

    def __init__(self, config):
        super().__init__(config, add_pooling_layer=False)


class Transform(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden):
        return self.LayerNorm(functional.gelu(self.dense(hidden)))


class Words(nn.Module):
    """Predicts the word at each token. The decoder is the table of the word embeddings."""

    def __init__(self, config):
        super().__init__()
        self.transform = Transform(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden, table):
        """[B, S, H] to logits [B, S, V]."""
        return functional.linear(self.transform(hidden), table, self.bias)


class LaminaBertForMaskedLM(LaminaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.bert = LaminaBertModel(config, add_pooling_layer=False)
        self.cls = nn.ModuleDict({"predictions": Words(config)})
        self.post_init()

    def forward(self, input_ids, labels=None, **inputs):
        """`labels` [B, S] are -100 at tokens that are not predicted."""
        out = self.bert(input_ids, **inputs)
        logits = self.cls["predictions"](out.last_hidden_state, self.get_input_embeddings().weight)
        loss = None if labels is None else functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=out.hidden_states)


class LaminaBertForPreTraining(LaminaPreTrainedModel):
    """Predicts words, and for a pair of texts if the second follows the first (class 0) or does not (class 1)."""

    def __init__(self, config):
        super().__init__(config)
        self.bert = LaminaBertModel(config)
        pairs = nn.Linear(config.hidden_size, 2)
        self.cls = nn.ModuleDict({"predictions": Words(config), "seq_relationship": pairs})
        self.post_init()

    def forward(self, input_ids, labels=None, next_sentence_label=None, **inputs):
        out = self.bert(input_ids, **inputs)
        words = self.cls["predictions"](out.last_hidden_state, self.get_input_embeddings().weight)
        pairs = self.cls["seq_relationship"](out.pooler_output)
        loss = None
        if labels is not None and next_sentence_label is not None:
            loss = functional.cross_entropy(words.flatten(0, 1), labels.flatten())
            loss = loss + functional.cross_entropy(pairs, next_sentence_label.flatten())
        return BertForPreTrainingOutput(
            loss=loss, prediction_logits=words, seq_relationship_logits=pairs, hidden_states=out.hidden_states
        )


class LaminaBertForSequenceClassification(LaminaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.bert = LaminaBertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids, labels=None, **inputs):
        """`labels` [B] are classes, or scores if there is one output."""
        out = self.bert(input_ids, **inputs)
        logits = self.classifier(self.dropout(out.pooler_output))
        return classified(logits, labels, out)


class LaminaElectraForPreTraining(LaminaPreTrainedModel):
    """Predicts for each token if it was replaced; its logits are [B, S]."""

    config_class = LaminaElectraConfig
    base_model_prefix = "electra"

    def __init__(self, config):
        super().__init__(config)
        width = config.hidden_size
        self.electra = LaminaElectraModel(config)
        heads = {"dense": nn.Linear(width, width), "dense_prediction": nn.Linear(width, 1)}
        self.discriminator_predictions = nn.ModuleDict(heads)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None, **inputs):
        """`labels` [B, S] are 1 where the token was replaced, and 0 elsewhere."""
        out = self.electra(input_ids, attention_mask=attention_mask, **inputs)
        heads = self.discriminator_predictions
        logits = heads["dense_prediction"](functional.gelu(heads["dense"](out.last_hidden_state))).squeeze(-1)
        loss = None
        if labels is not None:
            tokens = torch.ones_like(labels) if attention_mask is None else attention_mask
            tokens = tokens.bool()
            loss = functional.binary_cross_entropy_with_logits(logits[tokens], labels[tokens].to(logits.dtype))
        return TokenClassifierOutput(loss=loss, logits=logits, hidden_states=out.hidden_states)


class LaminaElectraForSequenceClassification(LaminaPreTrainedModel):
    config_class = LaminaElectraConfig
    base_model_prefix = "electra"

    def __init__(self, config):
        super().__init__(config)
        width = config.hidden_size
        self.electra = LaminaElectraModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        heads = {"dense": nn.Linear(width, width), "out_proj": nn.Linear(width, config.num_labels)}
        self.classifier = nn.ModuleDict(heads)
        self.post_init()

    def forward(self, input_ids, labels=None, **inputs):
        """`labels` [B] are classes, or scores if there is one output."""
        out = self.electra(input_ids, **inputs)
        first = functional.gelu(self.classifier["dense"](self.dropout(out.last_hidden_state[:, 0])))
        return classified(self.classifier["out_proj"](self.dropout(first)), labels, out)


def classified(logits, labels, out):
    """The output of a classifier with logits [B, K]; with K = 1 they are scores."""
    loss = None
    if labels is not None and logits.shape[1] == 1:
        loss = functional.mse_loss(logits.squeeze(1), labels.to(logits.dtype))
    elif labels is not None:
        loss = functional.cross_entropy(logits, labels)
    return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=out.hidden_states)
