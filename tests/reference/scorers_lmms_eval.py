"""Goldens for probe/bench: scores, prompts and printed results of lmms-eval 0.7.3.

Pinned: lmms_eval 0.7.3 (`pip download --no-deps lmms-eval==0.7.3`, unpacked into DIR), numpy 2.4.6, pandas 3.1.1,
Levenshtein 0.27.5, pyarrow 26.0.1, PyYAML 6.0.4, requests 2.34.2; Python 3.11.   Run:  PYTHONPATH=DIR python tests/reference/scorers_lmms_eval.py

- `scorers/lmms_eval.json`: for every adversarial answer of the other goldens (`scorers/<id>.json`, in their order) its
  score with each possible answer as the right one, or null if the library draws at random or asks GPT.
- `scorers/lmms_eval_more.json`: the same for further answers: reasoning, unusual labels, white space.
- `scorers/lmms_eval_tables.json`: for every fixture (`benchmarks/<id>`) the prompts by row, and the results that it prints for answers.

All steps are the library's: filter, `strip_reasoning_tags` with the default of `--reasoning_tags`, strip, the task's
`process_results` or metric, its aggregation.
"""

import contextlib
import csv
import io
import json
import random
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import yaml

LIBRARY = Path(find_spec("lmms_eval").origin).parent
GOLDEN = Path(__file__).resolve().parent.parent / "golden"
REASONING = [["<think>", "</think>"], ["<analysis>", "</analysis>"]]
assert json.dumps(REASONING) in (LIBRARY / "__main__.py").read_text()


class NoVerdict(Exception):
    """The library would draw at random or ask a language model."""


def none(*_, **__):
    raise NoVerdict


def as_is(*_, **__):
    return lambda function: function


def stand_in(name, **attributes):
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(attributes)


def nothing(*_, **__):
    return None


stand_in("sacrebleu")
stand_in("PIL", Image=None)
stand_in("tqdm", tqdm=lambda x, **_: x)
stand_in("datasets", Dataset=object, load_dataset=None)
stand_in("loguru", logger=SimpleNamespace(info=nothing, warning=nothing, debug=nothing, error=nothing))
stand_in("lmms_eval.api.registry", register_metric=as_is, register_aggregation=as_is)
stand_in("lmms_eval.filters", __path__=[str(LIBRARY / "filters")])
stand_in("lmms_eval.tasks", __path__=[str(LIBRARY / "tasks")])
stand_in("lmms_eval.tasks._task_utils.file_utils", generate_submission_file=lambda *_, **__: "/dev/null")
stand_in("lmms_eval.tasks._task_utils.default_template_yaml", load_default_template_yaml=lambda _: {})
stand_in("lmms_eval.llm_judge", Request=object, ServerConfig=lambda **_: None, get_server=nothing)
stand_in("lmms_eval.verifiers", VerificationPipeline=object)
stand_in("lmms_eval.verifiers.openai", OpenAIVerifier=object)


def utils(task, file="utils"):
    return import_module(f"lmms_eval.tasks.{task}.{file}")


from lmms_eval.api.metrics import anls, exact_match_hf_evaluate  # noqa: E402
from lmms_eval.api.reasoning import strip_reasoning_tags  # noqa: E402

mme, pope, seed, sqa, mmmu = map(utils, ("mme", "pope", "seedbench", "scienceqa", "mmmu"))
ai2d, chartqa, ocrbench, textvqa, vizwiz = map(utils, ("ai2d", "chartqa", "ocrbench", "textvqa", "vizwiz_vqa"))
mmvp, realworldqa, cv_bench, vstar, mmstar = map(utils, ("mmvp", "realworldqa", "cv_bench", "vstar_bench", "mmstar"))
blink, qbench, docvqa, infovqa, stvqa, gqa = map(utils, ("blink", "qbench", "docvqa", "infovqa", "stvqa", "gqa"))
mmbench_en, mmbench_cn, mathvista = utils("mmbench", "en_utils"), utils("mmbench", "cn_utils"), utils("mathvista")
import_module("lmms_eval.tasks._task_utils.mmmu_mcq_utils").random = SimpleNamespace(choice=none)
qbench.random = SimpleNamespace(choice=none)
for english_or_not in (mmbench_en, mmbench_cn):
    english_or_not.mmbench_evaluator.get_chat_response = none


def extract_without_gpt(response, problem, quick_extract):
    """`extract_answer` without its handler, which would treat an unavailable GPT as an empty answer."""
    asked = []

    def ask(*_, **__):
        asked.append(1)
        return ""

    evaluator = mathvista.mathvista_evaluator
    evaluator.get_chat_response = ask
    found = type(evaluator).extract_answer(evaluator, response, problem, quick_extract)
    if asked:
        raise NoVerdict
    return found


mathvista.mathvista_evaluator.extract_answer = extract_without_gpt
FILTER = ai2d.MultiChoiceRegexFilter("([A-Z])\\.")


def settings(file):
    """The default `lmms_eval_specific_kwargs` of a task."""
    text = re.sub(r"!function\s+\S+", "null", (LIBRARY / "tasks" / file).read_text())
    found = yaml.safe_load(text)
    if "include" in found and "lmms_eval_specific_kwargs" not in found:
        return settings(str(Path(file).parent / found["include"]))
    return (found.get("lmms_eval_specific_kwargs") or {}).get("default")


def cleaned(answer):
    return strip_reasoning_tags(answer, REASONING).strip()


def quiet(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def mmbench_row(doc, said):
    row = mmbench_en.mmbench_process_results({"L2-category": "l", "split": "dev", "hint": "nan", "source": "s", **doc}, [said])
    return row["gpt_eval_score"]


def mmbench_right(module, static):
    def right(doc, said):
        row = mmbench_row(doc, said)
        row = {k: float("nan") if v is None else v for k, v in row.items()}
        frame = pd.DataFrame([row])
        return float(module.mmbench_evaluator.eval_sub_data(frame, {doc["index"]: doc["answer"]}, static_only=static))

    return right


def exact(said, gold):
    return float(exact_match_hf_evaluate(predictions=[said], references=[gold], ignore_case=True, ignore_punctuation=True)["exact_match"])


def mathvista_right(doc, said):
    doc = {"pid": "1", "query": "", "metadata": {}, **doc}
    return float(mathvista.mathvista_process_results(doc, [said])["llm_as_judge_eval"]["true_false"])


def mmmu_right(doc, said):
    found = mmmu.mmmu_process_results({"id": "validation_Math_1", **doc}, [said])["mmmu_acc"]
    return mmmu.evaluate_mmmu([found])[1]["acc"]


def qbench_right(doc, said):
    doc = {"id": 1, "question_concern": 0, "question_type": 0, **doc}
    found = qbench.q_bench_process_results(doc, [said])["qbench_acc"]
    return float(qbench.eval_multi_choice(found["answer"], found["parsed_pred"]))


def seed_right(doc, said):
    return seed.seed_aggregation_result([seed.seed_process_result({"data_type": "image", "question_id": 1, **doc}, [said])["seed_all"]])


def correct(process, metric, field="is_correct"):
    return lambda doc, said: float(process(doc, [said])[metric][field])


# What one answer scores, by the fields that the task reads.
RIGHT = {
    "mme": lambda d, a: float(mme.mme_process_results({"question_id": 1, "category": "count", **d}, [a])["mme_perception_score"]["score"]),
    "pope": correct(lambda d, a: pope.pope_process_results({"question_id": 1, **d}, a), "pope_accuracy", "score"),
    "gqa": lambda d, a: exact(a, d["answer"]),
    "scienceqa": lambda d, a: sqa.sqa_process_results(d, [a])["exact_match"],
    "ai2d": lambda d, a: exact(a, ai2d.ai2d_doc_to_target(d, "mcq")),
    "seed-bench": seed_right,
    "mmmu": mmmu_right,
    "q-bench": qbench_right,
    "mathvista": mathvista_right,
    "mmstar": lambda d, a: mmstar.exact_match(a, d["answer"]),
    "blink": correct(lambda d, a: blink.blink_process_results({"idx": 1, "sub_task": "x", **d}, a), "blink_acc"),
    "mmbench-en": mmbench_right(mmbench_en, True),
    "mmbench-cn": mmbench_right(mmbench_cn, False),
    "chartqa": lambda d, a: chartqa.chartqa_process_results({"type": "human_test", **d}, [a])["relaxed_overall"],
    "ocrbench": lambda d, a: float(ocrbench.ocrbench_process_results(d, [a])["ocrbench_accuracy"]["score"]),
    "textvqa": lambda d, a: float(textvqa.textvqa_process_results({"question_id": 1, "answers": list(d["answers"])}, [a])["exact_match"]),
    "vizwiz": lambda d, a: float(vizwiz.vizwiz_vqa_process_results({"question_id": 1, "answers": list(d["answers"])}, [a])["exact_match"]),
    "docvqa": lambda d, a: float(anls(references=list(d["answers"]), predictions=[a])["anls"]),
    "mmvp": correct(lambda d, a: mmvp.mmvp_process_results({"Index": 1, **d}, a), "mmvp_accuracy"),
    "realworldqa": lambda d, a: realworldqa.realworldqa_process_results(d, [a])["exact_match"],
    "cv-bench-2d": correct(lambda d, a: cv_bench.cv_bench_process_results({"idx": 1, "type": "2D", "task": "Count", "source": "s", **d}, a), "cv_bench_acc"),
    "v-star": correct(lambda d, a: vstar.vstar_process_results({"question_id": 1, "category": "c", "text": "?", **d}, a), "vstar_overall_acc", "score"),
}
RIGHT["cv-bench-3d"], RIGHT["infovqa"], RIGHT["textvqa-ocr"] = RIGHT["cv-bench-2d"], RIGHT["docvqa"], RIGHT["textvqa"]


def score(benchmark, doc, answer):
    if benchmark == "ai2d":
        answer = FILTER.apply([[answer]], [doc])[0]
    try:
        return quiet(RIGHT[benchmark], doc, cleaned(answer))
    except NoVerdict:
        return None


# ---------------------------------------------------------------- adversarial answers


def letters(n):
    return [chr(65 + i) for i in range(n)]


def doc_of(benchmark, case, right):
    """The row of the published table to which a case belongs."""
    options = case.get("options") or []
    gold = case.get("gold")
    if isinstance(gold, dict):
        facts = gold.get("facts", {})
        return {
            "answer": [gold["answer"]] if benchmark == "ocrbench" else gold["answer"], "answers": gold.get("accepted", []), "label": gold["answer"].strip("()"),
            "choices": gold.get("options"), "Correct Answer": gold["answer"], "Question": "?", "Options": facts.get("Options"), "dataset": facts.get("dataset"),
            "question_type": gold.get("subtask", "x"),
        } | ({"answer": gold["accepted"]} if benchmark == "ocrbench" and gold.get("accepted") else {})
    if benchmark in ("mme", "pope"):
        return {"answer": right}
    if benchmark == "mathvista":
        kind = case["facts"]["answer_type"]
        decimals = case["facts"].get("precision")
        choice = options[ord(right) - 65] if options else gold
        return {"question_type": "multi_choice" if options else "free_form", "answer_type": kind, "choices": options or None, "answer": choice,
                "precision": None if decimals is None else float(decimals)}
    if gold is not None:
        return {"answer": gold, "question_type": "open", "options": "[]"}
    columns = {f"option{i}": options[i] if i < len(options) else "N/A" for i in range(4)}
    choices = {letters(4)[i]: options[i] if i < len(options) else None for i in range(4)}
    number = ord(right) - 65
    return {**choices, **columns, "index": 1, "question": "?", "category": "c", "choices": options, "options": str(options) if benchmark == "mmmu" else options,
            "answer": number if benchmark in ("ai2d", "scienceqa") else f"({right})" if benchmark == "blink" else right, "correct_choice": right,
            "question_type": "multiple-choice" if benchmark == "mmmu" else 0}


def rights(case):
    """The answers that are taken as right, one after the other."""
    if case.get("gold") is not None:
        return [None]
    return letters(len(case["options"])) if case.get("options") else ["yes", "no"]


def scores(benchmark, case):
    return [score(benchmark, doc_of(benchmark, case, right), case["answer"]) for right in rights(case)]


ABCD, AB, GENES, LETTERED = ["dog", "cup", "red car", "tree"], ["the ball", "the box"], ["AA", "Aa", "aa"], ["C", "D", "B", "A"]
THOUGHT = [
    "<think>Maybe A.</think>\n\nB", "<think>A</think><think>C</think> B.", "A, or rather\n</think>\nB", "<think>A", "<THINK>A</THINK>B", "<thinking>A</thinking>\nB", "<analysis>A</analysis>B",
    "<reasoning>The answer is A.</reasoning>B", "◁think▷A◁/think▷B", "[THINK]A[/THINK]B", "<think>a<think>A</think>c</think>B", "<think>\n</think>\n\n(B)", "<think>A</think>\n\nB. cup",
    "<think>A</think>The answer is B.", "<answer>B</answer>", "<think>A</think><answer>B</answer>", "\\boxed{B}", "$\\boxed{\\text{B}}$", "B <think>or A?</think>", "</think>B</think>", "<|channel|>final<|message|>B",
]
ODD = [
    (answer, options)
    for options, answers in (
        (GENES, ["AA", "Aa", "aa", "aA", "A", "B", "C", "A. AA", "B. Aa", "(B)", "The answer is aa", "the genotype is Aa", "a", "Aa.", "AA or Aa"]),
        (LETTERED, ["A", "B", "C", "D", "D. A", "D) A", "(D) A", "D: A", "D, A", "D A", "A. C", "C. B", "The answer is D. A", "A and D", "d. a", "**D. A**"]),
        (ABCD, ["A. dog\nB. cup\nC. red car\nD. tree", "  B  ", "\tB\n", "B\u00a0", "b.", "b)", "(b) cup", "Answer: B", "answer - B", "Answers: B and C", "Final answer: (C)", "cups", "CAB", "I'd say D", "D'oh",
                "\"B\"", "‘B’", "B:cup", "B;", "The options are A, B, C and D; none fits.", "None of the above"]),
        (AB, ["cab b", "b cab", "(b", "b)", "a)", "Bob", "the bob.", "option b", "Option: b", "answer isb", "Answer is\n(b)"]),
    )
    for answer in answers
]
SHORT = ["  red ", "Red\n", "<think>blue</think>red", "<think>red", "red</think>blue", "\u3000red", "ｒｅｄ", "r.e.d", "", " ", "the red", "red red", "<answer>red</answer>", "RED!", "\x1cred"]
NUMBERS = [" 12 ", "12\n", "12%", "0.12", "<think>13</think>12", "<think>12", "12.0", "twelve", "1２", "", "11.5", "12.6", "12.61", "-12", "+12", "1_2", "12 %"]


def more():
    lettered = [b for b in ("mmbench-en", "mmbench-cn", "seed-bench", "scienceqa", "mmmu", "ai2d", "mmstar", "blink", "q-bench", "mathvista")]
    for benchmark in lettered:
        facts = {"facts": {"answer_type": "text"}} if benchmark == "mathvista" else {}
        for answer, options in [(t, ABCD) for t in THOUGHT] + ODD:
            if benchmark == "seed-bench" and len(options) != 4:
                continue
            yield benchmark, {"answer": answer, "options": options, **facts}
    for benchmark in ("cv-bench-2d", "v-star", "realworldqa"):
        for answer, options in [(t, ABCD) for t in THOUGHT] + ODD:
            gold = "(B)" if benchmark == "cv-bench-2d" else "B"
            yield benchmark, {"answer": answer, "gold": {"answer": gold, "options": options}}
    for answer, options in [(t, AB) for t in THOUGHT] + [(a, o) for a, o in ODD if o == AB]:
        line = f"(a) {options[0]} (b) {options[1]}"
        yield "mmvp", {"answer": answer, "gold": {"answer": "(b)", "options": options, "facts": {"Options": line, "published": "(b)"}}}
    for benchmark in ("mme", "pope"):
        for answer in [t.replace("A", "No").replace("B", "Yes") for t in THOUGHT] + ["Y", "n", "N.", " yes", "YES", "no.", "Ye", "y.e.s", "<think>no</think>yes"]:
            yield benchmark, {"answer": answer}
    for answer in SHORT:
        yield "gqa", {"answer": answer, "gold": "red"}
        yield "realworldqa", {"answer": answer, "gold": {"answer": "Red"}}
        yield "chartqa", {"answer": answer, "gold": {"answer": "Red"}}
        yield "ocrbench", {"answer": answer, "gold": {"answer": "red", "accepted": ["red", "crimson"], "subtask": "Digit String Recognition", "facts": {"dataset": "IIIT5K"}}}
        yield "docvqa", {"answer": answer, "gold": {"answer": "red", "accepted": ["red", "the red"]}}
        for benchmark in ("textvqa", "vizwiz"):
            yield benchmark, {"answer": answer, "gold": {"answer": "red", "accepted": ["red"] * 4 + ["Red."] * 2 + ["", "the", "blue", "a red"]}}
    for answer in NUMBERS:
        for gold in ("12", "12%", "0.12", "0"):
            yield "chartqa", {"answer": answer, "gold": {"answer": gold}}
        for kind, decimals, gold in (("integer", None, "12"), ("float", "1.0", "12.0"), ("list", None, "[12]")):
            yield "mathvista", {"answer": answer, "gold": gold, "facts": {"answer_type": kind, **({"precision": decimals} if decimals else {})}}
        yield "mmmu", {"answer": answer, "gold": "12", "accepted": ["12"]}
        yield "mmmu", {"answer": answer, "gold": "['12', '13']", "accepted": ["12", "13"]}


# ---------------------------------------------------------------- prompts and numbers of the fixtures


def rows(benchmark):
    root = GOLDEN / "benchmarks" / benchmark
    if benchmark == "mmvp":
        with open(root / "Questions.csv", encoding="utf-8") as file:
            found = [{**r, "Index": int(r["Index"])} for r in csv.DictReader(file)]
        right = {99: "(b)", 100: "(a)", 279: "(b)", 280: "(a)"}
        return [{**r, "Correct Answer": right.get(r["Index"], r["Correct Answer"])} for r in found]
    folder = {"v-star": root / "table", "gqa": root / "testdev_balanced_instructions"}.get(benchmark, root)
    files = sorted(p for p in folder.rglob("*.parquet") if not {"vlmevalkit", "folders", "authors"} & set(p.parts))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


KEPT = {"scienceqa": lambda d: d["image"] is not None, "seed-bench": lambda d: d["data_type"] == "image"}


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def by_metric(process, aggregate):
    """Runs a task's `process_results` on all rows, and aggregates each metric by its name."""

    def numbers(docs, said):
        found = {}
        for doc, answer in zip(docs, said):
            for name, value in process(doc, answer).items():
                found.setdefault(name, []).append(value)
        return {name: quiet(aggregate[name] if isinstance(aggregate, dict) else aggregate, found[name]) for name in (aggregate if isinstance(aggregate, dict) else found) if name in found}

    return numbers


def mmbench_numbers(module, method):
    def numbers(docs, said):
        found = [mmbench_row(doc, answer) for doc, answer in zip(docs, said)]
        found = [{k: float("nan") if v is None else v for k, v in row.items()} for row in found]
        return {"gpt_eval_score": 100 * float(quiet(module.mmbench_evaluator.eval_result, found, method)[0])}

    return numbers


def blink_numbers(docs, said):
    tasks = {}
    for doc, answer in zip(docs, said):
        tasks.setdefault(doc["sub_task"], []).append(blink.blink_process_results(doc, [answer])["blink_acc"])
    # The group's mean does not weigh by size (`AggMetricConfig.weight_by_size` is false by default).
    return {"blink_acc": mean(blink.blink_aggregate_results(of_task) for of_task in tasks.values())}


def ocrbench_numbers(docs, said):
    ocrbench.OCRBench_score.update(dict.fromkeys(ocrbench.OCRBench_score, 0))
    found = [ocrbench.ocrbench_process_results(doc, [answer])["ocrbench_accuracy"] for doc, answer in zip(docs, said)]
    return {"ocrbench_accuracy": quiet(ocrbench.ocrbench_aggregate_accuracy, found, None)}


def plain(benchmark, name):
    return lambda docs, said: {name: mean(RIGHT[benchmark](doc, answer) for doc, answer in zip(docs, said))}


MME = mme.mme_aggregate_results
POPE = {f"pope_{name}": getattr(pope, f"pope_aggregate_{name}") for name in ("accuracy", "precision", "recall", "f1_score", "yes_ratio")}
# The text of the prompt, and the numbers.
TASKS = {
    "mme": (lambda d: mme.mme_doc_to_text(d, settings("mme/mme.yaml")),
            by_metric(lambda d, a: mme.mme_process_results(d, [a]), {"mme_perception_score": MME, "mme_cognition_score": MME})),
    "pope": (lambda d: pope.pope_doc_to_text(d, settings("pope/pope.yaml")), by_metric(lambda d, a: pope.pope_process_results(d, [a]), POPE)),
    "gqa": (lambda d: gqa.gqa_doc_to_text(d, settings("gqa/gqa.yaml")), plain("gqa", "exact_match")),
    "scienceqa": (lambda d: sqa.sqa_doc_to_text({**d, "hint": d["hint"] or ""}, settings("scienceqa/scienceqa_img.yaml")), plain("scienceqa", "exact_match")),
    "ai2d": (lambda d: ai2d.ai2d_doc_to_text(d, settings("ai2d/ai2d.yaml")), plain("ai2d", "exact_match")),
    "seed-bench": (seed.seed_doc_to_text, by_metric(lambda d, a: seed.seed_process_result(d, [a]), {"seed_image": seed.seed_aggregation_result})),
    "mmmu": (lambda d: mmmu.mmmu_doc_to_text(d, settings("mmmu/mmmu_val.yaml")), by_metric(lambda d, a: mmmu.mmmu_process_results(d, [a]), {"mmmu_acc": mmmu.mmmu_aggregate_results})),
    "q-bench": (lambda d: qbench.q_bench_doc_to_text(d, settings("qbench/qbench_dev.yaml")), by_metric(lambda d, a: qbench.q_bench_process_results(d, [a]), {"qbench_acc": qbench.q_bench_aggregate_results})),
    "mathvista": (lambda d: mathvista.mathvista_doc_to_text(d, settings("mathvista/mathvista_testmini_format.yaml")), None),
    "mmstar": (lambda d: mmstar.mmstar_doc_to_text(d, settings("mmstar/_default_template_yaml")), by_metric(lambda d, a: mmstar.mmstar_process_results(d, [a]), mmstar.mmstar_aggregate_results)),
    "blink": (lambda d: blink.blink_doc_to_text(d, settings("blink/_default_template_yaml")), blink_numbers),
    "mmbench-en": (lambda d: mmbench_en.mmbench_doc_to_text({"L2-category": "l", "split": "dev", **d}, settings("mmbench/_default_template_mmbench_en_yaml")), mmbench_numbers(mmbench_en, "static")),
    "mmbench-cn": (lambda d: mmbench_cn.mmbench_doc_to_text({"L2-category": "l", "split": "dev", **d}, settings("mmbench/_default_template_mmbench_cn_yaml")), None),
    "chartqa": (lambda d: chartqa.chartqa_doc_to_text(d, settings("chartqa/chartqa.yaml")), by_metric(lambda d, a: chartqa.chartqa_process_results(d, [a]), mean)),
    "ocrbench": (lambda d: ocrbench.ocrbench_doc_to_text(d, settings("ocrbench/ocrbench.yaml")), ocrbench_numbers),
    "textvqa": (lambda d: textvqa.textvqa_doc_to_text(d, settings("textvqa/_default_template_textvqa_yaml")), plain("textvqa", "exact_match")),
    "textvqa-ocr": (lambda d: textvqa.textvqa_doc_to_text(d, {**settings("textvqa/_default_template_textvqa_yaml"), "ocr": True}), plain("textvqa", "exact_match")),
    "vizwiz": (lambda d: vizwiz.vizwiz_vqa_doc_to_text(d, settings("vizwiz_vqa/_default_template_vqa_yaml")), plain("vizwiz", "exact_match")),
    "docvqa": (lambda d: docvqa.docvqa_doc_to_text(d, settings("docvqa/_default_template_docvqa_yaml")), plain("docvqa", "anls")),
    "docvqa-test": (lambda d: docvqa.docvqa_doc_to_text(d, settings("docvqa/_default_template_docvqa_yaml")), None),
    "infovqa": (lambda d: infovqa.infovqa_doc_to_text(d, settings("infovqa/_default_template_infovqa_yaml")), plain("docvqa", "anls")),
    "st-vqa": (lambda d: stvqa.stvqa_doc_to_text(d, settings("stvqa/stvqa.yaml")), None),
    "mmvp": (lambda d: mmvp.mmvp_doc_to_text(d, settings("mmvp/_default_template_yaml")),
             by_metric(lambda d, a: mmvp.mmvp_process_results(d, [a]), {"mmvp_accuracy": mmvp.mmvp_aggregate_results, "mmvp_pair_accuracy": mmvp.mmvp_aggregate_pair_results})),
    "realworldqa": (lambda d: realworldqa.realworldqa_doc_to_text(d, settings("realworldqa/realworldqa.yaml")), plain("realworldqa", "exact_match")),
    "cv-bench-2d": (lambda d: cv_bench.cv_bench_doc_to_text(d, settings("cv_bench/_default_template_yaml")), by_metric(lambda d, a: cv_bench.cv_bench_process_results(d, [a]), {"cv_bench_acc": cv_bench.cv_bench_aggregate_results})),
    "v-star": (lambda d: vstar.vstar_doc_to_text(d, settings("vstar_bench/_default_template_yaml")), by_metric(lambda d, a: vstar.vstar_process_results(d, [a]), vstar.vstar_aggregate_results)),
}
TASKS["cv-bench-3d"] = TASKS["cv-bench-2d"]


def answers_of(doc, rng):
    """Draws an answer, often the right one."""
    right = doc.get("answer", doc.get("label", doc.get("correct_choice", doc.get("Correct Answer"))))
    right = right if right is not None else (doc.get("answers") or ["x"])[0]
    right = right[0] if isinstance(right, list) else chr(65 + right) if isinstance(right, int) else str(right)
    if doc.get("question_type") == "multi_choice":
        right = doc["answer"]
    bare = right.strip("()").upper() if re.fullmatch(r"\(?[A-Za-z]\)?", right) else right
    return rng.choice([right, right, bare, bare, f"<think>A</think>{bare}", "A", "B.", "yes", "No", "12"])


def tables(rng):
    for benchmark, (ask, numbers) in TASKS.items():
        found = [(i, doc) for i, doc in enumerate(rows(benchmark)) if KEPT.get(benchmark, bool)(doc)]
        docs = [doc for _, doc in found]
        table = {"prompts": {i: ask(doc) for i, doc in found}, "runs": []}
        while numbers and len(table["runs"]) < 6:
            said = [answers_of(doc, rng) for doc in docs]
            plainly = [cleaned(FILTER.apply([[a]], [{}])[0] if benchmark == "ai2d" else a) for a in said]
            try:
                result = numbers([dict(doc) for doc in docs], plainly)
            except NoVerdict:
                continue
            table["runs"].append({"answers": {i: a for (i, _), a in zip(found, said)}, "numbers": result})
        yield benchmark, table


def main():
    out = GOLDEN / "scorers"
    verdicts = {}
    for benchmark in RIGHT:
        path = out / f"{benchmark}.json"
        if path.exists():
            verdicts[benchmark] = [scores(benchmark, case) for case in json.loads(path.read_text(encoding="utf-8"))]
    extra = [{"benchmark": benchmark, **case, "scores": scores(benchmark, case)} for benchmark, case in more()]
    lines = ",\n".join(f"{json.dumps(b)}: {json.dumps(v)}" for b, v in verdicts.items())
    (out / "lmms_eval.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in extra)
    (out / "lmms_eval_more.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    lines = ",\n".join(f"{json.dumps(b)}: {json.dumps(t, ensure_ascii=False)}" for b, t in tables(random.Random(0)))
    (out / "lmms_eval_tables.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    for benchmark, cases in verdicts.items():
        here = sum(1 for case in extra if case["benchmark"] == benchmark)
        print(f"{benchmark:12} {len(cases):4} + {here:3} cases, {sum(None in c for c in cases):3} without a verdict")


main()
