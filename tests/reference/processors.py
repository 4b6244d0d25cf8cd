"""Defaults of transformers' image processors for files that omit settings, for burgess-encoders.

Versions: transformers 4.57.6 (slow classes) and 5.24.0 (those of Pillow), pillow 13.0.0.
Run once under each version: python tests/reference/processors.py

tests/golden/processors/v4.json and v5.json get a list of cases: the settings of `preprocessor_config.json`, the side of
the resulting square, and 48 of its values (channel by channel, at indices k * 7919 modulo their number), for the central
square of 60 pixels of encoders/picture.png.
"""

import json
import pathlib

import numpy as np
import transformers
from PIL import Image

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
MAJOR = transformers.__version__.split(".")[0]
NAMES = "Beit Bit Blip CLIP ConvNext DeiT DPT Levit MobileNetV1 MobileNetV2 OwlViT Pvt Sam Segformer Siglip ViT".split()


def picture():
    image = Image.open(GOLDEN / "encoders" / "picture.png").convert("RGB")
    left, top = (image.width - 60) // 2, (image.height - 60) // 2
    return image.crop((left, top, left + 60, top + 60))


def settings():
    """Each class with all settings omitted, with one setting omitted at a time, and with many kinds of settings."""
    for name in NAMES:
        yield {"image_processor_type": f"{name}ImageProcessor"}
    full = dict(do_resize=True, size=40, resample=3, do_center_crop=True, crop_size=32, do_rescale=True, rescale_factor=1 / 255, do_normalize=True, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25])
    clip = full | dict(image_processor_type="CLIPImageProcessor", size=dict(shortest_edge=40), crop_size=dict(height=32, width=32))
    for key in clip:
        if key not in ("image_processor_type", "size"):
            yield {k: v for k, v in clip.items() if k != key}
    yield clip | dict(resample=1)
    yield clip | dict(resample=2)
    yield clip | dict(do_center_crop=False)
    yield clip | dict(size=dict(shortest_edge=67))
    yield clip | dict(size=dict(height=37, width=37), crop_size=dict(height=32, width=32))
    yield clip | dict(do_normalize=False)
    yield clip | dict(do_rescale=False)
    yield clip | dict(rescale_factor=1 / 127.5)
    vit = {k: v for k, v in full.items() if "crop" not in k} | dict(image_processor_type="ViTImageProcessor", size=dict(height=32, width=32))
    yield vit
    yield vit | dict(resample=1)
    for side, share in ((48, 0.875), (48, 0.95), (100, 0.7), (384, 0.875), (392, 0.5)):
        yield dict(image_processor_type="ConvNextImageProcessor", size=dict(shortest_edge=side), crop_pct=share, resample=3)
    yield dict(image_processor_type="ConvNextImageProcessor", size=dict(shortest_edge=224))
    for side, multiple in ((45, 32), (50, 14), (48, 32), (80, 32)):
        yield dict(image_processor_type="DPTImageProcessor", size=dict(height=side, width=side), ensure_multiple_of=multiple, keep_aspect_ratio=True)
    yield dict(image_processor_type="LevitImageProcessor", size=dict(shortest_edge=56), crop_size=dict(height=56, width=56))
    yield dict(image_processor_type="LevitImageProcessor", size=dict(height=64, width=64), crop_size=dict(height=56, width=56))
    yield dict(image_processor_type="SamImageProcessor", size=dict(longest_edge=64), pad_size=dict(height=64, width=64))


def main():
    cases, image = [], picture()
    for given in settings():
        name = given["image_processor_type"]
        cls = getattr(transformers, name + "Pil" if MAJOR == "5" and hasattr(transformers, name + "Pil") else name)
        processor = cls.from_dict({k: v for k, v in given.items() if k != "image_processor_type"})
        pixels = np.asarray(processor.preprocess(image, return_tensors="np")["pixel_values"][0], dtype=np.float32)
        assert pixels.shape[0] == 3 and pixels.shape[1] == pixels.shape[2], (given, pixels.shape)
        flat = pixels.reshape(-1)
        values = [float(flat[k * 7919 % flat.size]) for k in range(48)]
        cases.append(dict(settings=given, side=pixels.shape[1], values=[round(v, 7) for v in values]))
    (GOLDEN / "processors").mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(case) for case in cases)
    (GOLDEN / "processors" / f"v{MAJOR}.json").write_text(f'{{"version": "{transformers.__version__}", "cases": [\n{lines}\n]}}\n')
    print(transformers.__version__, len(cases))


if __name__ == "__main__":
    main()
