"""Golden features of timm's architectures for encoders/tests/timm_zoo.rs, in tests/golden/timm-zoo/.

Versions: torch 2.9.0, timm 1.0.20, safetensors.
Run from anywhere: python tests/reference/timm_zoo.py [FAMILY ...]     (all families of tests/reference/timm_zoo/*.toml)

A case names an architecture of timm (or has the vision_cfg of open_clip's own ResNet), `args` that make it small
(model_args of config.json), the side of the image, and
`layers`, further outputs: pairs of a module's name or an index of timm's forward_intermediates, and our layer.

Weights are not stored: here and in the test every tensor is made from its name (`values`), so that a golden holds the
configuration, names and shapes of the tensors, the features (those of `forward_features` without prefix tokens, and of
`layers`), three gradients of the sum of features · projection, and the multiply-adds that torch counts.

`pick` is an index into the list that some `forward_features` return. `output` takes an output of forward_intermediates
(with `norm`, normalised) instead of `forward_features`, where that returns class tokens only or computes them besides.
`class` builds the class itself, where timm's function for the name takes no other sizes; `gradients` is the beginning of
the names of the parameters whose gradients are stored.
"""

import dataclasses
import copy
import functools
import json
import pathlib
import sys
import tomllib

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE.parent / "golden" / "timm-zoo"
# The largest parameter whose gradient is stored.
LARGEST = 2048


batch_norm = torch.nn.functional.batch_norm


def batch_norm_with_gradient(*args, **kwargs):
    """torch 2.9's gradient of a batch norm in evaluation mode is wrong on the CPU where the gradient of its output is
    strided, which it is where the output is transposed to tokens."""
    out = batch_norm(*args, **kwargs)
    if out.requires_grad:
        out.register_hook(lambda gradient: gradient.contiguous())
    return out


torch.nn.functional.batch_norm = batch_norm_with_gradient


def uniform(name, count):
    """Numbers in [-1, 1): splitmix64 of the FNV-1a hash of the name plus multiples of its increment."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / float(1 << 23) - 1.0


def values(name, shape, variance=1.0):
    """The tensor `name`; kernels are scaled by their inputs, scales are near 1, variances are positive."""
    u = uniform(name, int(np.prod(shape, dtype=np.int64)))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        made = variance * (1.0 + 0.5 * u)
    elif leaf == "gain":  # of kernels with scaled weight standardisation
        made = 1.0 + 0.3 * u
    elif len(shape) == 2 and leaf == "weight" and ".conv_" in name:  # the kernels of all experts, flattened
        made = 0.3 * u
    elif len(shape) >= 2 and leaf == "weight":
        gain = 3.0 if len(shape) == 2 else 6.0
        made = np.sqrt(gain / np.prod(shape[1:])) * u
    elif len(shape) >= 2:
        made = 0.5 * u
    elif leaf == "weight" or len(shape) == 0 or name.endswith(".lab.scale"):
        made = 1.0 + 0.3 * u
    elif leaf in ("bias", "running_mean"):
        made = 0.2 * u
    else:
        made = 0.5 + 0.3 * u
    return torch.from_numpy(made.astype(np.float32).reshape(shape))


def fill(model, variance=1.0):
    """Replaces all weights; returns names and shapes of the floating-point and of the other tensors."""
    floats, others, filled = {}, {}, set()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                floats[name] = list(tensor.shape)
                if tensor.data_ptr() not in filled:  # a tensor with several names has the values of the first
                    tensor.copy_(values(name, list(tensor.shape), variance))
                filled.add(tensor.data_ptr())
            else:
                others[name] = list(tensor.shape)
    return floats, others


def tokens(features, prefix, channels_last=False):
    """[positions, channels] of the first image."""
    if isinstance(features, (tuple, list)):
        features = features[0]
    if features.ndim == 4:
        features = features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
    else:
        features = features[:, prefix:]
    return features[0]


def named(module, value):
    """An argument of the table of architectures, in which classes have their names and settings."""
    if isinstance(value, list):
        return [named(module, item) for item in value]
    if isinstance(value, dict):
        (name, settings), = value.items()
        return functools.partial(named(module, name), **settings)
    if isinstance(value, str):
        found = getattr(module, value, getattr(torch.nn, value, value))
        return found if callable(found) else value
    return value


def of_timm(spec):
    """A model of timm, what makes its features, and the configuration file with its name."""
    size, args = spec["size"], dict(spec.get("args", {}))
    built = {**args, "img_size": size} if spec.get("img_size") else args
    configuration = {}
    if "model_cfg" in spec:
        # Some model functions take their dataclass from a table of their module.
        known = sys.modules[timm.model_entrypoint(spec["model"]).__module__].model_cfgs
        known[spec["model"]] = dataclasses.replace(known[spec["model"]], **spec["model_cfg"])
        configuration = {"model_cfg": dataclasses.asdict(known[spec["model"]])}
    if "class" in spec:  # timm's function for the name takes no other sizes
        module = sys.modules[timm.models.model_entrypoint(spec["model"]).__module__]
        table = (HERE.parents[1] / "encoders" / "src" / "timm" / "architectures.tsv").read_text().splitlines()
        usual = next(json.loads(row.split("\t")[2]) for row in table if row.split("\t")[0] == spec["model"])
        model = getattr(module, spec["class"])(**{k: named(module, v) for k, v in {**usual, **built}.items()}).eval()
    else:
        model = timm.create_model(spec["model"], pretrained=False, **copy.deepcopy(built)).eval()
    config = {
        "architecture": spec["model"],
        "num_features": getattr(model, "num_features", 0),
        "model_args": {**built, **configuration},
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "crop_pct": 1.0,
            "interpolation": "bicubic",
        },
    }

    def forward(pixels):
        if "output" in spec:
            norm = spec.get("norm", False)
            return model.forward_intermediates(pixels, norm=norm, intermediates_only=True)[spec["output"]]
        out = model.forward_features(pixels)
        return out[spec["pick"]] if "pick" in spec else out

    return model, forward, config, "config.json"


def of_open_clip(spec):
    """A model with open_clip's own ResNet, whose features come before the attention pool, or with a tower of timm."""
    import open_clip

    text = {"context_length": 4, "vocab_size": 11, "width": 8, "heads": 2, "layers": 1}
    config = {"embed_dim": 8, "vision_cfg": {**spec["open_clip"], "image_size": spec["size"]}, "text_cfg": text}
    model = open_clip.CLIP(**config).eval()
    visual = model.visual
    steps = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": config, "preprocess_cfg": steps}
    if "timm_model_name" in spec["open_clip"]:
        return model, visual.trunk.forward_features, config, "open_clip_config.json"
    layers = torch.nn.Sequential(visual.layer1, visual.layer2, visual.layer3, visual.layer4)
    return model, lambda x: layers(visual.stem(x)), config, "open_clip_config.json"


def case(spec):
    timm.layers.set_fused_attn(False)  # the counter of operations does not know the fused one
    size = spec["size"]
    model, forward, config, file = of_open_clip(spec) if "open_clip" in spec else of_timm(spec)
    floats, others = fill(model, spec.get("variance", 1.0))
    pixels = torch.from_numpy(2.0 * uniform("pixels", 3 * size * size).astype(np.float32)).reshape(1, 3, size, size)
    prefix = spec.get("prefix", getattr(model, "num_prefix_tokens", 0))
    last = getattr(model, "output_fmt", "NCHW") == "NHWC"

    found, hooks, layers = {}, [], spec.get("layers", [])
    for upstream, ours in layers:
        if isinstance(upstream, str):
            def keep(_module, _inputs, output, ours=ours):
                found[f"features.{ours}"] = tokens(output, prefix, last).detach()
            hooks.append(model.get_submodule(upstream).register_forward_hook(keep))
    # The counter of operations does not know this layer: products of the input and of the state with four gates.
    recurrent = []
    for module in model.modules():
        if isinstance(module, torch.nn.LSTM):
            hooks.append(module.register_forward_hook(lambda m, _inputs, output: recurrent.append(
                output[0].numel() * 4 * (m.input_size + m.hidden_size))))
    counter = FlopCounterMode(display=False)
    with counter:
        features = forward(pixels)
        if isinstance(features, torch.Tensor):
            # torch 2.9.0 computes wrong gradients of a batch norm from gradients that are stored channels-last.
            features.register_hook(lambda gradient: gradient.contiguous())
        out = tokens(features, prefix, last)
    for hook in hooks:
        hook.remove()
    indices = [(upstream, ours) for upstream, ours in layers if not isinstance(upstream, str)]
    if indices:
        with torch.no_grad():
            maps = model.forward_intermediates(pixels, indices=[i for i, _ in indices], intermediates_only=True)
        for (_, ours), features in zip(indices, maps):
            found[f"features.{ours}"] = tokens(features, prefix).detach()

    projection = torch.from_numpy(uniform("projection", out.numel()).astype(np.float32)).reshape(out.shape)
    (out * projection).sum().backward()
    small = [(n, p.grad) for n, p in model.named_parameters() if p.grad is not None and 1 < p.numel() <= LARGEST]
    small = [(n, g) for n, g in small if g.norm() > 0 and n.startswith(spec.get("gradients", ""))]
    for name, gradient in (small[0], small[len(small) // 2], small[-1]) if len(small) > 2 else small:
        found[f"gradient.{name}"] = gradient

    # Features that hardly depend on the image would test nothing.
    with torch.no_grad():
        other = tokens(forward(pixels.flip(3)), prefix, last)
    moved = ((other - out).norm() / out.norm()).item()
    if not 0.02 < moved < 10 or not torch.isfinite(out).all():
        raise SystemExit(f"{spec['name']}: another image moves the features by {moved}: choose other arguments")

    found["features"] = out.detach()
    metadata = {
        "config": json.dumps(config),
        "file": file,
        "floats": json.dumps(floats),
        "others": json.dumps(others),
        "variance": str(spec.get("variance", 1.0)),
        "multiply_adds": str(counter.get_total_flops() // 2 + sum(recurrent)),
    }
    GOLDEN.mkdir(exist_ok=True)
    path = GOLDEN / f"{spec['name']}.safetensors"
    save_file({k: v.contiguous().clone() for k, v in found.items()}, path, metadata)
    print(f"{spec['name']:32} {spec.get('model', 'open_clip'):32} {list(out.shape)} std {out.std():.3g} moved {moved:.3g} "
          f"{path.stat().st_size // 1024} KiB, {sum(map(np.prod, floats.values())) / 1e6:.2f} M parameters")


def main():
    families = sys.argv[1:] or sorted(p.stem for p in (HERE / "timm_zoo").glob("*.toml"))
    for family in families:
        for spec in tomllib.loads((HERE / "timm_zoo" / f"{family}.toml").read_text())["case"]:
            case(spec)


if __name__ == "__main__":
    main()
