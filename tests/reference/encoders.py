"""Golden checkpoints and features for burgess-encoders, made with the libraries that publish the weights.

Versions: torch 2.9.0, transformers 5.24.0, timm 1.0.20, open_clip_torch 3.3.0, segment-anything 1.0, pillow 13.0.0,
safetensors.
Run from anywhere: python tests/reference/encoders.py

Per family, tests/golden/encoders/<id>/ gets
  model.safetensors     a tiny random model under its upstream names, heads and unused parts included,
                        every parameter moved away from its initial value, rounded to f16 so that it is small
  card.toml             the encoder card that describes it
  expected.safetensors  pixels [1, 3, s, s] as the card's preprocessing must make them from picture.png, and
                        features [tokens, width] at the card's tap (and, as features.<layer>, at others), and for the
                        sum of features * projection the gradients of three parameters, as gradient.<upstream name>
  config.json           (and preprocessor_config.json) as the library saves it, for the families that can be read without
                        a card
"""

import pathlib
import tempfile

import numpy as np
import open_clip
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models.eva import Eva
from timm.models.convnext import ConvNeXt, ConvNeXtStage
from timm.models.vision_transformer import VisionTransformer
from transformers import (
    BeitConfig,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    DPTConfig,
    DPTForDepthEstimation,
    IJepaConfig,
    IJepaModel,
    SiglipConfig,
    SiglipModel,
)

OUT = pathlib.Path(__file__).parents[1] / "golden" / "encoders"
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__, "timm": timm.__version__, "open_clip": open_clip.__version__}
OPENAI = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5] * 3, [0.5] * 3)
PAD = (122, 116, 104)
TEXT = dict(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=4, projection_size=8)


def upstream(model):
    """The weights under the names of published files; transformers 5 uses other names in memory."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(folder + "/model.safetensors")


def picture():
    """An image that is not square, with smooth regions and hard edges."""
    rng = np.random.default_rng(3)
    y, x = np.indices((41, 60))
    rgb = np.stack([x * 4, 128 + 120 * np.sin(y / 5), 255 * ((x // 7 + y // 5) % 2)], 2)
    rgb[10:20, 30:50] = rng.integers(0, 256, (10, 20, 3))
    image = Image.fromarray(rgb.clip(0, 255).astype(np.uint8))
    image.save(OUT / "picture.png")
    return image


def pixels(image, size, normalisation):
    side = max(image.size)
    square = Image.new("RGB", (side, side), PAD)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    square = square.resize((size, size), Image.BICUBIC)
    mean, std = (torch.tensor(v)[:, None, None] for v in normalisation)
    return ((torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255 - mean) / std)[None]


def perturb(model):
    """Moves every parameter away from values that hide mistakes (zero biases, unit scales, equal norms)."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p += (0.1 if p.ndim == 1 else 0.06) * torch.randn(p.shape, generator=generator)
            if "scale" in name or "gamma" in name:
                p.copy_(0.3 + 0.4 * torch.rand(p.shape, generator=generator))
            p.copy_(p.half().float())
    return model.eval()


def gradients(model, state, features):
    """Gradients of the first, a middle and the last weight, under the names of published files: transformers 5 has others in
    memory, so a parameter is recognised by its values."""
    projection = torch.randn(features.shape, generator=torch.Generator().manual_seed(5))
    model.zero_grad()
    (features * projection).sum().backward(retain_graph=True)
    known = {(p.shape, p.detach().double().sum().item()): p.grad for p in model.parameters() if p.grad is not None}
    grads = {k: known.get((v.shape, v.double().sum().item())) for k, v in state.items()}
    keys = [k for k, g in grads.items() if g is not None and g.abs().max() > 0]
    layer = lambda key: next((int(part) for part in key.split(".") if part.isdigit()), -1)
    keys.sort(key=lambda k: (layer(k), k))
    return {"projection": projection[0], **{f"gradient.{keys[i]}": grads[keys[i]] for i in (0, len(keys) // 2, len(keys) - 1)}}


def write(name, family, dialect, model, state, architecture, size, normalisation, tap, x, features, prefix=None, **more):
    folder = OUT / name
    folder.mkdir(exist_ok=True)
    save_file({k: v.detach().half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, folder / "model.safetensors", {"format": "pt"})
    expected = {"pixels": x, "features": features[0], **{f"features.{k}": v[0] for k, v in more.items()}, **gradients(model, state, features)}
    save_file({k: v.detach().float().clone(memory_format=torch.contiguous_format) for k, v in expected.items()}, folder / "expected.safetensors")
    if isinstance(model, transformers.PreTrainedModel) and not prefix:
        model.config.save_pretrained(folder)
        processor = transformers.CLIPImageProcessorPil if name == "clip" else transformers.ViTImageProcessorPil
        more = dict(crop_size=dict(height=size, width=size)) if name == "clip" else {}
        steps = processor(size=dict(height=size, width=size), image_mean=normalisation[0], image_std=normalisation[1], resample=3, **more)
        steps.save_pretrained(folder)
    numbers = lambda table: "\n".join(f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in table.items())
    mean, std = normalisation
    card = f"""id = "{name}"
title = "{name}"
family = "{family}"
supervision = "none"
licence = "MIT OR Apache-2.0"

[source]
directory = "."
dialect = "{dialect}"{f'{chr(10)}prefix = "{prefix}"' if prefix else ""}
parameters = 0

[architecture]
{numbers(architecture)}

[preprocess]
size = {size}
interpolation = "bicubic"
mean = {mean}
std = {std}
pad = {list(PAD)}

[tap]
{numbers(tap)}
"""
    (folder / "card.toml").write_text(card.replace("'", '"'))


def vit(size, patch, depth, **more):
    return dict(architecture="vit", image_size=size, patch=patch, width=32, depth=depth, heads=4, mlp_hidden=48, **more)


def main():
    # Other scripts share this file's functions without this library.
    from segment_anything.modeling import ImageEncoderViT

    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    image = picture()
    sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)

    vision = dict(**sizes, image_size=48, patch_size=16, hidden_act="quick_gelu", layer_norm_eps=1e-5)
    model = perturb(CLIPModel(CLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=8)))
    x = pixels(image, 48, OPENAI)
    out = model.vision_model(x, output_hidden_states=True).hidden_states
    # Files from before transformers 4.31 hold this buffer too.
    state = upstream(model) | {"vision_model.embeddings.position_ids": torch.arange(10)[None]}
    write("clip", "CLIP", "transformers-clip", model, state,
          vit(48, 16, 3, pre_norm=True, patch_bias=False, activation="quick_gelu", norm_eps=1e-5),
          48, OPENAI, dict(layer=-2), x, out[-2][:, 1:], last=out[-1][:, 1:], first=out[1][:, 1:], cls=out[-2])

    model = perturb(SiglipModel(SiglipConfig(vision_config=dict(**sizes, image_size=32, patch_size=8), text_config=TEXT)))
    x = pixels(image, 32, HALF)
    out = model.vision_model(x, output_hidden_states=True)
    write("siglip", "SigLIP", "transformers-siglip", model, upstream(model),
          vit(32, 8, 3, class_token=False, activation="gelu_tanh", norm_eps=1e-6),
          32, HALF, dict(norm=True), x, out.last_hidden_state, last=out.hidden_states[-1], first=out.hidden_states[1])

    config = Dinov2Config(hidden_size=32, mlp_ratio=2, num_hidden_layers=3, num_attention_heads=4, image_size=42, patch_size=14, layerscale_value=1.0)
    model = perturb(Dinov2Model(config))
    x = pixels(image, 42, IMAGENET)
    out = model(x, output_hidden_states=True)
    write("dinov2", "DINOv2", "transformers-dinov2", model, upstream(model),
          vit(42, 14, 3, layer_scale=1.0) | dict(mlp_hidden=64),
          42, IMAGENET, dict(norm=True), x, out.last_hidden_state[:, 1:], last=out.hidden_states[-1][:, 1:],
          first=out.hidden_states[1][:, 1:], cls=out.last_hidden_state)

    # Both timm ViTs of the study: with a classifier (supervised) and without one (MAE).
    for name, classes, normalisation in (("supervised", 7, HALF), ("mae", 0, IMAGENET)):
        model = perturb(VisionTransformer(img_size=48, patch_size=16, embed_dim=32, depth=2, num_heads=4, mlp_ratio=1.5, num_classes=classes))
        x = pixels(image, 48, normalisation)
        first, last = model.forward_intermediates(x, indices=2, output_fmt="NLC", intermediates_only=True)
        write(name, name, "timm", model, model.state_dict(), vit(48, 16, 2), 48, normalisation, dict(norm=True), x,
              model.forward_features(x)[:, 1:], last=last, first=first, cls=model.forward_features(x))

    arguments = dict(img_size=48, patch_size=16, embed_dim=32, depth=2, num_heads=4, mlp_ratio=1.5)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments)
    model.pretrained_cfg = model.pretrained_cfg | dict(input_size=(3, 48, 48), crop_pct=1.0, mean=IMAGENET[0], std=IMAGENET[1], interpolation="bicubic")
    timm.models._hub.save_config_for_hf(model, OUT / "mae" / "config.json", model_args=arguments)

    # The tower that open_clip holds for its ConvNeXt models (open_clip.timm_model.TimmModel.trunk), under its names.
    # With a stem of 2, timm would halve the grid in the first stage too; the nano encoder does not, to keep a grid
    # of 6 x 6 for 96 pixels.
    for name, stem, size in (("convnext", 4, 64), ("convnext-stem2", 2, 48)):
        model = ConvNeXt(patch_size=stem, depths=(1, 1, 2, 1), dims=(8, 12, 16, 24), num_classes=0, ls_init_value=1e-6)
        if stem == 2:
            model.stages[0] = ConvNeXtStage(8, 8, stride=1, depth=1, ls_init_value=1e-6)
        perturb(model)
        x = pixels(image, size, OPENAI)
        stages = model.forward_intermediates(x, indices=4, intermediates_only=True)
        tokens = [s.flatten(2).transpose(1, 2) for s in stages]
        state = {f"visual.trunk.{k}": v for k, v in model.state_dict().items()}
        state |= {"visual.head.proj.weight": torch.zeros(4, 24), "logit_scale": torch.tensor(1.0), "positional_embedding": torch.zeros(3, 4)}
        state |= {"transformer.resblocks.0.ln_1.weight": torch.zeros(4), "token_embedding.weight": torch.zeros(5, 4)}
        state |= {"ln_final.bias": torch.zeros(4), "text_projection": torch.zeros(4, 4)}
        write(name, "OpenCLIP", "open-clip", model, state,
              dict(architecture="convnext", image_size=size, stem=stem, depths=[1, 1, 2, 1], dims=[8, 12, 16, 24]),
              size, OPENAI, dict(layer=-1), x, tokens[-1], first=tokens[0])

    # open_clip's own tower, as the DFN models have it.
    vision = dict(image_size=48, patch_size=16, width=32, layers=3, head_width=8, mlp_ratio=1.5, output_tokens=True)
    text = dict(context_length=4, vocab_size=11, width=8, heads=2, layers=1)
    model = perturb(open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text, quick_gelu=True))
    x = pixels(image, 48, OPENAI)
    clip = dict(pre_norm=True, patch_bias=False, activation="quick_gelu", norm_eps=1e-5)
    write("openclip-vit", "OpenCLIP", "open-clip-vit", model, model.state_dict(), vit(48, 16, 3, **clip), 48, OPENAI,
          dict(norm=True), x, model.visual(x)[1])

    # With rotary positions for another grid than the picture's, as EVA-02's at 336 pixels are.
    model = perturb(Eva(img_size=48, patch_size=16, embed_dim=32, depth=2, num_heads=4, mlp_ratio=1.5, qkv_fused=False, swiglu_mlp=True,
                        scale_mlp=True, scale_attn_inner=True, use_rot_pos_emb=True, ref_feat_shape=(2, 2), num_classes=5, global_pool="token"))
    first, last = model.forward_intermediates(x, indices=2, output_fmt="NLC", intermediates_only=True)
    state = {f"visual.trunk.{k}": v for k, v in model.state_dict().items()} | {"text.ln_final.bias": torch.zeros(4)}
    write("eva02", "EVA-02", "open-clip-eva02", model, state,
          vit(48, 16, 2, activation="swiglu", inner_norms=True) | {"rotary.grid": 2}, 48, OPENAI, dict(norm=True), x,
          model.forward_features(x)[:, 1:], last=last, first=first, cls=model.forward_features(x))

    # MiDaS 3.0 and 3.1: the encoders of depth models, before their final norm.
    head = dict(neck_hidden_sizes=[4, 4, 4, 4], fusion_hidden_size=4, readout_type="project", reassemble_factors=[1, 1, 1, 1])
    config = DPTConfig(**(sizes | dict(num_hidden_layers=4)), image_size=48, patch_size=16, layer_norm_eps=1e-12, is_hybrid=False, backbone_out_indices=[0, 1, 2, 3], **head)
    model = perturb(DPTForDepthEstimation(config))
    x = pixels(image, 48, HALF)
    out = model.dpt(x, output_hidden_states=True).hidden_states
    write("dpt", "MiDaS", "transformers-vit", model, upstream(model), vit(48, 16, 4, norm_eps=1e-12, final_norm=False), 48, HALF,
          dict(layer=-1), x, out[-1][:, 1:], prefix="dpt.", first=out[1][:, 1:], cls=out[-1])

    beit = BeitConfig(**(sizes | dict(num_hidden_layers=4)), image_size=48, patch_size=16, layer_norm_eps=1e-12, use_relative_position_bias=True,
                      layer_scale_init_value=0.1, out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    model = perturb(DPTForDepthEstimation(DPTConfig(backbone_config=beit, use_bias_in_fusion_residual=False, **head)))
    out = model.backbone(x, output_hidden_states=True).hidden_states
    beit = dict(norm_eps=1e-12, final_norm=False, absolute_positions=False, relative_positions=True, layer_scale=0.1)
    write("beit", "MiDaS", "transformers-beit", model, upstream(model), vit(48, 16, 4, **beit), 48, HALF,
          dict(layer=-1), x, out[-1][:, 1:], prefix="backbone.", first=out[1][:, 1:], cls=out[-1])

    model = perturb(IJepaModel(IJepaConfig(**sizes, image_size=48, patch_size=16, layer_norm_eps=1e-6), add_pooling_layer=False))
    x = pixels(image, 48, IMAGENET)
    out = model(x, output_hidden_states=True)
    write("ijepa", "I-JEPA", "transformers-vit", model, upstream(model), vit(48, 16, 3, class_token=False), 48, IMAGENET,
          dict(norm=True), x, out.last_hidden_state, first=out.hidden_states[1])

    # Windows of 2 over a grid of 3, so that they are padded; one block attends over the whole.
    model = perturb(ImageEncoderViT(img_size=48, patch_size=16, embed_dim=32, depth=3, num_heads=4, mlp_ratio=1.5, out_chans=4,
                                    use_rel_pos=True, window_size=2, global_attn_indexes=(1,), norm_layer=lambda d: torch.nn.LayerNorm(d, eps=1e-6)))
    x = pixels(image, 48, IMAGENET)
    blocks = []
    for block in model.blocks:
        block.register_forward_hook(lambda *arguments: blocks.append(arguments[2].flatten(1, 2)))
    model(x)
    state = {f"image_encoder.{k}": v for k, v in model.state_dict().items()} | {"mask_decoder.iou_token.weight": torch.zeros(1, 4), "prompt_encoder.no_mask_embed.weight": torch.zeros(1, 4)}
    sam = dict(architecture="sam", image_size=48, patch=16, width=32, depth=3, heads=4, mlp_hidden=48, window=2, global_blocks=[1])
    write("sam", "SAM", "sam", model, state, sam, 48, IMAGENET, dict(layer=-1), x, blocks[-1], first=blocks[0])

    # DINOv2-giant's gated MLP, at another size than its positions', resampled as the authors' code does it (dinov2's
    # vision_transformer.py with interpolate_offset = 0.1), and transformers' until 4.37.
    config = Dinov2Config(hidden_size=32, mlp_ratio=2, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14, layerscale_value=1.0, use_swiglu_ffn=True)
    model = perturb(Dinov2Model(config))

    def resampled(embeddings, height, width):
        positions = model.embeddings.position_embeddings
        table = positions[:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
        scale = ((height // 14 + 0.1) / 4, (width // 14 + 0.1) / 4)
        table = torch.nn.functional.interpolate(table, scale_factor=scale, mode="bicubic", antialias=False)
        return torch.cat([positions[:, :1], table.permute(0, 2, 3, 1).flatten(1, 2)], 1)

    model.embeddings.interpolate_pos_encoding = resampled
    x = pixels(image, 42, IMAGENET)
    out = model(x, output_hidden_states=True)
    state = upstream(model)
    hidden = state["encoder.layer.0.mlp.weights_out.weight"].shape[1]
    write("dinov2-giant", "DINOv2", "transformers-dinov2-swiglu", model, state,
          vit(42, 14, 2, layer_scale=1.0, activation="swiglu", position_grid=4, position_offset=0.1) | dict(mlp_hidden=hidden),
          42, IMAGENET, dict(norm=True), x, out.last_hidden_state[:, 1:], first=out.hidden_states[1][:, 1:], cls=out.last_hidden_state)
    print(VERSIONS)


if __name__ == "__main__":
    main()
