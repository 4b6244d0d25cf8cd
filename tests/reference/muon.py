"""Parameters after each of six Muon steps, for probe/src/optimiser.rs.

Uses PyTorch 2.9.0's `torch.optim.Muon` with one change: the Newton-Schulz iteration runs in f32 instead of bfloat16, so
that the comparison is about the algorithm and not about rounding.

    python tests/reference/muon.py      # writes tests/golden/train/muon.json
"""

import inspect
import json
import pathlib

import torch
from torch.optim import _muon

source = inspect.getsource(_muon._zeropower_via_newtonschulz)
assert "bfloat16()" in source
exec(source.replace("bfloat16()", "float()"), _muon.__dict__)

torch.manual_seed(0)
cases = []
for shape in [(5, 9), (9, 5), (6, 6)]:
    parameter = torch.nn.Parameter(torch.randn(shape) * 0.1)
    start = parameter.detach().flatten().tolist()
    optimiser = torch.optim.Muon(
        [parameter], lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    steps = []
    for _ in range(6):
        gradient = torch.randn(shape)
        parameter.grad = gradient.clone()
        optimiser.step()
        steps.append({"gradient": gradient.flatten().tolist(), "after": parameter.detach().flatten().tolist()})
    cases.append({"shape": shape, "start": start, "steps": steps})

golden = pathlib.Path(__file__).parents[1] / "golden/train/muon.json"
golden.write_text(json.dumps({"torch": torch.__version__, "lr": 0.02, "weight_decay": 0.1, "cases": cases}))
