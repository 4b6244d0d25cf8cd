"""Goldens for probe/bench: scores, prompts and numbers of the grounding, OCR, chart, VQA and spatial benchmarks of 2024 to 2026.

Pinned: lmms_eval 0.7.3 (`pip download --no-deps lmms-eval==0.7.3`, unpacked into DIR); repositories unpacked into REFERENCES (`git archive`, one folder each):
`ocrbench_v2` Yuliang-Liu/MultimodalOCR 794c36d6 OCRBench_v2/eval_scripts, `charxiv` princeton-nlp/CharXiv 7ebe88f7 src, `vsi` vision-x-nyu/thinking-in-space 51e089c3
lmms_eval/tasks/vsibench, `vqa` GT-Vision-Lab/VQA a013f004 PythonEvaluationTools, `seeclick` njucckevin/SeeClick 0ef37ac4 pretrain; Python 3.11, numpy 2.4.6, pandas 3.1.1,
pyarrow 26.0.1, Pillow, datasets 5.0, apted, distance, editdistance, jieba, Levenshtein 0.27.5, loguru, lxml, nltk, Polygon3 3.0.9, PyYAML, zss.
Run:  PYTHONPATH=DIR python tests/reference/scorers_open_2026.py REFERENCES

`scorers/open_2026/<id>.json` holds, for the rows of the fixture (`benchmarks/<id>`, rows numbered as lmms-eval numbers them): `prompts` by rules and row; `cases`, each a row, an answer
and its score by rules (null: the code fails on it); and `runs`, answers to all rows with the numbers that are printed for them. `scorers/lmms_eval_tables-open_2026.json` has the
prompts of lmms-eval in the form of the other benchmarks.
"""

import ast
import contextlib
import copy
import importlib.util
import io
import json
import os
import random
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

import scorers_open_2026_answers as answers

REFERENCES = Path(sys.argv[1]).resolve()
GOLDEN = Path(__file__).resolve().parent.parent / "golden"
LIBRARY = Path(importlib.util.find_spec("lmms_eval").origin).parent
REASONING = [["<think>", "</think>"], ["<analysis>", "</analysis>"]]
assert json.dumps(REASONING) in (LIBRARY / "__main__.py").read_text()


def stand_in(name, **attributes):
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(attributes)


def nothing(*_, **__):
    return None


QUIET = SimpleNamespace(info=nothing, warning=nothing, debug=nothing, error=nothing)
stand_in("ipdb", set_trace=nothing)
stand_in("openai", OpenAI=object)
stand_in("lmms_eval.tasks", __path__=[str(LIBRARY / "tasks")])
sys.modules["lmms_eval.tasks"]._task_utils = import_module("lmms_eval.tasks._task_utils")
stand_in("lmms_eval.tasks._task_utils.file_utils", generate_submission_file=lambda *_, **__: "/dev/null")
sys.modules["lmms_eval.tasks._task_utils"].file_utils = sys.modules["lmms_eval.tasks._task_utils.file_utils"]
import loguru  # noqa: E402

loguru.logger.remove()
from lmms_eval.api.reasoning import strip_reasoning_tags  # noqa: E402


def lmms(name):
    return import_module(f"lmms_eval.tasks.{name}")


def source(path, name=None, change=lambda text: text):
    """A module from a file of a repository; its siblings can be imported."""
    path = REFERENCES / path
    sys.path.insert(0, str(path.parent))
    module = ModuleType(name or path.stem)
    module.__file__ = str(path)
    exec(compile(change(path.read_text()), str(path), "exec"), vars(module))
    sys.path.pop(0)
    return module


def quiet(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments)


def cleaned(answer):
    return strip_reasoning_tags(answer, REASONING).strip()


def rows(ident):
    folder = GOLDEN / "benchmarks" / ident
    lines = folder / "test.jsonl"
    if lines.exists():
        return [json.loads(line) for line in lines.read_text().splitlines()]
    return pq.read_table(next(folder.rglob("*.parquet"))).to_pylist()


# ---------------------------------------------------------------- RefCOCO, RefCOCO+, RefCOCOg

refcoco = lmms("refcoco.utils_rec")


def refcoco_docs(ident):
    from datasets import load_dataset

    found = {"data_files": str(next((GOLDEN / "benchmarks" / ident).rglob("*.parquet"))), "split": "train"}
    from datasets import Image as HubImage

    table = load_dataset("parquet", **found).cast_column("image", HubImage())
    return [dict(doc) for doc in quiet(refcoco.refcoco_bbox_rec_preprocess_dataset, table)]


def refcoco_scores(doc, answer):
    found = refcoco.refcoco_bbox_rec_process_result(doc, [cleaned(answer)])["refcoco_IoU"]
    return {"lmms-eval": float(refcoco.compute_accuracy(found["bbox"], found["pred"], 0.5))}


def refcoco_numbers(docs, said):
    found = [refcoco.refcoco_bbox_rec_process_result(doc, [cleaned(a)])["refcoco_IoU"] for doc, a in zip(docs, said)]
    return {"lmms-eval": {f"refcoco_{m}": float(quiet(refcoco.refcoco_bbox_rec_aggregation_result, found, m)) for m in refcoco.COCO_REC_METRICS}}


# ---------------------------------------------------------------- ScreenSpot-v2

screenspot, seeclick = lmms("screenspot_v2.utils"), source("seeclick/process_utils.py")
SCRIPT = ast.parse((REFERENCES / "seeclick/screenspot_test.py").read_text())
JUDGING = next(node for node in ast.walk(SCRIPT) if isinstance(node, ast.Try))
PROMPT = next(n.value.value for n in ast.walk(SCRIPT) if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "prompt_origin")


def seeclick_score(doc, answer):
    """Runs the `try` statement of the script, which judges one response."""
    state = {"response": answer, "item": doc, "bbox": doc["bbox"], "corr_action": 0, "num_action": 1, "text_correct": [], "icon_correct": [], "num_wrong_format": 0, "result": [], "j": 0,
             "img_path": "", "instruction": "", "logging": QUIET, "pred_2_point": seeclick.pred_2_point, "extract_bbox": seeclick.extract_bbox}
    exec(compile(ast.Module([JUDGING], []), "screenspot_test.py", "exec"), state)
    return float(state["corr_action"])


def screenspot_scores(doc, answer):
    return {"official": seeclick_score(doc, answer), "lmms-eval": float(screenspot.screenspot_v2_process_results(doc, [cleaned(answer)])["screenspot_v2_action_acc"]["correct"])}


def screenspot_numbers(docs, said):
    found = [screenspot.screenspot_v2_process_results(doc, [cleaned(a)])["screenspot_v2_action_acc"] for doc, a in zip(docs, said)]
    official = [seeclick_score(doc, a) for doc, a in zip(docs, said)]
    return {
        "official": {"": 100 * mean(official), **{kind: 100 * mean(s for s, d in zip(official, docs) if d["data_type"] == kind) for kind in ("text", "icon")}},
        "lmms-eval": {f"screenspot_v2_{kind}_acc": getattr(screenspot, f"screenspot_v2_{kind}_acc")(found) for kind in ("action", "text", "icon")},
    }


# ---------------------------------------------------------------- VQAv2 and OK-VQA

vqav2, okvqa = lmms("vqav2.utils"), lmms("ok_vqa.utils")
# The evaluator is written for Python 2.
vqa_eval = source("vqa/vqaEvaluation/vqaEval.py", change=lambda text: re.sub(r'print ("[^"]*")', r"print(\1)", text))


def vqa_official(docs, said):
    """The authors' evaluator; each row has its number as id."""
    annotated = {
        i: {"answers": [dict(a) if isinstance(a, dict) else {"answer": a, "answer_confidence": "yes", "answer_id": k + 1} for k, a in enumerate(d["answers"])],
            "question_type": d["question_type"], "answer_type": d["answer_type"]}
        for i, d in enumerate(docs)
    }
    judge = vqa_eval.VQAEval(SimpleNamespace(qa=annotated, getQuesIds=lambda: list(annotated)), SimpleNamespace(qa={i: {"answer": a} for i, a in enumerate(said)}), n=12)
    quiet(judge.evaluate)
    return judge


def vqa_scores(process):
    def scores(doc, answer):
        return {"official": vqa_official([doc], [answer]).accuracy["overall"] / 100, "lmms-eval": float(process(copy.deepcopy(doc), [cleaned(answer)])["exact_match"])}

    return scores


def vqa_numbers(process, parts):
    def numbers(docs, said):
        judge = vqa_official(docs, said)
        printed = mean(float(process(copy.deepcopy(d), [cleaned(a)])["exact_match"]) for d, a in zip(docs, said))
        return {"official": {"": judge.accuracy["overall"], **judge.accuracy[parts]}, "lmms-eval": {"exact_match": printed}}

    return numbers


# ---------------------------------------------------------------- VSI-Bench

vsi, vsi_official = lmms("vsibench.utils"), source("vsi/utils.py")


def vsi_score(module, doc, answer):
    doc = module.vsibench_process_results(dict(doc), [answer])
    doc = doc.get("vsibench_score", doc.get("vsibench_overall"))
    return float(doc["accuracy"] if "accuracy" in doc else doc["MRA:.5:.95:.05"])


def vsi_scores(doc, answer):
    return {"official": vsi_score(vsi_official, doc, answer), "lmms-eval": vsi_score(vsi, doc, cleaned(answer))}


def vsi_numbers(docs, said):
    judged = [vsi_official.vsibench_process_results(dict(d), [a])["vsibench_score"] for d, a in zip(docs, said)]
    vsi_official.eval_logger = QUIET
    official = vsi_official.vsibench_aggregate_results(judged)
    # Subtasks carry the name of the question type; the three directions are further one number.
    named = {"" if k == "overall" else k.rsplit("_", 1)[0]: v for k, v in official.items() if not k.startswith("tab")}
    results = [vsi.vsibench_process_results(dict(d), [cleaned(a)])["vsibench_overall"] for d, a in zip(docs, said)]
    names = ["obj_appearance_order_accuracy", "object_abs_distance_mra", "object_counting_mra", "object_rel_distance_accuracy", "object_size_estimation_mra", "room_size_estimation_mra",
             "route_planning_accuracy", "object_rel_direction_accuracy"]
    printed = {"vsibench_overall": vsi.vsibench_aggregate_overall(results), **{n: getattr(vsi, f"vsibench_aggregate_{n}")(results) for n in names}}
    return {"official": named, "lmms-eval": {k: float(v) for k, v in printed.items()}}


# ---------------------------------------------------------------- CharXiv (judged by GPT: only prompts)

charxiv = source("charxiv/reasoning_utils.py")
charxiv_descriptive = source("charxiv/descriptive_utils.py")


def charxiv_reasoning_docs(ident):
    return [{**r, "prompt": charxiv.build_reasoning_queries({0: {"figure_id": 0, "inst_category": r["reasoning_a_type"], "query": r["reasoning_q"], "answer": r["reasoning_a"]}}, "")[0]["question"]} for r in rows(ident)]


def charxiv_descriptive_docs(ident):
    place = lambda r: r["subplot_loc"] if r["subplot_loc"] is not None else [r["subplot_row"], r["subplot_col"]]
    return [{"prompt": charxiv_descriptive.descriptive_query_helper(r[f"descriptive_q{k}"], place(r))} for r in rows(ident) for k in range(1, 5)]


# ---------------------------------------------------------------- OCRBench v2

ocr = lmms("ocrbench_v2.utils")
ocr_eval = source("ocrbench_v2/eval.py", "ocr_eval")
# The authors' script writes below the working directory.
WORK = Path(tempfile.mkdtemp())
(WORK / "eval_scripts/spotting_eval").mkdir(parents=True)
os.chdir(WORK)


def ocr_item(doc, answer):
    # The authors' file has the boxes of spotting in `bbox`, and charts as dictionaries.
    item = {**copy.deepcopy({k: v for k, v in doc.items() if k != "image"}), "predict": answer}
    item["bbox"] = item["bbox_list"] or item["bbox"]
    if item["type"].startswith("chart parsing"):
        item["answers"] = [ast.literal_eval(item["answers"][0])]
    return {k: v for k, v in item.items() if not (k == "eval" and v is None)}


def ocr_official(docs, said):
    """Runs the authors' script on a file of predictions."""
    files = [WORK / "in.json", WORK / "out.json"]
    files[0].write_text(json.dumps([ocr_item(d, a) for d, a in zip(docs, said)]))
    quiet(ocr_eval.process_predictions, *map(str, files))
    return json.loads(files[1].read_text())


def ocr_scores(doc, answer):
    return {"official": attempt(lambda: float(ocr_official([doc], [answer])[0]["score"])),
            "lmms-eval": attempt(lambda: float(quiet(ocr.ocrbench_v2_process_results, copy.deepcopy(doc), [cleaned(answer)])["ocrbench_v2_accuracy"]["score"]))}


def ocr_numbers(language):
    def numbers(docs, said):
        path = WORK / "scores.json"
        path.write_text(json.dumps(ocr_official(docs, said)))
        out = io.StringIO()
        sys.argv[1:] = ["--json_file", str(path)]
        # Both averages are divided by their number of categories, so the other language gets one item.
        items = json.loads(path.read_text())
        other = {"type": "cognition VQA cn" if language == "en" else "cognition VQA en", "score": 0.0}
        path.write_text(json.dumps(items + [other]))
        shown = (REFERENCES / "ocrbench_v2/get_score.py").read_text().replace(":.3f}", "!r}")
        with contextlib.redirect_stdout(out):
            exec(compile(shown, "get_score.py", "exec"), {"__name__": "__main__"})
        name = {"en": "English", "cn": "Chinese"}[language]
        part = re.search(f"{name} Scores:\n(.*?)\n\n", out.getvalue() + "\n\n", re.S).group(1)
        official = {"": 100 * float(re.search(rf"{name} Overall Score: (\S+)", out.getvalue()).group(1))}
        official |= {f"category {k.replace('_', ' ')}": 100 * float(v) for k, v in re.findall(r"(\w+): (\S+) \(Count", part)}
        found = [quiet(ocr.ocrbench_v2_process_results, copy.deepcopy(d), [cleaned(a)])["ocrbench_v2_accuracy"] for d, a in zip(docs, said)]
        printed = getattr(ocr, f"ocrbench_v2_aggregate_accuracy_{language}")(found, None)
        return {"official": official, "lmms-eval": {f"ocrbench_v2_accuracy_{language}": float(printed)}}

    return numbers


# ---------------------------------------------------------------- goldens


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def attempt(function):
    try:
        return function()
    except Exception:
        return None


def settings(task):
    import yaml

    return yaml.safe_load(re.sub(r"!function\s+\S+", "null", (LIBRARY / "tasks" / task).read_text()))["lmms_eval_specific_kwargs"]["default"]


SHORT = settings("vqav2/_default_template_vqav2_yaml"), settings("ok_vqa/_default_template_vqa_yaml")
VSI = [settings("vsibench/_default_template_yaml")] * 2
REFCOCO = (refcoco_docs, {"lmms-eval": refcoco.refcoco_bbox_rec_doc_to_text}, refcoco_scores, refcoco_numbers, answers.boxes)
VSI_TASK = (rows, {"official": lambda d: vsi_official.vsibench_doc_to_text(d, VSI[0]), "lmms-eval": lambda d: vsi.vsibench_doc_to_text(d, VSI[1])}, vsi_scores, vsi_numbers, answers.spatial)
OCR = {"official": lambda d: d["question"], "lmms-eval": ocr.ocrbench_v2_doc_to_text}
TASKS = {
    **{ident: REFCOCO for ident in ("refcoco-testa", "refcoco-testb", "refcoco-plus-testa", "refcoco-plus-testb", "refcocog")},
    "screenspot-v2": (rows, {"official": lambda d: PROMPT.format(d["instruction"]), "lmms-eval": screenspot.screenspot_v2_doc_to_text}, screenspot_scores, screenspot_numbers, answers.points),
    "vqav2": (rows, {"lmms-eval": lambda d: vqav2.vqav2_doc_to_text(d, SHORT[0])}, vqa_scores(vqav2.vqav2_process_results_val), vqa_numbers(vqav2.vqav2_process_results_val, "perAnswerType"), answers.vqa),
    "ok-vqa": (rows, {"lmms-eval": lambda d: okvqa.ok_vqa_doc_to_text(d, SHORT[1])}, vqa_scores(okvqa.ok_vqa_process_results), vqa_numbers(okvqa.ok_vqa_process_results, "perQuestionType"), answers.vqa),
    "vsi-bench": VSI_TASK,
    "vsi-bench-debiased": VSI_TASK,
    "charxiv-reasoning": (charxiv_reasoning_docs, {"official": lambda d: d["prompt"]}, None, None, None),
    "charxiv-descriptive": (charxiv_descriptive_docs, {"official": lambda d: d["prompt"]}, None, None, None),
    "ocrbench-v2-en": (rows, OCR, ocr_scores, ocr_numbers("en"), answers.ocr),
    "ocrbench-v2-cn": (rows, OCR, ocr_scores, ocr_numbers("cn"), answers.ocr),
}


def golden(ident, rng):
    docs_of, prompts, scores, numbers, said_of = TASKS[ident]
    docs = [(i, d) for i, d in enumerate(docs_of(ident))]
    found = {"prompts": {rules: {i: ask(d) for i, d in docs} for rules, ask in prompts.items()}, "cases": [], "runs": []}
    if not scores:
        return found
    failed = lambda: {rules: None for rules in scores_of}
    for i, doc in docs:
        for said in said_of(doc):
            scores_of = scores(doc, "") if not found["cases"] else scores_of
            result = attempt(lambda: scores(copy.deepcopy(doc), said)) or failed()
            if re.search(r"</?(think|analysis|answer)>|boxed", said, re.I):
                # The evaluator removes reasoning before official rules see the answer; lmms-eval does so itself.
                result.pop("official", None)
            found["cases"].append([i, said, result])
    usable = [(i, said, max(result.values())) for i, said, result in found["cases"] if None not in result.values() and len(result) == len(scores_of)]
    pool = {i: [said for row, said, _ in usable if row == i] for i, _ in docs}
    right = {i: [said for row, said, best in usable if row == i and best > 0.4] or pool[i] for i, _ in docs}
    while len(found["runs"]) < 6:
        said = [rng.choice((pool if rng.random() < 0.4 else right)[i]) for i, _ in docs]
        result = numbers([copy.deepcopy(d) for _, d in docs], said)
        found["runs"].append({"answers": {i: a for (i, _), a in zip(docs, said)}, "numbers": result})
    return found


def main():
    (GOLDEN / "scorers/open_2026").mkdir(exist_ok=True)
    rng = random.Random(0)
    tables = {}
    for ident in TASKS:
        found = golden(ident, rng)
        if "lmms-eval" in found["prompts"]:
            tables[ident] = {"prompts": found["prompts"]["lmms-eval"], "runs": []}
        # The rules of these are those of the first; two rows suffice.
        if ident in ("refcoco-testb", "refcoco-plus-testa", "refcoco-plus-testb", "refcocog", "vsi-bench-debiased"):
            found["cases"] = [case for case in found["cases"] if case[0] < 2]
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in found["cases"])
        rest = json.dumps({"prompts": found["prompts"], "runs": found["runs"]}, ensure_ascii=False)[1:-1]
        (GOLDEN / "scorers/open_2026" / f"{ident}.json").write_text(f'{{{rest}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
        nulls = sum(None in result.values() for _, _, result in found["cases"])
        print(f"{ident:22} {len(found['cases']):5} cases, {nulls} without a score, {len(found['runs'])} runs", flush=True)
    lines = ",\n".join(f"{json.dumps(ident)}: {json.dumps(table, ensure_ascii=False)}" for ident, table in tables.items())
    (GOLDEN / "scorers/lmms_eval_tables-open_2026.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


main()
