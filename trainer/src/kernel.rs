//! Fused operators, differentiable by libtorch. `kernels/README.md` describes their C++ side.
//!
//! On a CPU the operators run in kernels of this crate, built for several instruction sets; on other devices they call
//! libtorch's operators, which compute the same. Activations are float32 or bfloat16. Sums over many elements
//! (statistics, softmax, losses, gradients of vectors) and the values that pass from sublayer to sublayer are float32.
//!
//! Like the operators of `tch`, these panic with libtorch's message when libtorch refuses the arguments.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::offset_of;
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
            reason = "pointers are to live tensors and structs of kernels/border.h; the shim throws and keeps nothing"
        )]
        unsafe {
            $call
        }
    }};
}

#[expect(unsafe_code, reason = "these are the functions of kernels/shim.cpp and kernels/memory.cpp")]
unsafe extern "C" {
    fn lamina_free(message: Message);
    fn lamina_kernels() -> *const c_char;
    fn lamina_choose(name: *const c_char) -> bool;
    fn lamina_replace(name: *const c_char) -> bool;
    fn lamina_keep_memory();
    fn lamina_meter_start(cuda: bool);
    fn lamina_meter_stop(peak: &mut i64, mean: &mut f64) -> Message;
    fn lamina_kept(dropout: &Dropout, rows: i64, columns: i64, out: *mut *mut c_void) -> Message;
    fn lamina_norm(x: Raw, weight: Raw, bias: Raw, epsilon: f64, half: bool, out: *mut *mut c_void) -> Message;
    fn lamina_multiply(x: Raw, weight: &MatrixView, out: *mut *mut c_void) -> Message;
    fn lamina_embed(ids: Raw, weight: &MatrixView, padding: i64, out: *mut *mut c_void) -> Message;
    fn lamina_gelu(x: Raw, bias: Raw, out: *mut *mut c_void) -> Message;
    fn lamina_drop(x: Raw, bias: Raw, residual: Raw, dropout: &Dropout, scale: f64, out: *mut *mut c_void) -> Message;
    fn lamina_attention(
        qkv: Raw,
        bias: Raw,
        heads: i64,
        tokens: Raw,
        causal: bool,
        dropout: &Dropout,
        out: *mut *mut c_void,
    ) -> Message;
    fn lamina_likelihood(
        x: Raw,
        weight: &MatrixView,
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

/// The dropout of one micro-batch. Every draw is a function of (seed, step, micro-batch, site, element): nothing is
/// stored for the backward pass, and a closed sublayer does not change the draws of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    words: [u32; 4],
}

impl Noise {
    /// `seed` is the dropout seed of the trial.
    pub fn new(seed: u64, step: u64, micro_batch: u32) -> Self {
        let mut words = generator(seed, Purpose::Dropout, step, micro_batch.into());
        Self { words: [(); 4].map(|()| words.next_u32()) }
    }

    /// Dropout at one site of the model. The draws of two sites are independent.
    pub fn at(&self, site: u32, rate: f64) -> Dropout {
        Dropout { words: self.words, site, rate }
    }
}

/// Dropout at one site in one micro-batch: each element is kept with probability 1 - rate, and then divided by that.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Dropout {
    words: [u32; 4],
    site: u32,
    /// The kernels round it to 1/65536.
    rate: f64,
}

impl Dropout {
    pub const NONE: Self = Self { words: [0; 4], site: 0, rate: 0.0 };

    /// `[rows, columns]`: 1 where an element is kept, 0 where it is dropped.
    pub fn kept(&self, rows: i64, columns: i64) -> Tensor {
        made(|out| ffi!(lamina_kept(self, rows, columns, out)))
    }
}

/// LayerNorm of the float32 `x` `[.., H]`, in bfloat16 if `half`; and `x` again, for the residual connection. If the
/// residual connection uses this second output, one backward pass computes both gradients of `x`.
pub fn norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64, half: bool) -> (Tensor, Tensor) {
    let mut out = [null_mut(); 2];
    checked(ffi!(lamina_norm(raw(x), raw(weight), raw(bias), epsilon, half, out.as_mut_ptr())));
    let [normed, residual] = out.map(owned);
    (normed, residual)
}

/// A weight matrix and the tensors that operators need beside its values.
#[derive(Debug)]
pub struct Matrix {
    /// A leaf of the graph.
    pub value: Tensor,
    /// The values in bfloat16, which products of bfloat16 activations need.
    pub half: Option<Tensor>,
    /// The place for its gradient. Without one, the gradient goes back to the graph.
    pub sink: Option<Sink>,
}

/// A buffer in which backward passes add up the gradient of a matrix. An operator that runs in libtorch does not use
/// it: its gradient goes back to the graph.
#[derive(Debug)]
pub struct Sink {
    /// Float32, with the shape of the matrix.
    pub gradient: Tensor,
    /// `[1]`, uint8, on the CPU: 1 once the buffer holds a gradient. Whoever takes the gradient out clears it.
    pub written: Tensor,
}

/// `x W^T`: `[.., in]` to `[.., out]`, in the type of `x`.
pub fn multiply(x: &Tensor, weight: &Matrix) -> Tensor {
    made(|out| ffi!(lamina_multiply(raw(x), &weight.view(), out)))
}

/// The rows of `weight` at `ids`, int64 of any shape: `[.., n]`, float32. The row `padding` gets no gradient; -1 for
/// none.
pub fn embed(ids: &Tensor, weight: &Matrix, padding: i64) -> Tensor {
    made(|out| ffi!(lamina_embed(raw(ids), &weight.view(), padding, out)))
}

/// `gelu(x + bias)`, exact and not by the tanh approximation, in the type of `x`.
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
    /// `[B, S]`, bool: false at padding. `None` if there is no padding.
    pub tokens: Option<&'a Tensor>,
    /// True if a token sees no later token.
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

/// `scale` times the summed negative log likelihood of `labels` `[M]`, int64, under `softmax(x W^T + bias)`: `x` `[M,
/// H]`, `weight` `[V, H]`. On a CPU, the logits of at most 1024 rows exist at a time.
pub fn likelihood(x: &Tensor, weight: &Matrix, bias: &Tensor, labels: &Tensor, scale: f64) -> Tensor {
    made(|out| ffi!(lamina_likelihood(raw(x), &weight.view(), raw(bias), raw(labels), scale, out)))
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
    /// Number of updates of these moments, including this one.
    pub updates: i64,
}

/// The buffers that an update works on: `[n]`, float32, contiguous, on one device.
#[derive(Debug)]
pub struct Buffers<'a> {
    pub values: &'a mut Tensor,
    pub first: &'a mut Tensor,
    pub second: &'a mut Tensor,
    /// The update may overwrite it.
    pub gradient: &'a Tensor,
    /// In bfloat16. Gets the new values.
    pub half: Option<&'a mut Tensor>,
}

impl Adam {
    /// Updates the values by the gradient times `factor`, a scalar on the same device (`None` for 1). Weight decay
    /// applies to the first `decayed` elements.
    pub fn update(&self, buffers: Buffers<'_>, factor: Option<&Tensor>, decayed: i64) {
        let Buffers { values, first, second, gradient, half } = buffers;
        let (values, first, second, gradient) = (raw(values), raw(first), raw(second), raw(gradient));
        let (half, factor) = (raw_or_null(half.as_deref()), raw_or_null(factor));
        checked(ffi!(lamina_adam(self, factor, decayed, values, first, second, gradient, half)));
    }
}

/// The sum of the squares of a contiguous float32 tensor on a CPU.
pub fn square_sum(x: &Tensor) -> f64 {
    let mut sum = 0.0;
    checked(ffi!(lamina_square_sum(raw(x), &mut sum)));
    sum
}

/// Makes this process use the kernels of one instruction set (`portable`, `avx2`, `avx512`), libtorch's operators
/// (`libtorch`), or the best kernels of this processor (the empty name). Ends every [`replace`]. False if this
/// processor cannot run the kernels of that name; then nothing changes.
///
/// For tests and benchmarks. No operator may be running.
pub fn choose(name: &str) -> bool {
    CString::new(name).is_ok_and(|name| ffi!(lamina_choose(name.as_ptr())))
}

/// The operators that [`replace`] knows.
pub const OPERATORS: [&str; 9] =
    ["norm", "multiply", "embed", "gelu", "drop", "attention", "likelihood", "adam", "square_sum"];

/// Makes this process use libtorch's operators in place of one operator's kernels. False if there is no operator of
/// that name. For benchmarks, as [`choose`].
pub fn replace(operator: &str) -> bool {
    CString::new(operator).is_ok_and(|name| ffi!(lamina_replace(name.as_ptr())))
}

/// The kernels in use, by the name that [`choose`] takes, and the replaced operators: `avx512 without gelu`.
pub fn chosen() -> String {
    let name = ffi!(lamina_kernels());
    ffi!(CStr::from_ptr(name)).to_string_lossy().into_owned()
}

/// Keeps freed memory for the next step. By default it would go back to the system, which clears it again for each
/// step.
pub fn keep_memory() {
    ffi!(lamina_keep_memory());
}

/// Runs `work` and measures what libtorch allocates meanwhile on the CPU or the GPU, beyond what was allocated before.
///
/// # Panics
/// If `work` panics.
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

/// Memory of a piece of work, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metered {
    /// The highest value.
    pub peak: i64,
    /// The mean over time.
    pub mean: f64,
}

/// The tensors of a [`Matrix`], as they cross the border to C++. A null pointer stands for a tensor that does not
/// exist.
#[repr(C)]
struct MatrixView {
    value: Raw,
    half: Raw,
    gradient: Raw,
    written: Raw,
}

impl Matrix {
    fn view(&self) -> MatrixView {
        let of_sink = |tensor: fn(&Sink) -> &Tensor| raw_or_null(self.sink.as_ref().map(tensor));
        MatrixView {
            value: raw(&self.value),
            half: raw_or_null(self.half.as_ref()),
            gradient: of_sink(|sink| &sink.gradient),
            written: of_sink(|sink| &sink.written),
        }
    }
}

// kernels/border.h checks the same sizes and offsets.
const _: () = assert!(
    size_of::<MatrixView>() == 32
        && offset_of!(MatrixView, value) == 0
        && offset_of!(MatrixView, half) == 8
        && offset_of!(MatrixView, gradient) == 16
        && offset_of!(MatrixView, written) == 24
);
const _: () = assert!(
    size_of::<Dropout>() == 32
        && offset_of!(Dropout, words) == 0
        && offset_of!(Dropout, site) == 16
        && offset_of!(Dropout, rate) == 24
);
const _: () = assert!(
    size_of::<Adam>() == 48
        && offset_of!(Adam, rate) == 0
        && offset_of!(Adam, beta1) == 8
        && offset_of!(Adam, beta2) == 16
        && offset_of!(Adam, epsilon) == 24
        && offset_of!(Adam, weight_decay) == 32
        && offset_of!(Adam, updates) == 40
);

/// The answer of a call into the shim: null, or an error message that `lamina_free` frees.
type Message = *mut c_char;
/// A tensor that C++ only reads the handle of; possibly null.
type Raw = *const c_void;

/// The tensor that `call` writes to its argument.
fn made(call: impl FnOnce(*mut *mut c_void) -> Message) -> Tensor {
    let mut out = null_mut();
    checked(call(&mut out));
    owned(out)
}

/// Panics with the message, if there is one.
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
