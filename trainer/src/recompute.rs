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

    /// Differentiates `loss`, a scalar, by the weights of the `open` groups (one flag per group), and adds to the gradients
    /// that these have. True for each group that the loss depends on.
    pub(crate) fn differentiate(self, weights: &Weights, loss: &Tensor, open: &[bool]) -> Vec<bool> {
        let mut touched = vec![false; open.len()];
        let mut found = |group: usize, parts: Vec<Tensor>| {
            weights.groups()[group].add_gradients(parts);
            touched[group] = true;
        };
        let groups: Vec<usize> = (0..open.len()).filter(|&group| open[group]).collect();
        let outputs: Vec<&Tensor> = self.pieces.iter().map(|piece| &piece.output).collect();
        let mut gradients = backward(loss, &outputs, weights, &groups, &mut found);
        for (index, piece) in self.pieces.into_iter().enumerate().rev() {
            let gradient = gradients.swap_remove(index);
            if !gradient.defined() {
                continue;
            }
            // The sum of y * dy has the gradient dy by y.
            let seed = |y: &Tensor| (y * &gradient).sum(Kind::Float);
            match piece.how {
                How::Kept(y) => {
                    backward(&seed(&y), &[], weights, &groups, &mut found);
                }
                How::Again { input, group, run } => {
                    let mut into = backward(&seed(&run(&input)), &[&input], weights, &[group], &mut found);
                    // The input is the output of the piece before.
                    gradients[index - 1] = into.remove(0);
                }
            }
        }
        touched
    }
}

/// The gradients of the scalar `loss` by `leaves`; those by the weights go to `found`.
fn backward(
    loss: &Tensor,
    leaves: &[&Tensor],
    weights: &Weights,
    groups: &[usize],
    found: &mut impl FnMut(usize, Vec<Tensor>),
) -> Vec<Tensor> {
    let of_groups = groups.iter().flat_map(|&group| weights.groups()[group].leaves());
    let targets: Vec<&Tensor> = leaves.iter().copied().chain(of_groups).collect();
    let mut gradients = Tensor::run_backward(&[loss], &targets, false, false);
    let mut rest = gradients.split_off(leaves.len()).into_iter();
    for &group in groups {
        let parts: Vec<Tensor> = rest.by_ref().take(weights.groups()[group].leaves().count()).collect();
        if parts.iter().any(Tensor::defined) {
            found(group, parts);
        }
    }
    gradients
}
