"""Golden files of torch.save for burgess-encoders' reader: tests/golden/pickles/.

Versions: torch 2.9.0, safetensors. Run from anywhere: python tests/reference/pickles.py

zip.pth and legacy.pth   the same values in the format since PyTorch 1.6 and in the one before it: nested dictionaries,
                         parameters, views into one storage, a transposed tensor, all number formats, and the other
                         contents of training checkpoints (arguments, an optimiser, random states)
expected.safetensors     every floating-point tensor, by its dotted name, as f32
shapes.json              the shape of every tensor, including integer ones
object.pth               a whole module instead of a dictionary: must be refused
mae/pytorch_model.bin    the weights of ../encoders/mae (encoders.py makes them), as published before safetensors
"""

import argparse
import collections
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import load_file, save_file

OUT = pathlib.Path(__file__).parents[1] / "golden" / "pickles"


def tensors(value, name=""):
    if isinstance(value, torch.Tensor):
        return {name: value.detach()}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {k: v for key, part in items for k, v in tensors(part, f"{name}.{key}".lstrip(".")).items()}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4), torch.nn.Linear(5, 6))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    sum(p.square().sum() for p in model.parameters()).backward()
    optimiser.step()
    base = torch.randn(4, 6)
    state = model.state_dict()
    state["module.transposed"] = base.t()
    state["module.row"] = base[2]
    state["module.column"] = base[:, 1]
    state["module.scalar"] = torch.tensor(2.5)
    state["module.empty"] = torch.zeros(0, 3)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        state[f"module.{str(dtype).split('.')[1]}"] = torch.randn(3, 2).to(dtype)
    state["module.parameter"] = torch.nn.Parameter(torch.randn(2, 2))
    checkpoint = {
        "epoch": 300,
        "arch": "vit_base",
        "state_dict": state,
        "optimizer": optimiser.state_dict(),
        "args": argparse.Namespace(lr=1e-3, dist_url="tcp://localhost", distributed=True),
        "best": np.float64(0.5),
        "rng": torch.get_rng_state()[:8].clone(),
        "scaler": collections.OrderedDict(scale=65536.0, growth=None),
        "milestones": {3, 5},
    }
    torch.save(checkpoint, OUT / "zip.pth")
    torch.save(checkpoint, OUT / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(model, OUT / "object.pth")
    (OUT / "mae").mkdir(exist_ok=True)
    torch.save(load_file(OUT.parent / "encoders" / "mae" / "model.safetensors"), OUT / "mae" / "pytorch_model.bin")
    found = tensors(checkpoint)
    save_file({k: v.float().clone(memory_format=torch.contiguous_format) for k, v in found.items() if v.is_floating_point()}, OUT / "expected.safetensors")
    (OUT / "shapes.json").write_text(json.dumps({k: list(v.shape) for k, v in sorted(found.items())}, indent=0) + "\n")
    print({"torch": torch.__version__, "tensors": len(found)})


if __name__ == "__main__":
    main()
