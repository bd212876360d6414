"""Draw the package's tables, src/recurate/log/examples: ``python tools/examples.py [FOLDER]``.

docs/examples.md describes them. They are simulated, with one stream of random numbers each.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from recurate.core.files import write_text
from recurate.core.seeds import Stream
from recurate.log.reading.examples import FOLDER

STYLES, SHARES, LIKED = ("prose", "list", "code"), (0.5, 0.3, 0.2), (0.0, 0.4, -0.2)
ITEMS = ("plain", "short", "warm", "formal", "funny", "exact")
TASTES = ((0.0, 1.2, 0.4, -0.8, 0.9, -0.4), (0.3, -0.9, -0.2, 1.0, -1.0, 1.1))  # of the two groups
PEOPLE, ASKED = 60, 25


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def best_of_4(rng: np.random.Generator) -> str:
    """Return 1,000 prompts with 4 scored answers each, of which the best is kept.

    The score is that of the prompt, N(0, 1), plus the style's, plus 0.3 for each standard deviation of log
    length, plus N(0, 0.7^2).
    """
    n, k = 1000, 4
    style = rng.choice(3, size=(n, k), p=SHARES)
    length = rng.normal(size=(n, k))
    score = rng.normal(size=(n, 1)) + np.array(LIKED)[style] + 0.3 * length + rng.normal(0, 0.7, (n, k))
    tokens = np.exp(5 + 0.5 * length).astype(int)
    score = score.round(3)
    kept = score.argmax(axis=1)
    rows = (
        (i, STYLES[style[i, j]], tokens[i, j], score[i, j], int(j == kept[i]))
        for i in range(n)
        for j in range(k)
    )
    return table(("prompt", "style", "tokens", "score", "kept"), rows)


def divided_rewards(rng: np.random.Generator) -> str:
    """Return 600 slates of 4 whose picks follow softmax(reward / 0.1), where softmax(reward) was meant."""
    n, k = 600, 4
    reward = rng.normal(0, 0.5, (n, k)).round(3)
    picked = (reward / 0.1 + rng.gumbel(size=(n, k))).argmax(axis=1)
    rows = ((i, reward[i, j], int(j == picked[i])) for i in range(n) for j in range(k))
    return table(("slate", "reward", "picked"), rows)


def two_groups(rng: np.random.Generator) -> str:
    """Return 25 picks each of 60 people from three of six kinds of answers; a third differ in taste."""
    rows = []
    for person in range(PEOPLE):
        taste = np.array(TASTES[int(person % 3 == 2)])
        for _ in range(ASKED):
            shown = rng.choice(len(ITEMS), 3, replace=False)
            pick = (taste[shown] + rng.gumbel(size=3)).argmax()
            rows.append((f"p{person:02d}", *(ITEMS[i] for i in shown), ITEMS[shown[pick]]))
    return table(("person", "option_1", "option_2", "option_3", "choice"), rows)


DRAWN = {"best-of-4": best_of_4, "divided-rewards": divided_rewards, "two-groups": two_groups}


def texts() -> dict[str, str]:
    """Return every example's text by its name."""
    return {name: draw(Stream(0).at("example", name).generator()) for name, draw in DRAWN.items()}


def main() -> None:
    """Write the examples."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        write_text(folder / f"{name}.csv", text)


if __name__ == "__main__":
    main()
