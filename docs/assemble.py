"""Assemble the site's pages from docs, examples, notebooks and docstrings: python docs/assemble.py FOLDER.

``./run site`` then builds the site from FOLDER. Links between files of the repository become links between
pages; a link to a file that has no page is an error.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import sys
import textwrap
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
FENCE = re.compile(r"(```.*?```)", re.S)
NOTEBOOKS = ("forecast", "audit", "groups")
EXAMPLES = (
    "digits.toml", "gaussians.toml", "two_preferences.toml", "two_models.toml", "text.toml", "verifier.toml",
    "people.toml", "openai.toml", "external/loop.toml", "faulty_loop.py", "trainers/trl_loop.py",
    "trainers/by_config.py",
)  # fmt: skip
PICTURES = {"people.toml": "images/people.png", "external/loop.toml": "images/gallery/external.svg"}
COMMANDS = (  # picture, what it shows, command
    (
        "forecast",
        "Where do the styles of answers go when the best of four is kept in every round, with half real "
        "data?",
        "recurate forecast example:best-of-4 --group style --real-fraction 0.5 --rounds 5",
    ),
    (
        "plan",
        "What does a higher score cost in diversity? Every point is a K and a share of real data after four "
        "rounds; the diamond has the highest score among those that keep an entropy of 0.95 nats over the "
        "styles.",
        "recurate plan example:best-of-4 --group style --entropy 0.95 --rounds 4",
    ),
    (
        "fit",
        "What do sixty people like, from 1,500 picks of one among three? Two groups of them are found.",
        "recurate fit example:two-groups",
    ),
)


def main() -> int:
    """Write all pages into a folder, which is emptied first; return an exit code."""
    if len(sys.argv) != 2:
        print("usage: python docs/assemble.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    pages = {**written(), **generated()}
    for name, text in (pages | {"llms.txt": llms(pages)}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for path, place in copied().items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / place)
    print(f"{len(pages)} pages in {folder}")
    return 0


def sources() -> dict[Path, str]:
    """Return where each written file of the repository is on the site."""
    found = {path: path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    found |= {path: path.name for path in sorted((ROOT / "docs" / "site").glob("*.md"))}
    for path in [ROOT / "benchmarks" / "README.md", *sorted((ROOT / "benchmarks" / "results").glob("*.md"))]:
        found[path] = f"benchmarks/{'index' if path.stem == 'README' else path.stem}.md"
    return found | {ROOT / "CHANGELOG.md": "changelog.md", ROOT / "CONTRIBUTING.md": "contributing.md"}


def copied() -> dict[Path, str]:
    """Return where each picture and table of the repository is on the site."""
    pictures = sorted(path for path in (ROOT / "docs" / "images").rglob("*") if path.is_file())
    found = {path: path.relative_to(ROOT / "docs").as_posix() for path in pictures}
    results = sorted(
        path for path in (ROOT / "benchmarks" / "results").iterdir() if path.suffix in (".svg", ".csv")
    )
    return found | {path: f"benchmarks/{path.name}" for path in results}


def written() -> dict[str, str]:
    """Return the pages that lie in the repository, with their links to other pages of the site."""
    places = sources()
    return {place: relinked(path, places) for path, place in places.items()}


def relinked(path: Path, places: dict[Path, str]) -> str:
    """Return a file's text with links as between pages of the site; code is left as it is.

    Raises:
        ValueError: If a link leads to a file without a page.
    """

    def moved(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        page = _page(path, target, places)
        own = Path(places[path]).parent
        return f"{match[1]}{os.path.relpath(page, own)}{'#' + anchor if anchor else ''}{match[3]}"

    parts = FENCE.split(path.read_text(encoding="utf-8"))
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def _page(path: Path, target: str, places: dict[Path, str]) -> str:
    """Return the site's page or picture that a link in a file means."""
    wanted = (path.parent / target).resolve()
    known = places | copied() | {ROOT / "README.md": "index.md"}
    if wanted in known:
        return known[wanted]
    if wanted.is_relative_to(ROOT / "examples") and wanted.exists():
        return "gallery.md"
    if path.is_relative_to(ROOT / "docs" / "site") and target in GENERATED:
        return target
    raise ValueError(f"{path.relative_to(ROOT)} links to {target}, which is no page of the site")


def generated() -> dict[str, str]:
    """Return the pages that are made here."""
    notebooks = runpy.run_path(str(ROOT / "docs" / "notebooks.py"))
    shown = {
        f"notebook-{name}.md": notebooks["as_markdown"](notebooks["FOLDER"] / f"{name}.ipynb")
        for name in NOTEBOOKS
    }
    return {"python.md": python_reference(), "gallery.md": gallery(shown), **shown}


GENERATED = ("python.md", "gallery.md", *(f"notebook-{name}.md" for name in NOTEBOOKS))


def gallery(notebooks: dict[str, str]) -> str:
    """Return the page of examples: what each shows, its commands, a picture if there is one, its source.

    Args:
        notebooks: Pages of the notebooks by name; the first chart of each is its picture.
    """
    intro = (
        "# Gallery\n\nExamples, each with its commands: those with tables that come with the package run "
        "anywhere, the others in a checkout. Pictures are charts of their reports.\n"
    )
    return "\n".join([
        intro,
        *(_command(*command) for command in COMMANDS),
        *(_notebook(name, notebooks[f"notebook-{name}.md"]) for name in NOTEBOOKS),
        *(_example(name) for name in EXAMPLES),
    ])  # fmt: skip


def _command(name: str, shows: str, command: str) -> str:
    """Return the section of a command that needs no file."""
    picture = f"![A chart of its report](images/gallery/{name}.svg)"
    return f"## recurate {name}\n\n{shows}\n\n{picture}\n\n```sh\n{command}\n```\n"


def _notebook(name: str, page: str) -> str:
    """Return a notebook's section: how it begins, its first chart, and where it is with its output."""
    heading, prose = page.split("\n\n")[:2]
    chart = re.search(r"<div><svg.*?</svg></div>", page)
    command = f"```sh\njupyter lab docs/notebooks/{name}.ipynb\n```\n"
    shown = f"{chart[0]}\n\n" if chart else ""
    return f"#{heading}\n\n{prose}\n\n{shown}{command}\n[With its output](notebook-{name}.md).\n"


def _example(name: str) -> str:
    """Return an example's section, from the comment or docstring that it begins with."""
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    if name.endswith(".py"):
        said = ast.get_docstring(ast.parse(text)) or ""
        body = text.split('"""', 2)[2].strip()
    else:
        head = re.match(r"(?:#.*\n)+", text)
        said = "\n".join(line[1:].removeprefix(" ") for line in head[0].splitlines()) if head else ""
        body = text[len(head[0]) :].strip() if head else text
    prose, _, commands = re.sub(r"\n\n(?=  )|\n(?=  )", "\n\0", said, count=1).partition("\0")
    code = [line.strip() for line in commands.splitlines() if line.startswith("  ") or line.startswith("\t")]
    after = [line for line in commands.splitlines() if line and not line.startswith("  ")]
    drawn = PICTURES.get(name, f"images/gallery/{name.partition('.')[0]}.svg")
    picture = f"\n![A chart or page of {name}]({drawn})\n" if (ROOT / "docs" / drawn).exists() else ""
    language = "python" if name.endswith(".py") else "toml"
    run = "```sh\n" + "\n".join(code) + "\n```\n"
    text = f"## {name}\n\n{prose.strip()}\n{picture}\n{run}\n" + ("\n".join(after) + "\n\n" if after else "")
    folded = textwrap.indent(f"```{language}\n{body}\n```", "    ")
    return f'{text}??? note "examples/{name}"\n\n{folded}\n'


def python_reference() -> str:
    """Return the page that mkdocstrings fills with the docstrings of all public names."""
    stub = ast.parse((ROOT / "src" / "recurate" / "__init__.pyi").read_text(encoding="utf-8"))
    homes = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in stub.body if isinstance(node, ast.ImportFrom)
        for alias in node.names if not (node.module or "").startswith("typing")
    }  # fmt: skip
    heading = "# Python\n\nEvery public name, from its docstring: `import recurate`, then `recurate.NAME`.\n"
    return "\n".join([heading, *(f"::: {homes[name]}\n" for name in sorted(homes))])


def llms(pages: dict[str, str]) -> str:
    """Return the list of pages for language models: https://llmstxt.org."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [f"# {project['name']}", "", f"> {project['description']}", "", "## Pages", ""]
    for name, text in sorted(pages.items()):
        title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), name)
        first = _first_sentence(FENCE.sub("", text))
        place = name.removesuffix("index.md") if name.endswith("index.md") else name.removesuffix(".md") + "/"
        lines.append(f"- [{title}]({place or './'})" + (f": {first}" if first else ""))
    return "\n".join(lines) + "\n"


def _first_sentence(text: str) -> str:
    """Return the first sentence of a page's prose that is no remark about how the page was made."""
    blocks = [" ".join(block.split()) for block in text.split("\n\n")]
    prose = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", b) for b in blocks if re.match(r"[\w`]", b)]
    said = (sentence for block in prose for sentence in re.split(r"(?<=[.?])\s+", block))
    return next((s for s in said if s.endswith(".") and not s.startswith(("Generated by", "Ratios are"))), "")


if __name__ == "__main__":
    raise SystemExit(main())
