"""A loop with a common fault of published code: rewards are divided by 0.1 before the softmax.

    python examples/faulty_loop.py
    recurate audit faulty.parquet --declared "k = 4, temperature = 1, picks = 5000"

The audit compares the declared rule, Luce's choice at temperature 1, with the rule that the log shows.
"""

import numpy as np

from recurate import PickLogger

rng = np.random.default_rng(0)
pool = rng.normal(size=5000)  # the training data of the "model"
with PickLogger("faulty.parquet") as log:
    for t in range(4):
        rewards = pool[rng.integers(pool.size, size=(5000, 4))] + 0.1 * rng.normal(size=(5000, 4))
        odds = np.exp((rewards - rewards.max(axis=1, keepdims=True)) / 0.1)  # the fault
        chances = odds / odds.sum(axis=1, keepdims=True)
        picked = (chances.cumsum(axis=1) < rng.random((5000, 1))).sum(axis=1)
        for slate, pick in zip(rewards, picked, strict=True):
            log.slate(slate.tolist(), picked=int(pick), round=t)
        pool = rewards[np.arange(5000), picked]  # "retraining"
