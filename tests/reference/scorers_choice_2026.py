"""Goldens for probe/bench: MMMU-Pro, AI2D without mask, MMBench 1.1, SEED-Bench-2-Plus, VMCBench, MuirBench, CRPE and
3DSRBench, with the prompts, verdicts and numbers of their authors' code, of VLMEvalKit and of lmms-eval 0.7.3.

Run:  PYTHONPATH=DIR python tests/reference/scorers_choice_2026.py REFERENCES
where DIR holds the unpacked wheel lmms_eval 0.7.3 (`pip download --no-deps lmms-eval==0.7.3`), and REFERENCES, unpacked from
their repositories at these commits:
  MMMU (MMMU-Benchmark, bb0b95a94599)  MuirBench (muirbench, 840b85fe960a)  all-seeing (OpenGVLab, 5cb8cea06928)
  VLMEvalKit (open-compass, e8e78f05f308: the official code of MMBench, VMCBench and 3DSRBench)
Pinned: numpy 2.4.6, pandas 3.1.1, pyarrow 26.0.1, Pillow 13.0.0, PyYAML 6.0.4, Python 3.11.

- `scorers/choice-2026/<id>.json`: for every adversarial answer the letter that the official rule reads, or null where it
  reads none, draws at random or asks a language model; for every fixture (`benchmarks/<id>`) the official prompts, images
  and numbers. AI2D without mask and SEED-Bench-2-Plus have no official rule for answers in words: their verdicts are those
  of the strict parser, written by hand in scorers.py, and `others` is what VLMEvalKit reads.
- `scorers/lmms_eval_more-choice.json` and `scorers/lmms_eval_tables-choice.json`: as those of scorers_lmms_eval.py.

Functions are taken from their files unchanged. Answers are stripped first, as by the code that generates them.
"""

import ast
import base64
import contextlib
import copy
import io
import json
import math
import os
import os.path as osp
import random
import re
import string
import sys
import types
import warnings
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

import scorers_choice_lmms as lmms
from benchmarks_choice_2026 import CRPE_LINE, IDS

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
REFERENCES = Path(sys.argv[1])
KIT = REFERENCES / "VLMEvalKit/vlmeval"
QUIET = SimpleNamespace(info=lambda *_: None, warning=lambda *_: None)


class NoVerdict(Exception):
    """The reference would draw at random."""


def draw(*_):
    raise NoVerdict


def extracted(path, *names, within=None, **scope):
    """Functions and constants of a file, or methods of its class `within`, unchanged, evaluated in `scope`."""
    tree = ast.parse((REFERENCES / path).read_text())
    body = tree.body if within is None else next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == within).body
    for node in body:
        named = getattr(node, "name", None) or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id)
        if named in names:
            if hasattr(node, "decorator_list"):
                node.decorator_list = []
            exec(compile(ast.Module([node], []), str(path), "exec"), scope)
    found = [scope[name] for name in names]
    return found[0] if len(found) == 1 else found


def constants(path, names):
    """Constants that a script assigns, without running it."""
    scope = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and {t.id for t in node.targets if isinstance(t, ast.Name)} & set(names):
            exec(compile(ast.Module([node], []), str(path), "exec"), scope)
    return [scope[name] for name in names]


def letters_of(options):
    return list(string.ascii_uppercase[: len(options)])


def named(options):
    return dict(zip(letters_of(options), options))


# ---------------------------------------------------------------- answers

ABCD, AB, NUM, ARTICLE, *_, LETTERS = constants(HERE / "scorers.py", ["ABCD", "AB", "NUM", "ARTICLE", "FORM", "TEXT", "WORD", "SEVERAL", "DENIED", "NOISE", "UNSURE", "LETTERS"])
TEN = ["red", "green", "blue", "white", "black", "grey", "pink", "brown", "orange", "purple"]
PREPOSITIONS = ["on", "on top of", "in front of", "under"]
SIGNS = ["wall-paper", "it's", "A", "B."]
LONG = "The picture shows several things, and of all of them"
# Reasoning, and what is left of it for the official rules; None if it is cut off.
THOUGHTS = [
    ("<think>Maybe A.</think>\n\nB", "B"), ("<think>A</think>(B)", "(B)"), ("<THINK>A</THINK>C", "C"), ("<thinking>A</thinking>The answer is D.", "The answer is D."),
    ("<think>A or B", None), ("<think>", None), ("Let me see: A\n</think>\nB", "B"), ("<think>A</think><answer>B</answer>", "B"), ("◁think▷A◁/think▷B", "B"),
    ("<think>A</think>", ""), ("<analysis>A</analysis>B", "B"), ("<think>A</think>Answer: C", "Answer: C"),
    ("<answer>B</answer>", "B"), ("<answer>cup</answer>", "cup"), ("<thought>A</thought>B", "B"),
]
FORMS = [
    (answer, options)
    for options, answers in (
        (ABCD, ["(A)\n\n(B)", "(A) or (B)\n\n(B)", "I think (A).", "(E)", "E.", "E", "F", "(J)", f"{LONG} the cup fits.", f"{LONG} a dog and a cup.", f"{LONG} A fits.", f"{LONG} A fits best, and B not",
                f"{LONG} (C) fits, not (A)", "the answer is a", "The answer is a dog", "answer is **C**", "Answer is: D", "The  answer\nis  B", "answer isB", "the answer is not a", "Option b",
                "the answer is (b)", "Z", "A Z", "Z.", "B B B", "A, A", "a b", "Sorry, I can't help with images of people yet.", "I can't process this file. A", "Cannot determine the answer, B",
                "Failed to obtain answer via API: A", "A is the first of many words here in front", "so many words in front of it, then B", "'B'", "B;;", "...B...", "!B!", "C:", "?C", "a red car",
                "the red car or the tree", "dog" * 12, "答案是 B", "答案是B。", "选B", "B。", "（B）", "Ｂ", "ｂ", "answer：B", "A) dog\n\nB", "1", "0", "(b).", "((B))", "B\u00a0", "B\ttext",
                "Both A and (B)", "[B] cup", "{B}", "#B", "<B>", "B/C", "+B", "Answer: B", "Answer:B", "Answer: (B)", "answer: B", "Answer: B or C", "Answer: cup", "Answer: B. cup",
                "A\nAnswer: C", "Answer: A\nAnswer: D", "Answer: $B", "Answer: $LETTER", "Answer: E", "Answer:", "Answer: \n", "My answer: D, because A is wrong", "The answer: C", "final answer (D)",
                "A. is wrong. B. is right", "A.B", "B .", "It is B. cup", "It is B.", "AB. CD", "dog.", "Dog", "The dog", "red  car", "Neither the dog nor the cup", "I would say B, not A",
                "B is not right", "Option (D) is not right", "not A", "I don't know, maybe C", "The correct answer is **B**. Here's why: A is a dog", "The correct answer is\n\nB", "d", "D\n", "\nD",
                "\\boxed{B}", "None of the above", "I"]),
        (AB, ["The box is nearer than the ball", "the box", "The ball!", "(a) (b)\n\n(a)", "C", "(C)", "both", "the BALL", "A: the ball", "b", "the ball, the box"]),
        (NUM, ["There are 4.", "4 or 5", "The number of them is certainly 5", "three", "B: 4", "3456"]),
        (ARTICLE, ["It shows a dog, not a cup", "no animal at all is in it", "an apple", "a", "A dog"]),
        (TEN, ["J", "j", "(J)", "J.", "I", "I think J", "I think it is J.", "I see red", "I am sure: H", "H because", "Answer: J", "Answer: I", "Answer: I think J", "Answer: I or J", "Answer: Jade",
               "Answer: K", "K", "(K)", "purple", "The square is purple, as one can see", "The colour of the square could be red or blue or grey", "I. orange", "J: purple", "A B C D E F G H I J",
               "Answer: The letter is C", "Answer: the letter C", "Answer: (A), not (B)", "Final Answer: G", "**Answer: F**", "Answer: **E**", "answer: J", "Answer: purple", "Eight", "H or I", "GHI",
               "A.B.C.", "In the end: D", "IJ. H", "The text says F. So it is F.", "(A) red (J) purple", "Answer: B\nThe reason is simple.", "Answer: B\nBecause it is green."]),
        (PREPOSITIONS, ["on", "on top of", "On", "The cup is on the table", "in front of it", "under", "B. on top of", "upon", "top", "C",
                        "Failed to obtain answer via API: under"]),
        (SIGNS, ["wall-paper", "wallpaper", "it's", "its", "A", "B", "B.", "C", "D. B.", "D"]),
    )
    for answer in answers
]
STRICT = {(answer, tuple(options)): letter for answer, options, letter, _ in LETTERS}
ALL = list(dict.fromkeys([(a, tuple(o)) for a, o, *_ in LETTERS] + [(a, tuple(o)) for a, o in FORMS]))
ALL = [(a, list(o)) for a, o in ALL]

# ---------------------------------------------------------------- official rules

PRO = "MMMU/mmmu-pro/evaluate.py"
pro_parse, pro_choices = extracted(PRO, "parse_multi_choice_response", "get_multi_choice_info", np=np, random=SimpleNamespace(choice=draw), print=lambda *_: None)
muir_parse = extracted("MuirBench/eval/utils/postprocess.py", "parse_multi_choice_response", np=np, random=SimpleNamespace(choice=draw))
muir_prompt = extracted("MuirBench/eval/utils/preprocess.py", "create_prompt")
VMC = "VLMEvalKit/vlmeval/dataset/utils/vmcbench.py"
vmc_parse = extracted(VMC, "parse_multi_choice_response", np=np, random=SimpleNamespace(choice=draw))
vmc_drawless = extracted(VMC, "parse_multi_choice_response", np=np, random=SimpleNamespace(choice=lambda _: None))
vmc_score, vmc_report = extracted(VMC, "get_mc_score", "report_vmc_acc", pd=pd, parse_multi_choice_response=vmc_drawless)
crpe_eval = extracted("all-seeing/all-seeing-v2/llava/eval/eval_crpe.py", "eval_crpe", defaultdict=defaultdict, print=print)
kit_crpe = extracted("VLMEvalKit/vlmeval/dataset/utils/crpe.py", "is_correct")
MATCHING = "VLMEvalKit/vlmeval/utils/matching_util.py"
can_infer = extracted(MATCHING, "_VERBOSE_ANSWER_RE", "can_infer_option", "can_infer_text", "can_infer", re=re, cp=copy, os=os, string=string, logger=QUIET)[-1]

STORE = {}


def dump(value, path):
    STORE[path] = copy.deepcopy(value)


def load(path):
    return copy.deepcopy(STORE[path])


def in_turn(function, tasks, **_):
    return [function(**task) for task in tasks]


QUIZ = "VLMEvalKit/vlmeval/dataset/utils/multiple_choice.py"
scope = dict(pd=pd, np=np, string=string, can_infer=can_infer, logger=QUIET, osp=SimpleNamespace(exists=lambda _: False), dump=dump, load=lambda p: load(p) if p in STORE else {},
             track_progress_rich=in_turn, defaultdict=defaultdict, istype=lambda x, kind: isinstance(x, (kind, np.integer)), get_pred_file_format=lambda: "tsv", timestr=lambda: "0",
             build_option_str=lambda _: "", build_prompt=lambda *_: "", build_prompt_cn=lambda *_: "", cn_string=lambda _: False, rd=SimpleNamespace(choice=draw))
quiz = extracted(QUIZ, "MMB_abbrs", "report_acc", "build_choices", "prefetch_answer", "extract_answer_from_item", "prefetch_circular_group", "eval_vanilla", "eval_circular_group",
                 "mcq_vanilla_eval", "mcq_circular_eval", **scope)
ABBREVIATIONS, report_acc = quiz[:2]
vanilla_eval, circular_eval = quiz[-2:]
package = types.ModuleType("kit.utils.multiple_choice")
package.mcq_vanilla_eval, package.report_acc, package.mcq_circular_eval = vanilla_eval, report_acc, circular_eval
crpe_module = types.ModuleType("kit.utils.crpe")
crpe_module.is_correct = kit_crpe
sys.modules.update({"kit": types.ModuleType("kit"), "kit.utils": types.ModuleType("kit.utils"), "kit.utils.multiple_choice": package, "kit.utils.crpe": crpe_module})
sys.modules["kit"].__path__, sys.modules["kit.utils"].__path__ = [], []
CLASSES = dict(__package__="kit", pd=pd, np=np, string=string, cp=copy, osp=osp, dump=dump, load=load, warnings=warnings, print=lambda *_: None, tqdm=lambda x: x,
               get_intermediate_file_path=lambda f, *parts: f + "".join(parts), toliststr=lambda x: x)
spatial_evaluate = extracted("VLMEvalKit/vlmeval/dataset/image_mcq.py", "evaluate", within="_3DSRBench", **CLASSES)
crpe_evaluate = extracted("VLMEvalKit/vlmeval/dataset/image_vqa.py", "evaluate", within="CRPE", **CLASSES)
quiz_prompt = extracted("VLMEvalKit/vlmeval/dataset/image_mcq.py", "build_prompt", within="ImageMCQDataset", **CLASSES)
vmc_prompt = extracted("VLMEvalKit/vlmeval/dataset/image_mcq.py", "build_prompt", within="VMCBenchDataset", **CLASSES)
SELF = SimpleNamespace(meta_only=True)
PROMPTS = "MMMU/mmmu-pro/prompts.yaml"


def pro_scope():
    import yaml

    names = ["replace_images_tokens", "parse_options", "construct_prompt", "mmmu_doc_to_text", "origin_mmmu_doc_to_visual", "vision_mmmu_doc_to_visual"]
    config = yaml.safe_load((REFERENCES / PROMPTS).read_text())["direct"]
    return config, extracted("MMMU/mmmu-pro/infer/infer_gpt.py", *names, re=re, ast=ast, prompt_config=config)


PRO_PROMPTS, (_, _, _, pro_text, pro_visual, vision_visual) = pro_scope()


def parsed(function):
    """A verdict without a draw."""

    def letter(answer, options):
        try:
            return function(answer, letters_of(options), named(options))
        except NoVerdict:
            return None

    return letter


def kit_letter(answer, options):
    found = can_infer(answer, named(options))
    return found if found in letters_of(options) else None


def crpe_text(options, question="What is it?"):
    return f"{question}\n" + "\n".join(f"{l}. {o}" for l, o in named(options).items()) + f"\n{CRPE_LINE}"


def crpe_letter(answer, options):
    """The authors' script on four copies of the answer, with each character as the right option. It stops with a KeyError
    if a category has no answer of one character."""
    for right in dict.fromkeys(answer):
        questions = {1: {"category": "c", "correct_option": right}}
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(KeyError):
            crpe_eval(questions, [{"question_id": 1, "text": answer}] * 4)
        if "Acc: 100.00" in printed.getvalue():
            return right
    return None


def kit_crpe_letter(answer, options):
    """What VLMEvalKit takes as right: its comparison fails for an empty answer."""
    try:
        hits = [l for l in letters_of(options) if kit_crpe(l, answer)]
    except IndexError:
        return None
    return hits[0] if len(hits) == 1 else None


OFFICIAL = {
    "mmmu-pro": parsed(pro_parse), "mmmu-pro-vision": parsed(pro_parse), "muirbench": parsed(muir_parse), "vmcbench": parsed(vmc_parse), "crpe": crpe_letter, "crpe-exist": crpe_letter,
    "mmbench-v11-en": kit_letter, "mmbench-v11-cn": kit_letter, "3dsrbench": kit_letter,
}
# What another harness reads, for comparison only.
OTHERS = {"ai2d-no-mask": {"VLMEvalKit": kit_letter}, "seed-bench-2-plus": {"VLMEvalKit": kit_letter}, "muirbench": {"VLMEvalKit": kit_letter}, "crpe": {"VLMEvalKit": kit_crpe_letter}, "crpe-exist": {"VLMEvalKit": kit_crpe_letter},
          "mmmu-pro": {"VLMEvalKit": kit_letter}, "mmmu-pro-vision": {"VLMEvalKit": kit_letter}}


def answers_for(id):
    for answer, options in ALL:
        more = len(options) > 4 and not id.startswith("mmmu-pro")
        if more or (len(options) < 4 and id == "seed-bench-2-plus"):
            continue
        yield answer, options


def verdicts(id):
    cases = []
    for answer, options in answers_for(id):
        if id in OFFICIAL:
            said = OFFICIAL[id](answer.strip(), options)
        elif (answer, tuple(options)) in STRICT:
            said = STRICT[answer, tuple(options)]
        else:
            continue
        cases.append({"answer": answer, "options": options, "official": said, **({"others": {n: rule(answer.strip(), options) for n, rule in OTHERS[id].items()}} if id in OTHERS else {})})
    for answer, left in THOUGHTS if id in OFFICIAL else []:
        options = TEN if id.startswith("mmmu-pro") else ABCD
        cases.append({"answer": answer, "options": options, "official": None if left is None else OFFICIAL[id](left.strip(), options)})
    for case in cases:
        if id.startswith("crpe"):
            case["facts"] = {"text": crpe_text(case["options"])}
    return cases


# ---------------------------------------------------------------- prompts and numbers of the fixtures


def rows(id):
    root = GOLDEN / "benchmarks" / id
    if id.startswith("mmbench"):
        return pd.read_csv(next(root.glob("*.tsv")), sep="\t").to_dict("records")
    if id == "crpe-exist":
        return [json.loads(line) for line in (root / "crpe_exist.jsonl").read_text().splitlines()]
    files = sorted(p for p in root.rglob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def coded(images):
    return [base64.b64encode(i["bytes"]).decode() for i in images]


def kit_row(doc):
    return {**{k: v for k, v in doc.items() if v is not None}, "image_path": "x"}


def text_of(messages):
    [text] = [m["value"] for m in messages if m["type"] == "text"]
    return text


def ask(id, doc):
    """The official prompt, and the images that go with it."""
    if id == "mmmu-pro":
        text, order = pro_text(doc)
        return text, pro_visual(doc, order)
    if id == "mmmu-pro-vision":
        return PRO_PROMPTS["vision"], vision_visual(doc)
    if id == "muirbench":
        return muir_prompt(doc), doc["image_list"]
    if id == "crpe":
        return doc["text"], [doc["image"]]
    if id == "crpe-exist":
        return doc["text"], [{"bytes": (GOLDEN / "benchmarks/crpe-exist" / doc["image"]).read_bytes()}]
    if id in ("mmbench-v11-en", "mmbench-v11-cn", "3dsrbench"):
        return text_of(quiz_prompt(SELF, kit_row(doc))), None
    if id == "vmcbench":
        return text_of(vmc_prompt(SELF, kit_row(doc))), None
    return None, None


def percent(values):
    values = [float(v) for v in values]
    return 100 * sum(values) / len(values)


def grouped(docs, hits, key):
    groups = defaultdict(list)
    for doc, hit in zip(docs, hits):
        groups[doc[key]].append(hit)
    return {name: percent(of) for name, of in groups.items()}


def by_letter(id, key):
    """Numbers of authors who publish the rule for one answer, and the mean."""

    def numbers(docs, said):
        options = lambda d: ast.literal_eval(d["options"]) if isinstance(d["options"], str) else d["options"]
        hits = [OFFICIAL[id](a.strip(), options(d)) == d["answer"] for d, a in zip(docs, said)]
        return {"score": percent(hits), **grouped(docs, hits, key)}

    return numbers


def mmbench_numbers(docs, said):
    STORE.clear()
    data = pd.DataFrame([{**d, "prediction": a.strip()} for d, a in zip(docs, said)])
    meta = pd.DataFrame(docs)
    found = report_acc(circular_eval(None, data.sort_values(by="index"), meta, 1, "result", "MMBench")).to_dict("records")[0]
    names = {short: long for long, short in ABBREVIATIONS.items()}
    abilities = {d["l2-category"] for d in docs}
    return {"score": 100 * found.pop("Overall"), **{names.get(k, k): 100 * v for k, v in found.items() if k != "split" and names.get(k, k) not in abilities}}


def spatial_numbers(docs, said):
    STORE.clear()
    rows = [{**{k: v for k, v in d.items() if k != "image"}, "prediction": a.strip()} for d, a in zip(docs, said)]
    dump(pd.DataFrame(rows), "answers.tsv")
    found = spatial_evaluate(SimpleNamespace(data=pd.DataFrame(docs), dataset_name="3DSRBench"), "answers.tsv").to_dict("records")
    settings = {row.pop("setting"): row for row in found}
    score = settings["flip_circ_eval"]
    others = {"vanilla": "vanilla", "flip_eval": "flip", "circ_eval": "circular"}
    return {"score": 100 * score.pop("Overall"), **{k: 100 * v for k, v in score.items()}, **{ours: 100 * settings[theirs]["Overall"] for theirs, ours in others.items()}}


def vmc_numbers(docs, said):
    data = pd.DataFrame([{**{k: v for k, v in d.items() if k != "image"}, "prediction": a.strip()} for d, a in zip(docs, said)])
    data["hit"] = data.apply(vmc_score, axis=1)
    found = vmc_report(data).to_dict("records")[0]
    return {"score": found.pop("Overall"), **found}


def crpe_numbers(docs, said):
    STORE.clear()
    questions = {d["question_id"]: d for d in docs}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        crpe_eval(questions, [{"question_id": d["question_id"], "text": a.strip()} for d, a in zip(docs, said)])
    return {name: float(value) for name, value in re.findall(r"^Category: (\w+), # samples: \d+, Acc: ([\d.]+)", printed.getvalue(), re.M)}


def crpe_total(docs, said):
    """VLMEvalKit's total, for answers that are one letter, which both read alike."""
    dump(pd.DataFrame([{"prediction": a, "answer": d["correct_option"], "category": d["category"]} for d, a in zip(docs, said)]), "answers.tsv")
    return {"score": 100 * crpe_evaluate(None, "answers.tsv")["total"]}


NUMBERS = {"mmmu-pro": by_letter("mmmu-pro", "subject"), "mmmu-pro-vision": by_letter("mmmu-pro-vision", "subject"), "muirbench": by_letter("muirbench", "task"), "crpe": crpe_numbers, "crpe-exist": crpe_numbers,
           "vmcbench": vmc_numbers, "mmbench-v11-en": mmbench_numbers, "mmbench-v11-cn": mmbench_numbers, "3dsrbench": spatial_numbers}


def chance(id, docs):
    """The expected score of a guesser: the probability that all questions of a group are right, where groups count."""
    groupings = {"mmbench": lambda i, d: d["index"] % 1_000_000, "crpe": lambda i, d: i // 4, "3dsrbench": lambda i, d: d["qid"][:8]}
    group = next((key for name, key in groupings.items() if id.startswith(name)), lambda i, d: i)
    groups = defaultdict(lambda: 1.0)
    for i, doc in enumerate(docs):
        options = ast.literal_eval(doc["options"]) if isinstance(doc.get("options"), str) else doc.get("options")
        n = len(options) if options else 4 if id.startswith("crpe") else sum(isinstance(doc.get(l, doc.get(f"choice_{l}")), str) for l in "ABCD")
        groups[group(i, doc)] /= n
    return percent(groups.values())


def drawn(doc, rng, mostly):
    right = doc.get("answer", doc.get("correct_option"))
    return right if rng.random() < mostly else rng.choice([f"({right})", f"Answer: {right}", "A", "B.", "the dot", "yes", "C", "", "no idea"])


def fixture(id, rng):
    docs = rows(id)
    asked = [ask(id, doc) for doc in docs]
    table = {"prompts": {i: text for i, (text, _) in enumerate(asked) if text is not None}, "images": {i: coded(images) for i, (_, images) in enumerate(asked) if images}, "chance": chance(id, docs), "runs": []}
    for n in range(8 if id in NUMBERS else 0):
        said = [drawn(doc, rng, (0.5, 0.9, 0.97)[n % 3]) for doc in docs]
        numbers = NUMBERS[id](docs, said)
        if id.startswith("crpe") and n % 2:
            said = [a if len(a) == 1 else "D" for a in said]
            numbers = {**crpe_numbers(docs, said), **crpe_total(docs, said)}
        table["runs"].append({"answers": dict(enumerate(said)), "numbers": numbers})
    return table


def lines(values):
    return "[\n" + ",\n".join(json.dumps(v, ensure_ascii=False) for v in values) + "\n]"


def main():
    rng = random.Random(2026)
    folder = GOLDEN / "scorers/choice-2026"
    folder.mkdir(exist_ok=True)
    for id in IDS:
        cases, table = verdicts(id), fixture(id, rng)
        runs = table.pop("runs")
        page = f'{{"verdicts": {lines(cases)},\n"prompts": {json.dumps(table["prompts"], ensure_ascii=False)},\n"images": {json.dumps(table["images"])},\n"chance": {table["chance"]},\n"runs": {lines(runs)}}}\n'
        (folder / f"{id}.json").write_text(page, encoding="utf-8")
        print(f"{id:18} {len(cases):4} answers, {sum(c['official'] is None for c in cases):4} without a letter, {len(runs)} runs")
    lmms.write(GOLDEN, {id: [(a, o) for a, o in answers_for(id)] + [(a, TEN if id.startswith("mmmu-pro") else ABCD) for a, _ in THOUGHTS] for id in IDS}, rows, crpe_text, rng)


if __name__ == "__main__":
    assert math.isclose(percent([1, 0]), 50)
    main()
