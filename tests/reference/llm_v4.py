"""The configurations of `llm.py` as transformers 4 writes them.

    python tests/reference/llm_v4.py     (with transformers 4.57.1; writes tests/golden/llm-v4; seconds)

With each of them and the weights of `tests/golden/llm`, 4.57.1 gives the logits of 5.24.0 (checked here), except for the
two families whose default `rope_theta` changed in version 5.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
LLM = HERE.parent / "golden" / "llm"
OUT = LLM.with_name("llm-v4")
OTHER_BASE = ("cohere", "olmo3")


def models() -> dict:
    # Version 4 calls the kind of LongRoPE by an older key.
    source = (HERE / "llm.py").read_text().replace('rope_type="longrope"', 'type="longrope"')
    scope = {"__file__": str(HERE / "llm.py"), "__name__": "llm"}
    exec(compile(source, "llm.py", "exec"), scope)
    return scope["MODELS"]


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (config, _) in models().items():
        with tempfile.TemporaryDirectory() as dir:
            config.save_pretrained(dir)
            written = json.loads((Path(dir) / "config.json").read_text())
            shutil.copy(LLM / name / "model.safetensors", dir)
            model = AutoModelForCausalLM.from_pretrained(dir, attn_implementation="eager").eval().float()
        golden = load_file(LLM / name / "golden.safetensors")
        with torch.no_grad():
            logits = model(golden["ids"].long(), use_cache=False).logits[:, -8:]
        off = ((logits - golden["logits"]).norm() / golden["logits"].norm()).item()
        assert off < 1e-6 or name in OTHER_BASE, (name, off)
        (OUT / f"{name}.json").write_text(json.dumps(written, indent=1) + "\n")
        print(name, off)


if __name__ == "__main__":
    main()
