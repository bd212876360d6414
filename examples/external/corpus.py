"""Write the example's data: weather reports for twelve towns (corpus.jsonl) and prompts (prompts.txt).

python examples/external/corpus.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
WEATHER = ("sunny", "cloudy", "rainy", "snowy", "windy")
# How often each weather is reported, in percent.
CLIMATE = {
    "Aberdeen": (12, 33, 35, 5, 15),
    "Bergen": (8, 25, 52, 7, 8),
    "Cork": (15, 30, 40, 2, 13),
    "Davos": (30, 15, 10, 40, 5),
    "Essen": (25, 35, 28, 4, 8),
    "Funchal": (45, 25, 18, 1, 11),
    "Galway": (12, 28, 40, 2, 18),
    "Hull": (15, 35, 32, 3, 15),
    "Inari": (12, 25, 8, 48, 7),
    "Jena": (25, 35, 25, 7, 8),
    "Kiruna": (14, 22, 7, 48, 9),
    "Lerwick": (8, 22, 25, 7, 38),
}
OPENINGS = ("today", "this morning", "tonight", "tomorrow", "all week")
ENDINGS = ("take care", "no change ahead", "more of it later", "clearing by noon", "a quiet day", "")
STRENGTHS = ("", "very", "rather", "mostly")


def report(town: str, draw: random.Random) -> str:
    weather = draw.choices(WEATHER, CLIMATE[town])[0]
    words = [draw.choice(OPENINGS), draw.choice(STRENGTHS), weather, draw.choice(ENDINGS)]
    return " ".join(word for word in words if word)


def main() -> None:
    draw = random.Random(0)
    towns = list(CLIMATE)
    rows = [(town, report(town, draw)) for town in towns for _ in range(200)]
    draw.shuffle(rows)
    lines = [json.dumps({"context": f"weather in {town}", "text": text}) for town, text in rows]
    (HERE / "corpus.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (HERE / "prompts.txt").write_text("".join(f"weather in {town}\n" for town in towns), encoding="utf-8")
    print(f"{len(rows)} reports, {len(towns)} prompts in {HERE}")


if __name__ == "__main__":
    main()
