//! Measures the duration of work on a device.

use std::time::Instant;

use tch::{Cuda, Device};

/// Runs from [`Stopwatch::start`] on. A GPU works asynchronously, so starting and reading both wait until it is done.
#[derive(Debug)]
pub struct Stopwatch {
    device: Device,
    started: Instant,
}

impl Stopwatch {
    pub fn start(device: Device) -> Self {
        wait_for(device);
        Self { device, started: Instant::now() }
    }

    pub fn seconds(&self) -> f64 {
        wait_for(self.device);
        self.started.elapsed().as_secs_f64()
    }
}

fn wait_for(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}
