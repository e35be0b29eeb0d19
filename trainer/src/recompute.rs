//! Activation recomputation (Chen et al. 2016): a sublayer's intermediate values are made again in the backward pass
//! instead of kept from the forward pass.
//!
//! What is kept of a sublayer is its input. Since dropout is drawn from (seed, step, site), the second pass is the first
//! one again, bit for bit; and since a closed sublayer records nothing, layer drop saves both.

use tch::{Kind, Tensor, no_grad};

use crate::bert::Weights;

/// How a step's sublayers are to be differentiated, in forward order. Empty where everything stands in one graph.
#[derive(Default)]
pub struct Tape {
    pieces: Vec<Piece>,
}

/// A part of the forward pass that is differentiated by itself.
struct Piece {
    /// Where the graph of what follows ends: the piece's output as a leaf.
    output: Tensor,
    how: How,
}

enum How {
    /// The output with the graph that leads to it.
    Kept(Tensor),
    /// From the leaf `input`, with the weights of a group.
    Again { input: Tensor, group: usize, run: Box<dyn Fn(&Tensor) -> Tensor> },
}

impl Tape {
    /// Cuts the graph behind `x`: what is made of the result is differentiated first, then `x`.
    pub fn cut(&mut self, x: Tensor) -> Tensor {
        self.push(x.detach(), How::Kept(x))
    }

    /// `run(x)` without keeping what it makes on the way. `x` comes from [`Tape::cut`] or from here; `run` has the weights
    /// of `group` and gives the same each time.
    pub fn again(&mut self, x: Tensor, group: usize, run: impl Fn(&Tensor) -> Tensor + 'static) -> Tensor {
        let output = no_grad(|| run(&x));
        self.push(output, How::Again { input: x, group, run: Box::new(run) })
    }

    fn push(&mut self, output: Tensor, how: How) -> Tensor {
        let output = output.set_requires_grad(true);
        self.pieces.push(Piece { output: output.shallow_clone(), how });
        output
    }

    /// Differentiates `loss`, a scalar, by the weights of the `open` groups (one flag per group) and by no others: closed
    /// sublayers have no gradient, not a zero one. Adds to what earlier passes of this step have found.
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
            match piece.how {
                How::Kept(y) => {
                    backward(&seed(&y), &[], weights, &groups);
                }
                How::Again { input, group, run } => {
                    let mut into = backward(&seed(&run(&input)), &[&input], weights, &[group]);
                    // The input is the output of the piece before.
                    gradients[index - 1] = into.remove(0);
                }
            }
        }
        // Not only those that the graph gave a part of back: a matrix's may have gone straight to its place.
        for group in weights.groups().iter().filter(|group| group.has_gradient()) {
            group.whole_gradient();
        }
    }
}

/// The gradients of the scalar `loss` by `leaves`; those by the weights of `groups` are added to what these have.
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

    /// Of the two products below, the graph gives no gradient back: both go straight to their place.
    #[test]
    fn a_group_of_which_only_a_product_was_used_is_updated() {
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
