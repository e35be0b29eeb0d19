//! Multi-head self-attention: every token looks at every token that is no padding.

use recipe::Model;
use tch::{Device, Kind, Tensor};

use super::dropout::dropout;
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
        // softmax(q k^T / sqrt(D)) v: [B, A, S, D]
        let mixed = if train && self.dropout > 0.0 && x.device() == Device::Cpu {
            written_out(&q, &k, &v, mask, self.dropout)
        } else {
            let dropout = if train { self.dropout } else { 0.0 };
            Tensor::scaled_dot_product_attention(&q, &k, &v, mask, dropout, false, None, false)
        };
        // [B, A, S, D] -> [B, S, A, D] -> [B, S, H]
        self.output.forward(&mixed.transpose(1, 2).reshape([b, s, h]))
    }
}

/// Attention with dropout on its weights, as libtorch writes it out on a CPU, where its fused kernel takes none; but with
/// the cheaper [`dropout`]. `q`, `k` and `v` `[B, A, S, D]`.
fn written_out(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, rate: f64) -> Tensor {
    let width = q.size()[3] as f64;
    // [B, A, S, S]
    let scores = (q / width.sqrt()).matmul(&k.transpose(2, 3));
    let scores = match mask {
        Some(mask) => scores.masked_fill(&mask.logical_not(), f64::NEG_INFINITY),
        None => scores,
    };
    dropout(scores.softmax(-1, Kind::Float), rate, 1.0, true).matmul(v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_out_attention_is_the_fused_kernels() {
        tch::manual_seed(1);
        let [q, k, v] = [(); 3].map(|()| Tensor::randn([3, 2, 7, 5], (Kind::Float, Device::Cpu)));
        let mask = Tensor::arange(7, (Kind::Int64, Device::Cpu)).lt(4).view([1, 1, 1, 7]);
        // A rate that rounds to no dropout at all.
        const NONE: f64 = 1e-9;
        for mask in [None, Some(&mask)] {
            let fused = Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, None, false);
            let error = (written_out(&q, &k, &v, mask, NONE) - fused).abs().max().double_value(&[]);
            assert!(error < 1e-6, "{error}");
        }
    }
}
