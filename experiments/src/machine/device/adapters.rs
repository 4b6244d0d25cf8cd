//! The adapters (GPUs and software renderers) that wgpu finds on this machine.

use super::child::{self, ChildRequest};
use super::name::{Api, Choice};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Kind of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A graphics card with memory of its own.
    Discrete,
    /// A GPU that shares the memory of the CPU.
    Integrated,
    /// A GPU of a virtual machine.
    Virtual,
    /// A program on the CPU such as lavapipe, SwiftShader or WARP.
    Cpu,
    /// Not known to the graphics API.
    Other,
}

/// One adapter on one graphics API. A card is listed once for each API that reaches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// Name of the adapter, as its driver reports it.
    pub name: String,
    /// Kind of the adapter.
    pub kind: AdapterKind,
    /// Graphics API: `vulkan`, `metal`, `dx12` or `gl`.
    pub api: String,
    /// Name of the driver.
    pub driver: String,
    /// Version of the driver, as the driver reports it.
    pub driver_version: String,
    /// PCI vendor number; for software, a number of the graphics API.
    pub vendor: u32,
    /// PCI device number.
    pub device: u32,
    /// PCI address such as `0000:01:00.0`; empty if the API does not report it.
    pub pci: String,
    /// Size of the adapter's own memory in bytes; `None` if the API does not report it.
    pub memory_bytes: Option<u64>,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Largest part of a buffer that a kernel can read or write, in bytes; no tensor can be larger.
    pub max_binding_bytes: u64,
    /// Memory that the threads of a workgroup share, in bytes.
    pub workgroup_bytes: u32,
    /// Largest number of threads of a workgroup.
    pub workgroup_threads: u32,
    /// Smallest and largest number of threads of a subgroup; zeros if unknown.
    pub subgroup: [u32; 2],
    /// Position among the adapters of the same API and kind.
    pub kind_index: usize,
    /// The `N` of `wgpu:N`; `None` for an API that `wgpu` does not take on this machine.
    pub wgpu_index: Option<usize>,
    /// The `N` of `vulkan:N` and `spirv:N`; `None` for other APIs.
    pub vulkan_index: Option<usize>,
    /// Whether `wgpu` without an index means this adapter.
    pub wgpu_default: bool,
    /// Whether `vulkan` and `spirv` without an index mean this adapter.
    pub vulkan_default: bool,
}

impl Adapter {
    /// Index under which names with this API mean the adapter.
    pub(super) fn index_for(&self, api: Api) -> Option<usize> {
        match api {
            Api::Any => self.wgpu_index,
            Api::Vulkan => self.vulkan_index,
        }
    }

    /// Whether a name means the adapter.
    pub(super) fn is_meant(&self, api: Api, choice: Choice) -> bool {
        let Some(index) = self.index_for(api) else { return false };
        match (choice, api) {
            (Choice::Default, Api::Any) => self.wgpu_default,
            (Choice::Default, Api::Vulkan) => self.vulkan_default,
            (Choice::Software, _) => self.kind == AdapterKind::Cpu && self.kind_index == 0,
            (Choice::Index(i), _) => index == i,
        }
    }

    /// Whether names with this API can mean the adapter: of several software adapters, Burn opens only the first.
    pub(super) fn is_reachable(&self, api: Api) -> bool {
        self.index_for(api).is_some() && (self.kind != AdapterKind::Cpu || self.kind_index == 0)
    }

    /// An adapter for tests.
    #[cfg(test)]
    pub(super) fn example(name: &str, kind: AdapterKind, api: &str) -> Self {
        Adapter {
            name: name.into(),
            kind,
            api: api.into(),
            driver: "driver".into(),
            driver_version: "1.0".into(),
            vendor: 1,
            device: 2,
            pci: String::new(),
            memory_bytes: None,
            max_buffer_bytes: 1 << 30,
            max_binding_bytes: 1 << 30,
            workgroup_bytes: 32768,
            workgroup_threads: 256,
            subgroup: [8, 8],
            kind_index: 0,
            wgpu_index: None,
            vulkan_index: None,
            wgpu_default: false,
            vulkan_default: false,
        }
    }
}

/// Longest time that the list of adapters may take: drivers of sleeping laptop GPUs need seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the adapters of this machine, each once per graphics API; empty in a binary without `wgpu`. They are listed
/// by a child process where there is one to ask, because a broken driver can crash the process that looks for it. The
/// result is kept as long as this process lives.
///
/// # Errors
/// The child process crashed or did not answer.
pub fn adapters() -> Result<Vec<Adapter>> {
    static FOUND: Mutex<Option<Vec<Adapter>>> = Mutex::new(None);
    if cfg!(not(feature = "wgpu")) {
        return Ok(Vec::new());
    }
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = &*found {
        return Ok(found.clone());
    }
    let listed = match child::ask(&ChildRequest::Adapters, LIMIT)? {
        None => list_here(),
        Some(answer) => answer.map_err(|failure| {
            Error::failed(failure.to_string()).context("looking for GPUs in a child process").hint(
                "update or remove the driver that fails; VK_DRIVER_FILES=FILE.json restricts Vulkan to one driver",
            )
        })?,
    };
    Ok(found.insert(listed).clone())
}

/// Lists the adapters in this process.
#[cfg(not(feature = "wgpu"))]
pub fn list_here() -> Vec<Adapter> {
    Vec::new()
}

#[cfg(feature = "wgpu")]
pub use wgpu_adapters::{list_here, open};

#[cfg(feature = "wgpu")]
mod wgpu_adapters {
    use super::super::name::{Api, Choice};
    use super::{Adapter, AdapterKind, adapters};
    use burgess_base::{Error, Result};
    use burn::backend::{AutoGraphicsApi, WgpuBackend, WgpuDevice, WgpuDeviceKind};
    use burn::tensor::Device;
    use burn::tensor::wgpu::wgpu;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    /// Opens an adapter; `text` is its name as it was written.
    pub fn open(api: Api, choice: Choice, text: &str) -> Result<Device> {
        let kind = match choice {
            Choice::Default => WgpuDeviceKind::DefaultDevice,
            Choice::Software => WgpuDeviceKind::Cpu,
            Choice::Index(index) => {
                let all = adapters()?;
                let found = all.iter().find(|a| a.index_for(api) == Some(index)).ok_or_else(|| {
                    let count = all.iter().filter(|a| a.index_for(api).is_some()).count();
                    Error::usage(format!("there is no `{text}`: the number of adapters is {count}, counted from 0"))
                        .hint("`burgess doctor` lists the adapters with their names")
                })?;
                if !found.is_reachable(api) {
                    return Err(Error::usage(format!("`{text}` ({}) is not the first software adapter", found.name))
                        .hint("let VK_DRIVER_FILES name its driver alone, and use wgpu:cpu"));
                }
                match found.kind {
                    AdapterKind::Discrete => WgpuDeviceKind::DiscreteGpu(found.kind_index),
                    AdapterKind::Integrated => WgpuDeviceKind::IntegratedGpu(found.kind_index),
                    AdapterKind::Virtual => WgpuDeviceKind::VirtualGpu(found.kind_index),
                    AdapterKind::Cpu => WgpuDeviceKind::Cpu,
                    AdapterKind::Other => WgpuDeviceKind::Other(found.kind_index),
                }
            }
        };
        let backend = match api {
            Api::Any => WgpuBackend::Auto,
            Api::Vulkan => WgpuBackend::Vulkan,
        };
        Ok(Device::from(WgpuDevice::new(kind).on(backend)))
    }

    /// Lists the adapters in this process.
    pub fn list_here() -> Vec<Adapter> {
        let mut listed: Vec<Adapter> = Vec::new();
        for api in AutoGraphicsApi::chain() {
            if wgpu::Instance::enabled_backend_features().contains(api.into()) {
                listed.extend(of_api(api));
            }
        }
        // `wgpu` takes the first API with a GPU, and one that has only software if none has a GPU.
        let gpu = listed.iter().find(|a| a.kind != AdapterKind::Cpu);
        if let Some(settled) = gpu.or(listed.first()).map(|a| a.api.clone()) {
            for (i, adapter) in listed.iter_mut().filter(|a| a.api == settled).enumerate() {
                adapter.wgpu_index = Some(i);
                adapter.wgpu_default = adapter.vulkan_default;
            }
        }
        for (i, adapter) in listed.iter_mut().filter(|a| a.api == "vulkan").enumerate() {
            adapter.vulkan_index = Some(i);
        }
        for adapter in listed.iter_mut().filter(|a| a.api != "vulkan") {
            adapter.vulkan_default = false;
        }
        listed
    }

    /// Lists the adapters of one API; `vulkan_default` marks the one that the API's default is.
    fn of_api(api: wgpu::Backend) -> Vec<Adapter> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: api.into(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let found = wait(instance.enumerate_adapters(api.into()));
        let preferred = wait(instance.request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        }));
        let preferred = preferred.ok().map(|adapter| adapter.get_info());
        let mut listed: Vec<Adapter> = Vec::new();
        for adapter in &found {
            let (info, limits) = (adapter.get_info(), adapter.limits());
            let kind = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
                wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
                wgpu::DeviceType::Cpu => AdapterKind::Cpu,
                wgpu::DeviceType::Other => AdapterKind::Other,
            };
            listed.push(Adapter {
                kind,
                kind_index: listed.iter().filter(|a| a.kind == kind).count(),
                api: api.to_str().to_string(),
                memory_bytes: memory(adapter),
                max_buffer_bytes: limits.max_buffer_size,
                max_binding_bytes: limits.max_storage_buffer_binding_size,
                workgroup_bytes: limits.max_compute_workgroup_storage_size,
                workgroup_threads: limits.max_compute_invocations_per_workgroup,
                subgroup: [info.subgroup_min_size, info.subgroup_max_size],
                wgpu_index: None,
                vulkan_index: None,
                wgpu_default: false,
                vulkan_default: false,
                name: info.name,
                driver: info.driver,
                driver_version: info.driver_info,
                vendor: info.vendor,
                device: info.device,
                pci: info.device_pci_bus_id,
            });
        }
        let position = match default_kind() {
            Some((kind, index)) => listed.iter().position(|a| a.kind == kind && a.kind_index == index),
            None => found.iter().position(|a| preferred.as_ref() == Some(&a.get_info())),
        };
        if let Some(adapter) = position.and_then(|i| listed.get_mut(i)) {
            adapter.vulkan_default = true;
        }
        listed
    }

    /// The adapter that Burn's own environment variable makes the default, such as `IntegratedGpu(0)`.
    fn default_kind() -> Option<(AdapterKind, usize)> {
        let text = std::env::var("CUBECL_WGPU_DEFAULT_DEVICE").ok()?;
        if text == "Cpu" {
            return Some((AdapterKind::Cpu, 0));
        }
        let (kind, index) = text.strip_suffix(')')?.split_once('(')?;
        let kind = match kind {
            "DiscreteGpu" => AdapterKind::Discrete,
            "IntegratedGpu" => AdapterKind::Integrated,
            "VirtualGpu" => AdapterKind::Virtual,
            "Other" => AdapterKind::Other,
            _ => return None,
        };
        Some((kind, index.parse().ok()?))
    }

    /// Size of the adapter's own memory in bytes: the heaps that Vulkan calls local to the device.
    #[cfg(not(target_vendor = "apple"))]
    #[allow(unsafe_code)]
    fn memory(adapter: &wgpu::Adapter) -> Option<u64> {
        // SAFETY: the adapter is alive during the calls, which only read properties of the physical device.
        let heaps = unsafe {
            let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
            let physical = vulkan.raw_physical_device();
            vulkan.shared_instance().raw_instance().get_physical_device_memory_properties(physical)
        };
        let count = usize::try_from(heaps.memory_heap_count).ok()?;
        // Bit 0 is VK_MEMORY_HEAP_DEVICE_LOCAL_BIT.
        let local = heaps.memory_heaps.iter().take(count).filter(|heap| heap.flags.as_raw() & 1 == 1);
        Some(local.map(|heap| heap.size).sum()).filter(|bytes| *bytes > 0)
    }

    #[cfg(target_vendor = "apple")]
    fn memory(_: &wgpu::Adapter) -> Option<u64> {
        None
    }

    /// Waits for a future of wgpu, which outside of browsers is ready at once.
    fn wait<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(value) => return value,
                Poll::Pending => std::thread::yield_now(),
            }
        }
    }
}
