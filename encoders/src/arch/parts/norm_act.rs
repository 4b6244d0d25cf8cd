//! Norms over feature maps `[batch, channels, rows, columns]`, followed by an activation (timm's norm-act layers).
//!
//! Batch norms always use their running statistics; see [`FrozenBatchNorm`](super::FrozenBatchNorm).

use super::ActivationKind;
use crate::json_values::integer;
use crate::timm::TimmArguments;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// A norm over feature maps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NormActKind {
    /// Batch norm with running statistics.
    Batch {
        /// Epsilon added to the variance. Default 1e-5.
        #[serde(default = "small")]
        eps: f64,
    },
    /// Group norm (Wu & He 2018, arXiv:1803.08494).
    Group {
        /// Division of the channels.
        groups: ChannelGroups,
        /// Epsilon added to the variance. Default 1e-5.
        #[serde(default = "small")]
        eps: f64,
    },
    /// EvoNorm-S0 (Liu et al. 2020, arXiv:2004.02967), which is norm and activation in one: x·σ(v·x) divided by the
    /// standard deviation of x over a group of channels and all positions. Without activation only scale and shift are
    /// applied.
    EvoS0 {
        /// Division of the channels.
        groups: ChannelGroups,
        /// Epsilon added to the variance. Default 1e-5.
        #[serde(default = "small")]
        eps: f64,
    },
    /// As `evo-s0`, but without activation the division is still made. timm's default epsilon is 1e-3.
    EvoS0a {
        /// Division of the channels.
        groups: ChannelGroups,
        /// Epsilon added to the variance.
        eps: f64,
    },
}

/// The division of channels into groups of neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ChannelGroups {
    /// The number of groups.
    Count(usize),
    /// The number of channels per group.
    Size(usize),
}

fn small() -> f64 {
    1e-5
}

impl Default for NormActKind {
    fn default() -> Self {
        Self::Batch { eps: small() }
    }
}

impl ChannelGroups {
    /// Returns whether `channels` can be divided so, into whole groups.
    fn divide(self, channels: usize) -> bool {
        let (Self::Count(by) | Self::Size(by)) = self;
        by > 0 && channels >= by && channels.is_multiple_of(by)
    }

    /// Number of groups of `channels`.
    fn of(self, channels: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Size(size) => channels / size.max(1),
        }
    }
}

impl fmt::Display for ChannelGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => write!(f, "{n} groups"),
            Self::Size(n) => write!(f, "groups of {n} channels"),
        }
    }
}

impl NormActKind {
    /// Checks that the norm can be applied to maps of `channels`.
    ///
    /// # Errors
    /// The groups do not divide the channels.
    pub fn check(&self, channels: usize) -> Result<()> {
        match self {
            Self::Batch { .. } => Ok(()),
            Self::Group { groups, .. } | Self::EvoS0 { groups, .. } | Self::EvoS0a { groups, .. } => {
                if groups.divide(channels) {
                    return Ok(());
                }
                Err(Error::usage(format!("the norm cannot divide {channels} channels into {groups}"))
                    .hint("choose a number or size of groups that divides the channels of every layer"))
            }
        }
    }

    /// Reads the name of a norm of timm, with its settings if there are any.
    ///
    /// # Errors
    /// The norm or one of its settings is not supported.
    pub(crate) fn from_timm(arguments: &mut TimmArguments, key: &str, default: Self) -> Result<Self> {
        Ok(arguments
            .read(key, |value| {
                let none = Map::new();
                match value {
                    Value::String(name) => Self::named(name, &none),
                    Value::Object(layer) if layer.len() == 1 => {
                        let (name, settings) = layer.iter().next()?;
                        Self::named(name, settings.as_object()?)
                    }
                    _ => None,
                }
            })?
            .unwrap_or(default))
    }

    /// The norm with timm's `name` and `settings`; `None` if it is not supported.
    fn named(name: &str, settings: &Map<String, Value>) -> Option<Self> {
        if settings
            .keys()
            .any(|key| !matches!(key.as_str(), "eps" | "momentum" | "num_groups" | "groups" | "group_size"))
        {
            return None;
        }
        let eps = |default: f64| settings.get("eps").map_or(Some(default), Value::as_f64);
        let groups = || match (settings.get("group_size"), settings.get("num_groups").or(settings.get("groups"))) {
            (Some(size), _) if !size.is_null() => Some(ChannelGroups::Size(integer(size)?)),
            (_, Some(count)) => Some(ChannelGroups::Count(integer(count)?)),
            (_, None) => Some(ChannelGroups::Count(32)),
        };
        // The momentum concerns the running statistics, which are never updated.
        let batch = || settings.keys().all(|key| key == "eps" || key == "momentum").then_some(());
        match name.to_lowercase().replace('_', "").as_str() {
            "batchnorm" | "batchnorm2d" | "batchnormact2d" => {
                batch()?;
                Some(Self::Batch { eps: eps(1e-5)? })
            }
            "groupnorm" | "groupnormact" => Some(Self::Group { groups: groups()?, eps: eps(1e-5)? }),
            "evonorms0" | "evonorm2ds0" => Some(Self::EvoS0 { groups: groups()?, eps: eps(1e-5)? }),
            "evonorms0a" | "evonorm2ds0a" => Some(Self::EvoS0a { groups: groups()?, eps: eps(1e-3)? }),
            _ => None,
        }
    }

    /// Builds the norm for `channels`, followed by `activation`.
    pub fn init(self, channels: usize, activation: ActivationKind, device: &Device) -> NormAct {
        let constant = |value: f64| Initializer::Constant { value }.init([channels], device);
        let batch = matches!(self, Self::Batch { .. });
        let evo = matches!(self, Self::EvoS0 { .. } | Self::EvoS0a { .. });
        NormAct {
            weight: constant(1.0),
            bias: constant(0.0),
            running_mean: batch.then(|| constant(0.0)),
            running_var: batch.then(|| constant(1.0)),
            v: (evo && activation != ActivationKind::Identity).then(|| constant(1.0)),
            norm: self,
            activation,
        }
    }
}

/// A norm over feature maps, followed by an activation.
#[derive(Module, Debug)]
pub struct NormAct {
    /// Scale per channel, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift per channel, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean of a batch norm, `[channels]`; never trained.
    pub running_mean: Option<Param<Tensor<1>>>,
    /// Running variance of a batch norm, `[channels]`; never trained.
    pub running_var: Option<Param<Tensor<1>>>,
    /// Slope of the sigmoid of an EvoNorm with activation, `[channels]`.
    pub v: Option<Param<Tensor<1>>>,
    #[module(skip)]
    norm: NormActKind,
    #[module(skip)]
    activation: ActivationKind,
}

impl NormAct {
    /// Builds a batch norm with timm's epsilon, followed by `activation`.
    pub fn batch(channels: usize, activation: ActivationKind, device: &Device) -> Self {
        NormActKind::default().init(channels, activation, device)
    }

    /// Normalises and activates `[batch, channels, rows, columns]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let channels = x.dims()[1];
        match self.norm {
            NormActKind::Batch { eps } => self.activation.forward(self.batch_norm(x, eps)),
            NormActKind::Group { groups, eps } => {
                let grouped = Grouped::new(&x, groups.of(channels));
                let normed = grouped.centred(x).div(grouped.deviation(eps));
                self.activation.forward(self.affine(grouped.ungroup(normed)))
            }
            NormActKind::EvoS0 { groups, eps } | NormActKind::EvoS0a { groups, eps } => {
                let always = matches!(self.norm, NormActKind::EvoS0a { .. });
                if self.v.is_none() && !always {
                    return self.affine(x);
                }
                let grouped = Grouped::new(&x, groups.of(channels));
                let gated = match &self.v {
                    Some(v) => x.clone() * sigmoid(x * per_channel(v.val())),
                    None => x,
                };
                let divided = grouped.split(gated).div(grouped.deviation(eps));
                self.affine(grouped.ungroup(divided))
            }
        }
    }

    fn batch_norm(&self, x: Tensor<4>, eps: f64) -> Tensor<4> {
        let (Some(mean), Some(variance)) = (&self.running_mean, &self.running_var) else {
            return self.affine(x);
        };
        let scale = self.weight.val() / variance.val().detach().add_scalar(eps).sqrt();
        let shift = self.bias.val() - mean.val().detach() * scale.clone();
        x * per_channel(scale) + per_channel(shift)
    }

    fn affine(&self, x: Tensor<4>) -> Tensor<4> {
        x * per_channel(self.weight.val()) + per_channel(self.bias.val())
    }
}

/// Statistics of a feature map over groups of channels and all positions.
struct Grouped {
    shape: [usize; 4],
    groups: usize,
    /// Mean, `[batch, groups, 1]`.
    mean: Tensor<3>,
    /// Biased variance, `[batch, groups, 1]`.
    variance: Tensor<3>,
}

impl Grouped {
    fn new(x: &Tensor<4>, groups: usize) -> Self {
        let shape = x.dims();
        let [batch, ..] = shape;
        let grouped: Tensor<3> = x.clone().reshape([batch, groups, shape.iter().skip(1).product::<usize>() / groups]);
        let mean = grouped.clone().mean_dim(2);
        let variance = (grouped - mean.clone()).square().mean_dim(2);
        Self { shape, groups, mean, variance }
    }

    /// Reshapes `x` to `[batch, groups, channels per group · rows · columns]`.
    fn split(&self, x: Tensor<4>) -> Tensor<3> {
        let [batch, channels, rows, columns] = self.shape;
        x.reshape([batch, self.groups, channels / self.groups * rows * columns])
    }

    fn centred(&self, x: Tensor<4>) -> Tensor<3> {
        self.split(x) - self.mean.clone()
    }

    fn deviation(&self, eps: f64) -> Tensor<3> {
        self.variance.clone().add_scalar(eps).sqrt()
    }

    /// Reshapes the groups to the shape of the feature map.
    fn ungroup(&self, x: Tensor<3>) -> Tensor<4> {
        x.reshape(self.shape)
    }
}

/// Reshapes `[channels]` to `[1, channels, 1, 1]`, which broadcasts over a feature map.
pub(in crate::arch) fn per_channel(values: Tensor<1>) -> Tensor<4> {
    let [channels] = values.dims();
    values.reshape([1, channels, 1, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_must_divide_the_channels() {
        let norm = NormActKind::Group { groups: ChannelGroups::Count(32), eps: 1e-5 };
        assert!(norm.check(64).is_ok());
        assert!(norm.check(48).unwrap_err().to_string().contains("48 channels"));
        let norm = NormActKind::Group { groups: ChannelGroups::Size(16), eps: 1e-5 };
        assert!(norm.check(48).is_ok() && norm.check(8).is_err() && norm.check(40).is_err());
    }
}
