"""The models of open_clip with pretrained weights: tests/golden/open_clip/models.tsv.

Versions: torch 2.9.0, open_clip_torch 3.3.0, timm 1.0.20.
Run from anywhere: python tests/reference/open_clip_table.py

One line per model: name, number of pretrained tags, and the vision part of its configuration as in open_clip_config.json.
"""

import collections
import json
import pathlib

import open_clip

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "open_clip" / "models.tsv"


def main():
    tags = collections.Counter(model for model, _ in open_clip.list_pretrained())
    lines = []
    for name, count in sorted(tags.items()):
        whole = open_clip.get_model_config(name)
        config = {key: whole[key] for key in ("embed_dim", "vision_cfg", "quick_gelu") if key in whole}
        lines.append(f"{name}\t{count}\t{json.dumps(config, sort_keys=True, separators=(',', ':'))}\n")
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text("".join(lines))
    print(len(lines), sum(tags.values()), open_clip.__version__)


if __name__ == "__main__":
    main()
