//! Where the model is computed.

use burn::tensor::Device;
use smallvit_kernels::matrix::Precision;

use crate::error::{Error, Result};

/// Refuses a precision that this processor, or this device, does not compute in.
pub fn check_precision(precision: Precision, device: &Device) -> Result<()> {
    if precision == Precision::F32 {
        return Ok(());
    }
    let refuse = |problem: &str, remedy: &str| {
        let problem = problem.to_owned();
        Err(Error::recipe("train.precision", problem, remedy))
    };
    if *device != cpu() {
        return refuse(
            "bfloat16 products are computed on the CPU alone",
            "choose the device cpu, or f32",
        );
    }
    let (lacks, emulated) = match precision {
        _ if precision.available() => return Ok(()),
        Precision::Bf16Amx => (
            "no matrix unit for bfloat16 (AMX), or the system keeps it back",
            Precision::Bf16AmxEmulated,
        ),
        _ => (
            "no instruction for bfloat16 (AVX-512 BF16)",
            Precision::Bf16Emulated,
        ),
    };
    refuse(
        &format!("this processor has {lacks}"),
        &format!("choose f32, or {emulated}, which computes the same bits, slowly"),
    )
}

/// The device of this name: `cpu`, or, where the program was built for them, `gpu` (the first
/// with Vulkan, Metal or DirectX), `gpu:1` (the second), `cuda`, `cuda:1`.
pub fn open(name: &str) -> Result<Device> {
    let (kind, number) = name.split_once(':').unwrap_or((name, "0"));
    let refuse = |problem: String, remedy: &str| Err(Error::recipe("device", problem, remedy));
    let Ok(number) = number.parse::<usize>() else {
        let problem = format!("`{name}` does not end in a number");
        return refuse(problem, "write for example gpu:1");
    };
    let found = match kind {
        "cpu" if number == 0 => return Ok(cpu()),
        "gpu" => gpus(),
        "cuda" => cudas(),
        _ => {
            let problem = format!("there is no device `{name}`");
            return refuse(problem, "choose cpu, gpu or gpu:N");
        }
    };
    let Some(found) = found else {
        let problem = format!("this build is without {kind}");
        let remedy = match kind {
            "gpu" => "build it with the feature `wgpu`",
            _ => "build it with the feature `cuda`",
        };
        return refuse(problem, remedy);
    };
    match found.get(number) {
        Some(device) => Ok(device.clone()),
        None if found.is_empty() => refuse(
            format!("no {kind} was found"),
            "check that its driver is installed (for Vulkan: vulkaninfo), or choose cpu",
        ),
        None => refuse(
            format!("there is no {name}, only {} of them", found.len()),
            "count from 0",
        ),
    }
}

/// The processor, by Burn's Flex backend and this project's kernels.
pub fn cpu() -> Device {
    Device::flex()
}

#[cfg(feature = "wgpu")]
fn gpus() -> Option<Vec<Device>> {
    use burn::tensor::DeviceType;
    Some(Device::enumerate(DeviceType::Wgpu).into_vec())
}

#[cfg(not(feature = "wgpu"))]
fn gpus() -> Option<Vec<Device>> {
    None
}

#[cfg(feature = "cuda")]
fn cudas() -> Option<Vec<Device>> {
    use burn::tensor::DeviceType;
    Some(Device::enumerate(DeviceType::Cuda).into_vec())
}

#[cfg(not(feature = "cuda"))]
fn cudas() -> Option<Vec<Device>> {
    None
}

/// The processor's name, where the system tells: on Linux.
pub fn processor() -> Option<String> {
    let table = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = table.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_or_refused_with_a_remedy() {
        assert_eq!(open("cpu").unwrap(), Device::flex());
        for (name, part) in [
            ("tpu", "choose cpu"),
            ("gpu:x", "gpu:1"),
            ("cpu:1", "choose cpu"),
        ] {
            let error = open(name).unwrap_err();
            assert!(error.remedy().contains(part), "{name}: {}", error.remedy());
        }
        #[cfg(not(feature = "wgpu"))]
        assert!(open("gpu").unwrap_err().remedy().contains("feature `wgpu`"));
    }
}
