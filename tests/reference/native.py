"""Golden checkpoints and features of vision towers with variable resolution, made with Hugging Face transformers.

Versions: torch 2.9.0, transformers 5.24.0, pillow, safetensors.
Run from anywhere: python tests/reference/native.py

Per tower, tests/golden/native/<name>/ gets
  model.safetensors     a tiny random multimodal model (or tower) under its published names, rounded to f16
  config.json, preprocessor_config.json (video_preprocessor_config.json of V-JEPA 2)   as the library saves them
  expected.safetensors  for image i of three aspect ratios (crops of tests/golden/encoders/picture.png, see CROPS):
                        pixels.i [3, h, w], features.i [tokens, width] of the last block (after the final norm, if the
                        tower has one), first.i of block 0, merged.i after the tower's patch merger, deepstack.i of its
                        deepstack mergers side by side, projection.i, and gradient.<name> of three parameters for
                        sum over i of (features.i * projection.i), or merged.i where there is a merger
Tokens are in row-major order of the image's grid. rectangles.safetensors has the features of two plain ViTs
(tests/golden/encoders) of 2 x 5 patches.
"""

import json
import pathlib
import tempfile

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.vision_utils import get_vision_window_index

HERE = pathlib.Path(__file__).parents[1] / "golden"
OUT = HERE / "native"
CROPS = [(0, 0, 60, 41), (0, 0, 24, 41), (0, 0, 60, 12)]


def upstream(model, folder):
    model.save_pretrained(folder)
    return load_file(f"{folder}/model.safetensors")


def perturb(model):
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for _, p in model.named_parameters():
            p += (0.1 if p.ndim == 1 else 0.06) * torch.randn(p.shape, generator=generator)
            p.copy_(p.half().float())
    return model.eval()


def gradients(model, state, outputs):
    generator = torch.Generator().manual_seed(5)
    projections = [torch.randn(o.shape, generator=generator) for o in outputs]
    model.zero_grad()
    sum((o * p).sum() for o, p in zip(outputs, projections)).backward()
    known = {(tuple(p.shape), p.detach().double().sum().item()): p.grad for p in model.parameters() if p.grad is not None}
    found = {k: known.get((tuple(v.shape), v.double().sum().item())) for k, v in state.items()}
    keys = [k for k, g in found.items() if g is not None and g.abs().max() > 0]
    layer = lambda key: next((int(part) for part in key.split(".") if part.isdigit()), -1)
    keys.sort(key=lambda k: (layer(k), k))
    chosen = [k for k in keys if "pos" in k][:1] + [keys[len(keys) // 2], keys[-1]] + [k for k in keys if "patch_embed" in k][:1]
    return {f"projection.{i}": p for i, p in enumerate(projections)} | {f"gradient.{k}": found[k] for k in chosen}


def write(name, model, processor, outputs, expected):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as saved:
        state = upstream(model, saved)
        # transformers 5.24 writes these names, which no published file has, when it reverses its own renaming.
        state = {k.replace("vision_tower.encoder.patch_embed", "vision_tower.patch_embed").replace("language_model.model.blocks", "language_model.model.layers"): v for k, v in state.items()}
        config = json.load(open(f"{saved}/config.json"))
    expected = expected | gradients(model, state, outputs)
    save_file({k: v.detach().half().contiguous() for k, v in state.items()}, folder / "model.safetensors", {"format": "pt"})
    save_file({k: v.detach().float().clone(memory_format=torch.contiguous_format) for k, v in expected.items()}, folder / "expected.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    settings = processor.to_dict()
    file = "video_preprocessor_config.json" if name == "vjepa2" else "preprocessor_config.json"
    (folder / file).write_text(json.dumps({k: v for k, v in settings.items() if v is not None}, indent=1))
    print(name, {k: tuple(v.shape) for k, v in expected.items()}, sep="\n  ")
    print("  keys", *[k for k in state if not any(f".{i}." in k for i in range(1, 9))][:60], sep="\n    ")


def images():
    whole = Image.open(HERE / "encoders" / "picture.png").convert("RGB")
    return [whole.crop(box) for box in CROPS]


def rows_first(x, grid, merge):
    """Tokens in the order of merge blocks to row-major order."""
    r, c = grid
    return x.reshape(r // merge, c // merge, merge, merge, -1).transpose(1, 2).reshape(r * c, -1)


def unpatched(flat, grid, patch, channels_last=False, merge=1, frames=1):
    """The image [3, h, w] of flattened patches."""
    r, c = grid
    if channels_last:
        return flat.reshape(r, c, patch, patch, 3).permute(4, 0, 2, 1, 3).reshape(3, r * patch, c * patch)
    x = rows_first(flat, grid, merge).reshape(r, c, 3, frames, patch, patch)[:, :, :, 0]
    return x.permute(2, 0, 3, 1, 4).reshape(3, r * patch, c * patch)


def hooked(blocks):
    """Outputs of the first block, in a list that fills as the model runs."""
    seen = []
    blocks[0].register_forward_hook(lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out))
    return seen


TEXT = dict(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)


def siglip2():
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, patch_size=4, num_patches=16)
    text = dict(**TEXT, max_position_embeddings=4, projection_size=8)
    model = perturb(transformers.Siglip2Model(transformers.Siglip2Config(vision_config=vision, text_config=text)))
    processor = transformers.models.siglip2.image_processing_pil_siglip2.Siglip2ImageProcessorPil(patch_size=4, max_num_patches=20)
    batch = processor(images=images(), return_tensors="pt")
    seen = hooked(model.vision_model.encoder.layers)
    out = model.vision_model(batch["pixel_values"], batch["pixel_attention_mask"], batch["spatial_shapes"]).last_hidden_state
    expected, features = {}, []
    for i, (r, c) in enumerate(batch["spatial_shapes"].tolist()):
        expected[f"pixels.{i}"] = unpatched(batch["pixel_values"][i, : r * c], (r, c), 4, channels_last=True)
        features.append(out[i, : r * c])
        expected |= {f"features.{i}": features[-1], f"first.{i}": seen[0][i, : r * c]}
    write("siglip2", model, processor, features, expected)


def qwen(name, model, tower, processor, patch, merge, window=None):
    batch = processor(images=images(), return_tensors="pt")
    grids = [tuple(g[1:]) for g in batch["image_grid_thw"].tolist()]
    expected, outputs, at = {}, [], 0
    seen = hooked(tower.blocks)
    for i, (r, c) in enumerate(grids):
        flat = batch["pixel_values"][at : at + r * c]
        at += r * c
        seen.clear()
        out = tower(flat, torch.tensor([[1, r, c]]))
        order = torch.arange(r * c)
        if window:
            index, _ = get_vision_window_index(torch.tensor([[1, r, c]]), merge, window, patch)
            order = torch.argsort(order.reshape(-1, merge * merge)[index].flatten())
        restore = lambda x: rows_first(x[order], (r, c), merge)
        expected |= {f"pixels.{i}": unpatched(flat, (r, c), patch, merge=merge, frames=2), f"merged.{i}": out.pooler_output}
        expected |= {f"features.{i}": restore(out.last_hidden_state), f"first.{i}": restore(seen[0])}
        outputs.append(out.pooler_output)
        if hasattr(out, "deepstack_features"):
            expected[f"deepstack.{i}"] = torch.cat(out.deepstack_features, -1)
            outputs[-1] = torch.cat([*out.deepstack_features, out.pooler_output], -1)
    write(name, model, processor, outputs, expected)


def qwen2_5_vl():
    vision = dict(depth=4, hidden_size=16, intermediate_size=20, num_heads=2, patch_size=4, out_hidden_size=8, window_size=16, fullatt_block_indexes=[1, 3])
    text = dict(**TEXT, num_key_value_heads=1, rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[1, 1, 0]))
    model = perturb(transformers.Qwen2_5_VLForConditionalGeneration(transformers.Qwen2_5_VLConfig(vision_config=vision, text_config=text)))
    processor = transformers.models.qwen2_vl.image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size=dict(shortest_edge=400, longest_edge=960))
    qwen("qwen2_5_vl", model, model.model.visual, processor, 4, 2, window=16)


def qwen3_vl():
    vision = dict(depth=3, hidden_size=16, intermediate_size=20, num_heads=2, patch_size=4, out_hidden_size=8, num_position_embeddings=25, deepstack_visual_indexes=[0, 1])
    text = dict(**TEXT, num_key_value_heads=1, head_dim=4, rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[1, 1, 0]))
    model = perturb(transformers.Qwen3VLForConditionalGeneration(transformers.Qwen3VLConfig(vision_config=vision, text_config=text)))
    processor = transformers.models.qwen2_vl.image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size=dict(shortest_edge=400, longest_edge=960), image_mean=[0.5] * 3, image_std=[0.5] * 3)
    qwen("qwen3_vl", model, model.model.visual, processor, 4, 2)


def kimi():
    module = transformers.models.kimi_k25
    vision = dict(num_hidden_layers=3, hidden_size=16, intermediate_size=20, num_attention_heads=2, patch_size=4, pos_emb_height=5, pos_emb_width=5)
    text = dict(model_type="deepseek_v3", **TEXT, num_key_value_heads=2, first_k_dense_replace=1, q_lora_rank=4, kv_lora_rank=4, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=4, n_routed_experts=8, n_group=4, topk_group=2, num_experts_per_tok=2, moe_intermediate_size=4)
    config = module.configuration_kimi_k25.Kimi_K25Config(vision_config=vision, text_config=text, projection_hidden_size=16)
    model = perturb(module.modeling_kimi_k25.Kimi_K25ForConditionalGeneration(config))
    tower = model.model.vision_tower
    processor = module.image_processing_kimi_k25.Kimi_K25ImageProcessor(patch_size=4, merge_size=2, max_patches=40, size=dict(max_height=10, max_width=10))
    batch = processor(images=images(), return_tensors="pt")
    expected, features, at = {}, [], 0
    seen = hooked(tower.layers)
    for i, (_, r, c) in enumerate(batch["image_grid_thw"].tolist()):
        flat = batch["pixel_values"][at : at + r * c]
        at += r * c
        seen.clear()
        features.append(tower(flat, torch.tensor([[1, r, c]])).last_hidden_state)
        expected |= {f"pixels.{i}": unpatched(flat.flatten(1), (r, c), 4), f"features.{i}": features[-1], f"first.{i}": seen[0]}
    write("kimi_k25", model, processor, features, expected)


def vjepa2():
    config = transformers.VJEPA2Config(crop_size=24, patch_size=8, frames_per_clip=4, hidden_size=32, num_attention_heads=2, num_hidden_layers=2,
        mlp_ratio=1.5, pred_hidden_size=8, pred_num_attention_heads=2, pred_num_hidden_layers=1, pred_num_mask_tokens=2)
    model = perturb(transformers.VJEPA2Model(config))
    processor = transformers.VJEPA2VideoProcessor(crop_size=24)
    seen = hooked(model.encoder.layer)
    expected, features = {}, []
    for i, image in enumerate(images()):
        frames = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
        x = processor(videos=[frames], return_tensors="pt")["pixel_values_videos"]
        seen.clear()
        features.append(model.encoder(x).last_hidden_state[0])
        expected |= {f"pixels.{i}": x[0, 0], f"features.{i}": features[-1], f"first.{i}": seen[0][0]}
    write("vjepa2", model, processor, features, expected)


def rectangle():
    """Features of the golden DINOv2 and SigLIP, whose position embeddings are resampled, for an image that is not square."""
    expected = {}
    for name, model in (("dinov2", transformers.Dinov2Model), ("siglip", transformers.SiglipVisionModel)):
        tower = model.from_pretrained(HERE / "encoders" / name, dtype=torch.float32).eval()
        patch = tower.config.patch_size
        side = [2 * patch, 5 * patch]
        x = (torch.arange(3 * side[0] * side[1]) * 7919 % 1009 / 504.5 - 1).reshape(1, 3, *side)
        more = dict(interpolate_pos_encoding=True) if name == "siglip" else {}
        out = tower(x, **more).last_hidden_state[0]
        expected[name] = (out[1:] if name == "dinov2" else out).detach().contiguous()
    save_file(expected, OUT / "rectangles.safetensors")
    print({k: tuple(v.shape) for k, v in expected.items()})


if __name__ == "__main__":
    torch.manual_seed(0)
    rectangle()
    for make in (siglip2, qwen2_5_vl, qwen3_vl, kimi, vjepa2):
        make()
