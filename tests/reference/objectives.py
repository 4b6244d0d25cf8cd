"""Golden values of the pretraining losses, for encoders/src/objective/tests.rs.

Pinned: torch 2.9.0, open_clip_torch (its ClipLoss and SigLipLoss), safetensors. The other losses are written here
from their papers' formulas in plain torch, independently of the Rust code.

    python tests/reference/objectives.py        # writes tests/golden/objectives/losses.safetensors
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from safetensors.torch import save_file

torch.manual_seed(0)
out = {}


def leaf(*shape, scale=1.0):
    return (torch.randn(*shape) * scale).requires_grad_(True)


# Contrastive: five pairs in six dimensions.
images, texts = leaf(5, 6), leaf(5, 6)
out["images"], out["texts"] = images, texts
unit = lambda x: F.normalize(x, dim=-1)

loss = ClipLoss()(unit(images), unit(texts), torch.tensor(14.0))
out["clip.loss"] = loss.reshape(1)
out["clip.images.grad"], out["clip.texts.grad"] = torch.autograd.grad(loss, [images, texts])

loss = SigLipLoss()(unit(images), unit(texts), torch.tensor(10.0), torch.tensor(-9.0))
out["siglip.loss"] = loss.reshape(1)
out["siglip.images.grad"], out["siglip.texts.grad"] = torch.autograd.grad(loss, [images, texts])

# DINO / iBOT: Sinkhorn-Knopp over 7 rows and 9 prototypes, cross entropy against the student.
teacher, student = leaf(7, 9, scale=0.3), leaf(7, 9, scale=0.3)
q = torch.exp(teacher.detach().double() / 0.05).t()
q /= q.sum()
for _ in range(3):
    q /= q.sum(dim=1, keepdim=True)
    q /= q.shape[0]
    q /= q.sum(dim=0, keepdim=True)
    q /= q.shape[1]
targets = (q * q.shape[1]).t().float()
loss = torch.sum(-targets * F.log_softmax(student / 0.1, dim=-1), dim=-1)
out["dino.teacher"], out["dino.student"], out["dino.targets"], out["dino.loss"] = teacher, student, targets, loss
(out["dino.student.grad"],) = torch.autograd.grad(loss.mean(), [student])

# KoLeo.
rows = leaf(6, 5)
x = F.normalize(rows, eps=1e-8, p=2, dim=-1)
dots = (x @ x.t()).detach()
dots.fill_diagonal_(-1)
loss = -torch.log(torch.nn.PairwiseDistance(2, eps=1e-8)(x, x[dots.argmax(dim=1)]) + 1e-8).mean()
out["koleo.rows"], out["koleo.loss"] = rows, loss.reshape(1)
(out["koleo.grad"],) = torch.autograd.grad(loss, [rows])

# MAE: two 8x8 pictures in 4x4 patches, three of four patches hidden.
pixels = torch.randn(2, 3, 8, 8)
painted = leaf(2, 4, 48)
hidden = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]])
patches = pixels.reshape(2, 3, 2, 4, 2, 4)
patches = torch.einsum("nchpwq->nhwpqc", patches).reshape(2, 4, 48)
target = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6) ** 0.5
loss = (((painted - target) ** 2).mean(-1) * hidden).sum() / hidden.sum()
out["mae.pixels"], out["mae.painted"], out["mae.hidden"], out["mae.target"] = pixels, painted, hidden, target
out["mae.loss"] = loss.reshape(1)
(out["mae.painted.grad"],) = torch.autograd.grad(loss, [painted])

# Supervised.
logits, labels = leaf(4, 7, scale=5.0), (torch.rand(4, 7) < 0.3).float()
loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / 4
out["bce.logits"], out["bce.labels"], out["bce.loss"] = logits, labels, loss.reshape(1)
(out["bce.logits.grad"],) = torch.autograd.grad(loss, [logits])

path = Path(__file__).parent.parent / "golden" / "objectives" / "losses.safetensors"
path.parent.mkdir(parents=True, exist_ok=True)
save_file({k: v.detach().contiguous() for k, v in out.items()}, path)
print(path, path.stat().st_size, "bytes")
