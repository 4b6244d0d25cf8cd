"""Fixtures for probe/bench: small files in the published schemas of NaturalBench, HallusionBench, VisOnlyQA, CountBenchQA,
PixMo-Count, VLMs are blind, HR-Bench and MME-RealWorld, with our own images and questions.

Pinned: pyarrow 26.0.1, Pillow 13.0.0, Python 3.11.  Run:  python tests/reference/benchmarks_pairs_2026.py
Writes tests/golden/benchmarks/<id>/. Column names and types are those of the datasets' cards on the hub and of the code
that reads them (lmms-eval 0.7.3, the authors' repositories); nothing of their contents is used.
"""

import base64
import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "golden" / "benchmarks"
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXT, INT, INT32, TEXTS = pa.string(), pa.int64(), pa.int32(), pa.list_(pa.string())


def png(n):
    """An image of 6 x 6 pixels with a square, different for each number."""
    picture = Image.new("RGB", (6, 6), (50 * n % 256, 70 * n % 256, 255 - 30 * n % 256))
    picture.paste((255, 255, 255), (n % 4, n % 3, n % 4 + 2, n % 3 + 2))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def image(n):
    return None if n is None else {"bytes": png(n), "path": None}


def coded(n):
    return base64.b64encode(png(n)).decode()


def parquet(path, schema, rows):
    path = OUT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in schema.items()}
    pq.write_table(pa.table(columns), path, compression="snappy")


def tsv(path, names, rows):
    path = OUT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def naturalbench():
    groups = [
        ("yes_no", "Is the kite above the shed?", "Is the kite below the shed?"),
        ("multiple_choice", "Where is the bucket?\nOption: A:On the wall; B:In the pond;",
         "Where is the goose?\nOption: A:In the pond; B:On the wall;"),
        ("yes_no", "Does the runner hold a flag?", "Does the runner hold a cup?"),
        ("yes_no", "Is any lamp lit?", "Are all of the lamps dark?"),
        ("multiple_choice", "What colour is the tent?\nOption: A:Ochre; B:Teal;", "How many poles are there?\nOption: A:Two; B:Three;"),
    ]
    rows = []
    for g, (kind, first, second) in enumerate(groups):
        right = ("Yes", "No") if kind == "yes_no" else ("A", "B")
        for at, (question, picture, answer) in enumerate(
            [(first, 0, right[0]), (first, 1, right[1]), (second, 0, right[1]), (second, 1, right[0])]
        ):
            rows.append({"Index": str(4 * g + at), "Question": question, "Image": image(2 * g + picture),
                         "Question_Type": kind, "Answer": answer})
    schema = {"Index": TEXT, "Question": TEXT, "Image": IMAGE, "Question_Type": TEXT, "Answer": TEXT}
    parquet("naturalbench/data/test-00000-of-00001.parquet", schema, rows)


def hallusion_bench():
    schema = dict.fromkeys(["category", "subcategory", "visual_input", "set_id", "figure_id", "sample_note", "question_id",
                            "question", "gt_answer_details", "gt_answer", "filename"], TEXT) | {"image": IMAGE}
    # Category, subcategory, set, then for each figure the right answers to the set's questions.
    sets = [
        ("VD", "illusion", "0", ["Is the left bar as long as the right bar?", "Is the left bar longer than the right bar?"],
         {"0": "10", "1": "01", "2": "00"}),
        ("VD", "ocr", "0", ["Does the sign say HARBOUR?"], {"0": "1", "1": "0"}),
        ("VS", "chart", "0", ["Did the mill sell more flour in May than in June?", "Did the mill sell flour in June?"],
         {"0": "11", "1": "11", "2": "01"}),
        ("VS", "map", "3", ["Is Lake Orr north of Lake Venn?"], {"0": "0", "1": "0"}),
    ]
    rows = []
    for category, subcategory, number, questions, figures in sets:
        for figure, answers in figures.items():
            blind = category == "VS" and figure == "0"
            for at, (question, answer) in enumerate(zip(questions, answers)):
                rows.append({
                    "category": category, "subcategory": subcategory, "set_id": number, "figure_id": figure,
                    "visual_input": "0" if blind else "1" if figure in "01" else "2", "sample_note": "note",
                    "question_id": str(at), "question": question, "gt_answer": answer,
                    "gt_answer_details": f"The answer is {'yes' if answer == '1' else 'no'}.",
                    "filename": None if blind else f"./hallusion_bench/{category}/{subcategory}/{number}_{figure}.png",
                    "image": None if blind else image(len(rows)),
                })
    parquet("hallusion-bench/data/image-00000-of-00001.parquet", schema, [r for r in rows if r["image"]])
    parquet("hallusion-bench/data/non_image-00000-of-00001.parquet", {k: v for k, v in schema.items() if k != "image"},
            [r for r in rows if not r["image"]])


TRUE_FALSE, LETTERS = ["True", "False"], ["a", "b", "c", "d", "e"]
REAL = {
    "geometry__triangle": TRUE_FALSE, "geometry__quadrilateral": TRUE_FALSE, "geometry__length": LETTERS,
    "geometry__angle": LETTERS, "geometry__area": LETTERS, "geometry__diameter_radius": TRUE_FALSE,
    "chemistry__shape_single": TRUE_FALSE, "chemistry__shape_multi": LETTERS[:4], "charts__extraction": LETTERS,
    "charts__intersection": TRUE_FALSE,
}
SYNTHETIC = {
    "syntheticgeometry__triangle": TRUE_FALSE, "syntheticgeometry__quadrilateral": TRUE_FALSE,
    "syntheticgeometry__length": LETTERS, "syntheticgeometry__angle": LETTERS, "syntheticgeometry__area": LETTERS,
    "3d__size": LETTERS[:3], "3d__angle": LETTERS,
}


def visonlyqa():
    schema = {"decoded_image": IMAGE, "image_path": TEXT, "question": TEXT, "answer": TEXT, "prompt_reasoning": TEXT,
              "prompt_no_reasoning": TEXT, "image_category": TEXT, "task_category": TEXT, "question_type": TEXT,
              "response_options": TEXTS, "source": TEXT, "id": TEXT}
    several = ["a,c", "d", "a,b,c,d"]
    for folder, splits in (("visonlyqa-real", REAL), ("visonlyqa-synthetic", SYNTHETIC)):
        for s, (split, options) in enumerate(splits.items()):
            category, task = split.removeprefix("synthetic").split("__")
            rows = []
            for n in range(3):
                multi = task == "shape_multi"
                listed = " ".join(f"({o}) {10 * i + n + s}" for i, o in enumerate(options))
                question = f"Is corner {n} of the {task} drawn? True or False?" if options == TRUE_FALSE else \
                    f"List the figures with a ring of {n}." if multi else f"What is the {task} of part {n}? {listed} "
                said = ", ".join(options)
                rows.append({
                    "decoded_image": image(10 * s + n), "image_path": f"images/{category}/{n}.png", "question": question,
                    "answer": several[n] if multi else options[(n + s) % len(options)],
                    "prompt_reasoning": f"{question}\n\nExplain, then give the final answer ({said}).",
                    "prompt_no_reasoning": f"{question}\n\nGive only the final answer ({said}).",
                    # The published rows of 3d__angle say "size".
                    "image_category": category, "task_category": "size" if category == "3d" else task,
                    "question_type": "multiple_answers" if multi else "single_answer", "response_options": options,
                    "source": "ours", "id": f"visonlyqa_{split}_{n}",
                })
            parquet(f"{folder}/data/{split}-00000-of-00001.parquet", schema, rows)


def counting():
    things = [("geese", 3), ("oars", 10), ("bells", 2), ("doors", 7), ("sails", 5), ("owls", 4), ("drums", 9), ("vans", 6)]
    rows = [{"image": image(i), "text": f"A photo with {n} {what}", "question": f"How many {what} are there in the image?",
             "number": n} for i, (what, n) in enumerate(things)]
    schema = {"image": IMAGE, "text": TEXT, "question": TEXT, "number": INT32}
    parquet("countbenchqa/data/test-00000-of-00001.parquet", schema, rows)
    # The questions begin with the image token; two answers are written as sentences.
    rows = [{"image": image(i), "question": f"<image>\nHow many {what} are in the image?" if i % 2 else f"How many {what} are there?",
             "answer": f"There are {n} {what}." if i in (2, 5) else str(n)} for i, (what, n) in enumerate(things)]
    parquet("pixmo-count/data/test-00000-of-00001.parquet", {"image": IMAGE, "question": TEXT, "answer": TEXT}, rows)


BRACES = "Put your answer in curly brackets, e.g., {9}."
BLIND = [
    ("Line Plot Intersections", f"How often do the teal and grey lines meet? {BRACES}", ["0", "1", "2"]),
    ("Touching Circles", "Do the two circles touch? Answer with Yes/No.", ["Yes", "No", "Yes"]),
    ("Circled Letter", "Which letter has a ring around it?", ["w", "T", "a"]),
    ("Olympic Counting - Circles", "How many circles are there? Answer with only the number in numerical format.", ["5", "8", "9"]),
    ("Olympic Counting - Pentagons", "How many pentagons are there? Answer with only the number in numerical format.", ["6", "7"]),
    ("Nested Squares", f"How many squares are there? {BRACES}", ["2", "5"]),
    ("Counting Grid - Blank Grids", "Count rows and columns, e.g., rows={8} columns={9}", ["3,4", "5,5"]),
    ("Counting Grid - Word Grids", "Count rows and columns as a pair (row, column), e.g., (8,9)", ["4,6", "3,3"]),
    ("Subway Connections", f"How many paths of one colour go from A to D? {BRACES}", ["0", "3"]),
]


def vlms_are_blind():
    rows = [{"image": image(i), "task": task, "prompt": prompt, "groundtruth": answer, "metadata": "{}"}
            for i, (task, prompt, answer) in enumerate((t, p, a) for t, p, answers in BLIND for a in answers)]
    schema = {"image": IMAGE, "task": TEXT, "prompt": TEXT, "groundtruth": TEXT, "metadata": TEXT}
    parquet("vlms-are-blind/data/valid-00000-of-00001.parquet", schema, rows)


def hr_bench():
    questions = [
        ("single", "What is written on the barrel?", ["Salt", "Malt", "Oats", "Rye"], 0),
        ("single", "What colour is the hatch?", ["Ochre", "Teal", "Grey", "Pink"], 2),
        ("single", "What colour is the hatch?", ["Red", "Teal", "Black", "White"], 1),
        ("cross", "Where is the heron relative to the sluice?", ["Left of it", "Right of it", "On it", "Under it"], 3),
        ("cross", "Which of the poles is longer?", ["The near one", "The far one", "Both alike", "There is one pole"], 0),
    ]
    for size, kept in (("4k", 5), ("8k", 3)):
        rows = []
        for n, (category, question, options, right) in enumerate(questions[:kept]):
            for shift in range(4):
                turned = options[shift:] + options[:shift]
                rows.append({"index": len(rows), "question": question, "answer": "ABCD"[(right - shift) % 4], "category": category,
                             **dict(zip("ABCD", turned)), "cycle_category": f"cycle_{shift}", "image": coded(n)})
        schema = {"index": INT, "question": TEXT, "answer": TEXT, "category": TEXT, "A": TEXT, "B": TEXT, "C": TEXT, "D": TEXT,
                  "cycle_category": TEXT, "image": TEXT}
        parquet(f"hr-bench-{size}/hr_bench_{size}.parquet", schema, rows)
        tsv(f"hr-bench-{size}/vlmevalkit/hr_bench_{size}.tsv", list(schema), rows)


NONE = "(E) The image shows nothing of this kind."
REAL_WORLD = [
    ("Perception/Monitoring", "Vehicle/counting", "How many barges are there?", ["4", "5", "6", "7"], "B"),
    ("Perception/Monitoring", "Vehicle/attribute/color", "What colour is the barge?", ["Red", "Teal", "Grey", "Ochre"], "C"),
    ("Perception/Autonomous_Driving", "Objects_Identify", "What is ahead of the car?", ["A cart", "A tram", "A gate", "A goat"], "A"),
    ("Perception/Autonomous_Driving", "Attribute_Visual_TrafficSignal", "Which light is on?", ["Red", "Amber", "Green", "None"], "E"),
    ("Perception/OCR with Complex Context", "scene text recognition", "What does the board say?", ["Fish", "Dish", "Wish", "Dash"], "D"),
    ("Perception/Diagram and Table", "table", "What is the value for Tuesday?", ["12", "21", "13", "31"], "A"),
    ("Perception/Remote Sensing", "color", "What colour is the roof?", ["Red", "Blue", "Grey", "Pink"], "B"),
    ("Reasoning/Monitoring", "calculate", "How many wheels are there in total?", ["8", "12", "16", "20"], "C"),
    ("Reasoning/Autonomous_Driving", "Prediction_Intention_Ego", "What will the tram do?", ["Stop", "Turn", "Go on", "Reverse"], "D"),
    ("Reasoning/OCR with Complex Context", "character identification", "Who wrote the note?", ["Ada", "Ben", "Cleo", "Dora"], "A"),
    ("Reasoning/Diagram and Table", "diagram", "Which month is best?", ["May", "June", "July", "August"], "E"),
    ("Reasoning/Diagram and Table", "table", "Which shop earns more per person?", ["North", "South", "East", "West"], "B"),
]


def mme_realworld():
    schema = {"index": INT, "bytes": TEXT, "path": TEXT, "question": TEXT, "multi-choice options": TEXTS, "answer": TEXT,
              "category": TEXT, "l2-category": TEXT}
    rows = [{"index": i, "bytes": coded(i), "path": f"ours/{i}.png", "question": question, "answer": answer, "category": category,
             "multi-choice options": [f"({letter}) {o}" for letter, o in zip("ABCD", options)] + [NONE], "l2-category": task}
            for i, (category, task, question, options, answer) in enumerate(REAL_WORLD)]
    for i, part in enumerate((rows[:7], rows[7:])):
        parquet(f"mme-realworld/data/train-{i:05}-of-00002.parquet", schema, part)
    parquet("mme-realworld-lite/data/train-00000-of-00001.parquet", schema, rows[::2])


for make in (naturalbench, hallusion_bench, visonlyqa, counting, vlms_are_blind, hr_bench, mme_realworld):
    make()
