"""Logs of simulated loops, honest ones and ones with a planted fault, for the tests of the audit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def loop_log(
    rng: np.random.Generator,
    *,
    k: int = 4,
    slates: int = 1000,
    rounds: int = 4,
    temperature: float = 1.0,
    noise: str = "gumbel",
    lapse: float = 0.0,
    ties: int | None = None,
    contexts: int = 0,
    spread: float = 1.0,
    fault: str | None = None,
) -> pa.Table:
    """Return the log of a loop on numbers: candidates are the picks' law plus a little noise.

    Args:
        rng: of everything.
        k, slates, rounds, temperature, noise, lapse: of the loop.
        ties: how many levels rewards are rounded to, or None.
        contexts: how many prompts, each with a level of its own; 0: one.
        spread: standard deviation of the first round's rewards.
        fault: one of the six, or None.
    """
    context_of = rng.integers(0, contexts, slates) if contexts else np.zeros(slates, int)
    level = rng.normal(0, 2, contexts) if contexts else np.zeros(1)
    frozen_base = rng.standard_normal((slates, k))
    frozen_noise = rng.gumbel(size=(slates, k))
    pool = rng.normal(0, spread, 4000)
    columns: dict[str, list[np.ndarray]] = {
        n: [] for n in ("round", "slate", "slot", "context", "reward", "picked")
    }
    for t in range(rounds):
        base = frozen_base if fault == "seeds" else rng.standard_normal((slates, k))
        if fault == "seeds":
            # The same latents decoded by this round's model: quantiles of the pool.
            order = np.sort(pool)
            u = np.clip((np.argsort(np.argsort(base.ravel())) + 0.5) / base.size, 0, 1)
            rewards = order[(u * order.size).astype(int)].reshape(slates, k)
        else:
            rewards = pool[rng.integers(0, pool.size, (slates, k))] + 0.1 * spread * base
        rewards = rewards + level[context_of][:, None]
        if ties is not None:
            rewards = np.round(rewards * ties / (4 * spread)) * (4 * spread) / ties
        scale = 0.1 * temperature if fault == "divided" else temperature
        draws = {
            "gumbel": lambda: frozen_noise if fault == "seeds" else rng.gumbel(size=(slates, k)),
            "gaussian": lambda: rng.standard_normal((slates, k)),
            "none": lambda: np.zeros((slates, k)),
        }
        kind = "none" if fault == "argmax" else noise
        noisy = rewards / scale + draws[kind]()
        if kind == "none":
            noisy = np.where(noisy == noisy.max(axis=1, keepdims=True), rng.random((slates, k)) + 1.0, 0.0)
        choice = noisy.argmax(axis=1)
        lapsed = rng.random(slates) < lapse
        choice = np.where(lapsed, rng.integers(0, k, slates), choice)
        picked = np.zeros((slates, k), bool)
        picked[np.arange(slates), choice] = True
        if fault == "top half":
            picked = rewards >= np.median(rewards)
        if fault == "half kept":
            picked[slates // 2 :] = False
        kept = (rewards - level[context_of][:, None])[picked]
        logged = rewards
        if fault == "second draw":
            logged = pool[rng.integers(0, pool.size, (slates, k))] + 0.1 * spread * rng.standard_normal(
                (slates, k)
            )
            logged = logged + level[context_of][:, None]
        shape = (slates, k)
        for name, values in (
            ("round", np.full(shape, t)),
            ("slate", np.arange(slates)[:, None].repeat(k, 1)),
            ("slot", np.arange(k)[None, :].repeat(slates, 0)),
            ("context", context_of[:, None].repeat(k, 1)),
            ("reward", logged),
            ("picked", picked),
        ):
            columns[name].append(values.ravel())
        pool = kept[rng.integers(0, kept.size, 4000)]
    table = {name: np.concatenate(values) for name, values in columns.items()}
    table["context"] = table["context"].astype(str)
    return pa.table(table)


def honest_settings(rng: np.random.Generator) -> dict:
    """Draw the settings of an honest loop: varied K, temperature, ties, contexts, noise."""
    noise = str(rng.choice(["gumbel", "gumbel", "gumbel", "gaussian", "none"]))
    lapse = float(rng.choice([0.0, 0.0, 0.0, 0.1])) if noise != "gaussian" else 0.0
    return {
        "k": int(rng.choice([2, 3, 4, 8])),
        "slates": int(rng.choice([100, 300, 1000])),
        "rounds": int(rng.choice([1, 2, 4])),
        "temperature": float(rng.choice([0.2, 0.5, 1.0, 3.0])),
        "noise": noise,
        "lapse": lapse,
        "ties": [None, None, 3, 10][int(rng.integers(4))],
        "contexts": int(rng.choice([0, 0, 5, 60])),
        "spread": float(rng.choice([0.5, 1.0, 3.0])),
    }


def declaration(settings: dict) -> dict:
    """Return what such a loop declares."""
    keys = ("k", "temperature", "noise", "lapse", "slates")
    return {key: settings[key] for key in keys} | {"picks": settings["slates"]}
