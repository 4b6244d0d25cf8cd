//! Kernels that a device compiles on their first use: where they are cached on disk, and how many were compiled.
//!
//! The backends `wgpu`, `vulkan`, `spirv` and `cuda` (CubeCL) generate the source of each operation when a process
//! first uses it with a type and layout of tensors, and the driver compiles it. CubeCL keeps compiled kernels only as
//! long as the process runs; between processes the driver's own cache on disk keeps them. [`prepare`] puts those
//! caches, and CubeCL's results of autotuning where they are compiled in, under `kernels/` in the cache directory of
//! Burgess.

use burgess_base::Result;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Name of the device that [`prepare`] was called for.
static DEVICE: OnceLock<String> = OnceLock::new();
/// Number of kernels compiled in this process.
static COMPILED: AtomicU64 = AtomicU64::new(0);

/// Environment variables that name a driver's cache of compiled kernels, and the folder under `kernels/` for each:
/// Mesa (AMD, Intel, lavapipe), NVIDIA's Vulkan, and CUDA. A variable that is set already is kept.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
const DRIVER_CACHES: [(&str, &str); 3] =
    [("MESA_SHADER_CACHE_DIR", "mesa"), ("__GL_SHADER_DISK_CACHE_PATH", "nvidia"), ("CUDA_CACHE_PATH", "cuda")];

/// Whether this binary has a backend that compiles kernels at run time.
pub const RUN_TIME: bool = cfg!(any(feature = "wgpu", feature = "cuda"));

/// Returns the number of kernels compiled in this process so far. Kernels that the driver finds in its cache on disk
/// are counted too, because CubeCL does not see the difference.
pub fn compiled() -> u64 {
    COMPILED.load(Ordering::Relaxed)
}

/// Returns the name of the device whose kernels are compiled at run time; `None` if no such device was opened.
pub fn device() -> Option<&'static str> {
    DEVICE.get().map(String::as_str)
}

/// Prepares the caches and the count of kernels before the device `name` is first used; later calls do nothing.
///
/// # Errors
/// The cache directory cannot be determined or created.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub fn prepare(name: &str) -> Result<()> {
    use crate::machine::paths;
    use burgess_base::Context;

    if DEVICE.get().is_some() {
        return Ok(());
    }
    let root = paths::cache()?.join("kernels");
    for (variable, folder) in DRIVER_CACHES {
        if std::env::var_os(variable).is_some() {
            continue;
        }
        let folder = root.join(folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        set_variable(variable, &folder);
    }
    if DEVICE.set(name.to_string()).is_ok() {
        count(&root);
    }
    Ok(())
}

/// Sets an environment variable for the drivers that this process loads later.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[allow(unsafe_code, reason = "drivers read their settings from the environment, and there is no other way to set it")]
fn set_variable(name: &str, value: &std::path::Path) {
    // SAFETY: drivers, the only code here that reads the environment without the standard library's lock, are loaded
    // when the device computes its first tensor, after this call.
    unsafe { std::env::set_var(name, value) }
}

/// Lets CubeCL log each kernel that it compiles, and counts these messages.
///
/// CubeCL would otherwise read `cubecl.toml` or `burn.toml` of the current directory or one above it, so that results
/// could depend on where a command is started; its `CUBECL_…` variables keep their effect.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn count(root: &std::path::Path) {
    use burn::cubecl::config::{
        CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig, compilation::CompilationLogLevel,
    };

    let mut config = CubeClRuntimeConfig::default().override_from_env();
    config.environment.path = CacheConfig::Directory(root.join("cubecl"));
    let logger = &mut config.compilation.logger;
    logger.log = Some(Default::default());
    if matches!(logger.level, CompilationLogLevel::Disabled) {
        logger.level = CompilationLogLevel::Basic;
    }
    // Without the logger or the configuration only the count is missing from the display.
    if CubeClRuntimeConfig::try_set(config) && log::set_logger(&CompilationCounter).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}

/// A logger that counts CubeCL's messages about compiled kernels and ignores all others.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
struct CompilationCounter;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl log::Log for CompilationCounter {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "cubecl::compilation"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            COMPILED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// Does nothing: this binary has no backend that compiles kernels at run time.
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
pub fn prepare(_name: &str) -> Result<()> {
    Ok(())
}
