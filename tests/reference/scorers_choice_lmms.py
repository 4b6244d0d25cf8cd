"""The part of scorers_choice_2026.py that calls lmms-eval 0.7.3: prompts, verdicts and numbers of its tasks for the
benchmarks with choices of 2024 to 2026, in the form of scorers_lmms_eval.py.

All steps are the library's: filter, `strip_reasoning_tags` with the default of `--reasoning_tags`, strip, the task's
`process_results` or metric, its aggregation. Where it would draw at random there is no verdict.
"""

import base64
import contextlib
import io
import json
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import yaml

LIBRARY = Path(find_spec("lmms_eval").origin).parent
REASONING = [["<think>", "</think>"], ["<analysis>", "</analysis>"]]
assert json.dumps(REASONING) in (LIBRARY / "__main__.py").read_text()


class NoVerdict(Exception):
    """The library would draw at random."""


def draw(*_, **__):
    raise NoVerdict


def as_is(*_, **__):
    return lambda function: function


def nothing(*_, **__):
    return None


def stand_in(name, **attributes):
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(attributes)


stand_in("sacrebleu")
stand_in("PIL", Image=SimpleNamespace(Image=object))
stand_in("datasets", Dataset=object, load_dataset=None)
stand_in("loguru", logger=SimpleNamespace(info=nothing, warning=nothing, debug=nothing, error=nothing))
stand_in("lmms_eval.api.registry", register_metric=as_is, register_aggregation=as_is)
stand_in("lmms_eval.filters", __path__=[str(LIBRARY / "filters")])
stand_in("lmms_eval.tasks", __path__=[str(LIBRARY / "tasks")])

from lmms_eval.api.metrics import exact_match_hf_evaluate  # noqa: E402
from lmms_eval.api.reasoning import strip_reasoning_tags  # noqa: E402


def utils(task):
    return import_module(f"lmms_eval.tasks.{task}.utils")


pro, ai2d, seed, vmc, muir, crpe, spatial = map(utils, ("mmmu_pro", "ai2d", "seedbench_2_plus", "vmcbench", "muirbench", "crpe_relation", "3dsrbench"))
import_module("lmms_eval.tasks._task_utils.mmmu_mcq_utils").random = SimpleNamespace(choice=draw)
vmc.random = SimpleNamespace(choice=draw)
FILTERS = {"ai2d-no-mask": ai2d.MultiChoiceRegexFilter("([A-Z])\\."), "muirbench": muir.MultiChoiceRegexFilter("([A-Z])\\."), "crpe": crpe.MultiChoiceRegexFilter("(\\([A-Z]\\))")}


def settings(file):
    """The default `lmms_eval_specific_kwargs` of a task."""
    text = re.sub(r"!function\s+\S+", "null", (LIBRARY / "tasks" / file).read_text())
    found = yaml.safe_load(text)
    if "include" in found and "lmms_eval_specific_kwargs" not in found:
        return settings(str(Path(file).parent / found["include"]))
    return (found.get("lmms_eval_specific_kwargs") or {}).get("default")


def cleaned(id, doc, answer):
    if id in FILTERS:
        answer = FILTERS[id].apply([[answer]], [doc])[0]
    return strip_reasoning_tags(answer, REASONING).strip()


def quiet(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def exact(said, gold):
    return float(exact_match_hf_evaluate(predictions=[said], references=[gold], ignore_case=True, ignore_punctuation=True)["exact_match"])


def images_of(doc):
    """The columns of a row as the library gets them: each image is an object that can be converted."""
    picture = lambda cell: SimpleNamespace(convert=lambda _: cell) if isinstance(cell, dict) and "bytes" in cell else [picture(c) for c in cell] if isinstance(cell, list) and cell and isinstance(cell[0], dict) else cell
    return {k: picture(v) for k, v in doc.items()}


def process(id, doc, said):
    """The entries by metric of one answer; an answer's own score is among them."""
    if id in ("mmmu-pro", "mmmu-pro-vision"):
        return pro.mmmu_pro_process_results(doc, [said])
    if id == "seed-bench-2-plus":
        return seed.seed_process_result(doc, [said])
    if id == "vmcbench":
        return vmc.vmcbench_process_results(doc, [said])
    if id == "muirbench":
        return muir.muir_process_results(doc, [said])
    if id == "3dsrbench":
        return spatial.process_results(doc, [said])
    gold = ai2d.ai2d_doc_to_target(doc, "mcq") if id == "ai2d-no-mask" else doc["correct_option"]
    return {"exact_match": exact(said, gold)}


def mean(values):
    return sum(values) / len(values)


GROUPS = ("height", "location", "orientation", "multi_object")
# The metrics of a task and how they are aggregated; of 3DSRBench those of the circular task.
METRICS = {
    "mmmu-pro": {"mmmu_acc": pro.mmmu_pro_aggregate_results},
    "ai2d-no-mask": {"exact_match": mean},
    "seed-bench-2-plus": {f"seedbench_2_plus_{part}": seed.seed_aggregation_result for part in ("Chart", "Map", "Web", "all")},
    "vmcbench": {name: vmc.vmcbench_aggregate_results for name in ("general", "reason", "doc", "ocr", "average")},
    "muirbench": {"muirbench_score_overall": muir.muir_aggregation},
    "crpe": {"exact_match": mean},
    "3dsrbench": {f"{name}_accuracy": getattr(spatial, f"aggregate_{name}_accuracy") for name in ("vanilla", "flip", "circular", "flip_circular", *GROUPS)},
}
METRICS["mmmu-pro-vision"] = METRICS["mmmu-pro"]
# The prompt of a row.
ASK = {
    "mmmu-pro": lambda d: pro.mmmu_pro_doc_to_text(d, settings("mmmu_pro/mmmu_pro_standard.yaml")),
    "mmmu-pro-vision": lambda d: pro.mmmu_pro_doc_to_text(d, settings("mmmu_pro/mmmu_pro_vision.yaml")),
    "ai2d-no-mask": lambda d: ai2d.ai2d_doc_to_text(d, settings("ai2d/ai2d_no_mask.yaml")),
    "seed-bench-2-plus": lambda d: seed.seed_doc_to_text(d, settings("seedbench_2_plus/seedbench_2_plus.yaml")),
    "vmcbench": lambda d: vmc.vmcbench_doc_to_text(d, settings("vmcbench/vmcbench.yaml")),
    "muirbench": lambda d: muir.muir_doc_to_text(d, settings("muirbench/muirbench.yaml")),
    "crpe": lambda d: crpe.crpe_relation_doc_to_text(d, settings("crpe_relation/crpe_relation.yaml")),
    "3dsrbench": lambda d: spatial.doc_to_text(d, settings("3dsrbench/3dsrbench_circular.yaml")),
}
SEE = {"mmmu-pro": pro.mmmu_pro_doc_to_visual, "mmmu-pro-vision": pro.mmmu_pro_doc_to_visual, "muirbench": muir.muir_doc_to_visual}


def numbers(id, docs, said):
    found = {}
    for doc, answer in zip(docs, said):
        for name, value in process(id, doc, cleaned(id, doc, answer)).items():
            found.setdefault(name, []).append(value)
    return {name: float(quiet(total, found[name])) for name, total in METRICS[id].items()}


def doc_of(id, options, right, text):
    """A row of the published table with these options, whose answer is `right`."""
    letters = [chr(65 + i) for i in range(len(options))]
    choices = dict(zip("ABCD", [*options, *["nan"] * 4]))
    doc = {"id": "test_Math_1", "idx": "1", "index": 1, "question_id": "1", "question": "?", "options": str(options) if id == "mmmu-pro" else options, "answer": right,
           "subject": "Math", "category": "GQA" if id == "vmcbench" else "height_higher", "task": "t", "image_relation": "r", "image_type": "i", "question_image_type": "chart", "qid": "AB12CD34",
           "correct_option": right, "text": text, **choices}
    if id == "mmmu-pro-vision":
        del doc["question"]
    return {**doc, "answer": letters.index(right)} if id == "ai2d-no-mask" else doc


def score(id, doc, answer):
    try:
        entries = process(id, doc, cleaned(id, doc, answer))
        metric = next(name for name in METRICS[id] if name in entries)
        return float(quiet(METRICS[id][metric], [entries[metric]]))
    except NoVerdict:
        return None


def drawn(doc, rng):
    right = doc.get("answer", doc.get("correct_option"))
    right = chr(65 + int(right)) if str(right).isdigit() else right
    return right if rng.random() < 0.8 else rng.choice([f"({right})", right.lower(), f"<think>A</think>{right}", f"{right}. cup", "A", "B.", "the dot", "yes", "C", "no idea", "dog"])


def fixture(id, docs, rng):
    table = {"prompts": {i: ASK[id](doc) for i, doc in enumerate(docs)}, "runs": []}
    if id in SEE:
        table["images"] = {i: [base64.b64encode(cell["bytes"]).decode() for cell in SEE[id](images_of(doc))] for i, doc in enumerate(docs)}
    while len(table["runs"]) < 6:
        said = [drawn(doc, rng) for doc in docs]
        with contextlib.suppress(NoVerdict):
            table["runs"].append({"answers": dict(enumerate(said)), "numbers": numbers(id, docs, said)})
    return table


def write(golden, answers, rows, crpe_text, rng):
    cases, tables = [], {}
    for id in ASK:
        for answer, options in answers[id]:
            # The task and VLMEvalKit know four choices; missing ones are `nan`.
            if id == "vmcbench" and len(options) < 4:
                continue
            text = crpe_text(options)
            scores = [score(id, doc_of(id, options, chr(65 + i), text), answer) for i in range(len(options))]
            cases.append({"benchmark": id, "answer": answer, "options": options, **({"facts": {"text": text}} if id == "crpe" else {}), "scores": scores})
        tables[id] = fixture(id, rows(id), rng)
    page = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (golden / "scorers/lmms_eval_more-choice.json").write_text(f"[\n{page}\n]\n", encoding="utf-8")
    page = ",\n".join(f"{json.dumps(id)}: {json.dumps(table, ensure_ascii=False)}" for id, table in tables.items())
    (golden / "scorers/lmms_eval_tables-choice.json").write_text(f"{{\n{page}\n}}\n", encoding="utf-8")
    for id in ASK:
        of = [case for case in cases if case["benchmark"] == id]
        print(f"lmms-eval {id:18} {len(of):4} answers, {sum(None in c['scores'] for c in of):3} drawn, {len(tables[id]['runs'])} runs")
