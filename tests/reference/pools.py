"""Pools of conversations in the layouts in which they are published, written by the libraries that publish them.

    python tests/reference/pools.py        (writes tests/golden/train/pools; seconds)

Parquet by datasets 5.2.0 (pyarrow 26.0.1) with the features of LLaVA-OneVision-Data, FineVision and The Cauldron, of a
table with image paths, and of one whose turns are a structure of lists (as datasets before version 4 stored a
`Sequence` of dictionaries); a shard by webdataset 1.0.2. `expected.json` holds what datasets and webdataset read back.
"""

import io
import json
from pathlib import Path

import webdataset
from datasets import Dataset, Features, Image, List, Value, load_dataset
from PIL import Image as Pillow

OUT = Path(__file__).resolve().parents[1] / "golden" / "train" / "pools"
RATINGS = ["relevance", "image_correspondence", "visual_dependency", "formatting"]


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (2 + i, 3), (40 * i, 255 - 40 * i, 99)).save(buffer, "PNG")
    return buffer.getvalue()


def images(*numbers: int) -> list:
    return [{"bytes": png(i), "path": f"{i}.png"} for i in numbers]


def tables() -> dict:
    turns = List({"from": Value("string"), "value": Value("string")})
    said = [
        [("human", "<image>\nWhat is it?"), ("gpt", "A \"cup\"."), ("human", "Größe?"), ("gpt", "2×3")],
        [("human", "Say a word."), ("gpt", "猫")],
        [("system", "Be brief."), ("human", "<image>\nWhich?"), ("gpt", "B")],
        [("human", "<image>\nNo answer?")],
    ]
    conversations = [[{"from": f, "value": v} for f, v in turn] for turn in said]
    shown = [images(0)[0], None, images(2)[0], images(3)[0]]
    ids = ["0", "one", "", "3"]
    onevision = (
        {"id": ids, "image": shown, "conversations": conversations, "data_source": ["vqa", "text", "vqa", "vqa"]},
        Features({"id": Value("string"), "image": Image(), "conversations": turns, "data_source": Value("string")}),
    )
    pairs = [
        [{"user": "What is it?", "assistant": "A cup."}, {"user": "Colour?", "assistant": "red"}],
        [{"user": "Say a word.", "assistant": "word\nline"}],
        [{"user": "Which of the two?", "assistant": "the second"}],
    ]
    ratings = {}
    for k, name in enumerate(RATINGS):
        ratings[f"{name}_ratings"] = [[5 - k, 4], [3], [1 + k]]
        ratings[f"{name}_min"] = [min(5 - k, 4), 3, 1 + k]
    finevision = (
        {"images": [images(1), [], images(2, 3)], "texts": pairs, "source": ["ai2d", "text_x", "ai2d"], **ratings},
        Features({
            "images": List(Image()),
            "texts": List({"user": Value("string"), "assistant": Value("string")}),
            "source": Value("string"),
            **{name: List(Value("int64")) if name.endswith("ratings") else Value("int64") for name in ratings},
        }),
    )
    cauldron = (
        {"images": [images(4), images(0, 1)], "texts": [[{**p, "source": "chartqa"} for p in pair] for pair in pairs[:2]]},
        Features({
            "images": List(Image()),
            "texts": List({"user": Value("string"), "assistant": Value("string"), "source": Value("string")}),
        }),
    )
    paths = (
        {"id": ids[:3], "image": ["coco/0.jpg", "", "gqa/2.jpg"], "conversations": conversations[:3]},
        Features({"id": Value("string"), "image": Value("string"), "conversations": turns}),
    )
    lists = (
        {"id": ids[:2], "conversations": [
            {"from": [f for f, _ in turn], "value": [v for _, v in turn]} for turn in (said[1], said[1])]},
        Features({"id": Value("string"), "conversations": {"from": List(Value("string")), "value": List(Value("string"))}}),
    )
    return {"onevision": onevision, "finevision": finevision, "cauldron": cauldron, "paths": paths, "lists": lists}


def entry(row: dict) -> dict:
    """The fields that Burgess hands on, from a row as datasets reads it."""
    if "texts" in row:
        turns = [[name, text[key]] for text in row["texts"] for name, key in [("human", "user"), ("gpt", "assistant")]]
        source = row.get("source") or row["texts"][0].get("source")
    elif isinstance(row["conversations"], dict):
        turns = [list(t) for t in zip(row["conversations"]["from"], row["conversations"]["value"])]
        source = ""
    else:
        turns = [[t["from"], t["value"]] for t in row["conversations"]]
        source = row.get("data_source") or ""
    image = row.get("images", row.get("image"))
    image = image if isinstance(image, list) else [image] if image else []
    image = [i if isinstance(i, str) else i["bytes"].hex() for i in image]
    least = {name: row[f"{name}_min"] for name in RATINGS if f"{name}_min" in row}
    each = {name: row[f"{name}_ratings"] for name in RATINGS if f"{name}_ratings" in row}
    return {"id": row.get("id") or "", "source": source, "images": image, "turns": turns, "least": least, "each": each}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, (columns, features) in tables().items():
        file = OUT / f"{name}.parquet"
        Dataset.from_dict(columns, features=features).to_parquet(file)
        rows = load_dataset("parquet", data_files=str(file), split="train", cache_dir="/tmp/pools-cache")
        for column, feature in rows.features.items():
            if isinstance(feature, Image):
                rows = rows.cast_column(column, Image(decode=False))
            if isinstance(feature, List) and isinstance(feature.feature, Image):
                rows = rows.cast_column(column, List(Image(decode=False)))
        expected[name] = [entry(row) for row in rows]
    shard = OUT / "shard-000000.tar"
    long = "a-key-that-is-too-long-for-the-header-of-a-tar-archive-" + "x" * 60
    with webdataset.TarWriter(str(shard), mtime=0) as writer:
        for key, numbers in [("000000", [0]), ("000001", []), ("folder.d/000002", [1, 2]), (long, [3])]:
            member = {"id": key, "source": "web", "conversations": [
                {"from": "human", "value": "<image>" * len(numbers) + "What?"}, {"from": "gpt", "value": f"{numbers}"}]}
            if numbers:
                member["image"] = "not read.png"
            sample = {"__key__": key, "json": member}
            for at, number in enumerate(numbers):
                sample["png" if len(numbers) == 1 else f"{at}.png"] = png(number)
            writer.write(sample)
    read = []
    for sample in webdataset.WebDataset(str(shard), shardshuffle=False):
        member = json.loads(sample["json"])
        seen = [sample[k].hex() for k in sample if k.endswith("png")]
        turns = [[t["from"], t["value"]] for t in member["conversations"]]
        read.append({"id": member["id"], "source": "web", "images": seen, "turns": turns, "least": {}, "each": {}})
    expected["shard-000000"] = read
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


main()
