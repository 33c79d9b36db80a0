"""Gradients of every trained tensor of fine-tuning, LoRA and adapters on tiny encoder-decoders. Run: python tests/golden/encoder_decoder_methods/make.py

Models and pairs: ../encoder_decoder (bart: norms behind the layers, norms of the embedding, `final_logits_bias`; mbart: norms in front, scaled embedding;
t5: tied and scaled head, ReLU; t5_v1_1: own head, gated; both T5: relative biases); loss = mean over all labels, each pair runs alone. Everything but
the weights is computed in f64.
`<model>.fine_tune.<tensor>`: gradient of a weight in the layout of `transformers`; of a matrix G two projections, as in ../methods. The T5 of version 1.0
has a ReLU's input within rounding of zero, so it is here for its table of biases and its tied head: see the tests.
<model>/lora is written by PEFT's `save_pretrained` (README.md dropped); `<model>.<method>.logits.<i>`: logits of pair i (0 and 2);
`<model>.lora.grad.<tensor>`, `<model>.adapter.grad.<tensor>`: gradients; `<model>.adapter.<tensor>`: parameters of bottlenecks behind each block of both
stacks, attached by hooks. Package versions: case.json.
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


if __name__ == "__main__":
    tensors = {}
    for seed, name in enumerate(MODELS):
        fine_tune(name, tensors)
        if name in TARGETS:
            lora(name, 1010 + seed, tensors)
            adapter(name, 1030 + seed, tensors)
    meta = {"made_with": VERSIONS | {"peft": peft.__version__}, "adapter_width": WIDTH}
    write_case(FOLDER, {n: t.detach().contiguous() for n, t in tensors.items()}, meta)
