"""Golden features of tiled images: S² of s2wrapper, and AnyRes of LLaVA-NeXT in transformers.

Versions: torch 2.9.0, timm 1.0.20, transformers 5.24.0, s2wrapper 0.1 (pip install
git+https://github.com/bfshi/scaling_on_scales), einops.
Run from anywhere: python tests/reference/tiling.py

The encoder is tests/golden/encoders/mae (timm names). tests/golden/tiling/expected.safetensors gets
  s2.features [9, 96] of scales 1, 2 and 3 without class token for the pixels numbers(144), and s2.class [10, 64] of scales
  1 and 2 with it for numbers(96)
  anyres.pixels.i, every 37th value of [1 + tiles, 3, 48, 48], and anyres.features.i [tokens, 32] for the crops of native.py
"""

import pathlib
import types

import s2wrapper
import torch
from native import CROPS, images
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def numbers(side):
    """Pixels that the test makes, too."""
    return (torch.arange(3 * side * side) * 7919 % 1009 / 504.5 - 1).reshape(1, 3, side, side)


def main():
    model = VisionTransformer(img_size=48, patch_size=16, embed_dim=32, depth=2, num_heads=4, mlp_ratio=1.5, num_classes=0)
    model.load_state_dict({k: v.float() for k, v in load_file(GOLDEN / "encoders" / "mae" / "model.safetensors").items()})
    model.eval()
    expected = {}
    x = numbers(144)
    patches = lambda x: model.forward_features(x)[:, 1:]
    sizes = dict(img_sizes=[48, 96, 144], max_split_size=48)
    expected["s2.features"] = s2wrapper.forward(patches, x, **sizes)[0]
    expected["s2.class"] = s2wrapper.forward(model.forward_features, numbers(96), img_sizes=[48, 96], max_split_size=48, num_prefix_token=1)[0]
    pinpoints = [[48, 96], [96, 48], [96, 96], [144, 48], [48, 144]]
    processor = LlavaNextImageProcessorPil(size=dict(shortest_edge=48), crop_size=dict(height=48, width=48), image_grid_pinpoints=pinpoints,
                                           image_mean=MEAN, image_std=STD)
    vision = types.SimpleNamespace(image_size=48, patch_size=16)
    stub = types.SimpleNamespace(config=types.SimpleNamespace(vision_config=vision, image_grid_pinpoints=pinpoints))
    for i, image in enumerate(images()):
        batch = processor(images=[image], return_tensors="pt")
        pixels = batch["pixel_values"][0]
        packed, _ = LlavaNextModel.pack_image_features(stub, [patches(pixels)], batch["image_sizes"], "default", None)
        expected |= {f"anyres.pixels.{i}": pixels.flatten()[::37], f"anyres.features.{i}": packed[0]}
    assert len(CROPS) == 3
    folder = GOLDEN / "tiling"
    folder.mkdir(exist_ok=True)
    save_file({k: v.detach().contiguous().float() for k, v in expected.items()}, folder / "expected.safetensors")
    print({k: tuple(v.shape) for k, v in expected.items()})


if __name__ == "__main__":
    main()
