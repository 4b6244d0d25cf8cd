//! Pooling layers of convolutional networks.

use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

/// Takes the maximum of every window of `kernel` × `kernel`; padding never is the maximum. With `ceil`, a window that
/// starts inside the image may reach beyond its edge.
pub fn max_pool(x: Tensor<4>, kernel: usize, stride: usize, padding: usize, ceil: bool) -> Tensor<4> {
    let options = MaxPoolOptions::new([kernel; 2]).with_stride([stride; 2]).with_padding([padding; 2]);
    max_pool2d(x, options.with_ceil_mode(ceil))
}

/// Takes the mean of every window of `kernel` × `kernel`. `count_padding` says whether zeros of the padding count.
pub fn avg_pool(
    x: Tensor<4>,
    kernel: usize,
    stride: usize,
    padding: usize,
    count_padding: bool,
    ceil: bool,
) -> Tensor<4> {
    let options = AvgPoolOptions::new([kernel; 2]).with_stride([stride; 2]).with_padding([padding; 2]);
    avg_pool2d(x, options.with_count_include_pad(count_padding).with_ceil_mode(ceil))
}

/// Takes the mean over all positions: `[batch, channels, rows, columns]` to `[batch, channels, 1, 1]`.
pub fn global_mean(x: Tensor<4>) -> Tensor<4> {
    x.mean_dim(3).mean_dim(2)
}
