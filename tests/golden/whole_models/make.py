"""What transformers computes with model folders that preface writes after fine-tuning and --from-scratch. Run: python tests/golden/whole_models/make.py

The folders are not kept: the ignored test `write_whole_models` of preface-tune writes them (it is run here, with cargo), from the models of ../tiny_* and
../encoder_decoder and ../transliteration with other values, and from the configs of ../initial with values throughout. case.json has the SHA-256 of each model.safetensors and
config.json: the test that reads this file writes the folders again and finds the same bytes, so what was loaded here is what is written today. Asserted: no
key is missing, left over or of another shape. `<folder>.logits.<i>`: logits of each of `prompts`, which in an encoder-decoder both sides see. Package
versions: case.json.
"""
import hashlib
import os
import subprocess
import sys
import tempfile

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from adapters import load_folder
from common import HERE, VERSIONS, folder_of, generator, write_case

FILES = ("model.safetensors", "config.json")


def logits_of(model, prompt):
    ids = torch.tensor([prompt])
    both = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False, **both).logits[0]


if __name__ == "__main__":
    tensors, folders = {}, {}
    g = generator(970)
    prompts = [torch.randint(3, 60, (n,), generator=g).tolist() for n in (6, 1)]
    with tempfile.TemporaryDirectory() as written:
        command = ["cargo", "test", "-p", "preface-tune", "--test", "whole_models", "write_whole_models", "--", "--ignored"]
        subprocess.run(command, cwd=HERE, env=os.environ | {"WHOLE_MODELS": written}, check=True)
        for name in sorted(os.listdir(written)):
            folder = os.path.join(written, name)
            model, info = load_folder(folder, attn_implementation="eager", output_loading_info=True)
            assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")), (name, info)
            assert all(p.dtype == torch.float32 for p in model.parameters())
            sha = {file: hashlib.sha256(open(os.path.join(folder, file), "rb").read()).hexdigest() for file in FILES}
            folders[name] = {"class": type(model).__name__, "sha256": sha}
            for i, prompt in enumerate(prompts):
                tensors[f"{name}.logits.{i}"] = logits_of(model, prompt).contiguous()
    write_case(folder_of(__file__), tensors, {"made_with": VERSIONS, "prompts": prompts, "folders": folders})
