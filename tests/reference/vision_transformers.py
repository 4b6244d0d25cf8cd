"""Directories of vision transformers and convolutional networks as transformers, timm and open_clip write them, with
features and gradients, for burgess-encoders.

Versions: torch 2.9.0, transformers 5.24.0, timm 1.0.20, open_clip_torch 3.3.0, pillow 13.0.0, safetensors.
Run from anywhere: python tests/reference/vision_transformers.py [NAME ...]

Each tests/golden/vision-transformers/<name>/ gets
  config.json, preprocessor_config.json   as the library saves them (open_clip: open_clip_config.json)
  model.safetensors     a tiny random model under its published names, every parameter moved away from its initial value,
                        rounded to f16 so that it is small
  expected.safetensors  pixels [1, 3, s, s] as they enter the first layer, from encoders/picture.png padded to a square;
                        features [tokens, width] at the tap that the library suggests; and for the sum of
                        features * projection the gradients of three parameters, as gradient.<published name>
"""

import json
import os
import pathlib
import sys

import open_clip
import torch
import transformers as T
from directories import square
from encoders import TEXT, VERSIONS, gradients, perturb, upstream
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parents[1] / "golden" / "vision-transformers"
S = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)
# For classes whose MLP is a multiple of the width.
M = {k: v for k, v in S.items() if k != "intermediate_size"} | dict(mlp_ratio=2)
IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
CASES = {}


def case(make):
    CASES[make.__name__.replace("_", "-")] = make
    return make


def processor(kind=T.ViTImageProcessorPil, side=32, **more):
    return kind(**(dict(size=dict(height=side, width=side), resample=3) | more))


def clip_processor(side=32):
    return T.CLIPImageProcessorPil(size=dict(shortest_edge=side), crop_size=dict(height=side, width=side))


def write(name, model, state, x, features, entered=None):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, folder / "model.safetensors", {"format": "pt"})
    small = {k: v for k, v in state.items() if v.numel() <= 4096}
    expected = {"pixels": x if entered is None else entered, "features": features[0], **gradients(model, small, features)}
    save_file({k: v.detach().float().clone(memory_format=torch.contiguous_format) for k, v in expected.items()}, folder / "expected.safetensors")
    return folder


def save(name, model, steps, features, entered=lambda x: x, pad=None):
    """`features` maps model and pixels to [1, tokens, width]; `entered` gives what enters the first layer."""
    model = perturb(model)
    x = steps.preprocess(square(pad or steps.image_mean), return_tensors="pt")["pixel_values"]
    folder = write(name, model, upstream(model), x, features(model, x), entered(x))
    model.config.save_pretrained(folder)
    steps.save_pretrained(folder)


def last(skip):
    return lambda m, x: m(x).last_hidden_state[:, skip:]


def hidden(index, skip, tower=lambda m: m):
    return lambda m, x: tower(m)(x, output_hidden_states=True).hidden_states[index][:, skip:]


def channels_last(x):
    return x.flatten(2).transpose(1, 2)


@case
def dinov3(name):
    save(name, T.DINOv3ViTModel(T.DINOv3ViTConfig(**S, num_register_tokens=2)), processor(**IMAGENET), last(3))


@case
def dinov3_gated(name):
    config = T.DINOv3ViTConfig(**S, num_register_tokens=1, use_gated_mlp=True, hidden_act="silu")
    save(name, T.DINOv3ViTModel(config), processor(**IMAGENET), last(2))


@case
def metaclip_2(name):
    config = T.MetaClip2Config(vision_config=S, text_config=TEXT, projection_dim=8)
    save(name, T.MetaClip2Model(config), clip_processor(), hidden(-2, 1, lambda m: m.vision_model))


@case
def mlcd(name):
    save(name, T.MLCDVisionModel(T.MLCDVisionConfig(**S)), clip_processor(), hidden(-2, 1))


@case
def internvl(name):
    config = T.InternVLVisionConfig(**S, layer_scale_init_value=0.1, attention_bias=True, use_mean_pooling=False)
    save(name, T.InternVLVisionModel(config), processor(**IMAGENET), last(1))


@case
def internvl_6b(name):
    config = T.InternVLVisionConfig(**S, norm_type="rms_norm", use_qk_norm=True, attention_bias=False, layer_norm_eps=1e-6)
    save(name, T.InternVLVisionModel(config), processor(**IMAGENET), last(1))


@case
def aimv2(name):
    text = dict(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=4)
    model = T.Aimv2Model(T.Aimv2Config(vision_config=S, text_config=text, projection_dim=8))
    save(name, model, clip_processor(), lambda m, x: m.vision_model(x).last_hidden_state)


@case
def aimv2_original(name):
    """Apple's own code: needs a checkout of github.com/apple/ml-aim in the path that AIM names."""
    if "AIM" not in os.environ:
        return print("aimv2-original needs AIM=/path/to/checkout")
    import types

    package = types.ModuleType("aim")
    package.__path__ = [f"{os.environ['AIM']}/aim-v1/aim", f"{os.environ['AIM']}/aim-v2/aim"]
    sys.modules["aim"] = package
    from aim.v2.torch.models import AIMv2VisionEncoder

    model = AIMv2VisionEncoder(img_size=32, patch_size=8, embed_dim=16, mlp_hidden_dim=32, num_blocks=2, num_heads=2, use_bias=False)
    model = perturb(model)
    steps = clip_processor()
    x = steps.preprocess(square(steps.image_mean), return_tensors="pt")["pixel_values"]
    folder = write(name, model, model.state_dict(), x, model(x))
    (folder / "config.json").write_text(json.dumps(dict(S, model_type="aimv2", rms_norm_eps=1e-5, qkv_bias=False, use_bias=False), indent=2))
    steps.save_pretrained(folder)


@case
def intern_vit(name):
    """OpenGVLab's own code: needs a checkout of github.com/OpenGVLab/InternVL in the path that INTERNVL names."""
    if "INTERNVL" not in os.environ:
        return print("intern-vit needs INTERNVL=/path/to/checkout")
    sys.path.insert(0, os.environ["INTERNVL"])
    from internvl_chat.internvl.model.internvl_chat.configuration_intern_vit import InternVisionConfig
    from internvl_chat.internvl.model.internvl_chat.modeling_intern_vit import InternVisionModel

    model = perturb(InternVisionModel(InternVisionConfig(**S, use_flash_attn=False, layer_norm_eps=1e-4)))
    steps = processor(**IMAGENET)
    x = steps.preprocess(square(steps.image_mean), return_tensors="pt")["pixel_values"]
    folder = write(name, model, model.state_dict(), x, last(1)(model, x))
    model.config.save_pretrained(folder)
    steps.save_pretrained(folder)


@case
def aimv2_native(name):
    save(name, T.Aimv2VisionModel(T.Aimv2VisionConfig(**S, is_native=True)), clip_processor(), last(0))


@case
def vit_msn(name):
    save(name, T.ViTMSNModel(T.ViTMSNConfig(**S)), processor(**IMAGENET), last(1))


@case
def vit_mae(name):
    # Only the encoder; every patch is kept, in its own order.
    noise = torch.arange(16)[None].float()
    config = T.ViTMAEConfig(**S, mask_ratio=0.0)
    save(name, T.ViTMAEModel(config), processor(**IMAGENET), lambda m, x: m(x, noise=noise).last_hidden_state[:, 1:])


@case
def blip(name):
    text = dict(vocab_size=11, hidden_size=8, encoder_hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=4, projection_dim=8)
    model = T.BlipModel(T.BlipConfig(vision_config=S, text_config=text, projection_dim=8))
    save(name, model, processor(T.BlipImageProcessorPil), lambda m, x: m.vision_model(x).last_hidden_state[:, 1:])


@case
def blip_vision(name):
    save(name, T.BlipVisionModel(T.BlipVisionConfig(**S)), processor(T.BlipImageProcessorPil), last(1))


@case
def blip_2_vision(name):
    save(name, T.Blip2VisionModel(T.Blip2VisionConfig(**S)), processor(T.BlipImageProcessorPil), last(1))


@case
def chinese_clip(name):
    text = dict(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=4)
    model = T.ChineseCLIPModel(T.ChineseCLIPConfig(vision_config=S, text_config=text, projection_dim=8))
    save(name, model, processor(T.ChineseCLIPImageProcessorPil, do_center_crop=False), hidden(-2, 1, lambda m: m.vision_model))


@case
def altclip(name):
    text = dict(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=6, project_dim=8)
    model = T.AltCLIPModel(T.AltCLIPConfig(vision_config=S, text_config=text, projection_dim=8))
    save(name, model, clip_processor(), hidden(-2, 1, lambda m: m.vision_model))


@case
def clipseg(name):
    config = T.CLIPSegConfig(vision_config=S, text_config=TEXT, projection_dim=8, extract_layers=[0, 1], reduce_dim=8, decoder_num_attention_heads=2, decoder_intermediate_size=8)
    save(name, T.CLIPSegForImageSegmentation(config), processor(**IMAGENET), hidden(-2, 1, lambda m: m.clip.vision_model))


@case
def owlvit(name):
    config = T.OwlViTConfig(vision_config=S, text_config=TEXT, projection_dim=8)
    save(name, T.OwlViTForObjectDetection(config), processor(T.OwlViTImageProcessorPil), hidden(-2, 1, lambda m: m.owlvit.vision_model))


@case
def owlv2(name):
    config = T.Owlv2Config(vision_config=S, text_config=TEXT, projection_dim=8)
    save(name, T.Owlv2Model(config), processor(T.OwlViTImageProcessorPil), hidden(-2, 1, lambda m: m.vision_model))


@case
def depth_anything(name):
    backbone = T.Dinov2Config(**M, out_indices=[1, 2], reshape_hidden_states=False)
    config = T.DepthAnythingConfig(backbone_config=backbone, reassemble_hidden_size=16, patch_size=8, neck_hidden_sizes=[4, 4], fusion_hidden_size=4, head_hidden_size=4, reassemble_factors=[1, 1])
    features = lambda m, x: m.backbone(x).feature_maps[-1][:, 1:]
    save(name, T.DepthAnythingForDepthEstimation(config), processor(T.DPTImageProcessorPil, **IMAGENET), features)


def radio(name, **more):
    config = T.RadioConfig(**M | dict(mlp_ratio=2.0), max_img_size=64, num_cls_tokens=3, num_registers=5, **more)
    steps = clip_processor()
    steps.do_normalize = False
    model = T.RadioModel(config)
    save(name, model, steps, lambda m, x: m(x).features, lambda x: model.input_conditioner(x))


@case
def c_radio(name):
    radio(name)


@case
def c_radio_g(name):
    radio(name, use_swiglu_ffn=True)


@case
def c_radio_original(name):
    """C-RADIO's own code: needs a checkout of github.com/NVlabs/RADIO in the path that RADIO names."""
    if "RADIO" not in os.environ:
        return print("c-radio-original needs RADIO=/path/to/checkout")
    sys.path.insert(0, os.environ["RADIO"])
    from radio.hf_model import RADIOConfig, RADIOModel

    small = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, mlp_ratio=2.0)
    unset = dict.fromkeys(["in_chans", "num_classes", "drop_path", "drop_block", "gp", "bn_momentum", "bn_eps"])
    teachers = [dict(name="one"), dict(name="two", use_summary=False)]
    args = unset | dict(
        model="vit_tiny_patch16_224", input_size=[3, 32, 32], pretrained=False, drop=0.0, torchscript=False, initial_checkpoint="",
        model_kwargs=small, cpe_max_size=64, teachers=teachers, cls_token_per_teacher=True, register_multiple=8, dtype="float32")
    model = RADIOModel(RADIOConfig(args=args, version="c-radio_v3-b", patch_size=8, max_resolution=64, preferred_resolution=[32, 32]))
    steps = clip_processor()
    steps.do_normalize = False
    save(name, model, steps, lambda m, x: m(x).features, lambda x: model.input_conditioner(x))


@case
def pixio(name):
    save(name, T.PixioModel(T.PixioConfig(**M, n_cls_tokens=3)), processor(**IMAGENET), last(3))


@case
def tipsv2(name):
    text = dict(vocab_size=11, hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=4)
    vision = M | dict(num_register_tokens=2, image_size=56)
    steps = processor(do_normalize=False)
    save(name, T.Tipsv2Model(T.Tipsv2Config(vision_config=vision, text_config=text)), steps, lambda m, x: m.vision_model(x).last_hidden_state[:, 3:], pad=[0.0] * 3)


@case
def tipsv2_vision(name):
    config = T.Tipsv2VisionConfig(**M, num_register_tokens=1, use_swiglu_ffn=True)
    save(name, T.Tipsv2VisionModel(config), processor(do_normalize=False), last(2), pad=[0.0] * 3)


@case
def siglip_vision(name):
    save(name, T.SiglipVisionModel(T.SiglipVisionConfig(**S)), processor(T.SiglipImageProcessorPil), last(0))


CONV = dict(depths=[1, 1, 2, 1], hidden_sizes=[4, 6, 8, 10], image_size=32)


def convnet(name, model, tower=lambda m: m):
    steps = processor(**IMAGENET)
    save(name, model, steps, lambda m, x: channels_last(tower(m)(x).last_hidden_state))


@case
def convnext(name):
    convnet(name, T.ConvNextForImageClassification(T.ConvNextConfig(**CONV, layer_scale_init_value=0.5)), lambda m: m.convnext)


@case
def convnextv2(name):
    convnet(name, T.ConvNextV2Model(T.ConvNextV2Config(**CONV)))


@case
def dinov3_convnext(name):
    steps = processor(**IMAGENET)
    config = T.DINOv3ConvNextConfig(**CONV, layer_scale_init_value=0.5)
    save(name, T.DINOv3ConvNextModel(config), steps, lambda m, x: m(x).last_hidden_state[:, 1:])


@case
def resnet_bottleneck(name):
    convnet(name, T.ResNetForImageClassification(T.ResNetConfig(hidden_sizes=[8, 8, 12, 12], depths=[1, 2, 1, 1])), lambda m: m.resnet)


@case
def resnet_basic(name):
    convnet(name, T.ResNetModel(T.ResNetConfig(hidden_sizes=[8] * 4, depths=[1] * 4, layer_type="basic")))


W = dict(image_size=64, embed_dim=8, depths=[2, 2, 1], num_heads=[1, 2, 4], window_size=4, drop_path_rate=0.0)


@case
def swin(name):
    save(name, T.SwinModel(T.SwinConfig(**W)), processor(side=64, **IMAGENET), last(0))


@case
def swin_classifier(name):
    # Windows of four tokens do not divide maps of ten and five.
    config = T.SwinConfig(**W | dict(image_size=80, qkv_bias=False, mlp_ratio=2.0), num_labels=3)
    save(name, T.SwinForImageClassification(config), processor(side=80, **IMAGENET), lambda m, x: m.swin(x).last_hidden_state)


@case
def swinv2(name):
    config = T.Swinv2Config(**W | dict(window_size=8), pretrained_window_sizes=[6, 6, 3])
    save(name, T.Swinv2Model(config), processor(side=64, **IMAGENET), last(0))


def sam2_config():
    stages = dict(mlp_ratio=1.0, blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 2, 4, 8])
    windows = dict(global_attention_blocks=[3], window_size_per_stage=[8, 4, 10, 5])
    backbone = T.Sam2HieraDetConfig(hidden_size=8, num_attention_heads=1, image_size=[64, 64], **stages, **windows)
    sizes = dict(backbone_channel_list=[64, 32, 16, 8], backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=8)
    return T.Sam2VisionConfig(backbone_config=backbone, **sizes)


@case
def sam2_vision(name):
    model = T.Sam2VisionModel(sam2_config())
    save(name, model, processor(side=64, **IMAGENET), lambda m, x: m(x).last_hidden_state.flatten(1, 2))


def open_clip_directory(name, model, config):
    model = perturb(model)
    steps = dict(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25], interpolation="bicubic", resize_mode="shortest")
    transform = open_clip.transform.PreprocessCfg(**(steps | dict(size=32)))
    x = open_clip.transform.image_transform_v2(transform, is_train=False)(square(steps["mean"]))[None]
    tokens = []
    model.visual.transformer.register_forward_hook(lambda *arguments: tokens.append(arguments[2]))
    model.visual(x)
    folder = write(name, model, model.state_dict(), x, tokens[0][:, 1:])
    (folder / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=steps), indent=2))


VISION = dict(image_size=32, patch_size=8, width=16, layers=2, head_width=8, mlp_ratio=2.0)
WORDS = dict(context_length=4, vocab_size=11, width=8, heads=2, layers=1)


@case
def openclip_coca(name):
    vision = VISION | dict(attentional_pool=True, attn_pooler_heads=2, attn_pooler_queries=3, output_tokens=True)
    text = WORDS | dict(embed_cls=True, output_tokens=True)
    config = dict(embed_dim=8, vision_cfg=vision, text_cfg=text, multimodal_cfg=WORDS | dict(attn_pooler_heads=2))
    open_clip_directory(name, open_clip.CoCa(**config), config)


@case
def openclip_clipa(name):
    vision = VISION | dict(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True, pos_embed_type="sin_cos_2d")
    config = dict(embed_dim=8, vision_cfg=vision, text_cfg=WORDS)
    open_clip_directory(name, open_clip.CLIP(**config), config)


def main():
    for name, make in CASES.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            torch.manual_seed(0)
            make(name)
            size = sum(f.stat().st_size for f in (OUT / name).iterdir())
            print(f"{name:20} {size / 1024:.0f} KiB", flush=True)
    print(json.dumps(VERSIONS))


if __name__ == "__main__":
    main()
