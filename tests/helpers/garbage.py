"""Tables that are almost logs, and bytes that are nothing of the kind; JSON read strictly."""

from __future__ import annotations

import json

from hypothesis import strategies as st

CELLS = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "-1",
        "0.5",
        "nan",
        "inf",
        "-inf",
        "",
        "a",
        "b",
        "tie",
        "true",
        "1e308",
        "9" * 20,
        "é",
        "None",
    ]
)
NAMES = [
    "slate", "picked", "reward", "reward_b", "round", "context", "slot", "item", "source", "chooser", "rank",
    "propensity", "chosen", "rejected", "price_a", "price_b", "winner", "user", "group", "x1", "x2",
]  # fmt: skip


@st.composite
def tables(draw):
    """Text of small CSV tables that are almost logs, or nothing of the kind."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
    count, k = draw(st.integers(1, 16)), draw(st.integers(1, 4))
    columns = {name: draw(st.lists(CELLS, min_size=count, max_size=count)) for name in names}
    if draw(st.booleans()):
        columns |= {
            "slate": [str(i // k) for i in range(count)],
            "picked": [str(int(i % k == 0)) for i in range(count)],
        }
    if draw(st.booleans()):
        columns["reward"] = [str(v) for v in draw(st.lists(st.floats(-3, 3), min_size=count, max_size=count))]
    rows = [",".join(columns)] + [",".join(values) for values in zip(*columns.values(), strict=True)]
    data = "\n".join(rows).encode(draw(st.sampled_from(["utf-8", "latin-1"])))
    return data[: draw(st.integers(len(data) // 2, len(data)))] if draw(st.booleans()) else data


GARBAGE = st.one_of(tables(), st.binary(max_size=200), st.text(max_size=200).map(str.encode))


def strict(text: str):
    """Read JSON as the standard has it: no NaN, no Infinity."""

    def refuse(name: str):
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)
