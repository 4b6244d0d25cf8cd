//! Derives the hyper-parameters of a network from the shapes of a checkpoint's tensors.

use crate::arch::{Activation, QkNorm, SamConfig, VitConfig};
use crate::checkpoint::{Checkpoint, CheckpointPart, Dialect};
use burgess_base::{Error, Result};

/// The shapes of a checkpoint's tensors, by the parameter names of our modules.
pub(super) struct TensorShapes<'a> {
    weights: &'a Checkpoint,
    dialect: &'static Dialect,
    /// The part of the checkpoint that contains the encoder.
    part: CheckpointPart,
}

impl<'a> TensorShapes<'a> {
    /// Builds the table of shapes for the names of `dialect` in `part`.
    pub fn new(weights: &'a Checkpoint, dialect: &str, part: &CheckpointPart) -> Result<Self> {
        Ok(Self { weights, dialect: Dialect::find(dialect)?, part: part.clone() })
    }

    /// Returns the upstream shapes of those tensors of a parameter that are in the file.
    fn of(&self, path: &str) -> Vec<&[usize]> {
        let names = self.dialect.all_names(path);
        names.iter().filter_map(|name| self.weights.shape(&self.part.stored_name(name)?)).collect()
    }

    /// Whether a tensor of a parameter is in the file.
    pub fn has(&self, path: &str) -> bool {
        !self.of(path).is_empty()
    }

    /// Returns the shape of a parameter that every network stores as one tensor of at least `rank` dimensions.
    fn shape(&self, path: &str, rank: usize) -> Result<&[usize]> {
        let shape = self.of(path).into_iter().next().filter(|s| s.len() >= rank);
        shape.ok_or_else(|| {
            Error::failed(format!("the weights have no `{path}` (in dialect `{}`)", self.dialect.name))
                .hint("download config.json and the weights again: they belong to different models")
        })
    }

    /// Returns the length of the first dimension of a parameter's first tensor.
    pub fn rows(&self, path: &str) -> Option<usize> {
        self.of(path).first().and_then(|shape| shape.first()).copied()
    }

    fn depth(&self) -> usize {
        (0..).take_while(|i| self.has(&format!("blocks.{i}.norm1.weight"))).count()
    }

    /// Returns the number of tokens with a position embedding; `None` without position embeddings.
    fn positions(&self) -> Option<usize> {
        let shape = self.of("pos_embed").into_iter().next()?;
        shape.len().checked_sub(2).map(|i| shape[i])
    }

    /// Returns the side of the grid of position embeddings, of which the first `before` do not belong to patches.
    pub fn position_grid(&self, before: usize) -> Result<usize> {
        let wanted = || self.dialect.names("pos_embed").into_iter().flatten().next().unwrap_or_default();
        let positions = self.positions().ok_or_else(|| {
            Error::failed(format!("the weights have no `{}{}`", self.part.prefix, wanted()))
                .hint("download the configuration and the weights again: they belong to different models")
        })?;
        positions.checked_sub(before).and_then(square).ok_or_else(not_square)
    }

    /// Returns the hyper-parameters of a vision transformer that follow from its weights, for images of `image_size`.
    pub fn vit(&self, image_size: usize) -> Result<VitConfig> {
        let (width, patch) = match self.shape("patch_embed.proj.weight", 2)? {
            [width, _, side, ..] => (*width, (*side).max(1)),
            // A linear layer of flattened patches with three channels.
            [width, inputs] => (*width, (inputs / 3).isqrt().max(1)),
            _ => (0, 1),
        };
        let mlp_hidden = self.shape("blocks.0.mlp.fc2.weight", 2)?[1];
        let fc1: usize = self.of("blocks.0.mlp.fc1.weight").iter().filter_map(|s| s.first()).sum();
        let (class_token, distillation_token) = (self.has("cls_token"), self.has("dist_token"));
        let class_tokens = match self.of("cls_token").first() {
            Some([_, count, _]) => *count,
            _ => 1,
        };
        let registers = self.of("reg_token").first().and_then(|s| s.get(1)).copied().unwrap_or(0);
        let own = image_size / patch;
        let positions = self.positions();
        let special = class_tokens * usize::from(class_token) + usize::from(distillation_token);
        // The number of prefix tokens with a position embedding. If several numbers leave a square, the one that leaves
        // the grid of the images is chosen.
        let mut counts = vec![special, special + registers];
        if !distillation_token {
            counts.insert(0, 0);
        }
        let side = |count: &usize| square(positions?.checked_sub(*count)?);
        let exact = counts.iter().find(|count| side(count) == Some(own));
        let before = exact.or_else(|| counts.iter().find(|count| side(count).is_some()));
        let grid = before.and_then(side);
        if positions.is_some() && grid.is_none() {
            return Err(not_square());
        }
        let before = before.copied().filter(|_| grid.is_some());
        let attention_norm = self.has("blocks.0.attn.norm.weight");
        let mlp_norm = self.has("blocks.0.mlp.norm.weight");
        if attention_norm && !mlp_norm {
            return Err(Error::failed("the attention has an inner norm, but the MLP has none")
                .hint("write a card: only inner norms in both, or in the MLP alone, are supported"));
        }
        let qk_norm = match self.rows("blocks.0.attn.q_norm.weight") {
            None => QkNorm::None,
            Some(channels) if channels == width => QkNorm::Width,
            Some(_) => QkNorm::Head,
        };
        Ok(VitConfig {
            class_token,
            class_tokens,
            distillation_token,
            registers,
            pre_norm: self.has("norm_pre.weight"),
            patch_bias: self.has("patch_embed.proj.bias"),
            patch_norm: self.has("patch_embed.norm.weight"),
            qkv_bias: self.has("blocks.0.attn.qkv.bias"),
            proj_bias: self.has("blocks.0.mlp.fc2.bias"),
            qk_norm,
            layer_scale: self.has("blocks.0.ls1.gamma").then_some(1.0),
            activation: if fc1 == 2 * mlp_hidden { Activation::Swiglu } else { Activation::Gelu },
            final_norm: self.has("norm.weight"),
            pos_embed_class: before.is_none_or(|n| n > 0 || !class_token),
            pos_embed_registers: registers > 0 && before.is_some_and(|n| n > special),
            absolute_positions: grid.is_some(),
            position_grid: grid.filter(|side| *side != own),
            relative_positions: self.has("blocks.0.attn.relative_position_bias_table"),
            inner_norms: attention_norm,
            mlp_norm: mlp_norm && !attention_norm,
            ..VitConfig::plain(image_size, patch, width, self.depth(), 1, mlp_hidden)
        })
    }

    /// Returns the hyper-parameters of a SAM encoder that follow from its weights.
    pub fn sam(&self, image_size: usize) -> Result<SamConfig> {
        let patches = self.shape("patch_embed.proj.weight", 4)?;
        Ok(SamConfig {
            image_size,
            patch: patches[2].max(1),
            width: patches[0],
            depth: self.depth(),
            heads: 1,
            mlp_hidden: self.shape("blocks.0.mlp.fc2.weight", 2)?[1],
            window: 0,
            global_blocks: Vec::new(),
            norm_eps: 1e-6,
            absolute_positions: self.has("pos_embed"),
        })
    }
}

/// Returns the side of a square grid of `n` positions; `None` if `n` is not a square number.
fn square(n: usize) -> Option<usize> {
    Some(n.isqrt()).filter(|side| side * side == n && n > 0)
}

fn not_square() -> Error {
    Error::failed("the grid of position embeddings is not square").hint("use weights for square images")
}
