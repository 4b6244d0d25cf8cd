"""Goldens for probe/bench: adversarial answers with the verdicts of published scorers.

Pinned: lmms_eval 0.7.3 (installed without its dependencies: `pip install --no-deps --target DIR lmms_eval==0.7.3`),
numpy 2.4.6, Python 3.11.  Run:  PYTHONPATH=DIR python tests/reference/scorers.py

Verdicts come from that library wherever it has the rule (yes/no, exact match, relaxed accuracy, containment, ANLS,
the four letter parsers, the MME and MMVP sums). Two rules are only described in prose and implemented here: the
first-four-characters rule of MME's own script, and the paper's letter extraction. `expected` is the required verdict of
Burgess. Where a reference disagrees with `expected`, the case carries the reason; a disagreement without one, or a
reason without disagreement, stops the script.
"""

import json
import random
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

LIBRARY = Path(find_spec("lmms_eval").origin).parent


def stand_in(name, **attributes):
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(attributes)


# Modules that the scorers import but do not need (model servers, data sets, logging); the registry's decorators
# return the functions as they are. The scorers themselves are the library's.
def as_is(*_, **__):
    return lambda function: function


stand_in("sacrebleu")
stand_in("datasets", Dataset=object, load_dataset=None)
stand_in("loguru", logger=SimpleNamespace(info=lambda *_: None, warning=lambda *_: None))
stand_in("lmms_eval.api.registry", register_metric=as_is, register_aggregation=as_is)
stand_in("lmms_eval.filters", __path__=[str(LIBRARY / "filters")])
stand_in("lmms_eval.tasks", __path__=[str(LIBRARY / "tasks")])
stand_in("lmms_eval.tasks._task_utils.file_utils", generate_submission_file=None)

from lmms_eval.api.metrics import anls, exact_match_hf_evaluate  # noqa: E402
from lmms_eval.tasks.ai2d.utils import MultiChoiceRegexFilter  # noqa: E402
from lmms_eval.tasks.chartqa.utils import relaxed_correctness  # noqa: E402
from lmms_eval.tasks.cv_bench.utils import _extract_answer_letter as cvbench_letter  # noqa: E402
from lmms_eval.tasks.mme.utils import mme_aggregate_results, parse_pred_ans  # noqa: E402
from lmms_eval.tasks.mmvp.utils import _extract_answer_letter as mmvp_letter, mmvp_aggregate_pair_results  # noqa: E402
from lmms_eval.tasks.ocrbench.utils import ocrbench_process_results  # noqa: E402
from lmms_eval.tasks.scienceqa.utils import sqa_process_results  # noqa: E402

OUT = Path(__file__).resolve().parent.parent / "golden" / "scorers"

# ---------------------------------------------------------------- letters

ABCD = ["dog", "cup", "red car", "tree"]
AB = ["the ball", "the box"]
NUM = ["3", "4", "5", "6"]
ARTICLE = ["a dog", "a cup", "an apple", "no animal"]


def study_letter(text):
    """The paper's extraction: the text after the last "answer is"/"answer:", stripped, first character."""
    text = text.lower().strip()
    for keyword in ("answer is", "answer is:", "answer:"):
        if keyword in text:
            text = text.split(keyword)[-1]
    text = text.strip().rstrip(".:,").lstrip("(").rstrip(")")
    return text[:1].upper()


def offered(letter, options):
    return letter if letter and letter.isascii() and ord(letter) - 65 in range(len(options)) else None


def letter_references(answer, options):
    letters = [chr(65 + i) for i in range(len(options))]

    def by_match(right):
        hits = [l for l in letters if right(l)]
        return hits[0] if len(hits) == 1 else None

    sqa = by_match(lambda l: sqa_process_results({"choices": options, "answer": ord(l) - 65}, [answer])["exact_match"] == 1.0)
    filtered = MultiChoiceRegexFilter("x").apply([[answer]], [{}])[0]
    ai2d = by_match(
        lambda l: bool(exact_match_hf_evaluate([filtered], [l], ignore_case=True, ignore_punctuation=True)["exact_match"])
    )
    references = {
        "lmms_eval scienceqa": sqa,
        "lmms_eval ai2d": ai2d,
        "lmms_eval cv_bench": offered(cvbench_letter(answer), options),
        "study": offered(study_letter(answer), options),
    }
    if len(options) == 2:
        references["lmms_eval mmvp"] = offered(mmvp_letter(answer), options)
    return references


FORM = "names the choice in a form that this scorer does not know"
TEXT = "gives the text of exactly one choice; this scorer knows letters only"
WORD = "this scorer takes the first letter of a word for a choice"
SEVERAL = "names several choices; this scorer takes one of them"
DENIED = "denies a choice; this scorer takes it"
NOISE = "this scorer takes a letter out of other words"
UNSURE = "a letter inside a sentence is not announced as the answer; this scorer takes it"

# answer, options, expected letter, reason(s) for the scorers that say something else
LETTERS = [
    ("A", ABCD, "A", None), ("B", ABCD, "B", None), ("C", ABCD, "C", None), ("D", ABCD, "D", None),
    ("b", ABCD, "B", None), (" B ", ABCD, "B", None), ("B\n", ABCD, "B", None),
    ("B.", ABCD, "B", None), ("b.", ABCD, "B", FORM), ("B,", ABCD, "B", FORM), ("B:", ABCD, "B", FORM),
    ("B)", ABCD, "B", FORM), ("(B)", ABCD, "B", FORM), ("(b)", ABCD, "B", FORM), ("(B).", ABCD, "B", FORM),
    ("(B", ABCD, "B", FORM), ("[B]", ABCD, "B", FORM), ("**B**", ABCD, "B", FORM), ("\"B\"", ABCD, "B", FORM),
    ("`B`", ABCD, "B", FORM), ("B!", ABCD, "B", FORM), ("B?", ABCD, "B", FORM), ("B;", ABCD, "B", FORM),
    ("B。", ABCD, "B", FORM), ("（B）", ABCD, "B", FORM), ("B.cup", ABCD, "B", None),
    ("B. cup", ABCD, "B", None), ("B.cup", ABCD, "B", None), ("B) cup", ABCD, "B", FORM), ("(B) cup", ABCD, "B", FORM),
    ("B: cup", ABCD, "B", FORM), ("B.cup", ABCD, "B", None), ("b cup", ABCD, "B", FORM), ("A dog", ABCD, "A", FORM),
    ("B - cup", ABCD, "B", FORM), ("B\ncup", ABCD, "B", FORM), ("A\nThe picture shows a dog.", ABCD, "A", FORM),
    ("B because it holds tea", ABCD, "B", FORM), ("A because it barks", ABCD, "A", FORM), ("A is right", ABCD, "A", FORM),
    ("B. The cup is on the table.", ABCD, "B", None), ("**B.** The cup", ABCD, "B", FORM),
    ("The answer is B", ABCD, "B", FORM), ("The answer is B.", ABCD, "B", FORM), ("the answer is (b)", ABCD, "B", FORM),
    ("The answer is: **B**", ABCD, "B", FORM), ("Answer: B", ABCD, "B", FORM), ("ANSWER: B. cup", ABCD, "B", FORM),
    ("The correct answer is option B.", ABCD, "B", FORM), ("The correct option is B.", ABCD, "B", FORM),
    ("Option B", ABCD, "B", FORM), ("My choice is (C).", ABCD, "C", FORM), ("Choice D", ABCD, "D", FORM),
    ("It barks, so the answer is A.", ABCD, "A", FORM), ("First I thought the answer is B, but the answer is C.", ABCD, "C", FORM),
    ("The answer is cup.", ABCD, "B", FORM), ("The answer is dog", ABCD, "A", FORM),
    ("Of the two, (B) fits best.", ABCD, "B", FORM),
    ("cup", ABCD, "B", TEXT), ("Cup.", ABCD, "B", TEXT), ("RED CAR", ABCD, "C", TEXT), ("tree", ABCD, "D", TEXT),
    ("dog", ABCD, "A", TEXT), ("\"cup\"", ABCD, "B", TEXT), ("a cup", ARTICLE, "B", TEXT), ("A dog", ARTICLE, "A", TEXT),
    ("an apple", ARTICLE, "C", TEXT), ("4", NUM, "B", TEXT), ("6.", NUM, "D", TEXT), ("The answer is 5", NUM, "C", TEXT),
    ("the box", AB, "B", TEXT), ("(b)", AB, "B", FORM), ("(a)", AB, "A", FORM), ("A.", AB, "A", None),
    ("(b) the box", AB, "B", FORM), ("b) the box", AB, "B", FORM), ("Option A", AB, "A", FORM),
    ("", ABCD, None, None), ("   ", ABCD, None, None), (".", ABCD, None, None), ("()", ABCD, None, None), ("?", ABCD, None, None),
    ("Dog-like animal", ABCD, None, WORD), ("a cat", ABCD, None, WORD), ("A cat", ABCD, None, WORD), ("a dog and a cat", ARTICLE, None, WORD),
    ("An elephant", ABCD, None, WORD), ("Cannot tell", ABCD, None, WORD), ("Both", ABCD, None, WORD), ("all of them", ABCD, None, WORD),
    ("C'est un chien", ABCD, None, WORD), ("D'accord", ABCD, None, WORD), ("B2", ABCD, None, WORD), ("AB", ABCD, None, WORD),
    ("ABCD", ABCD, None, WORD), ("A-frame", ABCD, None, WORD), ("D.C.", ABCD, None, SEVERAL), ("e.g. B", ABCD, None, None),
    ("E", ABCD, None, None), ("Z.", ABCD, None, None), ("C", AB, None, None), ("(C) the table", AB, None, None), ("1", ABCD, None, None),
    ("A or B", ABCD, None, SEVERAL), ("A and B", ABCD, None, SEVERAL), ("A, B", ABCD, None, SEVERAL), ("A/B", ABCD, None, SEVERAL),
    ("A & C", ABCD, None, SEVERAL), ("(A) (B)", ABCD, None, SEVERAL), ("A B C D", ABCD, None, SEVERAL),
    ("A. dog\nB. cup", ABCD, None, SEVERAL), ("A. dog B. cup C. red car D. tree", ABCD, None, SEVERAL), ("either (A) or (C)", ABCD, None, None),
    ("The answer is A or B.", ABCD, None, SEVERAL),
    ("The answer is not B.", ABCD, None, None), ("It is not (B).", ABCD, None, None), ("not B", ABCD, None, None), ("It isn't (C)", ABCD, None, None),
    ("I don't know", ABCD, None, None), ("I cannot answer this.", ABCD, None, None), ("Sorry, I can't see the image.", ABCD, None, None),
    ("unknown", ABCD, None, None), ("None of the options", ABCD, None, None), ("N/A", ABCD, None, None), ("NaN", ABCD, None, None), ("null", ABCD, None, None),
    ("Das ist ein Hund.", ABCD, None, WORD), ("杯子", ABCD, None, None), ("答案是B", ABCD, None, None), ("нет", ABCD, None, None), ("Б", ABCD, None, None),
    ("I choose B", ABCD, None, None), ("It must be a dog", ABCD, None, None), ("the", ABCD, None, None), ("yes", ABCD, None, None),
    ("between the box and a ball", AB, None, WORD), ("neither", AB, None, None), ("I think it is A", AB, None, UNSURE),
    ("It is a ball", AB, None, NOISE), ("7", NUM, None, None), ("3 or 4", NUM, None, None), ("3.0", NUM, None, None),
]

# ---------------------------------------------------------------- yes / no


def mme_official(answer):
    """MME's script: yes if the first four characters of the lower-cased answer contain yes, else no."""
    head = answer.strip().lower()[:4]
    return "yes" if "yes" in head else "no" if "no" in head else None


DOTS = "this scorer removes all full stops first"
SINGLE = "this scorer also takes a single y or n; MME's own script does not"
YES_NO = [
    (a, None)
    for a in [
        "yes", "no", "Yes", "No", "YES", "NO", "yes.", "no.", "Yes!", "No!", " yes", " no ", "yes\n", "no\n", "Yes,", "No,",
        "Yes, there is a dog.", "No, there is no dog.", "yes no", "no yes", "Yes and no", "No, yes", "\"yes\"", "'no'", "**Yes**", "**No**",
        "(yes)", "(no)", "yess", "nope", "nah", "yeah", "yep", "Yes/No", "no/yes", "not sure", "nothing", "none", "Nobody", "now", "north",
        "I see no dog", "The answer is yes", "The answer is no", "There is a dog", "true", "false", "1", "0", "", "   ", ".", "?", "NaN", "nan",
        "unknown", "I know", "know", "snow", "I don't know", "Sorry, I cannot tell", "maybe", "oui", "non", "ja", "nein", "si", "sí", "да", "нет",
        "是", "不是", "没有", "はい", "はい、yes", "eyes", "ayes", "yesterday", "noyes", "yesno", "A. yes", "B. no", "a: yes", "N/A", "not applicable",
        "no\nyes", "yes\nno", "Answer: yes", "\tNo", "Ｙｅｓ", "YEs", "nO", "n o", "y e s", "Ye", "yeS.", "n't", "İyes", "y", "n", "Y", "N",
        "Y.", "n.", "...yes", "y.e.s", "1. no",
    ]
]

# ---------------------------------------------------------------- exact match (GQA)

PUNCT = "this scorer removes all punctuation, not only full stops at the end"
SPACE = "this scorer compares white space in front of a full stop"
EXACT = [
    (a, g)
    for g, many in {
        "red": ["red", "Red", "RED", "red.", "red...", " red ", "red\n", "\tred", "red!", "red,", "\"red\"", "'red'", "(red)", "the red", "red car", "dark red",
                "it is red", "The answer is red", "Answer: red", "reddish", "rot", "rouge", "rojo", "红", "красный", "", " ", ".", "...", "red/blue", "red, blue",
                "red and blue", "not red", "I don't know", "unknown", "NaN", "null", "r e d", "re\nd", "red .", ".red", "red\nred", "blue", "**red**", "red\u200b", "RED."],
        "2": ["2", "2.", "2.0", "02", "two", "Two", "２", "²", "2 cups", "1/2", "2%", "2,0", "+2", "-2", "2 2"],
        "traffic light": ["traffic light", "Traffic Light", "traffic lights", "traffic  light", "trafficlight", "traffic-light", "a traffic light", "traffic light.", "light"],
        "t-shirt": ["t-shirt", "T-Shirt", "tshirt", "t shirt", "t-shirt."],
        "Éclair": ["éclair", "ÉCLAIR", "eclair", "E\u0301clair"],
        "straße": ["STRASSE", "Straße", "strasse"],
    }.items()
    for a in many
]

# ---------------------------------------------------------------- containment (OCRBench)

FOLD = "this scorer also folds full-width letters; the benchmark's own script does not"
CONTAINED = [
    (a, g)
    for g, many in {
        "OPEN": ["OPEN", "open", "Open.", "\"OPEN\"", "It says OPEN.", "The word is 'open'", "REOPENED", "opened", "O P E N", "OPE", "OPEM", "0PEN", "", " ", "I don't know",
                 "nothing", "开", "ouvert", "CLOSED", "open closed", "OP\nEN", "OP-EN", "ＯＰＥＮ", "NaN", "**OPEN**", "open\n\n", "(open)", "The sign reads:\nOPEN", "o.p.e.n", "oPeN",
                 "not open", "NEPO"],
        "12": ["12", "312", "1 2", "12.0", "1,2", "twelve", "12%", "$12", "0.12", "3120", "1\n2", "１２", "12 km", "21", "-12", "12/24", "XII"],
        "main street": ["Main Street", "MAIN STREET 5", "main\nstreet", "main  street", "mainstreet", "Main St", "the main street.", "main streets", "street main"],
        "A-17": ["a-17", "A17", "A 17", "code A-17!", "A–17", "a-170"],
        "café": ["CAFÉ", "cafe", "Café Rose", "cafe\u0301"],
        "3,5": ["3,5", "3.5", "13,50", "3, 5"],
    }.items()
    for a in many
]

# ---------------------------------------------------------------- relaxed accuracy (ChartQA)

RELAXED = [
    (a, g)
    for g, many in {
        "100": ["100", "105", "95", "105.0000001", "94.9999999", "104.99", "106", "94", "1e2", "1E2", "1_00", "1__00", "_100", "100_", "+100", "-100", "100.", "100.0", " 100 ", "0100", "1,00", "$100",
                "100%", "10000%", "10000 %", "100 %%", "100 km", "about 100", "one hundred", "C", "", "nan", "NaN", "inf", "-inf", "infinity", "1/0", "200/2", "100,0", "10 0", "[100]", "100, 101",
                "0x64", "１００", "١٠٠", "१००", "๑๐๐", "百", "1e400", "1e-400", "--100", "+-100", "1e", "e2", ".1e3", "100f", "100L", "100j", "100\n", "\n100"],
        "0.5": ["0.5", ".5", "0.525", "0.475", "0.53", "50%", "50 %", "1/2", "½", "0,5", "5e-1", "-0.5"],
        "12%": ["12%", "0.12", "12", "12.5%", "12.7%", "11.4%", "0.126", "12 %", "12%%", "%12", "12 percent"],
        "0": ["0", "0.0", "-0", "0%", "00", "zero", "0.0001", "o", ""],
        "-4": ["-4", "4", "-4.2", "-3.8", "-4.21", "−4", "- 4"],
        "1,234": ["1,234", "1234", "1,235", "1234.0", "1.234"],
        "2014": ["2014", "2015", "1914", "2114", "2115", "in 2014", "2014."],
        "nan": ["nan", "NaN", "NAN", "0", "n/a"],
        "inf": ["inf", "infinity", "1e999", "5"],
        "Red": ["Red", "red", "RED", "red.", " red ", "Red and blue", "the red one", "[Red]", "rouge", "", "R", "42"],
        "Yes": ["yes", "Yes", "yes.", "no", "y", "true"],
        "3/4": ["3/4", "0.75", "75%", "3 / 4"],
        "[1, 2]": ["[1, 2]", "[1,2]", "1, 2", "1"],
        "March": ["march", "March", "Mar", "3", "März"],
        "İstanbul": ["İSTANBUL", "istanbul", "İstanbul"],
        "ΟΔΟΣ": ["οδος", "οδός", "οδοσ"],
    }.items()
    for a in many
]

# ---------------------------------------------------------------- ANLS

ANLS = [
    (a, g)
    for g, many in {
        ("invoice",): ["invoice", "Invoice", "INVOICE ", "invoic", "in voice", "inv", "invoices", "", "voice", "receipt", "in  voice", "i n v o i c e", "nvoice"],
        ("12 May 2001", "12.05.2001"): ["12 May 2001", "12.05.2001", "12 may 2002", "12/05/2001", "May 2001", "12  May\t2001", "2001", "12052001", "NaN"],
        ("ab",): ["ab", "ac", "a", "cd", "abc", "abcd", "abcde"],
        ("café",): ["cafe", "CAFÉ", "café au lait"],
        ("",): ["", "x"],
        ("straße",): ["STRASSE", "strasse", "straße"],
    }.items()
    for a in many
]


def checked(case, references, expected, reasons):
    """Adds the references' verdicts with a reason for each difference; stops at a difference without a reason."""
    differing = sorted(name for name, verdict in references.items() if verdict != expected)
    if bool(differing) != bool(reasons):
        sys.exit(f"{case}: expected {expected!r}, differing {differing} of {references}, reason {reasons!r}")
    return {**case, "expected": expected, "references": references, **({"differs": differing, "why": reasons} if differing else {})}


def letters():
    cases, wrong = [], []
    for answer, options, expected, why in LETTERS:
        references = letter_references(answer.strip(), options)
        try:
            cases.append(checked({"answer": answer, "options": options}, references, expected, why))
        except SystemExit as e:
            wrong.append(str(e))
    if wrong:
        sys.exit("\n".join(wrong))
    return cases


def yes_no():
    cases = []
    for answer, _ in YES_NO:
        expected = mme_official(answer)
        library = parse_pred_ans(answer)
        library = None if library == "other" else library
        why = None
        if library != expected:
            why = SINGLE if len(answer.strip(" .")) == 1 else DOTS
        cases.append(checked({"answer": answer}, {"MME script": expected, "lmms_eval mme": library}, expected, why))
    return cases


def exact():
    cases = []
    for answer, gold in EXACT:
        # The rule of the study and of the usual conversion for the official script, on the stripped output.
        expected = float(answer.strip().lower().rstrip(".").rstrip() == gold.lower())
        study = float(answer.strip().lower().rstrip(".") == gold.lower())
        library = float(exact_match_hf_evaluate([answer.strip()], [gold], ignore_case=True, ignore_punctuation=True)["exact_match"])
        why = None if study == expected == library else (SPACE if study != expected else PUNCT)
        cases.append(checked({"answer": answer, "gold": gold}, {"study": study, "lmms_eval gqa": library}, expected, why))
    return cases


def contained():
    cases = []
    for answer, gold in CONTAINED:
        # The benchmark's own script.
        expected = float(gold.lower().strip().replace("\n", " ") in answer.lower().strip().replace("\n", " "))
        doc = {"answer": [gold], "dataset": "nano", "question_type": "nano"}
        library = float(ocrbench_process_results(doc, [answer])["ocrbench_accuracy"]["score"])
        cases.append(checked({"answer": answer, "gold": gold}, {"OCRBench script": expected, "lmms_eval ocrbench": library}, expected, FOLD if library != expected else None))
    return cases


def relaxed():
    # The harness strips outputs before scoring.
    return [
        checked({"answer": a, "gold": g}, {"lmms_eval chartqa": float(relaxed_correctness(a.strip(), g))}, float(relaxed_correctness(a.strip(), g)), None)
        for a, g in RELAXED
    ]


def similarity():
    return [{"answer": a, "accepted": list(g), "expected": anls(list(g), [a])["anls"]} for a, g in ANLS]


def sums():
    """Random verdicts on paired questions, summed by the library: MME total / (2 · subtasks), MMVP pair accuracy."""
    rng = random.Random(0)
    out = []
    for n_pairs in (1, 2, 7, 40):
        rows = [
            {"unit": f"u{i}", "subtask": ("count", "position", "colour")[i * i % 3], "scores": [float(rng.random() < 0.6) for _ in range(2)]}
            for i in range(n_pairs)
        ]
        flat = [(r, s) for r in rows for s in r["scores"]]
        total = mme_aggregate_results([{"question_id": r["unit"], "category": r["subtask"], "score": s} for r, s in flat])
        pair = mmvp_aggregate_pair_results([{"pair_index": r["unit"], "is_correct": s == 1.0} for r, s in flat])
        subtasks = len({r["subtask"] for r in rows})
        out.append({"pairs": rows, "mme": total / (2 * subtasks), "mmvp": 100 * pair})
    return out


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, make in {
        "letters": letters, "yes_no": yes_no, "exact": exact, "contained": contained, "relaxed": relaxed, "anls": similarity, "sums": sums,
    }.items():
        cases = make()
        lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
        (OUT / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        differing = sum("why" in c for c in cases)
        print(f"{name}: {len(cases)} cases, {differing} where a reference differs with a written reason")


main()
