//! The exponential moving average of a network: the teacher of DINOv2, the momentum encoder of MoCo v3 and the target
//! encoder of I-JEPA.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use std::collections::VecDeque;

/// Returns the momentum at `progress` (0 to 1): it rises from `start` to 1 along half a cosine.
pub(super) fn cosine_momentum(start: f64, progress: f64) -> f64 {
    start + (1.0 - start) * (1.0 - (std::f64::consts::PI * progress).cos()) / 2.0
}

/// Returns `momentum · average + (1 - momentum) · network` for every parameter. Both networks have the same type and
/// configuration; no gradient is computed.
pub(super) fn ema_update<M: Module>(average: M, network: &M, momentum: f64) -> M {
    struct Collect(VecDeque<Tensor<1>>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push_back(param.val().inner().reshape([-1]));
        }
    }
    struct Blend(VecDeque<Tensor<1>>, f64);
    impl ModuleMapper for Blend {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            // Both networks are visited in the same order.
            match self.0.pop_front() {
                Some(new) => {
                    let momentum = self.1;
                    param.map(|old| {
                        let shape = old.shape();
                        old.mul_scalar(momentum) + new.mul_scalar(1.0 - momentum).reshape(shape)
                    })
                }
                None => param,
            }
        }
    }
    let mut collect = Collect(VecDeque::new());
    network.visit(&mut collect);
    average.map(&mut Blend(collect.0, momentum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Tolerance};

    #[test]
    fn the_average_follows_and_the_momentum_rises_to_one() {
        let device = Device::flex().autodiff();
        let network = LinearConfig::new(3, 2).init(&device);
        let old = LinearConfig::new(3, 2).init(&device).valid();
        let expected = old.weight.val() * 0.75 + network.weight.val().inner() * 0.25;
        let new = ema_update(old, &network, 0.75);
        new.weight.val().into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-6));
        assert!(
            (cosine_momentum(0.9, 0.0), cosine_momentum(0.9, 1.0)) == (0.9, 1.0)
                && (cosine_momentum(0.9, 0.5) - 0.95).abs() < 1e-9
        );
    }
}
