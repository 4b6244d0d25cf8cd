"""Vision towers and whole models as transformers saves them, and timm's training checkpoints, for burgess-encoders.

Versions: torch 2.9.0, transformers 4.57.6 and 5.24.0, timm 1.0.20, safetensors.
Run once under each version of transformers: python tests/reference/towers.py

Each tests/golden/towers/v<major>-<name>/ gets config.json, model.safetensors (rounded to f16), and reference.st
with pixels [1, 3, s, s] (random) and features [tokens, width]: for CLIP the second-to-last layer, for the others the last
layer after the last norm that the library applies to all tokens.
tests/golden/towers/timm-train/ gets a checkpoint in the form of timm's train.py.
"""

import argparse
import json
import pathlib

import timm
import torch
import transformers as T
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parents[1] / "golden" / "towers"
MAJOR = T.__version__.split(".")[0]
S = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)
TEXT = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=11, max_position_embeddings=4)


def perturb(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.05)
            p.copy_(p.half().float())
    return model.eval()


def pixels(side=32):
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(3)) * 2 - 1


def reference(folder, x, features):
    save_file({"pixels": x[0].contiguous(), "features": features[0].detach().contiguous()}, folder / "reference.st")


def save(name, model, features):
    model, x, folder = perturb(model), pixels(), OUT / f"v{MAJOR}-{name}"
    reference_features = features(model, x)
    model.half().save_pretrained(folder)
    reference(folder, x, reference_features)


def training():
    arguments = dict(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0, num_classes=3)
    model, average = (perturb(timm.create_model("vit_tiny_patch16_224", **arguments)) for _ in range(2))
    with torch.no_grad():
        for p in average.parameters():
            p.mul_(0.75)
    folder, x = OUT / "timm-train", pixels()
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(model.parameters())
    model(x).sum().backward()
    optimizer.step()
    args = argparse.Namespace(model="vit_tiny_patch16_224", lr=1e-3, output=None, mean=[0.5], amp=True)
    state = dict(epoch=3, arch="vit_tiny_patch16_224", state_dict=model.state_dict(), optimizer=optimizer.state_dict(), version=2, args=args, amp_scaler={"scale": 65536.0, "_growth_tracker": 1}, state_dict_ema={f"module.{k}": v for k, v in average.state_dict().items()}, metric=76.5)
    torch.save(state, folder / "model_best.pth.tar")
    reference(folder, x, average.forward_features(x)[:, 1:])
    saved = {k: v for k, v in arguments.items() if k != "num_classes"}
    cfg = dict(input_size=[3, 32, 32], interpolation="bicubic", crop_pct=1.0, crop_mode="center", mean=[0.5] * 3, std=[0.5] * 3)
    (folder / "config.json").write_text(json.dumps(dict(architecture="vit_tiny_patch16_224", num_classes=3, model_args=saved, pretrained_cfg=cfg), indent=1))
    for pos_embed in ("none", ""):
        model = perturb(timm.create_model("vit_tiny_patch16_224", **arguments, pos_embed=pos_embed, reg_tokens=2))
        folder = OUT / f"timm-pos-{pos_embed or 'empty'}"
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.half() for k, v in model.state_dict().items()}, folder / "model.safetensors")
        reference(folder, x, model.forward_features(x))
        more = dict(saved, pos_embed=pos_embed, reg_tokens=2)
        (folder / "config.json").write_text(json.dumps(dict(architecture="vit_tiny_patch16_224", model_args=more, pretrained_cfg=cfg), indent=1))


@torch.no_grad()
def towers():
    last = lambda model, x, skip: model(x).last_hidden_state[:, skip:]
    before = lambda model, x: model(x, output_hidden_states=True).hidden_states[-2][:, 1:]
    clip = T.CLIPConfig(vision_config=S, text_config=TEXT, projection_dim=8)
    siglip = T.SiglipConfig(vision_config=S, text_config=TEXT)
    save("clip-tower", T.CLIPVisionModel(T.CLIPVisionConfig(**S)), before)
    save("clip-projection", T.CLIPVisionModelWithProjection(T.CLIPVisionConfig(**S)), before)
    save("clip-class", T.CLIPForImageClassification(clip), lambda m, x: before(m.vision_model, x))
    save("siglip-tower", T.SiglipVisionModel(T.SiglipVisionConfig(**S)), lambda m, x: last(m, x, 0))
    save("siglip-class", T.SiglipForImageClassification(siglip), lambda m, x: last(m.vision_model, x, 0))
    beit = T.BeitConfig(**S, use_relative_position_bias=True, use_mean_pooling=True)
    save("beit-masked", T.BeitForMaskedImageModeling(beit), lambda m, x: last(m.beit, x, 1))
    deit = T.DeiTForImageClassificationWithTeacher(T.DeiTConfig(**S))
    save("deit-teacher", deit, lambda m, x: last(m.deit, x, 2))
    shape = {k: v for k, v in S.items() if k != "intermediate_size"} | dict(mlp_ratio=2)
    dinov2 = T.Dinov2ForImageClassification(T.Dinov2Config(**shape))
    save("dinov2-class", dinov2, lambda m, x: last(m.dinov2, x, 1))
    save("ijepa-class", T.IJepaForImageClassification(T.IJepaConfig(**S)), lambda m, x: last(m.ijepa, x, 0))


if __name__ == "__main__":
    towers()
    if MAJOR == "5":
        training()
    print(T.__version__, timm.__version__)
