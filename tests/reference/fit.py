"""Golden pixels of images that are not square, as the libraries' own processors prepare them (`--preprocess library`).

Versions: Python 3, torch 2.9.0, torchvision 0.24.0, timm 1.0.20, open_clip_torch 3.3.0, transformers 4.57.6 (slow
processors), pillow, numpy, safetensors.
Run from anywhere: python tests/reference/fit.py

Writes tests/golden/preprocess/fit.safetensors (f32 [3, size, size] per case) and fit.json (file, settings).
"""

import json
import pathlib

import numpy as np
import timm.data
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from transformers import BitImageProcessor, CLIPImageProcessor, SamImageProcessor, SiglipImageProcessor, ViTImageProcessor

OUT = pathlib.Path(__file__).parents[1] / "golden" / "preprocess"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FILES = ["rgb.png", "tall.png", "narrow.png", "420.jpg"]


def timm_transform(size, crop_pct, mode, interpolation):
    return timm.data.create_transform(
        (3, size, size), is_training=False, interpolation=interpolation, crop_pct=crop_pct, crop_mode=mode, mean=MEAN, std=STD
    )


def of_transformers(processor):
    return lambda picture: torch.from_numpy(processor(picture, return_tensors="np")["pixel_values"][0])


def hf(cls, size, crop=None, resample=3, **more):
    crops = {"do_center_crop": True, "crop_size": {"height": crop, "width": crop}} if crop else {}
    return of_transformers(cls(size=size, resample=resample, image_mean=MEAN, image_std=STD, do_normalize=True, **crops, **more))


def open_clip_transform(size, mode):
    config = PreprocessCfg(size=size, mean=MEAN, std=STD, interpolation="bicubic", resize_mode=mode, fill_color=7)
    return image_transform_v2(config, is_train=False)


side = lambda n: {"height": n, "width": n}
rounded = [round(255 * m) for m in MEAN]
CASES = {
    # name: (transform, size, kernel, crop_pct, fit, crop_floor, pad)
    "timm-center": (timm_transform(20, 0.9, "center", "bicubic"), 20, "bicubic", 0.9, "shortest", False, rounded),
    "timm-center-odd": (timm_transform(21, 0.875, "center", "bilinear"), 21, "bilinear", 0.875, "shortest", False, rounded),
    "timm-squash": (timm_transform(20, 0.85, "squash", "bicubic"), 20, "bicubic", 0.85, "squash", False, rounded),
    "timm-border": (timm_transform(20, 1.0, "border", "bicubic"), 20, "bicubic", 1.0, "longest", False, rounded),
    "timm-border-crop": (timm_transform(20, 0.8, "border", "bilinear"), 20, "bilinear", 0.8, "longest", False, rounded),
    "open-clip-shortest": (open_clip_transform(20, "shortest"), 20, "bicubic", 1.0, "shortest", False, [7] * 3),
    "open-clip-squash": (open_clip_transform(20, "squash"), 20, "bicubic", 1.0, "squash", False, [7] * 3),
    "open-clip-longest": (open_clip_transform(20, "longest"), 20, "bicubic", 1.0, "longest", False, [7] * 3),
    "hf-clip": (hf(CLIPImageProcessor, {"shortest_edge": 20}, 20), 20, "bicubic", 1.0, "shortest", True, rounded),
    "hf-bit": (hf(BitImageProcessor, {"shortest_edge": 23}, 20), 20, "bicubic", 20 / 23, "shortest", True, rounded),
    "hf-vit": (hf(ViTImageProcessor, side(20), resample=2), 20, "bilinear", 1.0, "squash", True, rounded),
    "hf-siglip": (hf(SiglipImageProcessor, side(20)), 20, "bicubic", 1.0, "squash", True, rounded),
    "sam": (
        of_transformers(SamImageProcessor(size={"longest_edge": 32}, pad_size=side(32), image_mean=MEAN, image_std=STD)),
        32, "bilinear", 1.0, "corner", False, rounded,
    ),
}  # fmt: skip

tensors, cases = {}, []
for name, (transform, size, kernel, crop_pct, fit, floor, pad) in CASES.items():
    for file in FILES:
        try:
            pixels = transform(Image.open(OUT / file).convert("RGB"))
        except Exception as error:  # a side of no pixel: what the library refuses is no golden
            print(name, file, error)
            continue
        key = f"{name}/{file}"
        tensors[key] = torch.as_tensor(np.asarray(pixels), dtype=torch.float32).contiguous()
        if tensors[key].shape != (3, size, size):
            print(key, tuple(tensors.pop(key).shape))
            continue
        cases.append({"name": key, "file": file, "preprocess": {
            "size": size, "interpolation": kernel, "crop_pct": crop_pct, "mean": MEAN, "std": STD, "pad": pad,
            "crop_floor": floor, "fit": fit,
        }})  # fmt: skip
save_file(tensors, OUT / "fit.safetensors")
(OUT / "fit.json").write_text("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")
print(len(cases), "cases")
