//! Reads the facts of this node: its name, and its slots with their devices, cores and memory.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;

use protocol::{NodeFacts, SlotFacts};

/// The facts of this node. `slots` is the number of slots to offer; the default is one for each accelerator, or one
/// with all cores if there is no accelerator.
pub(crate) fn discover(name: Option<String>, labels: BTreeMap<String, String>, slots: Option<u32>) -> NodeFacts {
    let cores = thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let gpus = visible_gpus(list_gpus(), visible.as_deref());
    let slots = if gpus.is_empty() {
        cpu_slots(&processor_model(), cores, memory_bytes(), slots.unwrap_or(1))
    } else {
        gpu_slots(&gpus, cores, slots)
    };
    NodeFacts { name: name.unwrap_or_else(host_name), labels, slots }
}

fn cpu_slots(model: &str, cores: u32, memory_bytes: u64, slots: u32) -> Vec<SlotFacts> {
    let slots = slots.clamp(1, cores);
    (0..slots)
        .map(|index| SlotFacts {
            index,
            device: "cpu".into(),
            model: model.to_owned(),
            // If the cores do not divide evenly, the first slots get one more.
            threads: cores / slots + u32::from(index < cores % slots),
            memory_bytes: memory_bytes / u64::from(slots),
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Gpu {
    uuid: String,
    model: String,
    memory_bytes: u64,
}

fn gpu_slots(gpus: &[Gpu], cores: u32, slots: Option<u32>) -> Vec<SlotFacts> {
    let count = u32::try_from(gpus.len()).unwrap_or(u32::MAX).min(slots.unwrap_or(u32::MAX)).max(1);
    (0..count)
        .zip(gpus)
        .map(|(index, gpu)| SlotFacts {
            index,
            device: format!("cuda:{index}"),
            model: gpu.model.clone(),
            threads: (cores / count).max(1),
            memory_bytes: gpu.memory_bytes,
        })
        .collect()
}

/// The machine's accelerators in the order of their bus; none if `nvidia-smi` is missing or fails.
fn list_gpus() -> Vec<Gpu> {
    let query = ["--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"];
    match Command::new("nvidia-smi").args(query).output() {
        Ok(output) if output.status.success() => parse_gpus(&String::from_utf8_lossy(&output.stdout)),
        Ok(output) => {
            tracing::warn!(status = %output.status, "nvidia-smi fails, so this node offers its processor only");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// Parses rows of uuid, name and MiB. Other rows (a warning, a broken device) are left out.
fn parse_gpus(text: &str) -> Vec<Gpu> {
    text.lines()
        .filter_map(|line| {
            let (uuid, rest) = line.split_once(',')?;
            let (model, mebibytes) = rest.rsplit_once(',')?;
            let memory_bytes = mebibytes.trim().parse::<u64>().ok()? << 20;
            Some(Gpu { uuid: uuid.trim().into(), model: model.trim().into(), memory_bytes })
        })
        .collect()
}

/// The accelerators that CUDA shows to a program, in CUDA's order. `variable` is the value of `CUDA_VISIBLE_DEVICES`: a
/// list of indices and of uuids or their beginnings. Like CUDA, this ignores everything from the first entry that names
/// no device.
fn visible_gpus(gpus: Vec<Gpu>, variable: Option<&str>) -> Vec<Gpu> {
    let Some(variable) = variable else { return gpus };
    let find = |entry: &str| match entry.parse::<usize>() {
        Ok(index) => gpus.get(index).cloned(),
        Err(_) => gpus.iter().find(|gpu| !entry.is_empty() && gpu.uuid.starts_with(entry)).cloned(),
    };
    variable.split(',').map_while(|entry| find(entry.trim())).collect()
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}

fn processor_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    row(&text, "model name").unwrap_or(std::env::consts::ARCH).to_owned()
}

/// The bytes of memory that may be used here: all of the machine's, or the limit of the control group if that is lower.
fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = row(&text, "MemTotal").and_then(|value| value.trim_end_matches("kB").trim().parse::<u64>().ok());
    let machine = kibibytes.unwrap_or(0) << 10;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    limit.map_or(machine, |limit: u64| limit.min(machine))
}

/// The value of the first `name : value` row.
fn row<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus() -> Vec<Gpu> {
        let text = "GPU-aaa1, NVIDIA A100, 40GB, 40960\nGPU-bbb2, NVIDIA H100 80GB HBM3, 81559\n";
        parse_gpus(text)
    }

    #[test]
    fn cores_are_divided_among_cpu_slots() {
        let threads = |cores, slots| -> Vec<_> {
            cpu_slots("x", cores, 7 << 30, slots).into_iter().map(|slot| slot.threads).collect()
        };
        assert_eq!(threads(7, 3), [3, 2, 2]);
        assert_eq!(threads(2, 1), [2]);
        assert_eq!(threads(2, 5), [1, 1], "each slot needs a core");
        assert_eq!(threads(2, 0), [2]);
    }

    #[test]
    fn gpus_are_parsed_and_other_rows_are_left_out() {
        assert_eq!(gpus()[0].model, "NVIDIA A100, 40GB");
        assert_eq!(
            gpus()[1],
            Gpu { uuid: "GPU-bbb2".into(), model: "NVIDIA H100 80GB HBM3".into(), memory_bytes: 81559 << 20 }
        );
        assert!(parse_gpus("Failed to initialize NVML: Driver/library version mismatch\n").is_empty());
        assert!(parse_gpus("GPU-ccc3, NVIDIA A100, [N/A]\n").is_empty());
    }

    #[test]
    fn gpu_slots_are_numbered_as_cuda_does() {
        let names = |variable| -> Vec<_> {
            let slots = gpu_slots(&visible_gpus(gpus(), variable), 8, None);
            slots.into_iter().map(|slot| (slot.device, slot.model, slot.threads)).collect()
        };
        let h100 = || "NVIDIA H100 80GB HBM3".to_owned();
        assert_eq!(names(None)[1], ("cuda:1".into(), h100(), 4));
        assert_eq!(names(Some("1")), [("cuda:0".into(), h100(), 8)]);
        assert_eq!(names(Some("GPU-bbb, 0"))[0], ("cuda:0".into(), h100(), 4));
        assert_eq!(visible_gpus(gpus(), Some("0,7,1")).len(), 1);
        assert!(visible_gpus(gpus(), Some("")).is_empty() && visible_gpus(gpus(), Some("-1")).is_empty());
    }

    #[test]
    fn this_machine_has_a_name_and_a_slot() {
        let facts = discover(None, BTreeMap::new(), None);
        assert!(!facts.name.is_empty() && !facts.slots.is_empty());
        assert!(facts.slots.iter().all(|slot| slot.threads > 0 && slot.memory_bytes > 0 && !slot.model.is_empty()));
    }
}
