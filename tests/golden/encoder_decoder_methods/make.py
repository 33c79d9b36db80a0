"""Gradients of every trained tensor of fine-tuning, LoRA, adapters, prompt tuning and infix on tiny encoder-decoders. Run: python tests/golden/encoder_decoder_methods/make.py

Models and pairs: ../encoder_decoder (bart: norms behind the layers, norms of the embedding, `final_logits_bias`; mbart: norms in front, scaled embedding;
t5: tied and scaled head, ReLU; t5_v1_1: own head, gated; both T5: relative biases); loss = mean over all labels, each pair runs alone. Everything but
the weights is computed in f64.
`<model>.fine_tune.<tensor>`: gradient of a weight in the layout of `transformers`; of a matrix G two projections, as in ../methods. The T5 of version 1.0
has a ReLU's input within rounding of zero, so it is here for its table of biases and its tied head: see the tests.
<model>/lora is written by PEFT's `save_pretrained` (README.md dropped); `<model>.<method>.logits.<i>`: logits of pair i (0 and 2);
`<model>.lora.grad.<tensor>`, `<model>.adapter.grad.<tensor>`: gradients; `<model>.adapter.<tensor>`: parameters of bottlenecks behind each block of both
stacks, attached by hooks.
<model>/prompt_tuning is written by PEFT: for bart as PEFT sets it up (num_transformer_submodules 2, so twice the rows, of which the second half is used
nowhere: asserted), for the others with 1. Pegasus and Marian have a factor on the embeddings of tokens that
`transformers` leaves out where it is given embeddings, as PEFT does: there `<model>.prompt_tuning.prompt_embeddings` are rows ahead of the source's,
by hooks, and nothing but these and the infix is here. `<model>.prompt_tuning.text`: PEFT's rows for a text, `text_ids`. Infix: embeddings behind the source's in the
encoder, rows added to what `k_proj` and `v_proj` (`k` and `v`) of its layers give for them, by hooks. `losses` of both: mean over all labels.
Package versions: case.json.
"""
import json
import os
import sys

import peft
import torch
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import adapters
from adapters import attach_bottleneck, draw, exact_t5_norm, pairs_of, projections, save, trained_of
from common import HERE, VERSIONS, folder_of, generator, write_case

FOLDER = folder_of(__file__)
MODELS = ("bart", "mbart", "t5", "t5_v1_1")
TARGETS = {"bart": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"], "t5_v1_1": ["q", "k", "v", "o", "wi_0", "wo"]}
PROMPTS = {"bart": None, "mbart": 1, "t5": 1, "t5_v1_1": 1}  # num_transformer_submodules
SCALED = ("pegasus", "marian")
INFIX_SEEDS = {"t5": 1090}  # with 1072 a ReLU's input is within rounding of zero
SOFT_LEN = 3
TEXT_IDS = [5, 9, 11, 7]
WIDTH = 3
with open(os.path.join(HERE, "encoder_decoder", "case.json")) as f:
    CASE = json.load(f)["models"]


exact_t5_norm()


def load(name):
    return adapters.load(name, attn_implementation="eager")


def logits_of(model, name, pair):
    source, labels = pair
    decoder = [CASE[name]["decoder_start_token_id"]] + labels[:-1]
    return model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([decoder]), use_cache=False).logits[0]


def token_mean(model, name):
    losses = [F.cross_entropy(logits_of(model, name, pair), torch.tensor(pair[1]), reduction="sum") for pair in pairs_of(name)]
    return torch.stack(losses).sum() / sum(len(labels) for _, labels in pairs_of(name))


def write_logits(model, name, kind, tensors):
    bare = load(name).double()
    for i in (0, 2):
        with torch.no_grad():
            tensors[f"{name}.{kind}.logits.{i}"] = logits_of(model, name, pairs_of(name)[i])
            assert (tensors[f"{name}.{kind}.logits.{i}"] - logits_of(bare, name, pairs_of(name)[i])).abs().max() > 0.05


def fine_tune(name, tensors):
    model = load(name).double()
    loss = token_mean(model, name)
    assert abs(loss.item() - CASE[name]["losses"]["bare"]) < 1e-6
    loss.backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            tensors |= projections(f"{name}.fine_tune.{parameter_name}", parameter.grad)


def lora(name, seed, tensors):
    config = peft.LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, lora_alpha=5, lora_dropout=0.0, target_modules=TARGETS[name])
    model = peft.get_peft_model(load(name), config)
    trained = trained_of(model)
    draw(trained, seed, lambda n: 0.4 if "lora_B" in n else 0.2)
    save(model, os.path.join(FOLDER, name, "lora"), name)
    model = model.double().eval()
    write_logits(model, name, "lora", tensors)
    token_mean(model, name).backward()
    for n, p in trained:
        tensors[f"{name}.lora.grad.{n.replace('.default', '')}"] = p.grad


def adapter(name, seed, tensors):
    model = load(name).double()
    d, g = model.config.d_model, generator(seed)
    parameters = {}
    for side, stack in (("encoder", model.get_encoder()), ("decoder", model.get_decoder())):
        for layer, block in enumerate(stack.block if hasattr(stack, "block") else stack.layers):
            own = attach_bottleneck(block, d, WIDTH, g, torch.float64)
            parameters |= {f"{side}.layers.{layer}.{n}": p for n, p in own.items()}
    write_logits(model, name, "adapter", tensors)
    token_mean(model, name).backward()
    for n, p in parameters.items():
        tensors[f"{name}.adapter.{n}"] = p.detach()
        tensors[f"{name}.adapter.grad.{n}"] = p.grad


def prompt_tuning(name, seed, tensors):
    config = peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=SOFT_LEN, num_transformer_submodules=PROMPTS[name])
    model = peft.get_peft_model(load(name), config)
    trained = trained_of(model)
    draw(trained, seed, 0.5)
    save(model, os.path.join(FOLDER, name, "prompt_tuning"), name)
    model = model.double().eval()
    write_logits(model, name, "prompt_tuning", tensors)
    loss = token_mean(model, name)
    loss.backward()
    [(_, rows)] = trained
    assert len(rows) == SOFT_LEN * (PROMPTS[name] or 2) and rows.grad[SOFT_LEN:].abs().sum() == 0
    tensors[f"{name}.prompt_tuning.grad.prompt_embeddings"] = rows.grad[:SOFT_LEN]
    tensors[f"{name}.prompt_tuning.text"] = model.word_embeddings(torch.tensor(TEXT_IDS))
    return loss.item()


def add_rows(encoder, embeddings, ahead):
    """Puts rows ahead of what the encoder reads, or behind it. The factor that some models put on the embeddings of tokens is not theirs."""
    unscaled = embeddings[None] / getattr(encoder, "embed_scale", 1.0)
    order = (lambda out: [unscaled, out]) if ahead else (lambda out: [out, unscaled])
    encoder.embed_tokens.register_forward_hook(lambda _m, _i, out: torch.cat(order(out), dim=1) if MODE["encoder"] else out)
    encoder.register_forward_pre_hook(lambda *_: MODE.update(encoder=True))
    encoder.register_forward_hook(lambda *_: MODE.update(encoder=False))


def soft_rows(name, seed, tensors):
    """Prompt tuning without PEFT."""
    model = load(name).double()
    encoder = model.get_encoder()
    rows = torch.randn(SOFT_LEN, model.config.d_model, generator=generator(seed)).mul(0.5).double().requires_grad_()
    text = encoder.embed_tokens(torch.tensor(TEXT_IDS)) * encoder.embed_scale
    add_rows(encoder, rows, ahead=True)
    write_logits(model, name, "prompt_tuning", tensors)
    loss = token_mean(model, name)
    (rows_grad,) = torch.autograd.grad(loss, [rows])
    tensors |= {f"{name}.prompt_tuning.{n}": t for n, t in (("prompt_embeddings", rows), ("grad.prompt_embeddings", rows_grad), ("text", text))}
    return loss.item()


def infix(name, seed, tensors):
    model = load(name).double()
    encoder, g = model.get_encoder(), generator(seed)
    layers = [b.layer[0].SelfAttention for b in encoder.block] if hasattr(encoder, "block") else [layer.self_attn for layer in encoder.layers]
    projections_of = [(a.k, a.v) if hasattr(a, "k") else (a.k_proj, a.v_proj) for a in layers]
    width = projections_of[0][0].weight.shape[0]
    rows = torch.randn(SOFT_LEN, 2 * len(layers) * width, generator=g).mul(0.5).double().requires_grad_()
    embeddings = torch.randn(SOFT_LEN, model.config.d_model, generator=g).mul(0.5).double().requires_grad_()
    add_rows(encoder, embeddings, ahead=False)
    for number, projection in enumerate(p for pair in projections_of for p in pair):
        own = rows.view(SOFT_LEN, 2 * len(layers), width)[:, number]
        projection.register_forward_hook(lambda _m, _i, out, own=own: out + F.pad(own, (0, 0, out.shape[1] - SOFT_LEN, 0)))
    write_logits(model, name, "infix", tensors)
    loss = token_mean(model, name)
    loss.backward()
    for n, p in (("infix_embeddings", embeddings), ("infix_key_values", rows)):
        assert p.grad.abs().max() > 1e-4
        tensors[f"{name}.infix.{n}"], tensors[f"{name}.infix.grad.{n}"] = p.detach(), p.grad
    return loss.item()


MODE = {"encoder": False}  # BART's stacks share one embedding module

if __name__ == "__main__":
    tensors, losses = {}, {}
    for seed, name in enumerate(MODELS + SCALED):
        if name in MODELS:
            fine_tune(name, tensors)
        if name in TARGETS:
            lora(name, 1010 + seed, tensors)
            adapter(name, 1030 + seed, tensors)
        soft = prompt_tuning if name in PROMPTS else soft_rows
        losses[name] = {"prompt_tuning": soft(name, 1050 + seed, tensors), "infix": infix(name, INFIX_SEEDS.get(name, 1070 + seed), tensors)}
    meta = {"made_with": VERSIONS | {"peft": peft.__version__}, "adapter_width": WIDTH, "soft_len": SOFT_LEN, "text_ids": TEXT_IDS, "losses": losses}
    write_case(FOLDER, {n: t.detach().contiguous() for n, t in tensors.items()}, meta)
