"""Goldens for probe/bench: adversarial answers to the perception and knowledge benchmarks, with the verdicts of the
benchmark authors' scorers, of lmms-eval and of the paper's code.

Run:  python tests/reference/scorers_knowledge.py REFERENCES
where REFERENCES holds, unpacked from their repositories at these commits:
  cambrian (cambrian-mllm/cambrian 539ffc3254bb)  MMMU (bb0b95a94599)  MathVista (53d525874bdd)  VLMEvalKit (e8e78f05f308)
  MMStar (88f243ab4a39)  BLINK_Benchmark (2d6a779be4aa)  POPE (RUCAIBox, 3df3ba1b110e)  ScienceQA (lupantech, 2cbf8318e07b)
  Qwen-VL (peace-zy, e3898dd39f36: MME's own tool, as redistributed)  LLaVA (c121f0432da2: the usual conversion of answers
  for GQA's script)  lmms_eval (the unpacked wheel lmms_eval 0.7.3)
Pinned: numpy 2.4.6, pandas 2.3.3, Levenshtein 0.27.5, Python 3.11.

The scorers' functions are extracted from their files unchanged, without their other imports (model servers, files). Where
they ask a language model or draw a letter, they give no verdict. Answers are stripped first, as by the code that generates
them. `official` (by the authors' rules, or Burgess's strict ones where there are none) and `cambrian-1` are the required
verdicts of Burgess. Where a reference disagrees, the case carries the reason, which is written below for every kind of
disagreement; a disagreement without a reason, or a reason without a disagreement, stops the script.
"""

import ast
import contextlib
import copy
import io
import json
import os
import random
import re
import string
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
from Levenshtein import distance

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "golden" / "scorers"
REFERENCES = Path(sys.argv[1])
LMMS = REFERENCES / "lmms_eval" / "tasks"
QUIET = SimpleNamespace(info=lambda *_: None, warning=lambda *_: None)


def constants(path, names):
    """Constants that a script assigns, without running it."""
    scope = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and {t.id for t in node.targets if isinstance(t, ast.Name)} & set(names):
            exec(compile(ast.Module([node], []), str(path), "exec"), scope)
    return [scope[name] for name in names]


def functions(path, *names, **scope):
    """Functions of a file or of its classes, unchanged, evaluated in `scope`."""
    tree = ast.parse((REFERENCES / path).read_text() if not Path(path).is_absolute() else Path(path).read_text())
    nodes = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name in names]
    for node in nodes:
        node.decorator_list = []
        exec(compile(ast.Module([node], []), str(path), "exec"), scope)
    found = [scope[name] for name in names]
    return found[0] if len(found) == 1 else found


NAMES = ["ABCD", "AB", "NUM", "ARTICLE", "FORM", "TEXT", "WORD", "SEVERAL", "DENIED", "NOISE", "UNSURE"]
ABCD, AB, NUM, ARTICLE, *_ , LETTERS = constants(HERE / "scorers.py", [*NAMES, "LETTERS"])
YES_NO, EXACT = constants(HERE / "scorers.py", ["YES_NO"])[0], constants(HERE / "scorers.py", ["EXACT"])[0]
LETTERS = [(answer, options, expected) for answer, options, expected, _ in LETTERS]
YES_NO = [answer for answer, _ in YES_NO]

LONG = "The picture shows several things, and of all of them"
# More shapes, for benchmarks whose authors publish a rule: these need no verdict by hand.
MORE = [
    (answer, options)
    for options, answers in (
        (ABCD, ["(A)\n\n(B)", "(A) or (B)\n\n(B)", "I think (A).", "I think (A) .", "(E)", "(F)", "E.", f"{LONG} the cup fits.", f"{LONG} a dog and a cup.", f"{LONG} A fits.",
                f"{LONG} A fits best, and B not", f"{LONG} (C) fits, not (A)", "the answer is a", "The answer is a dog", "answer is **C**", "Answer is: D", "The  answer\nis  B",
                "answer isB", "answers is C", "the answer is not a", "Option b", "option (b)", "option: b", "the answer is (b)", "Z", "A Z", "Z.", "none Z fits", "B B B", "A, A", "a b",
                "Sorry, I can't help with images of people yet.", "I can't process this file. A", "Cannot determine the answer, B", "Failed to obtain answer via API: A",
                "I'm sorry, but without the image provided I say B", "A is the first of many words here in front", "so many words in front of it, then B", "'B'", "B;;", "...B...", "!B!", "C:",
                "?C", "red", "a red car", "the red car or the tree", "dog" * 12, "答案是 B", "答案是B。", "选B", "B。", "（B）", "Ｂ", "ｂ", "answer：B", "A) dog\n\nB", "1", "0", "2.", "3", "4",
                "(b).", "((B))", "B\u00a0", "B\ttext", "Both A and (B)", "[B] cup", "{B}", "#B", "<B>", "B/C", "+B", "50%", "1/2", "1,000", "[1, 2]", "nan", "3.5 km"]),
        (AB, ["The box is nearer than the ball", "the box", "The ball!", "(a) (b)\n\n(a)", "C", "(C)", "both", "the BALL"]),
        (NUM, ["There are 4.", "4 or 5", "The number of them is certainly 5", "three", "B: 4", "3456"]),
        (ARTICLE, ["It shows a dog, not a cup", "no animal at all is in it", "an apple"]),
    )
    for answer in answers
]

# ---------------------------------------------------------------- lmms-eval, and the authors' code


def no_draw(_):
    return None


def by_match(letters, right):
    hits = [letter for letter in letters if right(letter)]
    return hits[0] if len(hits) == 1 else None


def offered(letter, options):
    return letter if letter and letter in letters_of(options) else None


def letters_of(options):
    return list(string.ascii_uppercase[: len(options)])


def named(options):
    return dict(zip(letters_of(options), options))


toolkit = functions("VLMEvalKit/vlmeval/utils/matching_util.py", "can_infer_option", "can_infer_text", "can_infer", cp=copy, os=os, string=string, logger=QUIET,
                    _VERBOSE_ANSWER_RE=None)
toolkit[0].__globals__["_VERBOSE_ANSWER_RE"] = re.compile(constants_pattern := r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**")
assert constants_pattern in (REFERENCES / "VLMEvalKit/vlmeval/utils/matching_util.py").read_text()
Evaluator = functions(LMMS / "mmbench/mmbench_evals.py", "MMBench_Evaluator", os=os, rd=random, string=string, pd=pd, math=__import__("math"), print=lambda *_: None, eval_logger=QUIET)
extract_mcq = functions(LMMS / "_task_utils/mcq_extract.py", "extract_mcq_answer", List=list, Optional=__import__("typing").Optional,
                        **dict(zip(("_DEFAULT_CHOICES", "_ANSWER_PHRASES", "_FORMAT_PRIORITY"),
                                   constants(LMMS / "_task_utils/mcq_extract.py", ["_DEFAULT_CHOICES", "_ANSWER_PHRASES", "_FORMAT_PRIORITY"]))))
seed_process, seed_sum = functions(LMMS / "seedbench/utils.py", "seed_process_result", "seed_aggregation_result")
sqa_target, sqa_process = functions(LMMS / "scienceqa/utils.py", "sqa_doc_to_target", "sqa_process_results")
blink_letter = functions(LMMS / "blink/utils.py", "_extract_answer_letter", re=re, string=string)
qbench_letter = functions(LMMS / "qbench/utils.py", "parse_multi_choice_response", random=SimpleNamespace(choice=no_draw), np=np)
pope_process = functions(LMMS / "pope/utils.py", "pope_process_results")
lmms_yes_no, lmms_mme_sum = functions(LMMS / "mme/utils.py", "parse_pred_ans", "mme_aggregate_results", defaultdict=defaultdict, eval_logger=QUIET)
lmms_mmmu_letter = functions(LMMS / "_task_utils/mmmu_mcq_utils.py", "parse_mmmu_multi_choice_response", random=SimpleNamespace(choice=no_draw), np=np)
lmms_open, lmms_open_fits, *_ = functions(LMMS / "mmmu/utils.py", "parse_open_response", "eval_open", "extract_numbers", "check_is_number", "normalize_str", re=re)
mmmu_letter, mmmu_open, mmmu_fits, *_ = functions(
    "MMMU/mmmu/utils/eval_utils.py", "parse_multi_choice_response", "parse_open_response", "eval_open", "extract_numbers", "check_is_number", "normalize_str",
    re=re, random=SimpleNamespace(choice=no_draw), np=np)
mathvista_extract = functions("MathVista/evaluation/extract_answer.py", "extract_answer", "create_test_prompt", re=re, logging=QUIET, demo_prompt="")[0]
mathvista_normalise, *_ = functions("MathVista/evaluation/calculate_score.py", "normalize_extracted_answer", "get_most_similar", re=re, distance=distance)
lmms_normalise, lmms_similar = functions(LMMS / "mathvista/mathvista_evals.py", "normalize_extracted_answer", "get_most_similar", re=re, distance=distance)
blink_analyse = functions("BLINK_Benchmark/eval/test_benchmark.py", "analyze_answer", match_multiple_choice=lambda *_: None)
mme_tool = functions("Qwen-VL/eval_mm/mme/calculation.py", "parse_pred_ans")
sqa_index = functions("ScienceQA/models/run_gpt3.py", "get_pred_idx", random=SimpleNamespace(choice=no_draw))


def ai2d_filter(answer):
    """lmms-eval's filter for AI2D, a method, called without an instance of its class."""
    apply = functions(LMMS / "ai2d/utils.py", "apply", re=re)
    return apply(None, [[answer]], [{}])[0]


def ai2d_lmms(answer, options):
    # What its exact match ignores: case and ASCII punctuation.
    plain = ai2d_filter(answer).translate(str.maketrans("", "", string.punctuation)).upper()
    return offered(plain, options)


def mmstar_authors(answer, options):
    """The authors' evaluation of a file with this answer, once for each letter as the right one."""
    path = REFERENCES / "MMStar/eval/vlmeval/evaluate/mmstar.py"

    # Its counts begin as a copy of zeros; categories without rows would divide by them.
    def from_one(zeros):
        return {name: {part: 1 for part in parts} for name, parts in zeros.items()}

    def right(letter):
        scores = {}
        row = pd.DataFrame([{"prediction": answer, "answer": letter, "bench": "own", "category": "math", "l2_category": "geometry"}])
        evaluate = functions(path, "MMStar_eval", deepcopy=from_one, get_logger=lambda _: QUIET, load=lambda _: row, tqdm=lambda x: x,
                             dump=lambda result, _: scores.update(result))
        evaluate("x.xlsx")
        return scores["final score"] > 0

    return by_match(letters_of(options), right)


def pope_authors(answer):
    """The authors' script as it is, on one answer to a question whose answer is yes: right if it says yes."""
    with tempfile.TemporaryDirectory() as folder:
        answers, labels = Path(folder) / "a", Path(folder) / "l"
        answers.write_text(json.dumps({"answer": answer}) + "\n" + json.dumps({"answer": "yes"}) + "\n")
        labels.write_text('{"label": "yes"}\n{"label": "yes"}\n')
        source = (REFERENCES / "POPE/evaluate.py").read_text()
        source = source.replace("ans_file = ''", f"ans_file = {str(answers)!r}").replace("label_file = ''", f"label_file = {str(labels)!r}")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(source, {"__name__": "pope"})
    return "yes" if "Accuracy: 1.0" in printed.getvalue() else "no"


def pope_numbers(said, labels):
    """What the authors' script prints for answers without blanks."""
    with tempfile.TemporaryDirectory() as folder:
        answers, truth = Path(folder) / "a", Path(folder) / "l"
        answers.write_text("".join(json.dumps({"answer": a}) + "\n" for a in said))
        truth.write_text("".join(json.dumps({"label": l}) + "\n" for l in labels))
        source = (REFERENCES / "POPE/evaluate.py").read_text()
        source = source.replace("ans_file = ''", f"ans_file = {str(answers)!r}").replace("label_file = ''", f"label_file = {str(truth)!r}")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(source, {"__name__": "pope"})
    return {name: 100 * float(value) for name, value in re.findall(r"^(\w[\w ]*): ([\d.]+)$", printed.getvalue(), re.M)}


def gqa_converted(answer):
    """LLaVA's conversion of an answer for GQA's script, which compares strings."""
    with tempfile.TemporaryDirectory() as folder:
        src, dst = Path(folder) / "src", Path(folder) / "dst"
        src.write_text(json.dumps({"question_id": 1, "text": answer}) + "\n")
        arguments, sys.argv = sys.argv, ["x", "--src", str(src), "--dst", str(dst)]
        exec((REFERENCES / "LLaVA/scripts/convert_gqa_for_eval.py").read_text(), {"__name__": "convert"})
        sys.argv = arguments
        return json.loads(dst.read_text())[0]["prediction"]


def gqa_lmms(answer, gold):
    # Its exact match ignores case and ASCII punctuation.
    plain = lambda text: text.translate(str.maketrans("", "", string.punctuation)).lower()
    return float(plain(answer) == plain(gold))


# ---------------------------------------------------------------- the study


class Study:
    """The paper's scoring script for a benchmark, run on answers, and its numbers."""

    def __init__(self, benchmark):
        sys.modules.setdefault("nltk", ModuleType("nltk"))
        path = REFERENCES / "cambrian/eval/eval" / benchmark / f"{benchmark}_test.py"
        self.scope = {"__name__": "study"}
        exec(compile(path.read_text(), str(path), "exec"), self.scope)
        self.scope["pd"] = SimpleNamespace(DataFrame=lambda _: SimpleNamespace(to_excel=lambda *_, **__: None))
        self.scope["add_data_to_csv"] = lambda _, data: self.found.update(data)

    def __call__(self, rows):
        self.found = {}
        here = os.getcwd()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            os.chdir(folder)
            try:
                Path("answers.jsonl").write_text("".join(json.dumps({"model_id": "m", **row}) + "\n" for row in rows))
                self.scope["compute_metrics"]("answers.jsonl", "out/wrong.jsonl", "scores.csv")
            except IndexError:
                # A blank answer has no first word, on which some scripts stop.
                return None
            finally:
                os.chdir(here)
        return self.found

    def right(self, **row):
        found = self([row])
        return found is not None and found.get("multimodal_acc", found["accuracy"]) > 0


STUDY = {name: Study(name) for name in ("mme", "mmbench_en", "mmbench_cn", "seed", "gqa", "scienceqa", "mmmu", "mathvista", "ai2d", "pope", "mmstar", "blink", "qbench")}


def study_letter(name, field="answer", gold=lambda letter: letter, **row):
    return lambda answer, options: by_match(letters_of(options), lambda l: STUDY[name].right(**{field: answer, "gt_answer": gold(l), **row}))


def study_scienceqa(answer, options):
    right = lambda l: STUDY["scienceqa"].right(answer=answer, gt_answer=l, text_answer=named(options)[l], type=True, category="grade4")
    return by_match(letters_of(options), right)


def study_yes_no(name, **row):
    return lambda answer: by_match(["yes", "no"], lambda gold: STUDY[name].right(answer=answer, gt_answer=gold.capitalize() if name == "mme" else gold, **row))


# ---------------------------------------------------------------- reasons

MISSING, EXTRA, OTHER = "says nothing where we read a choice", "reads a choice where we say nothing", "reads another choice"
FIRST = "takes the first character of anything for a letter"
ANY = "takes a letter anywhere in the answer, also out of words or of several that are named"
ONLY = "knows the letter alone, in some cases with a full stop behind it"
ASKS = "asks a language model, or draws, where its own forms do not fit"
LAST = "of several letters takes the last; where two stand at once, the one that its order prefers"

# benchmark -> reference -> kind of disagreement -> why
WHY = {
    "mmbench-en": {"lmms_eval": {
        MISSING: "an older state of the authors' matching: does not remove punctuation inside words, and passes by an A among more than three words",
        EXTRA: "an older state of the authors' matching: five letters whatever is offered, refusals and the letter Z not known, long answers searched for texts of choices, letters far from the end taken",
        OTHER: "an older state of the authors' matching, without the rule on \"answer is\"",
    }},
    "seed-bench": {"lmms_eval": {MISSING: FIRST + ", also a parenthesis or quote", EXTRA: FIRST, OTHER: FIRST}},
    "scienceqa": {
        "authors": {MISSING: ASKS, EXTRA: "its pattern \"The answer is X.\" accepts any character for the full stop"},
        "lmms_eval": {MISSING: ONLY, EXTRA: "takes a capital with a full stop behind it for a choice, also of a list or abbreviation"},
    },
    "ai2d": {"lmms_eval": {MISSING: ONLY, EXTRA: "takes a capital with a full stop behind it for a choice, also of a list or abbreviation; ignores punctuation"}},
    "q-bench": {"lmms_eval": {MISSING: ASKS, EXTRA: ANY, OTHER: ANY}},
    "mmmu": {"lmms_eval": {EXTRA: "also takes a letter at the end of a word, or with a full stop behind it, and of several the first in its order", OTHER: LAST}},
    "mathvista": {
        "authors": {MISSING: "asks a language model for what its rules do not extract: a letter, or a value in a sentence"},
        "lmms_eval": {MISSING: "asks a language model for what its rules do not extract: a letter, or a value in a sentence",
                      EXTRA: "takes an empty extraction for the choice with the shortest text: a guess",
                      OTHER: "takes an empty extraction for the choice with the shortest text: a guess"},
    },
    "pope": {
        "authors": {EXTRA: "an answer without words is a yes to it"},
        "lmms_eval": {MISSING: "knows yes and no alone", OTHER: "compares in lower case; to the authors' script NO is no word of denial"},
    },
    "mme": {"lmms_eval": {EXTRA: "also takes a single y or n, and removes full stops first"}},
    "mmstar": {"lmms_eval": {MISSING: "knows capitals only; the authors' script takes the first character of anything", EXTRA: ANY, OTHER: ANY}},
    "blink": {"lmms_eval": {EXTRA: ANY, OTHER: "takes the first line if it is the letter alone; the authors' script the last paragraph"}},
    "gqa": {
        "LLaVA's conversion": {MISSING: "leaves white space in front of a full stop"},
        "lmms_eval": {MISSING: "leaves white space in front of a full stop", EXTRA: "removes all punctuation, not only full stops at the end"},
    },
}
WHY["mmbench-cn"] = WHY["mmbench-en"]
used = set()
table = defaultdict(Counter)


def same(a, b):
    """Compares verdicts of open answers, for which unparsed counts as wrong."""
    return a == b or {a, b} == {0.0, None}


def case(benchmark, official, cambrian, references, **fields):
    differs = {}
    for reference, verdict in references.items():
        rules = "cambrian-1" if reference == "study" else "official"
        expected = cambrian if reference == "study" else official
        table[benchmark, rules, reference]["cases"] += 1
        if same(verdict, expected):
            table[benchmark, rules, reference]["agree"] += 1
            continue
        nothing = (None, 0.0)
        kind = MISSING if verdict in nothing else EXTRA if expected in nothing else OTHER
        why = WHY.get(benchmark, {}).get(reference, {}).get(kind)
        if why is None:
            problems.append(f"{benchmark} {reference} {fields['answer']!r} of {fields.get('options', fields.get('gold'))}: says {verdict!r}, expected {expected!r}: no reason ({kind})")
            continue
        used.add((benchmark, reference, kind))
        differs[reference] = why
    return {**fields, "official": official, "cambrian-1": cambrian, "references": references, **({"differs": differs} if differs else {})}


problems = []

# ---------------------------------------------------------------- cases


def lettered(benchmark, official, study, **references):
    """Letters by the authors' rule, whose reference gives `official`."""
    cases, seen = [], set()
    for answer, options in [(a, o) for a, o, _ in LETTERS] + MORE:
        if (answer, tuple(options)) in seen:
            continue
        seen.add((answer, tuple(options)))
        said = answer.strip()
        verdicts = {name: offered(rule(said, options), options) for name, rule in {"authors": official, **references}.items()}
        cambrian = study(said, options)
        cases.append(case(benchmark, verdicts["authors"], cambrian, {**verdicts, "study": cambrian}, answer=answer, options=options))
    return cases


def strict(benchmark, study, **references):
    """Letters by the strict parser, with hand-written verdicts."""
    cases = []
    for answer, options, expected in LETTERS:
        said = answer.strip()
        verdicts = {name: offered(rule(said, options), options) for name, rule in references.items()}
        cambrian = study(said, options)
        cases.append(case(benchmark, expected, cambrian, {**verdicts, "study": cambrian}, answer=answer, options=options))
    return cases


def toolkit_letter(answer, options):
    found = toolkit[2](answer, named(options))
    return found if found in letters_of(options) else None


def evaluator_letter(answer, options):
    item = {"prediction": answer, **{l: named(options).get(l, float("nan")) for l in "ABCD"}}
    return Evaluator.prefetch_answer(Evaluator.__new__(Evaluator), item) or None


def blink_authors(answer, options):
    found = blink_analyse({"question": "?", "choices": options}, answer, [f"({l})" for l in letters_of(options)])
    return found.strip("()") if found else None


def sqa_authors(answer, options):
    found = re.compile(r"The answer is ([A-Z]).").findall(answer)
    index = sqa_index(found[0] if len(found) == 1 else answer, options, list("ABCDE"))
    return None if index is None else "ABCDE"[index]


def seed_lmms(answer, options):
    right = lambda l: seed_sum([seed_process({"answer": l, "data_type": "image", "question_id": 1}, [answer])["seed_all"]]) == 1.0
    return by_match(letters_of(options), right)


def sqa_lmms(answer, options):
    return by_match(letters_of(options), lambda l: sqa_process({"choices": options, "answer": ord(l) - 65}, [answer])["exact_match"] == 1.0)


def yes_no(benchmark, official, study, **references):
    cases = []
    for answer in YES_NO + ["Yes it is. No.", "There is no dog", "It is not, no", "Not at all", "None", "There is, yes. It is not far", "No dog, no cat", "no,", ",no", "yes, not", "NO"]:
        said = answer.strip()
        verdicts = {name: rule(said) for name, rule in {"authors": official, **references}.items()}
        expected = verdicts["authors"] if said else None
        cambrian = study(said)
        cases.append(case(benchmark, expected, cambrian, {**verdicts, "study": cambrian}, answer=answer))
    return cases


def mme_official(answer):
    said = mme_tool(None, answer.lower())
    return None if said == "other" else said


def mme_lmms(answer):
    said = lmms_yes_no(answer)
    return None if said == "other" else said


def pope_lmms(answer):
    return by_match(["yes", "no"], lambda gold: pope_process({"answer": gold, "question_id": 1}, [answer])["pope_accuracy"]["score"] == 1.0)


def gqa():
    cases = []
    for answer, gold in EXACT:
        said = answer.strip()
        plain = said.lower().rstrip(".").rstrip()
        expected = float(plain == gold.lower()) if plain else None
        cambrian = float(STUDY["gqa"].right(answer=said, gt_answer=gold))
        references = {"LLaVA's conversion": float(gqa_converted(said) == gold.lower()), "lmms_eval": gqa_lmms(said, gold), "study": cambrian}
        cases.append(case("gqa", expected, cambrian, references, answer=answer, gold=gold))
    return cases


OPEN = [
    (answer, gold)
    for gold, answers in {
        "3": ["3", "3.0", "3.004", "3.006", "03", "three", "3 cm", "3%", "about 3", "The answer is 3.", "so 3", "x = 3", "= 3", "3 = x", "4\nthe answer is 3", "It is 2 or 3", "13", "3,000", "30",
              "-3", "3/1", "[3]", "٣", "３", "3e0", "3E0", ".3e1", "1,2,3", "2.99", "2.995", "nan", "inf", "", " ", "I don't know", "sorry", "Drei", "三", "3\n\n4", "is 3 or 4", "final 3 result 4"],
        "0.12": ["0.12", "0.125", "0.115", ".12", "12%", "0,12", "0.1249", "12e-2", "1.2E-1", "-0.12", "0.12.", "the result is .12 m"],
        "1,234.5": ["1234.5", "1,234.5", "1.234,5", "1234.50", "12,34.5", "about 1,234.5 km", "1,234.5678"],
        "['24/7', '3.429']": ["24/7", "3.429", "3.43", "3.428", "24 / 7", "so 24/7", "it is 24/7 = 3.43", "7/24", "['24/7', '3.429']", "3"],
        "square": ["square", "Square.", "a SQUARE", "squares", "squ are", "The shape is square", "The square is nice.", "circle", "not a square", "so is", "answer ", "is :", "quadratisch", "正方形"],
        "B": ["B", "b", "a b c", "abc", "(B)", "B.", "it is b"],
        "$MgS$": ["$MgS$", "MgS", "$mgs$", "= $MgS$"],
        "-0.05": ["-0.05", "0.05", "-.05", "-5%", "-0.0499", "−0.05"],
    }.items()
    for answer in answers
]


def accepted(gold):
    return ast.literal_eval(gold) if gold.startswith("[") else [gold]


def mmmu():
    rule = lambda parse: lambda answer, options: parse(answer, letters_of(options), named(options)) if answer else None
    cases = lettered("mmmu", rule(mmmu_letter), study_letter("mmmu", type="multiple-choice", category="Math"), lmms_eval=rule(lmms_mmmu_letter))
    for answer, gold in OPEN:
        said = answer.strip()
        expected = float(mmmu_fits(accepted(gold), mmmu_open(said)))
        lmms = float(lmms_open_fits(accepted(gold), lmms_open(said)))
        cambrian = float(STUDY["mmmu"].right(answer=said, gt_answer=gold, type="open", category="Math"))
        references = {"authors": expected, "lmms_eval": lmms, "study": cambrian}
        cases.append(case("mmmu", expected if said else None, cambrian, references, answer=answer, gold=gold, accepted=accepted(gold)))
    return cases


# answer, kind, decimals, gold, what the official rule makes of it
VALUES = [
    (answer, kind, decimals, gold, expected)
    for (kind, decimals, gold), answers in {
        ("integer", None, "14"): {
            "14": 1, " 14 ": 1, "+14": 1, "1_4": 1, "14.0": 1, "14.7": 1, "14.": 1, "1.4e1": 1, "014": 1, "15": 0, "-14": 0, "The answer is 14": 1, "The answer is 14.": 1, "Answer: 14": 1,
            "answer is: **14**": 1, "So the answer is $14$.": 1, 'The answer is "14".': 1, 'The answer is "15".': 0, "The answer is 13, no, the answer is 14": 1, "fourteen": None, "14 cm": None,
            "14%": None, "1,4": None, "about 14": None, "13 or 14": None, "28/2": None, "[14]": None, "": None, "I don't know": None, "The answer is unknown": None, "nan": None, "inf": None, "1e400": None,
            "14\n": 1, "vierzehn": None, "答案是14": None, "１４": 1, "x = 14": None, "The answer is 14 cm.": None, 'The answer is "14"': 1, "14!": None,
        },
        ("float", 1.0, "1.2"): {
            "1.2": 1, "1.24": 1, "1.15": 0, "1.25": 1, "1.251": 0, "1.26": 0, "1.20": 1, "1.2000": 1, "12e-1": 1, "1,2": None, "1.2 m": None, "The answer is 1.2.": 1, "Answer: 1.2": 1, "6/5": None, "nan": 0, "inf": 0,
            "-1.2": 0, "1": 0, "120%": None, "$1.20": None, "about 1.2": None,
        },
        ("float", 2.0, "0.5"): {"0.5": 1, "0.50": 1, ".5": 1, "0.504": 1, "0.505": 0, "1/2": None, "50%": None},
        ("float", 2.0, "1e-05"): {"0.00001": 0, "1e-5": 0},
        ("list", None, "[1, 4]"): {"[1, 4]": 1, "[1,4]": 0, "1, 4": None, "[4, 1]": 0, "The answer is [1, 4].": 1, "(1, 4)": None, "1 and 4": None, "[1, 4": None, "between 1 and 4": None},
    }.items()
    for answer, expected in answers.items()
]
QUOTED = [
    ('The answer is "cup".', "B"), ('The answer is "cups".', "B"), ('The answer is "a tree".', "D"), ('The answer is "(C)".', "C"), ('The answer is "C".', "C"), ('The answer is "c".', "B"),
    ('So. The answer is "(d) tree". Yes', "D"), ('The answer is "".', None), ('The answer is "dog", "cup".', "A"), ("The answer is 'cup'.", "B"), ('The answer is "red\ncar".', None),
]


def mathvista():
    def authors(answer, options, kind, decimals, normalise):
        problem = {"question_type": "multi_choice" if options else "free_form", "answer_type": kind, "choices": options, "query": "", "pid": "1"}
        silent = SimpleNamespace(get_response=lambda user_prompt: "")
        extraction = mathvista_extract(silent, answer, problem, quick_extract=True)
        # Nothing was extracted: this is not to become the choice that is most like nothing.
        return normalise(extraction, options, problem["question_type"], kind, decimals)

    def strictly(*arguments):
        return mathvista_normalise(*arguments, ignore_empty_extractions=True)

    def loosely(*arguments):
        return lmms_normalise(SimpleNamespace(get_most_similar=lambda p, c: lmms_similar(None, p, c)), *arguments)

    cases = []
    for answer, options, expected in LETTERS + [(answer, ABCD, expected) for answer, expected in QUOTED]:
        said = answer.strip()
        letter = lambda normalise: {o: l for l, o in named(options).items()}.get(authors(said, options, "text", None, normalise))
        cambrian = by_match(letters_of(options), lambda l: STUDY["mathvista"].right(answer=said, gt_answer=l, type="multi_choice", category="x"))
        references = {"authors": letter(strictly), "lmms_eval": letter(loosely), "study": cambrian}
        # The study compares the whole answer: it has no verdict on other letters.
        cases.append(case("mathvista", expected, cambrian, references, answer=answer, options=options, facts={"answer_type": "text"}))
    for answer, kind, decimals, gold, expected in VALUES:
        said = answer.strip()
        expected = None if expected is None else float(expected)
        right = lambda normalise: float(authors(said, None, kind, decimals, normalise) == gold)
        cambrian = float(STUDY["mathvista"].right(answer=said, gt_answer=gold, type="free_form", category="x"))
        facts = {"answer_type": kind, **({} if decimals is None else {"precision": str(decimals)})}
        cases.append(case("mathvista", expected, cambrian, {"authors": right(strictly), "lmms_eval": right(loosely), "study": cambrian}, answer=answer, gold=gold, facts=facts))
    return cases


MAKE = {
    "mme": lambda: yes_no("mme", mme_official, study_yes_no("mme", category="count"), lmms_eval=mme_lmms),
    "mmbench-en": lambda: lettered("mmbench-en", toolkit_letter, study_letter("mmbench_en", field="prediction", category="c", source_id="s"), lmms_eval=evaluator_letter),
    "mmbench-cn": lambda: lettered("mmbench-cn", toolkit_letter, study_letter("mmbench_cn", field="prediction", category="c", source_id="s"), lmms_eval=evaluator_letter),
    "seed-bench": lambda: strict("seed-bench", study_letter("seed", category=1), lmms_eval=seed_lmms),
    "gqa": gqa,
    "scienceqa": lambda: strict("scienceqa", study_scienceqa, authors=sqa_authors, lmms_eval=sqa_lmms),
    "mmmu": mmmu,
    "mathvista": mathvista,
    "ai2d": lambda: strict("ai2d", study_letter("ai2d", gold=lambda l: str(ord(l) - 65)), lmms_eval=ai2d_lmms),
    "pope": lambda: yes_no("pope", pope_authors, study_yes_no("pope"), lmms_eval=pope_lmms),
    "mmstar": lambda: lettered("mmstar", mmstar_authors, study_letter("mmstar"), lmms_eval=lambda answer, options: extract_mcq(answer, choices=list("ABCD"))),
    "blink": lambda: lettered("blink", blink_authors, study_letter("blink", gold=lambda l: f"({l})", category="Counting"),
                              lmms_eval=lambda answer, options: blink_letter(answer, "".join(letters_of(options)))),
    "q-bench": lambda: strict("q-bench", study_letter("qbench", type="0"), lmms_eval=lambda answer, options: qbench_letter(answer, letters_of(options), named(options))),
}

# ---------------------------------------------------------------- sums


def mme_sums(rng):
    """Two images in each of the 14 subtasks; the published sums of the 10 perception subtasks, divided by 20."""
    kinds = functions_of_mme()
    rows = [{"subtask": kind, "unit": f"{kind}/{i}", "gold": gold, "right": rng.random() < 0.7} for kind in kinds for i in range(2) for gold in ("yes", "no")]
    flip = {"yes": "no", "no": "yes"}
    perception = [r for r in rows if r["subtask"] in kinds[:10]]
    library = lmms_mme_sum([{"question_id": r["unit"], "category": r["subtask"], "score": float(r["right"])} for r in perception]) / 20
    study = STUDY["mme"]([{"answer": r["gold"] if r["right"] else flip[r["gold"]], "gt_answer": r["gold"], "category": r["subtask"]} for r in rows])["Perception"] / 20
    assert abs(library - study) < 1e-9
    return {"benchmark": "mme", "questions": [{"subtask": r["subtask"], "unit": r["unit"], "image_id": r["unit"], "score": float(r["right"])} for r in rows],
            "official": library, "cambrian-1": study}


def functions_of_mme():
    tasks = constants(LMMS / "mme/utils.py", ["eval_type_dict"])[0]
    return tasks["Perception"] + tasks["Cognition"]


def mmbench_sums(rng):
    """CircularEval: groups of 2 to 4 rotations; the paper's code merges two groups that differ only in the index."""
    rows = []
    for group in range(8):
        for turn in range(rng.choice([2, 3, 4])):
            rows.append({"index": group + turn * 1_000_000, "group": group, "study": 0 if group == 1 else group, "right": rng.random() < 0.85, "category": f"c{group // 4}"})
    frame = [{"index": r["index"], "question": "?", "answer": "A", "prediction": "A" if r["right"] else "B", "hint": "nan", "source": "s", "split": "dev", "category": r["category"],
              "L2-category": "l", "A": "x1", "B": "x2", "C": "x3", "D": "x4"} for r in rows]
    evaluator = Evaluator.__new__(Evaluator)
    pd.options.mode.chained_assignment = None
    library = 100 * float(evaluator.eval_result(frame, eval_method="static")[0])
    study = STUDY["mmbench_en"]([{"prediction": f["prediction"], "gt_answer": "A", "category": f["category"], "source_id": str(r["study"])} for f, r in zip(frame, rows)])
    plain = STUDY["mmbench_en"]([{"prediction": f["prediction"], "gt_answer": "A", "category": "c", "source_id": str(r["index"])} for f, r in zip(frame, rows)])
    return {"benchmark": "mmbench-en", "questions": [
        {"subtask": r["category"], "unit": str(r["group"]), "image_id": "", "score": float(r["right"]),
         "facts": {"group": str(r["group"]), "study-group": str(r["study"]), "main": str(r["index"] < 1_000_000).lower()}} for r in rows],
        "official": library, "cambrian-1": 100 * study["circular_accuracy"], "plain": 100 * plain["circular_accuracy"]}


def blink_sums(rng):
    """The authors' mean over tasks, and the paper's accuracy over the questions of its six tasks."""
    tasks = ["Counting", "Jigsaw", "Relative_Depth", "Spatial_Relation", "Art_Style"]
    rows = [{"subtask": task, "right": rng.random() < 0.6} for task in tasks for _ in range(rng.randint(1, 6))]
    with tempfile.TemporaryDirectory() as folder:
        evaluate = functions("BLINK_Benchmark/eval/evaluate.py", "eval_prediction", subtasks=tasks, json=json, open=lambda name, mode: open(Path(folder) / name, mode), print=lambda *_: None)
        (Path(folder) / "val_predictions").mkdir()
        ids = [f"val_{r['subtask']}_{i}" for i, r in enumerate(rows, 1)]
        (Path(folder) / "val_answers.json").write_text(json.dumps({id: "(A)" for id in ids}))
        (Path(folder) / "val_predictions" / "m.json").write_text(json.dumps({id: "(A)" if r["right"] else "(B)" for id, r in zip(ids, rows)}))
        authors = 100 * evaluate("val", "m")["Total"]
    asked = [r for r in rows if r["subtask"] in ("Counting", "Relative_Depth", "Spatial_Relation")]
    study = 100 * STUDY["blink"]([{"answer": "A" if r["right"] else "B", "gt_answer": "(A)", "category": r["subtask"]} for r in asked])["accuracy"]
    return {"benchmark": "blink", "questions": [{"subtask": r["subtask"], "unit": str(i), "image_id": "", "score": float(r["right"])} for i, r in enumerate(rows)],
            "official": authors, "cambrian-1": study}


def pope_sums(rng):
    rows = [{"subtask": "random", "unit": str(i // 2), "image_id": "", "gold": ("yes", "no")[i % 2], "said": rng.choice(["yes", "no"])} for i in range(24)]
    numbers = pope_numbers([r["said"] for r in rows], [r["gold"] for r in rows])
    others = {"F1": numbers["F1 score"], "precision": numbers["Precision"], "recall": numbers["Recall"], "yes": numbers["Yes ratio"]}
    return {"benchmark": "pope", "questions": [{**{k: r[k] for k in ("subtask", "unit", "image_id")}, "answer": r["gold"], "said": r["said"], "score": float(r["gold"] == r["said"])} for r in rows],
            "official": numbers["Accuracy"], "cambrian-1": numbers["Accuracy"], "others": others}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    made = {benchmark: make() for benchmark, make in MAKE.items()}
    written = {(b, r, k) for b, by in WHY.items() for r, kinds in by.items() for k in kinds}
    problems.extend(f"{b} {r}: a reason for \"{k}\", but no such disagreement" for b, r, k in sorted(written - used))
    if problems:
        sys.exit("\n".join(problems))
    rng = random.Random(0)
    made["knowledge_sums"] = [make(rng) for make in (mme_sums, mmbench_sums, blink_sums, pope_sums) for _ in range(4)]
    for name, cases in made.items():
        lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
        (OUT / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print("| Benchmark | Rules | Reference | Cases | Agree | Differ, with reason |\n|---|---|---|--:|--:|--:|")
    for (benchmark, rules, reference), counts in table.items():
        print(f"| {benchmark} | {rules} | {reference} | {counts['cases']} | {counts['agree']} | {counts['cases'] - counts['agree']} |")


main()
