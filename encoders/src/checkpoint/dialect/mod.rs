//! Dialects: the mapping between upstream tensor names and the parameters of our modules, in both directions.
//!
//! Parameters are converted to PyTorch's conventions before a dialect is applied (see
//! [`parameters`](super::parameters)): `gamma`/`beta` of norms are called `weight`/`bias`, and a linear weight
//! has shape `[out, in]`. A dialect then only renames, splits or stacks tensors, and adds or removes dimensions of
//! length one. It is a table; there is one file per family in this folder.
//!
//! Names in a table may contain placeholders: `{rest}` matches any non-empty text, `{p}` matches `weight` or `bias`,
//! and any other (`{i}`) matches a number. The text that a placeholder matches on one side is inserted on the other.

mod diffusers;
mod open_clip;
mod sam;
mod timm;
mod timm_convnets;
mod timm_pooled_head;
mod timm_windows;
mod tips;
mod transformers_aimv2;
mod transformers_beit;
mod transformers_blip;
mod transformers_clip;
mod transformers_convnets;
mod transformers_dinov2;
mod transformers_dinov3;
mod transformers_internvl;
mod transformers_native;
mod transformers_radio;
mod transformers_sam;
mod transformers_sam2;
mod transformers_siglip;
mod transformers_swin;
mod transformers_vit;

use burgess_base::{Error, Result, nearest};
use std::ops::Range;

/// The tensor names of one family of upstream files.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// Name of the dialect in encoder cards.
    pub name: &'static str,
    /// Rules; the first one whose module side matches a parameter's path is applied.
    pub rules: &'static [Rule],
    /// Patterns of tensors that a file of this family may contain but no encoder uses (text towers, heads, buffers).
    /// Every other unused tensor is an error.
    pub ignored: &'static [&'static str],
}

/// A rule of a dialect: a parameter of our module and the upstream tensors that store it.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    module: &'static str,
    /// The parameters that are stacked in the upstream tensor; replaces `module`.
    fused: &'static [&'static str],
    upstream: &'static [&'static str],
    /// Names of the same tensors in other versions of the library.
    otherwise: &'static [&'static str],
    squeezed: usize,
    pointwise: usize,
    flattened: bool,
    unsqueezed: usize,
    table: bool,
}

impl Rule {
    /// The name of an absent part of a stacked parameter: upstream has no such tensor, and the part is zero. For
    /// example, a bias of the keys adds a constant to all scores of a query, which the softmax cancels.
    pub const ZEROS: &'static str = "";

    /// Builds a rule for one tensor with another name.
    pub const fn same(module: &'static str, upstream: &'static [&'static str; 1]) -> Self {
        Self {
            module,
            fused: &[],
            upstream,
            otherwise: &[],
            squeezed: 0,
            pointwise: 0,
            flattened: false,
            unsqueezed: 0,
            table: false,
        }
    }

    /// Builds a rule for an upstream tensor that stacks several parameters along the first dimension; their lengths
    /// may differ (fused queries, keys and values with fewer key heads).
    pub const fn fused(fused: &'static [&'static str], upstream: &'static [&'static str; 1]) -> Self {
        Self {
            module: "",
            fused,
            upstream,
            otherwise: &[],
            squeezed: 0,
            pointwise: 0,
            flattened: false,
            unsqueezed: 0,
            table: false,
        }
    }

    /// Builds a rule for a parameter that stacks upstream tensors in equal parts along the first dimension (q, k, v).
    pub const fn stacked(module: &'static str, upstream: &'static [&'static str]) -> Self {
        Self {
            module,
            fused: &[],
            upstream,
            otherwise: &[],
            squeezed: 0,
            pointwise: 0,
            flattened: false,
            unsqueezed: 0,
            table: false,
        }
    }

    /// Adds the names that other versions of the library use, part by part; files are saved with those of `upstream`.
    pub const fn or(mut self, otherwise: &'static [&'static str]) -> Self {
        self.otherwise = otherwise;
        self
    }

    /// Builds a rule for an upstream tensor without the first `n` dimensions of ours, which have length one.
    pub const fn squeezed(module: &'static str, upstream: &'static [&'static str; 1], n: usize) -> Self {
        Self {
            module,
            fused: &[],
            upstream,
            otherwise: &[],
            squeezed: n,
            pointwise: 0,
            flattened: false,
            unsqueezed: 0,
            table: false,
        }
    }

    /// Builds a rule for an upstream tensor with `n` more trailing dimensions of length one: a 1×1 convolution.
    pub const fn pointwise(module: &'static str, upstream: &'static [&'static str; 1], n: usize) -> Self {
        Self {
            module,
            fused: &[],
            upstream,
            otherwise: &[],
            squeezed: 0,
            pointwise: n,
            flattened: false,
            unsqueezed: 0,
            table: false,
        }
    }

    /// Builds a rule for parameters of shape `[1, n, …]` whose upstream tensor stacks them along the second dimension
    /// and lacks the first.
    pub const fn fused_squeezed(fused: &'static [&'static str], upstream: &'static [&'static str; 1]) -> Self {
        let mut rule = Self::fused(fused, upstream);
        rule.squeezed = 1;
        rule
    }

    /// Builds a rule for an upstream tensor with `n` more leading dimensions of length one.
    pub const fn unsqueezed(module: &'static str, upstream: &'static [&'static str; 1], n: usize) -> Self {
        let mut rule = Self::same(module, upstream);
        rule.unsqueezed = n;
        rule
    }

    /// Builds a rule for an upstream matrix `[out, in · height · width]` that we store as a convolution.
    pub const fn flattened(module: &'static str, upstream: &'static [&'static str; 1]) -> Self {
        let mut rule = Self::same(module, upstream);
        rule.flattened = true;
        rule
    }

    /// Builds a rule for an upstream tensor whose first dimension is our first two, row by row: a table of positions on
    /// a grid.
    pub const fn table(module: &'static str, upstream: &'static [&'static str; 1]) -> Self {
        let mut rule = Self::same(module, upstream);
        rule.table = true;
        rule
    }

    /// Returns the text that each placeholder matches in `path`; `None` if the rule does not apply to it.
    fn matched<'a>(&self, path: &'a str) -> Option<Captured<'a>> {
        match self.fused {
            [] => matched(self.module, path),
            several => several.iter().find_map(|name| matched(name, path)),
        }
    }
}

/// A function from a parameter's path to its shape; `None` if the module has no such parameter.
pub type ShapeLookup<'a> = dyn Fn(&str) -> Option<&'a [usize]> + 'a;

/// The upstream names and the shape of one parameter of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSource {
    /// Names of the parts in stacking order; a single name for most parameters. The empty name ([`Rule::ZEROS`]) is a
    /// part that is zero and in no file.
    pub keys: Vec<String>,
    /// Names of the same parts in other versions of the library; empty for most parameters.
    pub otherwise: Vec<String>,
    /// Shape of each part.
    pub shape: Vec<usize>,
    /// Rows of the only part that belong to this parameter; `None` if all do.
    pub rows: Option<Range<usize>>,
}

impl TensorSource {
    /// Selects the names that the file has: `otherwise` if `has` knows all of these and not all of `keys`.
    #[must_use]
    pub fn found_by(mut self, has: impl Fn(&str) -> bool) -> Self {
        let all = |names: &[String]| !names.is_empty() && names.iter().all(|name| has(name));
        if all(&self.otherwise) && !all(&self.keys) {
            self.keys = std::mem::take(&mut self.otherwise);
        }
        self
    }
}

impl Dialect {
    /// Returns upstream names and shape of the parameter at `path` with `shape`, both in PyTorch's conventions.
    /// `shapes` returns the shapes of the module's other parameters.
    ///
    /// # Errors
    /// The dialect has no rule for this path, or the shape cannot be split or squeezed by the rule.
    pub fn source(&self, path: &str, shape: &[usize], shapes: &ShapeLookup) -> Result<TensorSource> {
        let (rule, captured) =
            self.rules.iter().find_map(|rule| Some((rule, rule.matched(path)?))).ok_or_else(|| {
                Error::failed(format!("dialect `{}` has no name for parameter `{path}`", self.name)).hint(
                    "correct dialect in the card's [source], or the card's [architecture]: they do not belong together",
                )
            })?;
        if !rule.fused.is_empty() {
            return self.fused(rule, &captured, path, shapes);
        }
        let names = |names: &[&str]| names.iter().map(|name| filled(name, &captured)).collect::<Vec<_>>();
        let (keys, otherwise) = (names(rule.upstream), names(rule.otherwise));
        let (front, rest) = shape.split_at(rule.squeezed.min(shape.len()));
        let mut shape = match rest {
            [rows, columns, rest @ ..] if rule.table => [&[rows * columns], rest].concat(),
            _ => rest.to_vec(),
        };
        let parts = keys.len();
        let divides = parts == 1 || shape.first().is_some_and(|n| n % parts == 0);
        if front.iter().any(|&n| n != 1) || front.len() < rule.squeezed || !divides {
            return Err(Error::failed(format!(
                "dialect `{}` cannot store parameter `{path}` of shape {:?}",
                self.name,
                [front, &shape].concat()
            )));
        }
        if parts > 1
            && let Some(n) = shape.first_mut()
        {
            *n /= parts;
        }
        shape.extend(std::iter::repeat_n(1, rule.pointwise));
        shape.splice(0..0, std::iter::repeat_n(1, rule.unsqueezed));
        if rule.flattened
            && let [first, rest @ ..] = shape.as_slice()
        {
            shape = vec![*first, rest.iter().product()];
        }
        Ok(TensorSource { keys, otherwise, shape, rows: None })
    }

    /// Returns the fused upstream tensor that stores the parameter at `path` among others.
    fn fused(&self, rule: &Rule, captured: &Captured, path: &str, shapes: &ShapeLookup) -> Result<TensorSource> {
        let (mut shape, mut rows) = (Vec::new(), None);
        for name in rule.fused.iter().map(|name| filled(name, captured)) {
            let part = shapes(&name).and_then(|shape| shape.get(rule.squeezed..)).and_then(<[usize]>::split_first);
            let Some((&length, rest)) = part.filter(|(_, rest)| shape.get(1..).is_none_or(|before| before == *rest))
            else {
                return Err(Error::failed(format!(
                    "dialect `{}` cannot store parameter `{path}` together with `{name}`",
                    self.name
                )));
            };
            let from = shape.first().copied().unwrap_or(0);
            if name == path {
                rows = Some(from..from + length);
            }
            shape = [&[from + length], rest].concat();
        }
        let keys = rule.upstream.iter().map(|name| filled(name, captured)).collect();
        Ok(TensorSource { keys, otherwise: Vec::new(), shape, rows })
    }

    /// Returns the upstream names of the parameter at `path`, for any shape; `None` if the dialect has no rule for it.
    pub fn names(&self, path: &str) -> Option<Vec<String>> {
        let (rule, captured) = self.rules.iter().find_map(|rule| Some((rule, rule.matched(path)?)))?;
        Some(rule.upstream.iter().filter(|name| !name.is_empty()).map(|name| filled(name, &captured)).collect())
    }

    /// Returns the upstream names of the parameter at `path` in all versions of the library.
    pub fn all_names(&self, path: &str) -> Vec<String> {
        let found = self.rules.iter().find_map(|rule| Some((rule, rule.matched(path)?)));
        let Some((rule, captured)) = found else { return Vec::new() };
        let names = rule.upstream.iter().chain(rule.otherwise).filter(|name| !name.is_empty());
        names.map(|name| filled(name, &captured)).collect()
    }

    /// Whether the tensor `key` is ignored, because files of this family may contain it although no encoder uses it.
    fn ignores(&self, key: &str) -> bool {
        let named = |pattern: &&'static str| matched(pattern, key).is_some();
        let part = key.strip_prefix(self.root()).unwrap_or(key);
        let head = |pattern: &&'static str| matched(pattern, part).is_some();
        self.ignored.iter().any(named) || (self.is_of_encoders() && HEADS.iter().any(head))
    }

    /// Returns the common prefix of all upstream names (`vision_model.`), with the final dot; often empty. A part of a
    /// model that was saved alone lacks it.
    pub fn root(&self) -> &'static str {
        let names = || self.rules.iter().flat_map(|rule| rule.upstream).filter(|name| !name.is_empty());
        let Some(first) = names().next() else { return "" };
        let common = names().map(|name| name.bytes().zip(first.bytes()).take_while(|(a, b)| a == b).count()).min();
        let common = first.get(..common.unwrap_or(0)).unwrap_or_default();
        let literal = common.split('{').next().unwrap_or_default();
        literal.rfind('.').map_or("", |dot| &literal[..=dot])
    }

    /// Whether the tensor `key` is ignored in a checkpoint to whose names `root` was prepended (see
    /// [`Checkpoint::under`](super::Checkpoint::under)); tensors outside of the encoder have no such prefix in the
    /// file.
    pub fn ignores_under(&self, root: &str, key: &str) -> bool {
        let beside = |name: &str| {
            let known = self.rules.iter().flat_map(|rule| rule.upstream).any(|pattern| matched(pattern, key).is_some());
            !known && self.ignores(name)
        };
        self.ignores(key) || (!root.is_empty() && key.strip_prefix(root).is_some_and(beside))
    }

    /// Whether this is one of [`Dialect::all`] other than [`IDENTITY`].
    fn is_of_encoders(&self) -> bool {
        self.name != IDENTITY.name && ALL.iter().any(|dialect| dialect.name == self.name)
    }

    /// Returns the dialect with this name.
    ///
    /// # Errors
    /// There is no such dialect; the hint lists the nearest names.
    pub fn find(name: &str) -> Result<&'static Self> {
        ALL.iter().find(|d| d.name == name).ok_or_else(|| {
            let names = ALL.iter().map(|d| d.name);
            let near = nearest(name, names.clone());
            let list: Vec<&str> = if near.is_empty() { names.collect() } else { near };
            Error::usage(format!("there is no key dialect `{name}`"))
                .hint(format!("use one of these: {}", list.join(", ")))
        })
    }

    /// Returns all dialects of vision encoders.
    pub fn all() -> &'static [Self] {
        ALL
    }
}

/// Names of heads and of other modules than the encoder in files of whole models: classifiers, projections, and the
/// decoders of pretraining, segmentation and detection. No encoder has a top-level part with one of these names, unless
/// a rule defines it.
const HEADS: [&str; 44] = [
    "aux_head.{rest}",
    "auxiliary_head.{rest}",
    "bbox_embed.{rest}",
    "bbox_head.{rest}",
    "bbox_predictor.{rest}",
    "class_embed.{rest}",
    "class_labels_classifier.{rest}",
    "classifier.{rest}",
    "cls_classifier.{rest}",
    "cls_head.{rest}",
    "decode_head.{rest}",
    "decoder.{rest}",
    "decoder_blocks.{rest}",
    "decoder_embed.{p}",
    "decoder_norm.{p}",
    "decoder_pos_embed",
    "decoder_pred.{p}",
    "dino_head.{rest}",
    "distillation_classifier.{p}",
    "fc.{p}",
    "fc_norm.{p}",
    "fpn.{rest}",
    "head.{rest}",
    "head_dist.{p}",
    "heads.{rest}",
    "ibot_head.{rest}",
    "lm_head.{rest}",
    "logit_bias",
    "logit_scale",
    "mask_token",
    "neck.{rest}",
    "pooler.{rest}",
    "predictor.{rest}",
    "prediction_head.{rest}",
    "pretrain_head.{rest}",
    "proj_head.{rest}",
    "projection_head.{rest}",
    "projector.{rest}",
    "roi_head.{rest}",
    "rpn_head.{rest}",
    "seg_head.{rest}",
    "segmentation_head.{rest}",
    "text_projection.{p}",
    "visual_projection.{p}",
];

/// The dialect of this project's own files: names of our modules in PyTorch's conventions.
pub const IDENTITY: Dialect = Dialect { name: "burgess", rules: &[Rule::same("{rest}", &["{rest}"])], ignored: &[] };

static ALL: &[Dialect] = &[
    IDENTITY,
    diffusers::STABLE_DIFFUSION,
    timm::TIMM,
    timm::GATED,
    timm::PARALLEL,
    timm::UNPLACED,
    timm::EVA,
    timm::EVA_GATED,
    timm::EVA_SPLIT,
    timm::ROPE,
    timm_convnets::CONV_MLP,
    timm_convnets::RESNET,
    timm_convnets::NFNET,
    timm_convnets::LAYERS,
    timm_pooled_head::POOLED_HEAD,
    timm_pooled_head::SWIFTFORMER,
    timm_convnets::CONV_MIXER,
    timm_convnets::COAT,
    timm_convnets::DLA,
    timm_convnets::VGG,
    timm_windows::SWIN_V2,
    timm_windows::SWIN_V2_CR,
    timm_windows::MAXXVIT,
    timm_windows::VOLO,
    timm_windows::HYBRID_VIT,
    timm_windows::HYBRID_VIT_CONV,
    open_clip::OPEN_CLIP,
    open_clip::LAYERS,
    open_clip::HYBRID_VIT,
    open_clip::VIT,
    open_clip::RESNET,
    timm::TOWER_EVA,
    timm::TOWER_EVA_GATED,
    timm::TOWER_EVA02,
    timm::TOWER_ROPE,
    sam::SAM,
    tips::TIPSV2,
    tips::TIPSV2_SWIGLU,
    transformers_sam::SAM,
    transformers_sam2::SAM2,
    transformers_swin::SWIN,
    transformers_swin::SWIN_V2,
    transformers_aimv2::AIMV2,
    transformers_aimv2::ORIGINAL,
    transformers_beit::BEIT,
    transformers_blip::BLIP,
    transformers_clip::CLIP,
    transformers_clip::OWLVIT,
    transformers_convnets::CONVNEXT,
    transformers_convnets::DINOV3_CONVNEXT,
    transformers_convnets::RESNET,
    transformers_dinov2::DINOV2,
    transformers_dinov2::SWIGLU,
    transformers_dinov3::DINOV3,
    transformers_dinov3::GATED,
    transformers_internvl::INTERNVL,
    transformers_internvl::ORIGINAL,
    transformers_native::SIGLIP2,
    transformers_native::QWEN2_5_VL,
    transformers_native::QWEN3_VL,
    transformers_native::MOONVIT,
    transformers_native::VJEPA2,
    transformers_radio::RADIO,
    transformers_radio::SWIGLU,
    transformers_siglip::SIGLIP,
    transformers_vit::PIXIO,
    transformers_vit::VIT,
];

/// Names of placeholders with the text that each one matches.
type Captured<'a> = Vec<(&'static str, &'a str)>;

/// Matches `pattern` against the whole of `text`; `None` if they differ. Placeholders match greedily, which is exact
/// unless a number is followed by a digit.
fn matched<'a>(pattern: &'static str, text: &'a str) -> Option<Captured<'a>> {
    let mut captured = Vec::new();
    let (mut pattern, mut text) = (pattern, text);
    loop {
        let Some((literal, after)) = pattern.split_once('{') else {
            return (pattern == text).then_some(captured);
        };
        let (name, after) = after.split_once('}')?;
        text = text.strip_prefix(literal)?;
        let length = match name {
            // A literal after it, to the end, is not part of the rest.
            "rest" if !after.contains('{') => text.strip_suffix(after)?.len(),
            "rest" => text.len(),
            "p" => ["weight", "bias"].into_iter().find(|p| text.starts_with(p))?.len(),
            _ => text.bytes().take_while(u8::is_ascii_digit).count(),
        };
        if length == 0 {
            return None;
        }
        let (value, rest) = text.split_at_checked(length)?;
        captured.push((name, value));
        (pattern, text) = (after, rest);
    }
}

/// Replaces the placeholders of a pattern by the text that they matched.
fn filled(pattern: &str, captured: &Captured<'_>) -> String {
    captured.iter().fold(pattern.to_string(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_take_numbers_endings_and_rests() {
        assert_eq!(matched("a.{i}.b.{p}", "a.12.b.weight"), Some(vec![("i", "12"), ("p", "weight")]));
        assert_eq!(matched("a.{i}.b", "a.x.b"), None);
        assert_eq!(matched("a.{i}.b", "a.1.bb"), None);
        assert_eq!(matched("text.{rest}", "text.x.y"), Some(vec![("rest", "x.y")]));
        assert_eq!(matched("text.{rest}", "text."), None);
        assert_eq!(matched("{rest}.count", "a.b.count"), Some(vec![("rest", "a.b")]));
        assert_eq!((matched("{rest}.count", ".count"), matched("{rest}.count", "a.counts")), (None, None));
        assert_eq!(matched("a.{p}", "a.running_mean"), None);
        assert_eq!(filled("x.{i}.y.{p}", &vec![("i", "3"), ("p", "bias")]), "x.3.y.bias");
    }

    #[test]
    fn sources_are_split_and_squeezed() -> Result<()> {
        let clip = Dialect::find("transformers-clip")?;
        let source = |path: &str, shape: &[usize]| clip.source(path, shape, &|_| None);
        let qkv = source("blocks.2.attn.qkv.bias", &[12])?;
        assert_eq!(qkv.keys[1], "vision_model.encoder.layers.2.self_attn.k_proj.bias");
        assert_eq!((qkv.keys.len(), qkv.shape), (3, vec![4]));
        let class = source("cls_token", &[1, 1, 8])?;
        assert_eq!((class.keys[0].as_str(), class.shape), ("vision_model.embeddings.class_embedding", vec![8]));
        assert!(source("cls_token", &[1, 2, 8]).is_err());
        assert!(source("cls_token", &[8]).is_err());
        assert!(source("blocks.0.attn.qkv.bias", &[13]).is_err());
        assert!(source("nowhere", &[1]).unwrap_err().to_string().contains("no name for parameter `nowhere`"));
        Ok(())
    }

    #[test]
    fn parts_of_a_fused_tensor_follow_each_other() -> Result<()> {
        const FUSED: Dialect = Dialect {
            name: "fused",
            rules: &[Rule::fused(&["l.{i}.q.{p}", "l.{i}.k.{p}", "l.{i}.v.{p}"], &["x.{i}.qkv.{p}"])],
            ignored: &[],
        };
        let module = [("l.4.q.weight", vec![6, 5]), ("l.4.k.weight", vec![2, 5]), ("l.4.v.weight", vec![2, 5])];
        let shapes = |path: &str| module.iter().find(|(name, _)| *name == path).map(|(_, shape)| shape.as_slice());
        let mut rows = Vec::new();
        for (path, shape) in &module {
            let source = FUSED.source(path, shape, &shapes)?;
            assert_eq!((source.keys, source.shape), (vec!["x.4.qkv.weight".to_string()], vec![10, 5]));
            rows.extend(source.rows);
        }
        assert_eq!(rows, [0..6, 6..8, 8..10]);
        assert_eq!(FUSED.names("l.4.v.weight"), Some(vec!["x.4.qkv.weight".to_string()]));
        let alone = FUSED.source("l.4.q.bias", &[6], &shapes).unwrap_err();
        assert!(alone.to_string().contains("together with `l.4.q.bias`"), "{alone}");
        Ok(())
    }

    #[test]
    fn an_unknown_dialect_is_answered_with_the_nearest() {
        let e = Dialect::find("transformer-clip").unwrap_err();
        assert!(e.hint_text().is_some_and(|h| h.contains("transformers-clip")));
    }
}
