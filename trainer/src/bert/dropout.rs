//! Dropout and the branch scale, in one product.

use tch::Tensor;

/// `dropout(x) * scale`: each element kept with probability 1 - `rate` and divided by it, then scaled.
///
/// Draws from libtorch's generator of the device, which the loop reseeds at each step.
pub(super) fn dropout(x: Tensor, rate: f64, scale: f64, train: bool) -> Tensor {
    let x = if train && rate > 0.0 { x.dropout(rate, true) } else { x };
    if scale == 1.0 { x } else { x * scale }
}
