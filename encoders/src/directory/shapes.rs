//! What the shapes of a checkpoint's tensors tell about the network they belong to.

use crate::arch::{Activation, ConvNextConfig, VitConfig};
use crate::checkpoint::{Checkpoint, Dialect};
use burgess_base::{Error, Result};

/// The shapes of a checkpoint by the names of our modules.
pub(super) struct Shapes<'a> {
    weights: &'a Checkpoint,
    dialect: &'static Dialect,
    /// What stands before the names of the dialect.
    pub prefix: String,
}

impl<'a> Shapes<'a> {
    /// Of the tensors with names of `dialect`.
    pub fn new(weights: &'a Checkpoint, dialect: &str) -> Result<Self> {
        Ok(Self { weights, dialect: Dialect::find(dialect)?, prefix: String::new() })
    }

    /// Finds what stands before the names, as in a model with a head on top.
    pub fn under_its_prefix(mut self) -> Result<Self> {
        let wanted = self.dialect.names("patch_embed.proj.weight").into_iter().flatten().next().unwrap_or_default();
        let found = self.weights.keys().find_map(|key| key.strip_suffix(wanted.as_str()));
        self.prefix = found
            .filter(|p| p.is_empty() || p.ends_with('.'))
            .ok_or_else(|| {
                Error::failed(format!("the weights have no `{wanted}`"))
                    .hint("config.json and the weights belong to different models")
            })?
            .to_string();
        Ok(self)
    }

    /// The upstream shapes of the parts of a parameter that are in the file.
    fn of(&self, path: &str) -> Vec<&[usize]> {
        let names = self.dialect.names(path).unwrap_or_default();
        names.iter().filter_map(|name| self.weights.shape(&format!("{}{name}", self.prefix))).collect()
    }

    fn has(&self, path: &str) -> bool {
        !self.of(path).is_empty()
    }

    /// The only part of a parameter that every network has, with at least `rank` dimensions.
    fn shape(&self, path: &str, rank: usize) -> Result<&[usize]> {
        let shape = self.of(path).into_iter().next().filter(|s| s.len() >= rank);
        shape.ok_or_else(|| {
            Error::failed(format!("the weights have no `{path}` (in dialect `{}`)", self.dialect.name))
                .hint("config.json and the weights belong to different models")
        })
    }

    /// All of a vision transformer that its weights tell; `image_size` are the pictures it is given.
    pub fn vit(&self, image_size: usize) -> Result<VitConfig> {
        let patches = self.shape("patch_embed.proj.weight", 4)?;
        let (width, patch) = (patches[0], patches[2].max(1));
        let depth = (0..).take_while(|i| self.has(&format!("blocks.{i}.norm1.weight"))).count();
        let mlp_hidden = self.shape("blocks.0.mlp.fc2.weight", 2)?[1];
        let fc1: usize = self.of("blocks.0.mlp.fc1.weight").iter().filter_map(|s| s.first()).sum();
        let class_token = self.has("cls_token");
        let positions = self.of("pos_embed").into_iter().next().and_then(|s| s.len().checked_sub(2).map(|i| s[i]));
        let side = |n: usize| Some(n.isqrt()).filter(|side| side * side == n);
        let own = positions.map(|n| side(n).map(|s| (s, false)).or_else(|| Some((side(n.checked_sub(1)?)?, true))));
        let (grid, pos_embed_class) = match own {
            None => (None, true),
            Some(Some((side, class))) => (Some(side), class || !class_token),
            Some(None) => return Err(Error::failed("the positions are of a grid that is not square")),
        };
        Ok(VitConfig {
            image_size,
            patch,
            width,
            depth,
            heads: 1,
            mlp_hidden,
            class_token,
            registers: self.of("reg_token").first().and_then(|s| s.get(1)).copied().unwrap_or(0),
            pre_norm: self.has("norm_pre.weight"),
            patch_bias: self.has("patch_embed.proj.bias"),
            qkv_bias: self.has("blocks.0.attn.qkv.bias"),
            layer_scale: self.has("blocks.0.ls1.gamma").then_some(1.0),
            activation: if fc1 == 2 * mlp_hidden { Activation::Swiglu } else { Activation::Gelu },
            norm_eps: 1e-6,
            final_norm: self.has("norm.weight"),
            pos_embed_class,
            absolute_positions: grid.is_some(),
            position_grid: grid.filter(|side| *side != image_size / patch),
            position_offset: 0.0,
            relative_positions: self.has("blocks.0.attn.relative_position_bias_table"),
            rotary_grid: None,
            inner_norms: self.has("blocks.0.attn.norm.weight"),
        })
    }

    /// All of a ConvNeXt that its weights tell.
    pub fn convnext(&self, image_size: usize) -> Result<ConvNextConfig> {
        let (mut depths, mut dims) = ([0; 4], [0; 4]);
        for stage in 0..4 {
            depths[stage] = (0..).take_while(|b| self.has(&format!("stages.{stage}.blocks.{b}.norm.weight"))).count();
            dims[stage] = self.shape(&format!("stages.{stage}.blocks.0.norm.weight"), 1)?[0];
        }
        Ok(ConvNextConfig {
            image_size,
            stem: self.shape("stem.0.weight", 4)?[2],
            depths,
            dims,
            layer_scale: 1e-6,
            norm_eps: 1e-6,
            final_norm: self.has("head.norm.weight"),
        })
    }
}
