"""Gradients of every trained tensor of the methods beside prefix tuning, and PEFT's own folders. Run: python tests/golden/methods/make.py

Models: ../tiny_llama (grouped heads, RMS norms, tied head), ../tiny_llama_untied (own head), ../tiny_gpt2 (full heads, biases, fused c_attn stored
[in, out]); data: the `pairs` of their cases, loss = mean over completion tokens.
`<model>.fine_tune.<tensor>`: gradient of a weight in the layout of `transformers`; of a matrix G only two projections, `.left` = u^T G and
`.right` = G v with u_i = sin(i + 1), v_j = cos(j + 1): they tell every mix-up and are small.
<model>/lora and <model>/prompt_tuning are written by PEFT's `save_pretrained` (README.md dropped); `<model>.<method>.logits.<i>` are PEFT's for
`prompts`, `<model>.<method>.grad.<tensor>` the gradients of what it trains. `<model>.adapter.*`: bottlenecks behind each block, attached by hooks:
parameters, logits, gradients. `<model>.infix.*`: the same of an infix, in f64; logits of its last rows; `losses`: mean over all completion tokens. Package versions: case.json.
"""
import os
import sys

import peft
import torch
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from adapters import attach_bottleneck, draw, load, pairs_of, projections, save, trained_of
from common import VERSIONS, folder_of, generator, write_case

FOLDER = folder_of(__file__)
MODELS = ("tiny_llama", "tiny_llama_untied", "tiny_gpt2")
TARGETS = {"tiny_llama": ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"], "tiny_gpt2": ["c_attn", "c_proj"]}
WIDTH = 4
INFIX_LEN = 3


def blocks(model):
    return model.transformer.h if model.config.model_type == "gpt2" else model.model.layers


def token_mean(model, pairs):
    """Mean over all completion tokens; each pair runs alone."""
    losses = []
    for prompt, completion in pairs:
        ids = torch.tensor([prompt + completion])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        logits = logits[-ids.shape[1] :][len(prompt) - 1 : -1]  # behind a soft prompt
        losses.append(F.cross_entropy(logits, torch.tensor(completion), reduction="sum"))
    return torch.stack(losses).sum() / sum(len(c) for _, c in pairs)


def logits_of(model, prompt):
    ids = torch.tensor([prompt])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0][-len(prompt) :]


def fine_tune(name, tensors):
    model = load(name)
    token_mean(model, pairs_of(name)).backward()
    for parameter_name, parameter in model.named_parameters():
        tensors |= projections(f"{name}.fine_tune.{parameter_name}", parameter.grad)


def with_peft(name, kind, config, seed, prompts, tensors):
    model = peft.get_peft_model(load(name), config)
    trained = trained_of(model)
    draw(trained, seed, lambda n: 0.5 if "lora_B" in n else 0.3)
    folder = os.path.join(FOLDER, name, kind)
    save(model, folder, name)
    for i, prompt in enumerate(prompts):
        tensors[f"{name}.{kind}.logits.{i}"] = logits_of(model, prompt)
        assert (tensors[f"{name}.{kind}.logits.{i}"] - logits_of(load(name), prompt)).abs().max() > 0.05
    token_mean(model.eval(), pairs_of(name)).backward()
    for n, p in trained:
        short = "prompt_embeddings" if kind == "prompt_tuning" else n.replace(".default", "")
        tensors[f"{name}.{kind}.grad.{short}"] = p.grad


def adapter(name, seed, prompts, tensors):
    model = load(name)
    d = model.config.hidden_size
    g = generator(seed)
    parameters = [attach_bottleneck(block, d, WIDTH, g) for block in blocks(model)]
    for i, prompt in enumerate(prompts):
        tensors[f"{name}.adapter.logits.{i}"] = logits_of(model, prompt)
    token_mean(model, pairs_of(name)).backward()
    for layer, own in enumerate(parameters):
        for n, p in own.items():
            tensors[f"{name}.adapter.layers.{layer}.{n}"] = p.detach()
            tensors[f"{name}.adapter.grad.layers.{layer}.{n}"] = p.grad


def infix(name, seed, prompts, tensors):
    """Embeddings between prompt and completion, rows added to the keys and values that each layer computes of them (ahead of rotary embedding)."""
    model = load(name).double()
    is_gpt2, g = model.config.model_type == "gpt2", generator(seed)
    d, layers = model.config.hidden_size, [block.attn if is_gpt2 else block.self_attn for block in blocks(model)]
    width = d if is_gpt2 else layers[0].k_proj.out_features
    rows = torch.randn(INFIX_LEN, 2 * len(layers), width, generator=g).mul(0.5).double().requires_grad_()
    embeddings = torch.randn(INFIX_LEN, d, generator=g).mul(0.5).double().requires_grad_()
    state = {}

    def added(out, own, column):
        n_row, n_column = out.shape[1:]
        place = (column, n_column - column - own.shape[1], state["start"], n_row - state["start"] - INFIX_LEN)
        return out + F.pad(own, place)

    for layer, attention in enumerate(layers):
        for side in (0, 1):
            own = rows[:, 2 * layer + side]
            projection = attention.c_attn if is_gpt2 else (attention.k_proj, attention.v_proj)[side]
            projection.register_forward_hook(lambda _m, _i, out, own=own, column=(1 + side) * d * is_gpt2: added(out, own, column))

    def run(prompt, completion):
        state["start"] = len(prompt)
        embed = model.get_input_embeddings()
        inputs = torch.cat([embed(torch.tensor(prompt)), embeddings, embed(torch.tensor(completion, dtype=torch.long))])
        return model(inputs_embeds=inputs[None], use_cache=False).logits[0]

    for i, prompt in enumerate(prompts):
        with torch.no_grad():
            tensors[f"{name}.infix.logits.{i}"] = run(prompt, [])[-len(prompt) :]
    losses = []
    for prompt, completion in pairs_of(name):
        logits = run(prompt, completion)[len(prompt) + INFIX_LEN - 1 : -1]
        losses.append(F.cross_entropy(logits, torch.tensor(completion), reduction="sum"))
    loss = torch.stack(losses).sum() / sum(len(c) for _, c in pairs_of(name))
    loss.backward()
    for n, p in (("infix_embeddings", embeddings), ("infix_key_values", rows)):
        assert p.grad.abs().max() > 1e-4
        tensors[f"{name}.infix.{n}"] = p.detach().reshape(INFIX_LEN, -1)
        tensors[f"{name}.infix.grad.{n}"] = p.grad.reshape(INFIX_LEN, -1)
    return loss.item()


if __name__ == "__main__":
    tensors, prompts, losses = {}, {}, {}
    for seed, name in enumerate(MODELS):
        fine_tune(name, tensors)
        if name not in TARGETS:
            continue
        g = generator(900 + seed)
        vocab = load(name).config.vocab_size
        prompts[name] = [torch.randint(3, vocab, (n,), generator=g).tolist() for n in (7, 1)]
        lora = peft.LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, lora_dropout=0.0, target_modules=TARGETS[name], fan_in_fan_out=name == "tiny_gpt2")
        with_peft(name, "lora", lora, 910 + seed, prompts[name], tensors)
        soft = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
        with_peft(name, "prompt_tuning", soft, 920 + seed, prompts[name], tensors)
        adapter(name, 930 + seed, prompts[name], tensors)
        losses[name] = {"infix": infix(name, 940 + seed, prompts[name], tensors)}
    meta = {"made_with": VERSIONS | {"peft": peft.__version__}, "prompts": prompts, "adapter_width": WIDTH, "losses": losses}
    write_case(FOLDER, {n: t.detach().contiguous() for n, t in tensors.items()}, meta)
