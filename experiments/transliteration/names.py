"""Arabic names and words: 101 roots in 12 patterns, parted by root into train, valid and test; to train, also roots drawn
from the letters.

    python names.py OUT        writes OUT/{train,valid,test}.names.jsonl: {"prompt": WORD}, no root in two parts

Which root goes where is drawn with a fixed seed. The words are regular formations (faa'il, fa'iil, maf'uul, ...), not all of them in use as names;
those of drawn roots are letters that could be one.
"""
import json
import os
import random
import sys

ROOTS = """كتب درس علم حمد سلم نصر فتح جمل حسن كرم شكر صبر ظهر عرف غفر فهم قدر لطف مجد نجح وهب يسر بشر ثبت جلس حفظ خلد دخل ذكر رحم زهر سعد شرف صدق
ضحك طلب عبد غلب فرح قمر كمل لبس منع نظر هدم وصل جبر حكم خطب رزق زرع سكن شغل صنع ضرب طهر عدل غرب فضل قبل كشف لمس مثل نبل هلك وجد بصر تجر جهد حرث خدم
رفع زحم سجد شعر صلح طبخ عزم غسل فحص قسم كفل لحم مسح نشر هجر وعد بحث جمع حلم خلق ركب سمع شهد صرف طرق عمل غرس فصل قطع كسر""".split()
# 1, 2, 3 stand for the letters of the root.
PATTERNS = ["1ا23", "12ي3", "م12و3", "12ا3", "123ان", "أ123", "م1ا23", "1ا23ة", "12ي3ة", "ت12ي3", "123ي", "1و23"]
SHARES = {"train": 71, "valid": 8, "test": 22}
LETTERS = "بتثجحخدذرزسشصضطظعغفقكلمنهوي"
N_DRAWN = 400


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    roots = sorted(set(ROOTS))
    assert len(roots) == sum(SHARES.values()), len(roots)
    generator = random.Random(1)
    generator.shuffle(roots)
    drawn = ["".join(generator.sample(LETTERS, 3)) for _ in range(N_DRAWN)]
    drawn = [root for root in dict.fromkeys(drawn) if root not in roots]
    known, start = set(), 0
    for part, n in SHARES.items():
        own = roots[start : start + n] + (drawn if part == "train" else [])
        words = [p.replace("1", r[0]).replace("2", r[1]).replace("3", r[2]) for r in own for p in PATTERNS]
        start += n
        words = [w for w in dict.fromkeys(words) if w not in known]
        known |= set(words)
        with open(os.path.join(out, f"{part}.names.jsonl"), "w") as f:
            f.writelines(json.dumps({"prompt": w}, ensure_ascii=False) + "\n" for w in words)
        print(part, len(words))


main()
