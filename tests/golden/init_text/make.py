"""K/V that the models compute for a text, and the identity that follows. Run: python tests/golden/init_text/make.py

`<model>.prompt_embeddings` is what `init = text` must give for `init_ids`; a text behind it has the logits of really running those tokens first,
which the script asserts and case.* holds (`<model>.logits`, for `text_ids`). Models: ../tiny_llama, ../tiny_llama_untied, ../tiny_gpt2.
"""
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import HERE, dims, folder_of, generator, kv_of_text, logits_of, relative, write_case
from transformers import AutoModelForCausalLM

if __name__ == "__main__":
    tensors, cases = {}, {}
    for seed, name in enumerate(("tiny_llama", "tiny_llama_untied", "tiny_gpt2")):
        model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, name, "model")).eval()
        g = generator(600 + seed)
        draw = lambda n: torch.randint(3, model.config.vocab_size, (n,), generator=g).tolist()
        init_ids, text_ids = draw(6), draw(9)
        rows = kv_of_text(model, init_ids)
        with torch.no_grad():
            whole = logits_of(model, init_ids + text_ids)[len(init_ids) :]
            behind = logits_of(model, text_ids, rows)
            alone = logits_of(model, text_ids)
        assert relative(behind, whole) < 1e-5, relative(behind, whole)
        assert relative(alone, whole) > 0.1
        n_layer, n_kv_head, head_dim, _ = dims(model)
        cases[name] = {"init_ids": init_ids, "text_ids": text_ids, "n_layer": n_layer, "n_kv_head": n_kv_head, "head_dim": head_dim}
        tensors |= {f"{name}.prompt_embeddings": rows, f"{name}.logits": whole, f"{name}.logits.bare": alone}
    write_case(folder_of(__file__), tensors, {"models": cases})
