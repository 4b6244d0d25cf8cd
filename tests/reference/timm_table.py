"""The table of timm's architectures that `config.json` names (encoders/src/timm/architectures.tsv), and their numbers of
tensors and parameters (tests/golden/timm/architectures.tsv).

Versions: torch 2.9.0, timm 1.0.20.
Run from anywhere: python tests/reference/timm_table.py

One line for each architecture of timm: its name, its class, and the arguments that its function passes to that class, as
JSON. Layers, functions and classes have their names in timm; those with settings are objects of a name and the settings,
and so are the calls that decode the block strings of EfficientNets. No model is built: the function that would build it is
replaced by one that records its arguments.

The second table has a line for each architecture that timm can create from its name alone: name, image side in pixels,
number of tensors, number of parameters, without heads and their pooling layers.
"""

import dataclasses
import functools
import importlib
import json
import pathlib
import re
import sys

import timm
import torch

ROOT = pathlib.Path(__file__).parents[2]
OUT = ROOT / "encoders" / "src" / "timm" / "architectures.tsv"
GOLDEN = ROOT / "tests" / "golden" / "timm" / "architectures.tsv"
NO_FEATURES = re.compile(r"(head(?!\.norm)|head_dist|fc_norm|attn_pool|neck|fc|classifier)\.|.*\.num_batches_tracked$")
# What concerns the loading of pretrained weights and the taking of features, not the network.
LOADING = ("pretrained_filter_fn", "pretrained_strict", "feature_cfg", "feature_cls", "kwargs_filter", "pretrained_custom_load")


class Described(Exception):
    pass


def describe(cls, variant, pretrained=False, **arguments):
    raise Described(cls.__name__, {k: plain(v) for k, v in arguments.items() if k not in LOADING})


class Decoded:
    """A call of timm's decode_arch_def, by its arguments."""

    def __init__(self, arch_def, *values, **settings):
        names = ("depth_multiplier", "depth_trunc", "experts_multiplier", "fix_first_last", "group_size")
        self.call = {"arch_def": arch_def, **dict(zip(names, values)), **settings}


def plain(value):
    if isinstance(value, Decoded):
        return plain(value.call)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, functools.partial):
        settings = {**{str(i): plain(v) for i, v in enumerate(value.args)}, **{k: plain(v) for k, v in value.keywords.items()}}
        return {value.func.__name__: settings}
    if isinstance(value, torch.nn.Module):  # the stem of a hybrid, which is built before its trunk
        return {"module": type(value).__name__}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return value.__name__ if callable(value) else value


# The rates of stochastic depth are read as numbers while a model is made, which needs a real device.
torch.linspace = functools.partial(torch.linspace, device="cpu")


def contents(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    tensors = [v for k, v in model.state_dict().items() if not NO_FEATURES.match(k) and v.is_floating_point()]
    return f"{name}\t{model.pretrained_cfg['input_size'][1]}\t{len(tensors)}\t{sum(v.numel() for v in tensors)}\n"


def main():
    lines, golden, failed = [], [], []
    for name in timm.list_models() if "--table" not in sys.argv else []:
        try:
            golden.append(contents(name))
        except Exception as error:  # noqa: BLE001: what timm cannot build on the meta device is named
            failed.append(f"{name}: {type(error).__name__}: {str(error)[:100]}")
    if golden:
        GOLDEN.write_text("".join(sorted(golden)))
    for module in timm.models.list_modules():
        module = importlib.import_module(f"timm.models.{module}")
        for function, replacement in (("build_model_with_cfg", describe), ("decode_arch_def", Decoded)):
            if hasattr(module, function):
                setattr(module, function, replacement)
    for name in timm.list_models():
        try:
            timm.models.model_entrypoint(name)()
            failed.append(f"{name}: built without build_model_with_cfg")
        except Exception as found:  # noqa: BLE001
            if not isinstance(found, Described):
                failed.append(f"{name}: {type(found).__name__}: {str(found)[:100]}")
                continue
            cls, arguments = found.args
            lines.append(f"{name}\t{cls}\t{json.dumps(arguments, sort_keys=True, separators=(',', ':'))}\n")
    OUT.write_text("".join(sorted(lines)))
    print(len(lines), OUT.stat().st_size, timm.__version__, *failed, sep="\n")


if __name__ == "__main__":
    main()
