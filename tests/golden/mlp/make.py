"""The MLP reparametrisation and direct training: gradients, then ten AdamW steps. Run: python tests/golden/mlp/make.py

    P = Linear2(tanh(Linear1(P')))     P' [prefix_len, d_model], Linear1 [mid, d_model], Linear2 [2 * n_layer * n_kv_head * head_dim, mid]

the same as PEFT's PrefixEncoder(prefix_projection) but for the width of P', which there is n_kv_head * head_dim. Weights are [out, in].
Models: ../tiny_llama, ../tiny_gpt2. Runs: {mlp, direct} x both models, each step on the pairs that `steps` names.

AdamW is torch's: p -= lr * weight_decay * p first, on all parameters, biases too; then p -= lr * m_hat / (sqrt(v_hat) + eps). The learning rate is
lr * transformers' linear schedule at the number of steps already done, so the first step has rate 0. `grad_norm` is that before the clip; the clip
multiplies by min(1, max_grad_norm / (norm + 1e-6)). Everything is run in f32 and again in f64: where the two differ by more than `close` below the
fixture would pin rounding, so the script refuses. Package versions: case.json.
"""
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import (HERE, PREFIX_LEN, batch_loss, check_gradient, dims, float64_twin, folder_of, generator, make_pairs, random_prefix,
                    relative, row_width, write_case)
from transformers import AutoModelForCausalLM, get_linear_schedule_with_warmup

MID = 23
SETTINGS = {"learning_rate": 1e-2, "weight_decay": 0.01, "adam_epsilon": 1e-8, "adam_beta1": 0.9, "adam_beta2": 0.999, "warmup_steps": 3,
            "max_steps": 10, "max_grad_norm": 1.0}
CLOSE_LOSS, CLOSE_PARAMETERS = 2e-6, 2e-5


def initial_mlp(model, seed):
    """As PyTorch starts an Embedding and a Linear: P' ~ N(0, 1), weights and biases uniform in +-1/sqrt(fan_in)."""
    g = generator(seed)
    d_model = dims(model)[3]
    uniform = lambda fan_in, *shape: (2 * torch.rand(*shape, generator=g) - 1) / fan_in**0.5
    return {
        "embedding": torch.randn(PREFIX_LEN, d_model, generator=g),
        "linear1.weight": uniform(d_model, MID, d_model),
        "linear1.bias": uniform(d_model, MID),
        "linear2.weight": uniform(MID, row_width(model), MID),
        "linear2.bias": uniform(MID, row_width(model)),
    }


def rows_of_mlp(p):
    hidden = torch.tanh(p["embedding"] @ p["linear1.weight"].T + p["linear1.bias"])
    return hidden @ p["linear2.weight"].T + p["linear2.bias"]


def rows_direct(p):
    return p["prompt_embeddings"]


def train(model, pairs, steps, rows_of, start, dtype):
    p = {k: v.to(dtype).clone().requires_grad_() for k, v in start.items()}
    s = SETTINGS
    optimizer = torch.optim.AdamW(p.values(), lr=s["learning_rate"], betas=(s["adam_beta1"], s["adam_beta2"]), eps=s["adam_epsilon"],
                                  weight_decay=s["weight_decay"], foreach=False)
    schedule = get_linear_schedule_with_warmup(optimizer, s["warmup_steps"], s["max_steps"])
    log = {"loss": [], "grad_norm": [], "learning_rate": []}
    for members in steps:
        optimizer.zero_grad()
        loss = batch_loss(model, [pairs[i] for i in members], rows_of(p))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(p.values(), s["max_grad_norm"])
        log["loss"].append(loss.item())
        log["grad_norm"].append(norm.item())
        log["learning_rate"].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        log["final_loss"] = batch_loss(model, pairs, rows_of(p)).item()
    return log, {k: v.detach() for k, v in p.items()}


def check_mlp_gradients(model, pairs, start, gradients):
    """Against float64, and that against finite differences, parameter by parameter."""
    with float64_twin(model) as exact:
        p = {k: v.double().requires_grad_() for k, v in start.items()}
        reference = dict(zip(p, torch.autograd.grad(batch_loss(exact, pairs, rows_of_mlp(p)), p.values())))
        for name in p:
            assert gradients[name].abs().max() > 0, name
            assert relative(gradients[name], reference[name]) < 5e-5, (name, relative(gradients[name], reference[name]))
            loss_of = lambda value: batch_loss(exact, pairs, rows_of_mlp({**p, name: value}))
            check_gradient(loss_of, start[name], reference[name], name, samples=8)


if __name__ == "__main__":
    tensors, models = {}, {}
    for seed, name in ((700, "tiny_llama"), (710, "tiny_gpt2")):
        model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, name, "model")).eval().requires_grad_(False)
        pairs = make_pairs(model.config.vocab_size, seed)
        n_layer, n_kv_head, head_dim, d_model = dims(model)
        mlp = initial_mlp(model, seed + 1)
        leaf = {k: v.clone().requires_grad_() for k, v in mlp.items()}
        loss = batch_loss(model, pairs, rows_of_mlp(leaf))
        gradients = dict(zip(leaf, torch.autograd.grad(loss, leaf.values())))
        check_mlp_gradients(model, pairs, mlp, gradients)
        tensors |= {f"{name}.mlp.start.{k}": v for k, v in mlp.items()} | {f"{name}.mlp.grad.{k}": v for k, v in gradients.items()}
        tensors[f"{name}.mlp.rows"] = rows_of_mlp(mlp)

        g = generator(seed + 2)
        steps = [sorted(torch.randperm(len(pairs), generator=g)[:4].tolist()) for _ in range(SETTINGS["max_steps"])]
        direct = {"prompt_embeddings": random_prefix(model, seed + 3)}
        runs = {}
        for kind, rows_of, start in (("mlp", rows_of_mlp, mlp), ("direct", rows_direct, direct)):
            log, final = train(model, pairs, steps, rows_of, start, torch.float32)
            with float64_twin(model) as exact:
                log64, final64 = train(exact, pairs, steps, rows_of, start, torch.float64)
            for key in ("loss", "grad_norm"):
                gap = max(abs(a - b) / b for a, b in zip(log[key], log64[key]))
                assert gap < CLOSE_LOSS * (1 if key == "loss" else 10), (name, kind, key, gap)
            gap = max(relative(final[k], final64[k]) for k in final)
            print(f"{name} {kind}: f32 to f64, parameters {gap:.1e}, loss {log['loss'][0]:.4f} -> {log['loss'][-1]:.4f}, norms {min(log['grad_norm']):.3f}..{max(log['grad_norm']):.3f}")
            assert gap < CLOSE_PARAMETERS, (name, kind, gap)
            runs[kind] = log | {"largest_f32_to_f64_gap_of_final_parameters": gap}
            tensors |= {f"{name}.{kind}.final.{k}": v for k, v in final.items()}
        tensors[f"{name}.direct.start.prompt_embeddings"] = direct["prompt_embeddings"]
        models[name] = {
            "prefix_len": PREFIX_LEN, "d_model": d_model, "mid": MID, "n_layer": n_layer, "n_kv_head": n_kv_head, "head_dim": head_dim,
            "pairs": [{"prompt": p, "completion": c} for p, c in pairs], "mlp_loss": loss.item(), "steps": steps, "runs": runs,
        }
    write_case(folder_of(__file__), tensors, {"settings": SETTINGS, "loss_norm": "token_mean", "models": models})
