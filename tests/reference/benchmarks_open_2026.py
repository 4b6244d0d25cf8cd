"""Small fixtures in the published schemas of the grounding, OCR, chart, VQA and spatial benchmarks of 2024 to 2026.

Pinned: pyarrow 26.0.1, Pillow; run:  python tests/reference/benchmarks_open_2026.py

Images and questions are made here; columns, types and directory layout are those of the published datasets.
"""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "golden" / "benchmarks"
TEXTS = pa.list_(pa.string())
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(number, size=(8, 8), kind="PNG"):
    """A plain image whose colour encodes its number."""
    out = io.BytesIO()
    Image.new("RGB", size, ((number * 53) % 256, (number * 97) % 256, (number * 31) % 256)).save(out, kind)
    return out.getvalue()


def cell(number, size=(8, 8), kind="PNG"):
    return {"bytes": picture(number, size, kind), "path": None}


def parquet(path, schema, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in schema.items()}
    pq.write_table(pa.table(columns), path, compression="zstd", write_statistics=False)


def refcoco():
    schema = {
        "question_id": pa.string(), "image": IMAGE, "question": pa.string(), "answer": TEXTS, "segmentation": pa.list_(pa.float32()),
        "bbox": pa.list_(pa.float32()), "iscrowd": pa.int8(), "file_name": pa.string(),
    }
    asked = [
        ((10, 8), [2.0, 1.0, 4.0, 4.0], ["the left dog", "brown dog"]),
        ((10, 8), [0.0, 0.0, 5.5, 3.25], ["man in the corner"]),
        ((7, 9), [1.3, 2.7, 3.9, 5.1], ["cup", "a cup on the table", "red \"cup\", left"]),
        ((640, 427), [103.93, 299.99, 134.22, 76.1], ["lady with the hat"]),
        ((6, 6), [0.0, 0.0, 6.0, 6.0], ["everything", "the wall"]),
    ]
    question = "Please carefully observe the area circled in the image and come up with a caption for the area."
    for name, split in (("refcoco", "testA"), ("refcoco", "testB"), ("refcoco-plus", "testA"), ("refcoco-plus", "testB"), ("refcocog", "test")):
        shift = ["testA", "testB", "test"].index(split)
        rows = [
            {"question_id": str(1000 + 7 * i), "image": cell(i, size), "question": question, "answer": answers, "segmentation": [0.0, 0.0, 1.0, 1.0],
             "bbox": box, "iscrowd": 0, "file_name": f"COCO_train2014_{i:012}_{i}.jpg"}
            for i, (size, box, answers) in enumerate(asked[shift:] + asked[:shift])
        ]
        ident = name if name == "refcocog" else f"{name}-{split.lower()}"
        parquet(OUT / f"{ident}/data/{split}-00000-of-00001.parquet", schema, rows)


def screenspot():
    schema = {"image": IMAGE, "bbox": pa.list_(pa.float64()), "instruction": pa.string(), "data_type": pa.string(), "data_source": pa.string()}
    asked = [
        ([0.25, 0.5, 0.5, 0.75], "close this window", "icon", "windows"),
        ([0.0, 0.0, 0.125, 0.0625], "go back", "icon", "ios"),
        ([0.4328125, 0.1, 0.60703125, 0.1416666], "Search", "text", "shop"),
        ([0.1, 0.9, 0.9, 1.0], "open the \"Settings\" tab", "text", "android"),
        ([0.5, 0.5, 1.0, 1.0], "view {details} of the item", "text", "macos"),
    ]
    rows = [{"image": cell(i, (16, 10)), "bbox": box, "instruction": text, "data_type": kind, "data_source": source} for i, (box, text, kind, source) in enumerate(asked)]
    parquet(OUT / "screenspot-v2/data/test-00000-of-00001.parquet", schema, rows)


PEOPLE = [
    ["yes"] * 10,
    ["Yes"] * 9 + ["yes"],
    ["2"] * 5 + ["two"] * 2 + ["3"] * 2 + ["1,000"],
    ["the park", "park", "a park", "Park.", "in park", "park!", "parking lot", "dog-park", "dog park", "park"],
    ["dont know", "don't know", "don't know", "Dont know!", "none", "0", "t-shirt", "t shirt", "1.5", "1 .5"],
    ["Blue and white"] * 4 + ["blue, white"] * 2 + ["blue/white"] * 2 + ["white; blue", "blue\tand\nwhite"],
]


def vqa():
    schema = {
        "question_type": pa.string(), "multiple_choice_answer": pa.string(),
        "answers": pa.list_(pa.struct([("answer", pa.string()), ("answer_confidence", pa.string()), ("answer_id", pa.int64())])),
        "image_id": pa.int64(), "answer_type": pa.string(), "question_id": pa.int64(), "question": pa.string(), "image": IMAGE,
    }
    questions = ["Is it raining?", "Is this a cat?", "How many dogs are there?", "Where is he?", "What does the shirt say?", "What color is the bus?"]
    kinds = ["yes/no", "yes/no", "number", "other", "other", "other"]
    rows = [
        {"question_type": q.split()[0].lower(), "multiple_choice_answer": PEOPLE[i][0], "image_id": [42, 42, 73, 74, 75, 73][i], "answer_type": kinds[i], "question_id": 42000 + i,
         "answers": [{"answer": a, "answer_confidence": ["yes", "maybe", "no"][k % 3], "answer_id": k + 1} for k, a in enumerate(PEOPLE[i])], "question": q, "image": cell([0, 0, 1, 2, 3, 1][i])}
        for i, q in enumerate(questions)
    ]
    parquet(OUT / "vqav2/data/validation-00000-of-00001.parquet", schema, rows)
    schema = {"question_id": pa.string(), "image": IMAGE, "question": pa.string(), "answers": TEXTS, "question_type": pa.string(), "answer_type": pa.string()}
    rows = [
        {"question_id": str(2971475 + i), "image": cell(i), "question": q, "answers": PEOPLE[i], "question_type": ["one", "four", "other", "one", "seven", "other"][i], "answer_type": "other"}
        for i, q in enumerate(questions)
    ]
    parquet(OUT / "ok-vqa/data/val2014-00000-of-00001.parquet", schema, rows)


def vsi_bench():
    asked = [
        ("arkitscenes", "41069025", "object_counting", "How many table(s) are in this room?", "4", None),
        ("arkitscenes", "41069025", "object_rel_direction_easy", "If I am standing by the stove and facing the tv, is the sofa to the left or the right of the tv?", "A", ["A. left", "B. right"]),
        ("arkitscenes", "41069025", "object_rel_direction_medium", "Where is the chair?", "C", ["A. left", "B. right", "C. back"]),
        ("scannet", "scene0015_00", "object_rel_direction_hard", "Where is the bed?", "D", ["A. front-left", "B. front-right", "C. back-left", "D. back-right"]),
        ("scannet", "scene0015_00", "object_abs_distance", "What is the distance between the sofa and the stove (in meters)?", "2.4", None),
        ("scannet", "scene0015_00", "object_rel_distance", "Which is closest to the tv?", "B", ["A. table", "B. chair", "C. stool", "D. bed"]),
        ("scannetpp", "09c1414f1b", "object_size_estimation", "What is the length of the longest dimension of the tv, in centimeters?", "107", None),
        ("scannetpp", "09c1414f1b", "room_size_estimation", "What is the size of this room (in square meters)?", "23.7", None),
        ("scannetpp", "09c1414f1b", "route_planning", "You are a robot beginning at the door. Fill in: 1. Go forward 2. [please fill in]", "A", ["A. Turn Left", "B. Turn Right", "C. Turn Back"]),
        ("scannetpp", "09c1414f1b", "obj_appearance_order", "What will be the first-time appearance order of: lamp, bed, table?", "C", ["A. bed, table, lamp", "B. lamp, table, bed", "C. lamp, bed, table", "D. table, lamp, bed"]),
        ("scannet", "scene0015_00", "object_counting", "How many chair(s) are in this room?", "7", None),
        ("arkitscenes", "41069025", "object_rel_direction_easy", "Is the bed to the left or the right?", "B", ["A. left", "B. right"]),
    ]
    keys = ("dataset", "scene_name", "question_type", "question", "ground_truth", "options")
    for name, split, kept in (("vsi-bench", "test", asked), ("vsi-bench-debiased", "test_debiased", asked[:11])):
        rows = [{"id": i, **dict(zip(keys, row)), "pruned": False} for i, row in enumerate(kept)]
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        if split == "test":
            (folder / "test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        else:
            schema = {"id": pa.int64(), **{k: pa.string() for k in keys[:5]}, "options": TEXTS, "pruned": pa.bool_()}
            parquet(folder / "test_debiased.parquet", schema, rows)
        for dataset, scene in sorted({(r["dataset"], r["scene_name"]) for r in rows}):
            place = folder / "frames" / dataset / scene
            place.mkdir(parents=True, exist_ok=True)
            for i in range(3):
                (place / f"{i:03}.png").write_bytes(picture(i))


def charxiv():
    schema = {
        "image": IMAGE, "category": pa.string(), "year": pa.string(), "original_figure_path": pa.string(), "original_id": pa.string(), "figure_path": pa.string(),
        "num_subplots": pa.int64(), "subplot_row": pa.int64(), "subplot_col": pa.int64(), "subplot_loc": pa.string(), "caption": pa.string(),
    }
    for k in range(1, 5):
        schema |= {f"descriptive_q{k}": pa.int64(), f"descriptive_a{k}": pa.string()}
    schema |= {"reasoning_q": pa.string(), "reasoning_q_source": pa.int64(), "reasoning_a": pa.string(), "reasoning_a_type": pa.int64()}
    asked = [
        ((1, 2, None), [(7, "60"), (13, "A-net, B*, C"), (11, "Yes"), (15, "Not Applicable")], ("Which model declines more?", "Joint-CNN", 1)),
        ((0, 0, None), [(2, "W_H"), (8, "0.1"), (6, "0.12"), (1, "Not Applicable")], ("How many lines end above 0.5?", "3", 4)),
        ((2, 1, None), [(18, "1 by 2"), (1, "(b) OPT"), (19, "2"), (12, "Not Applicable")], ("Is it rising or falling?", "rising", 2)),
        ((None, None, "the bottom plot"), [(16, "increases then stabilizes"), (9, "5"), (17, "14"), (3, "Not Applicable")], ("What is the value at 3?", "0.75", 3)),
        ((0, 0, None), [(4, "-1.0"), (5, "10^3"), (10, "4"), (14, "Not Applicable")], ("What is the difference of the peaks?", "2.50", 4)),
    ]
    rows = []
    for i, ((row, col, loc), described, (question, answer, kind)) in enumerate(asked):
        values = {
            "image": cell(i, kind="JPEG"), "category": ["cs", "math", "q-bio", "stat", "cs"][i], "year": "21", "original_figure_path": f"a/{i}.jpg", "original_id": f"2101.0000{i}",
            "figure_path": f"images/{i}.jpg", "num_subplots": 1, "subplot_row": row, "subplot_col": col, "subplot_loc": loc, "caption": "c",
            "reasoning_q": question, "reasoning_q_source": 1, "reasoning_a": answer, "reasoning_a_type": kind,
        }
        for k, (qid, text) in enumerate(described, 1):
            values |= {f"descriptive_q{k}": qid, f"descriptive_a{k}": text}
        rows.append(values)
    for name in ("charxiv-reasoning", "charxiv-descriptive"):
        parquet(OUT / name / "val.parquet", schema, rows)


def ocrbench_v2():
    schema = {
        "id": pa.int32(), "dataset_name": pa.string(), "question": pa.string(), "type": pa.string(), "answers": TEXTS, "image": IMAGE, "eval": pa.string(),
        "bbox": pa.list_(pa.int32()), "bbox_list": pa.list_(pa.list_(pa.int32())), "content": TEXTS,
    }
    spots = ([[100, 100, 300, 100, 300, 200, 100, 200], [400, 400, 600, 410, 600, 500, 400, 490], [0, 0, 50, 0, 50, 50, 0, 50], [700, 700, 900, 700, 900, 800, 700, 800]], ["OPEN", "Exit!", "###", "\"No.1\""])
    long = "The annual report of the river commission was read aloud by the clerk"
    asked = [
        ("text recognition en", ["OPEN"], None), ("text recognition en", ["iPhone"], "case sensitive"), ("APP agent en", ["Settings", "the settings"], None),
        ("ASCII art classification en", ["B"], "multiple choice"), ("math QA en", ["C"], "multiple choice"), ("math QA en", ["12.5"], None),
        ("reasoning VQA en", [long], None), ("science QA en", ["A"], "multiple choice"), ("document classification en", ["letter"], None),
        ("cognition VQA en", ["May 4, 1988", "4 May 1988"], None), ("cognition VQA en", [long], "case sensitive"), ("diagram QA en", ["D"], "multiple choice"),
        ("text counting en", ["7"], "regression"), ("text counting en", ["12"], "exact match"), ("formula recognition en", ["\\frac { a } { B } + 1"], None),
        ("key information extraction en", ["{\"company\": [\"OLD TOWN\", \"Old Town Ltd\"], \"date\": [\"2024\"], \"total\": [\"30.00\"]}"], None),
        ("key information mapping en", ["{'Name': 'J. Doe', 'Age': ['31', 'thirty one']}"], None), ("VQA with position en", ["12:30"], None),
        ("text grounding en", ["100", "200", "300", "400"], None), ("text spotting en", [""], None),
        ("document parsing en", ["# Title\nSome text\n## Part\n- one\n- two\n| a | b |"], None),
        ("chart parsing en", ["{'title': 'Growth', 'values': {'a': '1', 'b': 2.50}, 'unit': 'km'}"], None), ("table parsing en", ["<table><tr><td>a</td></tr></table>"], None),
        ("full-page OCR en", ["hello world"], None), ("fine-grained text recognition en", ["hello"], None),
        ("cognition VQA cn", ["北京路"], None), ("cognition VQA cn", ["A"], "multiple choice"), ("reasoning VQA cn", ["红,黄,蓝,绿"], None), ("reasoning VQA cn", ["Abc"], "case sensitive"),
        ("formula recognition cn", ["x \\text{ 元 } + 1"], None), ("key information extraction cn", ["{'姓名': '张三', '电话': ['123', '一二三']}"], None),
        ("handwritten answer extraction cn", ["ABD"], None), ("document parsing cn", ["# 标题\n正文"], None), ("table parsing cn", ["<table><tr><td>一</td></tr></table>"], None),
        ("full-page OCR cn", ["你好"], None), ("text translation cn", ["hello"], None),
    ]
    rows = [
        {"id": i, "dataset_name": "made", "question": f" What is asked in {i}?\n", "type": kind, "answers": answers, "image": cell(i), "eval": how,
         "bbox": [10, 20, 110, 220] if kind.startswith("VQA with") else None, "bbox_list": spots[0] if "spotting" in kind else None, "content": spots[1] if "spotting" in kind else None}
        for i, (kind, answers, how) in enumerate(asked)
    ]
    without_rule = ("table parsing", "full-page OCR", "fine-grained text recognition", "handwritten answer extraction", "text translation")
    parquet(OUT / "ocrbench-v2/data/test-00000-of-00001.parquet", schema, rows)
    for language in ("en", "cn"):
        kept = [row for row in rows if row["type"].endswith(language) and not row["type"].startswith(without_rule)]
        parquet(OUT / f"ocrbench-v2-{language}/data/test-00000-of-00001.parquet", schema, kept)


for make in (refcoco, screenspot, vqa, vsi_bench, charxiv, ocrbench_v2):
    make()
