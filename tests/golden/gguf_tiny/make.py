"""GGUF files of tiny Llama and GPT-2 models with their tokenizers inside, and what transformers computes from them.
Run: python tests/golden/gguf_tiny/make.py

<name>.gguf is written by gguf-py as llama.cpp's converter does: q and k of `llama` permuted for its rotary embedding, GPT-2's matrices turned to [out, in],
norms and biases F32, matrices F16 or BF16 or F32 in turn, no `output.weight` (tied) but in llama_untied. The tokenizer is a byte-level BPE:
  llama         pre = "smollm": every digit apart, then GPT-2's splitting
  llama_untied, gpt2   pre = "gpt-2"
with control tokens (type 3), a user-defined one (4) and an unused one (5), which fills the vocabulary up.

case.*, per model: `texts` with their ids, and for some `<name>.logits.<i>` of those ids, from AutoModelForCausalLM.from_pretrained(folder, gguf_file=...).
Ids come from a tokenizer built here with the `tokenizers` library. Its pre-tokenizer for "smollm" is the one of SmolLM2's own tokenizer.json
(Digits, then ByteLevel); transformers 5.23 ignores that name in a GGUF and splits as GPT-2, which differs where several blanks stand ahead of a digit.
Package versions: case.json.
"""
import json
import os
import sys
from importlib.metadata import version

import gguf
import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import VERSIONS, folder_of, logits_of, randomise, relative, write_case
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

FOLDER = folder_of(__file__)
CONTROL, USER_DEFINED, UNUSED = ["<|endoftext|>", "<|start|>", "<|end|>"], "<note>", "[PAD0]"
CORPUS = [
    "The prefix is read before the text, and the text is written after the prefix.",
    "It's there that they're reading; we'll write, I'd say, what you've seen.",
    "In the morning the sea was calm. In the evening the wind came from the north.",
    "def read(path):\n    with open(path) as file:\n        return file.read()\n",
    "10 rows, 24 layers, 1024 wide; 3.5 and 2.75; the year 1984 and the year 2021.",
    "Größe, naïve, café, über; Ζωή; 東京",
]
TEXTS = [
    "The text is written before the reading.",
    "They've   read 12 rows  34 times in 2021.\n\n    return file",
    "<|start|>the sea<|end|> was <note>calm",
    "Ähre ☕ 東 \t x²=½",
    " a",
]
WITH_LOGITS = (0, 2)
TYPES = [gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.BF16]


def make_tokenizer(pre):
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level]) if pre == "smollm" else byte_level
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=CONTROL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 2, trainer)
    tokenizer.add_tokens([AddedToken(USER_DEFINED, normalized=False, special=False)])
    return tokenizer


def write_tokenizer(writer, tokenizer, pre):
    model = json.loads(tokenizer.to_str())["model"]
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [token for token, _ in by_id] + [UNUSED]
    kind = {UNUSED: gguf.TokenType.UNUSED, USER_DEFINED: gguf.TokenType.USER_DEFINED} | dict.fromkeys(CONTROL, gguf.TokenType.CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([kind.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    return len(tokens)


def permute(weight, n_head):
    """Rows of a head from halves (x1, x2) to pairs (x1_0, x2_0, x1_1, x2_1, ...), as llama.cpp rotates them."""
    return weight.reshape(n_head, 2, weight.shape[0] // n_head // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def add_tensors(writer, model, arch, n_layer):
    names = gguf.get_tensor_name_map(arch, n_layer)
    matrices = 0
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        value = parameter.float().numpy()
        if name.endswith("q_proj.weight"):
            value = permute(value, model.config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            value = permute(value, model.config.num_key_value_heads)
        elif model.config.model_type == "gpt2" and value.ndim == 2 and ".h." in name:
            value = value.T
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if value.ndim == 1 or "wpe" in name:
            writer.add_tensor(target, np.ascontiguousarray(value))
        else:
            kind = TYPES[matrices % len(TYPES)]
            matrices += 1
            writer.add_tensor(target, gguf.quants.quantize(np.ascontiguousarray(value), kind), raw_dtype=kind)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_llama(path, pre, tied, seed):
    writer = gguf.GGUFWriter(path, "llama")
    tokenizer = make_tokenizer(pre)
    vocab = write_tokenizer(writer, tokenizer, pre)
    config = LlamaConfig(vocab_size=vocab, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         head_dim=6, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=tied,
                         rope_parameters={"rope_type": "default", "rope_theta": 50000.0})
    model = randomise(LlamaForCausalLM(config), seed)
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(50000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(vocab)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    add_tensors(writer, model, gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    finish(writer)
    return model, tokenizer


def write_gpt2(path, pre, seed):
    writer = gguf.GGUFWriter(path, "gpt2")
    tokenizer = make_tokenizer(pre)
    vocab = write_tokenizer(writer, tokenizer, pre)
    config = GPT2Config(vocab_size=vocab, n_positions=64, n_embd=30, n_layer=2, n_head=3, bos_token_id=1, eos_token_id=2)
    model = randomise(GPT2LMHeadModel(config), seed)
    writer.add_name("tiny")
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    add_tensors(writer, model, gguf.MODEL_ARCH.GPT2, config.n_layer)
    finish(writer)
    return model, tokenizer


if __name__ == "__main__":
    tensors, cases = {}, {}
    made = {
        "llama": lambda path: write_llama(path, "smollm", True, 61),
        "llama_untied": lambda path: write_llama(path, "gpt-2", False, 62),
        "gpt2": lambda path: write_gpt2(path, "gpt-2", 63),
    }
    for name, write in made.items():
        written, tokenizer = write(os.path.join(FOLDER, f"{name}.gguf"))
        # transformers takes a GPT-2's number of positions for n_ctx, which its config does not use: it has to be told.
        hint = {"config": written.config} if name == "gpt2" else {}
        model = AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=f"{name}.gguf", dtype=torch.float32, **hint).eval()
        other = AutoTokenizer.from_pretrained(FOLDER, gguf_file=f"{name}.gguf")
        cases[name] = {"texts": []}
        with torch.no_grad():
            for i, text in enumerate(TEXTS):
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                assert tokenizer.decode(ids, skip_special_tokens=False) == text
                same = other(text, add_special_tokens=False)["input_ids"] == ids
                print(name, i, len(ids), "tokenised alike by transformers" if same else "tokenised otherwise by transformers")
                assert same or (name == "llama" and i == 1)
                logits = logits_of(model, ids)
                # The file holds rounded weights: close to the model that was written, not equal.
                assert 1e-5 < relative(logits, logits_of(written, ids)) < 0.1, relative(logits, logits_of(written, ids))
                cases[name]["texts"].append({"text": text, "ids": ids})
                if i in WITH_LOGITS:
                    tensors[f"{name}.logits.{i}"] = logits
    versions = VERSIONS | {"gguf": version("gguf"), "tokenizers": version("tokenizers")}
    write_case(FOLDER, tensors, {"made_with": versions, "models": cases})
