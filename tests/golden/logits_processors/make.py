"""What transformers' logits processors make of given scores, alone and together. Run: python tests/golden/logits_processors/make.py

Case i has `settings` by their Hugging Face names and `kind`: tensor `scores.<kind>` goes in and `processed.i` comes out, both [vocab]; -inf = excluded.
`input_ids` are the tokens so far, of which the last `generated` are generated and the rest is the prompt. The processors and their order are those that `generate` builds for the settings with sampling on:
repetition penalty, n-grams, banned words, minimum length, temperature, top-k, top-p, min-p, and log_softmax (`renormalize_logits`). Package versions: case.json.
"""
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import folder_of, generator, write_case
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

VOCAB, END = 23, 2
IDS, GENERATED = [7, 4, 9, 7, 4, 11, 3, 7, 4], 4

RULES = [
    {"temperature": 0.7},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 100},
    {"top_p": 0.05},
    {"top_p": 0.6},
    {"top_p": 0.95},
    {"min_p": 0.02},
    {"min_p": 0.3},
    {"min_p": 1.0},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"no_repeat_ngram_size": 10},
    {"bad_words_ids": [[5]]},
    {"bad_words_ids": [[5], [7, 4, 6], [4, 8], [3, 10], [END]]},
    {"min_new_tokens": 5},
    {"min_new_tokens": 4},
    {"temperature": 0.5, "top_k": 8, "top_p": 0.8},
    {"temperature": 1.5, "top_p": 0.9, "min_p": 0.1},
    {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "bad_words_ids": [[5], [7, 4, 6]], "min_new_tokens": 6, "temperature": 0.8,
     "top_k": 10, "top_p": 0.9, "min_p": 0.05},
    {"renormalize_logits": True},
    {"renormalize_logits": True, "repetition_penalty": 1.3, "bad_words_ids": [[5], [7, 4, 6]], "min_new_tokens": 6},
    {"renormalize_logits": True, "temperature": 0.6, "top_k": 6},
]


def processed(model, settings, scores):
    # Named, as they are not neutral by default.
    neutral = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(do_sample=True, num_beams=1, eos_token_id=END, pad_token_id=0, max_new_tokens=50, **(neutral | settings))
    model._prepare_special_tokens(config, device="cpu")
    processors = model._get_logits_processor(config, input_ids_seq_length=len(IDS) - GENERATED, device="cpu")
    return processors(torch.tensor([IDS]), scores[None].clone())[0]


if __name__ == "__main__":
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1))
    random = 1.5 * torch.randn(VOCAB, generator=generator(900))
    ties = (2 * torch.randn(VOCAB, generator=generator(901))).round()
    masked = random.masked_fill(torch.arange(VOCAB) % 3 == 1, float("-inf"))
    tensors, cases = {}, []
    for kind, scores in (("random", random), ("ties", ties), ("masked", masked)):
        tensors[f"scores.{kind}"] = scores
        for settings in RULES:
            if kind == "ties" and "top_p" in settings:
                continue  # which of equal scores stays depends on the sort
            i = len(cases)
            cases.append({"kind": kind, "settings": settings})
            tensors[f"processed.{i}"] = processed(model, settings, scores)
            if kind == "random":
                changed = not torch.equal(scores, tensors[f"processed.{i}"])
                idle = settings in ({"top_k": 100}, {"no_repeat_ngram_size": 10}, {"min_new_tokens": 4})
                assert changed != idle, settings
    meta = {"vocab": VOCAB, "eos_token_id": END, "input_ids": IDS, "generated": GENERATED, "cases": cases}
    write_case(folder_of(__file__), tensors, meta)
