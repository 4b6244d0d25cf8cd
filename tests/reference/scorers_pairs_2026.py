"""Goldens for probe/bench: NaturalBench, HallusionBench, VisOnlyQA, CountBenchQA, PixMo-Count, VLMs are blind, HR-Bench and
MME-RealWorld by the code of their authors, of VLMEvalKit and of lmms-eval.

Run:  python tests/reference/scorers_pairs_2026.py DIR      (after benchmarks_pairs_2026.py, which makes the fixtures)

DIR holds the repositories by name, at these commits: NaturalBench 9967605, HallusionBench 744007c, VisOnlyQA 33a1355,
MME-RealWorld 87096fc, HR-Bench b17b199, big_vision 0127fb6, molmo 793fa38, VLMEvalKit e8e78f05, and lmms_eval, the package of
lmms_eval 0.7.3 (`pip download --no-deps`). numpy 2.4.6, pandas 3.1.1, pyarrow 26.0.1, PyYAML 6.0.4, requests 2.34.2, tqdm
4.70.1, Python 3.11.

- `scorers/pairs_2026/<id>.json`: adversarial answers. `question` has what the rule reads of a question. `own` is the verdict that our rules
  `official` or `strict` must give; null is an answer without a verdict, where the code finds nothing, draws at random or asks a
  language model. `references` are verdicts of further code, and `why` says why such a verdict differs from `own`.
- `scorers/pairs_2026/tables.json`: for every fixture the prompts by row, and for random answers the numbers of the code.
- `scorers/lmms_eval_more-pairs.json`, `scorers/lmms_eval_tables-pairs.json`: the same of lmms-eval, in the form of
  scorers_lmms_eval.py.

The code is the repositories' own, executed function by function because their modules import model servers.
"""

import ast
import contextlib
import io
import json
import os
import random
import re
import string
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml
from answers_pairs_2026 import BLIND, COUNTS, LETTERS, LETTERS_AB, REASONED, SEVERAL, TRUE_FALSE, YES_NO, EXCEPTIONS

REPOSITORIES = Path(sys.argv[1]).resolve()
GOLDEN = Path(__file__).resolve().parent.parent / "golden"
sys.path.insert(0, str(REPOSITORIES))


class NoVerdict(BaseException):
    """The code would draw at random or ask a language model. No `except Exception` of the code catches it."""


def none(*_, **__):
    raise NoVerdict


def quiet(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def take(path, *names, **values):
    """Executes these definitions of a file, and returns what they define."""
    tree = ast.parse((REPOSITORIES / path).read_text(encoding="utf-8"))

    def defines(node):
        if isinstance(node, ast.Assign):
            return {target.id for target in node.targets if isinstance(target, ast.Name)}
        return {getattr(node, "name", None)}

    found = [node for node in tree.body if defines(node) & set(names)]
    space = {"re": re, "np": np, "pd": pd, "string": string, "defaultdict": defaultdict, "os": os, **values}
    exec(compile(ast.Module(found, []), path, "exec"), space)
    missing = [name for name in names if name not in space]
    assert not missing, missing
    return SimpleNamespace(**{name: space[name] for name in names})


# ---------------------------------------------------------------- the code of the authors and of VLMEvalKit

natural = take("NaturalBench/naturalbench_vqa.py", "SUFFIX_FOR_VQA", "extract_answer", "get_scores")
hallusion = take("HallusionBench/utils.py", "assign_correctness", "get_eval_all", "get_eval_pair_all", "get_eval_fig")
only = take("VisOnlyQA/src/evaluation/evaluation.py", "get_final_answer_from_response", QTYPE=str, call_llm=none,
            get_postprocess_prompt=lambda **_: "")
only_metrics = take("VisOnlyQA/src/evaluation/metrics.py", "get_metrics")
paligemma = take("big_vision/big_vision/evaluators/proj/paligemma/transfers/tallyqa.py", "_number_word_to_numeral", "REPLACEMENTS")
real_world = take("MME-RealWorld/evaluation/eval_your_results.py", "extract_characters_regex")
hr_authors = take("HR-Bench/hrbench/vlmeval/dataset/utils/hrbench.py", "hrbench_score")
hr_match = take("HR-Bench/hrbench/vlmeval/utils/matching_util.py", "can_infer_option", "can_infer_text", "can_infer",
                cp=import_module("copy"))
hr_prompt = take("HR-Bench/hrbench/vlmeval/dataset/image_mcq.py", "ImageMCQDataset", ImageBaseDataset=object, toliststr=lambda _: [])
KIT = "VLMEvalKit/vlmeval"
punctuation = take(f"{KIT}/smp/misc.py", "process_punctuation")
yorn = take(f"{KIT}/dataset/utils/yorn.py", "YOrN_Extraction", process_punctuation=punctuation.process_punctuation)
kit_match = take(f"{KIT}/utils/matching_util.py", "_VERBOSE_ANSWER_RE", "can_infer_option", "can_infer_text", "can_infer",
                 cp=import_module("copy"), logger=SimpleNamespace(info=none))
kit_hr = take(f"{KIT}/dataset/utils/hrbench.py", "report_acc_hrbench", "hrbench_score")
kit_letters = take(f"{KIT}/dataset/utils/multiple_choice.py", "extract_characters_regex", "get_dimension_rating", load=lambda data: data)
kit_natural = take(f"{KIT}/dataset/utils/naturalbench.py", "extract_answer")
kit_blind = take(f"{KIT}/dataset/image_mcq.py", "VLMBlind", ImageMCQDataset=object, load=lambda data: data, dump=lambda *_: None,
                 get_intermediate_file_path=lambda *_: None).VLMBlind()
kit_count = take(f"{KIT}/dataset/image_vqa.py", "CountBenchQA", ImageVQADataset=object, load=lambda data: data, dump=lambda *_: None,
                 d2df=lambda _: None, get_intermediate_file_path=lambda *_: None).CountBenchQA()


def molmo(answers, counts):
    """What Molmo's `PointCountEval` finds: for each answer whether it is right, and whether it has a number."""
    torch = MagicMock()
    tensor = torch.zeros.return_value.detach.return_value.cpu.return_value
    tensor.max.return_value.item.return_value = len(answers)
    tensor.numpy.return_value = np.array(counts)
    evaluator = take("molmo/olmo/eval/evaluators.py", "PointCountEval", "WORD_TO_NUM", Evaluator=object, torch=torch, dist=MagicMock(),
                     get_world_size=lambda: 1, mean_metric=list)
    tokens = [np.array([i]) for i in range(len(answers))]
    decoder = SimpleNamespace(decode=lambda token: answers[int(token[0])])
    found = evaluator.PointCountEval()([{"count": n} for n in counts], {"predictions": tokens, "prompts": None}, decoder)
    return found["correct"], found["valid"]


# ---------------------------------------------------------------- the code of lmms-eval


def as_is(*_, **__):
    return lambda function: function


def stand_in(name, **attributes):
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(attributes)


LIBRARY = REPOSITORIES / "lmms_eval"
stand_in("lmms_eval", __path__=[str(LIBRARY)])
stand_in("lmms_eval.tasks", __path__=[str(LIBRARY / "tasks")])
stand_in("PIL", Image=None)
stand_in("tqdm", tqdm=lambda x, **_: x)
stand_in("loguru", logger=SimpleNamespace(info=lambda *_: None, error=lambda *_: None, warning=lambda *_: None))
lmms = {name: import_module(f"lmms_eval.tasks.{name}.utils")
        for name in ("naturalbench", "countbenchqa", "pixmo_count", "vlmsareblind", "hrbench", "mme_realworld")}
lmms["hrbench"].hrbench_evaluator._post_request = none
strip_reasoning_tags = import_module("lmms_eval.api.reasoning").strip_reasoning_tags
REASONING = [["<think>", "</think>"], ["<analysis>", "</analysis>"]]
assert json.dumps(REASONING) in (LIBRARY / "__main__.py").read_text()


def cleaned(answer):
    return strip_reasoning_tags(answer, REASONING).strip()


def settings(file):
    text = re.sub(r"!function\s+\S+", "null", (LIBRARY / "tasks" / file).read_text())
    return (yaml.safe_load(text).get("lmms_eval_specific_kwargs") or {}).get("default")


# ---------------------------------------------------------------- verdicts


def natural_verdict(extract, said, question):
    found = quiet(extract, said, question["facts"]["type"])
    return None if found == -1 else float(found == (question["answer"] in ("Yes", "A")))


def hallusion_verdict(said, question):
    found = yorn.YOrN_Extraction(said)
    return None if found == "Unknown" else float(found == question["answer"])


def only_verdict(said, question):
    options = question["facts"]["options"].split(",")
    found = only.get_final_answer_from_response(prompt="", response=said, question_type=question["facts"]["type"], response_options=options, seed=0)
    return float(only_metrics.get_metrics([found], [question["answer"]])["accuracy"])


def count_verdict(said, question):
    # The authors' models answer without white space; a blank answer is none.
    said = said.strip()
    same = paligemma._number_word_to_numeral(said) == paligemma._number_word_to_numeral(question["answer"])
    return float(same) if said else None


def pixmo_verdict(said, question):
    right, valid = molmo([said], [int(question["answer"])])
    return float(right[0]) if valid[0] else None


def real_world_verdict(said, question):
    found = real_world.extract_characters_regex(said, question["options"])
    # The code takes a blank answer for A.
    return float(found == question["answer"]) if found and said.strip() else None


def letter(found):
    return found if found and found != "Z" else None


def options_of(question):
    return dict(zip("ABCD", question["options"]))


def kit_letter(said, question):
    return letter(kit_match.can_infer(said, options_of(question)))


def blind_doc(question):
    return {"task": question["subtask"], "groundtruth": question["answer"], "prompt": ""}


def kit_blind_verdict(said, question):
    frame = pd.DataFrame([{"task": question["subtask"], "answers": question["answer"], "prediction": said}])
    return float(kit_blind.evaluate(frame).iloc[0, 0])


def kit_count_verdict(said, question):
    stored = []
    # `evaluate` returns the accuracy in percent.
    frame = pd.DataFrame([{"index": 0, "prediction": said, "answer": question["answer"]}])
    stored.append(kit_count.evaluate(frame)["accuracy"] / 100)
    return stored[0]


def lmms_natural(said, question):
    found = lmms["naturalbench"].naturalbench_process_results({"Question_Type": question["facts"]["type"], "Index": 0}, [said])
    return float(found["naturalbench_G_ACC"]["score"] == (question["answer"] in ("Yes", "A")))


def hr_doc(question):
    return {"question": "?", "answer": question["answer"], "category": "single", "cycle_category": 0, "index": 0, **options_of(question)}


def real_world_doc(question):
    return {"index": 0, "category": "Perception/Monitoring", "l2-category": "x", "answer": question["answer"],
            "multi-choice options": question["options"]}


def lmms_real_world(said, question):
    module = lmms["mme_realworld"]
    return float(module.mme_realworld_aggregate_results([module.mme_realworld_process_results(real_world_doc(question), [said])["mme_realworld_score"]]))


LMMS = {
    "naturalbench": lmms_natural,
    "countbenchqa": lambda a, q: lmms["countbenchqa"].countbenchqa_process_results({"number": int(q["answer"])}, [a])["acc"],
    "pixmo-count": lambda a, q: lmms["pixmo_count"].pixmo_count_process_results({"answer": q["answer"]}, [a])["acc"],
    "vlms-are-blind": lambda a, q: lmms["vlmsareblind"].vlmsareblind_process_results(blind_doc(q), [a])["accuracy"],
    "hr-bench-4k": lambda a, q: float(lmms["hrbench"].hrbench_process_results(hr_doc(q), [a])["average"]["gpt_score"]),
    "mme-realworld": lmms_real_world,
}
OWN = {
    "naturalbench": lambda a, q: natural_verdict(natural.extract_answer, a, q),
    "hallusion-bench": hallusion_verdict,
    "visonlyqa-real": only_verdict,
    "countbenchqa": count_verdict,
    "pixmo-count": pixmo_verdict,
    "mme-realworld": real_world_verdict,
}
REFERENCES = {
    "naturalbench": {"VLMEvalKit": lambda a, q: natural_verdict(kit_natural.extract_answer, a, q)},
    "countbenchqa": {"VLMEvalKit": kit_count_verdict},
    "vlms-are-blind": {"VLMEvalKit": kit_blind_verdict},
    "hr-bench-4k": {"HR-Bench": lambda a, q: (lambda l: None if l is None else float(l == q["answer"]))(letter(hr_match.can_infer(a, options_of(q))))},
    "mme-realworld": {"VLMEvalKit": lambda a, q: float(kit_letters.extract_characters_regex(a) == q["answer"])},
}


def untagged(answer):
    """The answer in `<answer>` tags, which our rules open before they read it."""
    found = re.fullmatch(r"<answer>\s*(.*?)\s*</answer>", answer)
    return found[1] if found else answer


def verdict(function, *arguments):
    try:
        return function(*arguments)
    except NoVerdict:
        return None


def questions():
    """The adversarial cases: benchmark, question, answer, and the verdict of our rules if no code gives it."""
    for answer in YES_NO:
        for right in ("Yes", "No"):
            yield "naturalbench", {"answer": right, "facts": {"type": "yes_no", "words": "Yes,No"}}, answer, ...
            yield "hallusion-bench", {"answer": right}, answer, ...
    for answer in LETTERS_AB:
        for right in "AB":
            yield "naturalbench", {"answer": right, "facts": {"type": "multiple_choice", "words": "A,B"}}, answer, ...
    for answer in TRUE_FALSE:
        for right in ("True", "False"):
            yield "visonlyqa-real", {"answer": right, "facts": {"type": "single_answer", "options": "True,False"}}, answer, ...
    for answer in LETTERS + [a.lower() for a in LETTERS]:
        yield "visonlyqa-real", {"answer": "b", "facts": {"type": "single_answer", "options": "a,b,c,d,e"}}, answer, ...
    for answer, found in SEVERAL:
        for right in ("a,c", "b"):
            own = None if found is None else float(found == right)
            yield "visonlyqa-real", {"answer": right, "facts": {"type": "multiple_answers", "options": "a,b,c,d"}}, answer, own
    for answer in COUNTS:
        for right in ("3", "10"):
            yield "countbenchqa", {"answer": right}, answer, ...
            yield "pixmo-count", {"answer": right}, answer, ...
    for tasks, right, answer, found in BLIND:
        for task in tasks:
            yield "vlms-are-blind", {"answer": right, "subtask": task}, answer, None if found is None else float(found == right.lower())
    options = ["dog", "cup", "red car", "tree"]
    listed = [f"({letter}) {text}" for letter, text in zip("ABCDE", [*options, "None of these"])]
    for answer in LETTERS:
        found = EXCEPTIONS[answer]["is"] if answer in EXCEPTIONS else kit_letter(answer, {"options": options})
        for right in "ABCD":
            yield "hr-bench-4k", {"answer": right, "options": options}, answer, None if found is None else float(found == right)
            yield "mme-realworld", {"answer": right, "options": listed}, answer, ...
    for answer, plain in REASONED:
        for benchmark, right, facts in (("naturalbench", "B", {"facts": {"type": "multiple_choice", "words": "A,B"}}), ("mme-realworld", "B", {"options": listed})):
            own = None if plain is None else verdict(OWN[benchmark], plain, {"answer": right, **facts})
            yield benchmark, {"answer": right, **facts}, answer, own


def cases():
    """The cases of our rules by benchmark, and those of lmms-eval."""
    found, of_lmms = defaultdict(list), []
    for benchmark, question, answer, own in questions():
        case = {"answer": answer, "question": question, "own": verdict(OWN[benchmark], untagged(answer), question) if own is ... else own}
        if benchmark in LMMS:
            score = verdict(quiet, LMMS[benchmark], cleaned(answer), question)
            of_lmms.append({"benchmark": benchmark, "answer": answer, "gold": question, "scores": [score]})
        references = {name: verdict(quiet, f, answer, question) for name, f in REFERENCES.get(benchmark, {}).items()}
        if references:
            case["references"] = references
        if benchmark == "hr-bench-4k" and answer in EXCEPTIONS:
            case["why"] = EXCEPTIONS[answer]["why"]
        found[benchmark].append(case)
    return found, of_lmms


# ---------------------------------------------------------------- prompts and numbers of the fixtures


def rows(benchmark):
    """The rows of a fixture, in the order of the splits that the benchmark file names."""
    folder = GOLDEN / "benchmarks" / benchmark
    declared = tomllib.loads((GOLDEN.parent.parent / f"probe/bench/benchmarks/{benchmark}.toml").read_text())
    files = [file for split in declared["data"]["split"].split("+") for file in sorted(folder.rglob(f"{split}*.parquet"))]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def natural_prompts(docs):
    """The prompts, by the loop in the authors' script that builds them from its groups of two questions and two images."""
    tree = ast.parse((REPOSITORIES / "NaturalBench/naturalbench_vqa.py").read_text())
    main = next(node for node in tree.body if isinstance(node, ast.If)).body
    loop = [node for node in main if isinstance(node, ast.For)][0]
    items = [{"Question_0": docs[i]["Question"], "Question_1": docs[i + 2]["Question"], "Question_Type": docs[i]["Question_Type"],
              **{f"Image_{k}": None for k in (0, 1)}, **{f"Image_{k}_Question_{n}": None for k in (0, 1) for n in (0, 1)}}
             for i in range(0, len(docs), 4)]
    space = {"naturalbench": [], "dataset": {"train": items}, "SUFFIX_FOR_VQA": natural.SUFFIX_FOR_VQA}
    exec(compile(ast.Module([loop], []), "naturalbench_vqa.py", "exec"), space)
    return [entry[0] for entry in space["naturalbench"]]


def natural_numbers(docs, said):
    found = [quiet(natural.extract_answer, a, d["Question_Type"]) for d, a in zip(docs, said)]
    scores = natural.get_scores([found[i : i + 4] for i in range(0, len(found), 4)])
    return {"score": scores["G_Acc"], "Acc": scores["Acc"], "Q-Acc": scores["Q_Acc"], "I-Acc": scores["I_Acc"]}


def lmms_natural_numbers(docs, said):
    module, times = lmms["naturalbench"], 7600 // len(docs)
    found = [quiet(module.naturalbench_process_results, d, [a]) for d, a in zip(docs, said)]
    numbers = {}
    for name in ("G_ACC", "Q_ACC", "I_ACC"):
        # The code takes 7,600 answers only, so the fixture is repeated.
        scores = [entry[f"naturalbench_{name}"]["score"] for entry in found] * times
        numbered = [{"id": i, "score": score} for i, score in enumerate(scores)]
        numbers[f"naturalbench_{name}"] = getattr(module, f"naturalbench_aggregate_results_{name}")(numbered)
    return numbers


def hallusion_numbers(docs, said):
    entries = []
    for doc, answer in zip(docs, said):
        right = hallusion_verdict(answer, {"answer": ["No", "Yes"][int(doc["gt_answer"])]})
        # "Unclear" is wrong here; the authors count it as right for a question without an image.
        # `same` only decides on the kinds of errors, which are not used.
        entries.append({**doc, "check": "1" if right else "0", "same": "1"})
    entries = hallusion.assign_correctness(entries, "check")
    share = lambda found: found["correct"] / found["total"]  # noqa: E731
    return {"score": share(hallusion.get_eval_all(entries, "check")), "qAcc": share(hallusion.get_eval_pair_all(entries, "check")),
            "fAcc": share(hallusion.get_eval_fig(entries))}


def only_question(doc):
    return {"answer": doc["answer"], "facts": {"type": doc["question_type"], "options": ",".join(doc["response_options"])}}


def only_numbers(docs, said):
    found = []
    for doc, answer in zip(docs, said):
        several = doc["question_type"] == "multiple_answers"
        found.append(answer == doc["answer"] if several else bool(verdict(only_verdict, answer, only_question(doc))))
    y_pred = [doc["answer"] if right else "" for doc, right in zip(docs, found)]
    return {"score": float(only_metrics.get_metrics(y_pred, [doc["answer"] for doc in docs])["accuracy"])}


def blind_numbers(docs, said):
    found = [{"task": doc["task"], "is_correct": any(form == a for form in right_forms(doc))} for doc, a in zip(docs, said)]
    by_task = lmms["vlmsareblind"].vlmsareblind_aggregate_by_task(found)
    return {"score": by_task["task_mean"], "accuracy": mean(float(entry["is_correct"]) for entry in found)}


def right_forms(doc):
    right = doc["groundtruth"]
    rows_columns = right.split(",")
    return [right, f"{{{right}}}", f"({right})", *(["rows={%s} columns={%s}" % tuple(rows_columns)] if len(rows_columns) == 2 else [])]


def lmms_blind_numbers(docs, said):
    module = lmms["vlmsareblind"]
    found = [module.vlmsareblind_process_results(d, [a]) for d, a in zip(docs, said)]
    by_task = module.vlmsareblind_aggregate_by_task([f["accuracy_by_task"] for f in found])
    return {"accuracy": mean(f["accuracy"] for f in found), "accuracy_by_task task_mean": by_task["task_mean"]}


def hr_numbers(docs, said):
    hits = [float(a.strip("().") == doc["answer"]) for doc, a in zip(docs, said)]
    frame = pd.DataFrame([{**doc, "hit": hit, "gpt_score": hit} for doc, hit in zip(docs, hits)])
    table = kit_hr.report_acc_hrbench(frame)
    average = {row["type"]: row["accuracy"] for _, row in table[table["cycle"] == "Average"].iterrows()}
    cycles = [hr_authors.hrbench_score(part)[1] for _, part in frame.groupby("cycle_category")]
    assert all(abs(mean(c[name] for c in cycles) - value) < 1e-12 for name, value in average.items())
    return {"score": float(average.pop("all")), **{name: float(average[name]) for name in sorted(average)}}


def hr_prompts(docs):
    data = hr_prompt.ImageMCQDataset()
    data.meta_only = True
    return [data.build_prompt({**doc, "image_path": ""})[-1]["value"] for doc in docs]


def lmms_hr_numbers(docs, said):
    module, found = lmms["hrbench"], defaultdict(list)
    for doc, answer in zip(docs, said):
        for name, value in module.hrbench_process_results(doc, [answer]).items():
            found[name].append(value)
    return {name: module.hrbench_aggregate_results(values, None) for name, values in found.items()}


def real_world_numbers(docs, said):
    entries, results = [], []
    for doc, answer in zip(docs, said):
        task, subtask = doc["category"].split("/")
        results.append({"Task": task, "Subtask": subtask, "Category": doc["l2-category"], "Question_id": doc["index"], "Output": answer,
                        "Ground truth": doc["answer"], "Answer choices": doc["multi-choice options"]})
        found = real_world.extract_characters_regex(answer, doc["multi-choice options"])
        entries.append({**doc, "score": int(found == doc["answer"])})
    rating = kit_letters.get_dimension_rating(pd.DataFrame(entries))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(results, file)
        file.flush()
        script = REPOSITORIES / "MME-RealWorld/evaluation/eval_your_results.py"
        printed = subprocess.run([sys.executable, script, "--results_file", file.name], capture_output=True, text=True, check=True).stdout
    assert f"Overall Acc {rating['Overall']:.4f}" in printed, printed
    numbers = {"score": rating["Overall"]}
    for task in ("Perception", "Reasoning"):
        assert re.search(rf"Acc {rating[task]['Avg']:.4f}\t E choice \d+ \t{task} ", printed), printed
        numbers[task] = rating[task]["Avg"]
        there = [part["Avg"] for name, part in rating[task].items() if name != "Avg" and len(part) > 1]
        numbers[f"{task} Avg-C"] = mean(there)
    return {name: float(value) for name, value in numbers.items()}


def real_world_prompts(docs):
    """The prompts, by the class of the authors' script that prepares them for LLaVA, without the image token and the turns."""
    token = "<image>\n"
    conversation = SimpleNamespace(roles=["u", "a"], text="", append_message=lambda *_: None)

    def copy():
        kept = SimpleNamespace(roles=conversation.roles, text=[])
        kept.append_message = lambda _, text: kept.text.append(text)
        kept.get_prompt = lambda: kept.text[0]
        return kept

    seen = []
    script = take("MME-RealWorld/evaluation/model_vqa_mme_real_world.py", "CustomDataset", Dataset=object, DEFAULT_IMAGE_TOKEN="<image>",
                  conv_templates={"x": SimpleNamespace(copy=copy)}, args=SimpleNamespace(conv_mode="x"), Image=MagicMock(),
                  process_images=MagicMock(), tokenizer_image_token=lambda text, *_, **__: seen.append(text), IMAGE_TOKEN_INDEX=0)
    text = (REPOSITORIES / "MME-RealWorld/evaluation/model_vqa_mme_real_world.py").read_text()
    asked = re.search(r'"--test-prompt",\s+type=str,\s+default="([^"]+)"', text)[1]
    lines = [{"Answer choices": d["multi-choice options"], "Image": "x", "Text": d["question"]} for d in docs]
    data = script.CustomDataset(lines, "", None, None, SimpleNamespace(mm_use_im_start_end=False), asked)
    for i in range(len(docs)):
        data[i]
    return [text.removeprefix(token) for text in seen]


def by_row(function):
    return lambda docs: [function(doc) for doc in docs]


def plain(benchmark, question, name):
    def numbers(docs, said):
        judge = LMMS[benchmark] if name != "score" else OWN[benchmark]
        return {name: mean(verdict(judge, a, question(d)) or 0.0 for d, a in zip(docs, said))}

    return numbers


def lmms_real_world_numbers(docs, said):
    module = lmms["mme_realworld"]
    found = [module.mme_realworld_process_results(d, [a])["mme_realworld_score"] for d, a in zip(docs, said)]
    return {"mme_realworld_score": module.mme_realworld_aggregate_results(found)}


def lmms_text(task, yaml_file=None):
    function = getattr(lmms[task], f"{task}_doc_to_text")
    return by_row(lambda doc: function(doc, settings(yaml_file)) if yaml_file else function(doc))


count_question = lambda doc: {"answer": str(doc["number"])}  # noqa: E731
pixmo_question = lambda doc: {"answer": re.search(r"\d+", doc["answer"])[0]}  # noqa: E731
LETTER_ANSWERS = ["A", "B", "C", "D", "(A)", "(B)", "C.", "(D)"]
# Prompts and numbers, of our rules and of lmms-eval, and the answers to draw from; `None` where no code has prompts.
TABLES = {
    "naturalbench": (natural_prompts, natural_numbers, lmms_text("naturalbench"), lmms_natural_numbers,
                     lambda d: ["Yes", "no.", "maybe", d["Answer"], d["Answer"], "A", "(B)"]),
    "hallusion-bench": (None, hallusion_numbers, None, None, lambda d: ["Yes", "No", "yes, it is", "I cannot tell", ["No.", "Yes."][int(d["gt_answer"])]]),
    "visonlyqa-real": (by_row(lambda d: d["prompt_no_reasoning"]), only_numbers, None, None, lambda d: [d["answer"], *d["response_options"], "unclear"]),
    "countbenchqa": (None, plain("countbenchqa", count_question, "score"), lmms_text("countbenchqa", "countbenchqa/countbenchqa.yaml"),
                     plain("countbenchqa", count_question, "acc"), lambda d: [str(d["number"]), "three", "5", "Ten", f"{d['number']}."]),
    "pixmo-count": (None, plain("pixmo-count", pixmo_question, "score"), lmms_text("pixmo_count", "pixmo_count/pixmo_count.yaml"),
                    plain("pixmo-count", lambda d: d, "acc"), lambda d: [d["answer"], "three", "There are 4", "a total of 5 things", "7."]),
    "vlms-are-blind": (by_row(lambda d: d["prompt"]), blind_numbers, lmms_text("vlmsareblind", "vlmsareblind/vlmsareblind.yaml"),
                       lmms_blind_numbers, lambda d: [*right_forms(d), "rows={12} columns={13}", "{14}"]),
    "hr-bench-4k": (hr_prompts, hr_numbers, lmms_text("hrbench"), lmms_hr_numbers, lambda d: [*LETTER_ANSWERS, d["answer"], d["answer"]]),
    "mme-realworld": (real_world_prompts, real_world_numbers, lmms_text("mme_realworld"), lmms_real_world_numbers,
                      lambda d: [*LETTER_ANSWERS, "E", "none", d["answer"], d["answer"]]),
}
TABLES["visonlyqa-synthetic"], TABLES["hr-bench-8k"] = TABLES["visonlyqa-real"], TABLES["hr-bench-4k"]
TABLES["mme-realworld-lite"] = TABLES["mme-realworld"]


def table(benchmark, ask, count, pool, clean, rng):
    docs = rows(benchmark)
    found = {"prompts": dict(enumerate(ask(docs))) if ask else None, "runs": []}
    for _ in range(8):
        said = [rng.choice(pool(doc)) for doc in docs]
        numbers = quiet(count, [dict(doc) for doc in docs], [clean(answer) for answer in said])
        found["runs"].append({"answers": dict(enumerate(said)), "numbers": numbers})
    return found


def write(name, entries):
    """Writes a list, or an object, with a line for each entry."""
    opening, closing = "{}" if isinstance(entries, dict) else "[]"
    pairs = entries.items() if isinstance(entries, dict) else ((None, entry) for entry in entries)
    lines = ",\n".join((f"{json.dumps(k)}: " if k else "") + json.dumps(v, ensure_ascii=False) for k, v in pairs)
    (GOLDEN / "scorers" / name).write_text(f"{opening}\n{lines}\n{closing}\n", encoding="utf-8")


def main():
    own, of_lmms = cases()
    for benchmark, found in own.items():
        write(f"pairs_2026/{benchmark}.json", found)
        unread = sum(case["own"] is None for case in found)
        print(f"{benchmark:16} {len(found):4} cases of {len({case['answer'] for case in found}):3} answers, {unread:3} without a verdict")
    write("lmms_eval_more-pairs.json", of_lmms)
    rng = random.Random(2026)
    tables = {b: table(b, ask, count, pool, str, rng) for b, (ask, count, _, _, pool) in TABLES.items()}
    write("pairs_2026/tables.json", tables)
    tables = {b: table(b, ask, count, pool, cleaned, rng) for b, (_, _, ask, count, pool) in TABLES.items() if count}
    write("lmms_eval_tables-pairs.json", tables)


main()
