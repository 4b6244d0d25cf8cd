//! The exponential moving average of a network, which DINOv2, MoCo v3 and I-JEPA learn from.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use std::collections::VecDeque;

/// The momentum at `progress` (0 to 1): from `start` to 1 along half a cosine.
pub(super) fn rising(start: f64, progress: f64) -> f64 {
    start + (1.0 - start) * (1.0 - (std::f64::consts::PI * progress).cos()) / 2.0
}

/// Moves every parameter of `average` towards `network`: `momentum · average + (1 - momentum) · network`. Both have
/// the same type and configuration; no gradient passes.
pub(super) fn follow<M: Module>(average: M, network: &M, momentum: f64) -> M {
    struct Collect(VecDeque<Tensor<1>>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push_back(param.val().inner().reshape([-1]));
        }
    }
    struct Blend(VecDeque<Tensor<1>>, f64);
    impl ModuleMapper for Blend {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            // Both networks are walked in the same order.
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
        let new = follow(old, &network, 0.75);
        new.weight.val().into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-6));
        assert!((rising(0.9, 0.0), rising(0.9, 1.0)) == (0.9, 1.0) && (rising(0.9, 0.5) - 0.95).abs() < 1e-9);
    }
}
