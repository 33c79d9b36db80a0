"""Logits that PEFT and transformers compute with folders that preface wrote. Run: python tests/golden/methods_ours/make.py

<model>/lora and <model>/prompt_tuning are loaded by PEFT, <model>/fine_tune by transformers alone; all were written by the ignored test
`write_the_fixtures` of preface-tune. `<model>.<method>.logits.<i>`: logits of each of `prompts`, which in an encoder-decoder both sides see. Package
versions: case.json.
"""
import os
import sys

import peft
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from adapters import load, load_folder
from common import VERSIONS, folder_of, generator, write_case

FOLDER = folder_of(__file__)


def logits_of(model, prompt):
    ids = torch.tensor([prompt])
    both = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **both).logits[0][-len(prompt) :]


if __name__ == "__main__":
    tensors, prompts = {}, {}
    for seed, name in enumerate(("tiny_llama", "tiny_gpt2", "bart", "t5_v1_1")):
        base = lambda: load(name, attn_implementation="eager")
        g = generator(950 + seed)
        prompts[name] = [torch.randint(3, base().config.vocab_size, (n,), generator=g).tolist() for n in (6, 1)]
        for kind in ("lora", "prompt_tuning", "fine_tune"):
            folder = os.path.join(FOLDER, name, kind)
            if not os.path.isdir(folder):
                continue
            model = load_folder(folder, attn_implementation="eager") if kind == "fine_tune" else peft.PeftModel.from_pretrained(base(), folder).eval()
            assert all(p.dtype == torch.float32 for p in model.parameters())
            for i, prompt in enumerate(prompts[name]):
                logits, bare = logits_of(model, prompt), logits_of(base(), prompt)
                assert (logits - bare).abs().max() > 1e-2
                tensors[f"{name}.{kind}.logits.{i}"] = logits.contiguous()
    write_case(FOLDER, tensors, {"made_with": VERSIONS | {"peft": peft.__version__}, "prompts": prompts})
