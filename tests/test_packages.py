"""The source archive and the wheel, built as for publication, hold what they need."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

from helpers.paths import ROOT
from helpers.shown import CODES, README, SHOWN, TUTORIAL, missing

pytestmark = pytest.mark.slow

# One of each kind of packaged data; all of them are compared with the checkout below.
NEEDED = (
    "recurate/py.typed",
    "recurate/__init__.pyi",
    "recurate/core/papers.bib",
    "recurate/report/page.html.j2",
    "recurate/report/assets/vega.min.js",
    "recurate/people/pages/",
    "recurate/people/migrations/",
    "recurate/verbs/reproduce/recorded.json",
)


def hatchling(folder, where, target, out):
    """Run the build backend, which was installed into a folder, for a source tree."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl" if target == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the source archive, and the wheel that was built from what it unpacks to."""
    folder = tmp_path_factory.mktemp("packages")
    tools = folder / "tools"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tools)]
    subprocess.run(
        [*install, "--constraint", str(ROOT / "constraints.txt"), "hatchling"], check=True, timeout=300
    )
    archive = hatchling(tools, ROOT, "sdist", folder / "dist")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return archive, hatchling(tools, folder / archive.name.removesuffix(".tar.gz"), "wheel", folder / "dist")


def test_the_wheel_holds_code_and_data(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    for name in NEEDED:
        assert any(held == name or (name.endswith("/") and held.startswith(name)) for held in names), name
    listed = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {name.removeprefix("src/") for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    pages = {f"recurate/pages/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    packed = {name for name in names if name.startswith("recurate/")}
    assert packed == tracked | pages, "what `recurate docs` prints, and nothing else of docs/"
    assert {name.partition("/")[0] for name in names - packed} == {
        next(name for name in names if name.endswith(".dist-info/METADATA")).partition("/")[0]
    }, "no folder of the checkout"


def test_it_is_small_and_says_what_it_is(built):
    archive, wheel = built
    assert wheel.stat().st_size < 5e6
    assert archive.stat().st_size < 15e6
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as opened:
        metadata = next(name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        said = opened.read(metadata).decode()
    assert f"Version: {project['version']}\n" in said
    for name, address in project["urls"].items():
        assert f"Project-URL: {name}, {address}\n" in said


class CleanMachine:
    """An environment of its own with nothing but the wheel and what it needs, and an empty working folder."""

    def __init__(self, folder, wheel):
        self.folder = folder
        self.programs = folder / "venv" / "bin"
        hidden = ("PYTHON", "RECURATE", "VIRTUAL_ENV", "COV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.environment = kept | {"COLUMNS": "120", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, timeout=300)
        pinned = ("--constraint", str(ROOT / "constraints.txt"))
        install = [str(self.programs / "python"), "-m", "pip", "install", "--quiet", *pinned, str(wheel)]
        subprocess.run(install, check=True, timeout=1200, env=os.environ | {"PYTHONPATH": ""})

    def begin(self, name):
        """Go on in an empty working folder, and return it."""
        self.home = self.folder / name
        self.home.mkdir()
        return self

    def __call__(self, program, *words):
        command = [str(self.programs / program), *words]
        return subprocess.run(
            command, cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=600
        )


@pytest.fixture(scope="module")
def machine(built, tmp_path_factory):
    return CleanMachine(tmp_path_factory.mktemp("clean"), built[1])


def test_a_clean_machine_goes_through_the_readme(machine):
    clean = machine.begin("readme")
    for block in SHOWN:
        words = shlex.split(block[0])[2:]
        done = clean("recurate", *words)
        assert done.returncode == CODES.get(words[0], 0), done.stderr
        assert missing(block[1:], done.stdout) == []
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    done = clean("python", "-c", "\n".join(blocks))
    assert done.returncode == 0, done.stderr
    assert "1 mismatch" in done.stdout
    assert (clean.home / "picks.jsonl").exists()
    assert (clean.home / "my-forecast" / "report.html").exists()


def test_a_clean_machine_goes_through_the_tutorial(machine):
    """By copy and paste, in order; Python's blocks are one session, of which each command finds the files."""
    clean = machine.begin("tutorial")
    printed, session, codes = "", "", []
    for kind, block in re.findall(r"```(python|sh|text)\n(.*?)```", TUTORIAL, flags=re.S):
        if kind == "python":
            session += block
            done = clean("python", "-c", session)
            assert done.returncode == 0, done.stderr
        elif kind == "text":
            for line in block.splitlines():
                assert " ".join(line.split()) in printed
        elif block.startswith("recurate "):
            done = clean("recurate", *shlex.split(block)[1:])
            codes.append(done.returncode)
            printed = " ".join(done.stdout.split())
    assert codes == [0, 0, 1], "the audit finds a mismatch"
