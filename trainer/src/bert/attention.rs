//! Multi-head self-attention: every token looks at every token that is no padding.

use recipe::Model;
use tch::Tensor;

use super::linear::Linear;
use super::weights::Weights;

#[derive(Debug)]
pub struct Attention {
    /// Query, key and value as one product: `[3H, H]`.
    qkv: Linear,
    output: Linear,
    heads: i64,
    dropout: f64,
}

impl Attention {
    /// `block` is the published prefix, such as `bert.encoder.layer.0`.
    pub(super) fn new(weights: &Weights, block: &str, model: &Model) -> Self {
        Self {
            // The fused weight goes by the name of its first part.
            qkv: Linear::new(weights, &format!("{block}.attention.self.query")),
            output: Linear::new(weights, &format!("{block}.attention.output.dense")),
            heads: i64::from(model.heads),
            dropout: model.attention_dropout,
        }
    }

    /// `x` `[B, S, H]` to `[B, S, H]`; `mask` `[B, 1, 1, S]`, true at tokens, false at padding.
    pub(super) fn forward(&self, x: &Tensor, mask: Option<&Tensor>, train: bool) -> Tensor {
        let [b, s, h] = x.size()[..] else { unreachable!("attention works on [B, S, H]") };
        // [B, S, 3H] -> [B, S, 3, A, D] -> [3, B, A, S, D]
        let qkv = self.qkv.forward(x).view([b, s, 3, self.heads, h / self.heads]).permute([2, 0, 3, 1, 4]);
        let (q, k, v) = (qkv.get(0), qkv.get(1), qkv.get(2));
        let dropout = if train { self.dropout } else { 0.0 };
        // softmax(q k^T / sqrt(D)) v: [B, A, S, D]
        let mixed = Tensor::scaled_dot_product_attention(&q, &k, &v, mask, dropout, false, None, false);
        // [B, A, S, D] -> [B, S, A, D] -> [B, S, H]
        self.output.forward(&mixed.transpose(1, 2).reshape([b, s, h]))
    }
}
