"""A trained encoder-decoder, Arabic letters to Latin ones, from a CTranslate2 file to the layout of `transformers`.

    python tests/golden/transliteration/make.py [FOLDER]    FOLDER: the CTranslate2 model as safetensors with its config.json (MIT licence);
                                                            without it the converted model beside this script is taken as it is

The nearest family is Pegasus: norms in front of the layers and behind the stacks, scaled embeddings, no norm of the embedding. What is its own:
- one vocabulary of 94 ids, the source's 51 rows first, then the target's 43; letters that both have (a full stop, the tatweel) are named `<.>` and so on
  where they are the target's, so that a text has one spelling;
- a head of its own; in `final_logits_bias` the source's ids are at minus infinity;
- a table of positions in the file: sines, then cosines, of p * 10000^(-i / (d/2 - 1)), and the first row is position 1;
- ReLU; no end token after the source; decoding starts with the target's `<s>`.

case.json: words, their ids, and what `transformers` makes of them, greedily and with 4 beams (whose two best scores are apart); `nll`, the negative
log-likelihood of the greedy answer with its end token.
"""
import json
import math
import os
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import PegasusConfig, PegasusForConditionalGeneration

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from common import VERSIONS, folder_of  # noqa: E402

FOLDER = folder_of(__file__)
N_POSITION = 64
WORDS = ["آتزمون", "محمد", "فاطمة", "يوسف", "بغداد", "القاهرة", "سليمان", "خالد", "مريم", "دمشق", "طرابلس", "نجيب", "غسان", "ليلى", "قرطبة"]


def convert(source):
    config = json.load(open(os.path.join(source, "config.json")))
    d = config["d_model"]
    with safe_open(os.path.join(source, "model.safetensors"), "pt") as f:
        t = {name: f.get_tensor(name) for name in f.keys()}
    n_source, n_target = t["encoder/embeddings/weight"].shape[0], t["decoder/embeddings/weight"].shape[0]
    out = {"model.shared.weight": torch.cat([t["encoder/embeddings/weight"], t["decoder/embeddings/weight"]])}
    out["lm_head.weight"] = torch.cat([torch.zeros(n_source, d), t["decoder/projection/weight"]])
    out["final_logits_bias"] = torch.cat([torch.full((n_source,), -math.inf), t["decoder/projection/bias"]])[None]
    angle = torch.arange(1, N_POSITION + 1).double()[:, None] * 10000.0 ** (-torch.arange(d // 2).double() / (d // 2 - 1))[None]
    table = torch.cat([angle.sin(), angle.cos()], dim=1).float()
    norm = lambda to, name: out.update({f"{to}.weight": t[f"{name}/gamma"], f"{to}.bias": t[f"{name}/beta"]})

    def linear(names, name):
        weights, biases = t[f"{name}/weight"].chunk(len(names)), t[f"{name}/bias"].chunk(len(names))
        for to, w, b in zip(names, weights, biases):
            out[f"{to}.weight"], out[f"{to}.bias"] = w.contiguous(), b.contiguous()

    for side, n_layer in (("encoder", config["encoder_layers"]), ("decoder", config["decoder_layers"])):
        out[f"model.{side}.embed_positions.weight"] = table.clone()
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        for n in range(n_layer):
            to, of = f"model.{side}.layers.{n}", f"{side}/layer_{n}"
            linear([f"{to}.self_attn.{p}_proj" for p in "qkv"], f"{of}/self_attention/linear_0")
            linear([f"{to}.self_attn.out_proj"], f"{of}/self_attention/linear_1")
            norm(f"{to}.self_attn_layer_norm", f"{of}/self_attention/layer_norm")
            if side == "decoder":
                linear([f"{to}.encoder_attn.q_proj"], f"{of}/attention/linear_0")
                linear([f"{to}.encoder_attn.{p}_proj" for p in "kv"], f"{of}/attention/linear_1")
                linear([f"{to}.encoder_attn.out_proj"], f"{of}/attention/linear_2")
                norm(f"{to}.encoder_attn_layer_norm", f"{of}/attention/layer_norm")
            linear([f"{to}.fc1"], f"{of}/ffn/linear_0")
            linear([f"{to}.fc2"], f"{of}/ffn/linear_1")
            norm(f"{to}.final_layer_norm", f"{of}/ffn/layer_norm")
    # CTranslate2 appends the unknown token to the words of either side.
    source_words = config["source_vocab"] + ["<unk>"] * (n_source - len(config["source_vocab"]))
    target_words = config["target_vocab"] + ["<unk>"] * (n_target - len(config["target_vocab"]))
    vocab = {word: i for i, word in enumerate(source_words)}
    for i, word in enumerate(target_words):
        vocab[f"<{word.strip('<>')}>" + ("target" if word.startswith("<") else "") if word in vocab else word] = n_source + i
    assert len(vocab) == n_source + n_target, (len(vocab), n_source + n_target)
    settings = dict(
        vocab_size=n_source + n_target, d_model=d, encoder_layers=config["encoder_layers"], decoder_layers=config["decoder_layers"],
        encoder_attention_heads=config["heads"], decoder_attention_heads=config["heads"], encoder_ffn_dim=config["ffn"], decoder_ffn_dim=config["ffn"],
        max_position_embeddings=N_POSITION, activation_function="relu", scale_embedding=True, tie_word_embeddings=False,
        pad_token_id=n_source, decoder_start_token_id=n_source + 1, eos_token_id=n_source + 2, forced_eos_token_id=None,
    )
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [
            {"id": vocab[w], "content": w, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for w in ("<blank>", "<s>", "</s>", "<unk>", "<blank>target", "<s>target", "</s>target", "<unk>target") if w in vocab
        ],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    }
    return out, settings, tokenizer


def write(folder, tensors, settings, tokenizer):
    os.makedirs(folder, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    config = {"model_type": "pegasus", "architectures": ["PegasusForConditionalGeneration"], "is_encoder_decoder": True, **settings}
    json.dump(config, open(os.path.join(folder, "config.json"), "w"), indent=2)
    generation = {k: settings[k] for k in ("pad_token_id", "decoder_start_token_id", "eos_token_id")}
    json.dump(generation, open(os.path.join(folder, "generation_config.json"), "w"), indent=2)
    json.dump(tokenizer, open(os.path.join(folder, "tokenizer.json"), "w"), ensure_ascii=False)


def main():
    folder = os.path.join(FOLDER, "model")
    if len(sys.argv) > 1:
        write(folder, *convert(sys.argv[1]))
    tensors = load_file(os.path.join(folder, "model.safetensors"))
    settings = json.load(open(os.path.join(folder, "config.json")))
    vocab = json.load(open(os.path.join(folder, "tokenizer.json")))["model"]["vocab"]
    model = PegasusForConditionalGeneration(PegasusConfig(**settings)).eval()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and all("embed_tokens" in name for name in missing), (missing, unexpected)
    with torch.no_grad():
        model.model.encoder.embed_tokens.weight.copy_(tensors["model.shared.weight"])
        model.model.decoder.embed_tokens.weight.copy_(tensors["model.shared.weight"])
        model.lm_head.weight.copy_(tensors["lm_head.weight"])
    model.double()
    words = {i: w for w, i in vocab.items()}
    case = {"versions": VERSIONS, "words": []}
    for word in WORDS:
        ids = [vocab.get(c, vocab["<unk>"]) for c in word]
        entry = {"word": word, "ids": ids}
        for name, beams in (("greedy", 1), ("beams", 4)):
            with torch.no_grad():
                got = model.generate(torch.tensor([ids]), num_beams=beams, max_new_tokens=30, do_sample=False, length_penalty=1.0)[0].tolist()[1:]
            got = [i for i in got if i not in (settings["eos_token_id"], settings["pad_token_id"])]
            entry[name] = got
            entry[name + "_text"] = "".join(words[i] for i in got)
        labels = entry["greedy"] + [settings["eos_token_id"]]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[settings["decoder_start_token_id"]] + labels[:-1]])).logits[0]
        entry["nll"] = -logits.log_softmax(-1).gather(-1, torch.tensor(labels)[:, None]).sum().item()
        case["words"].append(entry)
        print(word, entry["greedy_text"], entry["beams_text"])
    assert case["words"][0]["greedy_text"] == "atzmon", case["words"][0]
    json.dump(case, open(os.path.join(FOLDER, "case.json"), "w"), ensure_ascii=False, indent=1)


main()
