"""Checks every published encoder of the zoo at its true size with random weights: the reference library writes them under
the official names and in the official format, and `burgess encode` must give the library's features. Too large for CI.

Versions: torch 2.9.0, transformers 5.24.0, timm 1.0.20, open_clip_torch 3.3.0, segment-anything 1.0, diffusers 0.42.1,
blake3 1.0.11, pillow 13.0.0.
Run from the repository after `cargo build --release`: python tests/reference/full_size.py [ID ...]
One encoder at a time; up to 12 GB of memory and 5 GB of disk, removed again. Prints a row for each: the difference
|ours - theirs| / |theirs|, the seconds of the reference's forward pass and of the whole `burgess encode` (loading
included), and its peak memory.
"""

import pathlib
import subprocess
import sys
import tempfile
import time
import tomllib

import diffusers
import numpy as np
import open_clip.transformer
import stable_diffusion
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from segment_anything.modeling import ImageEncoderViT

ROOT = pathlib.Path(__file__).parents[2]
PICTURE = ROOT / "tests" / "golden" / "encoders" / "picture.png"
PREFIX = {"open-clip": "visual.trunk.", "open-clip-eva02": "visual.trunk.", "open-clip-vit": "visual.", "sam": "image_encoder.", "transformers-clip": "vision_model."}


def perturb(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p += 0.02 * torch.randn(p.shape, generator=generator)
            if "gamma" in name or "lambda" in name:
                p += 0.5
    return model.eval()


def common(a):
    return dict(hidden_size=a["width"], num_hidden_layers=a["depth"], num_attention_heads=a["heads"], image_size=a["image_size"], patch_size=a["patch"])


def timm_vit(a, **more):
    return timm.models.vision_transformer.VisionTransformer(
        img_size=a["image_size"], patch_size=a["patch"], embed_dim=a["width"], depth=a["depth"], num_heads=a["heads"],
        mlp_ratio=a["mlp_hidden"] / a["width"], num_classes=0, **more)


def build(card):
    """The model, and a function from model and pixels to the features at the card's tap."""
    a, id, dialect, source = card["architecture"], card["id"], card["source"]["dialect"], card["source"]
    if dialect.startswith("timm") and source.get("hub", "").startswith("timm/"):
        model = timm.create_model(source["hub"].removeprefix("timm/"), pretrained=False, num_classes=0)
        return model, lambda m, x: m.forward_features(x)[:, m.num_prefix_tokens :]
    if dialect == "radio":
        side = a["position_grid"] * a["patch"]
        tokens = dict(num_cls_tokens=a["class_tokens"], num_registers=a["registers"], max_img_size=side)
        model = transformers.RadioModel(transformers.RadioConfig(**common(a), mlp_ratio=a["mlp_hidden"] / a["width"], **tokens))
        # The pixels are normalised already, and published models have no layer scale.
        model.make_preprocessor_external()
        for layer in model.encoder.layer:
            layer.layer_scale1 = layer.layer_scale2 = torch.nn.Identity()
        return model, lambda m, x: m(x).features
    if dialect == "transformers-clip" and "rotary" in a:
        model = transformers.MLCDVisionModel(transformers.MLCDVisionConfig(**common(a), intermediate_size=a["mlp_hidden"]))
        return model, lambda m, x: m(x, output_hidden_states=True).hidden_states[-2][:, 1:]
    if dialect == "transformers-clip":
        config = transformers.CLIPVisionConfig(**common(a), intermediate_size=a["mlp_hidden"], hidden_act="quick_gelu", layer_norm_eps=1e-5)
        return transformers.CLIPVisionModel(config), lambda m, x: m(x, output_hidden_states=True).hidden_states[-2][:, 1:]
    if dialect == "open-clip-vit":
        # open_clip.model._build_vision_tower with the configuration's quick_gelu.
        model = open_clip.transformer.VisionTransformer(
            a["image_size"], a["patch"], a["width"], a["depth"], a["heads"], a["mlp_hidden"] / a["width"], output_dim=768,
            act_layer=open_clip.transformer.QuickGELU, output_tokens=True)
        return model, lambda m, x: m(x)[1]
    if dialect == "open-clip-eva02":
        return timm.create_model("eva02_large_patch14_clip_336", num_classes=0), lambda m, x: m.forward_features(x)[:, 1:]
    if id.startswith("siglip"):
        name = "vit_so400m_patch14_siglip_384" if "so400m" in id else "vit_large_patch16_siglip_384"
        return timm.create_model(name, num_classes=0), lambda m, x: m.forward_features(x)
    if a["architecture"] == "convnext":
        model = timm.create_model("convnext_xxlarge" if "xxl" in id else "convnext_large", num_classes=0)
        return model, lambda m, x: stages(m, x, card)
    if dialect.startswith("transformers-dinov2"):
        side = a["position_grid"] * a["patch"]
        config = transformers.Dinov2Config(**common(a) | dict(image_size=side), mlp_ratio=4, use_swiglu_ffn="swiglu" in dialect)
        model = transformers.Dinov2Model(config)

        def resampled(embeddings, height, width):
            positions, own = model.embeddings.position_embeddings, a["position_grid"]
            if height // a["patch"] == own:
                return positions
            table = positions[:, 1:].reshape(1, own, own, -1).permute(0, 3, 1, 2)
            scale = tuple((n // a["patch"] + a.get("position_offset", 0.0)) / own for n in (height, width))
            table = torch.nn.functional.interpolate(table, scale_factor=scale, mode="bicubic")
            return torch.cat([positions[:, :1], table.permute(0, 2, 3, 1).flatten(1, 2)], 1)

        model.embeddings.interpolate_pos_encoding = resampled
        return model, lambda m, x: m(x).last_hidden_state[:, 1:]
    if dialect == "timm" and id == "ijepa-h14":
        return timm_vit(a, class_token=False, global_pool="", fc_norm=False), lambda m, x: m.forward_features(x)
    if dialect == "timm":
        return timm_vit(a), lambda m, x: m.forward_features(x)[:, 1:]
    if dialect == "sam":
        model = ImageEncoderViT(
            img_size=a["image_size"], patch_size=a["patch"], embed_dim=a["width"], depth=a["depth"], num_heads=a["heads"], mlp_ratio=4,
            out_chans=256, use_rel_pos=True, window_size=a["window"], global_attn_indexes=a["global_blocks"],
            norm_layer=lambda d: torch.nn.LayerNorm(d, eps=1e-6))
        model.neck = torch.nn.Sequential(torch.nn.Identity(), *list(model.neck)[1:])

        def run(m, x):
            x = m.patch_embed(x) + m.pos_embed
            for block in m.blocks:
                x = block(x)
            return x.flatten(1, 2)

        return model, run
    if dialect == "transformers-vit":
        config = transformers.DPTConfig(**common(a), intermediate_size=a["mlp_hidden"], layer_norm_eps=1e-12, is_hybrid=False)
        return transformers.DPTModel(config, add_pooling_layer=False), lambda m, x: m(x, output_hidden_states=True).hidden_states[-1][:, 1:]
    if dialect == "transformers-beit":
        config = transformers.BeitConfig(**common(a), intermediate_size=a["mlp_hidden"], layer_norm_eps=1e-12, use_relative_position_bias=True, layer_scale_init_value=0.1)
        return transformers.BeitModel(config, add_pooling_layer=False), lambda m, x: m(x, output_hidden_states=True).hidden_states[-1][:, 1:]
    if a["architecture"] == "stable-diffusion":
        return diffusion(a)
    raise SystemExit(f"{id}: nothing here builds dialect {dialect}")


def diffusion(a):
    """The parts of Stable Diffusion, in one module from which diffusers' folders are saved."""
    unet, vae, text, scheduler = (a[k] for k in ("unet", "vae", "text", "scheduler"))
    attends = [("CrossAttn" if there else "") for there in unet["attention"]]
    parts = torch.nn.ModuleDict(dict(
        unet=diffusers.UNet2DConditionModel(
            block_out_channels=unet["channels"], layers_per_block=unet["layers"], attention_head_dim=unet["heads"], cross_attention_dim=text["width"],
            down_block_types=[f"{kind}DownBlock2D" for kind in attends], up_block_types=[f"{kind}UpBlock2D" for kind in reversed(attends)],
            norm_num_groups=unet["groups"], use_linear_projection=unet["linear_projection"]),
        vae=diffusers.AutoencoderKL(
            block_out_channels=vae["channels"], layers_per_block=vae["layers"], norm_num_groups=vae["groups"], latent_channels=vae["latent_channels"],
            down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, scaling_factor=vae["scaling_factor"]),
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(
            hidden_size=text["width"], num_hidden_layers=text["depth"], num_attention_heads=text["heads"], intermediate_size=text["mlp_hidden"],
            max_position_embeddings=text["positions"], vocab_size=text["vocabulary"], hidden_act=text["activation"]))))
    betas = dict(beta_start=scheduler["beta_start"], beta_end=scheduler["beta_end"], beta_schedule=scheduler["schedule"].replace("-", "_"))
    steps = diffusers.DDIMScheduler(num_train_timesteps=scheduler["steps"], **betas)
    ids = torch.tensor([text["prompt"] + [text["pad"]] * (text["positions"] - len(text["prompt"]))])

    def run(m, x):
        outputs = stable_diffusion.up_blocks(m["unet"], m["vae"], m["text_encoder"], steps, ids, x)
        return stable_diffusion.concatenated(outputs, a["image_size"] // a["patch"])

    return parts, run


def stages(model, x, card):
    """The maps of the last stage, or of all stages that the card taps, resized to its grid and concatenated."""
    x, maps = model.stem(x), []
    for stage in model.stages:
        x = stage(x)
        maps.append(x)
    if layers := card["tap"].get("layers"):
        grid = card["tap"]["grid"]
        resized = [torch.nn.functional.interpolate(maps[i], size=grid, mode="bilinear", align_corners=False) for i in layers]
        x = torch.cat(resized, 1)
    return x.flatten(2).transpose(1, 2)


def state_of(model):
    if isinstance(model, transformers.PreTrainedModel):
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder, max_shard_size="100GB")
            return load_file(folder + "/model.safetensors")
    return model.state_dict()


def save(card, state, folder):
    """Saves the model under the published names and in the published format."""
    source = card["source"]
    if card["architecture"]["architecture"] == "stable-diffusion":
        for part, inner, name in (("unet", "", "diffusion_pytorch_model"), ("vae", "", "diffusion_pytorch_model"), ("text_encoder", "text_model.", "model")):
            (folder / "model" / part).mkdir(parents=True)
            named = {inner + k.removeprefix(part + "."): v.contiguous() for k, v in state.items() if k.startswith(part + ".")}
            if part == "vae":
                named = stable_diffusion.former(named)
            save_file(named, folder / "model" / part / f"{name}.safetensors", {"format": "pt"})
        return folder / "model"
    prefix = source.get("prefix", PREFIX.get(source["dialect"], ""))
    parts = prefix.rstrip(".").split(".") if source["dialect"] == "timm" and prefix else []
    if source.get("file", "").endswith(".bin") or "url" in source:
        path = folder / "weights.pth"
        # Tables within the checkpoint (state_dict, encoder) are the first part of the prefix.
        table, inner = (parts[0], ".".join(parts[1:]) + ".") if parts else (None, prefix)
        named = {inner + k: v for k, v in state.items()}
        torch.save({"epoch": 1, table: named} if table else named, path)
    else:
        path = folder / "model.safetensors"
        save_file({prefix + k: v.contiguous() for k, v in state.items()}, path, {"format": "pt"})
    return path


def pixels(p):
    image = Image.open(PICTURE).convert("RGB")
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(p["pad"]))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    large = int(p["size"] / p.get("crop_pct", 1.0))
    square = square.resize((large, large), getattr(Image, p["interpolation"].upper()))
    offset = round((large - p["size"]) / 2)
    square = square.crop((offset, offset, offset + p["size"], offset + p["size"]))
    mean, std = (torch.tensor(p[k])[:, None, None] for k in ("mean", "std"))
    return ((torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255 - mean) / std)[None]


def main():
    torch.set_num_threads(2)
    print(f"{'encoder':26} {'dialect':27} {'difference':>10} {'reference s':>11} {'burgess s':>9} {'peak GB':>7}", flush=True)
    for path in sorted((ROOT / "encoders" / "zoo").glob("*.toml")):
        card = tomllib.loads(path.read_text())
        if "shipped" in card["source"] or (sys.argv[1:] and card["id"] not in sys.argv[1:]):
            continue
        torch.manual_seed(0)
        model, features = build(card)
        perturb(model)
        x = pixels(card["preprocess"])
        with torch.no_grad():
            started = time.time()
            expected = features(model, x)
            seconds = time.time() - started
            if grid := card.get("grid"):
                side = int(expected.shape[1] ** 0.5)
                planes = expected.transpose(1, 2).unflatten(2, (side, side))
                planes = torch.nn.functional.interpolate(planes, size=grid, mode="bilinear", align_corners=False)
                expected = planes.flatten(2).transpose(1, 2)
        with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
            folder = pathlib.Path(folder)
            weights = save(card, state_of(model), folder)
            del model
            command = [ROOT / "target/release/burgess", "encode", PICTURE, "--encoder", card["id"], "--weights", weights, "-o", folder / "out.safetensors"]
            started = time.time()
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            # Not the rusage of the child: that begins with the memory of this process, from which it was forked.
            peak = 0.0
            while child.poll() is None:
                status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
                peak = max([peak, *(int(l.split()[1]) / 2**20 for l in status.splitlines() if l.startswith("VmHWM"))])
                time.sleep(0.02)
            ours = time.time() - started
            if child.returncode:
                print(f"{card['id']:26} failed", flush=True)
                continue
            found = load_file(folder / "out.safetensors")["features"][0]
        difference = ((found - expected[0]).norm() / expected[0].norm()).item()
        print(f"{card['id']:26} {card['source']['dialect']:27} {difference:10.1e} {seconds:11.1f} {ours:9.1f} {peak:7.2f}", flush=True)


if __name__ == "__main__":
    main()
