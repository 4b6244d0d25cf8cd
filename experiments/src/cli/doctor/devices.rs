//! The devices of this machine: adapters, and the self-test of each device that this binary can use.

use super::{Line, State, gib};
use crate::machine::device::{self, Adapter, AdapterKind, Backend};
use crate::machine::progress::Progress;
use crate::machine::terminal;
use burgess_base::Result;

/// Lines about all backends, their adapters and devices; with `quick`, devices are not tested.
pub fn lines(quick: bool, progress: &Progress) -> Vec<Line> {
    let adapters = device::adapters();
    let mut lines = Vec::new();
    for backend in device::BACKENDS {
        match backend.name {
            _ if !backend.compiled => lines.push(absent(backend)),
            "flex" => lines.push(Line::new("device flex", State::Ok, backend.what)),
            "wgpu" | "vulkan" | "spirv" => lines.extend(of_wgpu(backend, &adapters, quick, progress)),
            name => lines.push(tested(name, quick, progress)),
        }
    }
    lines
}

/// The line about a backend that this binary does not contain.
pub fn absent(backend: &Backend) -> Line {
    let detail = format!("{}; not built into this binary", backend.what);
    Line::new(format!("device {}", backend.name), State::Optional, detail).fix(backend.fix)
}

/// Lines about the devices of a backend on wgpu's adapters.
fn of_wgpu(backend: &Backend, adapters: &Result<Vec<Adapter>>, quick: bool, progress: &Progress) -> Vec<Line> {
    let name = backend.name;
    let what = format!("device {name}");
    let adapters = match adapters {
        Ok(adapters) => adapters,
        Err(e) => {
            let line = Line::new(what, State::Broken, e.to_string());
            return vec![Line { fix: terminal::hint(e), ..line }];
        }
    };
    let index = |a: &Adapter| if name == "wgpu" { a.wgpu_index } else { a.vulkan_index };
    let is_default = |a: &Adapter| if name == "wgpu" { a.wgpu_default } else { a.vulkan_default };
    let own: Vec<&Adapter> = adapters.iter().filter(|a| index(a).is_some()).collect();
    let mut lines = Vec::new();
    if name != "vulkan" {
        // `vulkan` has no adapters that are not listed with `wgpu`.
        lines.extend(adapters.iter().map(|a| {
            let names = index(a).map_or_else(|| "adapter".to_string(), |i| format!("adapter {name}:{i}"));
            let meant = match (index(a), is_default(a)) {
                (_, true) => format!("; --device {name} takes this one"),
                (None, _) => format!("; {name} does not use this API here"),
                (Some(_), false) => String::new(),
            };
            let mut line = Line::new(names, State::Ok, describe(a) + &meant);
            line.adapter = Some(a.clone());
            line
        }));
    }
    let Some(default) = own.iter().find(|a| is_default(a)) else {
        let detail = format!("{}: no adapter was found", backend.what);
        let fix = "install the GPU's driver with its Vulkan part, or a software driver (Debian: mesa-vulkan-drivers)";
        lines.push(Line::new(what, State::Missing, detail).fix(fix));
        return lines;
    };
    if name == "vulkan" && default.wgpu_default {
        lines.push(Line::new(what, State::Ok, "the same adapter and kernels as wgpu"));
    } else {
        lines.push(tested(name, quick, progress));
    }
    // The other GPUs; the same adapter has the same outcome.
    let others = own.iter().filter(|a| !is_default(a) && a.kind != AdapterKind::Cpu);
    let others = others.filter(|a| name != "vulkan" || a.wgpu_index.is_none()).filter_map(|a| index(a));
    lines.extend(others.map(|i| tested(&format!("{name}:{i}"), quick, progress)));
    lines
}

/// Name, kind, driver, memory and limits of an adapter.
fn describe(adapter: &Adapter) -> String {
    let kind = match adapter.kind {
        AdapterKind::Discrete => "graphics card",
        AdapterKind::Integrated => "integrated GPU",
        AdapterKind::Virtual => "virtual GPU",
        AdapterKind::Cpu => "software on the CPU",
        AdapterKind::Other => "unknown kind",
    };
    let api = match adapter.api.as_str() {
        "vulkan" => "Vulkan",
        "metal" => "Metal",
        "dx12" => "DirectX 12",
        "gl" => "OpenGL",
        other => other,
    };
    let memory = adapter.memory_bytes.map_or_else(String::new, |bytes| format!(", {} of memory", gib(bytes)));
    let Adapter { name, driver, driver_version, workgroup_bytes, workgroup_threads, .. } = adapter;
    let words = [driver.as_str(), driver_version].join(" ");
    let driver = if words.trim().is_empty() { "unknown" } else { words.trim() };
    let largest = match adapter.max_binding_bytes >> 20 {
        mib @ 0..1024 => format!("{mib} MiB"),
        _ => gib(adapter.max_binding_bytes),
    };
    let [least, most] = adapter.subgroup;
    let subgroup = if least == most { format!("{least}") } else { format!("{least} to {most}") };
    format!(
        "{name}: {kind}, {api}, driver {driver}{memory}, tensors up to {largest}, workgroups of {workgroup_threads} \
         threads and {} KiB, subgroups of {subgroup}",
        workgroup_bytes / 1024,
    )
}

/// The line about the self-test of a device, which is done now.
fn tested(name: &str, quick: bool, progress: &Progress) -> Line {
    let what = format!("device {name}");
    if quick {
        return Line::new(what, State::Ok, "not tested; without --quick, it is compared with flex");
    }
    let verdict = {
        let _bar = progress.bar(&format!("testing device {name}"), 0);
        device::verdict(name, false)
    };
    match verdict {
        Err(e) => Line { fix: terminal::hint(&e), ..Line::new(what, State::Broken, e.to_string()) },
        Ok(verdict) => {
            let seconds = verdict.test.as_ref().map_or_else(String::new, |t| format!(" (in {:.1} s)", t.seconds()));
            let (state, outcome) = match verdict.passed() {
                true => (State::Ok, "self-test ok: "),
                false => (State::Broken, "self-test FAILED: "),
            };
            let mut line = Line::new(what, state, format!("{outcome}{}{seconds}", verdict.summary()));
            if state == State::Broken {
                line = line.fix("update the driver, or choose another device; no command computes on this one");
            }
            line.verdict = Some(verdict);
            line
        }
    }
}

// With wgpu, this would test the drivers of the machine.
#[cfg(all(test, not(feature = "wgpu")))]
mod tests {
    use super::*;

    #[test]
    fn flex_is_listed_first_and_needs_no_test() {
        let lines = lines(false, &Progress::silent());
        assert_eq!((lines[0].what.as_str(), lines[0].state == State::Ok), ("device flex", true));
        assert!(lines[0].verdict.is_none() && lines.len() >= device::BACKENDS.len());
    }
}
