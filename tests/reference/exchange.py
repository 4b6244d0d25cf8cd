"""Checks records of other tools, written by Burgess, with the validators of those tools.

    python -m venv /tmp/reference && . /tmp/reference/bin/activate       Python 3.12 for every_eval_ever
    pip install every_eval_ever==0.3.0 huggingface_hub==2.4.0 pyyaml
    burgess report runs/nano --format eee -o records
    python tests/reference/exchange.py records                           every record, by the schema and by the rules
    python tests/reference/exchange.py --yaml EXPORTED/.eval_results     every file, by the hub's own parser

The packages state conflicting versions of huggingface_hub; --yaml needs 2.x, and the rest does not use it.
"""

import pathlib
import sys


def records(root):
    import json

    import jsonschema
    from every_eval_ever import schemas
    from every_eval_ever.validator.validation_core import validate_aggregate

    schema = json.loads((pathlib.Path(schemas.__file__).parent / "eval.schema.json").read_text())
    files = sorted(root.rglob("*.json"))
    for file in files:
        jsonschema.Draft7Validator(schema).validate(json.loads(file.read_text()))
        report = validate_aggregate(file, repo_path=file.relative_to(root).as_posix(), run_semantic_checks=True)
        assert report.valid and not report.errors and not report.warnings, (file, report)
    return files


def yaml_files(root):
    import yaml
    from huggingface_hub import parse_eval_result_entries
    from huggingface_hub._eval_results import eval_result_entries_to_yaml

    files = sorted(root.glob("*.yaml"))
    for file in files:
        data = yaml.safe_load(file.read_text())
        entries = parse_eval_result_entries(data)
        assert len(entries) == 1 and isinstance(entries[0].value, float), file
        assert eval_result_entries_to_yaml(entries) == data, f"{file}: the parser did not read everything"
    return files


if sys.argv[1] == "--yaml":
    checked = yaml_files(pathlib.Path(sys.argv[2]))
else:
    checked = records(pathlib.Path(sys.argv[1]))
assert checked, "no files"
print(len(checked), "files are valid")
