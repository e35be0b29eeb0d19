//! Fused operators (`kernels/`), differentiable by libtorch.
//!
//! On a CPU they are own kernels, built for several instruction sets and chosen between at run time; on other devices,
//! libtorch's operators that compute the same. Activations are float32 or bfloat16; what is summed over many elements
//! (statistics, softmax, losses, gradients of vectors) and the stream between the sublayers are float32.
//!
//! Like tch's, these operators panic with libtorch's words when it refuses.

use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{null, null_mut};

use rand_chacha::rand_core::Rng;
use recipe::Purpose;
use recipe::seeds::generator;
use tch::Tensor;

/// A call into the shim.
macro_rules! ffi {
    ($call:expr) => {{
        #[expect(
            unsafe_code,
            reason = "the shim's pointers are live tensors and structs of its own layout; it throws nothing and keeps none"
        )]
        unsafe {
            $call
        }
    }};
}

#[expect(unsafe_code, reason = "the shim's functions, as kernels/shim.cpp declares them")]
unsafe extern "C" {
    fn lamina_free(message: Message);
    fn lamina_kernels() -> *const c_char;
    fn lamina_choose(name: *const c_char) -> bool;
    fn lamina_keep_memory();
    fn lamina_meter_start(cuda: bool);
    fn lamina_meter_stop(peak: &mut i64, mean: &mut f64) -> Message;
    fn lamina_kept(noise: &Dropout, rows: i64, columns: i64, out: *mut *mut c_void) -> Message;
    fn lamina_norm(x: Raw, weight: Raw, bias: Raw, epsilon: f64, half: bool, out: *mut *mut c_void) -> Message;
    fn lamina_multiply(x: Raw, weight: &RawMatrix, out: *mut *mut c_void) -> Message;
    fn lamina_embed(ids: Raw, weight: &RawMatrix, padding: i64, out: *mut *mut c_void) -> Message;
    fn lamina_gelu(x: Raw, bias: Raw, out: *mut *mut c_void) -> Message;
    fn lamina_drop(x: Raw, bias: Raw, residual: Raw, n: &Dropout, scale: f64, out: *mut *mut c_void) -> Message;
    fn lamina_attention(
        qkv: Raw,
        bias: Raw,
        heads: i64,
        tokens: Raw,
        causal: bool,
        noise: &Dropout,
        out: *mut *mut c_void,
    ) -> Message;
    fn lamina_likelihood(
        x: Raw,
        weight: &RawMatrix,
        bias: Raw,
        labels: Raw,
        scale: f64,
        out: *mut *mut c_void,
    ) -> Message;
    fn lamina_adam(
        rule: &Adam,
        factor: Raw,
        decayed: i64,
        values: Raw,
        first: Raw,
        second: Raw,
        gradient: Raw,
        half: Raw,
    ) -> Message;
    fn lamina_square_sum(x: Raw, out: &mut f64) -> Message;
}

/// What a step's dropout is drawn from: every draw is a function of (seed, step, micro-batch, site, element), so nothing
/// is stored for the backward pass and a closed sublayer shifts nobody's draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    words: [u32; 4],
}

impl Noise {
    /// `seed` is the trial's dropout seed.
    pub fn new(seed: u64, step: u64, micro_batch: u32) -> Self {
        let mut words = generator(seed, Purpose::Dropout, step, micro_batch.into());
        Self { words: [(); 4].map(|()| words.next_u32()) }
    }

    /// Dropout at one place of the model. The draws of two places are independent.
    pub fn at(&self, site: u32, rate: f64) -> Dropout {
        Dropout { words: self.words, site, rate }
    }
}

/// Dropout at one place in one step; each element is kept with probability 1 - rate and divided by it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Dropout {
    words: [u32; 4],
    site: u32,
    /// Rounded to 1/65536.
    rate: f64,
}

impl Dropout {
    pub const NONE: Self = Self { words: [0; 4], site: 0, rate: 0.0 };

    /// `[rows, columns]`: 1 where an element is kept, 0 where it is dropped.
    pub fn kept(&self, rows: i64, columns: i64) -> Tensor {
        made(|out| ffi!(lamina_kept(self, rows, columns, out)))
    }
}

/// LayerNorm of the float32 `x` `[.., H]`, in bfloat16 where `half`; and `x` again, for the branch that goes around: used
/// from here, both gradients come back in one pass.
pub fn norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64, half: bool) -> (Tensor, Tensor) {
    let mut out = [null_mut(); 2];
    checked(ffi!(lamina_norm(raw(x), raw(weight), raw(bias), epsilon, half, out.as_mut_ptr())));
    let [normed, through] = out.map(owned);
    (normed, through)
}

/// A matrix of weights, with what operators need beside its values.
#[derive(Debug)]
pub struct Matrix {
    /// A leaf of the graph.
    pub value: Tensor,
    /// The same in bfloat16, needed where activations are.
    pub half: Option<Tensor>,
    /// Where its gradient is added up; without one, the graph gives it back.
    pub sink: Option<Sink>,
}

/// A place for a gradient. Where the operator is libtorch's, the graph gives gradients back all the same.
#[derive(Debug)]
pub struct Sink {
    /// Float32, of the matrix's shape.
    pub gradient: Tensor,
    /// `[1]`, uint8, on the CPU: 1 once something stands there. Whoever takes the gradient out clears it.
    pub written: Tensor,
}

/// `x W^T`: `[.., in]` to `[.., out]`, in the type of `x`.
pub fn multiply(x: &Tensor, weight: &Matrix) -> Tensor {
    made(|out| ffi!(lamina_multiply(raw(x), &weight.raw(), out)))
}

/// The rows of `weight` at `ids`, int64 of any shape: `[.., n]`, float32. The row `padding` gets no gradient; -1 for none.
pub fn embed(ids: &Tensor, weight: &Matrix, padding: i64) -> Tensor {
    made(|out| ffi!(lamina_embed(raw(ids), &weight.raw(), padding, out)))
}

/// `gelu(x + bias)`, the exact one, in the type of `x`.
pub fn gelu(x: &Tensor, bias: &Tensor) -> Tensor {
    made(|out| ffi!(lamina_gelu(raw(x), raw(bias), out)))
}

/// `residual + scale dropout(x + bias)`, float32.
pub fn drop(x: &Tensor, bias: &Tensor, residual: &Tensor, dropout: Dropout, scale: f64) -> Tensor {
    made(|out| ffi!(lamina_drop(raw(x), raw(bias), raw(residual), &dropout, scale, out)))
}

/// `dropout(softmax(Q K^T / sqrt(D))) V`: `qkv` `[B, S, 3 A D]` without its `bias` `[3 A D]`, to `[B, S, A D]`.
#[derive(Debug)]
pub struct Attention<'a> {
    pub heads: i64,
    /// `[B, S]`, bool: false at padding.
    pub tokens: Option<&'a Tensor>,
    /// A token sees none that comes later.
    pub causal: bool,
    pub dropout: Dropout,
}

impl Attention<'_> {
    pub fn forward(&self, qkv: &Tensor, bias: &Tensor) -> Tensor {
        let Self { heads, tokens, causal, dropout } = self;
        let tokens = raw_or_null(*tokens);
        made(|out| ffi!(lamina_attention(raw(qkv), raw(bias), *heads, tokens, *causal, dropout, out)))
    }
}

/// `scale` times the summed negative log likelihood of `labels` `[M]`, int64, under `softmax(x W^T + bias)`: `x` `[M, H]`,
/// `weight` `[V, H]`. The logits are never all there, unless `M` is small.
pub fn likelihood(x: &Tensor, weight: &Matrix, bias: &Tensor, labels: &Tensor, scale: f64) -> Tensor {
    made(|out| ffi!(lamina_likelihood(raw(x), &weight.raw(), raw(bias), raw(labels), scale, out)))
}

/// One AdamW update (Loshchilov & Hutter 2019), with bias correction.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Adam {
    /// Learning rate.
    pub rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    /// Updates of these moments, this one among them.
    pub updates: i64,
}

/// Buffers that an update works on: `[n]`, float32, on one device.
#[derive(Debug)]
pub struct Buffers<'a> {
    pub values: &'a mut Tensor,
    pub first: &'a mut Tensor,
    pub second: &'a mut Tensor,
    /// What is left in it has no meaning.
    pub gradient: &'a Tensor,
    /// In bfloat16, what becomes of the values.
    pub half: Option<&'a mut Tensor>,
}

impl Adam {
    /// Moves the values by the gradient times `factor`, a scalar on the same device. The first `decayed` elements are
    /// decayed.
    pub fn update(&self, buffers: Buffers<'_>, factor: Option<&Tensor>, decayed: i64) {
        let Buffers { values, first, second, gradient, half } = buffers;
        let (values, first, second, gradient) = (raw(values), raw(first), raw(second), raw(gradient));
        let (half, factor) = (raw_or_null(half.as_deref()), raw_or_null(factor));
        checked(ffi!(lamina_adam(self, factor, decayed, values, first, second, gradient, half)));
    }
}

/// The sum of the squares of a float32 tensor on a CPU.
pub fn square_sum(x: &Tensor) -> f64 {
    let mut sum = 0.0;
    checked(ffi!(lamina_square_sum(raw(x), &mut sum)));
    sum
}

/// Has this process use the kernels of one instruction set (`portable`, `avx2`, `avx512`), libtorch's own operators
/// (`libtorch`), or what is best here (empty). False where this processor cannot run them. For tests: what is running must
/// end first.
pub fn choose(name: &str) -> bool {
    CString::new(name).is_ok_and(|name| ffi!(lamina_choose(name.as_ptr())))
}

/// The kernels in use, by the name that [`choose`] takes.
pub fn chosen() -> String {
    let name = ffi!(lamina_kernels());
    ffi!(CStr::from_ptr(name)).to_string_lossy().into_owned()
}

/// Keeps freed memory for the next step instead of giving it back to the system, which would have to clear it again.
pub fn keep_memory() {
    ffi!(lamina_keep_memory());
}

/// What `work` made libtorch's allocator hand out on a CPU or a GPU, beyond what it had before.
///
/// # Panics
/// As `work` does; the count is ended before.
pub fn metered<T>(cuda: bool, work: impl FnOnce() -> T) -> (T, Metered) {
    ffi!(lamina_meter_start(cuda));
    let done = catch_unwind(AssertUnwindSafe(work));
    let mut metered = Metered { peak: 0, mean: 0.0 };
    checked(ffi!(lamina_meter_stop(&mut metered.peak, &mut metered.mean)));
    match done {
        Ok(done) => (done, metered),
        Err(panic) => resume_unwind(panic),
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metered {
    /// The most at a time.
    pub peak: i64,
    /// The mean over time.
    pub mean: f64,
}

/// [`Matrix`] as it crosses the language border.
#[repr(C)]
struct RawMatrix {
    value: Raw,
    half: Raw,
    gradient: Raw,
    written: Raw,
}

impl Matrix {
    fn raw(&self) -> RawMatrix {
        let of_sink = |part: fn(&Sink) -> &Tensor| raw_or_null(self.sink.as_ref().map(part));
        RawMatrix {
            value: raw(&self.value),
            half: raw_or_null(self.half.as_ref()),
            gradient: of_sink(|sink| &sink.gradient),
            written: of_sink(|sink| &sink.written),
        }
    }
}

/// What a call of the shim has to say: null, or an error.
type Message = *mut c_char;
type Raw = *const c_void;

fn made(call: impl FnOnce(*mut *mut c_void) -> Message) -> Tensor {
    let mut out = null_mut();
    checked(call(&mut out));
    owned(out)
}

fn checked(message: Message) {
    if message.is_null() {
        return;
    }
    let text = ffi!(CStr::from_ptr(message)).to_string_lossy().into_owned();
    ffi!(lamina_free(message));
    panic!("{text}");
}

fn owned(tensor: *mut c_void) -> Tensor {
    ffi!(Tensor::from_ptr(tensor.cast()))
}

fn raw(tensor: &Tensor) -> Raw {
    tensor.as_ptr().cast()
}

fn raw_or_null(tensor: Option<&Tensor>) -> Raw {
    tensor.map_or(null(), raw)
}
