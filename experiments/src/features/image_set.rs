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
    /// Name of the devices; features of different kinds of devices are cached separately.
    pub device_name: &'a str,
}
