//! Dropout where no other pass takes it along.

use tch::{Kind, Tensor};

use crate::kernel::{self, Dropout};

/// Each element of the float32 `x` is kept with probability 1 - rate and divided by it.
pub(super) fn dropout(x: &Tensor, dropout: Option<Dropout>) -> Tensor {
    let Some(dropout) = dropout else { return x.shallow_clone() };
    let width = x.size().last().copied().unwrap_or(1);
    let none = Tensor::zeros([width], (Kind::Float, x.device()));
    kernel::drop(x, &none, &x.zeros_like(), dropout, 1.0)
}
