//! Devices by name: `flex`, `wgpu`, `wgpu:1`, `vulkan`, `tch:cuda:0`, `cuda:0`; lists such as `cuda:0,cuda:1` and
//! `wgpu:all`; what identifies a device; and a self-test against the CPU.
//!
//! A name determines what computes: `wgpu` and `vulkan` always compile their kernels to WGSL, `spirv` always to SPIR-V.
//! Burn chooses between the two when it is compiled, for all Vulkan devices of a binary at once, so a binary has either
//! the first two names or the third.

mod adapters;
mod child;
mod identity;
mod name;
mod self_test;
mod verify;

pub use adapters::{Adapter, AdapterKind, adapters, list_here as adapters_here};
pub use child::{ChildRequest, register_program};
pub use identity::{fingerprint, free_memory};
pub use self_test::{Check, SelfTest, self_test};
pub use verify::{Verdict, verdict, verify};

use crate::machine::kernels;
use crate::machine::progress::Progress;
use burgess_base::Result;
use burn::tensor::Device;
use name::DeviceName;

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
        name: "wgpu",
        compiled: cfg!(all(feature = "wgpu", not(feature = "spirv"))),
        what: "any GPU through Vulkan, Metal, DirectX or OpenGL (kernels in WGSL)",
        fix: "cargo build --release --features wgpu",
    },
    Backend {
        name: "vulkan",
        compiled: cfg!(all(feature = "wgpu", not(feature = "spirv"))),
        what: "as wgpu, through Vulkan only (kernels in WGSL)",
        fix: "cargo build --release --features wgpu",
    },
    Backend {
        name: "spirv",
        compiled: cfg!(feature = "spirv"),
        what: "GPUs through Vulkan with kernels in SPIR-V; takes the place of wgpu and vulkan in a binary of its own",
        fix: "cargo build --release --features spirv",
    },
    Backend {
        name: "tch",
        compiled: cfg!(feature = "tch"),
        what: "LibTorch: CPU, CUDA, MPS",
        fix: "cargo build --release --features tch (needs libtorch 2.9.0; see README)",
    },
    Backend {
        name: "cuda",
        compiled: cfg!(feature = "cuda"),
        what: "NVIDIA GPUs through CUDA",
        fix: "cargo build --release --features cuda (needs the CUDA toolkit, and access to github.com: the build script \
              of cubecl-llvm downloads LLVM); without it, NVIDIA GPUs work as `tch:cuda:0` and as `wgpu`",
    },
];

/// Opens the device with this name.
///
/// # Errors
/// The name or index is invalid, this binary does not contain the backend, there is no adapter with this index, or the
/// cache directory, in which drivers keep compiled kernels, cannot be created.
pub fn parse(name: &str) -> Result<Device> {
    let parsed = DeviceName::parse(name)?;
    if !is_cpu(name) && BACKENDS.iter().any(|b| b.compiled && name.split(':').next() == Some(b.name)) {
        kernels::prepare(name)?;
    }
    name::open(&parsed, name)
}

/// Opens the device with this name after [`verify`]: nothing is computed on a device that computes wrong results.
///
/// # Errors
/// As [`parse`] and [`verify`].
pub fn open(name: &str, progress: &Progress) -> Result<Device> {
    let device = parse(name)?;
    if !is_flex(name) {
        let _bar = progress.bar(&format!("testing device {name}"), 0);
        verify(name)?;
    }
    Ok(device)
}

/// Whether the name is that of flex, which is not tested against itself.
fn is_flex(name: &str) -> bool {
    matches!(DeviceName::parse(name), Ok(DeviceName::Flex))
}

/// Returns the names of the single devices that a list names: names separated by commas, of which `cuda:all`,
/// `tch:cuda:all`, `wgpu:all`, `vulkan:all` and `spirv:all` stand for all GPUs of this machine that the backend can use
/// (for the software adapter if there is no GPU).
///
/// # Errors
/// A name is invalid or given twice, this binary does not contain its backend, or there is no device of the kind.
pub fn list(spec: &str) -> Result<Vec<String>> {
    name::list(spec, adapters, identity::cuda_count)
}

/// Returns whether the device computes on the CPU in this process: `flex` and `tch`. A software adapter of `wgpu` is
/// treated as a GPU.
pub fn is_cpu(name: &str) -> bool {
    matches!(DeviceName::parse(name), Ok(DeviceName::Flex | DeviceName::Tch(name::TchDevice::Cpu)))
}

/// Names of the backends in this binary.
fn compiled() -> String {
    let names: Vec<&str> = BACKENDS.iter().filter(|b| b.compiled).map(|b| b.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_devices_say_what_to_do() {
        let e = parse("gpu").unwrap_err();
        assert!(e.hint_text().unwrap_or_default().contains("flex"), "{e}");
        assert_eq!(e.exit_code(), 2);
        assert!(parse("flex").is_ok());
        assert!(parse("flex:1").is_err());
        #[cfg(not(feature = "cuda"))]
        assert!(parse("cuda:0").unwrap_err().hint_text().unwrap_or_default().contains("--features cuda"));
    }

    #[test]
    fn flex_is_a_cpu_and_has_the_fingerprint_of_old_cache_entries() -> Result<()> {
        assert_eq!(fingerprint("flex")?, "flex");
        assert!(is_cpu("flex") && !is_cpu("wgpu") && !is_cpu("cuda:0"));
        verify("flex")
    }
}
