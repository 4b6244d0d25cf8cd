"""Golden images for burgess-images in addition to those of preprocess.py, made with Pillow: TIFF with JPEG inside, images
rotated by their EXIF data, and squares around lines.

Versions: Python 3, pillow 13.0.0, numpy, tifffile 2026.x, imagecodecs 2026.x.
Run from anywhere: python tests/reference/pixels.py

Writes tests/golden/pixels/: NAME.tiff with NAME.png beside it (Pillow's pixels), upright-N.png (exif_transpose of
../preprocess/exifN.jpg), and square-WxH.png (the padded square around line(W, H), resized to 24 pixels).
"""

import pathlib

import numpy as np
import tifffile
from PIL import Image, ImageOps

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
OUT = GOLDEN / "pixels"
OUT.mkdir(exist_ok=True)
rng = np.random.default_rng(11)


def sharp(width, height, channels):
    """An image of colours with hard edges, where decoders differ."""
    small = (rng.random((height // 4 + 2, width // 4 + 2, channels)) * 255).astype(np.uint8)
    planes = [Image.fromarray(small[..., c]).resize((width, height), Image.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(p) for p in planes], -1)


def with_jpeg_inside():
    rgb, grey, inks = sharp(61, 43, 3), sharp(61, 43, 1)[..., 0], sharp(61, 43, 4)
    Image.fromarray(rgb).save(OUT / "pillow-rgb.tiff", compression="jpeg", quality=80)
    Image.fromarray(grey).save(OUT / "pillow-grey.tiff", compression="jpeg", quality=80)
    Image.fromarray(inks, "CMYK").save(OUT / "pillow-cmyk.tiff", compression="jpeg", quality=80)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(OUT / "pillow-turned.tiff", compression="jpeg", quality=80, exif=exif)
    level = {"level": 80}
    write = lambda name, data, **how: tifffile.imwrite(
        OUT / f"{name}.tiff", data, compression="jpeg", compressionargs=how.pop("args", level), **how
    )
    write("tiles-ycbcr", rgb, photometric="rgb", tile=(32, 16))
    write("tiles-rgb", rgb, photometric="rgb", tile=(16, 16), args={"level": 80, "outcolorspace": "rgb"})
    write("strips", np.ascontiguousarray(rgb[:32]), photometric="rgb", rowsperstrip=16)
    write("subsampled", rgb, photometric="ycbcr", tile=(32, 32), subsampling=(2, 2))
    # The tag PhotometricInterpretation of a grey picture from 1 to 0: white is zero.
    white = (OUT / "pillow-grey.tiff").read_bytes()
    entry = b"\x06\x01\x03\x00\x01\x00\x00\x00"
    (OUT / "white-is-zero.tiff").write_bytes(white.replace(entry + b"\x01", entry + b"\x00"))
    for path in sorted(OUT.glob("*.tiff")):
        try:
            with Image.open(path) as picture:
                picture.convert("RGB").save(path.with_suffix(".png"))
                print(path.name, picture.mode, picture.size, picture.tag_v2.get(262), picture.tag_v2.get(277))
        except Exception as error:  # what Pillow does not read is no golden
            print(path.name, "not read by Pillow:", error)
            path.unlink()


def line(width, height):
    """An image whose colours follow from the position, as in the test."""
    n = np.arange(width * height, dtype=np.int64)
    return np.stack([n * 7919 % 256, n * 104729 % 251, n * n % 253], -1).reshape(height, width, 3).astype(np.uint8)


def squares():
    for width, height in [(1, 4000), (4000, 1), (3, 2999), (2999, 2), (1, 24), (700, 500)]:
        side = max(width, height)
        square = Image.new("RGB", (side, side), (123, 117, 104))
        square.paste(Image.fromarray(line(width, height)), ((side - width) // 2, (side - height) // 2))
        square.resize((24, 24), Image.BICUBIC).save(OUT / f"square-{width}x{height}.png")


def upright():
    for orientation in range(1, 9):
        with Image.open(GOLDEN / "preprocess" / f"exif{orientation}.jpg") as picture:
            ImageOps.exif_transpose(picture).convert("RGB").save(OUT / f"upright-{orientation}.png")


with_jpeg_inside()
squares()
upright()
