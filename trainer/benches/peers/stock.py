"""The peer that most users would choose: Hugging Face's BERT for masked language modelling, unchanged."""

import torch
from transformers import BertConfig, BertForMaskedLM


def build(size, vocabulary):
    """A model and the function from a batch to its loss.

    `size` has blocks, hidden and heads. The batch is `ids` [B, S]; `at` [M], flat indexes of the masked positions; and
    `words` [M], the original ids at these positions.
    """
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=vocabulary,
            num_hidden_layers=size["blocks"],
            hidden_size=size["hidden"],
            num_attention_heads=size["heads"],
            intermediate_size=4 * size["hidden"],
            attn_implementation="sdpa",
        )
    )

    def loss(run, ids, at, words):
        labels = torch.full_like(ids, -100)
        labels.view(-1)[at] = words
        return run(input_ids=ids, labels=labels).loss

    return model.train(), loss
