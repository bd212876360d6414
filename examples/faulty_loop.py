"""A loop with a fault that is common in published code: rewards are divided by 0.1 before the softmax.

    python examples/faulty_loop.py
    recurate audit faulty.parquet --declared "k = 4, temperature = 1, picks = 5000"

The script declares Luce's choice at temperature 1, and its log shows what it does.
"""

import numpy as np

from recurate import PickLogger

rng = np.random.default_rng(0)
pool = rng.normal(size=5000)  # what the "model" was trained on
with PickLogger("faulty.parquet") as log:
    for t in range(4):
        rewards = pool[rng.integers(pool.size, size=(5000, 4))] + 0.1 * rng.normal(size=(5000, 4))
        odds = np.exp((rewards - rewards.max(axis=1, keepdims=True)) / 0.1)  # the fault
        chances = odds / odds.sum(axis=1, keepdims=True)
        picked = (chances.cumsum(axis=1) < rng.random((5000, 1))).sum(axis=1)
        for slate, pick in zip(rewards, picked, strict=True):
            log.slate(slate.tolist(), picked=int(pick), round=t)
        pool = rewards[np.arange(5000), picked]  # "retraining"
