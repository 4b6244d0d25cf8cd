"""Goldens of released Cambrian models at reduced size: config.json and model.safetensors under the released names, and the
logits of two prompts with an image.

    OMP_NUM_THREADS=1 python tests/reference/released.py

The connector is that of connectors.py, written from the formulas; the language model is that of transformers, whose
layers are called one by one with the samplers between them and without padded cells, as upstream does. The encoders'
features are numbers by a rule that the test repeats, because the encoders have their own goldens.
torch 2.9.0, transformers 5.24.0, safetensors.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

import connectors as ref

OUT = Path(__file__).resolve().parents[1] / "golden" / "released"
TOWERS = [
    "siglip/CLIP-ViT-SO400M-14-384", "openai/clip-vit-large-patch14-336", "facebook/dinov2-giant-res378",
    "clip-convnext-XXL-multi-stage",
]
WIDTHS, LENGTHS, QUERIES, GRID = [1152, 1024, 1536, 5760], [16, 16, 16, 64], [16], 4
SIZES = [(80, 40), (30, 70)]
SMALL = dict(vocab_size=71, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
             max_position_embeddings=256, rms_norm_eps=1e-5, pad_token_id=0, bos_token_id=1, eos_token_id=2)
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SMALL, num_key_value_heads=2), "cambrian_llama", "CambrianLlamaForCausalLM"),
    "phi3": (Phi3ForCausalLM, Phi3Config(**SMALL, num_key_value_heads=4), "cambrian_phi3", "CambrianPhi3ForCausalLM"),
}


def feature(k: int, b: int, tokens: int, width: int) -> torch.Tensor:
    i = torch.arange(tokens * width, dtype=torch.int64)
    return (((i * 7919 + 31 * k + 57 * b) % 1009).float() / 504.5 - 1).view(tokens, width)


def main() -> None:
    for number, (name, (cls, config, model_type, architecture)) in enumerate(MODELS.items()):
        torch.manual_seed(number)
        config._attn_implementation = "eager"
        llm = cls(config).eval().float()
        with torch.no_grad():
            for key, p in llm.named_parameters():
                p.add_(torch.randn_like(p) * (0.3 if "norm" in key else 0.2))
        options = {"hidden": 16, "heads": 16, "depth": 3, "query_grids": [GRID], "grid": GRID,
                   "samplers": {"start": 0, "stride": 2, "number": 2}}
        p = ref.Bag(torch.Generator().manual_seed(number))
        grids = [int(n**0.5) for n in LENGTHS]
        features = [torch.stack([feature(k, b, n, w) for b in range(2)]) for k, (n, w) in enumerate(zip(LENGTHS, WIDTHS))]
        h = config.hidden_size
        stub = torch.randn(2, 40, h)
        ref.sva(p, options, features, grids, SIZES, h, stub, 3)
        # As the released files are stored; what is computed from is what was stored.
        half = lambda t: t.detach().bfloat16()
        for key in p:
            p[key] = half(p[key]).float()
        with torch.no_grad():
            for q in llm.parameters():
                q.copy_(half(q).float())
        ids = [[5, 6, 7, -200, 8, 9, 10], [5, 6, 7, -200, 11, 12, 13, 14, 15]]
        out = {}
        with torch.no_grad():
            each, context = ref.towers(p, features, 16)
            tokens, _ = ref.sva(p, options, features, grids, SIZES, h, stub, 3)
            for b, row in enumerate(ids):
                at = row.index(-200)
                shown = ref.shown(SIZES[b], GRID)
                # Rows that show something, each with its newline.
                kept, cells = [], []
                for r in range(GRID):
                    for c in range(GRID + 1):
                        if (c < GRID and shown[r, c]) or (c == GRID and shown[r].any()):
                            kept.append(r * (GRID + 1) + c)
                            cells.append(r * GRID + c if c < GRID else None)
                embed = llm.model.embed_tokens
                x = torch.cat([embed(torch.tensor(row[:at])), tokens[b, kept], embed(torch.tensor(row[at + 1 :]))])[None]
                t = x.shape[1]
                positions = torch.arange(t)[None]
                turn = llm.model.rotary_emb(x, position_ids=positions)
                mask = torch.full((t, t), float("-inf")).triu(1)[None, None]
                for i, block in enumerate(llm.model.layers):
                    x = block(x, attention_mask=mask, position_ids=positions, position_embeddings=turn)
                    x = x[0] if isinstance(x, tuple) else x
                    if i in (0, 2):
                        rows = list(x[0])
                        for place, cell in enumerate(cells):
                            if cell is None:
                                continue
                            seen = [ref.window(f[b], ref.shown(SIZES[b], s), s, GRID, cell) for f, s in zip(each, grids)]
                            rows[at + place] = ref.layer(
                                p, f"vision_sampler_layers.{i // 2}.layers.0", rows[at + place], context[b],
                                [s[0] for s in seen], [s[1] for s in seen], 16, 16, [s > GRID for s in grids],
                            )
                        x = torch.stack(rows)[None]
                out[f"logits.{b}"] = llm.lm_head(llm.model.norm(x))[0].contiguous()
        weights = {k: half(v) for k, v in llm.state_dict().items()} | {f"model.{k}": half(v) for k, v in p.items()}
        dir = OUT / name
        dir.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in weights.items()}, dir / "model.safetensors", metadata={"format": "pt"})
        save_file(out, dir / "golden.safetensors")
        written = json.loads(config.to_json_string()) | {
            "architectures": [architecture], "model_type": model_type, "mm_projector_type": "sva",
            "mm_vision_tower_aux_list": TOWERS, "mm_vision_tower_aux_token_len_list": LENGTHS, "image_token_len": GRID**2,
            "query_num_list": QUERIES, "num_query_group": 1, "vision_hidden_size": 16, "connector_depth": 3,
            "connector_only": False, "start_of_vision_sampler_layers": 0, "stride_of_vision_sampler_layers": 2,
            "num_of_vision_sampler_layers": 2, "image_position": 3, "image_aspect_ratio": "pad",
            "mm_use_im_start_end": False, "mm_use_im_patch_token": False, "mm_vision_select_layer": -2,
            "mm_vision_select_feature": "patch", "tokenizer_model_max_length": 2048, "tokenizer_padding_side": "right",
            "use_mm_proj": True,
        }
        (dir / "config.json").write_text(json.dumps(written, indent=2) + "\n")
        (dir / "golden.json").write_text(json.dumps({"ids": ids, "sizes": SIZES}) + "\n")
        print(name, {k: (tuple(v.shape), round(v.std().item(), 3)) for k, v in out.items()})


if __name__ == "__main__":
    main()
