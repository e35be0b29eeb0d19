"""The peer that a good engineer would write in plain PyTorch: the same Pre-LN model with fused attention, one product
for query, key and value, and a head that computes the masked positions only."""

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-12
DROPOUT = 0.1


class Block(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(hidden, EPSILON)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)
        self.feed_forward_norm = nn.LayerNorm(hidden, EPSILON)
        self.widen = nn.Linear(hidden, 4 * hidden)
        self.narrow = nn.Linear(4 * hidden, hidden)

    def forward(self, x):
        b, s, h = x.shape
        # [B, S, 3H] -> three of [B, A, S, D]
        q, k, v = self.qkv(self.attention_norm(x)).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT).transpose(1, 2).reshape(b, s, h)
        x = x + F.dropout(self.output(mixed), DROPOUT)
        return x + F.dropout(self.narrow(F.gelu(self.widen(self.feed_forward_norm(x)))), DROPOUT)


class Tuned(nn.Module):
    def __init__(self, blocks, hidden, heads, vocabulary):
        super().__init__()
        self.words = nn.Embedding(vocabulary, hidden)
        self.positions = nn.Embedding(512, hidden)
        self.types = nn.Embedding(2, hidden)
        self.embedding_norm = nn.LayerNorm(hidden, EPSILON)
        self.blocks = nn.ModuleList(Block(hidden, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(hidden, EPSILON)
        self.transform = nn.Linear(hidden, hidden)
        self.transform_norm = nn.LayerNorm(hidden, EPSILON)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)

    def forward(self, ids, at, words):
        places = self.positions.weight[: ids.shape[1]] + self.types.weight[0]
        x = F.dropout(self.embedding_norm(self.words(ids) + places), DROPOUT)
        for block in self.blocks:
            x = block(x)
        masked = self.norm(x).flatten(0, 1)[at]
        logits = F.linear(self.transform_norm(F.gelu(self.transform(masked))), self.words.weight, self.bias)
        return F.cross_entropy(logits, words)


def build(size, vocabulary):
    """A model and the function from a batch to its loss; see `stock.py`."""
    model = Tuned(size["blocks"], size["hidden"], size["heads"], vocabulary)
    return model, lambda run, ids, at, words: run(ids, at, words)
