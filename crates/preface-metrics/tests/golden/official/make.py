"""Expected scores of the official tools, on excerpts of real sets, on degenerate and on random text.

Made with: sacrebleu 2.6.0, rouge-score 0.1.2, nltk 3.10.4, numpy 2.4.6, regex 2026.11.15, Unidecode 1.4.0, gem_metrics_fork 0.1.dev0
(PyPI; its impl/pymteval.py is the Python twin of mteval in e2e-metrics), Python 3.11, Perl 5.36.

Usage: make.py SHARED_DATA PERL_FOLDER
  SHARED_DATA   folder with metrics/e2e and metrics/dart (system outputs and references) and the data sets
  PERL_FOLDER   holds multi-bleu.perl (Moses; its last printf with more digits) and mteval_core.pl, a reader of
                tab-separated lines (hypothesis, references) round the subroutines tokenization, compute_ngram_info,
                score_segment, bleu_score and nist_score of e2e-metrics' mteval-v13a-sig.pl, which itself reads SGML.
                Neither is part of this repository.

Writes *.jsonl (segments), *.scores.json, resampling.json, stems.json and ascii.json beside itself. NOTICE.md has the licences.
"""

import csv
import json
import logging
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gem_metrics_fork.impl import pymteval
from nltk.stem.porter import PorterStemmer
from rouge_score import rouge_scorer, tokenize
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest
from unidecode import unidecode

HERE = Path(__file__).parent
DATA, PERL = Path(sys.argv[1]), Path(sys.argv[2])


def columns(references):
    """Reference streams as sacreBLEU wants them, None where a segment has fewer."""
    most = max(map(len, references))
    return [[r[i] if i < len(r) else None for r in references] for i in range(most)]


def sacrebleu_entry(metric, options, tool, segments):
    hypotheses = [s["hypothesis"] for s in segments]
    references = [s["references"] for s in segments]
    return {
        "metric": metric,
        "options": options,
        "within": 1e-6,
        "score": tool.corpus_score(hypotheses, columns(references)).score,
        "signature": str(tool.get_signature()),
        "sentences": [tool.sentence_score(h, r).score for h, r in zip(hypotheses, references)],
    }


def sacrebleu_scores(segments):
    for tokenizer in ["13a", "none", "intl", "char"]:
        options = {"tokenizer": tokenizer}
        yield sacrebleu_entry("bleu", options, BLEU(tokenize=tokenizer), segments)
    for smoothing, value in [("none", None), ("floor", 0.1), ("floor", 0.5), ("add-k", 1), ("add-k", 2)]:
        options = {"smoothing": smoothing} | ({} if value is None else {"smoothing_value": value})
        tool = BLEU(smooth_method=smoothing, smooth_value=value)
        yield sacrebleu_entry("bleu", options, tool, segments)
    yield sacrebleu_entry("bleu", {"lowercase": True}, BLEU(lowercase=True), segments)
    yield sacrebleu_entry("bleu", {"effective_order": True}, BLEU(effective_order=True), segments)
    for words, name in [(0, "chrf"), (2, "chrf++")]:
        for lowercase in [False, True]:
            tool = CHRF(word_order=words, lowercase=lowercase)
            yield sacrebleu_entry(name, {"lowercase": lowercase}, tool, segments)
    yield sacrebleu_entry("ter", {}, TER(), segments)
    tool = BLEU(effective_order=True)
    scores = [tool.sentence_score(s["hypothesis"], s["references"]).score for s in segments]
    yield {"metric": "sentence-bleu", "options": {}, "within": 1e-6, "score": float(np.mean(scores)),
           "sentences": scores}


def rouge_scores(segments):
    for stemmer in [True, False]:
        for choice in ["best", "average"]:
            for types, metric in [(["rouge1", "rouge2", "rougeL"], "rouge"), (["rougeLsum"], "rouge-lsum")]:
                tool = rouge_scorer.RougeScorer(types, use_stemmer=stemmer)
                for name in types:
                    scores = []
                    for s in segments:
                        if choice == "best":
                            scores.append(tool.score_multi(s["references"], s["hypothesis"])[name].fmeasure)
                        else:
                            each = [tool.score(r, s["hypothesis"])[name].fmeasure for r in s["references"]]
                            scores.append(float(np.mean(each)))
                    yield {"metric": metric, "name": name, "within": 1e-6,
                           "options": {"stemmer": stemmer, "references": choice},
                           "score": float(np.mean(scores)), "sentences": scores}


def twin_scores(segments):
    for name, tool in [("e2e-bleu", pymteval.BLEUScore()), ("e2e-nist", pymteval.NISTScore())]:
        for s in segments:
            tool.append(s["hypothesis"], s["references"])
        yield {"metric": name, "options": {}, "within": 1e-6, "score": tool.score()}


def perl_scores(segments):
    line = lambda text: re.sub(r"[\t\n\r]", " ", text)
    rows = ["\t".join([line(s["hypothesis"])] + [line(r) for r in s["references"]]) for s in segments]
    out = subprocess.run(["perl", str(PERL / "mteval_core.pl")], input="\n".join(rows) + "\n", text=True,
                         capture_output=True, check=True).stdout
    for name, score in zip(["mteval-bleu", "mteval-nist"], out.split()):
        yield {"metric": name, "options": {}, "within": 1e-6, "score": float(score)}
    # multi-bleu reads as many references for every segment: the first ones, as many as all segments have.
    common = min(len(s["references"]) for s in segments)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(common):
            text = "".join(line(s["references"][i]) + "\n" for s in segments)
            Path(folder, f"ref{i}").write_text(text)
        hypotheses = "".join(line(s["hypothesis"]) + "\n" for s in segments)
        out = subprocess.run(["perl", str(PERL / "multi-bleu.perl"), "-lc", f"{folder}/ref"], input=hypotheses,
                             text=True, capture_output=True).stdout
    yield {"metric": "multi-bleu", "options": {}, "within": 1e-6, "first_references": common,
           "score": float(re.match(r"BLEU = ([0-9.]+)", out).group(1))}


def write_set(name, segments, twin=True):
    with open(HERE / f"{name}.jsonl", "w") as file:
        for s in segments:
            file.write(json.dumps(s, ensure_ascii=False) + "\n")
    scores = [*sacrebleu_scores(segments), *rouge_scores(segments), *perl_scores(segments)]
    scores += twin_scores(segments) if twin else []
    (HERE / f"{name}.scores.json").write_text(json.dumps(scores, indent=0, ensure_ascii=False) + "\n")


def e2e_excerpt():
    rows = list(csv.reader(open(DATA / "metrics/e2e/testset_w_refs.csv", encoding="utf-8")))[1:]
    references = {}
    for meaning, text in rows:
        references.setdefault(meaning, []).append(text)
    def output(system):
        lines = (DATA / f"metrics/e2e/primary/{system}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        return {m.strip('"'): t.strip('"') for m, t in (line.split("\t") for line in lines)}
    tgen, zhaw = output("tgen"), output("zhaw2")
    meanings = list(references)[::6][:100]
    return [{"hypothesis": tgen[m], "other": zhaw[m], "references": references[m]} for m in meanings]


def dart_excerpt():
    folder = DATA / "metrics/dart"
    lines = lambda name: (folder / name).read_text(encoding="utf-8").splitlines()
    hypotheses, files = lines("bart-large.hyp.txt"), [lines(f"ref{i}.txt") for i in range(3)]
    picked = range(0, len(hypotheses), 51)
    return [{"hypothesis": hypotheses[i], "references": [f[i] for f in files if f[i]]} for i in list(picked)[:100]]


DEGENERATE = [
    ("", ["a reference of five words"]),
    ("an output", [""]),
    ("", [""]),
    ("word", ["word"]),
    ("word", ["other", "word"]),
    ("...", ["..."]),
    ("?!", [". , ;", "?!"]),
    ("   ", ["a b"]),
    ("猫が座った。", ["猫が座っていた。", "犬が走った。"]),
    ("القط على السجادة.", ["القط فوق السجادة."]),
    ("the the the the the the the", ["the cat is on the mat"]),
    ("a b c d", ["d c b a"]),
    ("0 1 0 1", ["0 1 1 0 0"]),
    ("&quot;A &amp; B&quot; &lt;i&gt;", ["\"A & B\" <i>"]),
    ("line one\nline two", ["line two\nline one", "line-\nbreak"]),
]

PIECES = ("the a of in is was Alimentum pub café naïve 1,000.5 3.14 18L/36R 5-star well-known U.S. e.g. don't it's "
          "(high) \"quoted\" 'single' £20 €5 $3 50% C++ a_b x=y <skipped> &amp; &quot; - -- … – ’s « » 日本語 猫。 "
          "İstanbul ΣΑΣ Straße ﬁre é e\u0301 ١٢٣ ½ № 😀 \u00a0 \u2003 \u200b \u1680x 0 00 . , ; ... ?! yyyy "
          "ponies relational generalization happily agreed controlling news dying skies").split(" ")


def random_text(rng, pieces, longest):
    return " ".join(rng.choice(pieces) for _ in range(rng.randint(1, longest)))


def changed(rng, text, pieces):
    words = text.split(" ")
    for _ in range(rng.randint(0, 5)):
        kind, at = rng.randrange(4), rng.randrange(len(words) + 1)
        if kind == 0:
            words.insert(at, rng.choice(pieces))
        elif kind == 1:
            words[at:at + 1] = []
        elif kind == 2 and len(words) > 3:
            size = rng.randint(1, 4)
            block, words[at:at + size] = words[at:at + size], []
            to = rng.randrange(len(words) + 1)
            words[to:to] = block
        else:
            words[at:at + 1] = [rng.choice(pieces)]
        words = words or ["x"]
    return (rng.choice([" ", " ", " ", "  ", "\n"])).join(words)


def random_segments(seed):
    rng = random.Random(seed)
    segments = []
    for i in range(100):
        # Half of the texts have few words, so that shifts and repeated n-grams abound.
        pieces = PIECES if i % 2 else rng.sample(["a", "b", "c", "d", "e", "f", "g", "."], rng.randint(2, 8))
        reference = random_text(rng, pieces, 40)
        references = [reference] + [changed(rng, reference, pieces) for _ in range(rng.randint(0, 3))]
        segments.append({"hypothesis": changed(rng, rng.choice(references), pieces), "references": references})
    return segments


def long_segments(seed):
    """Texts beyond TER's limits: block length, distance, number of shifts, and steep diagonals."""
    rng = random.Random(seed)
    segments = []
    for words, length in [(8, 120), (60, 160), (400, 300), (3, 70)]:
        pieces = [f"w{i}" for i in range(words)]
        reference = [rng.choice(pieces) for _ in range(length)]
        hypothesis = list(reference)
        for _ in range(6):
            size = rng.randint(1, 14)
            at = rng.randrange(len(hypothesis) - size)
            block, hypothesis[at:at + size] = hypothesis[at:at + size], []
            to = rng.randrange(len(hypothesis))
            hypothesis[to:to] = block
        segments.append({"hypothesis": " ".join(hypothesis), "references": [" ".join(reference)]})
        segments.append({"hypothesis": " ".join(hypothesis[:3]), "references": [" ".join(reference)]})
        segments.append({"hypothesis": " ".join(hypothesis), "references": [" ".join(reference[-4:])]})
    return segments


def resampling(segments):
    ours, theirs = [s["hypothesis"] for s in segments], [s["other"] for s in segments]
    references = columns([s["references"] for s in segments])
    out = []
    tools = {"bleu": BLEU(), "chrf": CHRF(), "ter": TER()}
    for name, tool in tools.items():
        score = tool.corpus_score(ours, references, n_bootstrap=1000)
        out.append({"kind": "bootstrap", "metric": name, "mean": float(score._mean), "half_width": float(score._ci),
                    "signature": str(tool.get_signature())})
    for kind, samples in [("bs", 1000), ("ar", 1000)]:
        test = PairedTest([("tgen", ours), ("zhaw2", theirs)], {n: t for n, t in tools.items()}, references,
                          test_type=kind, n_samples=samples)
        columns_of_scores = list(test()[1].values())[1:]  # the first names the systems
        for name, column in zip(tools, columns_of_scores, strict=True):
            out.append({"kind": kind, "metric": name, "samples": samples, "p_value": float(column[1].p_value)})
    # A close pair: tgen against itself with every fifth output taken from the other system.
    mixed = [b if i % 5 == 0 else a for i, (a, b) in enumerate(zip(ours, theirs))]
    for kind, samples in [("bs", 1000), ("ar", 1000)]:
        test = PairedTest([("tgen", ours), ("mixed", mixed)], {n: t for n, t in tools.items()}, references,
                          test_type=kind, n_samples=samples)
        columns_of_scores = list(test()[1].values())[1:]
        for name, column in zip(tools, columns_of_scores, strict=True):
            out.append({"kind": kind, "metric": name, "samples": samples, "close": True,
                        "p_value": float(column[1].p_value)})
    (HERE / "resampling.json").write_text(json.dumps(out, indent=0) + "\n")


def stems():
    words = set()
    for split in ["xsum-mini/train", "scitldr/dev"]:
        for line in open(DATA / f"{split}.jsonl", encoding="utf-8"):
            words.update(tokenize.tokenize(json.loads(line)["document"], None))
    rng = random.Random(1)
    suffixes = ("s es ies sses ss ed eed ied ing y ational tional enci anci izer bli alli entli eli ousli ization ation "
                "ator alism iveness fulness ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful "
                "ness al ance ence er ic able ible ant ement ment ent ion sion tion ou ism ate iti ous ive ize e ll").split()
    made = {"".join(rng.choice("abeioytlszwx") for _ in range(rng.randint(0, 6))) + rng.choice(suffixes)
            for _ in range(1500)}
    real = rng.sample(sorted(w for w in words if len(w) > 3), 2500)
    stem = PorterStemmer().stem
    (HERE / "stems.json").write_text(json.dumps({w: stem(w) for w in sorted({*real, *made})}, indent=0) + "\n")


def ascii_texts():
    """All characters beyond ASCII that the data sets hold, as Unidecode 1.4.0 writes them."""
    found = set()
    for path in sorted(DATA.glob("**/*")):
        if path.suffix == ".jsonl":
            for line in open(path, encoding="utf-8"):
                found.update(json.dumps(json.loads(line), ensure_ascii=False))
        elif path.suffix in [".txt", ".csv", ".tsv"]:
            found.update(path.read_text(encoding="utf-8"))
    texts = {c: unidecode(c) for c in sorted(found) if ord(c) > 127}
    (HERE / "ascii.json").write_text(json.dumps(texts, indent=0, ensure_ascii=False) + "\n")


logging.getLogger("sacrebleu").setLevel(logging.ERROR)
e2e = e2e_excerpt()
write_set("e2e", e2e)
write_set("dart", dart_excerpt())
write_set("degenerate", [{"hypothesis": h, "references": r} for h, r in DEGENERATE])
write_set("random", random_segments(20261124))
write_set("long", long_segments(7))
resampling(e2e)
stems()
ascii_texts()
