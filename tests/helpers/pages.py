"""`recurate serve` as a process of its own, and people who use its pages in a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.browser import CHROMIUM

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")
WORDS = "The cat sat by the window and watched the rain fall on the quiet street below. "


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a real browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Served:
    """`recurate serve` with a source and options; a context manager that ends it.

    Attributes:
        source: What is served.
        url: Address, without the last slash.
        password: The owner's, of the last start.
    """

    def __init__(self, source: Path, *options: Any) -> None:
        self.source, self.options = source, [str(o) for o in options]
        self.port, self.url, self.password = 0, "", ""
        self.start()

    def start(self) -> None:
        """Start the program, again on the port that it had, and wait until it listens."""
        self.process = subprocess.Popen(
            self._command("--port", self.port, *self.options), stdout=subprocess.PIPE, text=True,
            stderr=(self.source.parent / "stderr.txt").open("w"), cwd=self.source.parent,
        )  # fmt: skip
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline() for _ in range(3)]
        found = ADDRESS.search(lines[1])
        assert found, (lines, (self.source.parent / "stderr.txt").read_text())
        self.url, self.port = found[0], int(found[1])
        self.password = lines[2].partition("password:")[2].strip()

    def kill(self) -> None:
        """End the program as a power failure does."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def exported(self) -> dict[str, dict[str, Any]]:
        """Return each question's answer, as the program exports it while it serves, by its prompt."""
        file = self.source.parent / "picks.jsonl"
        command = self._command(*self.options, "--export", file)
        subprocess.run(command, check=True, capture_output=True, cwd=self.source.parent)
        return answers([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()])

    def _command(self, *options: Any) -> list[str]:
        return [sys.executable, "-m", "recurate", "serve", str(self.source), *map(str, options)]

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def answers(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return answers by prompt, from the rows of an export; a question has one answer.

    Raises:
        AssertionError: If a question has several.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        own = found.setdefault(row["context"], {"slate": row["slate"], "picked": [], "tied": []})
        assert own["slate"] == row["slate"], f"two answers to {row['context']!r}"
        own["outcome"] = row["outcome"]
        own["reason"], own["comment"] = row.get("reason") or "", row.get("comment") or ""
        for kind in ("picked", "tied"):
            own[kind] += [row["shown"]] if row.get(kind) else []
    return found


def texts(folder: Path, count: int, k: int = 3) -> Path:
    """Write questions with short texts."""
    rows = [
        {"prompt": f"Question {i}", "candidates": [f"Answer {j} to {i}. {WORDS}".strip() for j in range(k)]}
        for i in range(count)
    ]
    return lines(folder / "texts.jsonl", rows)


def lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def images(folder: Path, count: int) -> Path:
    """Write questions with a small and a larger image."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for i in range(count):
        for name, size in (("small", 16), ("large", 256)):
            Image.new("RGB", (size, size), (80 * i % 256, 90, size % 256)).save(folder / f"{name}{i}.png")
    rows = [{"prompt": f"Picture {i}", "images": [f"small{i}.png", f"large{i}.png"]} for i in range(count)]
    return lines(folder / "images.jsonl", rows)


def points(folder: Path, count: int) -> Path:
    """Write pairs of points."""
    folder.mkdir(exist_ok=True)
    file = folder / "points.csv"
    file.write_text("x,y\n" + "".join(f"{i % 3 - 1.5},{i % 5 - 2.5}\n" for i in range(2 * count)))
    return file


class Visitor:
    """A person with a browser of their own, and all that must not happen in it.

    Attributes:
        page: The page.
        requests: Addresses that the browser asked for.
        wrong: Errors on the console or in scripts, and dialogs.
        expected: Words of errors that a test brings about.
    """

    def __init__(self, browser: Any, served: Served, **context: Any) -> None:
        self.served, self.url = served, served.url
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(15_000)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.wrong: list[str] = []
        self.expected: tuple[str, ...] = ()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("dialog", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"console: {message.text}")

    def _asked(self, dialog: Any) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def check(self) -> None:
        """Check that nothing went wrong, and that nothing was asked for elsewhere."""
        wrong = [w for w in self.wrong if not any(e in w for e in self.expected)]
        assert wrong == []
        assert [r for r in self.requests if not r.startswith(self.url + "/")] == []

    def join(self, path: str = "/") -> Visitor:
        """Open the page, agree if that is asked, and begin."""
        self.page.goto(self.url + path)
        if self.page.locator("[name=agree]").is_visible():
            self.page.check("[name=agree]")
        self.page.get_by_role("button", name="Begin").click()
        self.page.wait_for_selector(".candidate, #done:visible")
        return self

    def login(self) -> Visitor:
        """Open the owner's page."""
        self.page.goto(self.url + "/owner")
        self.page.fill("#password", self.served.password)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_selector("#rounds table")
        return self

    def pick(self, place: int) -> Any:
        """Return the button of a candidate, counted from 1."""
        return self.page.locator(".pick").nth(place - 1)

    def question(self) -> str:
        """Return the prompt that is shown."""
        return str(self.page.inner_text("#prompt"))

    def shown(self, *places: int) -> list[str]:
        """Return the texts of candidates, counted from 1."""
        found = self.page.locator(".candidate .body").all_inner_texts()
        return [found[place - 1] for place in places]

    def count(self) -> str:
        """Return how far the person is."""
        return str(self.page.inner_text("#count"))

    def answered(self, act: Callable[[], Any]) -> None:
        """Act, and wait until the answer was kept and the next question is shown."""
        before = self.count()
        act()
        self.page.wait_for_function(
            "was => document.getElementById('count').textContent !== was && "
            "!document.querySelector('[aria-busy]')",
            arg=before,
        )

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self) -> str:
        """Return what has the focus: its id, or else its words."""
        script = "() => document.activeElement.id || document.activeElement.textContent.trim()"
        return str(self.page.evaluate(script))

    def tab_to(self, wanted: str) -> list[str]:
        """Press Tab until something has the focus, and return what had it on the way."""
        seen: list[str] = []
        while wanted not in seen:
            assert len(seen) < 40, seen
            self.press("Tab")
            seen.append(self.focused())
        return seen

    def violations(self) -> dict[str, Any]:
        """Return what axe finds wrong with the page as it is, by rule."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return {v["id"]: [node["html"] for node in v["nodes"]] for v in found}

    def close(self) -> None:
        """Close the browser's window."""
        self.context.close()
