//! The images of a study, as the encoders read them.

use crate::data::DataDirectory;
use burn::tensor::Device;

/// The images for which features are requested, and the devices that compute them.
#[derive(Clone, Copy)]
pub struct ImageSet<'a> {
    /// Data to which the images belong.
    pub data: &'a DataDirectory,
    /// Names of the images, relative to the data directory; features use the same indices.
    pub images: &'a [String],
    /// Devices that compute the features; all compute the same bits.
    pub devices: &'a [Device],
    /// What determines the bits that the devices compute ([`crate::machine::device::fingerprint`]); features of devices
    /// with different ones are cached separately.
    pub fingerprint: &'a str,
}
