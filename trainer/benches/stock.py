"""What a user would pick: Hugging Face's BertForMaskedLM as it comes."""
import torch
from transformers import BertConfig, BertForMaskedLM

from peer import VOCABULARY, arguments, run


def loss_of(model, batch):
    ids, positions, labels = batch
    everywhere = torch.full((ids.numel(),), -100)
    everywhere[positions] = labels
    return model(input_ids=ids, labels=everywhere.view_as(ids)).loss


if __name__ == "__main__":
    options = arguments()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        num_hidden_layers=options.blocks,
        hidden_size=options.hidden,
        num_attention_heads=options.heads,
        intermediate_size=4 * options.hidden,
        attn_implementation="sdpa",
    )
    run(options, BertForMaskedLM(config).train(), loss_of)
