"""Makes ptb.txt, ptb.tokens and scores.json in this folder.

Needs pycocoevalcap 1.2 (`pip install --no-deps pycocoevalcap==1.2`), numpy 2.x and Java (OpenJDK 17 was used). The texts
that are scored lie in ../official, with their notice; ptb.txt is drawn here from a list of our own.

    python make.py
"""

import json
import pathlib
import random
import re
import subprocess

from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer import ptbtokenizer

HERE = pathlib.Path(__file__).parent
CORENLP = pathlib.Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR

PIECES = r"""
Inc. Mr. No. no.5 Fig. fig.3 pty. ltd co. limited U.S. U.S The A He I. Z. cannot can't don't DON'T gonna 'twas 'tis y'all
y'know O'o l'eau d'Avignon it's he'll we've &apos;s &quot; &amp; AT&amp;T AT&T S&P-500 <a> <b x='y'> </c> <br/> <!--x-->
<1 > >> << &lt; &gt; :-) :) =D ;P (^_^) <.[^x=<>] http://a.b/c*d www.x.org/y foo.com x@y.z @bob #tag 1/2 20-30 1,000.5
12:30 +44 (212) 555-1234 020.7946.0958 3/4/2011 ½ ⅓ ⅔ ¼ ¾ ⅛ £20 €5 ¢ ¥ $5 US$5 ... .... ...... . -- --- ---- ----- – —
' " `` '' ` ‘a’ “b” «c» ‹d› ‚ „ ’90s '90s '95 90 a.m. p.m. e.g. D.C., x.h, a.txt file.tar.gz b.java! c++ C# f# naïve São
東京 日本語 😀 a😀b é à\u00adb soft\u00adhyphen \u00ad [x] {y} (z) / \ \/ \* * ** *** @@ ## __ ~ ^ | = == % & + ¡ ¿ ? ! ?! a!b a?b
C.D.s pro-am anti-war Cap'n c'est nor'easter &nbsp; &ndash; &mdash; &MD; &#123; &eacute;t&eacute; -LRB- -RRB- x-y-z A.B.-C.
u.k. non-U.S. n't n`t 're 's 'd'a 'em ol' Dunkin' Jr. Sr. Rd. Blvd. Ave. St. ab\u200bc \ufeff \u00a0 \u3000 \u2009 \x7f \x01 ١٢ ٣/٤
Ⅰ ǅ İstanbul ſ K restaurant cheap near riverside
"""


def ptb_text():
    draw = random.Random(7)
    pieces = [re.sub(r"\\[ux]([0-9a-f]{4}|[0-9a-f]{2})", lambda found: chr(int(found[1], 16)), piece) for piece in PIECES.split()]
    pieces += ["5 7/8"]
    lines = []
    for _ in range(400):
        line = ""
        for _ in range(draw.randint(0, 9)):
            line += draw.choice(pieces)
            chance = draw.random()
            if chance < 0.6:
                line += " "
            elif chance > 0.85:
                line += draw.choice([",", ".", ".", "'", '"', ")", "(", "  ", ";", "-", "!", "\t", "The", "a", "5"])
        lines.append(line)
    return lines


def make_ptb():
    (HERE / "ptb.txt").write_text("\n".join(ptb_text()) + "\n", encoding="utf-8", newline="\n")
    command = ["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", CORENLP,
               "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", HERE / "ptb.txt"]
    tokens = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    (HERE / "ptb.tokens").write_bytes(tokens)


def make_scores():
    scores = {}
    for name in ["e2e", "dart", "degenerate"]:
        records = [json.loads(line) for line in (HERE.parent / "official" / f"{name}.jsonl").open(encoding="utf-8")]
        hypotheses = {i: [{"caption": record["hypothesis"]}] for i, record in enumerate(records)}
        references = {i: [{"caption": text} for text in record["references"]] for i, record in enumerate(records)}
        tokenizer = ptbtokenizer.PTBTokenizer()
        hypotheses, references = tokenizer.tokenize(hypotheses), tokenizer.tokenize(references)
        for metric, scorer in [("coco-rouge-l", Rouge()), ("cider", Cider()), ("meteor", Meteor())]:
            score, sentences = scorer.compute_score(references, hypotheses)
            scores.setdefault(name, {})[metric] = {"score": float(score), "sentences": [float(s) for s in sentences]}
    (HERE / "scores.json").write_text(json.dumps(scores, indent=0) + "\n")


make_ptb()
make_scores()
