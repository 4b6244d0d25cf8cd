"""The table of timm's architectures that `config.json` names (encoders/src/timm/architectures.tsv), and their numbers of
tensors and parameters (tests/golden/timm/architectures.tsv).

Versions: torch 2.9.0, timm 1.0.20.
Run from anywhere: python tests/reference/timm_table.py

One line for each architecture of timm: its name, its class, and the arguments that its function passes to that class, as
JSON. Layers, functions and classes have their names in timm; those with settings are objects of a name and the settings,
and so are the calls that decode the block strings of EfficientNets. No model is built: the function that would build it is
replaced by one that records its arguments.

The second table has a line for each architecture: name, image side in pixels, number of floating-point tensors that
`forward_features` reads and of their elements (0 where timm cannot build or run the architecture from its name alone),
timm's module, and number of pretrained tags.
"""

import collections
import dataclasses
import functools
import importlib
import json
import pathlib
import re
import sys

import timm
import torch
from timm.models.resnetv2 import ResNetV2

ROOT = pathlib.Path(__file__).parents[2]
OUT = ROOT / "encoders" / "src" / "timm" / "architectures.tsv"
PRUNED = ROOT / "encoders" / "src" / "directory" / "timm" / "pruned_resnets.tsv"
GOLDEN = ROOT / "tests" / "golden" / "timm" / "architectures.tsv"
# What concerns the loading of pretrained weights and the taking of features, not the network.
LOADING = ("pretrained_filter_fn", "pretrained_strict", "feature_cfg", "feature_cls", "kwargs_filter", "pretrained_custom_load")


# What PyTorch's meta device cannot run, and memory cannot hold.
TOO_LARGE = ("vit_7b_patch16_dinov3", "regnety_2560", "regnety_1280")


class Described(Exception):
    pass


def describe(cls, variant, pretrained=False, **arguments):
    made = {k: plain(v) for k, v in arguments.items() if k not in LOADING}
    # Our network is another one for a vision transformer on a feature map.
    embed = made.get("embed_layer")
    stem = embed.get("HybridEmbed", {}).get("backbone", {}) if isinstance(embed, dict) else {}
    hybrid = "ResNetV2" in stem or stem.get("module") in ("ConvStem", "FeatureListNet")
    raise Described("Hybrid" + cls.__name__ if hybrid else cls.__name__, made)


class Backbone:
    """The convolutional stages of a ViTamin, by their configuration."""

    def __init__(self, cfg, **settings):
        self.call = {"MbConvStages": cfg}


class Decoded:
    """A call of timm's decode_arch_def, by its arguments."""

    def __init__(self, arch_def, *values, **settings):
        names = ("depth_multiplier", "depth_trunc", "experts_multiplier", "fix_first_last", "group_size")
        self.call = {"arch_def": arch_def, **dict(zip(names, values)), **settings}


def plain(value):
    if isinstance(value, (Backbone, Decoded)):
        return plain(value.call)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, functools.partial):
        settings = {**{str(i): plain(v) for i, v in enumerate(value.args)}, **{k: plain(v) for k, v in value.keywords.items()}}
        return {value.func.__name__: settings}
    if getattr(value, "__name__", "") == "<lambda>" and value.__closure__:  # with the variables that it captures
        names = value.__code__.co_freevars
        return {value.__name__: {n: plain(c.cell_contents) for n, c in zip(names, value.__closure__)}}
    # The stem of a hybrid, which is built before its trunk: a ResNetV2 without its last stages, or its stem alone.
    if isinstance(value, ResNetV2):
        return {"ResNetV2": [len(stage.blocks) for stage in value.stages]}
    if isinstance(value, torch.nn.Sequential) and type(value) is torch.nn.Sequential:
        return {"ResNetV2": []}
    if isinstance(value, torch.nn.Module):
        return {"module": type(value).__name__}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return value.__name__ if callable(value) else value


# The rates of stochastic depth are read as numbers while a model is made, which needs a real device.
torch.linspace = functools.partial(torch.linspace, device="cpu")


class Used(torch.overrides.TorchFunctionMode):
    """Records the identities of all tensors that functions take."""

    def __init__(self):
        super().__init__()
        self.tensors = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        stack = [args, kwargs or {}]
        while stack:
            item = stack.pop()
            if isinstance(item, torch.Tensor):
                self.tensors.add(id(item))
            elif isinstance(item, dict):
                stack.extend(item.values())
            elif isinstance(item, (list, tuple)):
                stack.extend(item)
        return function(*args, **(kwargs or {}))


def run(name, device):
    with torch.device(device):
        model = timm.create_model(name).eval()
        side = model.pretrained_cfg["input_size"][1]
        tensors = {id(v): v for k, v in model.state_dict(keep_vars=True).items() if v.is_floating_point()}
        with torch.no_grad(), Used() as used:
            model.forward_features(torch.zeros(1, 3, side, side))
    return side, tensors, used


def contents(name):
    """Image side, number of tensors and of elements that `forward_features` reads."""
    try:
        side, tensors, used = run(name, "meta")  # nothing is computed
    except (NotImplementedError, RuntimeError, TypeError):
        if name in TOO_LARGE:
            raise
        side, tensors, used = run(name, "cpu")
    read = [v for i, v in tensors.items() if i in used.tensors]
    return side, len(read), sum(v.numel() for v in read)


def pruned():
    """The remaining channels of pruned ResNets, from the shapes that timm has in a file for each."""
    lines = []
    for path in sorted((pathlib.Path(timm.__file__).parent / "models" / "_pruned").glob("ecaresnet*.txt")):
        shapes = dict(entry.split(":") for entry in path.read_text().strip().split("***"))
        convolutions = {}
        for key, shape in shapes.items():
            found = re.fullmatch(r"layer(\d)\.(\d+)\.conv(\d)\.weight", key)
            if found:
                convolutions[tuple(map(int, found.groups()))] = json.loads(shape)[0]
        lines.append(f"{path.stem}\t{' '.join(str(convolutions[key]) for key in sorted(convolutions))}\n")
    PRUNED.write_text("".join(lines))


def main():
    pruned()
    lines, golden, failed = [], [], []
    tags = collections.Counter(name.split(".")[0] for name in timm.list_pretrained())
    for name in timm.list_models() if "--table" not in sys.argv else []:
        try:
            numbers = contents(name)
        except Exception as error:  # noqa: BLE001: what timm cannot build on the meta device is named
            failed.append(f"{name}: {type(error).__name__}: {str(error)[:100]}")
            numbers = (0, 0, 0)
        module = timm.models.model_entrypoint(name).__module__.rsplit(".", 1)[-1]
        golden.append("\t".join(map(str, (name, *numbers, module, tags[name]))) + "\n")
    if golden:
        GOLDEN.write_text("".join(sorted(golden)))
    for name in timm.list_models():
        function = timm.models.model_entrypoint(name)
        module = importlib.import_module(function.__module__)
        # Only there: a hybrid's backbone is a model of another module.
        patched = {"build_model_with_cfg": describe, "decode_arch_def": Decoded, "MbConvStages": Backbone}
        own = {key: getattr(module, key) for key in patched if hasattr(module, key)}
        for key in own:
            setattr(module, key, patched[key])
        try:
            function()
            failed.append(f"{name}: built without build_model_with_cfg")
        except Described as found:
            cls, arguments = found.args
            lines.append(f"{name}\t{cls}\t{json.dumps(arguments, sort_keys=True, separators=(',', ':'))}\n")
        for key, value in own.items():
            setattr(module, key, value)
    OUT.write_text("".join(sorted(lines)))
    print(len(lines), OUT.stat().st_size, timm.__version__, *failed, sep="\n")


if __name__ == "__main__":
    main()
