"""What a user would pick: Hugging Face's BERT for masked language modelling, as it comes."""

import torch
from transformers import BertConfig, BertForMaskedLM


def build(size, vocabulary):
    """A model and the function from a batch to its loss.

    `size`: blocks, hidden, heads. `ids` [B, S]; `at` [M], flat indexes of the masked positions; `words` [M], what they were.
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
