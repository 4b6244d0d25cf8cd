"""Difference hashes by Python's imagehash, for encoders/images/tests/hash.rs.

The hashed images are those of tests/golden/preprocess (all supported formats and modes) and those made here: noise, whose
resized pixels differ so little that one grey level changes bits; saturated colours, which show the rounding of the grey
level; flat images; and sizes from a pixel to a line. cmyk.tiff is left out, because it is read one grey level off.

Pillow 12 and earlier resize rows first; Pillow 13 begins with the columns of tall images (its pull request 9549), by
which 34 of these 581 hashes differ.

Pinned: ImageHash 4.3.2, Pillow 12.0.0, numpy 2.4.6, Python 3.11.  Run:  python tests/reference/dhash.py
"""

import json
from pathlib import Path

import imagehash
import numpy
from PIL import Image

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
OUT = GOLDEN / "dhash"
OUT.mkdir(exist_ok=True)
SIZES = (2, 3, 5, 8, 9, 16, 32)
rng = numpy.random.default_rng(7)


def save(name, pixels, **options):
    Image.fromarray(pixels.astype(numpy.uint8)).save(OUT / name, **options)


save("noise.png", rng.integers(0, 256, (61, 97, 3)))
save("faint.png", rng.integers(126, 130, (120, 90, 3)))
save("grey-noise.png", rng.integers(0, 256, (75, 50)))
save("colours.png", rng.choice([0, 1, 127, 128, 254, 255], (40, 40, 3)))
save("flat.png", numpy.full((30, 20, 3), 200))
save("same-size.png", rng.integers(0, 256, (8, 9, 3)))
save("grows.png", rng.integers(0, 256, (4, 5, 3)))
save("pixel.png", rng.integers(0, 256, (1, 1, 3)))
save("row.png", rng.integers(0, 256, (1, 300, 3)))
y, x = numpy.mgrid[0:150, 0:200]
scene = numpy.stack([128 + 90 * numpy.sin(x / 17) * numpy.cos(y / 23), x, 255 - y], axis=-1)
scene[40:90, 60:130] = (210, 30, 40)
save("scene.jpg", scene.clip(0, 255), quality=85)
save("scene-again.jpg", scene.clip(0, 255)[::2, ::2], quality=60)
palette = Image.fromarray(rng.integers(0, 256, (50, 60, 3)).astype(numpy.uint8)).quantize(200)
palette.save(OUT / "palette.png")

hashes = {}
for folder in ("preprocess", "dhash"):
    for path in sorted((GOLDEN / folder).iterdir()):
        if path.suffix in (".json", ".safetensors") or path.name == "cmyk.tiff":
            continue
        with Image.open(path) as picture:
            hashes[f"{folder}/{path.name}"] = {str(s): str(imagehash.dhash(picture, hash_size=s)) for s in SIZES}
(OUT / "hashes.json").write_text(json.dumps(hashes, indent=0) + "\n")
print(len(hashes), "pictures")
