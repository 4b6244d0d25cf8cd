"""Fixtures for probe/bench: small files in the published schemas of the perception and knowledge benchmarks (hub editions
in parquet, VLMEvalKit's editions in TSV), with our own images and questions.

Pinned: pyarrow 26.0.1, Pillow 13.0.0, Python 3.11.  Run:  python tests/reference/benchmarks_knowledge.py
Writes tests/golden/benchmarks/<id>/. Column names and types are those of the datasets' cards on the hub and of
VLMEvalKit's loaders; nothing of their contents is used.
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
    """An image of 8 x 8 pixels with a square, different for each number."""
    picture = Image.new("RGB", (8, 8), (40 * n % 256, 90 * n % 256, 255 - 25 * n % 256))
    picture.paste((255, 255, 255), (n % 5, n % 4, n % 5 + 3, n % 4 + 3))
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


def lettered(options):
    return dict(zip("ABCDE", options))


# ---------------------------------------------------------------- MME

MME = {"question_id": TEXT, "image": IMAGE, "question": TEXT, "answer": TEXT, "category": TEXT}
MME_PAIRS = [
    ("existence/000001.jpg", 1, "Is there a square in this image?", "Is there a circle in this image?", "existence"),
    ("existence/000002.jpg", 2, "Is there a white shape in this image?", "Is there a black shape in this image?", "existence"),
    ("color/000003.jpg", 3, "Is the shape white?", "Is the shape red?", "color"),
    ("OCR/0004.jpg", 4, "Is there no text in the picture?", "Is the word in the picture \"square\"?", "OCR"),
    ("code_reasoning/0005.png", 5, "Is the output of the code 'a square'?", "Is the output of the code 'a circle'?", "code_reasoning"),
]


def mme():
    rows = [
        {"question_id": id, "image": image(n), "question": f"{question} Please answer yes or no.", "answer": answer, "category": category}
        for id, n, yes, no, category in MME_PAIRS
        for question, answer in ((yes, "Yes"), (no, "No"))
    ]
    parquet("mme/data/test-00000-of-00002-a25dbe3b44c4fda6.parquet", MME, rows[:6])
    parquet("mme/data/test-00001-of-00002-7d22c7f1aba6fca4.parquet", MME, rows[6:])
    tsv("mme/vlmevalkit/MME.tsv", [
        {"index": i, "image": i - 1 if i % 2 else coded(MME_PAIRS[i // 2][1]), "question": row["question"], "answer": row["answer"],
         "category": row["category"], "image_path": row["question_id"].split("/")[-1]}
        for i, row in enumerate(rows)
    ])


# ---------------------------------------------------------------- MMBench

MMBENCH = {"index": INT, "question": TEXT, "hint": TEXT, "A": TEXT, "B": TEXT, "C": TEXT, "D": TEXT, "answer": TEXT, "category": TEXT,
           "image": IMAGE, "source": TEXT, "l2-category": TEXT, "comment": TEXT, "split": TEXT}
MMBENCH_CN = {"index": pa.int32(), "question": TEXT, "image": IMAGE, "hint": TEXT, "A": TEXT, "B": TEXT, "C": TEXT, "D": TEXT,
              "answer": TEXT, "category": TEXT, "source": TEXT, "L2-category": TEXT, "comment": TEXT, "split": TEXT}


def rotations(index, n, question, options, hint="nan", category="object_localization", l2="finegrained_perception"):
    """The question with each rotation of its choices; the first choice is right."""
    for turn in range(len(options)):
        turned = options[turn:] + options[:turn]
        letters = {letter: turned[i] if i < len(turned) else "nan" for i, letter in enumerate("ABCD")}
        yield {"index": index + turn * 1_000_000, "question": question, "hint": hint, **letters, "answer": "ABCD"[-turn % len(options)],
               "category": category, "image": image(n), "source": "own", "l2-category": l2, "L2-category": l2, "comment": "nan", "split": "dev"}


def mmbench():
    # Two questions with the same text, source and category about two pictures, which only the pictures tell apart.
    rows = [
        *rotations(241, 1, "Where is the square?", ["in the corner", "in the middle", "at the bottom", "nowhere"]),
        *rotations(252, 2, "Where is the square?", ["near the edge", "in the middle"]),
        *rotations(263, 3, "Which shape would roll away?", ["none of them", "the square", "the ground"], hint="Round things roll.",
                   category="physical_property_reasoning", l2="attribute_reasoning"),
    ]
    parquet("mmbench-en/data/dev-00000-of-00001-75b6649fb044d38b.parquet", MMBENCH, sorted(rows, key=lambda row: row["index"]))
    tsv("mmbench-en/vlmevalkit/MMBench_DEV_EN.tsv", [
        {**{k: ("" if row[k] == "nan" else row[k]) for k in ("index", "question", "hint", "A", "B", "C", "D", "answer", "category", "source", "l2-category", "comment", "split")},
         "image": coded({241: 1, 252: 2, 263: 3}[row["index"]]) if row["index"] < 1_000_000 else row["index"] % 1_000_000}
        for row in sorted(rows, key=lambda row: row["index"])
    ])
    chinese = [
        *rotations(12, 4, "正方形在哪里？", ["在角落", "在中间"]),
        *rotations(13, 5, "哪个形状会滚走？", ["都不会", "正方形", "地面"], hint="圆的东西会滚动。", category="physical_property_reasoning", l2="attribute_reasoning"),
    ]
    parquet("mmbench-cn/data/dev-00000-of-00001.parquet", MMBENCH_CN, chinese)


# ---------------------------------------------------------------- SEED-Bench

SEED = {"answer": TEXT, "choice_a": TEXT, "choice_b": TEXT, "choice_c": TEXT, "choice_d": TEXT, "data_id": TEXT, "data_type": TEXT,
        "question": TEXT, "question_id": TEXT, "question_type_id": pa.int16(), "image": pa.list_(IMAGE), "segment": pa.list_(pa.float64())}
SEED_ROWS = [
    ("B", ["red", "white", "green", "black"], "1_own", "image", "What is the color of the square?", "101", 3, [1], None),
    ("A", ["one", "two", "three", "four"], "1_own", "image", "How many squares are there?", "102", 5, [1], None),
    ("D", ["a film", "a book", "a map", "a drawing"], "2_own", "image", "What is shown?", "103", 1, [2], None),
    ("C", ["jump", "fall", "wait", "turn"], "v_own", "video", "What does the square do?", "104", 10, [3, 4], [0.0, 1.5]),
]


def seed_bench():
    parquet("seed-bench/data/test-00000-of-00001.parquet", SEED, [
        {"answer": answer, **dict(zip(("choice_a", "choice_b", "choice_c", "choice_d"), options)), "data_id": data, "data_type": kind, "question": question,
         "question_id": id, "question_type_id": number, "image": [image(n) for n in pictures], "segment": segment}
        for answer, options, data, kind, question, id, number, pictures, segment in SEED_ROWS
    ])
    tsv("seed-bench/vlmevalkit/SEEDBench_IMG.tsv", [
        {"index": id, "image": 101 if id == "102" else coded(pictures[0]), "question": question, **lettered(options), "answer": answer,
         "category": {3: "Instance Attribute", 5: "Instance Counting", 1: "Scene Understanding"}[number]}
        for answer, options, _, kind, question, id, number, pictures, _ in SEED_ROWS if kind == "image"
    ])


# ---------------------------------------------------------------- GQA


def gqa():
    parquet("gqa/testdev_balanced_images/testdev-00000-of-00001.parquet", {"id": TEXT, "image": IMAGE},
            [{"id": "n12", "image": image(1)}, {"id": "n7", "image": image(2)}, {"id": "n9", "image": image(3)}])
    kinds = pa.struct([("structural", TEXT), ("semantic", TEXT), ("detailed", TEXT)])
    schema = {"id": TEXT, "imageId": TEXT, "question": TEXT, "isBalanced": pa.bool_(), "groups": pa.struct([("global", TEXT), ("local", TEXT)]),
              "answer": TEXT, "fullAnswer": TEXT, "types": kinds, "semanticStr": TEXT}
    rows = [
        ("201", "n7", "Is the square dark?", "no", "No, the square is white.", "verify", "attr"),
        ("202", "n7", "What color is the square?", "white", "The square is white.", "query", "attr"),
        ("203", "n9", "Is it a square or a circle?", "square", "It is a square.", "choose", "obj"),
        ("204", "n12", "What is the white shape called?", "square", "The shape is a square.", "query", "obj"),
    ]
    parquet("gqa/testdev_balanced_instructions/testdev-00000-of-00001.parquet", schema, [
        {"id": id, "imageId": picture, "question": question, "isBalanced": True, "groups": {"global": "shape", "local": "01-square"}, "answer": answer,
         "fullAnswer": full, "types": {"structural": kind, "semantic": about, "detailed": kind}, "semanticStr": "select: square"}
        for id, picture, question, answer, full, kind, about in rows
    ])
    tsv("gqa/vlmevalkit/GQA_TestDev_Balanced.tsv", [
        {"index": id, "image": "201" if id == "202" else coded({"n12": 1, "n7": 2, "n9": 3}[picture]), "question": question, "answer": answer, "split": "testdev"}
        for id, picture, question, answer, *_ in rows
    ])


# ---------------------------------------------------------------- ScienceQA

SQA = {"image": IMAGE, "question": TEXT, "choices": TEXTS, "answer": pa.int8(), "hint": TEXT, "task": TEXT, "grade": TEXT, "subject": TEXT,
       "topic": TEXT, "category": TEXT, "skill": TEXT, "lecture": TEXT, "solution": TEXT}
SQA_ROWS = [
    (1, "Which property does this shape have?", ["four equal sides", "three sides"], 0, "", "natural science"),
    (None, "Which word rhymes with square?", ["circle", "bear"], 1, "", "language science"),
    (2, "What would happen to this shape on a slope?", ["It would roll.", "It would slide.", "It would float."], 1, "Shapes with corners slide.", "natural science"),
    (3, "Which country has a square flag?", ["Switzerland", "Nepal", "Qatar", "Kenya", "Japan"], 0, "", "social science"),
]


def scienceqa():
    parquet("scienceqa/data/test-00000-of-00001-f0e719df791966ff.parquet", SQA, [
        {"image": image(n), "question": question, "choices": options, "answer": answer, "hint": hint, "task": "closed choice", "grade": "grade4",
         "subject": subject, "topic": "physics", "category": "Materials", "skill": "Compare shapes", "lecture": "", "solution": ""}
        for n, question, options, answer, hint, subject in SQA_ROWS
    ])
    with_picture = [row for row in SQA_ROWS if row[0] is not None]
    tsv("scienceqa/vlmevalkit/ScienceQA_TEST.tsv", [
        {"index": i, "image": coded(n), "question": question, "hint": hint, **{l: dict(lettered(options)).get(l, "") for l in "ABCDE"}, "answer": "ABCDE"[answer], "category": subject}
        for i, (n, question, options, answer, hint, subject) in enumerate(with_picture)
    ])


# ---------------------------------------------------------------- MMMU

MMMU = {"id": TEXT, "question": TEXT, "options": TEXT, "explanation": TEXT, **{f"image_{i}": IMAGE for i in range(1, 8)}, "img_type": TEXT,
        "answer": TEXT, "topic_difficulty": TEXT, "question_type": TEXT, "subfield": TEXT}
MMMU_ROWS = [
    ("validation_Math_1", "<image 1> What is the area of the square?", ["9", "12", "16"], [1], "A", "multiple-choice"),
    ("validation_Art_Theory_2", "Which of <image 1> and <image 2> is lighter?", ["It's <image 1>", "<image 2>", "neither", "both"], [2, 3], "B", "multiple-choice"),
    ("validation_Math_3", "How long is the side of the square in <image 1>?", [], [4], "3", "open"),
    ("validation_Math_4", "Which ratio do the sides in <image 1> have?", [], [5], "['1/1', '1.0']", "open"),
    ("validation_Art_5", "Name the shape: <image 1>", [], [6], "square", "open"),
]


def mmmu():
    def row(id, question, options, pictures, answer, kind):
        images = {f"image_{i}": image(pictures[i - 1]) if i <= len(pictures) else None for i in range(1, 8)}
        return {"id": id, "question": question, "options": str(options), "explanation": "", **images, "img_type": "['Diagrams']", "answer": answer,
                "topic_difficulty": "Easy", "question_type": kind, "subfield": "Shapes"}

    parquet("mmmu/data/validation-00000-of-00001.parquet", MMMU, [row(*r) for r in MMMU_ROWS])
    # The authors' own edition: a folder for each subject.
    parquet("mmmu/folders/Art/validation-00000-of-00001.parquet", MMMU, [row(*MMMU_ROWS[4])])
    parquet("mmmu/folders/Art_Theory/validation-00000-of-00001.parquet", MMMU, [row(*MMMU_ROWS[1])])
    tsv("mmmu/vlmevalkit/MMMU_DEV_VAL.tsv", [
        {"index": i, "id": id, "question": question, "image": str([coded(n) for n in pictures]) if len(pictures) > 1 else coded(pictures[0]),
         **{l: lettered(options).get(l, "") for l in "ABCD"}, "answer": answer, "category": id.split("_")[1], "split": "dev" if id.endswith("Math_3") else "validation"}
        for i, (id, question, options, pictures, answer, kind) in enumerate(MMMU_ROWS)
    ])


# ---------------------------------------------------------------- MathVista

META = pa.struct([("category", TEXT), ("context", TEXT), ("grade", TEXT), ("img_height", INT), ("img_width", INT), ("language", TEXT), ("skills", TEXTS),
                  ("source", TEXT), ("split", TEXT), ("task", TEXT)])
MATHVISTA = {"pid": TEXT, "question": TEXT, "image": TEXT, "decoded_image": IMAGE, "choices": TEXTS, "unit": TEXT, "precision": pa.float64(), "answer": TEXT,
             "question_type": TEXT, "answer_type": TEXT, "metadata": META, "query": TEXT}
HINTS = {
    "text": "Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.",
    "integer": "Please answer the question requiring an integer answer and provide the final value, e.g., 1, 2, 3, at the end.",
    "float": "Please answer the question requiring a floating-point number with one decimal place and provide the final value, e.g., 1.2, 1.3, 1.4, at the end.",
    "list": "Please answer the question requiring a Python list as an answer and provide the final list, e.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end.",
}
MATHVISTA_ROWS = [
    ("1", 1, "What fraction of the picture is white?", ["9/64", "1/2", "3/8"], None, None, "9/64", "text", "geometry problem solving"),
    ("2", 2, "How many corners are there?", None, None, None, "4", "integer", "figure question answering"),
    ("3", 3, "How long is the diagonal?", None, "cm", 1.0, "4.2", "float", "geometry problem solving"),
    ("4", 4, "Between which two rows is the square?", None, None, None, "[1, 4]", "list", "figure question answering"),
]


def mathvista():
    def query(question, choices, unit, kind):
        text = f"Hint: {HINTS[kind]}\nQuestion: {question}" + (f" (Unit: {unit})" if unit else "")
        return text + ("\nChoices:\n" + "\n".join(f"({l}) {o}" for l, o in lettered(choices).items()) if choices else "")

    parquet("mathvista/data/testmini-00000-of-00001-725687bf7a18d64b.parquet", MATHVISTA, [
        {"pid": pid, "question": question, "image": f"images/{pid}.jpg", "decoded_image": image(n), "choices": choices, "unit": unit, "precision": precision, "answer": answer,
         "question_type": "multi_choice" if choices else "free_form", "answer_type": kind, "query": query(question, choices, unit, kind),
         "metadata": {"category": "math-targeted-vqa", "context": "geometry diagram", "grade": "high school", "img_height": 8, "img_width": 8, "language": "english",
                      "skills": ["geometry reasoning"], "source": "own", "split": "testmini", "task": task}}
        for pid, n, question, choices, unit, precision, answer, kind, task in MATHVISTA_ROWS
    ])
    tsv("mathvista/vlmevalkit/MathVista_MINI.tsv", [
        {"index": pid, "image": coded(n), "question": query(question, choices, unit, kind), "question_type": "multi_choice" if choices else "free_form", "answer_type": kind,
         "task": task, "choices": str(choices) if choices else "", "answer": answer, "precision": "" if precision is None else precision}
        for pid, n, question, choices, unit, precision, answer, kind, task in MATHVISTA_ROWS
    ])


# ---------------------------------------------------------------- AI2D

AI2D_ROWS = [
    (1, "What is labelled A?", ["the square", "the ground", "the sky", "the frame"], 0),
    (1, "What lies around the square?", ["water", "the ground", "sand", "nothing"], 1),
    (2, "Which label is on top?", ["E", "F", "G", "H"], 3),
]


def ai2d():
    parquet("ai2d/data/test-00000-of-00001.parquet", {"question": TEXT, "options": TEXTS, "answer": TEXT, "image": IMAGE},
            [{"question": question, "options": options, "answer": str(answer), "image": image(n)} for n, question, options, answer in AI2D_ROWS])
    tsv("ai2d/vlmevalkit/AI2D_TEST.tsv", [
        {"index": i, "image": 0 if i == 1 else coded(n), "question": question, **lettered(options), "answer": "ABCD"[answer], "category": "shapes"}
        for i, (n, question, options, answer) in enumerate(AI2D_ROWS)
    ])


# ---------------------------------------------------------------- POPE


def pope():
    schema = {"id": TEXT, "question_id": TEXT, "question": TEXT, "answer": TEXT, "image_source": TEXT, "image": IMAGE, "category": TEXT}
    rows = [
        {"id": str(i), "question_id": str(number), "question": f"Is there a {thing} in the image?", "answer": answer, "image_source": f"COCO_own_{n}", "image": image(n), "category": kind}
        for i, (number, thing, answer, n, kind) in enumerate(
            (number, thing, answer, n, kind)
            for kind, absent in (("adversarial", "frame"), ("popular", "person"), ("random", "snowboard"))
            for number, (thing, answer, n) in enumerate([("square", "yes", 1), (absent, "no", 1), ("square", "yes", 2), (absent, "no", 2)], 1)
        )
    ]
    parquet("pope/data/test-00000-of-00001.parquet", schema, rows)
    tsv("pope/vlmevalkit/POPE.tsv", [
        {"index": i, "image": coded(int(row["image_source"][-1])) if i in (0, 2) else (0 if row["image_source"].endswith("1") else 2), "question": row["question"],
         "answer": row["answer"], "category": row["category"]}
        for i, row in enumerate(rows)
    ])


# ---------------------------------------------------------------- MMStar

MMSTAR_ROWS = [
    (1, "Which color has the square?", ["white", "black", "red", "blue"], "A", "coarse perception", "image scene and topic"),
    (2, "How many squares are there?", ["0", "1", "2", "3"], "B", "fine-grained perception", "object counting"),
    (3, "What is the area of the square?", ["3", "6", "9", "12"], "C", "math", "geometry"),
]


def mmstar():
    schema = {"index": INT, "question": TEXT, "image": pa.binary(), "answer": TEXT, "category": TEXT, "l2_category": TEXT,
              "meta_info": pa.struct([("image_path", TEXT), ("source", TEXT), ("split", TEXT)])}
    parquet("mmstar/mmstar.parquet", schema, [
        {"index": i, "question": f"{question}\nOptions: " + ", ".join(f"{l}: {o}" for l, o in lettered(options).items()), "image": png(n), "answer": answer,
         "category": category, "l2_category": l2, "meta_info": {"image_path": f"images/{i}.jpg", "source": "own", "split": "val"}}
        for i, (n, question, options, answer, category, l2) in enumerate(MMSTAR_ROWS)
    ])
    tsv("mmstar/vlmevalkit/MMStar.tsv", [
        {"index": i, "question": question, "image": coded(n), "answer": answer, "category": category, "l2_category": l2, **lettered(options), "bench": "own"}
        for i, (n, question, options, answer, category, l2) in enumerate(MMSTAR_ROWS)
    ])


# ---------------------------------------------------------------- BLINK

BLINK = {"idx": TEXT, "question": TEXT, "sub_task": TEXT, **{f"image_{i}": IMAGE for i in range(1, 5)}, "choices": TEXTS, "answer": TEXT, "prompt": TEXT,
         "explanation": TEXT}
BLINK_ROWS = [
    ("Counting", 1, "How many squares are in the image?", [1], ["0", "1", "2", "3"], "(B)"),
    ("Counting", 2, "How many corners has the square?", [2], ["3", "4"], "(B)"),
    ("Jigsaw", 1, "Which image is the missing part?", [3, 4, 5], ["the second image", "the third image"], "(A)"),
    ("Multi-view_Reasoning", 1, "Did the camera move left or right?", [6, 7], ["left", "right"], "(B)"),
]


def blink():
    by_task = {}
    for task, number, question, pictures, choices, answer in BLINK_ROWS:
        prompt = f"{question}\nSelect from the following choices.\n" + "".join(f"({l}) {o}\n" for l, o in lettered(choices).items())
        images = {f"image_{i}": image(pictures[i - 1]) if i <= len(pictures) else None for i in range(1, 5)}
        by_task.setdefault(task, []).append({"idx": f"val_{task}_{number}", "question": question, "sub_task": task, **images, "choices": choices, "answer": answer,
                                             "prompt": prompt, "explanation": None})
    for task, rows in by_task.items():
        parquet(f"blink/{task}/val-00000-of-00001.parquet", BLINK, rows)
    tsv("blink/vlmevalkit/BLINK.tsv", [
        {"index": i, "image": str([coded(n) for n in pictures]) if len(pictures) > 1 else coded(pictures[0]), "question": question,
         **{l: lettered(choices).get(l, "") for l in "ABCD"}, "answer": answer.strip("()"), "category": task}
        for i, (task, _, question, pictures, choices, answer) in enumerate(BLINK_ROWS)
    ])


# ---------------------------------------------------------------- Q-Bench

QBENCH_ROWS = [
    (1, "How sharp is the square?", ["Sharp", "Blurry", "Medium"], "A", 2, 3),
    (2, "Is the picture noisy?", ["Yes", "No"], "B", 0, 0),
    (3, "What disturbs the picture most?", ["Noise", "Blur", "Glare", "Nothing"], "D", 1, 1),
]


def qbench():
    schema = {"id": INT, "image": IMAGE, "question": TEXT, "option0": TEXT, "option1": TEXT, "option2": TEXT, "option3": TEXT, "question_type": INT,
              "question_concern": INT, "correct_choice": TEXT}
    parquet("q-bench/data/dev-00000-of-00001.parquet", schema, [
        {"id": i, "image": image(n), "question": question, **{f"option{k}": options[k] if k < len(options) else "N/A" for k in range(4)}, "question_type": kind,
         "question_concern": concern, "correct_choice": answer}
        for i, (n, question, options, answer, kind, concern) in enumerate(QBENCH_ROWS)
    ])
    tsv("q-bench/vlmevalkit/Q-Bench1_VAL.tsv", [
        {"index": i, "image": coded(n), "question": question, **{l: lettered(options).get(l, "") for l in "ABCD"}, "answer": answer, "category": ["Yes/No", "What", "How"][kind]}
        for i, (n, question, options, answer, kind, _) in enumerate(QBENCH_ROWS)
    ])
    # The authors' own file and folder of pictures.
    folder = OUT / "q-bench" / "authors"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for n, *_ in QBENCH_ROWS:
        (folder / "images" / f"{n}.png").write_bytes(png(n))
    (folder / "llvisionqa_dev.json").write_text(json.dumps([
        {"img_path": f"{n}.png", "question": question, "correct_ans": options["ABCD".index(answer)], "candidates": options, "type": str(kind), "concern": str(concern)}
        for n, question, options, answer, kind, concern in QBENCH_ROWS
    ], indent=1) + "\n")


IDS = ["mme", "mmbench-en", "mmbench-cn", "seed-bench", "gqa", "scienceqa", "mmmu", "mathvista", "ai2d", "pope", "mmstar", "blink", "q-bench"]

if __name__ == "__main__":
    for id in IDS:
        shutil.rmtree(OUT / id, ignore_errors=True)
    for make in (mme, mmbench, seed_bench, gqa, scienceqa, mmmu, mathvista, ai2d, pope, mmstar, blink, qbench):
        make()
