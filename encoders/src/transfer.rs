//! Copies between host and device, counted.
//!
//! Every copy on the way from images to answers and from batches to optimiser steps goes through this module, so that
//! `burgess bench` and tests can state how many there are, how large they are, and how often the host waits for the
//! device. The counts depend only on the work, not on the speed of the device: a regression is seen without a GPU. On
//! the CPU backend a "copy" only moves a buffer, but it is counted in the same way.

use burgess_base::{Error, Result};
use burn::tensor::kind::{Basic, Transaction as Readable};
use burn::tensor::{Device, Element, Float, Tensor, TensorData, Transaction};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

static UPLOADS: AtomicU64 = AtomicU64::new(0);
static UPLOADED_BYTES: AtomicU64 = AtomicU64::new(0);
static DOWNLOADS: AtomicU64 = AtomicU64::new(0);
static DOWNLOADED_BYTES: AtomicU64 = AtomicU64::new(0);
static SYNCHRONISATIONS: AtomicU64 = AtomicU64::new(0);
static LAUNCHES: AtomicU64 = AtomicU64::new(0);

/// Numbers of copies between host and device, of synchronisations, and of kernel launches, in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferCounts {
    /// Number of copies from host to device.
    pub uploads: u64,
    /// Total size of these copies in bytes.
    pub uploaded_bytes: u64,
    /// Number of copies from device to host; tensors that are read together count once.
    pub downloads: u64,
    /// Total size of these copies in bytes.
    pub downloaded_bytes: u64,
    /// Number of times that the host waits for the device: each download, and each explicit synchronisation.
    pub synchronisations: u64,
    /// Number of kernel launches while a [`LaunchCounter`] exists; 0 on backends without kernels (flex, LibTorch).
    pub launches: u64,
}

impl TransferCounts {
    /// Returns the counts since the start of the process, of all threads and devices.
    pub fn now() -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            uploads: read(&UPLOADS),
            uploaded_bytes: read(&UPLOADED_BYTES),
            downloads: read(&DOWNLOADS),
            downloaded_bytes: read(&DOWNLOADED_BYTES),
            synchronisations: read(&SYNCHRONISATIONS),
            launches: read(&LAUNCHES),
        }
    }

    /// Returns the counts since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            uploads: self.uploads.saturating_sub(earlier.uploads),
            uploaded_bytes: self.uploaded_bytes.saturating_sub(earlier.uploaded_bytes),
            downloads: self.downloads.saturating_sub(earlier.downloads),
            downloaded_bytes: self.downloaded_bytes.saturating_sub(earlier.downloaded_bytes),
            synchronisations: self.synchronisations.saturating_sub(earlier.synchronisations),
            launches: self.launches.saturating_sub(earlier.launches),
        }
    }
}

/// Counts the launches of kernels on all devices of CubeCL (wgpu, Vulkan, CUDA) while it exists.
#[derive(Debug)]
#[must_use = "launches are counted only while this value exists"]
pub struct LaunchCounter {
    #[cfg(feature = "count-launches")]
    _observation: cubecl_runtime::logging::LaunchObservation,
}

impl LaunchCounter {
    /// Starts counting; `None` if this binary has no backend whose launches can be observed.
    pub fn start() -> Option<Self> {
        #[cfg(feature = "count-launches")]
        {
            let observation = cubecl_runtime::logging::LaunchObservation::new(std::sync::Arc::new(CountLaunches));
            Some(Self { _observation: observation })
        }
        #[cfg(not(feature = "count-launches"))]
        None
    }
}

#[cfg(feature = "count-launches")]
struct CountLaunches;

#[cfg(feature = "count-launches")]
impl cubecl_runtime::logging::LaunchObserver for CountLaunches {
    fn launched(&self, _kernel: &'static str) {
        LAUNCHES.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns whether a device computes in host memory (flex), where transfers copy nothing and overlap with nothing.
pub fn is_host(device: &Device) -> bool {
    *device == Device::flex()
}

/// Copies data to a device.
pub fn to_device<const D: usize, K: Basic>(data: TensorData, device: &Device) -> Tensor<D, K> {
    UPLOADS.fetch_add(1, Ordering::Relaxed);
    UPLOADED_BYTES.fetch_add(data.as_bytes().len() as u64, Ordering::Relaxed);
    Tensor::from_data(data, device)
}

/// Copies the values of a tensor to the host, in row-major order, and waits for them.
///
/// # Errors
/// The device fails to compute or to copy them, or they cannot be converted to `E`.
pub fn to_host<E: Element, const D: usize, K: Basic>(tensor: Tensor<D, K>) -> Result<Vec<E>> {
    count_download(bytes(&tensor));
    tensor.try_into_vec_as().map_err(|e| Error::failed(e.to_string()))
}

/// Copies the only value of a tensor to the host and waits for it.
///
/// # Errors
/// As [`to_host`]; or the tensor does not have exactly one value.
pub fn scalar<const D: usize>(tensor: Tensor<D>) -> Result<f32> {
    match to_host::<f32, D, Float>(tensor)?.as_slice() {
        [value] => Ok(*value),
        values => Err(Error::failed(format!("a tensor has {} values, expected one", values.len()))),
    }
}

/// Waits until a device has finished all work.
///
/// # Errors
/// Some of the work failed.
pub fn synchronise(device: &Device) -> Result<()> {
    SYNCHRONISATIONS.fetch_add(1, Ordering::Relaxed);
    device.sync().map_err(|e| Error::failed(e.to_string()))
}

/// Several tensors of one device that are copied to the host together: the host waits once for all of them.
///
/// Float tensors must be all on the device with autodiff, or all on the one without.
#[derive(Default)]
pub struct Downloads {
    transaction: Transaction,
    tensors: usize,
    bytes: u64,
}

impl Downloads {
    /// Adds a tensor.
    #[must_use]
    pub fn with<const D: usize, K: Readable>(mut self, tensor: Tensor<D, K>) -> Self {
        self.tensors += 1;
        self.bytes += bytes(&tensor);
        self.transaction = self.transaction.register(tensor);
        self
    }

    /// Copies the tensors to the host; returns their values in the order in which they were added.
    ///
    /// # Errors
    /// The device fails to compute or to copy them.
    pub fn read(self) -> Result<Vec<TensorData>> {
        if self.tensors == 0 {
            return Ok(Vec::new());
        }
        count_download(self.bytes);
        self.transaction.try_execute().map_err(|e| Error::failed(e.to_string()))
    }
}

fn bytes<const D: usize, K: Basic>(tensor: &Tensor<D, K>) -> u64 {
    (tensor.shape().num_elements() * tensor.dtype().size()) as u64
}

fn count_download(bytes: u64) {
    DOWNLOADS.fetch_add(1, Ordering::Relaxed);
    DOWNLOADED_BYTES.fetch_add(bytes, Ordering::Relaxed);
    SYNCHRONISATIONS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Int;

    #[test]
    fn tensors_that_are_read_together_keep_their_order() -> Result<()> {
        let device = Device::flex();
        assert!(is_host(&device) && is_host(&device.clone().autodiff()));
        let whole: Tensor<2> = to_device(TensorData::new(vec![1f32, 2.0, 3.0, 4.0], [2, 2]), &device);
        let numbers: Tensor<1, Int> = to_device(TensorData::new(vec![7i32, 8], [2]), &device);
        let read = Downloads::default().with(numbers.clone()).with(whole.clone()).with(numbers).read()?;
        let convert = |e| Error::failed(format!("{e:?}"));
        let values =
            |i: usize| read.get(i).cloned().unwrap_or_else(|| TensorData::from([0f32])).try_into_vec_as::<f32>();
        assert_eq!(values(0).map_err(convert)?, [7.0, 8.0]);
        assert_eq!(values(1).map_err(convert)?, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(values(2).map_err(convert)?, [7.0, 8.0]);
        assert_eq!(to_host::<f32, 2, Float>(whole)?, [1.0, 2.0, 3.0, 4.0]);
        assert!(Downloads::default().read()?.is_empty());
        Ok(())
    }
}
