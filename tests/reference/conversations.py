"""Conversations in LLaVA's format, plain and compressed in the ways in which such files are published.

    python tests/reference/conversations.py        (writes tests/golden/train/conversations; seconds)

gzip in one member and in several (as `cat a.gz b.gz` or bgzip write them), zstd in one frame and in several with a
checksum and a skippable frame between them (as pzstd writes them). zstandard 0.25.0.
"""

import gzip
import json
from pathlib import Path

import zstandard

OUT = Path(__file__).resolve().parents[1] / "golden" / "train" / "conversations"


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(40):
        things = ["cup", "red bus", "Bär", "猫", "line\nbreak"]
        entry = {"id": f"{i:03}", "conversations": [
            {"from": "human", "value": f"<image>\nWhat is number {i}?" if i % 3 else f"Say {i}."},
            {"from": "gpt", "value": f"a {things[i % 5]} of size {i * i}"},
        ]}
        if i % 3:
            entry["image"] = f"source{i % 2}/{i}.png"
        lines.append(json.dumps(entry, ensure_ascii=bool(i % 2)) + "\n")
    first, second = "".join(lines[:23]).encode(), "".join(lines[23:]).encode()
    (OUT / "plain.jsonl").write_bytes(first + second)
    (OUT / "gzip").write_bytes(gzip.compress(first + second, mtime=0))
    (OUT / "gzip-members").write_bytes(gzip.compress(first, mtime=0) + gzip.compress(second, mtime=0))
    (OUT / "zstd").write_bytes(zstandard.ZstdCompressor().compress(first + second))
    checked = zstandard.ZstdCompressor(write_checksum=True, level=19)
    skippable = (0x184D2A53).to_bytes(4, "little") + (11).to_bytes(4, "little") + b"hello world"
    frames = skippable + checked.compress(first) + skippable + checked.compress(second)
    (OUT / "zstd-frames").write_bytes(frames)


if __name__ == "__main__":
    main()
