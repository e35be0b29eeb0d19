//! The embeddings of images: patches, positions and the class token (Dosovitskiy et al. 2021, equation 1).

use recipe::Model;
use tch::Tensor;

use super::dropout::dropout;
use super::layout::{CLASS_TOKEN, Family, PROJECTION};
use super::linear::{LayerNorm, Linear};
use super::weights::Weights;
use crate::kernel::Noise;

#[derive(Debug)]
pub struct PatchEmbeddings {
    /// `[1, H]`
    class_token: Tensor,
    /// `[H, D]` for patches with D values.
    projection: Linear,
    /// `[positions, H]`
    positions: Tensor,
    norm: Option<LayerNorm>,
    dropout: f64,
    /// The dropout site of the embeddings.
    site: u32,
}

impl PatchEmbeddings {
    pub(super) fn new(weights: &Weights, model: &Model) -> Self {
        let prefix = Family::Patches.embeddings();
        Self {
            class_token: weights.leaf(&format!("{prefix}.{CLASS_TOKEN}")),
            projection: Linear::new(weights, &format!("{prefix}.{PROJECTION}")),
            positions: weights.leaf(&format!("{prefix}.position_embeddings.weight")),
            norm: model.embedding_norm.then(|| LayerNorm::new(weights, &format!("{prefix}.LayerNorm"))),
            dropout: model.dropout,
            site: Family::Patches.first_site(),
        }
    }

    /// `patches` `[B, S - 1, D]` to `[B, S, H]`, the class token first.
    pub(super) fn forward(&self, patches: &Tensor, noise: Option<&Noise>) -> Tensor {
        let (batch, length) = (patches.size()[0], patches.size()[1] + 1);
        let class = self.class_token.unsqueeze(0).expand([batch, 1, -1], false);
        let x = Tensor::cat(&[class, self.projection.forward(patches)], 1) + self.positions.narrow(0, 0, length);
        let x = match &self.norm {
            Some(norm) => norm.forward(&x),
            None => x,
        };
        dropout(&x, noise.map(|noise| noise.at(self.site, self.dropout)))
    }
}

#[cfg(test)]
mod tests {
    use recipe::{Norm, Seeds, Size};
    use tch::{Device, Kind, no_grad};

    use super::*;
    use crate::bert::Head;

    /// Two patches of two values, width 3, computed by hand: x W^T + b + p for a patch, c + p for the class token.
    #[test]
    fn a_patch_is_projected_and_its_position_is_added() {
        let size = Size { blocks: 1, hidden: 3, heads: 1, intermediate: 4 };
        let model = Model { positions: 4, embedding_norm: false, ..Model::of_size(size, Norm::Pre) };
        let weights = Weights::new(&model, 0, Head::Patches { values: 2, classes: 2 }, &Seeds::default(), Device::Cpu);
        let set = |name: &str, values: &[f32]| {
            let mut target = weights.named().remove(&format!("vit.embeddings.{name}")).unwrap();
            no_grad(|| target.copy_(&Tensor::from_slice(values).view(&target.size()[..])));
        };
        set("cls_token", &[0.5, -1.0, 2.0]);
        set("patch_embeddings.projection.weight", &[1.0, 2.0, -1.0, 0.5, 0.0, 3.0]);
        set("patch_embeddings.projection.bias", &[0.1, 0.2, 0.3]);
        set("position_embeddings.weight", &[1.0, 1.0, 1.0, 10.0, 20.0, 30.0, -5.0, -6.0, -7.0, 9.0, 9.0, 9.0]);
        let patches = Tensor::from_slice(&[1.0f32, -1.0, 0.5, 0.25]).view([1, 2, 2]);
        let found = PatchEmbeddings::new(&weights, &model).forward(&patches, None);
        let expected = [
            [1.5, 0.0, 3.0],
            // (1 - 2, -1 - 0.5, -3) + bias + position
            [-1.0 + 0.1 + 10.0, -1.5 + 0.2 + 20.0, -3.0 + 0.3 + 30.0],
            // (0.5 + 0.5, -0.5 + 0.125, 0.75) + bias + position
            [1.0 + 0.1 - 5.0, -0.375 + 0.2 - 6.0, 0.75 + 0.3 - 7.0],
        ];
        let expected: Vec<f32> = expected.into_iter().flatten().collect();
        let off = (found.view([-1]) - Tensor::from_slice(&expected)).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{off}");
        assert_eq!(found.kind(), Kind::Float);
    }
}
