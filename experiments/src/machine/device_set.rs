//! The devices of one command, all of one kind, and how many runs they do at once.
//!
//! All runs of a study must compute the same bits whichever device takes them, so the devices of a set have the same
//! fingerprint: backend, adapter and driver.

use crate::machine::progress::Progress;
use crate::machine::workers::{Parallelism, Workers};
use crate::machine::{device, memory};
use burgess_base::{Error, Result};
use burn::tensor::Device;

/// Devices of one kind.
#[derive(Clone, Debug)]
pub struct DeviceSet {
    names: Vec<String>,
    devices: Vec<Device>,
    fingerprint: String,
}

impl DeviceSet {
    /// Opens the devices of a list such as `flex`, `cuda:0`, `cuda:0,cuda:1` or `cuda:all`, after their self-tests.
    ///
    /// # Errors
    /// A name is invalid, two devices would compute different bits, or a device fails its self-test.
    pub fn open(spec: &str, progress: &Progress) -> Result<Self> {
        let names = device::list(spec)?;
        let prints = names.iter().map(|name| device::fingerprint(name)).collect::<Result<Vec<_>>>()?;
        let fingerprint = same_bits(&names, &prints)?;
        let devices = names.iter().map(|name| device::open(name, progress)).collect::<Result<Vec<_>>>()?;
        Ok(Self { names, devices, fingerprint })
    }

    /// The names of the devices.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The devices, in the order of [`names`](Self::names); at least one.
    pub fn all(&self) -> &[Device] {
        &self.devices
    }

    /// The device with this index; the first one if there is none.
    pub fn get(&self, index: usize) -> Device {
        self.devices.get(index).or(self.devices.first()).cloned().unwrap_or_default()
    }

    /// What determines the bits that the devices compute, see [`device::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Name of the devices in configurations and results: a single device's own name; the name of their kind (`cuda`)
    /// if there are several, so that a study can be continued on another number of them. With `earlier`, the name that
    /// the study has already, that name is kept if it is of the same kind.
    pub fn label(&self, earlier: Option<&str>) -> String {
        let own = match self.names.as_slice() {
            [one] => one.as_str(),
            names => names.first().map_or("", |name| kind(name)),
        };
        earlier.filter(|name| kind(name) == kind(own)).unwrap_or(own).to_string()
    }

    /// Whether the device is the CPU of this process.
    pub fn is_cpu(&self) -> bool {
        self.names.iter().all(|name| device::is_cpu(name))
    }

    /// Free memory of the device that has the least, in bytes; `None` if that of a device is not known.
    pub fn free_memory(&self) -> Option<u64> {
        if self.is_cpu() {
            return memory::available();
        }
        let free = self.names.iter().map(|name| device::free_memory(name)).collect::<Option<Vec<_>>>()?;
        free.into_iter().min()
    }

    /// The workers for `runs` runs. With `jobs`, that many in all. Otherwise one for each GPU; on a CPU as many as
    /// [`Parallelism::for_runs`] allows, but no more than fit into the free memory.
    pub fn workers(&self, jobs: Option<usize>, runs: usize, need: Option<MemoryNeed>) -> Workers {
        if let Some(jobs) = jobs {
            return Workers::over(self.names.len(), jobs, 1);
        }
        if !self.is_cpu() {
            return Workers::over(self.names.len(), self.names.len(), 1);
        }
        let most = need.map_or(usize::MAX, |need| need.runs_that_fit());
        Workers::over(1, Parallelism::for_runs(None, runs).workers.min(most), 1)
    }
}

impl DeviceSet {
    /// Says that memory limits the number of runs side by side, or that as many as were asked for may not fit; `None`
    /// if neither is so.
    pub fn memory_note(&self, workers: &Workers, runs: usize, need: Option<MemoryNeed>) -> Option<String> {
        let need = need?;
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let (fit, side) = (need.runs_that_fit(), workers.per_device().min(runs));
        if side > fit {
            return Some(format!(
                "note: {side} runs at once on one device need about {:.1} GB, {:.1} GB are free",
                side as f64 * gb(need.run),
                gb(need.free)
            ));
        }
        let usual = Parallelism::for_runs(None, runs).workers.min(runs);
        (self.is_cpu() && workers.devices.len() < usual && workers.devices.len() == fit).then(|| {
            format!(
                "{fit} of {usual} possible runs at once: one needs about {:.1} GB, {:.1} GB are free",
                gb(need.run),
                gb(need.free)
            )
        })
    }
}

/// The memory of runs on a device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Peak memory of the largest run.
    pub run: u64,
    /// Free memory of the device.
    pub free: u64,
}

impl MemoryNeed {
    /// Number of such runs that fit side by side; at least one, because whether one fits is checked for each run.
    pub fn runs_that_fit(self) -> usize {
        usize::try_from(self.free / self.run.max(1)).unwrap_or(usize::MAX).max(1)
    }
}

/// The kind of a device: its name without a trailing index, `cuda` for `cuda` and `cuda:1`.
pub fn kind(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((kind, index)) if !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()) => kind,
        _ => name,
    }
}

/// Returns the common fingerprint of devices.
///
/// # Errors
/// Two devices differ in kind or fingerprint; the error names both.
fn same_bits(names: &[String], prints: &[String]) -> Result<String> {
    let mut all = names.iter().zip(prints);
    let Some((first, print)) = all.next() else {
        return Err(Error::usage("no device is named").hint("name one, as in flex or cuda:0"));
    };
    for (name, other) in all {
        let differ = if kind(name) == kind(first) && other == print {
            continue;
        } else if kind(name) == kind(first) {
            format!("{first} is `{print}`, {name} is `{other}`")
        } else {
            format!("they are a device of `{}` and one of `{}`", kind(first), kind(name))
        };
        return Err(Error::usage(format!(
            "{first} and {name} cannot share a study: {differ}, whose results differ in the last bits, so that a run's \
             results would depend on the device that took it"
        ))
        .hint(
            "name devices of one kind; to use both, start one command for each of them, with other encoders or another \
             output directory",
        ));
    }
    Ok(print.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> DeviceSet {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let devices = names.iter().map(|_| Device::flex()).collect();
        DeviceSet { names, devices, fingerprint: "same".into() }
    }

    #[test]
    fn devices_have_the_name_of_their_kind() {
        for (name, expected) in [
            ("flex", "flex"),
            ("cuda:0", "cuda"),
            ("cuda", "cuda"),
            ("wgpu:12", "wgpu"),
            ("wgpu:cpu", "wgpu:cpu"),
            ("tch:cuda:1", "tch:cuda"),
            ("tch:mps", "tch:mps"),
        ] {
            assert_eq!(kind(name), expected);
        }
        assert_eq!(set(&["cuda:1"]).label(None), "cuda:1");
        assert_eq!(set(&["cuda:0", "cuda:1"]).label(None), "cuda");
        // A study that was made on one card goes on with two, and the other way round.
        assert_eq!(set(&["cuda:0", "cuda:1"]).label(Some("cuda:0")), "cuda:0");
        assert_eq!(set(&["cuda:1"]).label(Some("cuda")), "cuda");
        assert_eq!(set(&["flex"]).label(Some("cuda")), "flex", "the difference is reported");
    }

    #[test]
    fn devices_that_compute_other_bits_are_refused() -> Result<()> {
        let names = |n: &[&str]| n.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(same_bits(&names(&["cuda:0", "cuda:1"]), &names(&["a", "a"]))?, "a");
        let e = same_bits(&names(&["cuda:0", "cuda:1"]), &names(&["A100", "H100"])).unwrap_err();
        assert!(e.to_string().contains("cuda:0 is `A100`, cuda:1 is `H100`") && e.exit_code() == 2, "{e}");
        let e = same_bits(&names(&["flex", "wgpu:0"]), &names(&["flex", "b"])).unwrap_err();
        assert!(e.to_string().contains("`flex` and one of `wgpu`") && e.hint_text().is_some(), "{e}");
        assert!(same_bits(&[], &[]).is_err());
        Ok(())
    }

    #[test]
    fn a_gpu_has_one_run_and_a_cpu_as_many_as_fit() {
        let gpus = set(&["cuda:0", "cuda:1"]);
        assert_eq!(gpus.workers(None, 12, None).devices, [0, 1]);
        assert_eq!(gpus.workers(Some(3), 12, None).devices, [0, 1, 0]);
        assert_eq!(gpus.workers(Some(1), 12, None).devices, [0]);
        let cpu = set(&["flex"]);
        let usual = Parallelism::for_runs(None, 100).workers;
        assert_eq!(cpu.workers(None, 100, None).devices.len(), usual);
        let need = |free| Some(MemoryNeed { run: 10, free });
        assert_eq!(cpu.workers(None, 100, need(19)).devices, [0]);
        assert_eq!(cpu.workers(None, 100, need(0)).devices, [0]);
        assert_eq!(cpu.workers(None, 100, need(10_000)).devices.len(), usual);
        assert_eq!(cpu.workers(Some(7), 100, need(19)).devices.len(), 7, "as asked");
    }
}
