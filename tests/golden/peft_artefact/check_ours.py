"""Loads an artefact of ours with PEFT and records, or compares, the logits that PEFT computes with it.

usage: check_ours.py MODEL ADAPTER CASE          CASE = path without ending; CASE.json has "prompts": lists of token ids
       check_ours.py MODEL ADAPTER CASE --write [--prompts '[[5, 6, 7], [8]]']

--write makes CASE.json and CASE.safetensors (`logits.<i>`, [len, vocab], f32), to be committed beside the artefact: our reader and model must then give the
same. Without it the recorded logits are compared with what PEFT computes now; exit code 1 if they differ by more than 1e-5 of their root mean square.
"""
import argparse
import json
import os
import sys

import peft
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from adapters import load_folder
from common import VERSIONS, relative, write_case
from safetensors.torch import load_file


def peft_logits(model_folder, adapter_folder, prompts):
    bare = load_folder(model_folder)
    model = peft.PeftModel.from_pretrained(load_folder(model_folder), adapter_folder).eval()
    logits = {}
    with torch.no_grad():
        for i, prompt in enumerate(prompts):
            ids = torch.tensor([prompt])
            logits[f"logits.{i}"] = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
            assert relative(bare(input_ids=ids).logits[0], logits[f"logits.{i}"]) > 1e-3, "the adapter changes nothing: was it loaded?"
    return logits


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("adapter")
    parser.add_argument("case")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--prompts", type=json.loads)
    args = parser.parse_args()
    prompts = args.prompts
    if prompts is None:
        with open(args.case + ".json") as f:
            prompts = json.load(f)["prompts"]
    logits = peft_logits(args.model, args.adapter, prompts)
    if args.write:
        versions = VERSIONS | {"peft": peft.__version__}
        write_case(os.path.dirname(os.path.abspath(args.case)), logits, {"made_with": versions, "prompts": prompts}, os.path.basename(args.case))
        return 0
    recorded = load_file(args.case + ".safetensors")
    worst = max(relative(logits[name], recorded[name]) for name in logits)
    print(f"{len(prompts)} prompts, largest difference {worst:.1e} of the root mean square")
    return 0 if worst < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
