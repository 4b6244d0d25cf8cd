"""Golden differences of result files: timm's own results/generate_csv_results.py on small tables.

    python tests/reference/timm_results.py PATH/TO/pytorch-image-models/results/generate_csv_results.py

Versions: timm 1.0.20 (the script of the repository), pandas 2.3, NumPy 2.2. Writes tests/golden/zoo/base.csv, test.csv and
diff.csv: two tables of models, and the second as timm's script rewrites it, sorted and with differences to the first.
"""

import pathlib
import runpy
import shutil
import sys
import tempfile
import os

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "zoo"
HEADER = "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation"
BASE = [
    ("vit_base_patch16_224.augreg", 224, 80.125, 95.010, 86.57, 0.9, "bicubic"),
    ("vit_base_patch16_384.augreg", 384, 82.5, 96.25, 86.86, 1.0, "bicubic"),
    ("eva_giant_patch14_560.m30m", 560, 89.79, 99.0, 1014.45, 1.0, "bicubic"),
    ("resnet50.a1_in1k", 288, 81.214, 95.102, 25.56, 1.0, "bicubic"),
    ("resnet50.tv_in1k", 224, 76.13, 92.862, 25.56, 0.875, "bilinear"),
    ("tie_b", 224, 70.5, 90.0, 5.0, 0.875, "bicubic"),
    ("tie_a", 224, 70.5, 90.0, 5.0, 0.875, "bicubic"),
    ("hiera_tiny_224.mae", 224, 78.25, 94.5, 27.91, 0.9, "bicubic"),
]
TEST = [
    ("eva_giant_patch14_560.m30m", 560, 85.5, 97.5, 1014.45, 1.0, "bicubic"),
    ("vit_base_patch16_224.augreg", 224, 84.25, 97.0, 86.57, 0.9, "bicubic"),
    ("vit_base_patch16_384.augreg", 384, 82.5, 96.5, 86.86, 1.0, "bicubic"),
    ("resnet50.tv_in1k", 224, 77.5, 93.0, 25.56, 0.875, "bilinear"),
    ("resnet50.a1_in1k", 224, 77.25, 93.0, 25.56, 0.95, "bicubic"),
    ("swin_new", 224, 73.0, 91.0, 28.29, 0.9, "bicubic"),
    ("tie_a", 224, 70.75, 90.5, 5.0, 0.875, "bicubic"),
    ("tie_b", 224, 70.25, 89.5, 5.0, 0.875, "bicubic"),
]


def write(path, rows):
    lines = [HEADER]
    # timm's tables are sorted already, and its script relies on it: it sorts the base, but then takes scores by the row
    # numbers of the file.
    for model, size, top1, top5, params, crop, interpolation in sorted(rows, key=lambda r: (-r[2], -r[3], r[0])):
        lines.append(
            f"{model},{size},{top1:.3f},{100 - top1:.3f},{top5:.3f},{100 - top5:.3f},"
            f"{params:.2f},{crop:.3f},{interpolation}"
        )
    path.write_text("\n".join(lines) + "\n")


def main():
    script = pathlib.Path(sys.argv[1]).resolve()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # The script compares fixed file names; one pair has our tables, the others repeat the base.
        for name in [
            "results-imagenet.csv",
            "results-imagenetv2-matched-frequency.csv",
            "results-sketch.csv",
            "results-imagenet-a-clean.csv",
            "results-imagenet-a.csv",
            "results-imagenet-r-clean.csv",
            "results-imagenet-r.csv",
        ]:
            write(folder / name, BASE)
        write(folder / "results-imagenet-real.csv", TEST)
        os.chdir(folder)
        runpy.run_path(str(script), run_name="__main__")
        shutil.copy(folder / "results-imagenet.csv", GOLDEN / "base.csv")
        shutil.copy(folder / "results-imagenet-real.csv", GOLDEN / "diff.csv")
    write(GOLDEN / "test.csv", TEST)


if __name__ == "__main__":
    main()
