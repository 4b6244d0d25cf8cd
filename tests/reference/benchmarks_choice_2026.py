"""Fixtures for probe/bench: small files in the published schemas of the benchmarks with choices of 2024 to 2026, with our
own images and questions.

Pinned: pyarrow 26.0.1, Pillow 13.0.0, Python 3.11.  Run:  python tests/reference/benchmarks_choice_2026.py
Writes tests/golden/benchmarks/<id>/. Column names and types are those of the datasets' cards on the hub, of the authors'
scripts and of VLMEvalKit's loaders; nothing of their contents is used.
"""

import base64
import csv
import io
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "golden" / "benchmarks"
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXT, INT, TEXTS = pa.string(), pa.int64(), pa.list_(pa.string())


def png(n):
    """An image of 4 x 4 pixels, different for each number."""
    picture = Image.new("RGB", (4, 4), (40 * n % 256, 90 * n % 256, 255 - 25 * n % 256))
    picture.putpixel((n % 4, n % 3), (255, 255, 255))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def image(n):
    return None if n is None else {"bytes": png(n), "path": None}


def parquet(path, schema, rows):
    path = OUT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in schema.items()}
    pq.write_table(pa.table(columns), path, compression="snappy")


def tsv(path, rows):
    """Writes a TSV file as pandas does: missing values are empty."""
    path = OUT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def coded(n):
    return base64.b64encode(png(n)).decode()


def lettered(options, letters="ABCDEFGHIJ"):
    return dict(zip(letters, options))


# ---------------------------------------------------------------- MMMU-Pro

TEN = ["red", "green", "blue", "white", "black", "grey", "pink", "brown", "orange", "purple"]
# id, question, options, numbers of the images by column, answer, subject
MMMU_PRO_ROWS = [
    ("test_Art_1", "<image 1> Which color fills the square?", TEN, {1: 1}, "J", "Art"),
    ("test_Math_2", "Which option continues <image 1>?", ["<image 4>", "<image 2>", "<image 3>", "It's <image 1>", "none", "all", "two", "three", "four", "five"],
     {1: 2, 2: 3, 3: 4, 4: 5}, "B", "Math"),
    ("validation_Math_3", "Compare <image 1> with the rule <image 1> is drawn by.", TEN[:9], {1: 6}, "C", "Math"),
    ("test_Computer_Science_4", "What does <image 2> show?", ["a \"graph\"", "a tree", "a list", "a heap", "a ring", "a star", "a path", "a grid", "a cycle", "a forest"],
     {1: 7, 2: 8}, "A", "Computer_Science"),
    ("test_Art_5", "Name the color in <image 1>: I or J?", TEN, {1: 9}, "I", "Art"),
    ("test_Physics_6", "<image 2> follows <image 1>. Which law is it?", TEN, {1: 10, 2: 11}, "D", "Physics"),
]


def mmmu_pro():
    columns = {f"image_{i}": IMAGE for i in range(1, 8)}
    schema = {"id": TEXT, "question": TEXT, "options": TEXT, "explanation": TEXT, **columns, "img_type": TEXT, "answer": TEXT,
              "topic_difficulty": TEXT, "subject": TEXT}
    parquet("mmmu-pro/standard (10 options)/test-00000-of-00001.parquet", schema, [
        {"id": id, "question": question, "options": str(options), "explanation": "?", **{f"image_{i}": image(pictures.get(i)) for i in range(1, 8)},
         "img_type": "['Diagrams']", "answer": answer, "topic_difficulty": "Easy", "subject": subject}
        for id, question, options, pictures, answer, subject in MMMU_PRO_ROWS
    ])
    parquet("mmmu-pro-vision/vision/test-00000-of-00001.parquet", {"id": TEXT, "image": IMAGE, "options": TEXT, "answer": TEXT, "subject": TEXT}, [
        {"id": id, "image": image(pictures[1]), "options": str(options), "answer": answer, "subject": subject}
        for id, _, options, pictures, answer, subject in MMMU_PRO_ROWS
    ])


# ---------------------------------------------------------------- AI2D without mask

AI2D_ROWS = [
    (1, "What is labelled square?", ["the square", "the ground", "the sky", "the frame"], 0),
    (1, "What lies around the square?", ["water", "the ground", "sand", "nothing"], 1),
    (2, "Which label is on top?", ["E", "F", "G", "H"], 3),
]


def ai2d_no_mask():
    parquet("ai2d-no-mask/test.parquet", {"question": TEXT, "options": TEXTS, "answer": TEXT, "image": IMAGE},
            [{"question": question, "options": options, "answer": str(answer), "image": image(n)} for n, question, options, answer in AI2D_ROWS])
    tsv("ai2d-no-mask/vlmevalkit/AI2D_TEST_NO_MASK.tsv", [
        {"index": i, "image": 0 if i == 1 else coded(n), "question": question, **lettered(options), "answer": "ABCD"[answer], "category": "shapes"}
        for i, (n, question, options, answer) in enumerate(AI2D_ROWS)
    ])


# ---------------------------------------------------------------- MMBench 1.1

# index of the first rotation, image, hint, question, choices, number of the right choice, category, ability above it
MMBENCH_ROWS = [
    (241, 1, "", "Which color has the square?", ["white", "black", "red", "blue"], 0, "attribute_recognition", "finegrained_perception (instance-level)"),
    (252, 2, "Squares have four sides.", "How many corners are there?", ["4", "3"], 0, "object_localization", "finegrained_perception (instance-level)"),
    (263, 3, "", "What would happen to it on a slope?", ["It slides.", "It rolls.", "It floats."], 2, "physical_property_reasoning", "attribute_reasoning"),
]
CHINESE = {"Which color has the square?": "正方形是什么颜色？", "How many corners are there?": "有几个角？", "What would happen to it on a slope?": "它在斜坡上会怎样？",
           "white": "白色", "black": "黑色", "red": "红色", "blue": "蓝色", "It slides.": "滑动", "It rolls.": "滚动", "It floats.": "漂浮",
           "Squares have four sides.": "正方形有四条边。"}


def mmbench():
    for language in ("EN", "CN"):
        say = (lambda text: CHINESE.get(text, text)) if language == "CN" else (lambda text: text)
        rows = []
        for index, n, hint, question, options, right, category, ability in MMBENCH_ROWS:
            for turn in range(len(options)):
                turned = options[turn:] + options[:turn]
                rows.append({"index": index + 1_000_000 * turn, "question": say(question), "hint": say(hint), **{l: "" for l in "ABCD"}, **lettered([say(o) for o in turned]),
                             "answer": "ABCD"[turned.index(options[right])], "category": category, "image": index if turn else coded(n), "l2-category": ability, "split": "dev"})
        rows.sort(key=lambda row: row["index"])
        tsv(f"mmbench-v11-{language.lower()}/MMBench_DEV_{language}_V11.tsv", rows)


# ---------------------------------------------------------------- SEED-Bench-2-Plus

SEED_ROWS = [
    ("1", 1, "Which bar is the longest?", ["the first", "the second", "the third", "none"], "A", "chart"),
    ("2", 2, "Which street leads to the square?", ["A Street", "B Street", "C Street", "D Street"], "c", "map"),
    ("3", 3, "Which button is blue?", ["Send", "Save", "Stop", "Skip"], "B", "web"),
    ("4", 4, "Which file is open?", ["a.png", "b.txt", "c.jpg", "d.doc"], "D", "web"),
    ("5", 5, "Which bar is the shortest?", ["the first", "the second", "the third", "none"], "D", "chart"),
]


def seed_bench_2_plus():
    names = ["data_id", "question_id", "question_image_type", "question_image_subtype", "question", "choice_A", "choice_B", "choice_C", "choice_D", "answer", "data_source",
             "data_type", "level", "subpart", "version"]
    rows = [
        {"data_id": f"{kind}/{id}.png", "question_id": id, "question_image_type": kind, "question_image_subtype": "1", "question": question,
         **{f"choice_{l}": o for l, o in lettered(options).items()}, "answer": answer, "data_source": "SEED-Bench v2 plus", "data_type": "Single Image", "level": "L1",
         "subpart": "Single-Image & Text Comprehension", "version": "v2+", "image": image(n)}
        for id, n, question, options, answer, kind in SEED_ROWS
    ]
    parquet("seed-bench-2-plus/data/test-00000-of-00001.parquet", {**dict.fromkeys(names, TEXT), "image": IMAGE}, rows)
    tsv("seed-bench-2-plus/vlmevalkit/SEEDBench2_Plus.tsv", [
        {"index": i, "image": coded(n), "question": question, **lettered(options), "answer": answer.upper(), "category": kind}
        for i, (_, n, question, options, answer, kind) in enumerate(SEED_ROWS)
    ])


# ---------------------------------------------------------------- VMCBench

VMC_CATEGORIES = ["SEEDBench", "MMStar", "A-OKVQA", "VizWiz", "MMVet", "VQAv2", "OKVQA", "MMMU", "MathVista", "ScienceQA", "RealWorldQA", "GQA", "MathVision", "TextVQA", "OCRVQA",
                  "AI2D", "ChartQA", "DocVQA", "InfoVQA", "TableVQABench", "GQA", "AI2D"]


def vmcbench():
    rows = [
        {"index": 1000 + i, "question": f"What is number {i}?", **lettered([f"the {kind} {i}" for kind in ("dot", "line", "square", "cube")]), "answer": "ABCD"[i % 4],
         "category": category}
        for i, category in enumerate(VMC_CATEGORIES)
    ]
    schema = {"index": INT, **dict.fromkeys(["question", "A", "B", "C", "D", "answer", "category"], TEXT), "image": IMAGE}
    parquet("vmcbench/data/dev-00000-of-00001.parquet", schema, [{**row, "image": image(i % 4)} for i, row in enumerate(rows)])
    tsv("vmcbench/vlmevalkit/VMCBench_DEV.tsv", [{**row, "image": coded(i % 4)} for i, row in enumerate(rows)])


# ---------------------------------------------------------------- MuirBench

MUIR_ROWS = [
    ("1", "Counting", "Partial Similarity", "Photography", "How many of <image><image> show a dot?", ["none", "one", "both"], "C", [1, 2], "2"),
    ("2", "Counting", "Partial Similarity", "Photography", "How many of <image><image> show a cross?", ["one", "both", "None of the choices provided"], "C", [1, 2], "1"),
    ("3", "Visual Retrieval", "Cropped/Zoomed", "Drawing", "Which one is part of <image>?", ["<image>", "<image>", "<image>", "None of the choices provided"], "B", [3, 4, 5, 6], ""),
    ("4", "Ordering", "Temporal", "Drawing", "In which order do <image><image><image> come?", ["first, second, third", "third, second, first"], "A", [7, 8, 9], ""),
]


def muirbench():
    schema = {"idx": TEXT, "task": TEXT, "image_relation": TEXT, "image_type": TEXT, "question": TEXT, "options": TEXTS, "answer": TEXT, "image_list": pa.list_(IMAGE),
              "counterpart_idx": TEXT}
    parquet("muirbench/data/test-00000-of-00001.parquet", schema, [
        {"idx": idx, "task": task, "image_relation": relation, "image_type": kind, "question": question, "options": options, "answer": answer,
         "image_list": [image(n) for n in pictures], "counterpart_idx": counterpart}
        for idx, task, relation, kind, question, options, answer, pictures, counterpart in MUIR_ROWS
    ])
    tsv("muirbench/vlmevalkit/MUIRBench.tsv", [
        {"index": i, "image": str([coded(n) for n in pictures]), "question": question, **{l: "" for l in "ABCD"}, **lettered(options), "answer": answer, "category": task}
        for i, (_, task, _, _, question, options, answer, pictures, _) in enumerate(MUIR_ROWS)
    ])


# ---------------------------------------------------------------- CRPE

CRPE_LINE = "Please answer directly with only the letter of the correct option and nothing else."
CRPE_GROUPS = [
    ("subject", 1, "What is next to the square?", ["dog", "cup", "red car", "tree"], 1),
    ("predicate", 2, "What is the relation between the dot and the line?", ["above", "below", "left of", "on"], 3),
    ("object", 3, "What is the dot on?", ["table", "wall-paper", "floor", "shelf"], 0),
    ("subject", 4, "Who is holding the cup?", ["boy", "girl", "man", "woman"], 2),
]


def crpe():
    rows = []
    for category, n, question, options, right in CRPE_GROUPS:
        for turn in range(4):
            turned = options[turn:] + options[:turn]
            lines = "\n".join(f"{l}. {o}" for l, o in lettered(turned).items())
            rows.append({"question_id": len(rows), "image": image(n), "text": f"{question}\n{lines}\n{CRPE_LINE}", "category": category, "correct_option": "ABCD"[turned.index(options[right])]})
    parquet("crpe/data/test-00000-of-00001.parquet", {"question_id": INT, "image": IMAGE, "text": TEXT, "category": TEXT, "correct_option": TEXT}, rows)


def crpe_exist():
    """The authors' own edition: lines that name images of COCO."""
    folder = OUT / "crpe-exist" / "coco" / "val2017"
    folder.mkdir(parents=True)
    lines = []
    for n, options, right in [(1, ["dot", "cup", "car", "tree"], 0), (2, ["boy", "girl", "man", "line"], 3)]:
        (folder / f"{n:012}.png").write_bytes(png(n))
        for turn in range(4):
            turned = options[turn:] + options[:turn]
            choices = "\n".join(f"{l}. {o}" for l, o in lettered(turned).items())
            lines.append({"question_id": len(lines), "image": f"coco/val2017/{n:012}.png", "category": "exist", "correct_option": "ABCD"[turned.index(options[right])],
                          "text": f"Which of these is in the image?\n{choices}\nAnswer with the option's letter from the given choices directly."})
    (OUT / "crpe-exist" / "crpe_exist.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


# ---------------------------------------------------------------- 3DSRBench

# qid of the first of a group, image, image mirrored, question, mirrored question, choices, number of the right choice, of the mirrored one, category
SPATIAL = [
    ("AB12CD34", 1, 2, "Is the dot left of the line?", "Is the dot left of the line?", ["yes", "no"], 0, 1, "orientation_on_the_left"),
    ("EF56GH78", 3, 4, "Which is higher, the dot or the line?", "Which is higher, the line or the dot?", ["the dot", "the line"], 1, 1, "height_higher"),
    ("IJ90KL12", 5, None, "From where is the cube seen?", None, ["front", "left", "back", "right"], 2, None, "multi_object_viewpoint_towards_object"),
    ("MN34OP56", 6, 7, "Which is closer to the camera?", "Which is closer to the camera?", ["the cube", "the ball"], 0, 0, "location_closer_to_camera"),
]


def spatial():
    rows = []
    for qid, n, mirrored, question, other, options, right, wrong, category in SPATIAL:
        for flip in (False, True) if mirrored else (False,):
            for turn in range(len(options)):
                turned = options[turn:] + options[:turn]
                name = qid + ("-flip" if flip else "") + (f"-{turn}" if turn else "")
                rows.append({"index": len(rows), "qid": name, "question": other if flip else question, **{l: None for l in "ABCD"}, **lettered(turned),
                             "answer": "ABCD"[turned.index(options[wrong if flip else right])], "category": category, "n": mirrored if flip else n})
    schema = {"index": INT, **dict.fromkeys(["qid", "question", "A", "B", "C", "D", "answer", "category"], TEXT), "image": IMAGE}
    parquet("3dsrbench/3dsr_circular/test-00000-of-00001.parquet", schema, [{**row, "image": image(row["n"])} for row in rows])
    tsv("3dsrbench/vlmevalkit/3dsrbench_v1_vlmevalkit_circular.tsv",
        [{k: "" if v is None else v for k, v in row.items() if k != "n"} | {"image": coded(row["n"])} for row in rows])


IDS = ["mmmu-pro", "mmmu-pro-vision", "ai2d-no-mask", "mmbench-v11-en", "mmbench-v11-cn", "seed-bench-2-plus", "vmcbench", "muirbench", "crpe", "crpe-exist", "3dsrbench"]

if __name__ == "__main__":
    for id in IDS:
        shutil.rmtree(OUT / id, ignore_errors=True)
    for make in (mmmu_pro, ai2d_no_mask, mmbench, seed_bench_2_plus, vmcbench, muirbench, crpe, crpe_exist, spatial):
        make()
