"""What the scripts about adapters share: the tiny models by name, folders of PEFT's, bottlenecks by hooks, gradients in short.

A model `tiny_NAME` is ../tiny_NAME/model, any other ../encoder_decoder/NAME.
"""
import json
import os
import shutil

import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from common import HERE, generator


def model_folder(name):
    return os.path.join(HERE, name, "model") if name.startswith("tiny_") else os.path.join(HERE, "encoder_decoder", name)


def load(name, **options):
    return load_folder(model_folder(name), **options)


def load_folder(folder, **options):
    is_encoder_decoder = AutoConfig.from_pretrained(folder).is_encoder_decoder
    kind = AutoModelForSeq2SeqLM if is_encoder_decoder else AutoModelForCausalLM
    loaded = kind.from_pretrained(folder, dtype=torch.float32, **options)
    return (loaded[0].eval(), loaded[1]) if isinstance(loaded, tuple) else loaded.eval()  # with `output_loading_info`


def pairs_of(name):
    """The pairs (prompt ids, completion ids) of a model's own case."""
    case = json.load(open(os.path.join(HERE, name if name.startswith("tiny_") else "encoder_decoder", "case.json")))
    if not name.startswith("tiny_"):
        case = case["models"][name]
    return [(pair["prompt"], pair["completion"]) if isinstance(pair, dict) else tuple(pair) for pair in case["pairs"]]


def draw(parameters, seed, std):
    """Fills (name, parameter) pairs in the order of their names with normal values; `std` is a number or a function of the name."""
    g = generator(seed)
    with torch.no_grad():
        for name, p in sorted(parameters):
            p.copy_(torch.randn(p.shape, generator=g) * (std(name) if callable(std) else std))


def trained_of(model):
    return [(n, p) for n, p in sorted(model.named_parameters()) if p.requires_grad]


def save(model, folder, name):
    """`save_pretrained`, with the name that the hub would hold in the place of the base model's path, and without README.md."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        saved = json.load(f)
    saved["base_model_name_or_path"] = f"example/{name}"
    if isinstance(saved.get("target_modules"), list):
        saved["target_modules"].sort()  # PEFT keeps them in a set
    with open(path, "w") as out:
        json.dump(saved, out, indent=2, sort_keys=True)
        out.write("\n")


def attach_bottleneck(block, d, width, g, dtype=torch.float32):
    """A bottleneck behind a block, by a hook; its parameters by name."""
    shapes = {"norm.weight": (d,), "norm.bias": (d,), "down.weight": (width, d), "down.bias": (width,), "up.weight": (d, width), "up.bias": (d,)}
    own = {n: (0.4 * torch.randn(s, generator=g) + (1 if n == "norm.weight" else 0)).to(dtype).requires_grad_() for n, s in shapes.items()}

    def hook(_module, _inputs, output):
        x = output[0] if isinstance(output, tuple) else output
        h = F.layer_norm(x, (d,), own["norm.weight"], own["norm.bias"], 1e-5)
        x = x + F.linear(F.relu(F.linear(h, own["down.weight"], own["down.bias"])), own["up.weight"], own["up.bias"])
        return (x, *output[1:]) if isinstance(output, tuple) else x

    block.register_forward_hook(hook)
    return own


def projections(name, gradient):
    """A vector as it is; of a matrix G `.left` = u^T G and `.right` = G v with u_i = sin(i + 1), v_j = cos(j + 1): they tell every mix-up and are small."""
    if gradient.dim() == 1:
        return {name: gradient}
    u, v = (torch.arange(1, n + 1, dtype=torch.float64) for n in gradient.shape)
    gradient = gradient.double()
    return {f"{name}.left": (u.sin() @ gradient).float(), f"{name}.right": (gradient @ v.cos()).float()}


def exact_t5_norm():
    """T5's norm without its cast to f32, for runs in f64."""
    from transformers.models.t5 import modeling_t5

    modeling_t5.T5LayerNorm.forward = lambda self, x: self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))
