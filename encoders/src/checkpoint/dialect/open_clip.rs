//! open_clip models with a timm tower as image encoder (`visual.trunk.*`), such as ConvNeXt, SigLIP and EVA-02, and
//! with open_clip's own vision transformer (`visual.*`), such as the ViTs of DFN and LAION.

use super::{Dialect, Rule};

pub(super) const OPEN_CLIP: Dialect =
    Dialect { name: "open-clip", rules: &[Rule::same("{rest}", &["visual.trunk.{rest}"])], ignored: &TRUNK_IGNORED };

/// Convolutional and hierarchical networks of timm, whose names our modules mirror.
pub(super) const LAYERS: Dialect = Dialect {
    name: "open-clip-layers",
    rules: &[Rule::same("{rest}", &["visual.trunk.{rest}"])],
    ignored: &{
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = TRUNK_IGNORED;
        let counters = "{rest}.num_batches_tracked";
        let classifier = "visual.trunk.fc.{rest}";
        let index = "{rest}.relative_position_index";
        [counters, classifier, index, a, b, c, d, e, f, g, h, i, j, k, l, m, n]
    },
};

/// Hybrid vision transformers of timm on convolutions (MobileCLIP-B).
pub(super) const HYBRID_VIT: Dialect = Dialect {
    name: "open-clip-hybrid-vit",
    rules: &[
        Rule::same("backbone.{rest}", &["visual.trunk.patch_embed.backbone.{rest}"]),
        Rule::same("vit.patch_embed.proj.{p}", &["visual.trunk.patch_embed.backbone.2.conv.{p}"]),
        Rule::same("vit.{rest}", &["visual.trunk.{rest}"]),
    ],
    ignored: LAYERS.ignored,
};

pub(super) const VIT: Dialect = Dialect {
    name: "open-clip-vit",
    rules: &[
        Rule::squeezed("cls_token", &["visual.class_embedding"], 2),
        Rule::squeezed("pos_embed", &["visual.positional_embedding"], 1),
        Rule::same("patch_embed.proj.{p}", &["visual.conv1.{p}"]),
        Rule::same("norm_pre.{p}", &["visual.ln_pre.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["visual.transformer.resblocks.{i}.ln_1.{p}"]),
        Rule::same("blocks.{i}.attn.qkv.{p}", &["visual.transformer.resblocks.{i}.attn.in_proj_{p}"]),
        Rule::same("blocks.{i}.attn.proj.{p}", &["visual.transformer.resblocks.{i}.attn.out_proj.{p}"]),
        Rule::same("blocks.{i}.ls1.gamma", &["visual.transformer.resblocks.{i}.ls_1.gamma"]),
        Rule::same("blocks.{i}.norm2.{p}", &["visual.transformer.resblocks.{i}.ln_2.{p}"]),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["visual.transformer.resblocks.{i}.mlp.c_fc.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["visual.transformer.resblocks.{i}.mlp.c_proj.{p}"]),
        Rule::same("blocks.{i}.ls2.gamma", &["visual.transformer.resblocks.{i}.ls_2.gamma"]),
        Rule::same("norm.{p}", &["visual.ln_post.{p}"]),
    ],
    ignored: &{
        let [a, b, c, d, e, f, g, h, i] = TEXT;
        // CoCa has an attentional pooler and a decoder.
        let (pooler, decoder) = ("visual.attn_pool.{rest}", "text_decoder.{rest}");
        ["visual.proj", "visual.ln_post.{p}", pooler, decoder, a, b, c, d, e, f, g, h, i]
    },
};

/// open_clip's own ResNet, whose stages are counted from 1.
pub(super) const RESNET: Dialect = Dialect {
    name: "open-clip-resnet",
    rules: &[
        Rule::same("stem.conv{i}.conv.{p}", &["visual.conv{i}.{p}"]),
        Rule::same("stem.conv{i}.bn.{rest}", &["visual.bn{i}.{rest}"]),
        Rule::same("stages.0.{j}.conv1_1x1.conv.{rest}", &["visual.layer1.{j}.conv1.{rest}"]),
        Rule::same("stages.0.{j}.conv1_1x1.bn.{rest}", &["visual.layer1.{j}.bn1.{rest}"]),
        Rule::same("stages.0.{j}.conv2_kxk.conv.{rest}", &["visual.layer1.{j}.conv2.{rest}"]),
        Rule::same("stages.0.{j}.conv2_kxk.bn.{rest}", &["visual.layer1.{j}.bn2.{rest}"]),
        Rule::same("stages.0.{j}.conv3_1x1.conv.{rest}", &["visual.layer1.{j}.conv3.{rest}"]),
        Rule::same("stages.0.{j}.conv3_1x1.bn.{rest}", &["visual.layer1.{j}.bn3.{rest}"]),
        Rule::same("stages.0.{j}.shortcut.conv.conv.{rest}", &["visual.layer1.{j}.downsample.0.{rest}"]),
        Rule::same("stages.0.{j}.shortcut.conv.bn.{rest}", &["visual.layer1.{j}.downsample.1.{rest}"]),
        Rule::same("stages.1.{j}.conv1_1x1.conv.{rest}", &["visual.layer2.{j}.conv1.{rest}"]),
        Rule::same("stages.1.{j}.conv1_1x1.bn.{rest}", &["visual.layer2.{j}.bn1.{rest}"]),
        Rule::same("stages.1.{j}.conv2_kxk.conv.{rest}", &["visual.layer2.{j}.conv2.{rest}"]),
        Rule::same("stages.1.{j}.conv2_kxk.bn.{rest}", &["visual.layer2.{j}.bn2.{rest}"]),
        Rule::same("stages.1.{j}.conv3_1x1.conv.{rest}", &["visual.layer2.{j}.conv3.{rest}"]),
        Rule::same("stages.1.{j}.conv3_1x1.bn.{rest}", &["visual.layer2.{j}.bn3.{rest}"]),
        Rule::same("stages.1.{j}.shortcut.conv.conv.{rest}", &["visual.layer2.{j}.downsample.0.{rest}"]),
        Rule::same("stages.1.{j}.shortcut.conv.bn.{rest}", &["visual.layer2.{j}.downsample.1.{rest}"]),
        Rule::same("stages.2.{j}.conv1_1x1.conv.{rest}", &["visual.layer3.{j}.conv1.{rest}"]),
        Rule::same("stages.2.{j}.conv1_1x1.bn.{rest}", &["visual.layer3.{j}.bn1.{rest}"]),
        Rule::same("stages.2.{j}.conv2_kxk.conv.{rest}", &["visual.layer3.{j}.conv2.{rest}"]),
        Rule::same("stages.2.{j}.conv2_kxk.bn.{rest}", &["visual.layer3.{j}.bn2.{rest}"]),
        Rule::same("stages.2.{j}.conv3_1x1.conv.{rest}", &["visual.layer3.{j}.conv3.{rest}"]),
        Rule::same("stages.2.{j}.conv3_1x1.bn.{rest}", &["visual.layer3.{j}.bn3.{rest}"]),
        Rule::same("stages.2.{j}.shortcut.conv.conv.{rest}", &["visual.layer3.{j}.downsample.0.{rest}"]),
        Rule::same("stages.2.{j}.shortcut.conv.bn.{rest}", &["visual.layer3.{j}.downsample.1.{rest}"]),
        Rule::same("stages.3.{j}.conv1_1x1.conv.{rest}", &["visual.layer4.{j}.conv1.{rest}"]),
        Rule::same("stages.3.{j}.conv1_1x1.bn.{rest}", &["visual.layer4.{j}.bn1.{rest}"]),
        Rule::same("stages.3.{j}.conv2_kxk.conv.{rest}", &["visual.layer4.{j}.conv2.{rest}"]),
        Rule::same("stages.3.{j}.conv2_kxk.bn.{rest}", &["visual.layer4.{j}.bn2.{rest}"]),
        Rule::same("stages.3.{j}.conv3_1x1.conv.{rest}", &["visual.layer4.{j}.conv3.{rest}"]),
        Rule::same("stages.3.{j}.conv3_1x1.bn.{rest}", &["visual.layer4.{j}.bn3.{rest}"]),
        Rule::same("stages.3.{j}.shortcut.conv.conv.{rest}", &["visual.layer4.{j}.downsample.0.{rest}"]),
        Rule::same("stages.3.{j}.shortcut.conv.bn.{rest}", &["visual.layer4.{j}.downsample.1.{rest}"]),
    ],
    ignored: &{
        let [a, b, c, d, e, f, g, h, i] = TEXT;
        ["visual.attnpool.{rest}", "visual.{rest}.num_batches_tracked", a, b, c, d, e, f, g, h, i]
    },
};

/// Names of the text tower, either in a module of its own or at the top level.
const TEXT: [&str; 9] = [
    "text.{rest}",
    "transformer.{rest}",
    "token_embedding.weight",
    "positional_embedding",
    "ln_final.{p}",
    "text_projection",
    "attn_mask",
    "logit_scale",
    "logit_bias",
];

/// Names in a model with a timm tower that the image encoder does not use.
pub(super) const TRUNK_IGNORED: [&str; 14] = {
    let [a, b, c, d, e, f, g, h, i] = TEXT;
    let heads = "visual.head.{rest}";
    let classifier = "visual.trunk.head.{rest}";
    let pool = "visual.trunk.attn_pool.{rest}";
    [heads, classifier, pool, "visual.trunk.fc_norm.{p}", "visual.trunk.norm.{p}", a, b, c, d, e, f, g, h, i]
};
