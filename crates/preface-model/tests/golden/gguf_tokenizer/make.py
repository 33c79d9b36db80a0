"""Makes llama_bpe.gguf and qwen2.gguf, files without tensors whose metadata hold a tiny byte-level BPE tokenizer; beside
each the tokenizer.json that it stands for, and in case.json texts with the ids that the `tokenizers` package gives them.

Versions: gguf 0.19.0, tokenizers 0.23.3.   Run: python make.py   (rewrites all files, same bytes each time)

The pieces are those of the models' own tokenizer.json: Llama 3 splits by its regular expression, takes words of the
vocabulary whole and puts BOS in front (the GGUF file does not say so: its name for the pre-tokenizer does); here it also
appends EOS. Qwen 2 normalises to NFC, splits every digit apart and adds nothing. The files for GPT-2 and SmolLM stand in
tests/golden/gguf_tiny of the repository.
"""

import json
from pathlib import Path

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
CORPUS = [
    "A prefix is a few rows of keys and values that stand before the text.",
    "The model's weights are frozen; we'll train the rows, and they're small.",
    "IT'S WRITTEN IN CAPITALS, AND THEY'LL READ IT",
    "Numbers: 1, 22, 333, 4444, 55555, 1234567 and 2021.",
    "def train(rows):\r\n    for row in rows:\n\n        step(row)   # two  blanks\n",
    "Übergröße, façade, Ζωή, привет, 東京タワー, नमस्ते",
]
TEXTS = [
    "",
    " ",
    "\n\n  \n a",
    "The prefix stands before the text.",
    " They'LL train 1234567 rows\r\n\r\n    in   2021!?  ",
    "<|begin|>the rows<|end|> of<tool> keys",
    "cafe\u0301 Übergröße 東京 ½ ² ٣٤٥ \u00a0\u3000x",
    "🙂👩‍🚀 $%&/()=...",
    "prefixes",
]
CONTROL = ["<|begin|>", "<|end|>"]
USER_DEFINED, UNUSED = "<tool>", "[PAD1]"
CASED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def make(name: str, pre: str, digits: str) -> dict:
    tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(CASED + digits + REST), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=CONTROL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 2, trainer)
    if pre == "llama-bpe":
        # A word that no merge leads to: only a tokenizer that ignores merges finds it.
        written = json.loads(tokenizer.to_str())
        written["model"]["vocab"]["prefixes"] = len(written["model"]["vocab"])
        tokenizer = Tokenizer.from_str(json.dumps(written))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A <|end|>",
            pair="<|begin|> $A <|end|> <|begin|> $B <|end|>",
            special_tokens=[("<|begin|>", 0), ("<|end|>", 1)],
        )
    tokenizer.add_tokens([AddedToken(USER_DEFINED, normalized=False, special=False)])
    tokenizer.save(str(HERE / f"{name}.json"), pretty=False)

    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get) + [UNUSED]
    kinds = {UNUSED: gguf.TokenType.UNUSED, USER_DEFINED: gguf.TokenType.USER_DEFINED}
    kinds |= dict.fromkeys(CONTROL, gguf.TokenType.CONTROL)
    writer = gguf.GGUFWriter(HERE / f"{name}.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    if pre == "llama-bpe":
        writer.add_add_eos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    texts = [
        {
            "text": text,
            "ids": tokenizer.encode(text).ids,
            "without_special": tokenizer.encode(text, add_special_tokens=False).ids,
            "decoded": tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=True),
        }
        for text in TEXTS
    ]
    return {"texts": texts}


cases = {"llama_bpe": make("llama_bpe", "llama-bpe", r"\p{N}{1,3}"), "qwen2": make("qwen2", "qwen2", r"\p{N}")}
(HERE / "case.json").write_text(json.dumps(cases, ensure_ascii=False) + "\n")
