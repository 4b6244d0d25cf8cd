"""Files of answers as lmms-eval and VLMEvalKit write them, for probe/bench/tests/bench.rs.

The samples follow lmms_eval 0.7.3, loggers/evaluation_tracker.py (save_results_samples): one response flattened to a
text, the target as str(). The tables follow VLMEvalKit, vlmeval/smp/file.py (dump): pandas with xlsxwriter, quoted TSV.

Pinned: pandas 2.3.3, XlsxWriter 3.2.9, Python 3.11.  Run:  python tests/reference/predictions.py
"""

import csv
import json
from pathlib import Path

import pandas

OUT = Path(__file__).resolve().parent.parent / "golden" / "predictions"
OUT.mkdir(exist_ok=True)
TARGETS, ANSWERS = ["red", "12", "105", "two dogs"], ["Red.", "12", "105", "2 dogs"]

with open(OUT / "20260101_samples_gqa.jsonl", "w") as file:
    for i, (target, answer) in enumerate(zip(TARGETS, ANSWERS)):
        sample = {"doc_id": i, "target": target, "filtered_resps": answer, "doc_hash": "0", "exact_match": 0.0, "input": "q"}
        file.write(json.dumps(sample) + "\n")

table = pandas.DataFrame(
    [
        {"index": i, "question": f"What is it, {i}?", "answer": t, "prediction": int(a) if a.isdigit() else a}
        for i, (t, a) in enumerate(zip(TARGETS, ANSWERS))
    ]
)
table.to_excel(OUT / "model_GQA.xlsx", index=False, engine="xlsxwriter")
table.to_csv(OUT / "model_GQA.tsv", sep="\t", index=False, quoting=csv.QUOTE_ALL)
table["prediction"] = table["prediction"].astype(str)
json.dump(table.to_dict(orient="records"), open(OUT / "model_GQA.json", "w"), indent=4)
