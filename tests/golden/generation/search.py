"""Greedy and beam search written out plainly, one sequence at a time: what `transformers` 5.23 does, in words that another library can follow.

    scores(ids, generated) -> one score per token: log-probabilities (beams) or logits (greedy), after the processors

Beam search keeps `num_beams` running hypotheses. A step takes the best max(2, 1 + number of end tokens) * num_beams continuations of all of them. Those
among the first `num_beams` that end (end token, or the last allowed token) become finished; the best `num_beams` that do not end run on.

A finished hypothesis has the score  sum of log-probabilities / length ** length_penalty.  `length_norm` says what length is:
  generated   tokens generated, the end token included: transformers today
  total       the prompt's tokens are counted too, as in the library that the 2021 experiments used. (That one left out the end token of a
              hypothesis that ended before the last step; here both norms count it, so that they differ in the prompt only.)
Prefix rows and padding are never counted.

The search stops when no running hypothesis can do better than the worst of `num_beams` finished ones, by the guess that `early_stopping` names:
  True      as soon as there are `num_beams` finished ones
  False     the best running sum is divided by the length reached so far (optimistic for a short, pessimistic for a long continuation)
  "never"   for a positive length_penalty it is divided by the greatest length allowed
"""
UNSET = -1.0e9


def greedy(scores, prompt, end_tokens, max_new_tokens):
    """(generated ids, end token included; smallest gap between the two best scores of a step)."""
    generated, margin = [], float("inf")
    while len(generated) < max_new_tokens:
        s = scores(prompt + generated, len(generated))
        best = max(range(len(s)), key=s.__getitem__)
        margin = min(margin, s[best] - max(v for i, v in enumerate(s) if i != best))
        generated.append(best)
        if best in end_tokens:
            break
    return generated, margin


def beam_search(scores, prompt, end_tokens, num_beams, max_new_tokens, length_penalty=1.0, early_stopping=False, length_norm="generated"):
    """(generated ids of the best hypothesis, its score)."""
    offset = len(prompt) if length_norm == "total" else 0
    keep = max(2, 1 + len(end_tokens)) * num_beams
    running, finished = [(0.0, [])], []  # (sum of log-probabilities, ids); (score, ids), best first
    for step in range(1, max_new_tokens + 1):
        continuations = [(total + s, ids + [token]) for total, ids in running for token, s in enumerate(scores(prompt + ids, step - 1))]
        continuations.sort(key=lambda c: -c[0])
        continuations = continuations[:keep]
        ends = lambda c: c[1][-1] in end_tokens or step == max_new_tokens
        norm = (offset + step) ** length_penalty
        finished += [(c[0] / norm, c[1]) for c in continuations[:num_beams] if ends(c) and c[0] > UNSET]
        finished = sorted(finished, key=lambda f: -f[0])[:num_beams]
        running = [c for c in continuations if not ends(c)][:num_beams]
        full = len(finished) == num_beams
        if not running or (full and early_stopping is True):
            break
        longest = offset + (max_new_tokens if early_stopping == "never" and length_penalty > 0 else step)
        if full and running[0][0] / longest**length_penalty <= finished[-1][0]:
            break
    return finished[0][1], finished[0][0]
