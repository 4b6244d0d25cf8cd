"""Fixtures of LLaVA-Bench in its published forms, and ROUGE-L of the Python package on many pairs of texts.

Pinned: rouge-score 0.1.2, pyarrow 26.0.1, Pillow; run:  python tests/reference/benchmarks_conversation.py

Images, questions and answers are made here; columns, file names and layout are those of the authors' edition
(haotian-liu/LLaVA, docs/LLaVA_Bench.md; `qa90_*.jsonl`), of lmms-eval's (lmms-lab/llava-bench-*) and of VLMEvalKit's.
Writes tests/golden/benchmarks/llava-bench-{wild,coco}/ and tests/golden/scorers/rouge_l.json.
"""

import json
import random

import pyarrow as pa
from benchmarks_reading import IMAGE, OUT, TEXTS, cell, encoded, kit, parquet, picture
from rouge_score.rouge_scorer import RougeScorer

QUESTIONS = [
    ("001.jpg", "conv", "What is the name of this sight?", "The sight is the old lighthouse at the harbour."),
    ("001.jpg", "detail", "Describe this photo in detail.",
     "The photo shows a white lighthouse on a rocky coast. Two gulls fly over the red roof, and a small boat lies "
     "at the pier."),
    ("001.jpg", "complex", "Why might the boat stay in the harbour?",
     "Dark clouds and high waves suggest that a storm is coming, so leaving would be dangerous."),
    ("002.jpg", "conv", "How many uncut fruits are there?", "There are three uncut fruits."),
    ("002.jpg", "detail", "Describe this photo in detail.",
     "Three purple fruits lie beside one that is cut open; its white flesh is divided into segments."),
    ("003.jpg", "complex", "Explain the joke of this picture.",
     "A dog looks at an empty bowl while its owner eats; the contrast makes it funny."),
]
CAPTIONS = {
    "001.jpg": ["A lighthouse at a harbour.", "A boat lies at the pier."],
    "002.jpg": ["Four fruits on a table, one of them is cut."],
    "003.jpg": ["A dog beside an empty bowl."],
}
NUMBERS = {"001.jpg": 1, "002.jpg": 2, "003.jpg": 3}


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def images(folder, prefix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in NUMBERS.items():
        (folder / (prefix + name)).write_bytes(picture(number, "JPEG"))


def wild():
    root = OUT / "llava-bench-wild"
    schema = {"question_id": pa.int64(), "question": pa.string(), "gpt_answer": pa.string(), "caption": pa.string(),
              "category": pa.string(), "image": IMAGE, "image_id": pa.string()}
    parquet(root / "data/train-00000-of-00001.parquet", schema, [
        {"question_id": i, "question": question, "gpt_answer": answer, "caption": "\n".join(CAPTIONS[image]),
         "category": category, "image": cell(NUMBERS[image]), "image_id": image}
        for i, (image, category, question, answer) in enumerate(QUESTIONS)
    ])
    kit(root / "vlmevalkit/LLaVABench.tsv", [
        {"index": i, "image": encoded(NUMBERS[image]), "question": question, "gpt4_ans": answer,
         "caption": "\n".join(CAPTIONS[image]), "category": category}
        for i, (image, category, question, answer) in enumerate(QUESTIONS)
    ])
    authors = root / "authors"
    lines(authors / "questions.jsonl", [
        {"question_id": i, "image": image, "category": category, "text": question}
        for i, (image, category, question, _) in enumerate(QUESTIONS)
    ])
    lines(authors / "answers_gpt4.jsonl", [
        {"question_id": i, "prompt": question, "text": answer, "answer_id": f"a{i}", "model_id": "gpt4", "metadata": {}}
        for i, (_, _, question, answer) in enumerate(QUESTIONS)
    ])
    lines(authors / "context.jsonl", [{"image": image, "caption": captions} for image, captions in CAPTIONS.items()])
    images(authors / "images")


def coco():
    root = OUT / "llava-bench-coco"
    schema = {"question_id": pa.int64(), "question": pa.string(), "answer": pa.string(), "caption": TEXTS,
              "category": pa.string(), "image": IMAGE}
    parquet(root / "data/train-00000-of-00001.parquet", schema, [
        {"question_id": i, "question": question, "answer": answer, "caption": CAPTIONS[image], "category": category,
         "image": cell(NUMBERS[image])}
        for i, (image, category, question, answer) in enumerate(QUESTIONS)
    ])
    authors = root / "authors"
    lines(authors / "qa90_questions.jsonl", [
        {"question_id": i, "image": image, "text": question, "category": category}
        for i, (image, category, question, _) in enumerate(QUESTIONS)
    ])
    lines(authors / "qa90_gpt4_answer.jsonl", [
        {"question_id": i, "text": answer, "category": category} for i, (_, category, _, answer) in enumerate(QUESTIONS)
    ])
    lines(authors / "caps_boxes_coco2014_val_80.jsonl", [
        {"id": image[:3], "image": image, "captions": captions, "instances": []} for image, captions in CAPTIONS.items()
    ])
    images(authors / "val2014", "COCO_val2014_")


def rouge():
    texts = [answer for _, _, _, answer in QUESTIONS] + [
        "", " ", "?!", "a", "A a a", "the cat sat on the mat", "The cat was sitting on the mat.", "lighthouse",
        "It isn't 3.5 % of 1,000.", "isn t it", "größer als Zürich", "grosser als zurich", "红色 的 车", "x" * 40,
        "İstanbul", "no no no no no", "mat the on sat cat the", "snake_case under-score", "line\nbreak\ttab",
    ]
    draw = random.Random(19)
    words = "a the red car is parked near two dogs and one house on hill".split()
    texts += [" ".join(draw.choices(words, k=draw.randint(1, 30))) for _ in range(20)]
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    pairs = [(a, b) for a in texts for b in texts]
    draw.shuffle(pairs)
    cases = []
    for answer, reference in pairs[:400]:
        score = scorer.score(reference, answer)["rougeL"]
        cases.append({"answer": answer, "reference": reference, "precision": score.precision, "recall": score.recall,
                      "f1": score.fmeasure})
    path = OUT.parent / "scorers/rouge_l.json"
    path.write_text("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    wild()
    coco()
    rouge()
