//! The device on which tests compare with their references: the one that `BURGESS_TEST_DEVICE` names, `flex` by
//! default.
//!
//! Test files of several crates include this file with `#[path]`. The cargo features of the including crate say which
//! devices exist; a name that does not is an error, so that no test runs silently on another device.

// Not every test file uses every function.
#![allow(dead_code)]

use burn::tensor::Device;
use std::env::VarError;

/// The environment variable with the name of the device.
pub const VARIABLE: &str = "BURGESS_TEST_DEVICE";

/// All names, of which the cargo features decide which can be opened.
const NAMES: [&str; 6] = ["flex", "wgpu", "spirv", "tch", "tch:cuda", "cuda"];

/// Returns the name of the device, such as `flex`, `wgpu`, `tch`.
pub fn name() -> String {
    match std::env::var(VARIABLE) {
        Ok(name) => name,
        Err(VarError::NotPresent) => "flex".into(),
        Err(e) => panic!("{VARIABLE}: {e}"),
    }
}

/// Opens the device, without autodiff.
pub fn device() -> Device {
    open(&name()).unwrap_or_else(|e| panic!("{e}"))
}

/// Returns whether the device is `flex`, the default.
pub fn is_flex() -> bool {
    name() == "flex"
}

/// Returns the largest relative difference that a test allows: `flex` on `flex`, `others` on every other device, whose
/// products and sums have another order.
pub fn limit(flex: f64, others: f64) -> f64 {
    if is_flex() { flex } else { others }
}

/// Returns all cases on `flex`, and on other devices those with these indices: compiling kernels takes time, and
/// software drivers are slow.
pub fn cases<T: Clone>(all: &[T], elsewhere: &[usize]) -> Vec<T> {
    if is_flex() { all.to_vec() } else { elsewhere.iter().map(|i| all[*i].clone()).collect() }
}

/// Opens the device with this name.
pub fn open(name: &str) -> Result<Device, String> {
    match name {
        "flex" => Ok(Device::flex()),
        // As in `burgess`, the name says which kernels are tested: those of `spirv` take the place of those of `wgpu`.
        #[cfg(all(feature = "wgpu", not(feature = "spirv")))]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "spirv")]
        "spirv" => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "tch")]
        "tch" => Ok(Device::libtorch()),
        #[cfg(feature = "tch")]
        "tch:cuda" => Ok(Device::libtorch_cuda(0_usize)),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0_usize)),
        _ if NAMES.contains(&name) => {
            let feature = name.split(':').next().unwrap_or(name);
            Err(format!("{VARIABLE} is `{name}`, but this test was built without `--features burgess/{feature}`"))
        }
        _ => Err(format!("{VARIABLE} is `{name}`, must be one of {}", NAMES.join(", "))),
    }
}
