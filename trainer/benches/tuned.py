"""What a good engineer would write: fused attention, one product for query, key and value, the head on masked positions."""
import torch
from torch import nn
from torch.nn import functional as F

from peer import VOCABULARY, arguments, run


class Block(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv, self.output = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.widen, self.narrow = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x):
        b, s, h = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(b, s, 3, self.heads, h // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1).transpose(1, 2).reshape(b, s, h)
        x = x + F.dropout(self.output(mixed), 0.1)
        return x + F.dropout(self.narrow(F.gelu(self.widen(self.feed_forward_norm(x)))), 0.1)


class Model(nn.Module):
    def __init__(self, blocks, hidden, heads):
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, hidden), nn.Embedding(512, hidden)
        self.blocks = nn.ModuleList(Block(hidden, heads) for _ in range(blocks))
        self.norm, self.transform, self.transform_norm = nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.LayerNorm(hidden)
        self.bias = nn.Parameter(torch.zeros(VOCABULARY))

    def forward(self, ids, positions, labels):
        x = F.dropout(self.words(ids) + self.places.weight[: ids.shape[1]], 0.1)
        for block in self.blocks:
            x = block(x)
        x = self.transform_norm(F.gelu(self.transform(self.norm(x).flatten(0, 1)[positions])))
        return F.cross_entropy(F.linear(x, self.words.weight, self.bias), labels)


if __name__ == "__main__":
    options = arguments()
    torch.manual_seed(0)
    run(options, Model(options.blocks, options.hidden, options.heads).train(), lambda model, batch: model(*batch))
