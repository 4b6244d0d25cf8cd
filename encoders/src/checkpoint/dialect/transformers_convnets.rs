//! Convolutional networks of Hugging Face transformers: ConvNeXt and ConvNeXt V2, DINOv3's ConvNeXt, and ResNet. In a
//! model with a classifier, the names have the prefix `convnext.`, `convnextv2.` or `resnet.`.

use super::{Dialect, Rule};

pub(super) const CONVNEXT: Dialect = Dialect {
    name: "transformers-convnext",
    rules: &[
        Rule::same("stem.0.{p}", &["embeddings.patch_embeddings.{p}"]),
        Rule::same("stem.1.{p}", &["embeddings.layernorm.{p}"]),
        Rule::same("stages.{i}.downsample.{j}.{p}", &["encoder.stages.{i}.downsampling_layer.{j}.{p}"]),
        Rule::same("stages.{i}.blocks.{j}.conv_dw.{p}", &["encoder.stages.{i}.layers.{j}.dwconv.{p}"]),
        Rule::same("stages.{i}.blocks.{j}.norm.{p}", &["encoder.stages.{i}.layers.{j}.layernorm.{p}"]),
        Rule::same("stages.{i}.blocks.{j}.mlp.fc1.{p}", &["encoder.stages.{i}.layers.{j}.pwconv1.{p}"]),
        Rule::unsqueezed("stages.{i}.blocks.{j}.mlp.grn.{p}", &["encoder.stages.{i}.layers.{j}.grn.{p}"], 3),
        Rule::same("stages.{i}.blocks.{j}.mlp.fc2.{p}", &["encoder.stages.{i}.layers.{j}.pwconv2.{p}"]),
        Rule::same("stages.{i}.blocks.{j}.gamma", &["encoder.stages.{i}.layers.{j}.layer_scale_parameter"]),
    ],
    // The final norm is applied to the pooled features only.
    ignored: &["layernorm.{p}"],
};

pub(super) const DINOV3_CONVNEXT: Dialect = Dialect {
    name: "transformers-dinov3-convnext",
    rules: &[
        // The stem stands where later stages have their downsampling, in the other order.
        Rule::same("stem.{j}.{p}", &["stages.0.downsample_layers.{j}.{p}"]),
        Rule::same("stages.{i}.downsample.{j}.{p}", &["stages.{i}.downsample_layers.{j}.{p}"]),
        Rule::same("stages.{i}.blocks.{j}.conv_dw.{p}", &["stages.{i}.layers.{j}.depthwise_conv.{p}"]),
        Rule::same("stages.{i}.blocks.{j}.norm.{p}", &["stages.{i}.layers.{j}.layer_norm.{p}"]),
        Rule::same("stages.{i}.blocks.{j}.mlp.fc1.{p}", &["stages.{i}.layers.{j}.pointwise_conv1.{p}"]),
        Rule::same("stages.{i}.blocks.{j}.mlp.fc2.{p}", &["stages.{i}.layers.{j}.pointwise_conv2.{p}"]),
        Rule::same("stages.{i}.blocks.{j}.gamma", &["stages.{i}.layers.{j}.gamma"]),
        Rule::same("head.norm.{p}", &["layer_norm.{p}"]),
    ],
    ignored: &["layer_norm.{p}"],
};

/// The rules of a ResNet, whose stages we count from 1 and transformers from 0.
macro_rules! resnet {
    ($(($ours:literal, $theirs:literal)),+) => {
        &[
            Rule::same("conv1.weight", &["embedder.embedder.convolution.weight"]),
            Rule::same("bn1.{rest}", &["embedder.embedder.normalization.{rest}"]),
            $(
                resnet!(@conv $ours, $theirs, "conv1", "layer.0"),
                resnet!(@norm $ours, $theirs, "bn1", "layer.0"),
                resnet!(@conv $ours, $theirs, "conv2", "layer.1"),
                resnet!(@norm $ours, $theirs, "bn2", "layer.1"),
                resnet!(@conv $ours, $theirs, "conv3", "layer.2"),
                resnet!(@norm $ours, $theirs, "bn3", "layer.2"),
                resnet!(@conv $ours, $theirs, "downsample.0", "shortcut"),
                resnet!(@norm $ours, $theirs, "downsample.1", "shortcut"),
            )+
        ]
    };
    (@conv $ours:literal, $theirs:literal, $conv:literal, $layer:literal) => {
        Rule::same(
            concat!($ours, ".{j}.", $conv, ".weight"),
            &[concat!("encoder.stages.", $theirs, ".layers.{j}.", $layer, ".convolution.weight")],
        )
    };
    (@norm $ours:literal, $theirs:literal, $norm:literal, $layer:literal) => {
        Rule::same(
            concat!($ours, ".{j}.", $norm, ".{rest}"),
            &[concat!("encoder.stages.", $theirs, ".layers.{j}.", $layer, ".normalization.{rest}")],
        )
    };
}

pub(super) const RESNET: Dialect = Dialect {
    name: "transformers-resnet",
    rules: resnet!(("layer1", "0"), ("layer2", "1"), ("layer3", "2"), ("layer4", "3")),
    ignored: &[
        "embedder.embedder.normalization.num_batches_tracked",
        "encoder.stages.{i}.layers.{j}.layer.{k}.normalization.num_batches_tracked",
        "encoder.stages.{i}.layers.{j}.shortcut.normalization.num_batches_tracked",
    ],
};
