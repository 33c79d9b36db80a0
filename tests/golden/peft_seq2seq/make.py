"""Prefixes for the decoder of an encoder-decoder: folders of PEFT's, folders of ours, and what PEFT computes behind both.

    cargo test -p preface-tune --test placed_folders write_our_folders -- --ignored      writes ours/MODEL
    python tests/golden/peft_seq2seq/make.py                                             writes peft/MODEL and case.*

On the models of ../encoder_decoder: `bart` (decoder depth 2, encoder depth 3) and `t5_v1_1` (d_kv is not d_model / heads).
peft/MODEL is what `save_pretrained` writes (its README.md dropped). case.*: `prompts` and `labels`; logits `<kind>.<model>.<i>`, alone and without a
cache of text; `ours_all` is ours/bart_all, which has rows for the encoder and for cross-attention too: PEFT must pass over them and give what it gives
for ours/bart. Greedy generation through PEFT, with a cache, must agree with the logits. Package versions: case.json.
"""
import os
import sys

import peft
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from adapters import draw, load, save
from common import VERSIONS, folder_of, generator, relative, write_case

FOLDER = folder_of(__file__)
PREFIX_LEN = 4
# decoder depth, heads, width of a head
SIZES = {"bart": (2, 3, 10), "t5_v1_1": (2, 4, 7)}


def make_pefts(name, folder, seed):
    n_layer, n_head, head_dim = SIZES[name]
    config = peft.PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=PREFIX_LEN, num_layers=n_layer, token_dim=n_head * head_dim,
                                     num_attention_heads=n_head)
    wrapped = peft.get_peft_model(load(name), config)
    draw(wrapped.prompt_encoder.named_parameters(), seed, 0.8)
    save(wrapped, folder, name)


def logits(name, folder, prompts, labels):
    bare, model = load(name), peft.PeftModel.from_pretrained(load(name), folder).eval()
    start, out = bare.config.decoder_start_token_id, []
    with torch.no_grad():
        for prompt, label in zip(prompts, labels):
            source = torch.tensor([prompt])
            run = lambda m, ids: m(input_ids=source, attention_mask=torch.ones_like(source), decoder_input_ids=torch.tensor([ids])).logits[0]
            got = run(model, [start] + label[:-1])
            assert relative(run(bare, [start] + label[:-1]), got) > 1e-3, "the adapter changes nothing: was it loaded?"
            out.append(got)
            ids = model.generate(input_ids=source, attention_mask=torch.ones_like(source), do_sample=False, max_new_tokens=5, min_new_tokens=5, forced_eos_token_id=None)
            ids = ids[0].tolist()
            scores = run(model, ids[:-1])
            scores[:, bare.config.eos_token_id] = -float("inf")  # min_new_tokens
            assert scores.argmax(-1).tolist() == ids[1:], (name, folder, ids, scores.argmax(-1).tolist())
    return out


if __name__ == "__main__":
    tensors = {}
    g = generator(900)
    prompts = [torch.randint(3, 60, (n,), generator=g).tolist() for n in (7, 1, 4)]
    labels = [torch.randint(3, 60, (n,), generator=g).tolist() for n in (5, 6, 1)]
    for seed, name in ((910, "bart"), (920, "t5_v1_1")):
        make_pefts(name, os.path.join(FOLDER, "peft", name), seed)
        for kind in ("peft", "ours"):
            for i, rows in enumerate(logits(name, os.path.join(FOLDER, kind, name), prompts, labels)):
                tensors[f"{kind}.{name}.{i}"] = rows
    for i, rows in enumerate(logits("bart", os.path.join(FOLDER, "ours", "bart_all"), prompts, labels)):
        assert torch.equal(rows, tensors[f"ours.bart.{i}"])
    write_case(FOLDER, tensors, {"made_with": VERSIONS | {"peft": peft.__version__}, "prefix_len": PREFIX_LEN, "prompts": prompts, "labels": labels})
