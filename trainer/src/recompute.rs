//! Activation recomputation (Chen et al. 2016): a sublayer's intermediate values are computed again in the backward
//! pass instead of being kept from the forward pass.
//!
//! Only the input of a sublayer is kept. Dropout is drawn from (seed, step, site), so the second pass equals the first
//! bit for bit. A closed sublayer records nothing, so layer drop saves its memory and its recomputation.

use tch::{Kind, Tensor, no_grad};

use crate::bert::Weights;

/// The pieces of a forward pass that are differentiated one by one, in forward order. Empty if one graph holds
/// everything.
#[derive(Default)]
pub struct Tape {
    pieces: Vec<Piece>,
}

struct Piece {
    /// The piece's output as a leaf, at which the graph of the next piece ends.
    output: Tensor,
    source: Source,
}

/// The source of a piece's graph.
enum Source {
    /// The output with its graph is kept.
    Kept(Tensor),
    /// `run` computes the output again from the leaf `input`, with the weights of a group.
    Recomputed { input: Tensor, group: usize, run: Box<dyn Fn(&Tensor) -> Tensor> },
}

impl Tape {
    /// Cuts the graph after `x`: whatever is computed from the result is differentiated first, and `x` afterwards.
    pub fn cut(&mut self, x: Tensor) -> Tensor {
        self.push(x.detach(), Source::Kept(x))
    }

    /// `run(x)`, whose intermediate values are not kept. `x` comes from [`Tape::cut`] or from here; `run` uses the
    /// weights of `group` only, and returns the same each time.
    pub fn recompute(&mut self, x: Tensor, group: usize, run: impl Fn(&Tensor) -> Tensor + 'static) -> Tensor {
        let output = no_grad(|| run(&x));
        self.push(output, Source::Recomputed { input: x, group, run: Box::new(run) })
    }

    fn push(&mut self, output: Tensor, source: Source) -> Tensor {
        let output = output.set_requires_grad(true);
        self.pieces.push(Piece { output: output.shallow_clone(), source });
        output
    }

    /// Differentiates `loss`, a scalar, by the weights of the `open` groups (one flag per group) only: a closed
    /// sublayer has no gradient, rather than a gradient of zero. Adds to the gradients of earlier micro-batches of this
    /// step.
    pub fn differentiate(self, weights: &Weights, loss: &Tensor, open: &[bool]) {
        let groups: Vec<usize> = (0..open.len()).filter(|&group| open[group]).collect();
        let outputs: Vec<&Tensor> = self.pieces.iter().map(|piece| &piece.output).collect();
        let mut gradients = backward(loss, &outputs, weights, &groups);
        for (index, piece) in self.pieces.into_iter().enumerate().rev() {
            let gradient = gradients.swap_remove(index);
            if !gradient.defined() {
                continue;
            }
            // The sum of y * dy has the gradient dy by y.
            let seed = |y: &Tensor| (y * &gradient).sum(Kind::Float);
            match piece.source {
                Source::Kept(y) => {
                    backward(&seed(&y), &[], weights, &groups);
                }
                Source::Recomputed { input, group, run } => {
                    let mut into = backward(&seed(&run(&input)), &[&input], weights, &[group]);
                    // The input is the output of the piece before.
                    gradients[index - 1] = into.remove(0);
                }
            }
        }
        // Groups for which the graph returned nothing are included: operators write a matrix's gradient straight to its
        // place.
        for group in weights.groups().iter().filter(|group| group.has_gradient()) {
            group.whole_gradient();
        }
    }
}

/// Returns the gradients of the scalar `loss` by `leaves`, and adds its gradients by the weights of `groups` to theirs.
fn backward(loss: &Tensor, leaves: &[&Tensor], weights: &Weights, groups: &[usize]) -> Vec<Tensor> {
    let of_groups = groups.iter().flat_map(|&group| weights.groups()[group].leaves());
    let targets: Vec<&Tensor> = leaves.iter().copied().chain(of_groups).collect();
    let mut gradients = Tensor::run_backward(&[loss], &targets, false, false);
    let mut rest = gradients.split_off(leaves.len()).into_iter();
    for group in groups.iter().map(|&group| &weights.groups()[group]) {
        group.add_gradients(rest.by_ref().take(group.leaves().count()));
    }
    gradients
}

#[cfg(test)]
mod tests {
    use recipe::{Model, Norm, Seeds, Size};
    use tch::Device;

    use super::*;
    use crate::bert::TextHead;
    use crate::bert::weights::Group;
    use crate::kernel;
    use crate::optimizer::Optimizer;

    /// The graph returns no gradient for the two products below: both are written straight to their place.
    #[test]
    fn a_group_of_which_only_one_matrix_was_used_is_updated() {
        let model = Model::of_size(Size { blocks: 2, hidden: 6, heads: 2, intermediate: 10 }, Norm::Pre);
        let mut weights = Weights::new(&model, 20, TextHead::MLM, &Seeds::default(), Device::Cpu);
        let name = |block: u32| format!("bert.encoder.layer.{block}.intermediate.dense.weight");
        let x = Tensor::randn([5, 6], (Kind::Float, Device::Cpu));
        let loss = kernel::multiply(&x, &weights.matrix(&name(0))) + kernel::multiply(&x, &weights.matrix(&name(1)));
        // The second block is closed.
        let open = [true, true, true, false, false];
        Tape::default().differentiate(&weights, &loss.sum(Kind::Float), &open);
        let found: Vec<bool> = weights.groups().iter().map(Group::has_gradient).collect();
        assert_eq!(found, [false, false, true, false, false]);
        let group = &weights.groups()[2];
        for (part, gradient) in group.named(group.gradient()) {
            let expected = if part == name(0) { x.sum_dim_intlist(0, true, Kind::Float) } else { Tensor::from(0.0f32) };
            let error = (gradient - expected).abs().max().double_value(&[]);
            assert!(error < 1e-5, "{part}: off by {error}");
        }
        let before: Vec<Tensor> = weights.groups().iter().map(|group| group.buffer().copy()).collect();
        let mut optimizer = Optimizer::new(recipe::Optimizer::default(), &weights);
        let norm = optimizer.clip(&weights).double_value(&[]);
        assert!((norm - weights.groups()[2].gradient().norm().double_value(&[])).abs() < 1e-5 * norm);
        optimizer.update(&mut weights, 0.1);
        let moved = |(group, before): (&Group, &Tensor)| group.buffer() != before;
        let moved: Vec<bool> = weights.groups().iter().zip(&before).map(moved).collect();
        assert_eq!(moved, found);
        assert!(!weights.groups().iter().any(Group::has_gradient), "the update ends the step");
    }
}
