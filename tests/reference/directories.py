"""Model directories without a card, as timm, open_clip and transformers write them, for burgess-encoders.

Versions: torch 2.9.0, transformers 5.24.0, timm 1.0.20, open_clip_torch 3.3.0, pillow 13.0.0, safetensors.
Run from anywhere: python tests/reference/directories.py

Each tests/golden/directories/<id>/ gets
  config.json           (or open_clip_config.json, and preprocessor_config.json) as the library saves it
  model.safetensors     a tiny random model under its upstream names, every parameter moved away from its initial value,
                        rounded to f16 so that it is small
  expected.safetensors  pixels [1, 3, s, s] as the library's own transform makes them from encoders/picture.png after
                        padding to a square, and features [tokens, width]: the patches after the last norm that the
                        library applies to all of them
"""

import json
import pathlib

import open_clip
import timm
import torch
import transformers
from encoders import OUT as ENCODERS
from encoders import TEXT, VERSIONS, perturb, upstream
from PIL import Image
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parents[1] / "golden" / "directories"
SMALL = dict(embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0, patch_size=8, img_size=32, num_classes=3)


def square(mean):
    """picture.png padded to a square with the mean colour."""
    image = Image.open(ENCODERS / "picture.png").convert("RGB")
    side = max(image.size)
    whole = Image.new("RGB", (side, side), tuple(int(m * 255) for m in mean))
    whole.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return whole


def write(name, state, pixels, features):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, folder / "model.safetensors", {"format": "pt"})
    expected = {"pixels": pixels, "features": features[0]}
    save_file({k: v.detach().float().clone(memory_format=torch.contiguous_format) for k, v in expected.items()}, folder / "expected.safetensors")
    return folder


def of_timm(name, architecture, size=32, crop_pct=1.0, crop_mode="center", **arguments):
    arguments = SMALL | arguments
    model = perturb(timm.create_model(architecture, **arguments))
    cfg = dict(input_size=(3, size, size), crop_pct=crop_pct, crop_mode=crop_mode, interpolation="bicubic")
    model.pretrained_cfg = model.pretrained_cfg | cfg
    data = timm.data.resolve_model_data_config(model)
    x = timm.data.create_transform(**data)(square(data["mean"]))[None]
    if hasattr(model, "neck"):
        # Before the neck, as for SAM's own encoder.
        blocks = []
        model.blocks[-1].register_forward_hook(lambda *arguments: blocks.append(arguments[2].flatten(1, 2)))
        model(x)
        features = blocks[0]
    else:
        features = model.forward_features(x)[:, getattr(model, "num_prefix_tokens", 0) :]
    folder = write(name, model.state_dict(), x, features)
    saved = {k: v for k, v in arguments.items() if k != "num_classes"}
    timm.models._hub.save_config_for_hf(model, folder / "config.json", model_args=saved)


def of_open_clip(name, size=32, quick_gelu=False, table=None, **vision):
    vision = dict(image_size=size, patch_size=8, width=16, layers=2, head_width=8, mlp_ratio=2.0) | vision
    text = dict(context_length=4, vocab_size=11, width=8, heads=2, layers=1)
    config = dict(embed_dim=8, vision_cfg=vision, text_cfg=text, quick_gelu=quick_gelu)
    torch.manual_seed(1)
    before = open_clip.CLIP(**(config | dict(vision_cfg=vision | dict(image_size=table or size))))
    state = perturb(before).state_dict()
    model = open_clip.CLIP(**config).eval()
    loaded = dict(state)
    open_clip.model.resize_pos_embed(loaded, model)
    model.load_state_dict(loaded)
    preprocess = dict(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25], interpolation="bilinear", resize_mode="squash")
    steps = open_clip.transform.PreprocessCfg(**(preprocess | dict(size=size)))
    x = open_clip.transform.image_transform_v2(steps, is_train=False)(square(preprocess["mean"]))[None]
    tokens = []
    module = model.visual.transformer if vision.get("final_ln_after_pool") else model.visual.ln_post
    module.register_forward_hook(lambda *arguments: tokens.append(arguments[2]))
    model.visual(x)
    folder = write(name, state, x, tokens[0][:, 1:])
    (folder / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess), indent=2))


def of_open_clip_tower(name, architecture, size):
    """A timm tower that open_clip creates from its name alone: timm's own small test model."""
    config = dict(embed_dim=8, vision_cfg=dict(timm_model_name=architecture, timm_pool="avg", timm_proj="linear", image_size=size), text_cfg=dict(context_length=4, vocab_size=11, width=8, heads=2, layers=1))
    model = perturb(open_clip.CLIP(**config))
    preprocess = dict(mean=[0.5] * 3, std=[0.5] * 3, interpolation="bicubic", resize_mode="shortest")
    steps = open_clip.transform.PreprocessCfg(**(preprocess | dict(size=size)))
    x = open_clip.transform.image_transform_v2(steps, is_train=False)(square(preprocess["mean"]))[None]
    trunk = model.visual.trunk
    folder = write(name, model.state_dict(), x, trunk.forward_features(x)[:, trunk.num_prefix_tokens :])
    (folder / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess), indent=2))


def of_transformers(name, model, processor, features, **arguments):
    model = perturb(model)
    steps = processor.preprocess(square(processor.image_mean), return_tensors="pt")
    x = steps["pixel_values"]
    folder = write(name, upstream(model), x, features(model, x, **arguments))
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)


def main():
    torch.manual_seed(0)
    of_timm("timm-qk-norm", "vit_tiny_patch16_224", qk_norm=True, no_embed_class=True, reg_tokens=2, global_pool="avg", init_values=0.1, crop_pct=0.875)
    of_timm("timm-registers", "vit_tiny_patch16_224", reg_tokens=2, dynamic_img_size=True, img_size=56, class_token=False, global_pool="avg", fc_norm=False, crop_mode="squash", crop_pct=0.9)
    of_timm("timm-swiglu", "vit_giant_patch14_reg4_dinov2", qkv_bias=False)
    of_timm("timm-distilled", "deit_tiny_distilled_patch16_224")
    of_timm("timm-deit3", "deit3_small_patch16_224")
    of_timm("timm-post-norm", "vit_base_patch16_rpn_224", img_size=40, size=40)
    of_timm("timm-siglip", "vit_base_patch16_siglip_224", crop_mode="squash")
    of_timm("timm-quickgelu", "vit_base_patch16_clip_quickgelu_224")
    of_timm("timm-beit3", "beit3_base_patch16_224", global_pool="token")
    of_timm("timm-eva", "eva_giant_patch14_224", global_pool="token")
    of_timm("timm-eva02", "eva02_base_patch14_224", global_pool="token")
    of_timm("timm-eva02-clip", "eva02_base_patch16_clip_224")
    of_timm("timm-eva02-tiny", "eva02_tiny_patch14_224")
    of_timm("timm-rope", "vit_small_patch16_rope_ape_224")
    of_timm("timm-rope-gap", "vit_base_patch16_rope_reg1_gap_256")
    of_timm("timm-pe", "vit_pe_core_tiny_patch16_384")
    of_timm("timm-dinov3", "vit_small_patch16_dinov3_qkvb", size=48)
    of_timm("timm-dinov3-plus", "vit_small_plus_patch16_dinov3")
    of_timm("timm-beit", "beit_base_patch16_224", global_pool="token")
    of_timm("timm-beit-plain", "beitv2_base_patch16_224", use_abs_pos_emb=True, use_rel_pos_bias=False, swiglu_mlp=True, scale_mlp=True, init_values=0.0)
    of_timm("timm-sam", "samvit_base_patch16", window_size=3, global_attn_indexes=[1], neck_chans=4)
    of_timm("timm-sam-224", "samvit_base_patch16_224", window_size=3, global_attn_indexes=[0])

    of_open_clip("openclip-quickgelu", quick_gelu=True, table=48)
    of_open_clip("openclip-tanh", no_ln_pre=True, ls_init_value=0.1, act_kwargs=dict(approximate="tanh"), norm_kwargs=dict(eps=1e-3), pos_embed_type="sin_cos_2d")
    of_open_clip("openclip-pooled", pool_type="avg", final_ln_after_pool=True)
    of_open_clip_tower("openclip-tower", "test_vit", 160)

    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)
    size = dict(height=32, width=32)
    vit = lambda **more: transformers.ViTImageProcessorPil(**(dict(size=size) | more))
    imagenet = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    last = lambda model, x, skip=1, **more: model(x, **more).last_hidden_state[:, skip:]

    model = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, qkv_bias=False, hidden_act="gelu_new", layer_norm_eps=1e-3))
    of_transformers("transformers-vit", model, vit(), lambda m, x: last(m.vit, x))
    deit = transformers.DeiTImageProcessorPil(size=dict(height=40, width=40), crop_size=size, **imagenet)
    of_transformers("transformers-deit", transformers.DeiTModel(transformers.DeiTConfig(**sizes)), deit, last, skip=2)
    mae = transformers.ViTMAEConfig(**sizes, decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=8, mask_ratio=0.0)
    # In order: what is left of the patches comes shuffled.
    noise = torch.arange(16)[None].float()
    of_transformers("transformers-mae", transformers.ViTMAEForPreTraining(mae), vit(**imagenet), lambda m, x: last(m.vit, x, noise=noise))
    beit = transformers.BeitConfig(**sizes, use_relative_position_bias=True, layer_scale_init_value=0.1, use_mean_pooling=False)
    of_transformers("transformers-beit", transformers.BeitModel(beit), transformers.BeitImageProcessorPil(size=size, do_center_crop=False), last)
    # Positions of a larger grid, which shrinks.
    larger = {k: v for k, v in sizes.items() if k != "intermediate_size"} | dict(image_size=56, mlp_ratio=2)
    registers = transformers.Dinov2WithRegistersConfig(**larger, num_register_tokens=3)
    of_transformers("transformers-registers", transformers.Dinov2WithRegistersModel(registers), vit(resample=3, **imagenet), last, skip=4)
    dinov2 = transformers.Dinov2Config(**larger, use_swiglu_ffn=True)
    of_transformers("transformers-dinov2", transformers.Dinov2Model(dinov2), vit(resample=3, **imagenet), last)
    head = dict(neck_hidden_sizes=[4] * 4, fusion_hidden_size=4, reassemble_factors=[1] * 4, backbone_out_indices=[0, 0, 1, 1], is_hybrid=False)
    dpt = transformers.DPTConfig(**sizes, **head)
    steps = transformers.DPTImageProcessorPil(size=size)
    of_transformers("transformers-dpt", transformers.DPTForDepthEstimation(dpt), steps, lambda m, x: m.dpt(x, output_hidden_states=True).hidden_states[-1][:, 1:])
    beit = transformers.BeitConfig(**(sizes | dict(num_hidden_layers=4)), use_relative_position_bias=True, out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    dpt = transformers.DPTConfig(backbone_config=beit, use_bias_in_fusion_residual=False, **(head | dict(backbone_out_indices=None)))
    of_transformers("transformers-dpt-beit", transformers.DPTForDepthEstimation(dpt), steps, lambda m, x: m.backbone(x, output_hidden_states=True).hidden_states[-1][:, 1:])
    vision = transformers.SamVisionConfig(**{k: v for k, v in sizes.items() if k != "intermediate_size"}, mlp_dim=32, output_channels=8, window_size=3, global_attn_indexes=[0])
    decoder = dict(hidden_size=8, mlp_dim=8, num_hidden_layers=1, num_attention_heads=1, iou_head_hidden_dim=8)
    prompt = dict(hidden_size=8, image_size=32, patch_size=8, mask_input_channels=4)
    sam = transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    sam = transformers.SamModel(sam)
    steps = transformers.SamImageProcessorPil(size=dict(longest_edge=32), pad_size=size, mask_size=dict(longest_edge=8), mask_pad_size=dict(height=8, width=8))
    of_transformers("transformers-sam", sam, steps, lambda m, x: m.vision_encoder(x, output_hidden_states=True).hidden_states[-1].flatten(1, 2))
    siglip = transformers.SiglipConfig(vision_config=sizes | dict(vision_use_head=False), text_config=TEXT)
    of_transformers("transformers-siglip", transformers.SiglipModel(siglip), transformers.SiglipImageProcessorPil(size=size), lambda m, x: last(m.vision_model, x, skip=0))
    print(VERSIONS)


if __name__ == "__main__":
    main()
