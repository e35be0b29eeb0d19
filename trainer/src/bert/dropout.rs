//! Dropout as an operation of its own. In the sublayers it is part of a fused operator.

use tch::{Kind, Tensor};

use crate::kernel::{self, Dropout};

/// Keeps each element of the float32 `x` with probability 1 - rate and divides it by that; without `dropout`, keeps
/// all.
pub(super) fn dropout(x: &Tensor, dropout: Option<Dropout>) -> Tensor {
    let Some(dropout) = dropout else { return x.shallow_clone() };
    let width = x.size().last().copied().unwrap_or(1);
    let none = Tensor::zeros([width], (Kind::Float, x.device()));
    kernel::drop(x, &none, &x.zeros_like(), dropout, 1.0)
}
