"""What two shortcuts of the arithmetic would do to a prefix's gradient: cosine per layer against f32, on W1's first batch.

1. int8 products in the frozen forward (symmetric, to nearest; one scale for a row, or for a block along the sum), the backward exact.
2. Head tiles left out of the second product where all their probabilities are small (a tile with a target stays).

Both are rounded here and not computed fast: this says whether a kernel would be worth writing, not how fast it would be.

usage: shortcuts.py WORK [PREFIX.safetensors of 10 rows, trained, in PEFT's layout]
"""
import json
import sys

import torch
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity
from transformers import AutoModelForCausalLM, DynamicCache
from workload import collate

work = sys.argv[1]
PREFIX_LEN = 10
model = AutoModelForCausalLM.from_pretrained(f"{work}/smollm2", dtype=torch.float32).eval()
model.requires_grad_(False)
config, head = model.config, model.lm_head.weight.detach()
with open(f"{work}/w1.json") as f:
    batch = collate(json.load(f)[0])


def to_int8(x, block):
    """`x` through int8, one scale for `block` values of the last axis (0: for all of them)."""
    blocks = x.reshape(*x.shape[:-1], -1, block or x.shape[-1])
    scale = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    return ((blocks / scale).round() * scale).reshape(x.shape)


class Int8(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, rounded, block):
        ctx.save_for_backward(weight)
        return to_int8(x, block) @ rounded.T

    @staticmethod
    def backward(ctx, grad):
        return grad @ ctx.saved_tensors[0], None, None, None


class Bf16(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, rounded, block):
        ctx.save_for_backward(rounded)
        return x.bfloat16().float() @ rounded.T

    @staticmethod
    def backward(ctx, grad):
        return grad.bfloat16().float() @ ctx.saved_tensors[0], None, None, None


class Head(torch.autograd.Function):
    """Mean loss of rows; `tile` is (rows, tokens, least probability) or None."""

    @staticmethod
    def forward(ctx, x, labels, tile):
        logits = x @ head.T
        gradient = logits.softmax(-1)
        n, vocab = gradient.shape
        hit = torch.zeros_like(gradient)
        hit[torch.arange(n), labels] = 1
        if tile:
            rows, tokens, least = tile
            cut = lambda values: torch.nn.functional.pad(values, (0, 0, 0, -n % rows)).reshape(-1, rows, vocab // tokens, tokens)
            kept = (cut(gradient).amax((1, 3), keepdim=True) >= least) | (cut(hit).amax((1, 3), keepdim=True) > 0)
            Head.left_out = 1 - kept.float().mean().item()
            gradient = (cut(gradient) * kept).reshape(-1, vocab)[:n]
        ctx.save_for_backward((gradient - hit) / n)
        return torch.nn.functional.cross_entropy(logits, labels)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0] @ head, None, None


def gradient(prefix, product=None, names=(), block=0, tile=None):
    """Gradient of the rows, `[n_layer, values]`, and the loss, with the products of some modules replaced."""
    replaced = [m for name, m in model.named_modules() if name.split(".")[-1] in names]
    for module in replaced:
        weight = module.weight.detach()
        rounded = to_int8(weight, block) if product is Int8 else weight.bfloat16().float()
        module.forward = lambda x, weight=weight, rounded=rounded: product.apply(x, weight, rounded, block)
    prefix = prefix.clone().requires_grad_()
    n_pair, n_layer = len(batch["input_ids"]), config.num_hidden_layers
    rows = prefix.reshape(PREFIX_LEN, n_layer, 2, config.num_key_value_heads, -1)
    cache = DynamicCache()
    for layer in range(n_layer):
        cache.update(*(rows[:, layer, i].transpose(0, 1)[None].expand(n_pair, -1, -1, -1) for i in (0, 1)), layer)
    mask = torch.cat([torch.ones(n_pair, PREFIX_LEN, dtype=torch.long), batch["attention_mask"]], 1)
    x = model.model(input_ids=batch["input_ids"], attention_mask=mask, past_key_values=cache, use_cache=True).last_hidden_state
    labels = batch["labels"][:, 1:]
    is_target = labels != -100
    loss = Head.apply(x[:, :-1][is_target], labels[is_target], tile)
    loss.backward()
    for module in replaced:
        del module.forward
    return prefix.grad.reshape(PREFIX_LEN, n_layer, -1).transpose(0, 1).reshape(n_layer, -1), loss.item()


def of_text():
    """The model's own keys and values of ten tokens, `[10, n_layer * 2 * width]`."""
    with torch.no_grad():
        layers = model(input_ids=torch.arange(900, 900 + 37 * PREFIX_LEN, 37)[None], use_cache=True).past_key_values.layers
    return torch.cat([kv[0].transpose(0, 1).flatten(1) for layer in layers for kv in (layer.keys, layer.values)], 1)


torch.manual_seed(0)
text = of_text()
prefixes = {"from text": text, "random (normal, 0.02)": torch.randn_like(text) * 0.02}
if len(sys.argv) > 2:
    prefixes["trained"] = next(iter(load_file(sys.argv[2]).values())).float()
attention, mlp = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
every = (*attention, "o_proj", *mlp, "down_proj")
cases = {
    "bf16, every product": dict(product=Bf16, names=every),
    "int8, scale per row, qkv and gate/up": dict(product=Int8, names=attention + mlp),
    "int8, scale per row, gate/up": dict(product=Int8, names=mlp),
    "int8, scale per 64, qkv and gate/up": dict(product=Int8, names=attention + mlp, block=64),
    "int8, scale per 32, qkv and gate/up": dict(product=Int8, names=attention + mlp, block=32),
    "head tiles of 14 x 16 below 2^-14": dict(tile=(14, 16, 2**-14)),
    "head tiles of 14 x 64 below 2^-14": dict(tile=(14, 64, 2**-14)),
    "head tiles of 14 x 16 below 2^-16": dict(tile=(14, 16, 2**-16)),
}
for name, prefix in prefixes.items():
    exact, exact_loss = gradient(prefix)
    print(f"prefix {name}: loss {exact_loss:.4f}", flush=True)
    for case, options in cases.items():
        got, loss = gradient(prefix, **options)
        cosine = cosine_similarity(got, exact, dim=1)
        left_out = f", left out {Head.left_out:.2f}" if "tile" in options else ""
        print(f"  {case:38} cosine least {cosine.min():.4f}, mean {cosine.mean():.4f}; loss {loss - exact_loss:+.4f}{left_out}", flush=True)
