"""Golden images for burgess-encoders' preprocessing, made with Pillow.

Versions: Python 3, pillow 13.0.0, numpy, safetensors, torch 2.9.0 (for the normalised pixels).
Run from anywhere: python tests/reference/preprocess.py

Writes tests/golden/preprocess/: the images themselves, cases.json (file, settings, name of the
expected tensor) and expected.safetensors (u8 [size, size, 3] per case; f32 [3, size, size] for one).
"""

import json
import pathlib
import struct
import zlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parents[1] / "golden" / "preprocess"
rng = np.random.default_rng(7)


def noise(width, height, channels=3):
    """An image with hard edges everywhere, where the bicubic kernel overshoots and must be clipped equally."""
    return (rng.integers(0, 2, (height, width, channels)) * 255 * rng.random((height, width, channels))).astype(np.uint8)


def png(path, width, height, depth, colour_type, rows):
    """Writes a PNG of a kind that Pillow reads but does not write."""
    chunk = lambda tag, data: struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def pictures():
    rgb = Image.fromarray(noise(37, 23))
    rgb.save(OUT / "rgb.png")
    Image.fromarray(noise(23, 38)).save(OUT / "tall.png")
    Image.fromarray(noise(24, 24)).save(OUT / "square.png")
    Image.fromarray(noise(1, 1)).save(OUT / "pixel.png")
    Image.fromarray(noise(211, 3)).save(OUT / "wide.png")
    Image.fromarray(noise(2, 173)).save(OUT / "narrow.png")
    Image.fromarray(noise(29, 17)[..., 0]).save(OUT / "grey.png")
    Image.fromarray(noise(29, 17)[..., 0]).point(lambda v: 255 * (v > 100)).convert("1").save(OUT / "bilevel.png")
    rgb.quantize(16).save(OUT / "palette.png")
    rgb.quantize(8).save(OUT / "palette-transparent.png", transparency=3)
    Image.fromarray(noise(19, 21, 4), "RGBA").save(OUT / "rgba.png")
    Image.fromarray(noise(19, 21, 2), "LA").save(OUT / "grey-alpha.png")
    deep = rng.integers(0, 65536, (17, 13, 3), dtype=np.uint16)
    Image.fromarray(np.where(deep[..., 0] % 2, deep[..., 0], deep[..., 0] // 200).astype(np.uint16)).save(OUT / "grey16.png")
    png(OUT / "rgb16.png", 13, 17, 16, 2, [r.astype(">u2").tobytes() for r in deep])
    png(OUT / "grey16-alpha.png", 13, 17, 16, 4, [r[:, :2].astype(">u2").tobytes() for r in deep])
    png(OUT / "grey4.png", 8, 5, 4, 0, [bytes(rng.integers(0, 256, 4).tolist()) for _ in range(5)])
    rgb.save(OUT / "rgb.bmp")
    rgb.save(OUT / "rgb.webp", lossless=True)
    rgb.quantize(16).save(OUT / "rgb.gif")
    rgb.save(OUT / "rgb.tiff")
    smooth = np.indices((40, 56)).transpose(1, 2, 0) * 4
    smooth = np.concatenate([smooth, 128 + 100 * np.sin(smooth[..., :1] / 20)], 2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees": Pillow does not, so neither do we
    Image.fromarray(smooth).save(OUT / "turned.jpg", quality=92, exif=exif)
    # Sharp colours, sides that no block divides: the places where JPEG decoders differ.
    sharp = Image.fromarray(noise(45, 29)).resize((181, 118), Image.BICUBIC)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        sharp.save(OUT / f"{subsampling.replace(':', '')}.jpg", quality=80, subsampling=subsampling)
    sharp.save(OUT / "progressive.jpg", quality=60, progressive=True)
    sharp.save(OUT / "rgb.jpg", quality=75, keep_rgb=True)
    sharp.convert("L").save(OUT / "grey.jpg", quality=75)
    Image.fromarray(noise(33, 17, 4), "CMYK").save(OUT / "cmyk.jpg", quality=75)
    sharp.crop((0, 0, 1, 1)).save(OUT / "pixel.jpg")
    unusual(sharp, rgb)


def unusual(sharp, rgb):
    """Writes files of rare formats."""
    # Four inks as Photoshop writes them (marker Adobe with the transform YCCK), and without any marker.
    cmyk = (OUT / "cmyk.jpg").read_bytes()
    at = cmyk.index(b"\xff\xee\x00\x0eAdobe")
    (OUT / "ycck.jpg").write_bytes(cmyk[: at + 15] + b"\x02" + cmyk[at + 16 :])
    (OUT / "cmyk-plain.jpg").write_bytes(cmyk[:at] + cmyk[at + 16 :])
    # Every orientation: none is applied, except in TIFF, where Pillow's reader applies it.
    small = sharp.resize((20, 13))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        small.save(OUT / f"exif{orientation}.jpg", quality=80, exif=exif)
        small.save(OUT / f"exif{orientation}.tiff", exif=exif, compression="tiff_lzw")
    small.save(OUT / "exif.png", exif=exif)
    small.save(OUT / "exif.webp", exif=exif, lossless=True)
    # Shapes at the ends of what there is.
    Image.fromarray(noise(5000, 1)).save(OUT / "line.png")
    Image.fromarray(noise(2, 3000)).save(OUT / "column.png")
    Image.fromarray(noise(1, 700)).save(OUT / "column.jpg", quality=70)
    # Transparency without an alpha channel, few bits, interlacing, 16 bits with alpha.
    rgb.save(OUT / "rgb-transparent.png", transparency=tuple(rgb.getpixel((5, 5))))
    Image.fromarray(noise(29, 17)[..., 0]).save(OUT / "grey-transparent.png", transparency=0)
    for bits in (1, 2, 4):
        rgb.quantize(2**bits).save(OUT / f"palette{bits}.png", bits=bits)
    png(OUT / "rgba16.png", 9, 7, 16, 6, [rng.integers(0, 65536, (9, 4)).astype(">u2").tobytes() for _ in range(7)])
    rgb.quantize(8).convert("RGBA").quantize(8).save(OUT / "palette-alpha.png")
    rgb.convert("RGBA").save(OUT / "rgba.webp", lossless=True)
    sharp.resize((60, 40)).save(OUT / "lossy.webp", quality=60)
    frames = [Image.fromarray(noise(21, 15)).quantize(8) for _ in range(2)]
    frames[0].save(OUT / "frames.gif", save_all=True, append_images=frames[1:])
    frames[0].save(OUT / "transparent.gif", transparency=1)
    rgb.quantize(16).save(OUT / "palette.bmp")
    rgb.convert("L").save(OUT / "grey.bmp")
    rgb.convert("1").save(OUT / "bilevel.bmp")
    Image.fromarray(noise(19, 21, 4), "RGBA").save(OUT / "rgba.bmp")
    rgb.convert("L").save(OUT / "grey.tiff")
    Image.fromarray(noise(19, 21, 4), "CMYK").save(OUT / "cmyk.tiff")
    Image.fromarray(noise(19, 21, 4), "RGBA").save(OUT / "rgba.tiff", compression="tiff_deflate")
    Image.fromarray(rng.integers(0, 600, (9, 11), dtype=np.uint16)).save(OUT / "grey16.tiff")
    rgb.convert("1").save(OUT / "bilevel.tiff")


def prepare(path, size, interpolation, pad, crop_pct=1.0, enlarge=None):
    kernels = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR}
    image = Image.open(path).convert("RGB")
    w, h = image.size
    side = max(w, h)
    square = Image.new("RGB", (side, side), tuple(pad))
    square.paste(image, ((side - w) // 2, (side - h) // 2))
    enlarged = int(size / crop_pct)
    # timm and torchvision resize to the larger size; Cambrian-1 to the smaller one first.
    square = square.resize((size, size) if enlarge else (enlarged, enlarged), kernels[interpolation])
    if enlarged > size:
        if enlarge:
            square = square.resize((enlarged, enlarged), kernels[enlarge])
        offset = int(round((enlarged - size) / 2.0))
        square = square.crop((offset, offset, offset + size, offset + size))
    return np.asarray(square)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    pictures()
    cases = []
    for path in sorted(OUT.iterdir()):
        if path.suffix not in (".json", ".safetensors"):
            cases.append(dict(file=path.name, size=24, interpolation="bicubic", pad=[122, 116, 104]))
    for name in ("rgb.png", "tall.png", "pixel.png", "wide.png"):
        cases.append(dict(file=name, size=24, interpolation="bilinear", pad=[255, 0, 1]))
        cases.append(dict(file=name, size=61, interpolation="bicubic", pad=[127, 127, 127]))
    cases.append(dict(file="tall.png", size=38, interpolation="bicubic", pad=[0, 0, 0]))
    for size, pct in ((28, 0.9), (28, 0.875), (30, 0.9), (26, 0.9), (20, 0.8)):
        cases.append(dict(file="rgb.png", size=size, interpolation="bicubic", pad=[122, 116, 104], crop_pct=pct, enlarge="bicubic"))
    crop = dict(file="tall.png", size=28, pad=[122, 116, 104], crop_pct=0.875)
    cases.append(dict(interpolation="bicubic", enlarge="bilinear", **crop))
    cases.append(dict(interpolation="bicubic", **crop))
    cases.append(dict(interpolation="bilinear", **crop))
    expected = {}
    for i, case in enumerate(cases):
        settings = {k: v for k, v in case.items() if k != "file"}
        expected[f"{i}"] = torch.from_numpy(prepare(OUT / case["file"], **settings).copy())
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    expected["pixels"] = (expected["0"].permute(2, 0, 1).float().div(255) - mean) / std
    save_file({k: v.contiguous() for k, v in expected.items()}, OUT / "expected.safetensors")
    (OUT / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
