"""Goldens for the benchmarks of text reading and fine detail: adversarial answers with the verdicts of published code.

References, unpacked beforehand and given as arguments (nothing of them is kept):
  --lmms   lmms_eval 0.7.3 (the wheel, unpacked)
  --study  cambrian-mllm/cambrian 539ffc3, folder eval/eval
  --kit    open-compass/VLMEvalKit e8e78f0, folder vlmeval
  --ocr    Yuliang-Liu/MultimodalOCR 794c36d, OCRBench/example.py
  --pix    google-research/pix2struct 945f27e, pix2struct/metrics.py
Python 3.11.  Run:  python tests/reference/scorers_reading.py --lmms DIR --study DIR --kit DIR --ocr FILE --pix FILE

The paper's `m4c_evaluator.py` differs from the evaluator of facebookresearch/mmf (TextVQA's authors) only in formatting. A
case has `official` and `cambrian-1`, the required verdicts of Burgess by either rules. `official` is the
verdict of the authors' deterministic rule where there is one (ChartQA, OCRBench, TextVQA, VizWiz, ANLS); for answers
with letters it is written by hand (here, and in scorers/letters.json). `cambrian-1` is always the verdict of the paper's
code. Every other reference that differs from `official` needs a reason for this kind of difference; a
difference without a reason, or a reason that no case needs, stops the script.
"""

import argparse
import ast
import contextlib
import csv
import importlib.util
import io
import json
import math
import re
import string
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

OUT = Path(__file__).resolve().parent.parent / "golden" / "scorers"
parser = argparse.ArgumentParser()
for name in ("lmms", "study", "kit", "ocr", "pix"):
    parser.add_argument(f"--{name}", required=True, type=Path)
ARGS = parser.parse_args()

# ------------------------------------------------------------------------------------------ the references


def stand_in(name, **attributes):
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(attributes)


def parts_of(path, names, **given):
    """Some functions and classes of a file, without its other imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [n for n in tree.body if getattr(n, "name", None) in names]
    space = {"re": re, "np": np, "string": string, "cp": __import__("copy"), "os": __import__("os"), **given}
    exec("from __future__ import annotations\nfrom typing import *", space)
    exec(compile(tree, str(path), "exec"), space)
    return SimpleNamespace(**{name: space[name] for name in names})


def loop_of(path, marker):
    """The innermost `for` statement without functions in a file whose text contains the marker, as code."""
    found = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.For) and marker in ast.unparse(n)]
    return compile(ast.Module(body=[found[0]], type_ignores=[]), str(path), "exec")


def module(name, path, *beside):
    sys.path[:0] = [str(p) for p in beside]
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def as_is(*_, **__):
    return lambda function: function


sys.path.insert(0, str(ARGS.lmms))
LIBRARY = ARGS.lmms / "lmms_eval"
stand_in("sacrebleu")
stand_in("tqdm", tqdm=lambda x: x)
stand_in("datasets", Dataset=object, load_dataset=None)
stand_in("loguru", logger=SimpleNamespace(info=lambda *_: None, warning=lambda *_: None, debug=lambda *_: None))
stand_in("lmms_eval.api.registry", register_metric=as_is, register_aggregation=as_is)
stand_in("lmms_eval.filters", __path__=[str(LIBRARY / "filters")])
stand_in("lmms_eval.tasks", __path__=[str(LIBRARY / "tasks")])
stand_in("lmms_eval.tasks._task_utils.file_utils", generate_submission_file=None)

from lmms_eval.api.metrics import anls as lmms_anls  # noqa: E402
from lmms_eval.tasks.chartqa.utils import relaxed_correctness as lmms_relaxed  # noqa: E402
from lmms_eval.tasks.cv_bench.utils import cv_bench_process_results  # noqa: E402
from lmms_eval.tasks.mmvp.utils import mmvp_process_results  # noqa: E402
from lmms_eval.tasks.ocrbench.utils import ocrbench_process_results  # noqa: E402
from lmms_eval.tasks.realworldqa.utils import realworldqa_process_results  # noqa: E402
from lmms_eval.tasks.textvqa.utils import textvqa_process_results  # noqa: E402
from lmms_eval.tasks.vizwiz_vqa.utils import vizwiz_vqa_process_results  # noqa: E402
from lmms_eval.tasks.vstar_bench.utils import vstar_process_results  # noqa: E402

MMF = module("m4c_evaluator", ARGS.study / "textvqa/m4c_evaluator.py", ARGS.study / "textvqa")
STUDY = {name: module(f"{name}_test", ARGS.study / f"{name}/{name}_test.py") for name in ("chartqa", "ocrbench", "textvqa", "mmvp", "realworldqa", "ade", "coco", "omni", "vstar")}
SMP = parts_of(ARGS.kit / "smp/misc.py", ["process_punctuation", "istype"])
KIT_NAMES = ["_process_digit_article", "hit_calculate", "relaxed_correctness", "levenshtein_distance", "anls_compute", "process_answer", "process_line"]
KIT = parts_of(ARGS.kit / "dataset/utils/vqa_eval.py", KIT_NAMES, listinstr=lambda many, text: any(one in text for one in many), **vars(SMP))
MATCH = parts_of(
    ARGS.kit / "utils/matching_util.py", ["can_infer_option", "can_infer_text", "can_infer"],
    _VERBOSE_ANSWER_RE=re.compile(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**"), logger=SimpleNamespace(info=lambda *_: None),
)


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        diagonal, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            diagonal, row[j + 1] = row[j + 1], min(diagonal + (x != y), row[j] + 1, row[j + 1] + 1)
    return row[-1]


PIX = parts_of(ARGS.pix, ["relaxed_correctness", "anls_metric"], editdistance=SimpleNamespace(eval=edit_distance))


def studied(name, case, **options):
    """The paper's script on a file with one answer: 1 or 0, or "error" if it stops."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(folder)
        (folder / "answers.jsonl").write_text(json.dumps({**case, "answer": case["answer"].strip()}) + "\n", encoding="utf-8")
        wrong = [] if name == "textvqa" else [folder / "wrong/wrong.jsonl"]
        try:
            STUDY[name].compute_metrics(*map(str, [folder / "answers.jsonl", *wrong, folder / "scores.csv"]), **options)
        except IndexError:
            return "error"
        with open(folder / "scores.csv", encoding="utf-8") as file:
            row = next(csv.DictReader(file))
        if name == "ocrbench":
            return ast.literal_eval(row["total_accuracy"])["accuracy"] / 100
        return float(row["accuracy"]) / (1 if name in ("ade", "coco", "omni") else 100)


# ------------------------------------------------------------------------------------------ comparing

REASONS = {
    ("lmms_eval", "ocrbench", "right"): "folds full-width letters, which the authors' script does not",
    ("VLMEvalKit", "textvqa", "less"): "normalises otherwise: `'s` is not split off, so that `mcdonald 's` is another word",
    ("VLMEvalKit", "textvqa", "wrong"): "normalises otherwise: a full stop behind a digit stays",
    ("VLMEvalKit", "vizwiz", "less"): "normalises otherwise: `'s` is not split off, so that `mcdonald 's` is another word",
    ("VLMEvalKit", "vizwiz", "wrong"): "normalises otherwise: a full stop behind a digit stays",
    ("pix2struct", "docvqa", "wrong"): "compares with case and all white space (it expects lower case), and counts a similarity of one half as 0",
    ("pix2struct", "docvqa", "less"): "compares with case and all white space: it expects texts in lower case",
    ("mmf STVQA", "docvqa", "less"): "keeps white space within the texts",
    ("mmf STVQA", "docvqa", "more"): "divides by the lengths of the trimmed texts",
}
for harness, benchmarks in {"lmms_eval": ("mmvp", "realworldqa", "cv-bench-2d", "cv-bench-3d", "v-star"), "VLMEvalKit": ("mmvp", "realworldqa", "cv-bench-2d", "cv-bench-3d", "v-star")}.items():
    for benchmark in benchmarks:
        REASONS[harness, benchmark, "wrong"] = "does not know the form in which the answer names its choice (or gives its text)"
        REASONS[harness, benchmark, "right"] = "takes a letter out of an answer that names no choice, or several, or denies one"
USED = Counter()
TABLE = {}


def kind_of(said, official):
    if said == official:
        return None
    if said in ("error", "right", "wrong"):
        return said
    if official == 0.0:
        return "right"
    return "wrong" if said == 0.0 else "less" if said < official else "more"


def compare(benchmark, case, official, cambrian, references):
    """Returns the case with its verdicts; stops at a difference without a reason."""
    differs, why = [], set()
    for harness, said in references.items():
        kind = None if isinstance(said, float) and math.isclose(said, official, abs_tol=1e-12) else kind_of(said, official)
        counts = TABLE.setdefault((benchmark, harness), Counter())
        counts["cases"] += 1
        counts["agree" if kind is None else kind] += 1
        if kind is not None:
            reason = REASONS.get((harness, benchmark, kind))
            if reason is None:
                PROBLEMS.append(f"{benchmark}: {harness} says {said} instead of {official}: {case}")
            USED[harness, benchmark, kind] += 1
            differs.append(harness)
            why.add(reason or "?")
    if cambrian is None:
        # The study has no scorer: it hands the answers in at the server, which scores by the official rule.
        cambrian = official
    elif cambrian != "error":
        TABLE.setdefault((benchmark, "study (cambrian-1)"), Counter()).update(["cases", "agree"])
    else:
        # The script stops; nothing was parsed, which is wrong and counted.
        TABLE.setdefault((benchmark, "study (cambrian-1)"), Counter()).update(["cases", "stops with an error; ours: unparsed"])
        cambrian = 0.0
    extra = {"differs": differs, "why": sorted(why)} if differs else {}
    return {**case, "official": official, "cambrian-1": cambrian, "references": references, **extra}


PROBLEMS = []

REFUSALS = ["", " ", ".", "I don't know", "I cannot answer this.", "Sorry, I can't see the image.", "unknown", "N/A", "NaN", "null", "None", "не знаю", "不知道", "keine Ahnung", "?"]

# ------------------------------------------------------------------------------------------ ChartQA


def chartqa():
    answers = {
        "100": ["100", "105", "95", "105.1", "94.9", "104.99", "1e2", "1_00", "+100", "-100", "100.", "100.0", " 100 ", "1,00", "$100", "100%", "10000%", "100 km", "about 100", "one hundred",
                "nan", "inf", "200/2", "100, 101", "[100]", "１００", "١٠٠", "꘡00", "𝟏𝟎𝟎", "The answer is 100", "100\n"],
        "0.5": ["0.5", ".5", "0.525", "0.53", "50%", "50 %", "1/2", "½", "0,5", "5e-1"],
        "12%": ["12%", "0.12", "12", "12.5%", "12.7%", "0.126", "12 %", "12%%", "12 percent"],
        "0": ["0", "0.0", "-0", "0%", "00", "zero", "0.0001"],
        "1,234": ["1,234", "1234", "1,235", "1234.0"],
        "2014": ["2014", "2015", "1914", "2115", "in 2014"],
        "nan": ["nan", "NaN", "0"], "inf": ["inf", "infinity", "1e999"],
        "Yes": ["yes", "Yes", "yes.", "no", "true", "Yes, it is"],
        "Red": ["Red", "RED", "red.", "the red one", "rot", "[Red]", "Red, blue"],
        "[2, 5]": ["[2, 5]", "[2,5]", "2, 5", "2"],
        "3/4": ["3/4", "0.75", "75%"],
    }
    cases = []
    for gold, said in answers.items():
        for answer in said + (REFUSALS if gold == "100" else []):
            stripped = answer.strip()
            official = float(PIX.relaxed_correctness(gold, stripped))
            references = {
                "pix2struct": official, "lmms_eval": float(lmms_relaxed(stripped, gold)),
                # Its table holds answers as lists where they could be mistaken for one.
                "VLMEvalKit": float(np.max(KIT.process_line({"answer": str([gold]), "prediction": answer}, "relaxed_accuracy")["match"])),
            }
            cambrian = studied("chartqa", {"answer": answer, "gt_answer": gold})
            cases.append(compare("chartqa", {"answer": answer, "gold": {"answer": gold}}, official, cambrian, references))
    return cases


# ------------------------------------------------------------------------------------------ OCRBench

MATHS = "Handwritten Mathematical Expression Recognition"


def ocrbench():
    golds = [
        ("IIIT5K", "Regular Text Recognition", ["OPEN"], ["OPEN", "open", "Open.", "It says OPEN.", "REOPENED", "O P E N", "0PEN", "OP\nEN", "ＯＰＥＮ", "**OPEN**", "not open", "NEPO", "ouvert", "OPEN, CLOSED", "The sign reads:\nOPEN"]),
        ("ORAND", "Digit String Recognition", ["0417"], ["0417", "417", "10417", "0 417", "0417 km", "０４１７", "0417%", "0,417"]),
        ("docVQA", "Doc-oriented VQA", ["May 4, 1988", "4 May 1988"], ["May 4, 1988", "may 4, 1988", "4 May 1988", "4 may 1988.", "May 4 1988", "May 4,\n1988", "May  4, 1988", "4.5.1988", "on May 4, 1988", "1988", "May 4, 1988 or 4 May 1988"]),
        ("HME100k", MATHS, ["\\frac { a } { B } + 1"], ["\\frac { a } { B } + 1", "\\frac{a}{B}+1", "\\frac{a}{b}+1", "\\frac{A}{B}+1", "$\\frac{a}{B}+1$", "\\frac{a}\n{B} + 1", "\\frac{a}\t{B}+1", "a/B + 1", "\\dfrac{a}{B}+1", "= \\frac { a } { B } + 1 = 0"]),
        ("ReCTS", "Irregular Text Recognition", ["北京路"], ["北京路", "北京", "北 京 路", "图中写着北京路。", "北京\n路", "BEIJING ROAD"]),
        ("textVQA", "Scene Text-centric VQA", ["Café Élan"], ["café élan", "CAFÉ ÉLAN", "cafe elan", "Cafe\u0301 E\u0301lan", "café  élan", "the Café Élan!"]),
    ]
    script = loop_of(ARGS.ocr, "data[i]['result'] = 0")
    kit = loop_of(ARGS.kit / "dataset/image_vqa.py", "predict = predict.lower().strip()")
    cases, strict = [], []
    for dataset, kind, accepted, said in golds:
        for answer in said + (REFUSALS if dataset == "IIIT5K" else []):
            rows = [{"type": kind, "dataset_name": dataset, "answers": list(accepted), "predict": answer}]
            exec(script, {"data": rows})
            official = float(rows[0]["result"])
            score = Counter()
            exec(kit, {"lines": [{"prediction": answer, "answer": str(accepted), "category": kind}], "OCRBench_score": score, "tqdm": lambda x: x})
            library = ocrbench_process_results({"answer": list(accepted), "dataset": dataset, "question_type": kind}, [answer])["ocrbench_accuracy"]["score"]
            references = {"OCRBench script": official, "lmms_eval": float(library), "VLMEvalKit": float(score[kind])}
            row = {"answer": answer, "gt_answer": accepted, "category": kind}
            case = {"answer": answer, "gold": {"answer": accepted[0], "accepted": accepted, "subtask": kind, "facts": {"dataset": dataset}}}
            cases.append(compare("ocrbench", case, official, studied("ocrbench", row, extra_penalization=False), references))
            exact = studied("ocrbench", row, extra_penalization=True)
            strict.append(compare("ocrbench-strict", case, exact, exact, {}))
    return cases, strict


# ------------------------------------------------------------------------------------------ VQA accuracy

CROWDS = [
    ["stop"] * 6 + ["Stop", "the sign", "halt", "red sign"],
    ["2"] * 3 + ["two"] * 2 + ["3", "three", "none", "0", "10"],
    ["dr. pepper"] * 4 + ["dr pepper"] * 2 + ["pepper", "soda", "Dr.Pepper", "a dr. pepper"],
    ["1,000"] * 2 + ["1000"] * 2 + ["1,000.50", "1.000", "$1,000", "1 000", "one thousand", "1000?"],
    ["don't walk"] * 3 + ["dont walk"] * 2 + ["do not walk", "walk", "DON'T WALK", "don't  walk", "don’t walk"],
    ["mcdonald's"] * 2 + ["mcdonalds", "mcdonald 's", "McDonald's", "mc donalds", "the mcdonald's", "burger", "mc-donald's", "mcdonald"],
    ["12:30"] * 5 + ["12.30", "half past 12", "12 : 30", "12:30 pm", "12:30pm"],
    ["coca-cola"] * 2 + ["coca cola"] * 2 + ["coke", "cocacola", "Coca - Cola", "coca-cola!", "a coca/cola", "coca cola."],
    ["unanswerable"] * 9 + ["unsuitable"],
    ["yes"] * 1 + ["no", "maybe", "y'all", "yall", "Unanswerable", "none", "an", "e.g. this", "3.5"],
]
SAID = {
    0: ["stop", "Stop", "STOP.", "stop!", "the stop", "a stop", "stop sign", "halt", "red-sign", "red sign", "sign", "stop stop", "stop\n", "\tstop", "s.t.o.p", "stop?", "(stop)", "\"stop\"", "it says stop", "стоп", "停", "stop, sign"] + REFUSALS,
    1: ["2", "two", "Two.", "2.", "2.0", "three", "3", "0", "zero", "None", "10", "ten", "one", "２", "2%", "2 cups", "two cups", "1/2", "2, 3", "two or three"],
    2: ["dr. pepper", "dr pepper", "Dr.Pepper", "dr.pepper", "the dr. pepper", "Dr. Pepper.", "dr-pepper", "drpepper", "an dr pepper", "dr., pepper"],
    3: ["1,000", "1000", "1.000", "1 000", "$1,000", "1,000.50", "1000.50", "1000.5", "1,000,000", "one thousand", "1, 000", "1000?", "1‚000"],
    4: ["don't walk", "dont walk", "Dont Walk", "do not walk", "don’t walk", "don`t walk", "don't", "DON'T WALK!", "walk don't", "donʼt walk"],
    5: ["mcdonald's", "McDonalds", "mcdonald 's", "mcdonald s", "mc-donald's", "mc donald's", "mcdonald's restaurant", "Mcdonald'S"],
    6: ["12:30", "12.30", "12:30.", "12 : 30", "12: 30", "12:30 pm", "12:30pm", "1230", "half past twelve", "0:30"],
    7: ["coca-cola", "coca cola", "cocacola", "coca - cola", "Coca-Cola!", "coca- cola", "coca/cola", "coca_cola", "coca+cola", "coca;cola", "coca\\cola", "[coca] cola", "<coca cola>", "coca@cola", "{coca}{cola}", "coca=cola"],
    8: ["unanswerable", "Unanswerable", "unsuitable", "it is unanswerable", "Unanswerable.", "un answerable", "not answerable"],
    9: ["yes", "y'all", "yall", "no", "none", "a", "an", "the", "e.g. this", "eg this", "e.g.this", "3.5", "3.5.", "3 .5", "Im", "I'm", "hes", "hed've", "somebody'd", "ow's'at", "x" + "." * 40, "a.b" * 40, "٣.٥", ".5", "5.", "mightn'tve"],
}


def vqa(name, process):
    cases = []
    for i, said in SAID.items():
        for answer in said:
            people = CROWDS[i]
            official = MMF.TextVQAAccuracyEvaluator().eval_pred_list([{"pred_answer": answer, "gt_answers": people}])
            line = {"answer": str(people), "prediction": answer}
            references = {
                "mmf evaluator": official,
                "lmms_eval": float(process({"answers": list(people), "question_id": 1}, [answer])["exact_match"]),
                "VLMEvalKit": float(KIT.hit_calculate([KIT.process_line(line, "vqa_score")], {"textvqa": "TextVQA_VAL", "vizwiz": "VizWiz"}[name])[0]),
            }
            cambrian = studied("textvqa", {"answer": answer, "gt_answer": people})
            cases.append(compare(name, {"answer": answer, "gold": {"answer": people[0], "accepted": people}}, official, cambrian, references))
    return cases


# ------------------------------------------------------------------------------------------ ANLS


def documents():
    answers = {
        ("12 May 2001", "12.05.2001"): ["12 May 2001", "12.05.2001", "12 may 2001", "12 May 2002", "12/05/2001", "May 2001", "12  May\t2001", "2001", "the 12 May 2001", "12 May 2001.", "May 12, 2001", "12052001", "12 mai 2001"],
        ("J. Doe",): ["J. Doe", "j. doe", "J Doe", "J.Doe", "Doe", "John Doe", "J. Doe, PhD", "Mr. J. Doe", "J. Do", "J. D", "J.", "J. DOE\n"],
        ("1,034", "$1,034"): ["1,034", "$1,034", "1034", "$1034", "1.034", "1,034.00", "1,034 USD", "one thousand", "１,034", "1,035", "34"],
        ("14%", "14 %"): ["14%", "14 %", "14", "0.14", "14 percent", "15%", "41%", "fourteen percent"],
        ("red, blue", "blue, red"): ["red, blue", "blue, red", "red,blue", "red and blue", "Red & Blue", "red", "red blue", "blue", "[red, blue]", "red; blue", "rot, blau"],
        ("ab",): ["ab", "ac", "a", "cd", "abc", "abcd", "abcde"],
        ("café",): ["cafe", "CAFÉ", "café au lait", "cafe\u0301"],
        ("straße",): ["STRASSE", "strasse", "straße", "STRAẞE"],
        ("ΟΔΟΣ",): ["οδος", "οδοσ", "ΟΔΟΣ"],
        ("İzmir",): ["izmir", "İZMİR", "İzmir"],
    }
    cases = []
    for accepted, said in answers.items():
        for answer in said + (REFUSALS if accepted[0] == "J. Doe" else []):
            stripped = answer.strip()
            official = float(lmms_anls(list(accepted), [stripped])["anls"])
            line = KIT.process_line({"answer": str(list(accepted)), "prediction": stripped}, "anls")
            st = MMF.STVQAANLSEvaluator.__new__(MMF.STVQAANLSEvaluator)
            st.get_edit_distance = edit_distance
            references = {
                "RRC rule (lmms_eval)": official,
                "VLMEvalKit": float(KIT.hit_calculate([line], "DocVQA_VAL")[0]),
                "pix2struct": float(max(PIX.anls_metric(g, stripped) for g in accepted)),
                "mmf STVQA": float(max(st.get_anls(stripped, g) for g in accepted)),
            }
            cases.append(compare("docvqa", {"answer": answer, "gold": {"answer": accepted[0], "accepted": list(accepted)}}, official, None, references))
    return cases


# ------------------------------------------------------------------------------------------ letters


def inferred(answer, options, gold):
    """VLMEvalKit's exact matching, without the judge model that it asks if this fails."""
    found = MATCH.can_infer(answer, {chr(65 + i): o for i, o in enumerate(options)})
    return float(found == gold)


TWO = [
    # Answers to a question with the choices Open and Closed, and the choice that they name.
    ("A", "A"), ("B", "B"), ("a", "A"), ("b", "B"), ("(a)", "A"), ("(b)", "B"), ("(A)", "A"), ("(B)", "B"), ("A.", "A"), ("B.", "B"), ("a.", "A"), ("b)", "B"), ("B)", "B"), ("(b).", "B"), ("(a) Open", "A"), ("(b) Closed", "B"),
    ("A. Open", "A"), ("B. Closed", "B"), ("b: closed", "B"), ("Open", "A"), ("open", "A"), ("Closed", "B"), ("closed.", "B"), ("CLOSED", "B"), ("\"Open\"", "A"), ("The answer is (b)", "B"), ("The answer is B.", "B"), ("The answer is: b", "B"),
    ("Answer: A", "A"), ("answer: (b)", "B"), ("The answer is closed", "B"), ("The answer is open.", "A"), ("The correct option is A.", "A"), ("Option B", "B"), ("The door is closed, so the answer is B", "B"), ("B because it is shut", "B"),
    ("**B**", "B"), ("[B]", "B"), ("`a`", "A"), (" b ", "B"), ("B\n", "B"), ("B\nThe door is closed.", "B"), ("Of the two, (b) fits.", "B"), ("First I thought the answer is A, but the answer is B", "B"),
    ("", None), (" ", None), (".", None), ("C", None), ("(c)", None), ("A or B", None), ("(a) or (b)", None), ("A, B", None), ("AB", None), ("(a) Open (b) Closed", None), ("Both", None), ("A door", None), ("a closed door", None), ("Ajar", None),
    ("not (b)", None), ("The answer is not B", None), ("neither", None), ("I don't know", None), ("Sorry, I can't see the image.", None), ("NaN", None), ("null", None), ("zu", None), ("打开", None), ("Б", None), ("1", None), ("yes", None), ("Because it is open", None),
    ("The door is open.", None), ("The door is closed", None),
]


def mmvp():
    options = ["Open", "Closed"]
    cases = []
    for gold in ("(a)", "(b)"):
        for answer, named in TWO:
            official = float(named == gold[1].upper())
            doc = {"Index": 1, "Question": "Is the door open or closed?", "Options": "(a) Open (b) Closed", "Correct Answer": gold}
            references = {
                "lmms_eval": float(mmvp_process_results(doc, [answer])["mmvp_accuracy"]["is_correct"]),
                "VLMEvalKit": inferred(answer, options, gold[1].upper()),
            }
            row = {"answer": answer, "text_options": options, "gt_answer": gold}
            facts = {"Options": doc["Options"], "published": gold}
            cases.append(compare("mmvp", {"answer": answer, "gold": {"answer": gold, "options": options, "facts": facts}}, official, studied("mmvp", row), references))
    return cases


def letter_cases():
    """Answers and the choices that they name, from the goldens of the letter parser."""
    return [c for c in json.loads((OUT / "letters.json").read_text(encoding="utf-8")) if len(c["options"]) in (2, 4)]


def cv_bench(part):
    cases = []
    for c in letter_cases():
        if (len(c["options"]) == 4) != (part == "2d"):
            continue
        for letter in ("A", "B"):
            gold, official = f"({letter})", float(c["expected"] == letter)
            doc = {"answer": gold, "idx": 0, "type": part.upper(), "task": "Count", "source": "COCO"}
            references = {
                "lmms_eval": float(cv_bench_process_results(doc, [c["answer"]])["cv_bench_acc"]["is_correct"]),
                "VLMEvalKit": inferred(c["answer"], c["options"], letter),
            }
            row = {"answer": c["answer"], "gt_answer": gold, "category": "Count", "options": c["options"]}
            both = {studied(name, row) for name in (["ade", "coco"] if part == "2d" else ["omni"])}
            cases.append(compare(f"cv-bench-{part}", {"answer": c["answer"], "gold": {"answer": gold, "options": c["options"]}}, official, both.pop(), references))
            assert not both, c
    return cases + ([] if part == "2d" else three_d())


def three_d():
    """Further answers to questions with two choices."""
    cases = []
    for answer, named in TWO:
        official = float(named == "B")
        options = ["Open", "Closed"]
        doc = {"answer": "(B)", "idx": 0, "type": "3D", "task": "Depth", "source": "Omni3D"}
        references = {
            "lmms_eval": float(cv_bench_process_results(doc, [answer])["cv_bench_acc"]["is_correct"]),
            "VLMEvalKit": inferred(answer, options, "B"),
        }
        row = {"answer": answer, "gt_answer": "(B)", "category": "Depth", "options": options}
        cases.append(compare("cv-bench-3d", {"answer": answer, "gold": {"answer": "(B)", "options": options}}, official, studied("omni", row), references))
    return cases


def vstar():
    cases = []
    for c in letter_cases():
        for letter in ("A", "B"):
            official = float(c["expected"] == letter)
            doc = {"label": letter, "text": "?", "question_id": 0, "category": "direct_attributes"}
            references = {
                "lmms_eval": float(vstar_process_results(doc, [c["answer"]])["vstar_overall_acc"]["score"]),
                "VLMEvalKit": inferred(c["answer"], c["options"], letter),
            }
            row = {"answer": c["answer"], "gt_answer": letter}
            cases.append(compare("v-star", {"answer": c["answer"], "gold": {"answer": letter, "options": c["options"]}}, official, studied("vstar", row), references))
    return cases


OPEN = {
    # Right answer, answers, those of them that are right.
    "2": (["2", "2.", " 2 ", "two", "2 people", "2.0", "２", "1/2", "2, 3", "The answer is 2", "Answer: 2.", "2%", "12"], {"2", "2.", " 2 "}),
    "No": (["No", "no", "NO.", "No, it is red", "nope", "The answer is no", "The answer is no.", "none", "No no", "no\n", "нет", "Yes"], {"No", "no", "NO.", "no\n"}),
    "Downhill": (["Downhill", "downhill.", "DOWNHILL", "down hill", "downhill road", "It is downhill", "uphill", "The answer is: downhill"], {"Downhill", "downhill.", "DOWNHILL"}),
    "To the left": (["To the left", "to the left.", "left", "To", "Left", "to"], {"To the left", "to the left."}),
}


def realworldqa():
    cases = []
    for gold, (answers, right) in OPEN.items():
        for answer in answers + (REFUSALS if gold == "2" else []):
            references = {"lmms_eval": float(realworldqa_process_results({"answer": gold}, [answer])["exact_match"])}
            cambrian = studied("realworldqa", {"answer": answer, "gt_answer": gold})
            cases.append(compare("realworldqa", {"answer": answer, "gold": {"answer": gold}}, float(answer in right), cambrian, references))
    for c in letter_cases():
        if len(c["options"]) == 4:
            official = float(c["expected"] == "B")
            references = {
                "lmms_eval": float(realworldqa_process_results({"answer": "B"}, [c["answer"]])["exact_match"]),
                "VLMEvalKit": inferred(c["answer"], c["options"], "B"),
            }
            cambrian = studied("realworldqa", {"answer": c["answer"], "gt_answer": "B"})
            cases.append(compare("realworldqa", {"answer": c["answer"], "gold": {"answer": "B", "options": c["options"]}}, official, cambrian, references))
    return cases


def main():
    plain, strict = ocrbench()
    goldens = {
        "chartqa": chartqa(), "ocrbench": plain, "ocrbench-strict": strict, "textvqa": vqa("textvqa", textvqa_process_results), "vizwiz": vqa("vizwiz", vizwiz_vqa_process_results),
        "docvqa": documents(), "mmvp": mmvp(), "realworldqa": realworldqa(), "cv-bench-2d": cv_bench("2d"), "cv-bench-3d": cv_bench("3d"), "v-star": vstar(),
    }
    unused = [key for key in REASONS if not USED[key]]
    if PROBLEMS or unused:
        sys.exit("\n".join(PROBLEMS + [f"no case needs the reason {key}" for key in unused]))
    for name, cases in goldens.items():
        lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
        (OUT / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    for (benchmark, harness), counts in TABLE.items():
        print(f"{benchmark:16} {harness:22} {dict(counts)}")


main()
