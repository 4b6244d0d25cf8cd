//! Devices by name, such as `flex`, `wgpu`, `vulkan`, `tch`, `tch:cuda:0`, `cuda:0`.

use crate::machine::kernels;
use burgess_base::{Error, Result};
use burn::tensor::Device;

/// A library that computes on some kind of device.
pub struct Backend {
    /// Name of the backend, the first part of its devices' names.
    pub name: &'static str,
    /// Whether this binary contains the backend.
    pub compiled: bool,
    /// Hardware and library that compute.
    pub what: &'static str,
    /// Command that builds a binary with the backend.
    pub fix: &'static str,
}

/// All backends, in the order in which `burgess doctor` lists them.
pub const BACKENDS: &[Backend] = &[
    Backend { name: "flex", compiled: true, what: "CPU, pure Rust (default)", fix: "" },
    Backend {
        name: "tch",
        compiled: cfg!(feature = "tch"),
        what: "LibTorch: CPU, CUDA, MPS",
        fix: "cargo build --release --features tch (needs libtorch 2.9.0; see README)",
    },
    Backend {
        name: "wgpu",
        compiled: cfg!(feature = "wgpu"),
        what: "any GPU through WebGPU, Metal, DirectX or Vulkan",
        fix: "cargo build --release --features wgpu",
    },
    Backend {
        name: "vulkan",
        compiled: cfg!(feature = "vulkan"),
        what: "any GPU through Vulkan (SPIR-V)",
        fix: "cargo build --release --features vulkan",
    },
    Backend {
        name: "cuda",
        compiled: cfg!(feature = "cuda"),
        what: "NVIDIA GPUs",
        fix: "cargo build --release --features cuda (needs the CUDA toolkit)",
    },
];

/// Opens the device with this name.
///
/// # Errors
/// The name or index is invalid, this binary does not contain the backend, or the cache directory cannot be created.
pub fn parse(name: &str) -> Result<Device> {
    let mut parts = name.split(':');
    let backend = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let known = BACKENDS.iter().find(|b| b.name == backend).ok_or_else(|| {
        let names: Vec<&str> = BACKENDS.iter().map(|b| b.name).collect();
        Error::usage(format!("there is no device called `{name}`"))
            .hint(format!("use one of {}, with an index as in cuda:0", names.join(", ")))
    })?;
    if !known.compiled {
        return Err(Error::usage(format!("this binary was built without `{backend}`")).hint(known.fix));
    }
    if ["wgpu", "vulkan", "cuda"].contains(&backend) {
        kernels::prepare(backend)?;
    }
    open(backend, &rest).ok_or_else(|| {
        Error::usage(format!("`{name}` does not name a device of `{backend}`"))
            .hint("use one of flex, wgpu, vulkan, tch, tch:cuda:0, tch:mps, cuda:0")
    })
}

fn open(backend: &str, rest: &[&str]) -> Option<Device> {
    match (backend, rest) {
        ("flex", []) => Some(Device::flex()),
        #[cfg(feature = "tch")]
        ("tch", [] | ["cpu"]) => Some(Device::libtorch()),
        #[cfg(feature = "tch")]
        ("tch", ["mps"]) => Some(Device::libtorch_mps()),
        #[cfg(feature = "tch")]
        ("tch", ["cuda"]) => Some(Device::libtorch_cuda(0_usize)),
        #[cfg(feature = "tch")]
        ("tch", ["cuda", i]) => Some(Device::libtorch_cuda(i.parse::<usize>().ok()?)),
        #[cfg(feature = "wgpu")]
        ("wgpu", []) => Some(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "wgpu")]
        ("wgpu", ["cpu"]) => Some(Device::wgpu(burn::tensor::DeviceKind::Cpu)),
        #[cfg(feature = "wgpu")]
        ("wgpu", [i]) => Some(Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(i.parse().ok()?))),
        #[cfg(feature = "vulkan")]
        ("vulkan", []) => Some(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        ("vulkan", ["cpu"]) => Some(Device::vulkan(burn::tensor::DeviceKind::Cpu)),
        #[cfg(feature = "vulkan")]
        ("vulkan", [i]) => Some(Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(i.parse().ok()?))),
        #[cfg(feature = "cuda")]
        ("cuda", []) => Some(Device::cuda(0_usize)),
        #[cfg(feature = "cuda")]
        ("cuda", [i]) => Some(Device::cuda(i.parse::<usize>().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_devices_say_what_to_do() {
        let e = parse("gpu").unwrap_err();
        assert!(e.hint_text().unwrap_or_default().contains("flex, tch, wgpu"), "{e}");
        assert_eq!(e.exit_code(), 2);
        assert!(parse("flex").is_ok());
        assert!(parse("flex:1").is_err());
        #[cfg(not(feature = "cuda"))]
        assert!(parse("cuda:0").unwrap_err().hint_text().unwrap_or_default().contains("--features cuda"));
    }
}
