//! What identifies a device, and how much of its memory is free.

use super::child;
use super::name::{Api, Choice, DeviceName, TchDevice};
use super::{Adapter, AdapterKind, adapters};
use crate::machine::memory;
use burgess_base::{Error, Result};
use std::process::Command;
use std::time::Duration;

/// Versions of the libraries that compute, as in Cargo.lock.
pub(super) const VERSIONS: [(&str, &str); 5] =
    [("burn", "0.22.1"), ("cubecl", "0.11.3"), ("cubek", "0.3.1"), ("wgpu", "30.0.1"), ("tch", "0.22.0")];

/// Describes everything that may change the bits that a device computes, in one line: the backend and how it was
/// compiled, the adapter, its driver and the versions of the libraries. It is exactly `flex` for flex.
///
/// # Errors
/// The name is invalid, there is no such device, or the drivers crash when they are asked.
pub fn fingerprint(name: &str) -> Result<String> {
    let version = |library: &str| {
        let found = VERSIONS.iter().find(|(name, _)| *name == library);
        found.map_or_else(String::new, |(name, version)| format!("{name} {version}"))
    };
    let settings = || {
        let onoff = |on: bool| if on { "on" } else { "off" };
        let (fusion, autotune) = (onoff(cfg!(feature = "fusion")), onoff(cfg!(feature = "autotune")));
        let versions = ["burn", "cubecl", "cubek"].map(version).join("; ");
        format!("fusion {fusion}; autotune {autotune}; {versions}")
    };
    Ok(match DeviceName::parse(name)? {
        DeviceName::Flex => "flex".to_string(),
        DeviceName::Tch(TchDevice::Cpu) => format!("tch cpu; {}; {}", version("burn"), version("tch")),
        DeviceName::Tch(TchDevice::Mps) => format!("tch mps; {}; {}", version("burn"), version("tch")),
        DeviceName::Tch(TchDevice::Cuda(i)) => {
            format!("tch cuda; {}; {}; {}", nvidia(i), version("burn"), version("tch"))
        }
        DeviceName::Cuda(i) => format!("cuda; {}; {}", nvidia(i), settings()),
        DeviceName::Wgpu { api, choice } => {
            let adapter = adapter(name, api, choice)?;
            format!(
                "wgpu {}; {}; {}; {}; {}",
                language(&adapter),
                adapter.api,
                describe(&adapter),
                settings(),
                version("wgpu")
            )
        }
    })
}

/// Language to which kernels are compiled for an adapter in this binary.
fn language(adapter: &Adapter) -> &'static str {
    if cfg!(feature = "spirv") && adapter.api == "vulkan" { "SPIR-V" } else { "WGSL" }
}

/// Name, PCI numbers and driver of an adapter. Two equal cards of a machine have the same description.
fn describe(adapter: &Adapter) -> String {
    let Adapter { name, vendor, device, driver, driver_version, .. } = adapter;
    format!("{name} [{vendor:04x}:{device:04x}]; driver {driver} {driver_version}")
}

/// The adapter that a name means.
fn adapter(name: &str, api: Api, choice: Choice) -> Result<Adapter> {
    let found = adapters()?;
    let count = found.iter().filter(|a| a.index_for(api).is_some()).count();
    let meant = found.into_iter().find(|a| a.is_meant(api, choice));
    meant.ok_or_else(|| match (count, choice) {
        (0, _) => Error::failed(format!("`{name}`: no adapter was found"))
            .hint("install the GPU's driver with its Vulkan part, or a software driver (Debian: mesa-vulkan-drivers)"),
        (_, Choice::Software) => Error::usage(format!("`{name}`: none of the {count} adapters is a software adapter"))
            .hint("`burgess doctor` lists the adapters"),
        _ => Error::usage(format!("there is no `{name}`: the number of adapters is {count}, counted from 0"))
            .hint("`burgess doctor` lists the adapters with their names"),
    })
}

/// Free memory of a device in bytes: of the machine for CPUs, software adapters and GPUs without memory of their own;
/// `None` if the driver does not report it, or there is no such device.
pub fn free_memory(name: &str) -> Option<u64> {
    match DeviceName::parse(name).ok()? {
        DeviceName::Flex | DeviceName::Tch(TchDevice::Cpu | TchDevice::Mps) => memory::available(),
        DeviceName::Tch(TchDevice::Cuda(i)) | DeviceName::Cuda(i) => nvidia_free(&visible(i)?),
        DeviceName::Wgpu { api, choice } => {
            let adapter = adapter(name, api, choice).ok()?;
            match adapter.kind {
                AdapterKind::Cpu | AdapterKind::Integrated => memory::available(),
                _ if adapter.pci.is_empty() => None,
                _ => amd_free(&adapter.pci).or_else(|| nvidia_free(&adapter.pci)),
            }
        }
    }
}

/// Free memory of an AMD card at a PCI address, from Linux.
fn amd_free(pci: &str) -> Option<u64> {
    let read = |file: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/sys/bus/pci/devices/{pci}/{file}")).ok()?.trim().parse().ok()
    };
    read("mem_info_vram_total")?.checked_sub(read("mem_info_vram_used")?)
}

/// Free memory of an NVIDIA card: an index, a UUID or a PCI address of `nvidia-smi`.
fn nvidia_free(card: &str) -> Option<u64> {
    nvidia_smi(&["--query-gpu=memory.free", "-i", card])?.first()?.parse::<u64>().ok().map(|mib| mib << 20)
}

/// Name and driver of the NVIDIA card with an index among those that are visible to CUDA.
fn nvidia(index: usize) -> String {
    let asked = visible(index).and_then(|card| nvidia_smi(&["--query-gpu=name,driver_version", "-i", &card]));
    if let Some(line) = asked.and_then(|lines| lines.first().cloned()) {
        return line.replacen(", ", "; driver nvidia ", 1);
    }
    let driver = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    match driver.lines().next() {
        Some(line) => format!("NVIDIA GPU {index}; driver {}", line.split_whitespace().collect::<Vec<_>>().join(" ")),
        None => format!("NVIDIA GPU {index}; driver not known"),
    }
}

/// Number of NVIDIA cards that are visible to CUDA.
pub fn cuda_count() -> Result<usize> {
    if let Some(visible) = visible_list() {
        return Ok(visible.len());
    }
    let listed = nvidia_smi(&["--query-gpu=index"]).ok_or_else(|| {
        Error::failed("the number of NVIDIA GPUs is not known: `nvidia-smi` is not on PATH or fails")
            .hint("name the devices, as in cuda:0,cuda:1, or set CUDA_VISIBLE_DEVICES=0,1")
    })?;
    Ok(listed.len())
}

/// The card that CUDA counts as this index, as `nvidia-smi` names it.
fn visible(index: usize) -> Option<String> {
    match visible_list() {
        Some(visible) => visible.get(index).cloned(),
        None => Some(index.to_string()),
    }
}

/// The cards in `CUDA_VISIBLE_DEVICES`; `None` if it is not set. CUDA ignores what follows an invalid entry.
fn visible_list() -> Option<Vec<String>> {
    let text = std::env::var("CUDA_VISIBLE_DEVICES").ok()?;
    let valid = |part: &&str| !part.is_empty() && !part.starts_with('-');
    Some(text.split(',').map(str::trim).take_while(valid).map(String::from).collect())
}

/// Lines of a query of `nvidia-smi`; `None` if there is no such program or it fails.
fn nvidia_smi(arguments: &[&str]) -> Option<Vec<String>> {
    let mut command = Command::new("nvidia-smi");
    command.args(arguments).arg("--format=csv,noheader,nounits");
    let answer = child::output(command, Duration::from_secs(20)).ok()?;
    let text = String::from_utf8(answer).ok()?;
    Some(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::Context;

    #[test]
    fn versions_are_those_that_are_compiled_in() -> Result<()> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lock = std::fs::read_to_string(file).context("reading Cargo.lock")?;
        for (library, version) in VERSIONS {
            let entry = format!("name = \"{library}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&entry), "Cargo.lock has another version of {library} than {version}");
        }
        Ok(())
    }
}
