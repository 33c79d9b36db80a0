"""Tiny encoder-decoders of every family with prefix rows in all three places: logits, losses, gradients of all rows, greedy and beam outputs.

`transformers` has no prefix rows for the encoder or for cross-attention, so they are added to the attention itself: an attention function is
registered (`ALL_ATTENTION_FUNCTIONS`) that puts a layer's rows in front of the keys and values that the layer has made, lengthens the mask by zeros,
and calls the family's own eager function. Which rows a layer gets is found by the module (encoder, decoder or cross, and its number). T5's bias: the
rows of the encoder get zeros, those of the decoder the bias of positions 0..P-1 with the text behind them (computed by `compute_bias` over the whole
length), those of cross-attention none. The decoder's text starts at position P (`after_prefix`), learned and sinusoidal positions alike.

Everything but the weights is computed in f64. Sequences run alone. Outputs of generation are by a plain greedy and a plain beam search over whole forward passes (no cache), compared with
`generate` of transformers where no rows are attached. `configs`: generation configs with what published models name, and what `generate` makes of them.
"""
import json
import math
import os
import sys

import torch
from torch.nn import functional as F
from transformers import (
    BartConfig, BartForConditionalGeneration, GenerationConfig, MarianConfig, MarianMTModel, MBartConfig, MBartForConditionalGeneration, PegasusConfig,
    PegasusForConditionalGeneration, T5Config, T5ForConditionalGeneration,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bart import modeling_bart
from transformers.models.t5 import modeling_t5

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from adapters import exact_t5_norm  # noqa: E402
from common import VERSIONS, folder_of, generator, randomise  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

FOLDER = folder_of(__file__)
PREFIX_LEN = {"encoder": 3, "decoder": 4, "cross": 2}
VOCAB = 61


def side(**kw):
    return dict(
        vocab_size=VOCAB, d_model=30, encoder_layers=3, decoder_layers=2, encoder_attention_heads=5, decoder_attention_heads=3, encoder_ffn_dim=44,
        decoder_ffn_dim=28, max_position_embeddings=40, attn_implementation="prefixed", **kw,
    )


def t5(**kw):
    # d_kv is not d_model / num_heads; distances run into the wide buckets.
    return dict(
        vocab_size=VOCAB, d_model=30, d_kv=7, d_ff=40, num_layers=3, num_decoder_layers=2, num_heads=4, relative_attention_num_buckets=8,
        relative_attention_max_distance=12, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, attn_implementation="prefixed", **kw,
    )


MODELS = {
    "bart": lambda: BartForConditionalGeneration(BartConfig(**side(pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2))),
    "mbart": lambda: MBartForConditionalGeneration(MBartConfig(**side(scale_embedding=True, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=5, forced_eos_token_id=2))),
    "pegasus": lambda: PegasusForConditionalGeneration(PegasusConfig(**side(scale_embedding=True, activation_function="relu", pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=1))),
    "marian": lambda: MarianMTModel(MarianConfig(**side(scale_embedding=True, activation_function="swish", pad_token_id=60, eos_token_id=0, bos_token_id=None, decoder_start_token_id=60, forced_eos_token_id=0))),
    "t5": lambda: T5ForConditionalGeneration(T5Config(**t5(feed_forward_proj="relu"))),
    "t5_v1_1": lambda: T5ForConditionalGeneration(T5Config(**t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False))),
}

ROWS = {}  # place -> tensor [P, 2 * n_layer * heads * head_dim], or nothing


def stacks(model):
    """(encoder depth, heads), (decoder depth, heads), head widths"""
    c = model.config
    if c.model_type == "t5":
        return {"encoder": (c.num_layers, c.num_heads, c.d_kv), "decoder": (c.num_decoder_layers, c.num_heads, c.d_kv)}
    return {
        "encoder": (c.encoder_layers, c.encoder_attention_heads, c.d_model // c.encoder_attention_heads),
        "decoder": (c.decoder_layers, c.decoder_attention_heads, c.d_model // c.decoder_attention_heads),
    }


def name_modules(model):
    """Tells every attention module its place, its layer and its sizes."""
    for name, module in model.named_modules():
        is_self, is_cross = name.endswith(("self_attn", "SelfAttention")), name.endswith(("encoder_attn", "EncDecAttention"))
        if is_self or is_cross:
            stack = "encoder" if ".encoder." in "." + name else "decoder"
            parts = name.split(".")
            number = next(int(p) for p in parts if p.isdigit())
            module.prefix_place = "cross" if is_cross else stack
            module.prefix_layer = number
            module.prefix_stack = stacks(model)[stack]


def prefixed(module, query, key, value, attention_mask, **kw):
    assert attention_mask is not None or module.prefix_place != "decoder" or query.shape[2] == 1
    rows = ROWS.get(module.prefix_place)
    is_t5 = type(module).__name__ == "T5Attention"
    eager = modeling_t5.eager_attention_forward if is_t5 else modeling_bart.eager_attention_forward
    if rows is None:
        return eager(module, query, key, value, attention_mask, **kw)
    n_layer, heads, width = module.prefix_stack
    p = rows.shape[0]
    own = rows.view(p, 2 * n_layer, heads, width).permute(1, 2, 0, 3)  # [2 n_layer, heads, P, width]
    batch = query.shape[0]
    expand = lambda t: t.unsqueeze(0).expand(batch, -1, -1, -1)
    key = torch.cat([expand(own[2 * module.prefix_layer]), key], dim=2)
    value = torch.cat([expand(own[2 * module.prefix_layer + 1]), value], dim=2)
    if attention_mask is not None:
        attention_mask = F.pad(attention_mask, (p, 0))
    bias = kw.get("position_bias")
    if bias is not None:
        if module.prefix_place == "decoder":
            n = query.shape[2]
            first = first_attention(module)
            # Queries stand at P.., keys at 0..: rows first, then the text.
            bias = first.compute_bias(n, p + n, past_seen_tokens=p)
        else:
            bias = F.pad(bias, (p, 0))
        kw["position_bias"] = bias
    return eager(module, query, key, value, attention_mask, **kw)


FIRST = {}


def first_attention(module):
    return FIRST["decoder"]


exact_t5_norm()
ALL_ATTENTION_FUNCTIONS.register("prefixed", prefixed)
# Without this, a function that transformers does not know gets no mask at all.
ALL_MASK_ATTENTION_FUNCTIONS.register("prefixed", ALL_MASK_ATTENTION_FUNCTIONS["eager"])


def positions_after_prefix(model):
    """The decoder's positions start behind its rows."""
    decoder = model.get_decoder()
    table = getattr(decoder, "embed_positions", None)
    if table is None:
        return
    forward = type(table).forward

    def shifted(*args, **kw):
        p = ROWS["decoder"].shape[0] if "decoder" in ROWS else 0
        if kw.get("position_ids") is not None:
            kw["position_ids"] = kw["position_ids"] + p
            return forward(table, *args, **kw)
        kw["past_key_values_length"] = kw.get("past_key_values_length", args[1] if len(args) > 1 else 0) + p
        return forward(table, args[0], **kw)

    table.forward = shifted


def logits_of(model, source, decoder_ids):
    return model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([decoder_ids]), use_cache=False).logits[0]


def nll(model, pair, smoothing=0.0):
    source, labels = pair
    start = model.config.decoder_start_token_id
    log_p = F.log_softmax(logits_of(model, source, [start] + labels[:-1]), dim=-1)
    loss = -log_p.gather(-1, torch.tensor(labels)[:, None])[:, 0]
    return (1 - smoothing) * loss + smoothing * -log_p.mean(-1) if smoothing else loss


def forced(config, ids, max_new, scores):
    """transformers' ForcedEOSTokenLogitsProcessor"""
    token = getattr(config, "forced_eos_token_id", None)
    if token is not None and len(ids) == max_new:
        only = torch.full_like(scores, -math.inf)
        only[token] = 0.0
        return only
    return scores


def greedy(model, source, max_new):
    ids = [model.config.decoder_start_token_id]
    margin = math.inf
    for _ in range(max_new):
        scores = logits_of(model, source, ids)[-1]
        if len(ids) < max_new or getattr(model.config, "forced_eos_token_id", None) is None:
            best = scores.topk(2).values
            margin = min(margin, (best[0] - best[1]).item())
        ids.append(int(forced(model.config, ids, max_new, scores).argmax()))
        if ids[-1] == model.config.eos_token_id:
            break
    return ids[1:], margin


def pairs(seed, eos):
    g = generator(seed)
    draw = lambda n: torch.randint(6, 59, (n,), generator=g).tolist()
    made = [(draw(s) + [eos], draw(t) + [eos]) for s, t in ((6, 4), (1, 1), (17, 6), (9, 15))]
    source, _ = made[0]
    made.append((source, made[0][1][:1] + draw(3) + [eos]))  # a second reference
    return made


def generation_configs(eos, frequent):
    """Settings that published generation configs have; `frequent` are tokens that beams like."""
    return [
        {"num_beams": 3, "max_length": 10, "min_length": 6, "length_penalty": 2.0, "no_repeat_ngram_size": 2, "early_stopping": True, "forced_eos_token_id": eos},
        {"num_beams": 3, "max_new_tokens": 8, "renormalize_logits": True, "repetition_penalty": 1.5, "bad_words_ids": [[frequent[0]], frequent[1:3]],
         "length_penalty": 0.8, "early_stopping": "never"},
        {"num_beams": 2, "max_new_tokens": 7, "min_new_tokens": 4, "forced_bos_token_id": 11, "forced_eos_token_id": eos, "early_stopping": False},
        {"num_beams": 1, "max_new_tokens": 6, "renormalize_logits": True, "bad_words_ids": [[frequent[0]]], "no_repeat_ngram_size": 1},
    ]


def by_config(model, source, config):
    c = model.config
    special = {"eos_token_id": c.eos_token_id, "pad_token_id": c.pad_token_id, "decoder_start_token_id": c.decoder_start_token_id}
    own = GenerationConfig(**special, do_sample=False, return_dict_in_generate=True, output_scores=True, **config)
    out = model.generate(torch.tensor([source]), generation_config=own)
    found = {"ids": out.sequences[0].tolist()[1:]}
    if config["num_beams"] > 1:
        found["score"] = out.sequences_scores[0].item()
    return found


def main():
    case = {"versions": VERSIONS, "prefix_len": PREFIX_LEN, "label_smoothing_factor": 0.1, "models": {}}
    tensors = {}
    for number, (name, make) in enumerate(MODELS.items()):
        torch.manual_seed(number)
        model = randomise(make(), 100 + number)
        with torch.no_grad():
            if hasattr(model, "final_logits_bias"):
                model.final_logits_bias.copy_(0.3 * torch.randn(1, VOCAB, generator=generator(200 + number)))
            if name == "marian":  # its files have no table of positions; that of Pegasus stays random, and the file's one wins
                for module in model.modules():
                    if hasattr(module, "create_weight"):
                        module.weight.copy_(module.create_weight())
            for p_name, p in model.named_parameters():
                if "relative_attention_bias" in p_name:
                    p.copy_(torch.randn(p.shape, generator=generator(300 + number)))
                if "shared" in p_name or "embed_tokens" in p_name:
                    p.copy_(0.4 * torch.randn(p.shape, generator=generator(400 + number)))
        if name == "t5_v1_1":
            # A head of its own: transformers ties it, the published files have one.
            model.lm_head.weight = torch.nn.Parameter(0.4 * torch.randn(VOCAB, 30, generator=generator(9)))
        name_modules(model)
        if model.config.model_type == "t5":
            FIRST["decoder"] = model.decoder.block[0].layer[0].SelfAttention
        folder = os.path.join(FOLDER, name)
        model.save_pretrained(folder, safe_serialization=True)
        config_path = os.path.join(folder, "config.json")
        config = json.load(open(config_path))
        if name == "t5_v1_1":
            config["tie_word_embeddings"] = False
        for key in ("transformers_version", "_name_or_path", "attn_implementation", "_attn_implementation"):
            config.pop(key, None)
        json.dump(config, open(config_path, "w"), indent=2, sort_keys=True)
        # In f64 from here on: in f32 a ReLU's input within rounding of zero moves a gradient by a percent.
        model.double()
        positions_after_prefix(model)

        eos = model.config.eos_token_id
        data = pairs(500 + number, eos)
        n_token = sum(len(labels) for _, labels in data)
        entry = {"pairs": [{"prompt": source, "completion": labels} for source, labels in data], "decoder_start_token_id": model.config.decoder_start_token_id, "losses": {}, "greedy": {}}
        rows = {}
        for place, p in PREFIX_LEN.items():
            n_layer, heads, width = stacks(model)["encoder" if place == "encoder" else "decoder"]
            values = torch.randn(p, 2 * n_layer * heads * width, generator=generator(600 + number * 10 + p))
            rows[place] = values.double().requires_grad_()
            tensors[f"{name}.rows.{place}"] = rows[place].detach()

        def attach(places):
            ROWS.clear()
            ROWS.update({place: rows[place] for place in places})

        subsets = {"bare": (), "encoder": ("encoder",), "decoder": ("decoder",), "cross": ("cross",), "all": tuple(PREFIX_LEN)}
        for subset, places in subsets.items():
            attach(places)
            with torch.no_grad():
                for i in (0, 2):
                    source, labels = data[i]
                    start = model.config.decoder_start_token_id
                    tensors[f"{name}.logits.{subset}.{i}"] = logits_of(model, source, [start] + labels[:-1])
            loss = sum(nll(model, pair).sum() for pair in data) / n_token
            entry["losses"][subset] = loss.item()
            if places:
                for place, grad in zip(places, torch.autograd.grad(loss, [rows[place] for place in places])):
                    assert grad.abs().max() > 1e-4, (name, subset, place)
                    tensors[f"{name}.grad.{subset}.{place}"] = grad
            with torch.no_grad():
                outputs = [greedy(model, source, 9) for source, _ in data[:4]]
            entry["greedy"][subset] = [ids for ids, margin in outputs if margin > 1e-3]
            entry.setdefault("greedy_inputs", {})[subset] = [i for i, (_, margin) in enumerate(outputs) if margin > 1e-3]
        attach(tuple(PREFIX_LEN))
        smoothed = sum(nll(model, pair, 0.1).sum() for pair in data) / n_token
        entry["losses"]["smoothed"] = smoothed.item()
        # Bare: transformers' own searches.
        attach(())
        model.set_attn_implementation("eager")
        common = dict(max_new_tokens=9, do_sample=False, use_cache=True)
        with torch.no_grad():
            for i, ids in zip(entry["greedy_inputs"]["bare"], entry["greedy"]["bare"]):
                source = torch.tensor([data[i][0]])
                theirs = model.generate(source, num_beams=1, **common)[0].tolist()
                assert theirs == [model.config.decoder_start_token_id] + ids, (name, theirs, ids)
            entry["beams"] = []
            for source, _ in data[:4]:
                out = model.generate(torch.tensor([source]), num_beams=3, length_penalty=1.0, early_stopping=False, return_dict_in_generate=True, output_scores=True, **common)
                entry["beams"].append({"ids": out.sequences[0].tolist()[1:], "score": out.sequences_scores[0].item()})
            likes = entry["beams"][0]["ids"]
            configs = generation_configs(eos, [likes[0], likes[1], likes[2]])
            # `generate` fills in what a config does not say from the model's own.
            own = model.generation_config.forced_eos_token_id
            configs = [config | ({} if own is None else {"forced_eos_token_id": own}) for config in configs]
            entry["configs"] = [{"config": config, "outputs": [by_config(model, source, config) for source, _ in data[:4]]} for config in configs]
            # It matters: without it sums of log-probabilities lack what other rules took away.
            plain = {k: v for k, v in configs[1].items() if k != "renormalize_logits"}
            assert any(abs(by_config(model, source, plain)["score"] - with_it["score"]) > 1e-3 for (source, _), with_it in zip(data, entry["configs"][1]["outputs"]))
        case["models"][name] = entry
    save_file({k: v.contiguous().float() for k, v in tensors.items()}, os.path.join(FOLDER, "case.safetensors"))
    with open(os.path.join(FOLDER, "case.json"), "w") as out:
        json.dump(case, out)


main()
