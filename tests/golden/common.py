"""What the fixtures' scripts share: tiny models with useful random weights, prefixes as `prompt_embeddings`, losses, and the writer of a case.

`prompt_embeddings` is PEFT's layout: [prefix_len, 2 * n_layer * n_kv_head * head_dim], a row viewed as (2 * n_layer, n_kv_head, head_dim),
index 2l = K of layer l (in cached space: after rotary embedding), 2l + 1 = V. Sequences run alone (batch of one), so no padding is involved
anywhere unless a script says so.
"""
import json
import os

import safetensors
import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import DynamicCache

torch.set_num_threads(1)  # one order of summation
HERE = os.path.dirname(os.path.abspath(__file__))
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__, "safetensors": safetensors.__version__}
LABEL_SMOOTHING = 0.1
PREFIX_LEN = 5


def folder_of(script):
    return os.path.dirname(os.path.abspath(script))


def generator(seed):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------------------------- models


def randomise(model, seed, embedding_std=0.3):
    """Weights under which everything matters: norm gains around 1, biases not zero, matrices that keep the scale of their input."""
    g = generator(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=g, dtype=torch.float32)
            is_norm = "norm" in name or ".ln_" in name
            if name.endswith("bias"):
                p.copy_(0.2 * noise)
            elif is_norm:
                p.copy_(1 + 0.3 * noise)
            elif "embed_tokens" in name or "wte" in name or "wpe" in name or "lm_head" in name:
                p.copy_(embedding_std * noise)
            else:
                fan_in = p.shape[0] if type(model).__name__.startswith("GPT2") else p.shape[1]  # GPT-2 stores [in, out]
                p.copy_(noise / fan_in**0.5)
    return model.eval()


def dims(model):
    """(n_layer, n_kv_head, head_dim, d_model) of a Llama or GPT-2 model."""
    c = model.config
    if c.model_type == "gpt2":
        return c.n_layer, c.n_head, c.n_embd // c.n_head, c.n_embd
    return c.num_hidden_layers, c.num_key_value_heads, c.head_dim, c.hidden_size


def row_width(model):
    n_layer, n_kv_head, head_dim, _ = dims(model)
    return 2 * n_layer * n_kv_head * head_dim


def random_prefix(model, seed, prefix_len=PREFIX_LEN, std=1.0):
    return std * torch.randn(prefix_len, row_width(model), generator=generator(seed))


def prefix_cache(model, prompt_embeddings, batch=1):
    """The rows as a cache of `transformers`; gradients flow back to `prompt_embeddings`."""
    n_layer, n_kv_head, head_dim, _ = dims(model)
    rows = prompt_embeddings.view(-1, 2 * n_layer, n_kv_head, head_dim).permute(1, 2, 0, 3)  # [2L, n_kv_head, P, head_dim]
    rows = rows.unsqueeze(1).expand(-1, batch, -1, -1, -1)
    cache = DynamicCache()
    for layer in range(n_layer):
        cache.update(rows[2 * layer], rows[2 * layer + 1], layer)
    return cache


def logits_of(model, ids, prompt_embeddings=None):
    """Logits of every position, [len, vocab]; behind a prefix the text's positions start at prefix_len."""
    ids = torch.tensor([ids])
    if prompt_embeddings is None:
        return model(input_ids=ids, use_cache=False).logits[0]
    p = prompt_embeddings.shape[0]
    positions = torch.arange(p, p + ids.shape[1])[None]
    mask = torch.ones(1, p + ids.shape[1], dtype=torch.long)
    cache = prefix_cache(model, prompt_embeddings)
    return model(input_ids=ids, past_key_values=cache, position_ids=positions, attention_mask=mask, use_cache=True).logits[0]


def kv_of_text(model, ids):
    """The K/V that the model itself computes for `ids` at positions 0.., as `prompt_embeddings`."""
    with torch.no_grad():
        cache = model(input_ids=torch.tensor([ids]), use_cache=True).past_key_values
    rows = torch.stack([t[0] for layer in cache.layers for t in (layer.keys, layer.values)])  # [2L, n_kv_head, len, head_dim]
    return rows.permute(2, 0, 1, 3).reshape(len(ids), -1).contiguous()


# ---------------------------------------------------------------------------------------------------------------- data and losses


def make_pairs(vocab, seed):
    """Ragged pairs (prompt ids, completion ids): one-token sides included, and a prompt with two completions that begin alike."""
    g = generator(seed)
    draw = lambda n: torch.randint(3, vocab, (n,), generator=g).tolist()
    pairs = [(draw(p), draw(c)) for p, c in ((5, 4), (1, 1), (1, 6), (7, 1), (3, 3), (10, 5))]
    prompt, completion = pairs[0]
    pairs.append((prompt, completion[:1] + draw(3)))
    return pairs


def token_losses(model, pair, prompt_embeddings=None, smoothing=0.0):
    """-log p of each completion token, [completion_len]; with smoothing as transformers' LabelSmoother (mean over the vocabulary)."""
    prompt, completion = pair
    out = logits_of(model, prompt + completion, prompt_embeddings)[len(prompt) - 1 : -1]
    log_p = F.log_softmax(out, dim=-1)
    nll = -log_p.gather(-1, torch.tensor(completion)[:, None])[:, 0]
    return (1 - smoothing) * nll + smoothing * -log_p.mean(-1) if smoothing else nll


def batch_loss(model, pairs, prompt_embeddings, norm="token_mean", smoothing=0.0):
    """token_mean: sum over all completion tokens / their number. sequence_mean: sum of each sequence, then mean over sequences (2021)."""
    sums = [token_losses(model, pair, prompt_embeddings, smoothing).sum() for pair in pairs]
    weight = len(pairs) if norm == "sequence_mean" else sum(len(c) for _, c in pairs)
    return torch.stack(sums).sum() / weight


# ---------------------------------------------------------------------------------------------------------------- checks


class float64_twin:
    """`with float64_twin(model) as m`: the model in float64, RMSNorm's internal cast to float32 included; undone on leaving."""

    def __init__(self, model):
        self.model = model

    def __enter__(self):
        from transformers.models.llama.modeling_llama import LlamaRMSNorm

        def forward(self, x):
            return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

        self.norm, self.saved = LlamaRMSNorm, LlamaRMSNorm.forward
        LlamaRMSNorm.forward = forward
        return self.model.double()

    def __exit__(self, *_):
        self.norm.forward = self.saved
        self.model.float()


def relative(got, want):
    """Largest error in units of the reference's root mean square."""
    got, want = got.double(), want.double()
    return ((got - want).abs().max() / want.pow(2).mean().sqrt()).item()


def check_gradient(loss_of, at, gradient, what, samples=25, step=1e-5):
    """Central differences of a float64 `loss_of` at random elements; run inside `float64_twin`."""
    g = generator(99)
    scale = gradient.double().pow(2).mean().sqrt()
    with torch.no_grad():
        for index in torch.randint(at.numel(), (samples,), generator=g).tolist():
            plus, minus = at.double().clone(), at.double().clone()
            plus.view(-1)[index] += step
            minus.view(-1)[index] -= step
            slope = (loss_of(plus) - loss_of(minus)) / (2 * step)
            error = (slope - gradient.view(-1)[index]).abs() / scale
            assert error < 1e-4, f"{what}: element {index}: gradient {gradient.view(-1)[index]}, finite difference {slope}"


# ---------------------------------------------------------------------------------------------------------------- files


def write_json(path, value):
    """One line per key of the outer object, so that a diff shows what changed."""
    body = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
    with open(path, "w") as out:
        out.write("{\n" + body + "\n}\n")


def write_case(folder, tensors, meta, name="case"):
    """case.safetensors + case.json, the latter opening with the versions of the packages that made it."""
    save_file({k: v.detach().float().contiguous() for k, v in tensors.items()}, os.path.join(folder, f"{name}.safetensors"))
    write_json(os.path.join(folder, f"{name}.json"), {"made_with": VERSIONS, **meta})


def edit_config(folder, change):
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    change(config)
    with open(path, "w") as out:
        json.dump(config, out, indent=2)
        out.write("\n")


def write_language_model_case(folder, model, seed, with_gradients=True):
    """The case of a model: logits of every sequence bare and behind a prefix, losses, gradients of every prefix row."""
    vocab = model.config.vocab_size
    pairs = make_pairs(vocab, seed + 1)
    prefix = random_prefix(model, seed + 2)
    n_layer, n_kv_head, head_dim, _ = dims(model)
    tensors, losses = {"prompt_embeddings": prefix}, {}
    with torch.no_grad():
        for i, (prompt, completion) in enumerate(pairs):
            tensors[f"logits.bare.{i}"] = logits_of(model, prompt + completion)
            tensors[f"logits.prefix.{i}"] = logits_of(model, prompt + completion, prefix)
            assert relative(tensors[f"logits.bare.{i}"], tensors[f"logits.prefix.{i}"]) > 0.1, "the prefix must matter"
        losses["bare.token_mean"] = batch_loss(model, pairs, None).item()
        losses["bare.token_nll"] = [token_losses(model, pair).tolist() for pair in pairs]
        losses["prefix.token_nll"] = [token_losses(model, pair, prefix).tolist() for pair in pairs]
    kinds = {"token_mean": ("token_mean", 0.0), "sequence_mean": ("sequence_mean", 0.0), "smoothed": ("token_mean", LABEL_SMOOTHING)}
    for kind, (norm, smoothing) in kinds.items():
        leaf = prefix.clone().requires_grad_()
        loss = batch_loss(model, pairs, leaf, norm, smoothing)
        (gradient,) = torch.autograd.grad(loss, leaf)
        losses[f"prefix.{kind}"] = loss.item()
        if not with_gradients:
            continue
        tensors[f"grad.{kind}"] = gradient
        rows = gradient.view(PREFIX_LEN, 2 * n_layer, n_kv_head, head_dim)
        assert rows.abs().amax(-1).min() > 0, "a row of some layer and head has no gradient"
        with float64_twin(model) as exact:
            loss_of = lambda p: batch_loss(exact, pairs, p, norm, smoothing)
            leaf = prefix.double().requires_grad_()
            (reference,) = torch.autograd.grad(loss_of(leaf), leaf)
            for part in range(2 * n_layer):
                view = lambda t: t.view(PREFIX_LEN, 2 * n_layer, n_kv_head, head_dim)[:, part]
                assert relative(view(gradient), view(reference)) < 2e-5, (kind, part, relative(view(gradient), view(reference)))
            check_gradient(loss_of, prefix, reference, kind)
    meta = {
        "prefix_len": PREFIX_LEN,
        "n_layer": n_layer,
        "n_kv_head": n_kv_head,
        "head_dim": head_dim,
        "label_smoothing_factor": LABEL_SMOOTHING,
        "pairs": [{"prompt": p, "completion": c} for p, c in pairs],
        "losses": losses,
    }
    write_case(folder, tensors, meta)
