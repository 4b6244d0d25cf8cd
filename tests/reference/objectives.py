"""Golden values of the pretraining losses, for encoders/src/objective/tests.rs.

Pinned: torch 2.9.0, torchvision 0.24.0 (its focal loss), open_clip_torch (its ClipLoss and SigLipLoss), safetensors.
The other losses are written here from their papers' formulas in plain torch, independently of the Rust code.

    python tests/reference/objectives.py        # writes tests/golden/objectives/losses.safetensors
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from safetensors.torch import save_file
from torchvision.ops import sigmoid_focal_loss

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

# MoCo v3: five queries and keys in six dimensions, as `contrastive_loss` of github.com/facebookresearch/moco-v3, and
# the batch norm of its heads.
queries, keys, rows = leaf(5, 6), torch.randn(5, 6), leaf(5, 6, scale=2.0)
logits = torch.einsum("nc,mc->nm", [F.normalize(queries, dim=1), F.normalize(keys, dim=1)]) / 0.2
loss = torch.nn.CrossEntropyLoss()(logits, torch.arange(5)) * (2 * 0.2)
out["moco.queries"], out["moco.keys"], out["moco.loss"] = queries, keys, loss.reshape(1)
(out["moco.queries.grad"],) = torch.autograd.grad(loss, [queries])
normed = torch.nn.BatchNorm1d(6, affine=False)(rows)
out["moco.rows"], out["moco.normed"] = rows, normed
(out["moco.rows.grad"],) = torch.autograd.grad((normed * keys).sum(), [rows])

# I-JEPA: predictions and targets of two images, three tokens, eight channels, as in github.com/facebookresearch/ijepa.
predicted, features = leaf(2, 3, 8, scale=1.5), torch.randn(2, 3, 8) * 3 + 1
target = F.layer_norm(features, (features.size(-1),))
loss = F.smooth_l1_loss(predicted, target)
out["ijepa.predicted"], out["ijepa.features"], out["ijepa.target"] = predicted, features, target
out["ijepa.loss"] = loss.reshape(1)
(out["ijepa.predicted.grad"],) = torch.autograd.grad(loss, [predicted])

# SAM: four masks of nine cells; torchvision's focal loss, the dice loss of github.com/facebookresearch/detr.
logits, masks = leaf(4, 9, scale=3.0), (torch.rand(4, 9) < 0.4).float()
focal = sigmoid_focal_loss(logits, masks, alpha=0.25, gamma=2).mean(1)
probabilities = logits.sigmoid()
dice = 1 - (2 * (probabilities * masks).sum(1) + 1) / (probabilities.sum(-1) + masks.sum(-1) + 1)
out["sam.logits"], out["sam.masks"], out["sam.focal"], out["sam.dice"] = logits, masks, focal, dice
(out["sam.logits.grad"],) = torch.autograd.grad((20 * focal + dice).sum(), [logits])

# MiDaS: two maps of 9x8 cells, the second with much of it at one depth; equations 5, 6 and 11 of the paper.
predicted, truth = leaf(2, 9, 8), torch.rand(2, 9, 8)
truth[1, 2:] = 0


def median_and_deviation(maps):
    centred = maps - maps.flatten(1).median(dim=1).values[:, None, None]
    return centred / centred.abs().mean(dim=(1, 2), keepdim=True)


residual = median_and_deviation(predicted) - median_and_deviation(truth)
data = residual.abs().mean()
gradient = 0
for scale in range(4):
    r = residual[:, :: 2**scale, :: 2**scale]
    right, below = (r[:, :, 1:] - r[:, :, :-1]).abs(), (r[:, 1:] - r[:, :-1]).abs()
    if min(r.shape[1:]) > 1:
        gradient = gradient + (right.sum() + below.sum()) / r.numel()
out["midas.predicted"], out["midas.truth"] = predicted, truth
out["midas.data"], out["midas.gradient"] = data.reshape(1), gradient.reshape(1)
(out["midas.predicted.grad"],) = torch.autograd.grad(data + 0.5 * gradient, [predicted])

# Denoising: the squared error of v, with v predicted by way of the clean image, equals that of the clean image times
# 1 / sigma².
clean, noise, network = torch.randn(3, 4, 12), torch.randn(3, 4, 12), leaf(3, 4, 12)
t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)[:, None, None]
alpha, sigma = torch.cos(t * torch.pi / 2), 3 * torch.sin(t * torch.pi / 2)
alpha, sigma = alpha / (alpha**2 + sigma**2).sqrt(), sigma / (alpha**2 + sigma**2).sqrt()
noisy = alpha * clean + sigma * noise
v, v_predicted = alpha * noise - sigma * clean, (alpha * noisy - network) / sigma
limit = (5 * sigma**2).clamp(max=1)
loss = (limit * (v_predicted - v) ** 2).mean()
out["denoise.clean"], out["denoise.network"] = clean, network
out["denoise.loss"] = loss.float().reshape(1)
(out["denoise.network.grad"],) = torch.autograd.grad(loss, [network])

# Late interaction: three images of four patches, three captions of at most five tokens.
patches, tokens = leaf(3, 4, 6), leaf(3, 5, 6)
lengths = torch.tensor([5, 2, 3])
best = torch.einsum("ipd,ctd->ipct", unit(patches), unit(tokens)).amax(dim=1)
real = torch.arange(5)[None] < lengths[:, None]
similarities = (best * real[None]).sum(-1) / lengths[None]
out["late.patches"], out["late.tokens"], out["late.similarities"] = patches, tokens, similarities
out["late.patches.grad"], out["late.tokens.grad"] = torch.autograd.grad(similarities.square().sum(), [patches, tokens])

# Labels asked of patches: log mean exp over four patches.
scores = leaf(3, 4, 6, scale=3.0)
pooled = torch.logsumexp(scores, dim=1) - torch.log(torch.tensor(4.0))
out["soft_maximum.scores"], out["soft_maximum.pooled"] = scores, pooled
(out["soft_maximum.grad"],) = torch.autograd.grad(pooled.square().sum(), [scores])

path = Path(__file__).parent.parent / "golden" / "objectives" / "losses.safetensors"
path.parent.mkdir(parents=True, exist_ok=True)
save_file({k: v.detach().contiguous() for k, v in out.items()}, path)
print(path, path.stat().st_size, "bytes")
