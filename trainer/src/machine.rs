//! Reads the hardware of this machine from `/proc` and `/sys` (Linux).

use std::fs;

/// Model of the processor.
pub fn cpu_model() -> Option<String> {
    field(&fs::read_to_string("/proc/cpuinfo").ok()?, "model name")
}

/// Model of the GPU with that number. The driver lists its GPUs by PCI address, which is the order of
/// `CUDA_DEVICE_ORDER=PCI_BUS_ID`; on a machine whose GPUs are all of one model, the order does not matter.
pub fn gpu_model(index: usize) -> Option<String> {
    let mut folders: Vec<_> = fs::read_dir("/proc/driver/nvidia/gpus").ok()?.flatten().map(|e| e.path()).collect();
    folders.sort();
    field(&fs::read_to_string(folders.get(index)?.join("information")).ok()?, "Model")
}

/// Bytes of main memory that this process may still use: what the system has available, and at most what the control
/// group's limit leaves. None if neither is known.
pub fn available_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable"));
    let kibibytes = meminfo.and_then(|value| value.split(' ').next()?.parse::<u64>().ok());
    let number = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    let group = number("memory.max").zip(number("memory.current")).map(|(limit, used)| limit.saturating_sub(used));
    kibibytes.map(|kibibytes| kibibytes * 1024).into_iter().chain(group).min()
}

/// The value of the first line `name: value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().into())
}
