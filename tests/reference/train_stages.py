"""Goldens of both stages with an encoder: losses of twenty steps each, and the final weights, in PyTorch.

    python tests/reference/train_stages.py        (writes tests/golden/train/stages; seconds on a CPU)

A small DINOv2 (patch tokens after the final norm), a connector (linear, GELU, linear) and a small LLaMA. Align trains the
connector; tune, from there, connector and LLaMA or adapters (PEFT's LoRA on all projections), with the encoder frozen or
not, in f32 and with the LLaMA under autocast to bfloat16. AdamW with a learning rate
for each part, warm-up, cosine, weight decay on matrices, clipping by the global norm; every step uses all eight examples
in two micro-batches whose losses are divided by the tokens of the step, as the Hugging Face trainer does since 4.46. One
example has no image, and one is longer than MOST and is truncated as by the training collator.

DINOv2 has no bias in its queries, keys and values: the gradient of a key's bias is exactly zero, so that
rounding leaves only noise, which Adam would scale to full steps.

torch 2.9.0, transformers 5.24.0, peft 0.18.0.
"""

import copy
import json
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM, get_cosine_schedule_with_warmup

OUT = Path(__file__).resolve().parents[1] / "golden" / "train" / "stages"
IMAGE, STEPS, MOST = 5, 20, 26
WIDTH, D, N = 16, 24, 9
RATES = {"connector": 1e-2, "llm": 2e-3, "encoder": 1e-3}
DECAY, CLIP, WARMUP = 0.1, 1.0, 2


def examples(g: torch.Generator) -> list[dict]:
    """Eight conversations: the third without an image, the sixth too long, truncated in the middle of an answer."""
    found = []
    for i in range(8):
        length = 30 if i == 5 else int(torch.randint(8, 17, (1,), generator=g))
        ids = torch.randint(6, 41, (length,), generator=g).tolist()
        at = None if i == 2 else int(torch.randint(0, 3, (1,), generator=g))
        if at is not None:
            ids[at] = IMAGE
        start = 12 if i == 5 else length - int(torch.randint(2, 5, (1,), generator=g))
        found.append({"ids": ids, "learned": [k >= start for k in range(length)],
                      "image": None if at is None else i, "image_at": at})
    return found


def sum_of_losses(encoder, connector, llm, pixels, batch, mixed=False):
    total, tokens = 0, 0
    table = llm.get_input_embeddings()
    for e in batch:
        ids = torch.tensor(e["ids"])
        labels = torch.where(torch.tensor(e["learned"]), ids, -100)
        if e["image_at"] is None:
            x, y = table(ids), labels
        else:
            at = e["image_at"]
            patches = encoder(pixels[e["image"]][None]).last_hidden_state[0, 1:]
            x = torch.cat([table(ids[:at]), connector(patches), table(ids[at + 1:])])
            y = torch.cat([labels[:at], torch.full((N,), -100), labels[at + 1:]])
        x, y = x[:MOST], y[:MOST]
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits = llm(inputs_embeds=x[None]).logits[0, :-1].float()
        total = total + nn.functional.cross_entropy(logits, y[1:], ignore_index=-100, reduction="sum")
        tokens += int((y[1:] != -100).sum())
    return total, tokens


def train(encoder, connector, llm, pixels, batch, parts, mixed=False):
    modules = {"encoder": encoder, "connector": connector, "llm": llm}
    for name, module in modules.items():
        if name not in parts:
            module.requires_grad_(False)
    groups, trained = [], []
    for name in parts:
        own = [p for p in modules[name].parameters() if p.requires_grad]
        trained += own
        groups += [{"params": [p for p in own if p.dim() >= 2], "lr": RATES[name], "weight_decay": DECAY},
                   {"params": [p for p in own if p.dim() < 2], "lr": RATES[name], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    schedule = get_cosine_schedule_with_warmup(optimiser, WARMUP, STEPS)
    losses, norms = [], []
    for _ in range(STEPS):
        optimiser.zero_grad()
        with torch.no_grad():
            tokens = sum_of_losses(encoder, connector, llm, pixels, batch)[1]
        loss = 0.0
        for part in (batch[:4], batch[4:]):
            share = sum_of_losses(encoder, connector, llm, pixels, part, mixed)[0] / tokens
            share.backward()
            loss += float(share.detach())
        norms.append(float(nn.utils.clip_grad_norm_(trained, CLIP)))
        optimiser.step()
        schedule.step()
        losses.append(loss)
    return {"loss": losses, "norm": norms}


def upstream(model):
    """The weights under the names of published files; transformers 5 uses other names in memory."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(folder + "/model.safetensors")


def weights(encoder, connector, llm, parts) -> dict:
    found = {}
    if "encoder" in parts:
        found |= {f"encoder.{k}": v for k, v in upstream(encoder).items() if "mask_token" not in k}
    if "connector" in parts:
        found |= {f"connector.mm_projector.{k}": v for k, v in connector.state_dict().items()}
    if "llm" in parts:
        found |= {f"llm.{k}": v for k, v in llm.state_dict().items()}
    return {k: v.detach().clone().contiguous() for k, v in found.items()}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(12)
    llm = LlamaForCausalLM(LlamaConfig(
        vocab_size=41, hidden_size=D, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False,
        attn_implementation="eager"))
    encoder = Dinov2Model(Dinov2Config(
        hidden_size=WIDTH, mlp_ratio=2, num_hidden_layers=2, num_attention_heads=2, image_size=21, patch_size=7,
        layerscale_value=1.0, qkv_bias=False, attn_implementation="eager"))
    connector = nn.Sequential(nn.Linear(WIDTH, D), nn.GELU(), nn.Linear(D, D))
    with torch.no_grad():
        for module in (llm, encoder, connector):
            for p in module.parameters():
                p.add_(torch.randn_like(p) * 0.05)
    pixels = torch.randn(8, 3, 21, 21, generator=g)
    batch = examples(g)
    everything = ["encoder", "connector", "llm"]
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=targets, lora_dropout=0.0)
    adapted = get_peft_model(copy.deepcopy(llm), lora)
    with torch.no_grad():
        # B is zero at the start: as in every training with adapters.
        start = weights(encoder, connector, llm, everything) | {"pixels": pixels}
        for name, value in adapted.named_parameters():
            if "lora_A" in name:
                path = name.removeprefix("base_model.model.").replace(".lora_A.default.weight", ".lora.a")
                start[f"adapter.{path}"] = value.T.contiguous().clone()
    save_file(start, OUT / "start.safetensors")
    golden = {"examples": batch, "most": MOST, "align": train(encoder, connector, llm, pixels, batch, ["connector"])}
    save_file(weights(encoder, connector, llm, ["connector"]), OUT / "align.safetensors")
    for case, parts, low in [("frozen", ["connector", "llm"], False), ("unfrozen", everything, False),
                             ("frozen-lora", ["connector", "llm"], True), ("unfrozen-lora", everything, True)]:
        e, c = copy.deepcopy(encoder), copy.deepcopy(connector)
        language = copy.deepcopy(adapted if low else llm)
        for module in (e, c) if low else (e, c, language):
            module.requires_grad_(True)
        golden[case] = train(e, c, language, pixels, batch, parts)
        if low:
            language = language.merge_and_unload()
        save_file(weights(e, c, language, parts), OUT / f"{case}.safetensors")
        print(case, golden[case]["loss"][0], golden[case]["loss"][-1])
    # Mixed precision, for which weights at the end mean little: losses and norms only.
    for case, language in [("frozen-bf16", copy.deepcopy(llm)), ("frozen-lora-bf16", copy.deepcopy(adapted))]:
        e, c = copy.deepcopy(encoder), copy.deepcopy(connector)
        c.requires_grad_(True)
        if case == "frozen-bf16":
            language.requires_grad_(True)
        golden[case] = train(e, c, language, pixels, batch, ["connector", "llm"], mixed=True)
        print(case, golden[case]["loss"][0], golden[case]["loss"][-1])
    golden["llm"] = {k: getattr(llm.config, k) for k in [
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings"]}
    (OUT / "golden.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
