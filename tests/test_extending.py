"""What a stranger adds with the code on docs/extending.md alone: found, run, killed, resumed, reported."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import recurate
from helpers.faults import contents
from helpers.paths import ROOT
from helpers.tiny import without_seals
from recurate.core.errors import InputError
from recurate.core.plugins import Seam
from recurate.engines.engine import engine_named, opened, start
from recurate.engines.needs import Needs
from recurate.loop.config import parse_config, read_config
from recurate.loop.driver import run
from recurate.loop.environment import prepare, rests_on
from recurate.loop.run_folder import RunFolder
from recurate.rules import noise_named

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
MOST = 20  # lines of code
MAY_DIFFER = {"timings.jsonl", "report.html"}  # seconds


def blocks() -> dict[str, str]:
    """Return the page's code by the file that its first line names."""
    found = re.findall(r"```(?:python|toml)\n# ([\w.]+)\n(.*?)```", PAGE, flags=re.S)
    return dict(found)


def seams() -> dict[str, Seam]:
    """Return every seam of the package."""
    found = {}
    for module in pkgutil.walk_packages(recurate.__path__, "recurate."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Seam):
                found[value.group] = value
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder with the page's files, where Python runs; it forgets the modules afterwards."""
    for name, code in blocks().items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith("my_")]:
        del sys.modules[name]


# --- the page -------------------------------------------------------------------------------------


def test_every_seam_is_documented_with_code():
    documented = dict(re.findall(r"^## [^\n]*`(recurate\.\w+)`\n(.*?)(?=^## |\Z)", PAGE, flags=re.S | re.M))
    assert set(documented) == set(seams())
    for group, text in documented.items():
        assert "```python" in text, group


def test_seven_things_and_data_can_be_added():
    names = ("generators", "rewards", "groups", "noises", "alarms", "sections", "engines", "data")
    assert set(seams()) == {f"recurate.{name}" for name in names}


@pytest.mark.parametrize("name", [n for n in blocks() if n.endswith(".py")])
def test_code_is_short(name):
    lines = [line for line in blocks()[name].splitlines() if line.strip()]
    assert len(lines) <= MOST


# --- all of them in one run -----------------------------------------------------------------------


def test_a_run_of_strangers_is_killed_resumed_and_reported(folder, server):
    config, out, whole = folder / "loop.toml", folder / "out", folder / "whole"
    done = server("run", config, "--out", whole, root=whole)
    assert done.code == 0, done.text
    middle = next(i for i, point in enumerate(done.points) if "rounds/001" in str(point))
    for words, at in (([config, "--out", out], middle), (["--resume", out], 5)):
        assert server("run", *words, root=out, at=at).code == -9
    assert server("run", "--resume", out, root=out).code == 0
    assert kept(out) == kept(whole)

    assert server("report", out, report=True, root=out).code == 0
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "The best candidates" in report
    assert "the groups&#39; entropy is" in report or "the groups' entropy is" in report
    log = RunFolder.open(out).log(1)
    assert set(log.column("group")) == {"east", "west"}
    assert RunFolder.open(out).config().selection.rule().noise == noise_named("my_noise:logistic")


def test_other_sections_can_be_shown_later(folder, server):
    text = short((folder / "loop.toml").read_text())
    (folder / "loop.toml").write_text(text.partition("[report]")[0])
    out = folder / "out"
    assert server("run", folder / "loop.toml", "--out", out, root=out).code == 0
    for shown in (False, True):
        done = server("report", out, report=True, root=out)
        assert done.code == (2 if shown else 0)  # what was added since is not known to be one's own
        assert ("my_section:best" in done.text) == shown
        done = server("report", out, "--trust", report=True, root=out)
        assert done.code == 0, done.text
        assert ("The best candidates" in (out / "report.html").read_text(encoding="utf-8")) == shown
        config = (out / "config.toml").read_text().partition("[report]")[0]
        (out / "config.toml").write_text(config + '[report]\nsections = ["my_section:best"]\n')


def double(number: int) -> int:
    return 2 * number


def test_the_engine(folder):
    assert list(engine_named("my_engine:Threads", 2).map(double, range(7))) == [2 * n for n in range(7)]
    kept = []
    for name in ("local", "my_engine:Threads"):
        config = read_config(folder / "loop.toml").model_dump(mode="json", exclude_none=True)
        config |= {"rounds": 1, "engine": {"shard": 200}, "report": {}}
        with opened(name) as engine:
            run(parse_config(config), folder / name, engine=engine)
        kept.append(contents(folder / name))
    assert {n: v for n, v in kept[0].items() if n not in MAY_DIFFER} == {
        n: v for n, v in kept[1].items() if n not in MAY_DIFFER
    }


ASKS = """
class Asks:
    def __init__(self):
        self.said = []

    def start(self, needs):
        self.said.append(("start", needs.cpus))

    def map(self, function, shards, needs):
        self.said.append(("map", needs.gpus))
        return map(function, shards)

    def close(self):
        self.said.append("close")
"""


def test_an_engine_that_asks_what_shards_need(folder):
    (folder / "my_asking.py").write_text(ASKS)
    with opened("my_asking:Asks") as engine:
        start(engine, Needs(cpus=2.0))
        assert list(engine.map(double, [1, 2], Needs(gpus=0.5))) == [2, 4]
    assert engine.engine.said == [("start", 2.0), ("map", 0.5), "close"]


def test_the_configuration_says_what_it_imports(folder):
    modules = {path.name for path in folder.glob("my_*.py")} - {"my_section.py", "my_engine.py"}
    assert {part.name for part in rests_on(read_config("loop.toml")) if part.serves != "packages"} == modules
    plain = {"data": {"kind": "moons"}, "rewards": [{"kind": "distance", "centre": [0]}]}
    assert rests_on(parse_config(plain)) == []


def test_entry_points(folder, monkeypatch):
    info = folder / "strange-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    wanted = {
        "generators": ("bootstrap", "my_generator:Bootstrap"),
        "rewards": ("ring", "my_reward:ring"),
        "groups": ("halves", "my_groups:halves"),
        "data": ("spiral", "my_data:spiral"),
        "noises": ("logistic", "my_noise:logistic"),
        "alarms": ("narrow", "my_alarm:narrow"),
        "sections": ("best", "my_section:best"),
        "engines": ("threads", "my_engine:Threads"),
    }
    lines = [f"[recurate.{group}]\n{name} = {value}\n" for group, (name, value) in wanted.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(folder))
    text = (folder / "loop.toml").read_text()
    for name, value in wanted.values():
        text = text.replace(f'"{value}"', f'"{name}"')
    (folder / "short.toml").write_text(text)
    config = read_config("short.toml")
    assert config.generator.kind == "bootstrap"
    assert config.selection.rule().noise == noise_named("logistic")
    modules = {f"my_{seam}.py" for seam in ("generator", "reward", "groups", "data", "noise", "alarm")}
    assert {part.name for part in rests_on(config) if part.serves != "packages"} == modules
    assert engine_named("threads").engine.workers == 1
    with pytest.raises(InputError, match=r"did you mean 'ring'"):
        parse_config(tomli_config(folder, rewards=[{"kind": "rings"}]))


def tomli_config(folder: Path, **changes) -> dict:
    return read_config(folder / "loop.toml").model_dump(mode="json", exclude_none=True) | changes


SETTINGS = """
from typing import Any

import numpy as np
from pydantic import Field
from recurate.components.protocols import RewardSettings


class Ring(RewardSettings):
    radius: float = Field(2.0, gt=0, description="of the ring")

    def build(self, prepared: Any) -> Any:
        if self.radius > 9:
            return lambda samples, contexts=None: 3.0
        return lambda samples, contexts=None: -np.abs(np.linalg.norm(samples, axis=1) - self.radius)
"""


def test_a_settings_class_of_ones_own(folder):
    (folder / "my_settings.py").write_text(SETTINGS)
    reward = {"kind": "my_settings:Ring", "radius": 1.5, "gamma": 2.0}
    environment = prepare(parse_config(tomli_config(folder, rewards=[reward], groups=None, alarms=[])))
    points = environment.dataset.train
    expected = -2 * np.abs(np.linalg.norm(points, axis=1) - 1.5)
    np.testing.assert_allclose(environment.reference.rewards[:, 0], expected, rtol=1e-6)
    for wrong, message in (
        ({"radius": 0.0}, "rewards.0.radius: Input should be greater than 0"),
        ({"radii": 1.0}, "did you mean 'radius'"),
    ):
        with pytest.raises(InputError, match=message):
            parse_config(tomli_config(folder, rewards=[reward | wrong]))
    with pytest.raises(InputError, match="my_settings:Ring must return one number per sample"):
        prepare(parse_config(tomli_config(folder, rewards=[reward | {"radius": 10.0}])))


# --- plug-ins that do wrong -----------------------------------------------------------------------

BAD = {
    "a name that is not there": ("my_reward.py", "def ring", "def rung", "my_reward:ring cannot be imported"),
    "a module that fails": (
        "my_reward.py",
        "def ring",
        "1 / 0\ndef ring",
        "my_reward:ring cannot be imported",
    ),
    "a key of another type": ("my_reward.py", "float = 2.0", "str = ''", "rewards.0.radius"),
    "an unknown key": ("my_reward.py", "radius: float", "radii: float", "did you mean 'radii'"),
    "a key that is taken": (
        "my_reward.py",
        "radius: float",
        "gamma: float",
        "cannot have an argument called 'gamma'",
    ),
    "a reward that raises": ("my_reward.py", "return -", "return missing -", "my_reward:ring failed"),
    "a reward of another shape": (
        "my_reward.py",
        ", axis=1",
        "",
        "my_reward:ring must return one number per",
    ),
    "a reward by chance": (
        "my_reward.py",
        "return -",
        "return np.random.default_rng().random(len(samples)) -",
        "my_reward:ring returns different values",
    ),
    "groups of another shape": (
        "my_groups.py",
        "samples[:, 0]",
        "samples[:2, 0]",
        "must return one label per",
    ),
    "data of another type": (
        "my_data.py",
        "return 0.2",
        "return None and 0.2",
        "must return samples of one shape",
    ),
    "no generator": ("my_generator.py", "def fit", "def train", "my_generator:Bootstrap is not a generator"),
    "a generator that raises": (
        "my_generator.py",
        "draw = rng",
        "draw = none",
        "my_generator:Bootstrap failed",
    ),
    "too few samples": ("my_generator.py", "size=n)", "size=n - 1)", "sample must return n samples"),
    "samples by chance": (
        "my_generator.py",
        "draw = rng.generator()",
        "draw = np.random.default_rng()",
        "my_generator:Bootstrap returns different values",
    ),
    "a generator that changes": (
        "my_generator.py",
        "return Bootstrap(self.sd, data)",
        "self.data = data; return self",
        "fit must return a new generator",
    ),
    "no noise": ("my_noise.py", "logistic =", "logistic = 3, ", "my_noise:logistic is not a noise"),
    "a density that is another's": ("my_noise.py", "2 + 2", "2 + 3", "needs the derivative of its cdf"),
    "a section that is none": (
        "my_section.py",
        "return Section",
        "return 3, Section",
        "must return a Section",
    ),
    "a section that raises": ("my_section.py", '"ring"', '"rung"', "my_section:best: the log has no column"),
    "an alarm that raises": (
        "my_alarm.py",
        "row.value >= floor",
        "row.valu >= floor",
        "my_alarm:narrow failed",
    ),
    "an alarm of another type": ("my_alarm.py", "return []", "return 0", "must return a list of Finding"),
}


def short(text: str) -> str:
    """Return the page's configuration for a run that takes a second."""
    for old, new in (
        ("rounds = 2", "rounds = 1"),
        ("picks = 300", "picks = 60"),
        ("floor = 0.69", "floor = 0.01"),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def right(server, tmp_path_factory) -> dict[str, bytes | None]:
    """What a short run leaves in which nothing is wrong."""
    place = tmp_path_factory.mktemp("right")
    for name, code in blocks().items():
        (place / name).write_text(short(code) if name == "loop.toml" else code, encoding="utf-8")
    assert server("run", "loop.toml", "--out", "out", root=place / "out").code == 0
    return kept(place / "out")


def kept(run: Path) -> dict[str, bytes | None]:
    return {name: data for name, data in contents(run).items() if name not in MAY_DIFFER}


@pytest.mark.parametrize("case", BAD)
def test_what_a_plug_in_does_wrong_is_named_and_nothing_is_lost(folder, server, right, case):
    """Where a round was complete it stays, and mended the run ends as one in which nothing was wrong."""
    name, old, new, message = BAD[case]
    (folder / "loop.toml").write_text(short((folder / "loop.toml").read_text()))
    code = (folder / name).read_text()
    assert old in code
    (folder / name).write_text(code.replace(old, new))
    out = folder / "out"
    done = server("run", "loop.toml", "--out", "out", root=out, report="section" in case)
    assert done.code == 2, done.text
    assert message in done.text
    assert "Traceback" not in done.text
    if not out.exists():
        return
    rounds = {n: v for n, v in results(kept(out)).items() if n.startswith("rounds")}
    (folder / name).write_text(code)
    sealed = "section" not in case  # sections change no result
    done = server("run", "--resume", "out", root=out)
    assert done.code == (2 if sealed else 0), done.text
    assert (f"{name} (" in done.text) == sealed
    done = server("run", "--resume", "out", "--accept-changes", root=out)
    assert done.code == 0, done.text
    assert rounds.items() <= right.items()
    assert results(kept(out)) == results(right)


def results(files: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """All but the record of what the run rested on, which says that a plug-in was mended, and its seals."""
    records = ("manifest.json", "contents.json")
    return without_seals({n: v for n, v in files.items() if n.rpartition("/")[2] not in records})


def test_engines_that_do_wrong(folder):
    path = folder / "my_engine.py"
    right = path.read_text()
    for old, new, message in (
        ("yield from pool.map(function, shards)", "yield 1", "must yield one result per shard"),
        ("pool.map", "pool.mop", "my_engine:Threads failed after 0 of 3"),
        ("def map", "def mop", "is not an engine"),
    ):
        path.write_text(right.replace(old, new))
        sys.modules.pop("my_engine", None)
        with pytest.raises(InputError, match=message):
            list(engine_named("my_engine:Threads").map(double, range(3)))


def test_no_kind_of_generator_is_named_in_the_loop():
    kinds = r"Flow|Diffusion|Mixture|Kernel|External|NetworkS|['\"](flow|diffusion|mixture|kde|external)['\"]"
    for path in sorted((ROOT / "src" / "recurate" / "loop").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), start=1):
            advice = "generator.kind =" in line
            assert advice or not re.search(kinds, line), f"{path}:{number}: {line}"
        assert not re.findall(r"isinstance\([\w.]+, \w+Settings\)", text), path
