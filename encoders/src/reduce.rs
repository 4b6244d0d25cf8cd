//! Sums whose result has the same bits every time.
//!
//! Burn's `sum` of a whole tensor adds the workgroups' parts with atomic operations on a GPU: their order, and so the
//! last bits, change from run to run. What enters a parameter or a log line is summed along axes instead, in a fixed
//! order.

use crate::transfer;
use burn::tensor::Tensor;

/// Returns the sum of all elements, `[1]`, with the same bits for the same elements on the same device.
pub fn sum<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    // The CPU backend's own sum has a fixed order.
    if transfer::is_host(&x.device()) {
        return x.sum();
    }
    let shape = x.dims();
    let count: usize = shape.iter().product();
    let columns = shape.last().copied().unwrap_or(1);
    if count == 0 || columns == count {
        return if count == 0 { x.sum() } else { x.reshape([1, count]).sum_dim(1).reshape([1]) };
    }
    let rows = count / columns;
    x.reshape([rows, columns]).sum_dim(1).reshape([1, rows]).sum_dim(1).reshape([1])
}

/// Returns the mean of all elements, `[1]`, as [`sum`]; NaN for a tensor without elements.
pub fn mean<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    if transfer::is_host(&x.device()) {
        return x.mean();
    }
    let count: usize = x.dims().iter().product();
    sum(x).div_scalar(count as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn sums_equal_those_of_burn_on_the_host() {
        let device = Device::flex();
        let x =
            Tensor::<3>::from_data(TensorData::new((0..24).map(|i| i as f32).collect::<Vec<_>>(), [2, 3, 4]), &device);
        assert_eq!(sum(x.clone()).into_scalar::<f32>(), 276.0);
        assert_eq!(mean(x).into_scalar::<f32>(), 11.5);
    }
}
