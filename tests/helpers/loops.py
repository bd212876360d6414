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


# --- further faults -------------------------------------------------------------------------------

KEPT_NUMBERS = 4000  # of a model's memory: what it draws from


def odd_log(
    rng: np.random.Generator,
    fault: str,
    *,
    k: int = 4,
    slates: int = 1000,
    rounds: int = 4,
    temperature: float = 1.0,
) -> pa.Table:
    """Return the log of a loop that claims Luce choice at ``temperature`` and does something else.

    Faults: ``wrong k`` (one slate in twenty is one short), ``position`` (odds of e^0.3 for the first place),
    ``lapses`` (a tenth), ``thurstone``, ``pool softmax`` (without replacement), ``uniform``, ``threshold``
    (0.5), ``keep 2``, ``worst``, ``sign``, ``annealed``, ``one noise a round`` (the same Gumbel vector for
    all slates), ``noise repeated`` (of the picks, every round; candidates are fresh), ``texts repeated`` (a
    fifth, in the same places), ``weights`` (0.8 and 0.2 in place of 0.5 and 0.5), ``divided, two rewards``,
    ``propensities sharper`` than picks are flat, ``propensities rolled`` by one slot, ``double pick``.
    """
    pool = rng.normal(size=(KEPT_NUMBERS, 2))
    frozen = rng.gumbel(size=(slates, k))
    words = rng.integers(0, 10**6, (slates, k))
    rows = _Rows()
    for t in range(rounds):
        seen = pool[rng.integers(0, KEPT_NUMBERS, (slates, k))] + 0.1 * rng.standard_normal((slates, k, 2))
        worth = seen[..., 0]
        noise = rng.gumbel(size=(slates, k))
        u = worth / temperature
        extra: dict[str, np.ndarray] = {}
        shown = np.ones((slates, k), bool)
        if fault == "wrong k":
            shown[rng.random(slates) < 0.05, -1] = False
        elif fault == "position":
            u = u + 0.3 * (np.arange(k) == 0)
        elif fault in ("lapses", "uniform"):
            u = np.where((rng.random(slates) < (1 if fault == "uniform" else 0.1))[:, None], 0.0, u)
        elif fault == "thurstone":
            noise = rng.standard_normal((slates, k))
        elif fault in ("worst", "sign"):
            u = -u * (1e6 if fault == "worst" else 1)
        elif fault == "annealed":
            u = u / (1.0, 0.8, 0.6, 0.4)[t % 4]
        elif fault == "one noise a round":
            noise = rng.gumbel(size=(1, k)).repeat(slates, 0)
        elif fault == "noise repeated":
            noise = frozen
        elif fault == "texts repeated":
            words = np.where(rng.random((slates, k)) < 0.2, words, rng.integers(0, 10**6, (slates, k)))
            extra["item"] = np.char.add("text ", words.astype(str))
        elif fault in ("weights", "divided, two rewards"):
            first = rng.random((slates, 1)) < (0.8 if fault == "weights" else 0.5)
            u = np.where(first, worth, seen[..., 1]) / temperature * (1 if fault == "weights" else 10)
            extra["reward_b"] = seen[..., 1]
        elif fault.startswith("propensities"):
            p = np.exp(u * (2 if fault == "propensities sharper" else 1))
            p = p / p.sum(axis=1, keepdims=True)
            extra["propensity"] = np.roll(p, 1, axis=1) if fault == "propensities rolled" else p
        noisy = np.where(shown, u + noise, -np.inf)
        picked = noisy == noisy.max(axis=1, keepdims=True)
        if fault == "pool softmax":
            picked = noisy >= np.sort(noisy.ravel())[-slates]
        elif fault == "threshold":
            picked = worth >= 0.5
        elif fault == "keep 2":
            picked = noisy >= np.sort(noisy, axis=1)[:, [-2]]
        elif fault == "double pick" and t == 0:
            picked[7] |= noisy[7] == np.sort(noisy[7])[-2]
        rows.add(t, shown, reward=worth, picked=picked, **extra)
        kept = seen[picked]
        pool = kept[rng.integers(0, len(kept), KEPT_NUMBERS)]
    return rows.table()


class _Rows:
    """Collects tables (slates, k) of a round, one row for each candidate that is shown."""

    def __init__(self) -> None:
        self.parts: dict[str, list[np.ndarray]] = {}

    def add(self, t: int, shown: np.ndarray, **columns: np.ndarray) -> None:
        slates, k = shown.shape
        own = {
            "round": np.full((slates, k), t),
            "slate": np.arange(slates)[:, None].repeat(k, axis=1),
            "slot": np.arange(k)[None].repeat(slates, axis=0),
        }
        for name, values in (own | columns).items():
            self.parts.setdefault(name, []).append(values[shown])

    def table(self, real: dict[str, np.ndarray] | None = None) -> pa.Table:
        """Return all rows, real data (which belong to no slate) last."""
        columns = {name: np.concatenate(parts) for name, parts in self.parts.items()}
        table = pa.table(columns | {"source": np.full(columns["round"].size, "model")})
        if real is None:
            return table
        count = next(iter(real.values())).size
        own = {
            "source": np.full(count, "real"),
            "round": np.zeros(count, int),
            "picked": np.zeros(count, bool),
        }
        return pa.concat_tables([table, pa.table(real | own)], promote_options="permissive")


# --- honest loops of all kinds --------------------------------------------------------------------


def varied_settings(rng: np.random.Generator) -> dict:
    """Draw the settings of an honest loop that is unlike those of :func:`honest_settings`."""

    def one_of(*values):
        return values[int(rng.integers(len(values)))]

    settings = {
        "k": one_of(2, 3, 4, 8),
        "slates": one_of(100, 300, 1000),
        "rounds": one_of(1, 2, 4),
        "temperature": one_of(0.2, 0.5, 1.0, 3.0),
        "noise": one_of("gumbel", "gumbel", "gumbel", "gaussian", "none"),
        "lapse": one_of(0.0, 0.0, 0.0, 0.1),
        "order": one_of("as drawn", "shuffled"),
        "heavy": one_of(False, True),
        "real_fraction": one_of(0.0, 0.0, 0.25, 0.5),
        "weights": one_of(None, None, None, (0.7, 0.3)),
        "selection": one_of("slates", "slates", "slates", "keep 2", "top"),
        "words": one_of(0, 0, 0, 30),
        "contexts": one_of(0, 0, 5, 60),
        "slot 0": one_of(None, None, "another law"),
        "unequal": one_of(False, False, False, True),
    }
    if settings["selection"] != "slates" or settings["weights"]:
        settings["lapse"] = 0.0
    if settings["selection"] == "keep 2":
        settings |= {"k": max(settings["k"], 3), "noise": one_of("gumbel", "none"), "weights": None}
    if settings["selection"] == "top":
        settings |= {"noise": "none", "weights": None}
    if settings["weights"]:
        settings["noise"] = "gumbel"
    if settings["noise"] == "gaussian":
        settings["lapse"] = 0.0
    if settings["words"]:
        settings["slot 0"] = None  # see tests/verbs/audit/test_audit.py
    return settings


PLAIN = {
    "k": 4, "slates": 1000, "rounds": 4, "temperature": 1.0, "noise": "gumbel", "lapse": 0.0,
    "order": "as drawn", "heavy": False, "real_fraction": 0.0, "weights": None, "selection": "slates",
    "words": 0, "contexts": 0, "slot 0": None, "unequal": False,
}  # fmt: skip


def varied_log(rng: np.random.Generator, settings: dict) -> pa.Table:
    """Return the log of an honest loop with real data, texts, contexts, several rewards, odd slots.

    Contexts are in the same order every round; each has a level and a scale of its own. Slots may be shuffled
    or sorted by the first reward; slot 0 may be filled by a generator with ``another law``, or with ``one
    answer`` a context that stays the same in all rounds, as a greedy one's does.
    """
    s = settings
    k, slates, m = s["k"], s["slates"], 2 if s["weights"] else 1
    context = rng.integers(0, s["contexts"], slates) if s["contexts"] else np.zeros(slates, int)
    count = max(s["contexts"], 1)
    level = rng.normal(0, 2, count) if s["contexts"] else np.zeros(1)
    scale = rng.uniform(0.5, 2, count) if s["contexts"] else np.ones(1)

    def draw(n: int) -> np.ndarray:
        return rng.standard_t(3, (n, m)) if s["heavy"] else rng.normal(size=(n, m))

    def rewards(worth: np.ndarray, where: np.ndarray) -> np.ndarray:
        return worth * scale[where][..., None] + level[where][..., None]

    dictionary = draw(s["words"]) if s["words"] else None
    real = rng.integers(0, s["words"], 500) if s["words"] else draw(500)
    pool = rng.integers(0, s["words"], KEPT_NUMBERS) if s["words"] else draw(KEPT_NUMBERS)
    answers = draw(count)
    where_real = context[rng.integers(0, slates, 500)]
    where_real[:count] = np.unique(context)[np.arange(min(count, 500)) % np.unique(context).size]
    rows = _Rows()
    for t in range(s["rounds"]):
        drawn = pool[rng.integers(0, KEPT_NUMBERS, (slates, k))]
        worth = drawn + 0.1 * rng.normal(size=(slates, k, m)) if dictionary is None else dictionary[drawn]
        if s["slot 0"] is not None:
            own = 0.5 + 0.3 * rng.normal(size=(slates, m))
            worth[:, 0] = own if s["slot 0"] == "another law" else answers[context]
            if dictionary is not None:
                fresh = 10**6 + t * slates + np.arange(slates)
                drawn[:, 0] = fresh if s["slot 0"] == "another law" else 10**6 + context
        r = rewards(worth, context[:, None].repeat(k, axis=1))
        shown = np.ones((slates, k), bool)
        if s["unequal"] and k > 2:
            shown = (
                np.arange(k) < rng.integers(3 if s["selection"] == "keep 2" else 2, k + 1, slates)[:, None]
            )
        judge = (rng.random(slates) >= s["weights"][0]).astype(int) if m == 2 else np.zeros(slates, int)
        picked = _honest_picks(rng, r[np.arange(slates), :, judge], shown, s)
        if s["order"] == "sorted":
            order = np.argsort(np.where(shown, -r[..., 0], np.inf), axis=1, kind="stable")
        else:
            order = rng.permuted(np.arange(k)[None].repeat(slates, 0), axis=1)
            order = order if s["order"] == "shuffled" and not s["unequal"] else np.arange(k)[None]
        line = np.arange(slates)[:, None]
        columns = {"context": context[:, None].repeat(k, 1).astype(str), "picked": picked[line, order]}
        columns |= {name: r[..., i][line, order] for i, name in enumerate(("reward_a", "reward_b")[:m])}
        if dictionary is not None:
            columns["item"] = np.char.add("text ", drawn.astype(str))[line, order]
        rows.add(t, shown, **columns)
        kept = drawn[picked & (drawn < 10**6)] if dictionary is not None else worth[picked]
        kept = kept if len(kept) else pool
        part = round(KEPT_NUMBERS * s["real_fraction"])
        again = [kept[rng.integers(0, len(kept), KEPT_NUMBERS - part)], real[rng.integers(0, 500, part)]]
        pool = np.concatenate(again)
    if not s["real_fraction"]:
        return rows.table()
    r = rewards(real if dictionary is None else dictionary[real], where_real)
    columns = {"context": where_real.astype(str)}
    columns |= {name: r[:, i] for i, name in enumerate(("reward_a", "reward_b")[:m])}
    if dictionary is not None:
        columns["item"] = np.full(500, "a real text")
    return rows.table(columns)


def _honest_picks(rng: np.random.Generator, r: np.ndarray, shown: np.ndarray, s: dict) -> np.ndarray:
    """Return which of the candidates with rewards ``r`` (slates, k) are picked, as the settings say."""
    u = np.where(shown, r / s["temperature"], -np.inf)
    ties = rng.random(u.shape)
    picked = np.zeros(u.shape, bool)
    if s["selection"] == "top":
        best = np.lexsort((ties.ravel(), u.ravel()))[::-1]
        picked.ravel()[best[: round(0.3 * shown.sum())]] = True
        return picked
    if s["noise"] == "none":
        order = np.lexsort((ties, u), axis=1)[:, ::-1]
    else:
        noise = rng.gumbel(size=u.shape) if s["noise"] == "gumbel" else rng.normal(size=u.shape)
        order = np.argsort(-(u + noise), axis=1)
    lapsed = rng.random(len(u)) < s["lapse"]
    order = np.where(lapsed[:, None], np.argsort(np.where(shown, ties, 2.0), axis=1), order)
    np.put_along_axis(picked, order[:, : 2 if s["selection"] == "keep 2" else 1], True, axis=1)
    return picked


def varied_declaration(settings: dict) -> dict:
    """Return what such a loop declares; no slate size where slates are unequal."""
    found: dict = {"real_fraction": settings["real_fraction"]}
    if settings["selection"] == "top":
        return found | {"top": 0.3}
    found |= {key: settings[key] for key in ("temperature", "noise", "lapse", "slates")}
    if not settings["unequal"] or settings["k"] == 2:
        found["k"] = settings["k"]
    if settings["weights"]:
        found["weights"] = list(settings["weights"])
    return found | ({"keep": 2} if settings["selection"] == "keep 2" else {"picks": settings["slates"]})


# The same data, or noise, several times over look like more than there are: what follows from reused seeds.
# With one noise for many slates these are no longer independent, which every test of the picks may show.
REPEATED = {
    "rule", "temperature", "lapse share", "position effects", "temperature over rounds",
    "temperature within rounds",
}  # fmt: skip
# Fault: what must be accused, and what may be, because it follows.
SIX = {
    "divided": ({"temperature"}, set()),
    "argmax": ({"rule"}, {"temperature"}),
    "top half": ({"rule", "picks per slate"}, {"picks per round"}),
    "half kept": ({"picks per round"}, set()),
    "second draw": ({"rewards of the picks"}, {"rule", "temperature"}),
    "seeds": ({"candidates of neighbouring rounds", "noise of the picks"}, REPEATED),
}
ODD = {
    "wrong k": ({"slate size K"}, set()),
    "position": ({"position effects"}, set()),
    "lapses": ({"lapse share"}, set()),
    "thurstone": ({"rule"}, {"temperature"}),
    "pool softmax": ({"rule", "picks per slate"}, set()),
    "uniform": ({"rule"}, {"temperature", "rewards of the picks"}),
    "threshold": ({"rule", "picks per slate", "picks per round"}, set()),
    "keep 2": ({"picks per slate"}, {"picks per round", "rule"}),
    "worst": ({"rule"}, set()),
    "sign": ({"temperature"}, set()),
    "one noise a round": ({"position effects"}, REPEATED),
    "noise repeated": ({"noise of the picks"}, REPEATED),
    "texts repeated": ({"items of neighbouring rounds"}, set()),
    "weights": ({"weights"}, set()),
    "propensities sharper": ({"propensities"}, set()),
    "propensities rolled": ({"propensities"}, set()),
}
