"""Goldens of the connectors: embeddings, hidden states after the samplers inside the language model, gradients.

    OMP_NUM_THREADS=1 python tests/reference/connectors.py

The aggregator and the resampler follow the formulas of Cambrian-1 (arXiv:2406.16860, section 3; released parameter
names), cell by cell, so that they share nothing with Burgess's implementation. The C-Abstractor is Honeybee's
(arXiv 2312.06742) on timm's RegStage. Every parameter is random. torch 2.9.0, timm 1.0.20.
"""

import json
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

OUT = Path(__file__).resolve().parents[1] / "golden" / "connectors"
SQUARE, WIDE, TALL = (64, 64), (80, 40), (30, 70)


class Bag(dict):
    """Parameters by name, drawn at the first access."""

    def __init__(self, g):
        super().__init__()
        self.g = g

    def need(self, name, *shape, scale=None, shift=0.0):
        if name not in self:
            scale = scale if scale is not None else shape[-1] ** -0.5
            self[name] = (torch.randn(shape, generator=self.g) * scale + shift).requires_grad_()
        return self[name]

    def linear(self, x, name, to, bias=True):
        weight = self.need(f"{name}.weight", to, x.shape[-1])
        return F.linear(x, weight, self.need(f"{name}.bias", to, scale=0.3) if bias else None)

    def norm(self, x, name):
        d = x.shape[-1]
        weight = self.need(f"{name}.weight", d, scale=0.3, shift=1.0)
        return F.layer_norm(x, (d,), weight, self.need(f"{name}.bias", d, scale=0.3), 1e-5)


def margins(size, side):
    """Numbers of padding rows above and below, and of padding columns left and right."""
    w, h = size
    if w > h:
        return (side - int(h * (side / w))) // 2, 0
    return 0, (side - int(w * (side / h))) // 2


def shown(size, side):
    top, left = margins(size, side)
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[top : side - top, left : side - left] = True
    return mask


def layer(p, name, q, g, tokens, masks, c, heads, where):
    """One query [q_dim] with the tokens [n_k, C] of each encoder in its window; `where` marks the tokens that have positions."""
    x = p.linear(torch.cat([q, p.linear(g, f"{name}.proj_context", c, False)], -1), f"{name}.proj_in", c, False)
    query = p.linear(p.norm(x, f"{name}.cross_attn.q_proj.0"), f"{name}.cross_attn.q_proj.1", c, False)
    keys, values = [], []
    for k, f in enumerate(tokens):
        if where[k]:
            f = f + p.need(f"{name}.pos_embed_{k}", f.shape[0], c, scale=1.0)
        for kind, into in (("k", keys), ("v", values)):
            proj = f"{name}.cross_attn.{kind}_proj_{k}"
            into.append(p.linear(p.norm(f, f"{proj}.0"), f"{proj}.1", c, False))
    keys, values, mask = torch.cat(keys), torch.cat(values), torch.cat(masks)
    head = lambda t: t.view(-1, heads, c // heads).transpose(0, 1)
    scores = (head(query) @ head(keys).transpose(1, 2)) * (c // heads) ** -0.5
    scores = scores.masked_fill(~mask, float("-inf"))
    seen = (scores.softmax(-1) @ head(values)).transpose(0, 1).reshape(c)
    x = p.norm(x + p.linear(seen, f"{name}.cross_attn.o_proj", c, False), f"{name}.norm")
    out = p.linear(F.gelu(p.linear(x, f"{name}.proj_out.linear_1", c, False)), f"{name}.proj_out.linear_2", len(q), False)
    return q + out


def window(f, mask, side, grid, cell):
    m = side // grid
    r, c = cell // grid * m, cell % grid * m
    f = f.view(side, side, -1)[r : r + m, c : c + m].reshape(m * m, -1)
    mask = mask[r : r + m, c : c + m].reshape(-1)
    return f, mask if mask.any() else torch.ones_like(mask)


def towers(p, features, c):
    each = []
    for k, x in enumerate(features):
        y = p.linear(F.gelu(p.linear(x, f"mm_projector_aux_{k}.0", c)), f"mm_projector_aux_{k}.2", c)
        each.append(p.norm(y, f"mm_projector_aux_{k}.3"))
    return each, each[0].mean(1)


def projected(p, x, h):
    return p.linear(F.gelu(p.linear(x, "mm_projector.0", h)), "mm_projector.2", h)


def sva(p, options, features, grids, sizes, h, hidden, at):
    c, heads, grid = options["hidden"], options["heads"], options["grid"]
    each, context = towers(p, features, c)
    samplers = options.get("samplers", {"number": 0})
    queries = p.need("vision_query", len(options["query_grids"]), c)
    newline = p.need("image_newline", h)
    tokens, states = [], []

    def look(name, query, b, cell, side):
        seen = [window(f[b], shown(sizes[b], s), s, side, cell) for f, s in zip(each, grids)]
        return layer(p, name, query, context[b], [s[0] for s in seen], [s[1] for s in seen], c, heads, [s > side for s in grids])

    for b in range(len(sizes)):
        groups = []
        for g, side in enumerate(options["query_grids"]):
            cells = []
            for cell in range(side * side):
                q = queries[g]
                for l in range(options["depth"]):
                    q = look(f"vision_sampler_{g}.layers.{l}", q, b, cell, side)
                cells.append(q)
            cells = torch.stack(cells).T.reshape(1, c, side, side)
            groups.append(F.interpolate(cells, size=(grid, grid), mode="bilinear", align_corners=False)[0].flatten(1).T)
        x = projected(p, torch.cat(groups, -1), h).view(grid, grid, h)
        tokens.append(torch.cat([x, newline.expand(grid, 1, h)], 1).flatten(0, 1))
        state, after = hidden[b], []
        for i in range(samplers["number"]):
            rows = list(state)
            for cell in range(grid * grid):
                place = at + cell // grid * (grid + 1) + cell % grid
                rows[place] = look(f"vision_sampler_layers.{i}.layers.0", state[place], b, cell, grid)
            state = torch.stack(rows)
            after.append(state)
        states.append(after)
    tokens = torch.stack(tokens)
    return tokens, [torch.stack([s[i] for s in states]) for i in range(samplers["number"])]


def resampler(p, options, features, grids, sizes, h, hidden, at):
    c, heads = options["hidden"], options["heads"]
    each, context = towers(p, features, c)
    queries = p.need("vision_query", options["queries"], c)
    tokens = []
    for b, size in enumerate(sizes):
        out = []
        for q in queries:
            for l in range(options["depth"]):
                masks = [shown(size, s).reshape(-1) for s in grids]
                name = f"vision_sampler_0.layers.{l}"
                q = layer(p, name, q, context[b], [f[b] for f in each], masks, c, heads, [s > 1 for s in grids])
            out.append(q)
        tokens.append(projected(p, torch.stack(out), h))
    return torch.stack(tokens), []


def c_abstractor(p, options, features, grids, sizes, h, hidden, at):
    from timm.layers import LayerNorm2d
    from timm.models.regnet import RegStage

    x = torch.cat(features, -1)
    stage = partial(RegStage, stride=1, dilation=1, act_layer=nn.SiLU, norm_layer=LayerNorm2d)
    hidden, side, to = options["hidden"], grids[0], options["grid"]
    net = nn.Sequential(
        stage(options["depth"], x.shape[-1], hidden), nn.AdaptiveAvgPool2d(to), stage(options["depth"], hidden, hidden)
    )
    readout = nn.Sequential(nn.Linear(hidden, h), nn.SiLU(), nn.Linear(h, h))
    for name, module in (("net", net), ("readout", readout)):
        for key, parameter in module.named_parameters():
            with torch.no_grad():
                parameter.add_(torch.randn(parameter.shape, generator=p.g) * 0.2)
            p[f"{name}.{key}"] = parameter
    x = x + p.need("pos_emb", 1, side * side, x.shape[-1], scale=0.5)
    y = net(x.transpose(1, 2).reshape(len(x), -1, side, side))
    return readout(y.flatten(2).transpose(1, 2)), []


def mlp(p, options, features, grids, sizes, h, hidden, at):
    x = torch.cat(features, -1)
    if options["gate"]:
        gate = p.linear(F.gelu(p.linear(x.mean(1), "mm_projector.se.0", x.shape[-1], False)), "mm_projector.se.2", x.shape[-1], False)
        x = x * gate.sigmoid()[:, None] + x
        y = p.linear(F.gelu(p.linear(x, "mm_projector.proj.0", h)), "mm_projector.proj.2", h)
    else:
        y = projected(p, x, h)
    newline = p.need("image_newline", h).expand(len(x), grids[0], 1, h)
    return torch.cat([y.view(len(x), grids[0], grids[0], h), newline], 2).flatten(1, 2), []


ALL = [SQUARE, WIDE, TALL]
CASES = {
    "sva": (sva, {"sva": {
        "hidden": 24, "heads": 8, "depth": 2, "query_grids": [4], "grid": 4,
        "samplers": {"start": 1, "stride": 2, "number": 2},
    }}, [(9, 4), (6, 4), (7, 8), (5, 16)], ALL),
    "sva-groups": (sva, {"sva": {"hidden": 24, "heads": 4, "depth": 3, "query_grids": [4, 2], "grid": 4}}, [(9, 4), (5, 12)], ALL),
    "resampler": (resampler, {"resampler": {"hidden": 24, "heads": 4, "depth": 2, "queries": 5}}, [(9, 4), (5, 6)], ALL),
    "c_abstractor": (c_abstractor, {"c_abstractor": {
        "hidden": 16, "depth": 3, "mlp_depth": 2, "grid": 4, "positions": True,
    }}, [(6, 6), (4, 6)], None),
    "mlp2x_gelu": (mlp, {"mlp2x_gelu": {"newline": True}}, [(6, 4), (4, 4)], ALL),
    "se_mlp": (mlp, {"se_mlp": {"newline": True}}, [(6, 4), (4, 4)], ALL),
}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    h, at, count = 24, 3, 3
    for name, (forward, kind, shapes, sizes) in CASES.items():
        g = torch.Generator().manual_seed(len(name))
        p = Bag(g)
        (options,) = kind.values()
        features = [torch.randn(count, s * s, w, generator=g).requires_grad_() for w, s in shapes]
        hidden = torch.randn(count, at + 20 + 4, h, generator=g).requires_grad_()
        told = {**options, "gate": name == "se_mlp"}
        tokens, states = forward(p, told, features, [s for _, s in shapes], sizes, h, hidden, at)
        toward = [torch.randn(x.shape, generator=g) for x in [tokens, *states[-1:]]]
        loss = sum((x * w).sum() for x, w in zip([tokens, *states[-1:]], toward))
        loss.backward()
        out = {f"param.{k}": v for k, v in p.items()} | {f"grad.{k}": v.grad for k, v in p.items()}
        for k, x in enumerate(features):
            out |= {f"feature.{k}": x, f"feature_grad.{k}": x.grad}
        out |= {"tokens": tokens, "toward.tokens": toward[0]}
        if states:
            out |= {"hidden": hidden, "hidden_grad": hidden.grad, "toward.hidden": toward[1]}
            out |= {f"after.{i}": s for i, s in enumerate(states)}
        save_file({k: v.detach().clone().contiguous() for k, v in out.items()}, OUT / f"{name}.safetensors")
        config = {"kind": kind, "feature_width": sum(w for w, _ in shapes), "llm_width": h}
        if name not in ("mlp2x_gelu", "se_mlp"):
            config["towers"] = [{"width": w, "grid": s} for w, s in shapes]
        golden = {"config": config, "grids": [s for _, s in shapes], "pictures": sizes, "at": at}
        (OUT / f"{name}.json").write_text(json.dumps(golden) + "\n")
        print(name, tuple(tokens.shape), loss.item())


if __name__ == "__main__":
    main()
