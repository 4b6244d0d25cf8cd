//! Names of devices and lists of them.

use super::{Adapter, AdapterKind, BACKENDS, compiled};
use burgess_base::{Error, Result};
use burn::tensor::Device;

/// A device's name, parsed. The backend of a parsed name is in this binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// CPU, pure Rust.
    Flex,
    /// LibTorch.
    Tch(TchDevice),
    /// An adapter of wgpu.
    Wgpu {
        /// Graphics API to which the name restricts the adapters.
        api: Api,
        /// Which adapter.
        choice: Choice,
    },
    /// An NVIDIA GPU through CUDA, by its index.
    Cuda(usize),
}

/// A device of LibTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TchDevice {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, by its index.
    Cuda(usize),
    /// The GPU of an Apple computer.
    Mps,
}

/// The graphics API to which a name restricts the adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `wgpu`: the first of Vulkan, DirectX 12, OpenGL (on Apple computers: Metal) that has a GPU.
    Any,
    /// `vulkan` and `spirv`: Vulkan only.
    Vulkan,
}

/// Which adapter a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one that wgpu prefers: a discrete GPU before an integrated one.
    Default,
    /// A software adapter such as lavapipe.
    Software,
    /// The adapter with this index in `burgess doctor`.
    Index(usize),
}

impl DeviceName {
    /// Parses the name of a single device.
    ///
    /// # Errors
    /// The name is invalid, or this binary does not contain the backend.
    pub fn parse(name: &str) -> Result<Self> {
        let mut parts = name.split(':');
        let backend = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        let known = BACKENDS.iter().find(|b| b.name == backend).ok_or_else(|| {
            let names: Vec<&str> = BACKENDS.iter().map(|b| b.name).collect();
            let hint = match name.trim() {
                "cpu" => "use flex, the CPU".to_string(),
                _ => format!("use one of {}, with an index as in cuda:0", names.join(", ")),
            };
            Error::usage(format!("there is no device called `{name}`")).hint(hint)
        })?;
        if !known.compiled {
            return Err(match backend {
                "wgpu" | "vulkan" if cfg!(feature = "spirv") => Error::usage(format!(
                    "this binary was built with `spirv`, which changes what `{backend}` computes, so it has no `{backend}`"
                ))
                .hint("use spirv, or build with --features wgpu alone"),
                _ => Error::usage(format!("this binary was built without `{backend}`; it has {}", compiled()))
                    .hint(format!("build it in: {}", known.fix)),
            });
        }
        Self::of_parts(backend, &rest).ok_or_else(|| {
            let all = if rest.last() == Some(&"all") { "; `all` belongs into a list of devices" } else { "" };
            Error::usage(format!("`{name}` does not name a device of `{backend}`{all}")).hint(match backend {
                "flex" => "use flex",
                "tch" => "use tch, tch:cuda:0 or tch:mps",
                "cuda" => "use cuda or cuda:0",
                _ => "use the name alone, an index as in wgpu:0, or wgpu:cpu for a software adapter",
            })
        })
    }

    fn of_parts(backend: &str, rest: &[&str]) -> Option<Self> {
        // Digits only: `parse` would accept `+1`.
        let index = |i: &str| i.bytes().all(|b| b.is_ascii_digit()).then(|| i.parse().ok()).flatten();
        Some(match (backend, rest) {
            ("flex", []) => DeviceName::Flex,
            ("tch", [] | ["cpu"]) => DeviceName::Tch(TchDevice::Cpu),
            ("tch", ["mps"]) => DeviceName::Tch(TchDevice::Mps),
            ("tch", ["cuda"]) => DeviceName::Tch(TchDevice::Cuda(0)),
            ("tch", ["cuda", i]) => DeviceName::Tch(TchDevice::Cuda(index(i)?)),
            ("cuda", []) => DeviceName::Cuda(0),
            ("cuda", [i]) => DeviceName::Cuda(index(i)?),
            ("wgpu" | "vulkan" | "spirv", rest) => {
                let api = if backend == "wgpu" { Api::Any } else { Api::Vulkan };
                let choice = match rest {
                    [] => Choice::Default,
                    ["cpu"] => Choice::Software,
                    [i] => Choice::Index(index(i)?),
                    _ => return None,
                };
                DeviceName::Wgpu { api, choice }
            }
            _ => return None,
        })
    }
}

/// Splits a list of devices; see [`super::list`].
pub fn list(
    spec: &str,
    adapters: impl Fn() -> Result<Vec<Adapter>>,
    cuda_count: impl Fn() -> Result<usize>,
) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for part in spec.split(',').map(str::trim) {
        if part.is_empty() {
            return Err(Error::usage(format!("the list of devices `{spec}` has an empty name"))
                .hint("separate names with one comma, as in cuda:0,cuda:1"));
        }
        let found = match part.strip_suffix(":all") {
            None => {
                DeviceName::parse(part)?;
                vec![part.to_string()]
            }
            Some(kind @ ("cuda" | "tch:cuda")) => {
                DeviceName::parse(kind)?;
                match cuda_count()? {
                    0 => {
                        return Err(Error::failed(format!(
                            "`{part}`: this machine has no NVIDIA GPU that can be used"
                        )));
                    }
                    count => (0..count).map(|i| format!("{kind}:{i}")).collect(),
                }
            }
            Some(kind @ ("wgpu" | "vulkan" | "spirv")) => {
                let DeviceName::Wgpu { api, .. } = DeviceName::parse(kind)? else { continue };
                all(kind, api, &adapters()?)?
            }
            Some(kind) => {
                DeviceName::parse(kind)?;
                return Err(Error::usage(format!("`{part}`: there is only one `{kind}`")).hint(format!("use {kind}")));
            }
        };
        for name in found {
            if let Some(other) = same(&name, &names, &adapters)? {
                return Err(Error::usage(format!(
                    "the list of devices `{spec}` names one device twice: `{other}`, `{name}`"
                ))
                .hint("name each device once"));
            }
            names.push(name);
        }
    }
    Ok(names)
}

/// The name in a list that means the same device as `name`.
fn same(name: &str, names: &[String], adapters: &impl Fn() -> Result<Vec<Adapter>>) -> Result<Option<String>> {
    let parsed = DeviceName::parse(name)?;
    for other in names {
        let equal = match (&parsed, &DeviceName::parse(other)?) {
            (DeviceName::Wgpu { api: a, choice: x }, DeviceName::Wgpu { api: b, choice: y }) => {
                let adapters = adapters()?;
                let position = |api: &Api, choice: &Choice| adapters.iter().position(|a| a.is_meant(*api, *choice));
                (a, x) == (b, y) || position(a, x).is_some_and(|found| position(b, y) == Some(found))
            }
            (parsed, other) => parsed == other,
        };
        if equal {
            return Ok(Some(other.clone()));
        }
    }
    Ok(None)
}

/// Names of all GPUs among the adapters; of the software adapters if there is no GPU.
fn all(kind: &str, api: Api, adapters: &[Adapter]) -> Result<Vec<String>> {
    let named: Vec<(usize, &Adapter)> =
        adapters.iter().filter_map(|a| a.index_for(api).filter(|_| a.is_reachable(api)).map(|i| (i, a))).collect();
    let gpus: Vec<_> = named.iter().filter(|(_, a)| a.kind != AdapterKind::Cpu).collect();
    let chosen = if gpus.is_empty() { named.iter().collect() } else { gpus };
    if chosen.is_empty() {
        return Err(Error::failed(format!("`{kind}:all`: there is no adapter that `{kind}` can use"))
            .hint("install the GPU's driver with its Vulkan part: `burgess doctor` lists what is found"));
    }
    Ok(chosen.iter().map(|(i, _)| format!("{kind}:{i}")).collect())
}

/// Opens the device with a parsed name; `text` is the name as it was written.
pub fn open(name: &DeviceName, text: &str) -> Result<Device> {
    // Each arm is the only one in a binary with only its backend.
    #[allow(unreachable_patterns)]
    match name {
        DeviceName::Flex => Ok(Device::flex()),
        #[cfg(feature = "tch")]
        #[allow(deprecated)]
        DeviceName::Tch(device) => Ok(match device {
            TchDevice::Cpu => Device::libtorch(),
            TchDevice::Cuda(i) => Device::libtorch_cuda(*i),
            TchDevice::Mps => Device::libtorch_mps(),
        }),
        #[cfg(feature = "wgpu")]
        DeviceName::Wgpu { api, choice } => super::adapters::open(*api, *choice, text),
        #[cfg(feature = "cuda")]
        DeviceName::Cuda(i) => Ok(Device::cuda(*i)),
        _ => Err(Error::usage(format!("this binary cannot open `{text}`; it has {}", compiled()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: AdapterKind, api: &str, settled: Option<usize>) -> Adapter {
        let on_vulkan = (api == "vulkan").then_some(settled).flatten();
        Adapter { wgpu_index: settled, vulkan_index: on_vulkan, ..Adapter::example(name, kind, api) }
    }

    #[test]
    fn names_are_parsed_or_refused_with_a_hint() -> Result<()> {
        assert_eq!(DeviceName::parse("flex")?, DeviceName::Flex);
        for wrong in ["flex:0", "flex:all", "", " flex", "wgpu:+1", "wgpu:0:1", "cuda:-1", "tch:gpu", "cpu"] {
            let e = DeviceName::parse(wrong).unwrap_err();
            assert!(e.hint_text().is_some() && e.exit_code() == 2, "{wrong}: {e}");
        }
        assert_eq!(
            DeviceName::of_parts("wgpu", &["1"]),
            Some(DeviceName::Wgpu { api: Api::Any, choice: Choice::Index(1) })
        );
        assert_eq!(
            DeviceName::of_parts("vulkan", &["cpu"]),
            Some(DeviceName::Wgpu { api: Api::Vulkan, choice: Choice::Software })
        );
        assert_eq!(DeviceName::of_parts("tch", &["cuda", "3"]), Some(DeviceName::Tch(TchDevice::Cuda(3))));
        assert_eq!(DeviceName::of_parts("cuda", &["1x"]), None);
        Ok(())
    }

    #[test]
    fn lists_name_each_device_once() -> Result<()> {
        let none = || Ok(Vec::new());
        assert_eq!(list("flex", none, || Ok(0))?, ["flex"]);
        for wrong in ["flex,", "flex,flex", "", "flex:all", "gpu:all"] {
            let e = list(wrong, none, || Ok(0)).unwrap_err();
            assert!(e.hint_text().is_some(), "{wrong}: {e}");
        }
        Ok(())
    }

    #[cfg(all(feature = "wgpu", not(feature = "spirv")))]
    #[test]
    fn two_names_of_one_adapter_are_one_device() -> Result<()> {
        let first = Adapter { wgpu_default: true, ..adapter("card", AdapterKind::Discrete, "vulkan", Some(0)) };
        let second = Adapter { kind_index: 1, ..adapter("card", AdapterKind::Discrete, "vulkan", Some(1)) };
        let machine = || Ok(vec![first.clone(), second.clone()]);
        let listed = |spec: &str| list(spec, machine, || Ok(0));
        assert_eq!(listed("wgpu, vulkan:1")?, ["wgpu", "vulkan:1"]);
        assert_eq!(listed("wgpu:all")?, ["wgpu:0", "wgpu:1"]);
        for twice in ["wgpu,wgpu:0", "wgpu:1,vulkan:1", "wgpu:all,wgpu"] {
            let e = listed(twice).unwrap_err();
            assert!(e.to_string().contains("one device twice"), "{e}");
        }
        Ok(())
    }

    #[test]
    fn all_means_the_gpus_and_a_software_adapter_only_without_them() -> Result<()> {
        let card = adapter("card", AdapterKind::Discrete, "vulkan", Some(0));
        let other = adapter("other", AdapterKind::Integrated, "vulkan", Some(2));
        let software = adapter("llvmpipe", AdapterKind::Cpu, "vulkan", Some(1));
        let opengl = adapter("card", AdapterKind::Discrete, "gl", None);
        let machine = [card, software.clone(), other, opengl];
        assert_eq!(all("wgpu", Api::Any, &machine)?, ["wgpu:0", "wgpu:2"]);
        assert_eq!(all("vulkan", Api::Vulkan, &machine)?, ["vulkan:0", "vulkan:2"]);
        assert_eq!(all("wgpu", Api::Any, &[software])?, ["wgpu:1"]);
        assert!(all("wgpu", Api::Any, &[]).unwrap_err().hint_text().is_some());
        Ok(())
    }
}
