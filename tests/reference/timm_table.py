"""The table of timm's architectures that `config.json` names (encoders/src/directory/timm/architectures.tsv), and their
numbers of tensors and parameters (tests/golden/timm/architectures.tsv).

Versions: torch 2.9.0, timm 1.0.20.
Run from anywhere: python tests/reference/timm_table.py

One line for each architecture of the classes below: its name, its class, and the arguments that its function passes to
that class, as JSON. Layers have the names of timm's classes; those with settings are objects of a name and the settings.
No model is built: the function that would build it is replaced by one that records its arguments.

The second table has a line for each architecture that timm can create from its name alone: name, image side in pixels,
number of tensors, number of parameters, without heads and their pooling layers.
"""

import functools
import importlib
import json
import pathlib
import re

import timm
import torch

OUT = pathlib.Path(__file__).parents[2] / "encoders" / "src" / "directory" / "timm" / "architectures.tsv"
MODULES = ("vision_transformer", "deit", "eva", "beit", "vision_transformer_sam", "convnext", "resnet")
GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "timm" / "architectures.tsv"
NO_FEATURES = re.compile(r"(head(?!\.norm)|head_dist|fc_norm|attn_pool|neck|fc)\.")
# What concerns the loading of pretrained weights and the taking of features, not the network.
LOADING = ("pretrained_filter_fn", "pretrained_strict", "feature_cfg")


class Described(Exception):
    pass


def describe(cls, variant, pretrained, **arguments):
    raise Described(cls.__name__, {k: plain(v) for k, v in arguments.items() if k not in LOADING})


def plain(value):
    if isinstance(value, functools.partial):
        return {value.func.__name__: {k: plain(v) for k, v in value.keywords.items()}}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value.__name__ if callable(value) else value


# The rates of stochastic depth are read as numbers while a model is made, which needs a real device.
torch.linspace = functools.partial(torch.linspace, device="cpu")


def contents(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    tensors = [v for k, v in model.state_dict().items() if not NO_FEATURES.match(k)]
    return f"{name}\t{model.pretrained_cfg['input_size'][1]}\t{len(tensors)}\t{sum(v.numel() for v in tensors)}\n"


def main():
    lines, golden = [], []
    for module in MODULES:
        for name in timm.list_models(module=module):
            try:
                golden.append(contents(name))
            except TypeError as error:
                print(f"timm cannot make {name}: {error}")
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text("".join(sorted(golden)))
    for module in MODULES:
        importlib.import_module(f"timm.models.{module}").build_model_with_cfg = describe
        for name in timm.list_models(module=module):
            try:
                timm.models.model_entrypoint(name)()
            except Described as found:
                cls, arguments = found.args
                lines.append(f"{name}\t{cls}\t{json.dumps(arguments, sort_keys=True, separators=(',', ':'))}\n")
    OUT.write_text("".join(sorted(lines)))
    print(len(lines), OUT.stat().st_size, timm.__version__)


if __name__ == "__main__":
    main()
