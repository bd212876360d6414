"""The chain of seals of a run's folder, as every reader checks it; see also tests/loop/test_faults.py."""

from __future__ import annotations

import json
import os
import shutil
import stat

import pytest

import recurate
from helpers.commands import call
from helpers.faults import PLAIN
from recurate.core.errors import InputError
from recurate.core.sealed import sealed
from recurate.log.folders import StoredRun
from recurate.log.inputs import log_of
from recurate.loop.config import parse_config
from recurate.loop.driver import run
from recurate.verbs.run.report import write_run_report

pytestmark = pytest.mark.usefixtures("few_replicates")

READERS = {
    "forecast": ["forecast", "run", "--rounds", "2", "--out", "forecast-out"],
    "plan": ["plan", "run", "--rounds", "2", "--out", "plan-out"],
    "fit": ["fit", "run", "--out", "fit-out"],
    "audit": ["audit", "run", "--out", "audit-out"],
    "compare": ["compare", "run", "kept", "--out", "compare-out"],
    "report": ["report", "run"],
    "resume": ["run", "--resume", "run"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, and another of the same format."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run(parse_config(PLAIN), place / "kept")
        run(parse_config(PLAIN | {"data": PLAIN["data"] | {"size": 80}}), place / "other")
    return place


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    for name in ("kept", "other"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copytree(made / "kept", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(words, folder):
    done = call(*words, cwd=folder)
    assert done.returncode == 2, (words, done.stdout)
    assert not list(folder.glob("*-out"))
    return done.stderr


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_reads_what_is_whole(folder, reader):
    done = call(*READERS[reader], cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("reader", [name for name in READERS if name not in ("resume", "report")])
def test_every_reader_names_an_altered_file_and_stops(folder, reader):
    """A bit flipped in each sealed file; what resume and report say is in tests/loop/test_faults.py."""
    files = [
        p for p in (folder / "run").rglob("*") if p.is_file() and p.name not in (".lock", "timings.jsonl")
    ]
    assert len(files) > 15
    for path in files:
        data = path.read_bytes()
        at = len(data) // 2
        if path.name == "config.toml":
            at = data.index(b"picks = 20") + len("picks = 20") - 1
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert path.name in refused(READERS[reader], folder), path
        path.write_bytes(data)


def test_an_edited_log_or_configuration_is_refused_in_python_too(folder):
    path = folder / "run" / "rounds" / "001" / "log.parquet"
    path.write_bytes((folder / "run" / "rounds" / "000" / "log.parquet").read_bytes())
    for read in (recurate.forecast, recurate.fit, recurate.audit, recurate.plan, recurate.read_log, log_of):
        with pytest.raises(InputError, match=r"001/log\.parquet"):
            read(folder / "run")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "part", ["rounds/002", "setup", "manifest.json", "manifest.json config.toml", "bounds.json"]
)
def test_a_part_of_another_run_is_refused(folder, reader, part):
    """Every seal in it is right; only the chain tells."""
    for name in part.split():
        path = folder / "run" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        copy = shutil.copytree if (folder / "other" / name).is_dir() else shutil.copy
        copy(folder / "other" / name, path)
    if part == "bounds.json":
        shutil.copy(folder / "other" / "trajectory.parquet", folder / "run")
        if reader == "resume":
            assert call(*READERS[reader], cwd=folder).returncode == 0
            assert (folder / "run" / part).read_bytes() == (folder / "kept" / part).read_bytes(), "made again"
            return
    said = refused(READERS[reader], folder)
    assert str(folder / "run") in said or "run/" in said
    assert part.startswith("manifest") or part in said


def test_a_round_of_another_course_of_the_same_run_is_refused(folder):
    """A round that was sealed after another round before it, as after an accepted change."""
    path = folder / "run" / "rounds" / "002" / "contents.json"
    found = json.loads(path.read_text())
    found["before"] = "0" * 64
    found.pop("seal")
    path.write_text(sealed(found))
    with pytest.raises(InputError, match="does not follow the one before"):
        StoredRun(folder / "run").verify()


def test_other_names_beside_the_rounds_are_nobodys(folder):
    rounds = folder / "run" / "rounds"
    shutil.copytree(rounds / "002", rounds / "002.bak")
    for name in ("x", "3", "٣٣٣", "001 (copy)", ".003.partial"):
        (rounds / name).mkdir()
    (folder / "run" / "rejected").mkdir()
    (folder / "run" / "rejected" / "002-0.bak").mkdir()
    for words in READERS.values():
        assert call(*words, cwd=folder).returncode == 0, words


def test_what_bears_a_later_rounds_name_is_named(folder):
    (folder / "run" / "rounds" / "007").touch()
    for reader in ("audit", "resume"):
        assert "rounds/007" in refused(READERS[reader], folder)


def test_an_older_format_is_refused_by_every_reader(folder):
    path = folder / "run" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    for words in READERS.values():
        assert "written by an older recurate" in refused(words, folder)


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_colleagues_can_read_a_run_as_the_umask_says(tmp_path, monkeypatch, mask):
    monkeypatch.chdir(tmp_path)
    before = os.umask(mask)
    try:
        run(parse_config(PLAIN | {"rounds": 1}), tmp_path / "run")
        from recurate.loop.run_folder import RunFolder

        write_run_report(RunFolder.open(tmp_path / "run"))
    finally:
        os.umask(before)
    for path in (tmp_path / "run").rglob("*"):
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        assert path.name == ".lock" or stat.S_IMODE(path.stat().st_mode) == wanted, path


@pytest.mark.parametrize("verb", ["forecast", "plan", "fit", "audit"])
def test_a_fit_among_a_runs_files_is_refused(folder, verb):
    """A fit's log has no seal: fit.json in a run's folder would switch the run's seals off."""
    shutil.copy(folder / "run" / "rounds" / "000" / "log.parquet", folder / "run" / "log.parquet")
    (folder / "run" / "fit.json").write_text('{"settings": {}}')
    assert "both a run's and a fit's" in refused(READERS[verb], folder)


def test_a_seal_over_a_record_without_hashes_is_none(folder):
    path = folder / "run" / "setup" / "contents.json"
    found = json.loads(path.read_text())
    path.write_text(sealed({name: found[name] for name in found if name not in ("seal", "sha256")}))
    with pytest.raises(InputError, match="missing or was altered"):
        StoredRun.open(folder / "run").verify()
