//! timm's notation of mobile networks: strings such as `ir_r2_k3_s2_e6_c24_se0.25` define the blocks of a stage, and a
//! few numbers scale their depth and width. This module reads the notation and resolves it to [`MobileBlockConfig`]s,
//! in which every number of channels is stated.
//!
//! | option | meaning |
//! |---|---|
//! | `r2` | the block is repeated twice |
//! | `k3`, `k3.5.7` | kernel; several: the channels are divided among these kernels |
//! | `s2` | stride of the first repetition |
//! | `e6` | expanded channels = 6 · input channels |
//! | `c24` | output channels, before the channel multiplier |
//! | `se0.25` | squeeze-and-excitation with that share of channels |
//! | `a1.1`, `p1.1` | kernels of expansion and projection (`uir`: of the first and the last depthwise convolution) |
//! | `nre`, `nr6`, `nhs`, `nsw`, `nmi` | activation of this block: ReLU, ReLU6, hard-swish, SiLU, mish |
//! | `skip`, `noskip` | force, or forbid, a residual connection |
//! | `fc24` | input channels from which those of an `er` block's expansion are computed |
//! | `gs64` | channels per group |
//! | `cc4` | number of experts of conditional convolutions |
//! | `h4`, `d64`, `v2` | heads, channels per head, stride of keys and values in attention |

use super::config::{MobileBlockConfig, MobileBlockKind};
use crate::arch::parts::ActivationKind;
use crate::arch::parts::{divisible, divisible_within, rounded};
use burgess_base::{Error, Result};

/// How channels are scaled and rounded: timm's `round_channels`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ChannelRounding {
    /// Factor applied before rounding; 0 leaves channels as they are.
    pub multiplier: f64,
    /// The result is a multiple of this number.
    pub divisor: usize,
    /// Rounding down to less than this share is followed by one step up.
    pub limit: f64,
}

impl Default for ChannelRounding {
    fn default() -> Self {
        Self { multiplier: 1.0, divisor: 8, limit: 0.9 }
    }
}

impl ChannelRounding {
    /// Scales and rounds a number of channels.
    pub fn apply(self, channels: f64) -> usize {
        if self.multiplier == 0.0 {
            return channels as usize;
        }
        divisible_within(channels * self.multiplier, self.divisor, self.limit)
    }
}

/// How the channels inside squeeze-and-excitation are rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SqueezeRounding {
    /// To the nearest integer.
    Nearest,
    /// As channels.
    Channels(ChannelRounding),
    /// Down after adding one half (timm's `make_divisible` by 1).
    Floor,
}

/// Everything that scales a definition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaling {
    /// Depth multiplier of each stage.
    pub depth: Vec<f64>,
    /// Whether scaled depths are rounded to the nearest integer, and not up.
    pub round_depth: bool,
    /// Whether the first and the last stage keep their depth.
    pub fixed_ends: bool,
    /// Factor of the number of experts.
    pub experts: usize,
    /// Channels per group of blocks that do not state them.
    pub group_size: Option<usize>,
    /// Rounding of output channels.
    pub channels: ChannelRounding,
    /// Whether squeezed channels are a share of the expanded channels, and not of the block's input.
    pub squeeze_expanded: bool,
    /// Rounding of squeezed channels.
    pub squeeze: SqueezeRounding,
}

/// A block as its string defines it.
#[derive(Debug, Clone, PartialEq)]
struct Definition {
    kind: MobileBlockKind,
    activated: bool,
    repeats: usize,
    kernels: Vec<usize>,
    first: Option<Vec<usize>>,
    last: Option<Vec<usize>>,
    stride: usize,
    expansion: f64,
    channels: usize,
    squeeze: f64,
    activation: Option<ActivationKind>,
    skip: Option<bool>,
    forced_input: usize,
    group_size: Option<usize>,
    experts: usize,
    heads: usize,
    key_channels: usize,
    key_stride: usize,
}

fn invalid(text: &str, what: &str) -> Error {
    Error::failed(format!("block definition `{text}`: {what}"))
        .hint("a definition looks like ir_r2_k3_s2_e6_c24_se0.25: kind, repeats, kernel, stride, expansion, channels")
}

/// Reads one definition.
fn parse(text: &str) -> Result<Definition> {
    let mut options = text.split('_');
    let name = options.next().unwrap_or_default();
    let (kind, activated) = match name {
        "ir" => (MobileBlockKind::Inverted, false),
        "ds" => (MobileBlockKind::Separable, false),
        "dsa" => (MobileBlockKind::Separable, true),
        "er" => (MobileBlockKind::Edge, false),
        "cn" => (MobileBlockKind::Convolution, false),
        "uir" => (MobileBlockKind::Universal, false),
        "mqa" => (MobileBlockKind::MultiQueryAttention, false),
        "mha" => (MobileBlockKind::MultiHeadAttention, false),
        other => return Err(invalid(text, &format!("unknown kind `{other}`"))),
    };
    let mut found = Definition {
        kind,
        activated,
        repeats: 0,
        kernels: Vec::new(),
        first: None,
        last: None,
        stride: 0,
        expansion: 1.0,
        channels: 0,
        squeeze: 0.0,
        activation: None,
        skip: None,
        forced_input: 0,
        group_size: None,
        experts: 0,
        heads: 0,
        key_channels: 0,
        key_stride: 1,
    };
    for option in options {
        match option {
            "skip" => found.skip = Some(true),
            "noskip" => found.skip = Some(false),
            "nre" => found.activation = Some(ActivationKind::Relu),
            "nr6" => found.activation = Some(ActivationKind::Relu6),
            "nhs" => found.activation = Some(ActivationKind::HardSwish),
            "nsw" => found.activation = Some(ActivationKind::Silu),
            "nmi" => found.activation = Some(ActivationKind::Mish),
            _ => set(&mut found, option).ok_or_else(|| invalid(text, &format!("cannot read `{option}`")))??,
        }
    }
    if found.repeats == 0 || found.channels == 0 || !(1..=2).contains(&found.stride) {
        return Err(invalid(text, "repeats (r), channels (c) or stride (s, 1 or 2) is missing"));
    }
    if found.kernels.is_empty() {
        return Err(invalid(text, "the kernel (k) is missing"));
    }
    Ok(found)
}

/// Sets one numeric option; `None` if it cannot be read.
fn set(found: &mut Definition, option: &str) -> Option<Result<()>> {
    let (key, value) = option.split_at(option.find(|c: char| c.is_ascii_digit())?);
    let number = || value.parse::<usize>().ok();
    let list = || value.split('.').map(|k| k.parse().ok()).collect::<Option<Vec<usize>>>();
    match key {
        "r" => found.repeats = number()?,
        "k" => found.kernels = list()?,
        "a" => found.first = Some(list()?),
        "p" => found.last = Some(list()?),
        "s" => found.stride = number()?,
        "e" => found.expansion = value.parse().ok()?,
        "c" => found.channels = number()?,
        "se" => found.squeeze = value.parse().ok()?,
        "fc" => found.forced_input = number()?,
        "gs" => found.group_size = Some(number()?),
        "cc" => found.experts = number()?,
        "h" => found.heads = number()?,
        "v" => found.key_stride = number()?,
        "d" if found.kind.is_attention() => found.key_channels = number()?,
        "d" => {
            return Some(Err(Error::failed("space-to-depth blocks (d1) are not supported")
                .hint("no model of timm 1.0.20 with pretrained weights has them")));
        }
        _ => return None,
    }
    Some(Ok(()))
}

/// The repeats of a stage's definitions after scaling: the total is scaled, then shared out from the last to the first.
fn scaled_repeats(repeats: &[usize], multiplier: f64, round: bool) -> Vec<usize> {
    let mut left = repeats.iter().sum::<usize>();
    let scaled = left as f64 * multiplier;
    let mut scaled = if round { scaled.round_ties_even().max(1.0) } else { scaled.ceil() };
    let mut result: Vec<usize> = repeats
        .iter()
        .rev()
        .map(|count| {
            let share = (*count as f64 / left as f64 * scaled).round_ties_even().max(1.0);
            left -= count;
            scaled -= share;
            share as usize
        })
        .collect();
    result.reverse();
    result
}

/// Resolves the definitions of all stages for a network whose stem has `stem` channels.
///
/// # Errors
/// A definition cannot be read.
pub(super) fn resolve(stages: &[Vec<String>], stem: usize, scaling: &Scaling) -> Result<Vec<Vec<MobileBlockConfig>>> {
    let mut channels = stem;
    let mut resolved = Vec::with_capacity(stages.len());
    for (index, stage) in stages.iter().enumerate() {
        let definitions = stage.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
        let fixed = scaling.fixed_ends && (index == 0 || index + 1 == stages.len());
        let multiplier = if fixed { 1.0 } else { scaling.depth.get(index).copied().unwrap_or(1.0) };
        let repeats: Vec<usize> = definitions.iter().map(|d| d.repeats).collect();
        let repeats = scaled_repeats(&repeats, multiplier, scaling.round_depth);
        let mut blocks = Vec::new();
        for (definition, count) in definitions.iter().zip(repeats) {
            for _ in 0..count {
                let stride = if blocks.is_empty() { definition.stride } else { 1 };
                let block = block(definition, channels, stride, scaling);
                channels = block.channels;
                blocks.push(block);
            }
        }
        resolved.push(blocks);
    }
    Ok(resolved)
}

/// Resolves one block with `input` input channels.
fn block(definition: &Definition, input: usize, stride: usize, scaling: &Scaling) -> MobileBlockConfig {
    use MobileBlockKind as Kind;
    let kind = definition.kind;
    let channels = scaling.channels.apply(definition.channels as f64);
    let expanded = |from: usize| divisible(from as f64 * definition.expansion, 8);
    let hidden = match kind {
        Kind::Inverted | Kind::Universal => expanded(input),
        Kind::Edge if definition.forced_input > 0 => expanded(scaling.channels.apply(definition.forced_input as f64)),
        Kind::Edge => expanded(input),
        Kind::Separable => input,
        Kind::Convolution | Kind::MultiQueryAttention | Kind::MultiHeadAttention => 0,
    };
    let expansion = if kind == Kind::Separable { 1.0 } else { definition.expansion };
    let ratio = if scaling.squeeze_expanded { definition.squeeze } else { definition.squeeze / expansion };
    let squeezes = hidden > 0 && definition.squeeze > 0.0;
    let squeezed = hidden as f64 * ratio;
    let squeezed = match scaling.squeeze {
        _ if !squeezes => 0,
        SqueezeRounding::Nearest => rounded(squeezed),
        SqueezeRounding::Channels(rounding) => rounding.apply(squeezed),
        SqueezeRounding::Floor => divisible_within(squeezed, 1, 0.0),
    };
    let fits = stride == 1 && input == channels;
    let residual = fits
        && match kind {
            Kind::Convolution => definition.skip == Some(true),
            _ => !definition.activated && definition.skip != Some(false),
        };
    let one = |kernels: &Option<Vec<usize>>| kernels.as_ref().and_then(|k| k.first()).copied().unwrap_or_default();
    let pointwise = |kernels: &Option<Vec<usize>>| kernels.clone().unwrap_or_else(|| vec![1]);
    let (start_kernel, end_kernel, expand, project) = match kind {
        Kind::Universal => (one(&definition.first), one(&definition.last), vec![1], vec![1]),
        _ => (0, 0, pointwise(&definition.first), pointwise(&definition.last)),
    };
    MobileBlockConfig {
        kind,
        channels,
        stride,
        kernels: definition.kernels.clone(),
        start_kernel,
        end_kernel,
        expand_kernels: expand,
        project_kernels: project,
        hidden,
        squeezed,
        group_size: definition.group_size.or(scaling.group_size),
        experts: if definition.experts > 0 { definition.experts * scaling.experts.max(1) } else { 0 },
        activation: definition.activation,
        residual,
        activated: definition.activated,
        heads: definition.heads,
        key_channels: definition.key_channels,
        key_stride: definition.key_stride,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling() -> Scaling {
        Scaling {
            depth: Vec::new(),
            round_depth: false,
            fixed_ends: false,
            experts: 1,
            group_size: None,
            channels: ChannelRounding::default(),
            squeeze_expanded: false,
            squeeze: SqueezeRounding::Nearest,
        }
    }

    #[test]
    fn channels_are_rounded_as_in_timm() {
        assert_eq!(ChannelRounding::default().apply(35.9), 40);
        assert_eq!(ChannelRounding { multiplier: 0.0, ..Default::default() }.apply(13.0), 13);
    }

    #[test]
    fn repeats_are_shared_out_from_the_last() {
        assert_eq!(scaled_repeats(&[1, 2], 1.0, false), [1, 2]);
        assert_eq!(scaled_repeats(&[1, 2], 1.4, false), [2, 3]);
        assert_eq!(scaled_repeats(&[4], 0.9, false), [4]);
        assert_eq!(scaled_repeats(&[1], 0.2, true), [1]);
    }

    #[test]
    fn a_definition_is_resolved() -> Result<()> {
        let stages = resolve(&[vec!["ir_r2_k3.5_s2_e6_c24_se0.25_nre".to_string()]], 16, &scaling())?;
        let blocks = &stages[0];
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].hidden, blocks[0].squeezed, blocks[0].stride, blocks[0].residual), (96, 4, 2, false));
        assert_eq!((blocks[1].hidden, blocks[1].squeezed, blocks[1].stride, blocks[1].residual), (144, 6, 1, true));
        assert_eq!((&blocks[0].kernels[..], blocks[0].activation), (&[3, 5][..], Some(ActivationKind::Relu)));
        Ok(())
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let say = |text: &str| resolve(&[vec![text.to_string()]], 16, &scaling()).unwrap_err().to_string();
        assert!(say("xx_r1_k3_s1_c8").contains("unknown kind `xx`"));
        assert!(say("ir_r1_k3_s1_e6_c8_q9").contains("cannot read `q9`"));
        assert!(say("ir_r1_k3_s1_e6_c8_nxx").contains("cannot read `nxx`"));
        assert!(say("ir_k3_s1_e6_c8").contains("repeats (r)"));
        assert!(say("ir_r1_s1_e6_c8").contains("kernel (k)"));
        assert!(say("ir_r1_k3_s1_e6_c8_d1").contains("space-to-depth"));
    }
}
