//! The device that holds the tensors, and everything about it that a result can depend on.

use std::num::NonZero;
use std::str::FromStr;
use std::thread::available_parallelism;

use tch::kind::Element;
use tch::{Cuda, Device, Tensor};

use crate::failure::TrainerError;
use crate::machine;

/// The libtorch that this program was built for; tch refuses to build against any other.
const LIBTORCH_VERSION: &str = env!("LAMINA_LIBTORCH_VERSION");

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The first GPU, or the CPU if there is none.
    Auto,
    Cpu,
    Cuda(usize),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "not a device: use auto, cpu or cuda:N".into()),
        }
    }
}

impl Choice {
    /// # Errors
    /// `Usage` if there is no such GPU.
    pub fn device(self) -> Result<Device, TrainerError> {
        let gpus = if Cuda::is_available() { Cuda::device_count() as usize } else { 0 };
        match self {
            Self::Auto if gpus > 0 => Ok(Device::Cuda(0)),
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) if index < gpus => Ok(Device::Cuda(index)),
            Self::Cuda(index) => Err(TrainerError::Usage(format!(
                "--device cuda:{index}: this machine has {gpus} GPUs that libtorch can use"
            ))),
        }
    }
}

/// Makes libtorch use `threads` threads (by default all that this process may use), and returns their number. A result
/// depends on it, because the order of summation does.
pub fn pin_threads(threads: Option<NonZero<u32>>) -> u32 {
    let threads = threads.map_or_else(|| available_parallelism().map_or(1, |n| n.get() as u32), NonZero::get);
    tch::set_num_threads(threads as i32);
    tch::set_num_interop_threads(1);
    threads
}

/// `values` as a tensor on `device`. The host does not wait for the work that a GPU still has to do.
pub(crate) fn upload<T: Element>(values: &[T], device: Device) -> Tensor {
    Tensor::from_slice(values).to_device_(device, T::KIND, true, false)
}

/// Replaces the function of the same name in the MKL inside libtorch. That one returns 0 on a processor that is not
/// Intel's, and MKL then uses kernels without AVX-512, at a third of the speed. With this answer, MKL decides by the
/// processor's features alone. The build script makes every binary export this function.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the name must be the C one")]
pub extern "C" fn mkl_serv_intel_cpu_true() -> i32 {
    1
}

/// Describes `device` for the `started` event.
pub fn description(device: Device, threads: u32) -> recipe::event::Device {
    let (name, model) = match device {
        Device::Cuda(index) => (format!("cuda:{index}"), machine::gpu_model(index)),
        _ => ("cpu".to_owned(), machine::cpu_model()),
    };
    recipe::event::Device {
        name,
        model: model.unwrap_or_else(|| "unknown".to_owned()),
        threads,
        libtorch: LIBTORCH_VERSION.to_owned(),
        trainer: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_parsed_or_refused() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("cuda:3".parse(), Ok(Choice::Cuda(3)));
        for wrong in ["gpu", "cuda:", "cuda:-1", ""] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_error_names_a_gpu_that_does_not_exist() {
        let error = Choice::Cuda(99).device().unwrap_err().to_string();
        assert!(error.contains("cuda:99"), "{error}");
    }
}
