"""Greedy and beam outputs of transformers and PEFT on two tiny models. Run: python tests/golden/generation/make.py     (versions: case.json)

The models (llama/, gpt2/) write varied text: their blocks' output matrices are scaled up, else a tied head repeats the last token. Each case of
case.json has `model`, `prefix` (whether the rows `<model>.prompt_embeddings` of case.safetensors stand in front), `settings` by their Hugging Face
names (absent = neutral, decoding without sampling) and `outputs`, one per prompt of `prompts.<model>`:
  generated      ids after the prompt, the end token included where one came
  score          beams: `sequences_scores`; greedy: sum of the log-probabilities of `generated` under the unprocessed logits

Where it comes from: `generate` of transformers, through PEFT's PrefixTuning model where there is a prefix; each prompt alone, and all prompts in one
left-padded batch, which must give the same. search.py writes the same searches out plainly; it must agree too, and it alone gives the cases with
`length_norm: total`, which transformers has no more.
Greedy: the two best scores of every step differ by more than MARGIN. Beams: the result stays the same when every score of every step is moved at
random by up to NOISE.

Facts of transformers 5.23 that the cases hold: beams apply the processors to log-probabilities and do not normalise again, greedy applies them to
logits; a score is divided by (generated tokens, end token included) ** length_penalty; several end tokens widen the candidates of a step; the
repetition penalty and n-grams count the prompt; a prefix's rows count nowhere.
"""
import functools
import hashlib
import os
import sys

import peft
import torch
from transformers import (AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, LogitsProcessorList,
                          MinNewTokensLengthLogitsProcessor, NoBadWordsLogitsProcessor, NoRepeatNGramLogitsProcessor,
                          RepetitionPenaltyLogitsProcessor)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import VERSIONS, dims, folder_of, generator, logits_of, random_prefix, randomise, write_case
from search import beam_search, greedy

FOLDER = folder_of(__file__)
MARGIN, NOISE = 1e-3, 3e-4
PAD = 0
PROMPT_LENGTHS = (1, 3, 6, 9)


def enliven(model):
    """Changes weights until the text varies: more from the blocks and from positions, sharper attention, less of what is constant."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "c_proj.weight")):
                p.mul_(5.0)
            elif name.endswith(("q_proj.weight", "k_proj.weight", "c_attn.weight")):
                p.mul_(1.5)
            elif name.endswith("wpe.weight"):
                p.mul_(3.0)
            elif name.endswith("bias"):
                p.mul_(0.3)
    return model


def build_llama():
    config = LlamaConfig(vocab_size=67, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         head_dim=6, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=True,
                         rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, bos_token_id=1, eos_token_id=15, pad_token_id=PAD)
    return enliven(randomise(LlamaForCausalLM(config), seed=60))


def build_gpt2():
    config = GPT2Config(vocab_size=59, n_positions=40, n_embd=30, n_layer=2, n_head=3, bos_token_id=35, eos_token_id=35)
    return enliven(randomise(GPT2LMHeadModel(config), seed=70))


def with_prefix(model, rows):
    """PEFT's model around `model`, its rows set to `rows`."""
    n_layer, n_kv_head, head_dim, _ = dims(model)
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=rows.shape[0], num_layers=n_layer,
                                     token_dim=n_kv_head * head_dim, num_attention_heads=n_kv_head)
    wrapped = peft.get_peft_model(model, config).eval()
    wrapped.prompt_encoder["default"].load_prompt_embeddings(rows)
    return wrapped


class Subject:
    """A model with or without a prefix: `generate` of the libraries, and the scores that search.py wants."""

    def __init__(self, folder, rows):
        self.plain = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.rows = rows
        other = AutoModelForCausalLM.from_pretrained(folder).eval()  # PEFT changes the model that it wraps
        self.library = other if rows is None else with_prefix(other, rows)

    @functools.lru_cache(None)
    def logits(self, ids):
        with torch.no_grad():
            return logits_of(self.plain, list(ids), self.rows)[-1:]

    def scores(self, settings, prompt_len, log_probabilities, noise=None):
        """transformers' processors in transformers' order; `noise` names a set of random moves of every score."""
        s, steps = settings, LogitsProcessorList()
        end = torch.tensor(s["eos_token_id"])
        if s.get("repetition_penalty", 1.0) != 1.0:
            steps.append(RepetitionPenaltyLogitsProcessor(s["repetition_penalty"]))
        if s.get("no_repeat_ngram_size", 0):
            steps.append(NoRepeatNGramLogitsProcessor(s["no_repeat_ngram_size"]))
        if s.get("bad_words_ids"):
            steps.append(NoBadWordsLogitsProcessor(s["bad_words_ids"], end))
        if s.get("min_new_tokens", 0):
            steps.append(MinNewTokensLengthLogitsProcessor(prompt_len, s["min_new_tokens"], end))

        @functools.lru_cache(None)
        def of(ids):
            values = self.logits(ids)
            values = torch.log_softmax(values, -1) if log_probabilities else values.clone()
            values = steps(torch.tensor([list(ids)]), values)[0]
            if noise is not None:
                seed = int.from_bytes(hashlib.sha256(repr((noise, ids)).encode()).digest()[:4], "little")
                values = values + NOISE * (2 * torch.rand(values.shape, generator=generator(seed)) - 1)
            return values.tolist()

        return lambda ids, _: of(tuple(ids))

    def run_library(self, prompts, settings):
        """Generated ids, scores, for prompts in one left-padded batch."""
        width = max(map(len, prompts))
        ids = torch.tensor([[PAD] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        out = self.library.generate(input_ids=ids, attention_mask=mask, do_sample=False, pad_token_id=PAD, return_dict_in_generate=True,
                                    output_scores=True, **settings)
        texts = [cut(row[width:].tolist(), settings["eos_token_id"], settings["max_new_tokens"]) for row in out.sequences]
        return texts, (out.sequences_scores.tolist() if settings.get("num_beams", 1) > 1 else [None] * len(prompts))

    def log_probability(self, prompt, generated):
        total = 0.0
        for i, token in enumerate(generated):
            total += torch.log_softmax(self.logits(tuple(prompt + generated[:i])), -1)[0, token].item()
        return total


def cut(ids, end_tokens, limit):
    for i, token in enumerate(ids):
        if token in end_tokens:
            return ids[: i + 1]
    return ids[:limit]


def search(subject, prompt, settings, length_norm="generated", noise=None):
    s = settings
    if s.get("num_beams", 1) == 1:
        scores = subject.scores(s, len(prompt), log_probabilities=False)
        ids, margin = greedy(scores, prompt, s["eos_token_id"], s["max_new_tokens"])
        assert margin > MARGIN, f"margin {margin} at {prompt}: take another prompt"
        return ids, None
    scores = subject.scores(s, len(prompt), log_probabilities=True, noise=noise)
    return beam_search(scores, prompt, s["eos_token_id"], s["num_beams"], s["max_new_tokens"], s.get("length_penalty", 1.0),
                       s.get("early_stopping", False), length_norm)


def outputs(subject, prompts, settings, length_norm="generated"):
    result = []
    for prompt in prompts:
        ids, score = search(subject, prompt, settings, length_norm)
        if settings.get("num_beams", 1) > 1:
            for noise in range(4):
                moved = search(subject, prompt, settings, length_norm, noise)[0]
                assert moved == ids, f"{settings}: {ids} and {moved} are too close: take another prompt"
        if length_norm == "generated":
            (alone,), (library_score,) = subject.run_library([prompt], settings)
            assert alone == ids, f"{settings}: transformers {alone}, search.py {ids}"
            assert score is None or abs(score - library_score) < 1e-5 * max(1, abs(score)), (score, library_score)
        score = subject.log_probability(prompt, ids) if score is None else score
        result.append({"generated": ids, "score": score})
    if length_norm == "generated":
        together, _ = subject.run_library(prompts, settings)
        for got, want in zip(together, result):
            assert got == want["generated"], f"{settings}: batch {got}, alone {want}"
    return result


def all_settings(end, several, banned):
    """What is tried, on each model with and without a prefix."""
    base = {"max_new_tokens": 14, "eos_token_id": end}
    rules = [{"min_new_tokens": 9}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}, {"bad_words_ids": banned}]
    together = {k: v for rule in rules for k, v in rule.items()}
    for rule in [{}, *rules, together, {"eos_token_id": several}, {"max_new_tokens": 1}]:
        yield base | rule
    for num_beams in (3, 5):
        for length_penalty in (0.5, 1.0, 2.0):
            for early_stopping in (False, True, "never"):
                yield base | {"num_beams": num_beams, "length_penalty": length_penalty, "early_stopping": early_stopping}
    for rule in [*rules, together, {"eos_token_id": several}, {"max_new_tokens": 1}, {"length_penalty": 0.0}, {"length_penalty": -1.0}]:
        yield base | {"num_beams": 3} | rule


# Chosen so that hypotheses end early, late and not at all; the banned ones from what the models write freely.
CHOICES = {
    "llama": {"seed": 91, "end": [15], "several": [15, 44, 60], "banned": [[16], [54, 54], [44, 7]]},
    "gpt2": {"seed": 83, "end": [35], "several": [35, 13, 21], "banned": [[22], [51, 51], [25, 3]]},
}


if __name__ == "__main__":
    tensors, cases, all_prompts = {}, [], {}
    for name, build in (("llama", build_llama), ("gpt2", build_gpt2)):
        folder, choice = os.path.join(FOLDER, name), CHOICES[name]
        build().save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        g = generator(choice["seed"])
        prompts = [torch.randint(3, model.config.vocab_size, (n,), generator=g).tolist() for n in PROMPT_LENGTHS]
        rows = random_prefix(model, choice["seed"] + 100, std=1.5)
        tensors[f"{name}.prompt_embeddings"], all_prompts[name] = rows, prompts
        for prefix in (False, True):
            subject = Subject(folder, rows if prefix else None)
            mine = []
            for settings in all_settings(choice["end"], choice["several"], choice["banned"]):
                mine.append({"settings": settings, "outputs": outputs(subject, prompts, settings)})
                if {"length_penalty", "early_stopping"} <= settings.keys() and settings["early_stopping"] != "never":
                    total = {"settings": settings | {"length_norm": "total"}, "outputs": outputs(subject, prompts, settings, "total")}
                    mine.append(total)
            cases += [{"model": name, "prefix": prefix, **case} for case in mine]
    write_case(FOLDER, tensors, {"made_with": VERSIONS | {"peft": peft.__version__}, "prompts": all_prompts, "cases": cases})
