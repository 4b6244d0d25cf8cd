"""Reads the event files of runs with TensorBoard and trackio, and compares them with `train.jsonl` and `results.json`.

    python tests/reference/tensorboard_events.py runs/nano [MORE RUNS …]

Every directory below the arguments that holds a `train.jsonl` is a run. Needs tensorboard 2.21.0, and trackio 0.43.0 with
tbparse 0.0.9 for its `import_tf_events`. Prints what was read.
"""

import json
import os
import pathlib
import sys
import tempfile

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

NAMES = ["loss", "lr", "grad_norm"]


def wanted(run):
    """The scalars that a run's records demand: {tag: {step: value}}."""
    points, last = {}, {}
    for line in (run / "train.jsonl").read_text().splitlines():
        step = json.loads(line)
        last[step["stage"]] = step["step"]
        values = {name: step[name] for name in NAMES}
        values["tokens_per_second"] = step["tokens"] / step["seconds"]
        for name, value in values.items():
            points.setdefault(f"{step['stage']}/{name}", {})[step["step"]] = value
    results = run / "results.json"
    if results.is_file():
        results, total = json.loads(results.read_text()), sum(last.values())
        points["eval/average"] = {total: results["average"]}
        for name, score in results["results"].items():
            points[f"eval/{name}"] = {total: score["score"]}
            points[f"eval_blind/{name}"] = {total: score["blind"]}
        for name, score in results["categories"].items():
            points[f"eval_category/{name}"] = {total: score}
    return points


def compare(run, found, reader):
    points = wanted(run)
    for tag, values in points.items():
        # Event files hold 32-bit floats.
        expected = [(step, np.float32(value)) for step, value in values.items()]
        read = [(step, np.float32(value)) for step, value in found[tag]]
        assert sorted(read) == sorted(expected), (run, tag, read[:3], expected[:3])
    count = sum(len(values) for values in found.values())
    print(f"{reader}: {run}: {len(found)} tags, {count} points; {len(points)} tags equal the run's records, no step twice or missing")


def tensorboard(run):
    files = list(run.glob("events.out.tfevents.*"))
    assert len(files) == 1, files
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    assert tags["tensors"] == ["config"], tags
    text = accumulator.Tensors("config")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text) == json.loads((run / "config.json").read_text())
    compare(run, {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in tags["scalars"]}, "tensorboard")


def trackio(runs):
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRACKIO_DIR"] = folder
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        # One run per folder: links to the runs, because a project takes the folders' names.
        logs = pathlib.Path(folder) / "logs"
        for number, run in enumerate(runs):
            (logs / f"run-{number}").mkdir(parents=True)
            for file in run.glob("events.out.tfevents.*"):
                (logs / f"run-{number}" / file.name).symlink_to(file.resolve())
        trackio.import_tf_events(str(logs), project="burgess")
        for number, run in enumerate(runs):
            found = {}
            for row in SQLiteStorage.get_logs("burgess", f"run-{number}"):
                for tag, value in row.items():
                    if tag not in ("step", "timestamp"):
                        found.setdefault(tag, []).append((row["step"], value))
            compare(run, found, "trackio")


def main():
    runs = sorted({log.parent for path in sys.argv[1:] for log in pathlib.Path(path).rglob("train.jsonl")})
    assert runs, "no train.jsonl below the arguments"
    for run in runs:
        tensorboard(run)
    trackio(runs)


if __name__ == "__main__":
    main()
