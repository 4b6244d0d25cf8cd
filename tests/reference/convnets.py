"""Golden checkpoints and features of ConvNeXts and ResNets, also with stochastic depth.

Versions: torch 2.9.0, timm 1.0.20, transformers 5.24.0, pillow 13.0.0, safetensors.
Run from anywhere, after encoders.py: python tests/reference/convnets.py

The folders convnext-*, convnextv2 and resnet-* under tests/golden/encoders/ are as encoders.py describes them; running
statistics of batch norms are moved away from their initial values too. convnext-multi-stage has the feature tap of
Cambrian-1's `clip_convnext_encoder.py` for a name with `-multi-stage`: each stage's map is resized to one grid
(bilinear, align_corners=False), and the channels are concatenated.

tests/golden/encoders/drop-path.safetensors holds, for each family named in DROPPED, features in training mode of three
images: the golden pixels, the same mirrored, and their negative. The drop-path mask is
<family>.kept [blocks * branches, 3], 1 where a branch is kept. <family>.features is [3, tokens, width].
"""

import pathlib
import sys
import tempfile

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from transformers import BeitBackbone, BeitConfig

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from encoders import IMAGENET, OPENAI, OUT, Image, perturb, pixels, write  # noqa: E402

RATE = 0.4


def move_statistics(model):
    generator = torch.Generator().manual_seed(12)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_((0.3 * torch.randn(buffer.shape, generator=generator)).half().float())
        if name.endswith("running_var"):
            buffer.copy_((0.5 + torch.rand(buffer.shape, generator=generator)).half().float())
    return model


def configuration(name, architecture, size, arguments):
    """config.json as timm saves it for the hub."""
    model = timm.create_model(architecture, num_classes=0, **arguments)
    model.pretrained_cfg = model.pretrained_cfg | dict(input_size=(3, size, size), crop_pct=1.0, mean=IMAGENET[0], std=IMAGENET[1], interpolation="bicubic")
    timm.models._hub.save_config_for_hf(model, OUT / name / "config.json", model_args=arguments)


def tokens(x):
    return x.flatten(2).transpose(1, 2)


def stages(model, x, indices=4):
    return [tokens(s) for s in model.forward_intermediates(x, indices=indices, intermediates_only=True)]


def convnext(image):
    sizes = dict(depths=[1, 1, 2, 1], dims=[8, 12, 16, 24])
    model = perturb(ConvNeXt(**sizes, num_classes=0, ls_init_value=1e-6))
    x = pixels(image, 64, OPENAI)
    maps = model.forward_intermediates(x, indices=4, intermediates_only=True)
    resized = [torch.nn.functional.interpolate(m.float(), size=(6, 6), mode="bilinear", align_corners=False) for m in maps]
    state = {f"visual.trunk.{k}": v for k, v in model.state_dict().items()} | {"visual.head.proj.weight": torch.zeros(4, 24), "logit_scale": torch.tensor(1.0)}
    write("convnext-multi-stage", "OpenCLIP", "open-clip", model, state, dict(architecture="convnext", image_size=64, **sizes),
          64, OPENAI, dict(layers=[0, 1, 2, 3], grid=[6, 6]), x, tokens(torch.cat(resized, 1)), first=tokens(maps[0]), last=tokens(maps[-1]))

    # timm's variants, each by an architecture that has it, made small.
    variants = (
        ("convnextv2", "convnextv2_atto", "timm-conv-mlp", sizes, dict(response_norm=True, layer_scale=0.0), False),
        ("convnext-hnf", "convnext_tiny_hnf", "timm-conv-mlp",
         sizes | dict(dims=[16, 12, 16, 24], stem_type="overlap_tiered", kernel_sizes=[7, 5, 5, 3], act_layer="gelu_tanh", drop_path_rate=0.1),
         dict(stem_kind="overlap-tiered", kernels=[7, 5, 5, 3], activation="gelu_tanh", norm_first=True, drop_path=0.1), True),
        ("convnext-simple", "convnext_zepto_rms_ols", "timm-conv-mlp", sizes | dict(act_layer="silu"),
         dict(stem_kind="overlap-act", norm="simple", activation="silu"), False),
        ("convnext-rms", "convnext_atto_rms", "timm-conv-mlp", sizes | dict(stem_type="overlap"), dict(stem_kind="overlap", norm="rms"), False),
    )
    x = pixels(image, 64, IMAGENET)
    for name, architecture, dialect, arguments, numbers, norm in variants:
        model = perturb(timm.create_model(architecture, num_classes=5, **arguments))
        first, *_, last = stages(model, x)
        numbers = dict(depths=arguments["depths"], dims=arguments["dims"]) | numbers
        write(name, "ConvNeXt", dialect, model, model.state_dict(), dict(architecture="convnext", image_size=64, **numbers), 64, IMAGENET,
              dict(norm=True) if norm else dict(layer=-1), x, tokens(model.forward_features(x)), last=last, first=first)
        configuration(name, architecture, 64, arguments)


def resnet(image):
    # 50 pixels: 25, 13, 7, 4 and 2 places on a side, so that layers of stride 2 and their shortcuts meet odd ones.
    plain = dict(layers=[1, 2, 1, 1], channels=[8, 12, 16, 20])
    deep = dict(layers=[1, 1, 2, 1], channels=[8, 12, 16, 20], stem_width=8)
    grouped = dict(layers=[1, 1, 1, 1], channels=[8, 8, 16, 16], cardinality=2, base_width=32, stem_width=8)
    variants = (
        ("resnet", "resnet18", plain, dict(block="basic")),
        ("resnet-d", "resnet50d", deep | dict(drop_path_rate=0.1), dict(block="bottleneck", stem="deep", average_down=True, drop_path=0.1)),
        ("resnet-t", "resnet26t", grouped, dict(block="bottleneck", stem="deep-tiered", average_down=True)),
    )
    ours = dict(layers="depths", channels="channels", stem_width="stem_width", cardinality="groups", base_width="base_width")
    x = pixels(image, 50, IMAGENET)
    for name, architecture, arguments, numbers in variants:
        model = move_statistics(perturb(timm.create_model(architecture, num_classes=5, **arguments)))
        first, *_, last = stages(model, x)
        numbers = {ours[k]: v for k, v in arguments.items() if k in ours} | numbers
        write(name, "ResNet", "timm-resnet", model, model.state_dict(), dict(architecture="resnet", image_size=50, **numbers), 50, IMAGENET,
              dict(layer=-1), x, last, first=stages(model, x, [1])[0])
        configuration(name, architecture, 50, arguments)


def golden(name, prefix=""):
    state = load_file(OUT / name / "model.safetensors")
    return {k.removeprefix(prefix): v.float() if v.is_floating_point() else v for k, v in state.items() if k.startswith(prefix)}


def vit(name, model):
    model.load_state_dict({k: v for k, v in golden(name).items() if not k.startswith("head.")})
    return lambda x: model.train().forward_features(x)[:, 1:]


def eva(name):
    model = Eva(img_size=48, patch_size=16, embed_dim=32, depth=2, num_heads=4, mlp_ratio=1.5, qkv_fused=False, swiglu_mlp=True, scale_mlp=True,
                scale_attn_inner=True, use_rot_pos_emb=True, ref_feat_shape=(2, 2), num_classes=5, global_pool="token", drop_path_rate=RATE)
    assert not model.load_state_dict(golden(name, "visual.trunk."), strict=False).missing_keys
    return lambda x: model.train().forward_features(x)[:, 1:]


def convolutional(name, model, prefix=""):
    assert not model.load_state_dict(golden(name, prefix), strict=False).missing_keys

    def features(x):
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        return tokens(model.forward_intermediates(x, indices=1, intermediates_only=True)[0])

    return features


def beit(name):
    config = BeitConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, image_size=48, patch_size=16, layer_norm_eps=1e-12,
                        use_relative_position_bias=True, layer_scale_init_value=0.1, out_indices=[4], reshape_hidden_states=False, drop_path_rate=RATE,
                        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    # Files have other names than transformers 5 has in memory.
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        save_file(golden(name, "backbone."), folder + "/model.safetensors", {"format": "pt"})
        model, loading = BeitBackbone.from_pretrained(folder, output_loading_info=True)
    assert not any("norm" not in key for key in loading["missing_keys"]) and not loading["unexpected_keys"], loading
    return lambda x: model.train()(x).feature_maps[0][:, 1:]


# A family, its pixels' golden folder, its blocks and branches per block, and how it is made.
DROPPED = (
    ("mae", 2, 2, lambda n: vit(n, VisionTransformer(img_size=48, patch_size=16, embed_dim=32, depth=2, num_heads=4, mlp_ratio=1.5, num_classes=0, drop_path_rate=RATE))),
    ("eva02", 2, 2, eva),
    ("beit", 4, 2, beit),
    ("convnext", 5, 1, lambda n: convolutional(n, ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 12, 16, 24), num_classes=0, drop_path_rate=RATE), "visual.trunk.")),
    ("resnet", 5, 1, lambda n: convolutional(n, ResNet(BasicBlock, [1, 2, 1, 1], channels=[8, 12, 16, 20], num_classes=0, drop_path_rate=RATE))),
    ("resnet-d", 5, 1, lambda n: convolutional(n, ResNet(Bottleneck, [1, 1, 2, 1], channels=[8, 12, 16, 20], num_classes=0, stem_width=8, stem_type="deep", avg_down=True, drop_path_rate=RATE))),
)


def dropped():
    generator = torch.Generator().manual_seed(13)
    everything = {}
    for name, blocks, branches, make in DROPPED:
        features = make(name)
        x = load_file(OUT / name / "expected.safetensors")["pixels"]
        x = torch.cat([x, x.flip(3), -x])
        kept = (torch.rand(blocks * branches, 3, generator=generator) < 0.6).float()
        kept[:branches] = 1
        draws = iter(kept[branches:])
        # timm draws with `bernoulli_`, transformers rounds down a uniform number and the probability of being kept.
        torch.Tensor.bernoulli_ = lambda self, p: self.copy_(next(draws).view_as(self))
        uniform, torch.rand = torch.rand, lambda shape, **_: next(draws).view(shape) * (1 - 1e-6)
        with torch.no_grad():
            everything[f"{name}.features"] = features(x).clone()
        torch.rand = uniform
        assert next(draws, None) is None, name
        everything[f"{name}.kept"] = kept
    save_file({k: v.contiguous() for k, v in everything.items()}, OUT / "drop-path.safetensors")


def main():
    torch.manual_seed(0)
    image = Image.open(OUT / "picture.png")
    convnext(image)
    resnet(image)
    dropped()
    print(torch.__version__, timm.__version__)


if __name__ == "__main__":
    main()
