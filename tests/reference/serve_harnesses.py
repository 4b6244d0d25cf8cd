"""Real evaluation harnesses, unchanged, against `burgess serve`: lmms-eval, VLMEvalKit and the openai package.

Each asks the served model the questions of a small benchmark in MME's published form and scores the answers itself; the
answers and the scores must be those of `burgess eval` on the same questions and images.

    serve_harnesses.py make STUDY/ARM/seed-0/samples/nano-mme.jsonl DATA --count 200 --vlmevalkit DIR
        writes DATA/png/bench/mme (PNG, for lmms-eval), DATA/jpeg/bench/mme (the bytes that VLMEvalKit sends: JPEG,
        enlarged to at least 100 pixels) and DATA/lmu/MME.tsv
    burgess serve --model STUDY/ARM/seed-0/model --port 8080
    burgess eval --model STUDY/ARM/seed-0/model --benchmarks mme --data DATA/png --prompts lmms-eval --scoring lmms-eval
    burgess eval --model STUDY/ARM/seed-0/model --benchmarks mme --data DATA/jpeg
    serve_harnesses.py lmms-eval DATA --url http://127.0.0.1:8080/v1 --samples EVAL/samples/mme.jsonl
    serve_harnesses.py vlmevalkit DATA --url http://127.0.0.1:8080/v1 --samples EVAL/samples/mme.jsonl --vlmevalkit DIR
    serve_harnesses.py openai DATA --url http://127.0.0.1:8080/v1 --samples EVAL/samples/mme.jsonl

Needs openai 3.57, lmms-eval 0.7.3, pyarrow; VLMEvalKit is a checkout (2026-08), for it is not in the registry.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("what", choices=["make", "lmms-eval", "vlmevalkit", "openai"])
parser.add_argument("paths", nargs="+", type=Path)
parser.add_argument("--url")
parser.add_argument("--model", default="")
parser.add_argument("--samples", type=Path)
parser.add_argument("--count", type=int, default=200)
parser.add_argument("--vlmevalkit", type=Path)
args = parser.parse_args()
if args.vlmevalkit:
    sys.path.insert(0, str(args.vlmevalkit))

REQUEST = " Please answer yes or no."
# MME's scorers need questions of every subtask: the images get them by turns.
SUBTASKS = (
    "existence count position color posters celebrity scene landmark artwork OCR commonsense_reasoning "
    "numerical_calculation text_translation code_reasoning"
).split()


def rows_of(path: Path, count: int) -> list[dict]:
    rows, images = [], []
    for line in path.read_text().splitlines()[:count]:
        sample = json.loads(line)
        image = Path(sample["image"])
        if image not in images:
            images.append(image)
        subtask = SUBTASKS[images.index(image) % len(SUBTASKS)]
        rows.append(
            {
                "question_id": f"{subtask}/{image.name}",
                "image": image.read_bytes(),
                "question": sample["question"] + REQUEST,
                "answer": sample["target"],
                "category": subtask,
            }
        )
    return rows


def write_parquet(rows: list[dict], folder: Path) -> None:
    from datasets import Dataset, Features, Image, Value

    folder.mkdir(parents=True, exist_ok=True)
    text = {key: Value("string") for key in ["question_id", "question", "answer", "category"]}
    rows = [{**row, "image": {"bytes": row["image"], "path": None}} for row in rows]
    features = Features({**text, "image": Image()})
    Dataset.from_list(rows, features=features).to_parquet(folder / "test-00000-of-00001.parquet")


def make(samples: Path, data: Path) -> None:
    import pandas
    from PIL import Image

    from vlmeval.smp import encode_image_to_base64

    rows = rows_of(samples, args.count)
    write_parquet(rows, data / "png/bench/mme")
    sent = [base64.b64decode(encode_image_to_base64(Image.open(io.BytesIO(row["image"])))) for row in rows]
    write_parquet([{**row, "image": image} for row, image in zip(rows, sent)], data / "jpeg/bench/mme")
    (data / "lmu").mkdir(parents=True, exist_ok=True)
    table = pandas.DataFrame(
        [
            {
                "index": i,
                "image": base64.b64encode(row["image"]).decode(),
                "image_path": row["question_id"].replace("/", "_"),
                "question": row["question"],
                "answer": row["answer"],
                "category": row["category"],
            }
            for i, row in enumerate(rows)
        ]
    )
    table.to_csv(data / "lmu/MME.tsv", sep="\t", index=False)


def compare(answers: list[str], scores: dict) -> None:
    """Compares the harness's answers with those of `burgess eval`, which are in the order of the file."""
    ours = [json.loads(line) for line in args.samples.read_text().splitlines()]
    equal = sum(a.strip() == o["answer"].strip() for a, o in zip(answers, ours, strict=True))
    print(f"answers equal to those of `burgess eval`: {equal} of {len(ours)}; {len(set(answers))} different answers")
    for a, o in zip(answers, ours):
        if a.strip() != o["answer"].strip():
            print(f"{o['id']}: {a!r} instead of {o['answer']!r}")
    print(json.dumps({"harness": scores, "burgess": {"correct": sum(o["score"] for o in ours), "n": len(ours)}}))
    sys.exit(equal != len(ours))


def lmms_eval(data: Path) -> None:
    import lmms_eval.tasks

    task = Path(lmms_eval.tasks.__file__).parent / "mme/mme.yaml"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        files = {"test": str(data.resolve() / "png/bench/mme/test-00000-of-00001.parquet")}
        # The published task with its prompts and scorer; only the data are others.
        text = f"include: {task}\ntask: mme_local\ndataset_path: parquet\ndataset_kwargs:\n  data_files: {json.dumps(files)}\n"
        # `burgess eval` allows 32 tokens, the task 16.
        text += "generation_kwargs:\n  max_new_tokens: 32\n  temperature: 0\n  do_sample: false\n"
        (folder / "mme_local.yaml").write_text(text)
        model = f"base_url={args.url},api_key=none,model_version={args.model or 'default'},timeout=120"
        command = [sys.executable, "-m", "lmms_eval", "--model", "openai", "--model_args", model, "--tasks", "mme_local"]
        command += ["--include_path", str(folder), "--batch_size", "1", "--log_samples", "--output_path", str(folder / "out")]
        subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "hf")})
        result = json.loads(next((folder / "out").rglob("*_results.json")).read_text())["results"]["mme_local"]
        lines = next((folder / "out").rglob("*_samples_mme_local.jsonl")).read_text().splitlines()
    samples = sorted((json.loads(line) for line in lines), key=lambda s: s["doc_id"])
    compare([s["filtered_resps"][0] if isinstance(s["filtered_resps"], list) else s["filtered_resps"] for s in samples], result)


def vlmevalkit(data: Path) -> None:
    os.environ["LMUData"] = str(data.resolve() / "lmu")
    from vlmeval.api.gpt import OpenAIWrapper
    from vlmeval.dataset import build_dataset
    from vlmeval.dataset.image_yorn import ImageYORNDataset
    from vlmeval.inference import infer_data_job
    from vlmeval.smp import load

    # The published file has another digest, and would be fetched again.
    ImageYORNDataset.DATASET_MD5["MME"] = hashlib.md5((data / "lmu/MME.tsv").read_bytes()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        dataset = build_dataset("MME")
        url = f"{args.url}/chat/completions"
        model = OpenAIWrapper(model=args.model or "default", key="none", api_base=url, temperature=0, max_tokens=32, retry=2)
        infer_data_job(model, folder, "burgess", dataset, api_nproc=8)
        file = next(Path(folder).glob("burgess_MME.*"))
        table = load(str(file))
        scores = dataset.evaluate(str(file), model="exact_matching")
    compare([str(a) for a in table["prediction"]], json.loads(scores.to_json(orient="records"))[0])


def openai(data: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import pyarrow.parquet
    from openai import OpenAI

    client = OpenAI(base_url=args.url, api_key="none")
    name = args.model or client.models.list().data[0].id
    rows = pyarrow.parquet.read_table(data / "jpeg/bench/mme/test-00000-of-00001.parquet").to_pylist()

    def ask(numbered: tuple[int, dict]) -> str:
        i, row = numbered
        url = f"data:image/jpeg;base64,{base64.b64encode(row['image']['bytes']).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": row["question"]}]
        request = dict(model=name, messages=[{"role": "user", "content": content}], temperature=0, max_tokens=32)
        if i % 2:
            return client.chat.completions.create(**request).choices[0].message.content
        parts = client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
        return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)

    with ThreadPoolExecutor(8) as pool:
        compare(list(pool.map(ask, enumerate(rows))), {"package": "openai", "streamed": "every second request"})


match args.what:
    case "make":
        make(*args.paths)
    case "lmms-eval":
        lmms_eval(*args.paths)
    case "vlmevalkit":
        vlmevalkit(*args.paths)
    case "openai":
        openai(*args.paths)
