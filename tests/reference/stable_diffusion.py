"""Golden Stable Diffusion models and their features for burgess-encoders, made with diffusers.

Versions: torch 2.9.0, diffusers 0.42.1, transformers 5.24.0, blake3 1.0.11, pillow 13.0.0, safetensors.
Run from anywhere, after encoders.py, which makes the image: python tests/reference/stable_diffusion.py

tests/golden/encoders/<id>/ gets the folders of diffusers with their configurations and weights (every parameter moved away
from its initial value, rounded to f16), and card.toml and expected.safetensors as encoders.py describes them. There are two
models:
  stable-diffusion    like Stable Diffusion 2: linear projections, heads by level, present names
  stable-diffusion-1  like the published files of Stable Diffusion 1: projections by convolution, one number of heads,
                      weights by torch.save, former names (the autoencoder's attention, position_ids), a
                      configuration of the autoencoder without its scaling factor, `<|endoftext|>` as padding

The features are those of Cambrian-1's diffusion_encoder.py, except for the noise, which is from Burgess's own stream.
"""

import json
import pathlib
import shutil

import blake3
import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

OUT = pathlib.Path(__file__).parents[1] / "golden" / "encoders"
STEP = 250
PAD = (122, 116, 104)
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def chacha8(key, blocks):
    """The first words of ChaCha with 8 rounds, counter and nonce from zero (rand_chacha's ChaCha8Rng)."""
    state = np.zeros((16, blocks), np.uint32)
    state[:4] = np.frombuffer(b"expand 32-byte k", np.uint32)[:, None]
    state[4:12] = np.frombuffer(key, np.uint32)[:, None]
    state[12] = np.arange(blocks)
    x = state.copy()
    turn = lambda v, n: (v << np.uint32(n)) | (v >> np.uint32(32 - n))
    for _ in range(4):
        for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            for p, q, r, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[p] += x[q]
                x[r] = turn(x[r] ^ x[p], n)
    return (x + state).T.reshape(-1)


def noise(shape, seed=0):
    """Burgess's stream `stable-diffusion/noise` as normally distributed numbers (Box-Muller)."""
    count = int(np.prod(shape))
    pairs = (count + 1) // 2
    key = blake3.blake3(seed.to_bytes(8, "little") + b"stable-diffusion/noise").digest()
    words = chacha8(key, pairs // 4 + 1).astype("<u4").view("<u8")[: 2 * pairs]
    u = (words >> np.uint64(11)).astype(np.float64) / 2.0**53
    radius, angle = np.sqrt(-2 * np.log(1 - u[0::2])), 2 * np.pi * u[1::2]
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)[:count]
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def up_blocks(unet, vae, text, scheduler, ids, x):
    """The outputs of the up blocks of the denoising network."""
    outputs = []
    hooks = [block.register_forward_hook(lambda *a: outputs.append(a[2])) for block in unet.up_blocks]
    with torch.no_grad():
        prompt = text(ids)[0]
    latents = vae.config.scaling_factor * vae.encode(x).latent_dist.mode()
    noisy = scheduler.add_noise(latents, noise((1, *latents.shape[1:])), torch.tensor(STEP))
    unet(noisy, STEP, encoder_hidden_states=prompt.expand(len(x), -1, -1))
    for hook in hooks:
        hook.remove()
    return outputs


def concatenated(outputs, side):
    resized = [torch.nn.functional.interpolate(o, size=(side, side), mode="bilinear", align_corners=False) for o in outputs]
    return torch.cat(resized, 1).flatten(2).transpose(1, 2)


def pixels(image, size, pad=PAD):
    side = max(image.size)
    square = Image.new("RGB", (side, side), pad)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    square = square.resize((size, size), Image.BICUBIC)
    return ((torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255 - 0.5) / 0.5)[None]


def perturb(model, seed):
    """Moves every parameter away from values that hide mistakes (zero biases, unit scales)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += (0.1 if p.ndim == 1 else 0.06) * torch.randn(p.shape, generator=generator)
            p.copy_(p.half().float())
    return model.eval()


def tokenizer(folder, pad):
    """Writes tokenizer files like those of the published repositories, which give the ids of an empty text."""
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({"!": 0, "a": 1, "a</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = lambda text: dict(content=text, lstrip=False, normalized=True, rstrip=False, single_word=False)
    begin, end = special("<|startoftext|>"), special("<|endoftext|>")
    config = dict(bos_token=begin, eos_token=end, unk_token=end, pad_token="<|endoftext|>", model_max_length=6, tokenizer_class="CLIPTokenizer")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    words = dict(bos_token=begin, eos_token=end, unk_token=end, pad_token=pad)
    (folder / "special_tokens_map.json").write_text(json.dumps(words, indent=2))
    found = CLIPTokenizer.from_pretrained(folder)("", padding="max_length", return_tensors="pt").input_ids
    ending = {"!": 0, "<|endoftext|>": 4}[pad]
    assert found.tolist() == [[3, 4] + [ending] * 4], found
    return found


def former(state):
    """The autoencoder under the names of the published files."""
    for new, old in OLD_NAMES.items():
        state = {k.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): v for k, v in state.items()}
    return state


def store(state, folder, name, old):
    state = {k: v.detach().half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
    folder.mkdir(exist_ok=True)
    if old:
        torch.save(state, folder / f"{name}.bin")
    else:
        save_file(state, folder / f"{name}.safetensors", {"format": "pt"})


def model(name, old):
    torch.manual_seed(1)
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    channels, heads = ((8, 8, 16), 2) if old else ((8, 8, 16, 16), (2, 1, 4, 2))
    levels = len(channels)
    down = ("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",)
    up = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1)
    unet = UNet2DConditionModel(sample_size=16, block_out_channels=channels, down_block_types=down, up_block_types=up, layers_per_block=1,
                                norm_num_groups=4, attention_head_dim=heads, cross_attention_dim=12, use_linear_projection=not old)
    vae = AutoencoderKL(block_out_channels=(4, 6, 8), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
                        layers_per_block=2 if old else 1, norm_num_groups=2, latent_channels=4)
    act = "quick_gelu" if old else "gelu"
    text = CLIPTextModel(CLIPTextConfig(vocab_size=5, hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3,
                                        max_position_embeddings=6, hidden_act=act, projection_dim=8, bos_token_id=3, eos_token_id=4, pad_token_id=0))
    betas = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler = PNDMScheduler(**betas, skip_prk_steps=True) if old else DDIMScheduler(**betas, prediction_type="v_prediction")
    for i, part in enumerate((unet, vae, text)):
        perturb(part, i)

    for part, place in ((unet, "unet"), (vae, "vae"), (text, "text_encoder"), (scheduler, "scheduler")):
        part.save_config(folder / place) if place != "text_encoder" else part.config.save_pretrained(folder / place)
    ids = tokenizer(folder / "tokenizer", "<|endoftext|>" if old else "!")
    # The published names; transformers 5 has none before them.
    words = {f"text_model.{k}": v for k, v in text.state_dict().items()}
    latents = vae.state_dict()
    if old:
        words["text_model.embeddings.position_ids"] = torch.arange(6)[None]
        latents = former(latents)
        config = json.loads((folder / "vae/config.json").read_text())
        del config["scaling_factor"]
        (folder / "vae/config.json").write_text(json.dumps(config, indent=2))
    store(unet.state_dict(), folder / "unet", "diffusion_pytorch_model", old)
    store(latents, folder / "vae", "diffusion_pytorch_model", old)
    store(words, folder / "text_encoder", "pytorch_model" if old else "model", old)
    kinds = dict(_class_name="StableDiffusionPipeline", scheduler=["diffusers", type(scheduler).__name__], text_encoder=["transformers", "CLIPTextModel"],
                 tokenizer=["transformers", "CLIPTokenizer"], unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"])
    (folder / "model_index.json").write_text(json.dumps(kinds, indent=2))

    x = pixels(Image.open(OUT / "picture.png"), 64)
    outputs = up_blocks(unet, vae, text, scheduler, ids, x)
    features = concatenated(outputs, 8)
    projection = torch.randn(features.shape, generator=torch.Generator().manual_seed(5))
    (features * projection).sum().backward(retain_graph=True)
    parameters = {f"unet.{k}": p for k, p in unet.named_parameters()} | {f"vae.{k}": p for k, p in vae.named_parameters()}
    trained = ["vae.encoder.conv_in.weight", "unet.conv_in.weight", "unet.time_embedding.linear_1.bias",
               "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", f"unet.up_blocks.{levels - 1}.resnets.1.conv2.weight"]
    expected = {"pixels": x, "features": features[0], "projection": projection[0], "features.last": features[0]}
    expected |= {f"features.block-{i}": o[0].flatten(1).T for i, o in enumerate(outputs)} | {"features.first": outputs[0][0].flatten(1).T}
    expected |= {f"gradient.{k}": parameters[k].grad for k in trained}
    save_file({k: v.detach().float().clone(memory_format=torch.contiguous_format) for k, v in expected.items()}, folder / "expected.safetensors")

    several = list(heads) if not old else [heads] * levels
    attends = json.dumps([True] * (levels - 1) + [False])
    (folder / "card.toml").write_text(f"""id = "{name}"
title = "{name}"
family = "Stable Diffusion"
supervision = "generation"
licence = "MIT OR Apache-2.0"

[source]
directory = "."
dialect = "diffusers-stable-diffusion"
parameters = 0

[architecture]
architecture = "stable-diffusion"
image_size = 64
patch = 8

[architecture.scheduler]
steps = 1000
beta_start = 0.00085
beta_end = 0.012
schedule = "scaled-linear"

[architecture.text]
vocabulary = 5
positions = 6
width = 12
depth = 2
heads = 3
mlp_hidden = 20
activation = "{act}"
norm_eps = 1e-5
prompt = [3, 4]
pad = {ids[0, -1].item()}

[architecture.vae]
channels = [4, 6, 8]
layers = {2 if old else 1}
groups = 2
latent_channels = 4
scaling_factor = 0.18215

[architecture.unet]
channels = {list(channels)}
layers = 1
heads = {several}
attention = {attends}
groups = 4
norm_eps = 1e-5
linear_projection = {"false" if old else "true"}

[preprocess]
size = 64
interpolation = "bicubic"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
pad = {list(PAD)}

[tap]
layer = -1
""")


def main():
    model("stable-diffusion", old=False)
    model("stable-diffusion-1", old=True)
    print({"torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__, "blake3": blake3.__version__})


if __name__ == "__main__":
    main()
