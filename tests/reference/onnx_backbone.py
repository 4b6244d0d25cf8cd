"""A small DINOv2 as PyTorch's exporter writes it to an ONNX file, with the original tensors, which `burgess data field` must
recover (dense layers are transposed and unnamed, position embeddings are split in two).

Versions: torch 2.9.0, transformers 5.24.0, onnx 1.23.2, safetensors 0.8.
Run from the repository: python tests/reference/onnx_backbone.py
Writes tests/golden/onnx/backbone.onnx and backbone.safetensors.
"""

import pathlib

import onnx
import torch
import transformers
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parents[2] / "tests/golden/onnx"

# transformers 5 calls these layers otherwise in memory than they are called in files, and than the package's exporter found them.
NAMES = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value", "o_proj": "output.dense"}


class Focus(torch.nn.Module):
    """An encoder with another module after it, as in the package: only the tensors under `backbone` are wanted."""

    def __init__(self):
        super().__init__()
        config = transformers.Dinov2Config(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=1, mlp_ratio=1, image_size=12, patch_size=4)
        self.backbone = transformers.Dinov2Model(config)
        self.head = torch.nn.Linear(64, 1)

    def forward(self, pixels):
        return self.head(self.backbone(pixels).last_hidden_state)


def published(name, between="."):
    for ours, theirs in NAMES.items():
        name = name.replace(f"attention{between}{ours}", f"attention{between}{theirs.replace('.', between)}")
    return name


def main():
    torch.manual_seed(0)
    model = Focus().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    OUT.mkdir(parents=True, exist_ok=True)
    # Another size than that of the positions, so that the graph resamples them.
    torch.onnx.export(
        model, (torch.zeros(1, 3, 8, 8),), OUT / "backbone.onnx", dynamo=False, opset_version=14,
        input_names=["pixels"], dynamic_axes={"pixels": {0: "batch"}})
    model_file = onnx.load(OUT / "backbone.onnx")
    for tensor in model_file.graph.initializer:
        tensor.name = published(tensor.name)
    for node in model_file.graph.node:
        node.name = published(node.name, "/")
        node.input[:] = [published(i) for i in node.input]
    onnx.save(model_file, OUT / "backbone.onnx")
    state = {published(k): v.contiguous() for k, v in model.backbone.state_dict().items()}
    state["embeddings.mask_token"] = torch.zeros_like(state["embeddings.mask_token"])
    save_file(state, OUT / "backbone.safetensors")
    for file in sorted(OUT.iterdir()):
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
