//! Where the tensors live, and the facts about it that a result can depend on.

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
    /// The first GPU, or the CPU where there is none.
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
                .ok_or_else(|| "expected auto, cpu or cuda:N".into()),
        }
    }
}

impl Choice {
    /// # Errors
    /// When that GPU is not there.
    pub fn device(self) -> Result<Device, TrainerError> {
        let gpus = if Cuda::is_available() { Cuda::device_count() as usize } else { 0 };
        match self {
            Self::Auto if gpus > 0 => Ok(Device::Cuda(0)),
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) if index < gpus => Ok(Device::Cuda(index)),
            Self::Cuda(index) => {
                Err(TrainerError::Usage(format!("--device cuda:{index}: libtorch sees {gpus} GPUs on this machine")))
            }
        }
    }
}

/// Pins libtorch to so many threads (default: all that this process may use) and gives the number back. The order of
/// summation depends on it, so it is part of what a result depends on.
pub fn pin_threads(threads: Option<NonZero<u32>>) -> u32 {
    let threads = threads.map_or_else(|| available_parallelism().map_or(1, |n| n.get() as u32), NonZero::get);
    tch::set_num_threads(threads as i32);
    tch::set_num_interop_threads(1);
    threads
}

/// `values` as a tensor on `device`. The host does not wait for what a GPU still has to do.
pub(crate) fn upload<T: Element>(values: &[T], device: Device) -> Tensor {
    Tensor::from_slice(values).to_device_(device, T::KIND, true, false)
}

/// Stands in for the function of the same name in the MKL that is inside libtorch, which asks whether the processor is
/// Intel's before it looks at what the processor can do: on any other it takes kernels without AVX-512, at a third of the
/// speed. With this answer it goes by the features alone. The build script makes every binary export it.
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
    fn a_choice_is_read_as_it_is_written() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("cuda:3".parse(), Ok(Choice::Cuda(3)));
        for wrong in ["gpu", "cuda:", "cuda:-1", ""] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_named() {
        let error = Choice::Cuda(99).device().unwrap_err().to_string();
        assert!(error.contains("cuda:99"), "{error}");
    }
}
