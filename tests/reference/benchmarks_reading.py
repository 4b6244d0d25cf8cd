"""Small fixtures in the published schemas of the benchmarks of text reading and fine detail.

Pinned: pyarrow 26.0.1, Pillow; run:  python tests/reference/benchmarks_reading.py

Images and questions are made here; columns, types and directory layout are those of the published datasets (see each
benchmark's source). `vlmevalkit/<NAME>.tsv` holds the same questions in the columns of VLMEvalKit's edition.
"""

import base64
import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "golden" / "benchmarks"
TEXTS = pa.list_(pa.string())
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(number, kind="PNG", size=8):
    """A plain image whose colour encodes its number, with a diagonal."""
    image = Image.new("RGB", (size, size), ((number * 53) % 256, (number * 97) % 256, (number * 31) % 256))
    for i in range(size):
        image.putpixel((i, i), (255, 255, 255))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def cell(number):
    return {"bytes": picture(number), "path": None}


def parquet(path, schema, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in schema.items()}
    pq.write_table(pa.table(columns), path, compression="zstd", write_statistics=False)


def kit(path, rows):
    """VLMEvalKit's edition: images in base64, or the index of the row that has the image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def encoded(number):
    return base64.b64encode(picture(number)).decode()


def chartqa():
    rows = [
        {"type": kind, "question": question, "answer": answer, "image": cell(i)}
        for i, (kind, question, answer) in enumerate([
            ("human_test", "How many bars are red?", "3"),
            ("human_test", "Is the blue line above the green one?", "Yes"),
            ("augmented_test", "What was the share in 2014?", "12.5%"),
            ("augmented_test", "Which country has the lowest value?", "Chile"),
            ("augmented_test", "How many tons were sold in 2009?", "1034.2"),
            ("human_test", "What is the difference of the two smallest values?", "0"),
        ])
    ]
    schema = {"type": pa.string(), "question": pa.string(), "answer": pa.string(), "image": IMAGE}
    parquet(OUT / "chartqa/data/test-00000-of-00001.parquet", schema, rows)
    kit(OUT / "chartqa/vlmevalkit/ChartQA_TEST.tsv", [
        {"index": i, "image": encoded(i) if i != 1 else 0, "question": r["question"],
         "answer": str([r["answer"]]) if i % 2 else r["answer"], "split": ["test_human", "test_augmented"][r["type"] == "augmented_test"]}
        for i, r in enumerate(rows)
    ])


def ocrbench():
    rows = [
        {"dataset": dataset, "question": question, "question_type": kind, "answer": answers, "image": cell(i)}
        for i, (dataset, kind, question, answers) in enumerate([
            ("IIIT5K", "Regular Text Recognition", "what is written in the image?", ["OPEN"]),
            ("ReCTS", "Irregular Text Recognition", "what is written in the image?", ["北京路"]),
            ("ORAND", "Digit String Recognition", "what is the number in the image?", ["0417"]),
            ("docVQA", "Doc-oriented VQA", "What is the date on the letter?", ["May 4, 1988", "4 May 1988"]),
            ("FUNSD", "Key Information Extraction", "what is the content in the \"TO:\" field?", ["J. Doe"]),
            ("HME100k", "Handwritten Mathematical Expression Recognition", "Please write out the expression of the formula in the image using LaTeX format.", ["\\frac { a } { B } + 1"]),
        ])
    ]
    schema = {"dataset": pa.string(), "question": pa.string(), "question_type": pa.string(), "answer": TEXTS, "image": IMAGE}
    for name in ("ocrbench", "ocrbench-strict"):
        parquet(OUT / name / "data/test-00000-of-00001.parquet", schema, rows)
    kit(OUT / "ocrbench/vlmevalkit/OCRBench.tsv", [
        {"index": i, "image": encoded(i), "question": r["question"], "answer": str(r["answer"]), "category": r["question_type"]}
        for i, r in enumerate(rows)
    ])


PEOPLE = [
    ["stop"] * 6 + ["Stop", "the sign", "halt", "red sign"],
    ["12:30"] * 5 + ["12.30"] * 3 + ["half past twelve", "unanswerable"],
    ["dr. pepper"] * 4 + ["dr pepper"] * 4 + ["pepper", "soda"],
    ["two", "2", "2", "two", "2", "3", "3", "2", "two", "ten"],
]


def textvqa():
    questions = ["what does the sign say?", "What time is it on the clock?", "which brand is it?", "How many digits are shown?"]
    tokens = [["STOP", "ALL", "WAY"], ["12:30"], [], ["4", "7"]]
    rows = [
        {
            "image_id": ["0a1b", "0a1b", "77ff", "c0de"][i], "question_id": 34602 + i, "question": q, "question_tokens": q.rstrip("?").lower().split(),
            "image": cell([0, 0, 2, 3][i]), "image_width": 8, "image_height": 8, "flickr_original_url": "", "flickr_300k_url": "",
            "answers": PEOPLE[i], "image_classes": ["Sign"], "set_name": "val", "ocr_tokens": tokens[i],
        }
        for i, q in enumerate(questions)
    ]
    schema = {
        "image_id": pa.string(), "question_id": pa.int32(), "question": pa.string(), "question_tokens": TEXTS, "image": IMAGE,
        "image_width": pa.int32(), "image_height": pa.int32(), "flickr_original_url": pa.string(), "flickr_300k_url": pa.string(),
        "answers": TEXTS, "image_classes": TEXTS, "set_name": pa.string(), "ocr_tokens": TEXTS,
    }
    for name in ("textvqa", "textvqa-ocr"):
        for part in (0, 1):
            parquet(OUT / name / f"data/validation-{part:05}-of-00002.parquet", schema, rows[2 * part : 2 * part + 2])
    kit(OUT / "textvqa/vlmevalkit/TextVQA_VAL.tsv", [
        {"index": r["question_id"], "image": encoded(i), "question": r["question"], "answer": str(r["answers"])} for i, r in enumerate(rows)
    ])


def vizwiz():
    rows = [
        {"question_id": f"VizWiz_val_{i:08}", "image": cell(i), "question": q, "answers": PEOPLE[i] if i else ["unanswerable"] * 7 + ["soup", "can", "blurry"], "category": kind}
        for i, (q, kind) in enumerate([
            ("Ok. There is another picture I hope it is a better one.", "unanswerable"), ("What time does it show?", "other"), ("What is in this can?", "other"), ("How many are left?", "number"),
        ])
    ]
    schema = {"question_id": pa.string(), "image": IMAGE, "question": pa.string(), "answers": TEXTS, "category": pa.string()}
    parquet(OUT / "vizwiz/data/val-00000-of-00001-0123456789abcdef.parquet", schema, rows)
    kit(OUT / "vizwiz/vlmevalkit/VizWiz.tsv", [
        {"index": i, "image": encoded(i), "question": r["question"], "answers": str(r["answers"])} for i, r in enumerate(rows)
    ])


def documents():
    schema = {
        "questionId": pa.string(), "question": pa.string(), "question_types": TEXTS, "image": IMAGE, "docId": pa.int64(),
        "ucsf_document_id": pa.string(), "ucsf_document_page_no": pa.string(), "answers": TEXTS, "data_split": pa.string(),
    }
    asked = [
        ("What is the date of the letter?", ["handwritten", "form"], ["12 May 2001", "12.05.2001"]),
        ("Who wrote it?", ["layout"], ["J. Doe"]),
        ("What is the total in the table?", ["table/list"], ["1,034", "$1,034"]),
    ]
    for name, split, number in (("docvqa", "validation", 49153), ("docvqa-test", "test", 57344)):
        rows = [
            {
                "questionId": str(number + i), "question": q, "question_types": kinds if split == "validation" else None, "image": cell(i // 2), "docId": 14465 + i // 2,
                "ucsf_document_id": ["pybv0228", "pkdk0226"][i // 2], "ucsf_document_page_no": "1", "answers": answers if split == "validation" else None,
                "data_split": {"validation": "val"}.get(split, split),
            }
            for i, (q, kinds, answers) in enumerate(asked)
        ]
        parquet(OUT / name / f"DocVQA/{split}-00000-of-00001.parquet", schema, rows)
        if split == "validation":
            kit(OUT / "docvqa/vlmevalkit/DocVQA_VAL.tsv", [
                {"index": r["questionId"], "image": encoded(i), "question": r["question"], "answer": str(r["answers"])} for i, r in enumerate(rows)
            ])
    schema = {
        "questionId": pa.string(), "question": pa.string(), "answers": TEXTS, "answer_type": TEXTS, "image": IMAGE, "image_url": pa.string(),
        "operation/reasoning": TEXTS, "ocr": pa.string(), "data_split": pa.string(),
    }
    asked = [
        ("What share of people walk to work?", ["14%", "14 %"], ["single span"], []),
        ("Which two colours are used?", ["red, blue", "blue, red"], ["multi-span"], []),
        ("How many icons are there?", ["6"], ["non-extractive"], ["counting"]),
    ]
    rows = [
        {
            "questionId": str(98313 + i), "question": q, "answers": answers, "answer_type": kind, "image": cell(i // 2), "image_url": f"https://example.org/{i // 2}.png",
            "operation/reasoning": how, "ocr": "{}", "data_split": "val",
        }
        for i, (q, answers, kind, how) in enumerate(asked)
    ]
    parquet(OUT / "infovqa/InfographicVQA/validation-00000-of-00001.parquet", schema, rows)
    kit(OUT / "infovqa/vlmevalkit/InfoVQA_VAL.tsv", [
        {"index": r["questionId"], "image": encoded(i), "question": r["question"], "answer": str(r["answers"])} for i, r in enumerate(rows)
    ])
    rows = [
        {"question_id": str(i), "question": q, "image": cell(i)} for i, q in enumerate(["What is the street called?", "What number is the bus?", "What does the shop sell?"])
    ]
    parquet(OUT / "st-vqa/data/test-00000-of-00001.parquet", {"question_id": pa.string(), "question": pa.string(), "image": IMAGE}, rows)


MMVP = [
    (1, "Is the door open or closed?", "(a) Open (b) Closed", "(a)"), (2, "Is the door open or closed?", "(a) Open (b) Closed", "(b)"),
    (99, "Does the elephant have long or short tusks?", "(a) Long (b) Short", "(a)"), (100, "Does the elephant have long or short tusks?", "(a) Long (b) Short", "(b)"),
    (279, "Is the elderly person standing or sitting in the picture?", "(a) Standing (b) Sitting", "(a)"),
    (280, "Is the elderly person standing or sitting in the picture?", "(a) Standing (b) Sitting", "(b)"),
]


def mmvp():
    folder = OUT / "mmvp"
    (folder / "MMVP Images").mkdir(parents=True, exist_ok=True)
    with open(folder / "Questions.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["Index", "Question", "Options", "Correct Answer"])
        writer.writerows(MMVP)
    for index, *_ in MMVP:
        (folder / "MMVP Images" / f"{index}.jpg").write_bytes(picture(index, "JPEG"))
    kit(folder / "vlmevalkit/MMVP.tsv", [
        {"index": i, "image": encoded(i), "question": q, "A": o.split("(b)")[0][4:].strip(), "B": o.split("(b)")[1].strip(), "answer": a[1].upper()}
        for i, (_, q, o, a) in enumerate(MMVP[:2])
    ])


def realworldqa():
    letter = "Please answer directly with only the letter of the correct option and nothing else."
    word = "Please answer directly with a single word or number."
    asked = [
        (f"In which direction is the front wheel turned?\n\nA. Left\nB. Straight\nC. Right\n{letter}", "C"),
        (f"How many pedestrians are there?\n{word}", "2"),
        (f"Is the traffic light green?\n{word}", "No"),
        (f"Which object is closer?\n\nA. the U.S. mailbox\nB. the car\n{letter}", "A"),
        (f"Which way does the road lead? Is it uphill or downhill?\n{word}", "Downhill"),
    ]
    rows = [{"image": cell(i), "image_path": f"{i}.webp", "question": q, "answer": a} for i, (q, a) in enumerate(asked)]
    schema = {"image": IMAGE, "image_path": pa.string(), "question": pa.string(), "answer": pa.string()}
    parquet(OUT / "realworldqa/data/test-00000-of-00001.parquet", schema, rows)
    kit(OUT / "realworldqa/vlmevalkit/RealWorldQA.tsv", [
        {"index": 0, "image": encoded(0), "question": "In which direction is the front wheel turned?", "A": "Left", "B": "Straight", "C": "Right", "D": "", "answer": "C"},
        {"index": 1, "image": encoded(1), "question": "How many pedestrians are there?", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "B"},
    ])


def cv_bench():
    schema = {
        "idx": pa.int64(), "type": pa.string(), "task": pa.string(), "image": IMAGE, "question": pa.string(), "choices": TEXTS, "answer": pa.string(), "prompt": pa.string(),
        "filename": pa.string(), "source": pa.string(), "source_dataset": pa.string(), "source_filename": pa.string(), "target_class": pa.string(), "target_size": pa.int64(),
        "bbox": pa.list_(pa.list_(pa.float64())),
    }
    # ADE20K has one row, COCO three: weights matter.
    asked = [
        ("2D", "Count", "ADE20K", "How many windows are in the image?", ["3", "1", "2", "0"], "(C)", "ade1.jpg"),
        ("2D", "Count", "COCO", "How many dogs are in the image?", ["0", "1", "2", "3", "4"], "(A)", "000000000139.jpg"),
        ("2D", "Relation", "COCO", "Considering the relative positions of the cup and the plate, where is the cup with respect to the plate?", ["left", "right"], "(B)", "000000000139.jpg"),
        ("2D", "Relation", "COCO", "Where is the lamp with respect to the bed?", ["above", "below"], "(A)", "000000000285.jpg"),
        ("3D", "Depth", "Omni3D", "Which object is closer to the camera taking this photo, the table (in red) or the chair (in blue)?", ["table", "chair"], "(A)", "s1.jpg"),
        ("3D", "Distance", "Omni3D", "Which object is closer to the lamp (in red), the bed (in blue) or the desk (in green)?", ["bed", "desk"], "(B)", "s1.jpg"),
        ("3D", "Depth", "Omni3D", "Which object is closer to the camera taking this photo, the car (in red) or the bus (in blue)?", ["car", "bus"], "(B)", "s2.jpg"),
    ]
    rows = []
    for i, (kind, task, source, question, choices, answer, file) in enumerate(asked):
        options = "\n".join(f"({chr(65 + k)}) {c}" for k, c in enumerate(choices))
        rows.append({
            "idx": i, "type": kind, "task": task, "image": cell(i), "question": question, "choices": choices, "answer": answer,
            "prompt": f"{question} Select from the following choices.\n{options}", "filename": f"img/{kind}/{task.lower()}/{source.lower()}_{i}.png", "source": source,
            "source_dataset": {"ADE20K": "ADE20K", "COCO": "COCO"}.get(source, "SUNRGBD"), "source_filename": file,
            "target_class": "dog" if (task, source) == ("Count", "COCO") else None, "target_size": 900 if (task, source) == ("Count", "COCO") else None,
            "bbox": [[1.0, 2.0, 5.0, 6.0], [2.0, 2.0, 7.0, 7.0]] if kind == "3D" else None,
        })
    for kind in ("2D", "3D"):
        chosen = [r for r in rows if r["type"] == kind]
        parquet(OUT / f"cv-bench-{kind.lower()}/test_{kind.lower()}.parquet", schema, chosen)
    kit(OUT / "cv-bench-2d/vlmevalkit/CV-Bench-2D.tsv", [
        {"index": r["idx"], "image": encoded(r["idx"]), "question": r["question"], **{c: o for c, o in zip("ABCDE", r["choices"] + [""] * 4)},
         "answer": r["answer"].strip("()"), "prompt": r["prompt"], "source": r["source"], "split": r["type"], "task": r["task"]}
        for r in rows if r["type"] == "2D"
    ])


def vstar():
    folder = OUT / "v-star"
    line = "Answer with the option's letter from the given choices directly."
    asked = [
        ("direct_attributes/sa_1.jpg", "What is the material of the glove?\n(A) rubber\n(B) cotton\n(C) kevlar\n(D) leather", "A"),
        ("direct_attributes/sa_2.jpg", "What is the color of the dog's collar?\n(A) red\n(B) light blue\n(C) black\n(D) green", "B"),
        ("relative_position/sa_1.jpg", "Is the broom on the left or right side of the folded chair?\n(A) right\n(B) left", "B"),
        ("relative_position/sa_3.jpg", "Is the dog above or below the bench?\n(A) below\n(B) above", "A"),
    ]
    lines = []
    for i, (file, text, label) in enumerate(asked):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(picture(i, "JPEG"))
        lines.append({"image": file, "text": f"{text}\n{line}", "category": file.split("/")[0], "label": label, "question_id": i})
    (folder / "test_questions.jsonl").write_text("".join(json.dumps(l) + "\n" for l in lines), encoding="utf-8")
    schema = {"image": IMAGE, "text": pa.string(), "category": pa.string(), "label": pa.string(), "question_id": pa.string()}
    parquet(folder / "table/data/test-00000-of-00001.parquet", schema, [{**l, "image": cell(i), "question_id": str(i)} for i, l in enumerate(lines)])
    kit(folder / "vlmevalkit/VStarBench.tsv", [
        {"index": i, "image": encoded(i), "question": text.split("\n")[0], **{c: o[4:] for c, o in zip("ABCD", text.split("\n")[1:] + [""] * 2)}, "answer": label, "category": file.split("/")[0]}
        for i, (file, text, label) in enumerate(asked)
    ])


for make in (chartqa, ocrbench, textvqa, vizwiz, documents, mmvp, realworldqa, cv_bench, vstar):
    make()
