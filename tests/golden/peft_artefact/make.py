"""Adapters as PEFT itself saves them, and the logits that PEFT computes with them. Run: python tests/golden/peft_artefact/make.py

<model>/adapter/ is a PREFIX_TUNING folder on ../<model>/model, written by `save_pretrained`: README.md (dropped), adapter_config.json,
adapter_model.safetensors with one tensor `prompt_embeddings`. <model>/projected/ was trained with an MLP, which PEFT evaluates once when it saves, so the
file has the same layout; its config says `prefix_projection: true`. case.*: logits of each of `prompts`, as `<model>.<kind>.logits.<i>`.
PEFT computes them in one left-padded batch and alone; both must agree. Package versions: case.json.
"""
import os
import sys

import peft
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from adapters import draw, load, save
from common import PREFIX_LEN, VERSIONS, dims, folder_of, generator, logits_of, relative, row_width, write_case
from safetensors.torch import load_file

FOLDER = folder_of(__file__)
KINDS = {"adapter": False, "projected": True}


def make_adapter(name, folder, projection, seed):
    model = load(name)
    n_layer, n_kv_head, head_dim, _ = dims(model)
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=PREFIX_LEN, num_layers=n_layer, token_dim=n_kv_head * head_dim,
                                     num_attention_heads=n_kv_head, prefix_projection=projection, encoder_hidden_size=16 if projection else None)
    wrapped = peft.get_peft_model(model, config)
    draw(wrapped.prompt_encoder.named_parameters(), seed, 0.4 if projection else 0.8)
    save(wrapped, folder, name)


if __name__ == "__main__":
    tensors, prompts = {}, {}
    for seed, name in ((800, "tiny_llama"), (810, "tiny_gpt2")):
        g = generator(seed)
        vocab = load(name).config.vocab_size
        prompts[name] = [torch.randint(3, vocab, (n,), generator=g).tolist() for n in (8, 1, 5)]
        for kind, projection in KINDS.items():
            folder = os.path.join(FOLDER, name, kind)
            make_adapter(name, folder, projection, seed + 1 + projection)
            model = peft.PeftModel.from_pretrained(load(name), folder).eval()
            rows = load_file(os.path.join(folder, "adapter_model.safetensors"))["prompt_embeddings"]
            assert rows.shape == (PREFIX_LEN, row_width(load(name)))
            width = max(map(len, prompts[name]))
            ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts[name]])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts[name]])
            with torch.no_grad():
                together = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
                for i, prompt in enumerate(prompts[name]):
                    alone = model(input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long)).logits[0]
                    assert relative(together[i, width - len(prompt) :], alone) < 1e-5
                    assert relative(logits_of(load(name), prompt, rows), alone) < 1e-5
                    assert relative(logits_of(load(name), prompt), alone) > 0.05
                    tensors[f"{name}.{kind}.logits.{i}"] = alone
    write_case(FOLDER, tensors, {"made_with": VERSIONS | {"peft": peft.__version__}, "prefix_len": PREFIX_LEN, "prompts": prompts})
