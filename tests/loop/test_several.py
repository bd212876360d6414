"""Runs of several models: what is refused, who is trained on whom, resumed runs, the report, other verbs."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pytest

import recurate
from helpers.paths import refused
from helpers.tiny import contents, merged
from recurate.components.generators.kde import KernelDensity
from recurate.core.errors import InputError
from recurate.core.files import parse_toml
from recurate.core.seeds import Stream
from recurate.engines.engine import Elsewhere, Processes
from recurate.log.models_folder import StoredModels
from recurate.log.schema import MODEL
from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.loop import driver, several
from recurate.loop.config import parse_config, write_config
from recurate.loop.mixing import Picks, shared
from recurate.loop.models_folder import ModelsFolder
from recurate.verbs.reproduce.reproduce import play_run

TWO = {
    "seed": 5,
    "rounds": 2,
    "data": {"kind": "gaussians", "modes": 2, "size": 200, "sd": 0.3},
    "generator": {"kind": "kde", "bandwidth": 0.1},
    "rewards": [
        {"kind": "distance", "name": "east", "centre": [2.0, 0.0]},
        {"kind": "distance", "name": "west", "centre": [-2.0, 0.0]},
    ],
    "groups": {"kind": "nearest"},
    "selection": {"k": 3, "picks": 50, "slates": 60},
    "retraining": {"real_fraction": 0.2},
    "models": [
        {"name": "ours", "rewards": "east", "trains_on": {"ours": 0.7, "theirs": 0.3}},
        {"name": "theirs", "rewards": ["west"]},
    ],
}


def two(**changes):
    return parse_config(merged(copy.deepcopy(TWO), **changes))


def test_defaults_and_what_is_written_can_be_read_again():
    config = two()
    assert config.models[1].trains_on == {"theirs": 1.0}
    for one in (config, config.of_model("ours"), config.of_model("theirs")):
        assert parse_config(parse_toml(write_config(one))) == one
    assert config.of_model("theirs").weights == (0.0, 1.0)
    assert config.of_model("theirs").stream == Stream(5, ("model", "theirs"))
    assert config.stream == Stream(5)


def test_shares_within_rounding_are_made_exact_once():
    third = {"a": 0.333333, "b": 0.333333, "c": 0.333333}
    models = [{"name": n, "rewards": ["east", "west"], "trains_on": third} for n in "abc"]
    config = two(models=models)
    assert sum(config.models[0].trains_on.values()) == pytest.approx(1, abs=1e-15)
    assert parse_config(parse_toml(write_config(config))) == config


def own(i, **changes):
    """Return changes of the i-th model's table."""
    models = copy.deepcopy(TWO["models"])
    models[i] |= changes
    return {"models": models}


EAST = {"kind": "distance", "name": "east", "centre": [2.0, 0.0]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (own(0, trains_on={"ours": 0.7, "theirs": 0.2}), "'ours': the shares of trains_on must sum to one"),
        (own(0, trains_on={"ours": 1.2, "theirs": -0.2}), "must map names to shares"),
        (own(0, trains_on={"ours": "1"}), "must map names to shares"),
        (own(0, trains_on={"our": 1.0}), "trains on a model that there is not"),
        (own(0, name="../ours"), "models.0.name"),
        (own(0, name="a b"), "models.0.name"),
        (own(0, name=".."), "models.0.name"),
        (own(0, name="Theirs", trains_on={"theirs": 1.0}), "differ in case alone"),
        (own(0, name="theirs", trains_on={"theirs": 1.0}), "two names or more, each once"),
        (own(0, rewards=["north"]), "judged by a reward that there is not"),
        (own(0, rewards=["east", "east"]), "each once"),
        (own(0, rewards=[]), "must name the columns"),
        (own(1, rewards="east"), "no model's slates are judged by a reward"),
        (own(0, share=1), "unknown key 'models.0.share'"),
        ({"models": TWO["models"][1:]}, "two names or more"),
        ({"model": "ours", "models": []}, "none of [[models]]"),
        ({"control": True}, "without control"),
        ({"alarms": [{"kind": "variance", "floor": 0.5}]}, "without alarms"),
        ({"selection": {"by": "people"}}, "selection.by"),
        ({"selection": {"threshold": 0.0, "k": 1}}, "selection.threshold"),
        ({"engine": {"training": "task"}}, "engine.training"),
        ({"rewards": [EAST | {"weight": 0.5}, TWO["rewards"][1] | {"weight": 0.5}]}, "weights of rewards"),
        (
            {"rewards": [EAST | {"name": "model"}, TWO["rewards"][1]], **own(0, rewards="model")},
            "cannot be called 'model'",
        ),
    ],
)  # fmt: skip
def test_bad_tables_are_refused(changes, said):
    with pytest.raises(InputError) as caught:
        two(**changes)
    assert said in str(caught.value)


def test_what_only_one_model_has_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(InputError, match="contexts"):
        two(contexts={"path": "prompts.txt"})
    with pytest.raises(InputError, match="cannot leave shards to others"):
        several.run(two(), tmp_path / "out", engine=Elsewhere())
    with pytest.raises(InputError, match="which recurate wrote"):
        several.run(two().of_model("ours"), tmp_path / "out")
    with pytest.raises(InputError, match="of a single model"):
        several.run(two(models=[]), tmp_path / "out")
    with pytest.raises(InputError, match=r"recurate\.loop\.several"):
        driver.run(two(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"wait": True}, {"db": "picks.sqlite"}])
def test_options_about_people_are_refused_where_a_rule_picks(options, done, tmp_path):
    plain = {name: value for name, value in TWO.items() if name != "models"}
    for config in (TWO, plain):
        with pytest.raises(InputError, match="nobody is asked"):
            recurate.run(config, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    for folder in (done, done / "models" / "ours"):
        with pytest.raises(InputError, match="nobody is asked"):
            recurate.run(resume=folder, **options)


def test_picks_are_shared_as_the_row_says():
    made = [Picks(np.arange(10.0)), Picks(np.arange(10.0, 20.0))]
    streams = [Stream(0).at(name) for name in "ab"]
    found = shared(made, [3, 7], streams).samples
    assert len(np.unique(found)) == 10
    assert [(found < 10).sum(), (found >= 10).sum()] == [3, 7]
    np.testing.assert_array_equal(shared(made, [10, 0], streams).samples, made[0].samples)
    counts = np.zeros(10)
    for seed in range(400):
        counts[shared(made, [3, 0], [Stream(seed)] * 2).samples.astype(int)] += 1
    assert abs(counts - 120).max() < 5 * np.sqrt(400 * 0.3 * 0.7), "each pick is as likely to be taken"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return a finished run."""
    out = tmp_path_factory.mktemp("several") / "out"
    several.run(two(), out)
    return out


def test_every_model_is_trained_on_its_row(done, monkeypatch):
    """Round 2 is trained on 35 of our 50 picks and 15 of theirs, on all of theirs, and on 12 real samples."""
    seen = []

    fit = KernelDensity.fit
    monkeypatch.setattr(
        KernelDensity, "fit", lambda self, data, **rest: seen.append(data) or fit(self, data, **rest)
    )
    folder = done.with_name("again")
    shutil.copytree(done, folder)
    for name in ("ours", "theirs"):
        shutil.rmtree(folder / "models" / name / "rounds" / "002")
    several.resume(folder)
    stores = ModelsFolder.open(folder).stores()
    picked = {}
    for name, store in stores.items():
        log = store.log(1).select(source=MODEL)
        rows = np.flatnonzero(log.column("picked"))[:50]
        picked[name] = {row.tobytes() for row in store.samples(1)[rows]}
    sets = [{row.tobytes() for row in np.asarray(data)} for data in seen]
    assert [len(data) for data in seen] == [62, 62]
    assert [len(sets[0] & picked["ours"]), len(sets[0] & picked["theirs"])] == [35, 15]
    assert [len(sets[1] & picked["ours"]), len(sets[1] & picked["theirs"])] == [0, 50]
    assert contents(folder) == contents(done), "rounds that are played again are the same"


# --- what the run's folder says -------------------------------------------------------------------


def by_hand(folder, rounds):
    """Return the exact laws (atoms, 2) of every round, with Luce's rule at K = 3 written out, and rewards.

    A candidate's chance of being picked from a slate of three, times three, is its multiplier.
    """
    table = StoredModels(folder).table().to_pandas()
    table = table[table["round"] == 0]
    rewards = table[["east", "west"]].to_numpy()
    real = (table["source"] != MODEL).to_numpy()
    laws = [(table["model"] == name).to_numpy(float) for name in ("ours", "theirs")]
    laws = [law / law.sum() for law in laws]
    reference = real / real.sum()
    out = [np.column_stack(laws)]
    for _ in range(rounds):
        picked = [law * multiplier(law, rewards[:, i]) for i, law in enumerate(laws)]
        mixed = [0.7 * picked[0] + 0.3 * picked[1], picked[1]]
        laws = [0.2 * reference + 0.8 * law for law in mixed]
        out.append(np.column_stack(laws))
    return out, rewards


def multiplier(law, reward):
    """Return 3 E e^r / (e^r + e^r' + e^r'') over two rivals from the law, shape (atoms,)."""
    alive, e = np.flatnonzero(law), np.exp(reward)
    rivals = e[alive][:, None] + e[alive]
    masses = np.outer(law[alive], law[alive])
    return np.array([3 * float((masses * (x / (x + rivals))).sum()) for x in e])


def test_the_law_is_that_of_several_models_by_hand(done):
    laws, rewards = by_hand(done, 1)
    found = Trajectory.read(done / "trajectory.parquet")
    for i, (name, column) in enumerate((("ours", "east"), ("theirs", "west"))):
        expected = [float(law[:, i] @ rewards[:, i]) for law in laws]
        np.testing.assert_allclose(found.values("own_reward", group=name)[:2], expected, rtol=1e-9)
        own = Trajectory.read(done / "models" / name / "trajectory.parquet")
        np.testing.assert_allclose(own.values("mean_reward", reward=column)[:2], expected, rtol=1e-9)
        measured = own.values("mean_reward", reward=column, source=MEASURED)
        both = found.values("own_reward", group=name, source=MEASURED)
        np.testing.assert_allclose(both, measured, rtol=1e-12)
        assert measured[0] == pytest.approx(expected[0])
        assert {"share", "entropy", "kl_to_reference"} <= {row.quantity for row in own.where(FORECAST).rows}
        assert "transmission" not in {row.quantity for row in own.rows}, "others' picks have a part in it"


def test_slates_are_numbered_through_all_models_and_real_data_are_there_once(done):
    table = StoredModels.open(done).table().to_pandas()
    first = table[table["round"] == 0]
    assert (first["source"] != MODEL).sum() == 200
    assert first[first["source"] == MODEL].groupby("slate").size().tolist() == [3] * 120
    assert table.groupby(["round", "slate"])["model"].nunique().eq(1).all()


def test_more_rounds_and_other_engines_give_the_same_bytes(done, tmp_path):
    short = tmp_path / "short"
    several.run(two(rounds=1), short, engine=Processes(1))
    path = short / "config.toml"
    path.write_text(path.read_text().replace("rounds = 1", "rounds = 2", 1))
    several.resume(short)
    mine, whole = contents(short), contents(done)
    assert mine.keys() == whole.keys()
    assert [name for name in mine if "log.parquet" in name or "trajectory" in name]
    assert not [name for name in mine if mine[name] != whole[name]]


def test_accumulating_models_keep_what_they_were_given_in_all_rounds(tmp_path):
    config = two(retraining={"real_fraction": 0.2, "mode": "accumulate"})
    found = several.run(config, tmp_path / "out")
    stores = ModelsFolder.open(tmp_path / "out").stores()
    counts = stores["ours"].counts(2)
    assert (counts["trained_on_picks"], counts["trained_on_real"]) == (100, 62 + 12 + 12)
    law, measured = (found.values("own_reward", group="theirs", source=s) for s in (FORECAST, MEASURED))
    assert (np.diff(law) > 0).all()
    assert law[0] == pytest.approx(measured[0])


def test_a_run_of_a_reproduction_is_begun_resumed_and_read(done, tmp_path):
    config = copy.deepcopy(TWO) | {"rounds": 2}
    task = config, str(tmp_path / "out")
    shutil.copytree(done, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "models" / "theirs" / "rounds" / "002")
    assert play_run(task) == task[1]
    assert contents(tmp_path / "out") == contents(done)
    shutil.rmtree(tmp_path / "out" / "models" / "ours" / "rounds" / "000")
    with pytest.raises(InputError):
        play_run(task)


def test_altered_and_exchanged_parts_are_found(done, tmp_path):
    other = tmp_path / "other"
    several.run(two(seed=6, rounds=1), other)
    folder = tmp_path / "folder"

    def fresh():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(done, folder)
        return StoredModels.open(folder)

    found = fresh()
    found.verify()
    shutil.rmtree(folder / "models" / "theirs")
    shutil.copytree(other / "models" / "theirs", folder / "models" / "theirs")
    with pytest.raises(InputError, match="another run's"):
        found.verify()
    log = folder / "models" / "ours" / "rounds" / "001" / "log.parquet"
    fresh()
    log.write_bytes(log.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="altered"):
        several.resume(folder)
    fresh()
    (folder / "trajectory.parquet").write_bytes((other / "trajectory.parquet").read_bytes())
    with pytest.raises(InputError, match="altered"):
        found.verify()
    fresh()
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace("ours = 0.7", "ours = 0.6").replace("0.3", "0.4", 1))
    with pytest.raises(InputError, match="configuration was changed"):
        several.resume(folder)


def test_a_data_set_with_contexts_is_refused(tmp_path):
    path = tmp_path / "points.jsonl"
    rows = [f'{{"sample": [{i}.0, {i % 3}.5], "context": "c{i % 2}"}}' for i in range(40)]
    path.write_text("\n".join(rows))
    data = {"kind": "table", "path": str(path), "context": "context"}
    config = parse_config({**TWO, "data": data, "groups": None, "measures": {"features": []}})
    with pytest.raises(InputError, match="without contexts"):
        several.run(config, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_command_line_from_start_to_end(tmp_path, recurate_here):
    """A run, its report against the law, and what the other verbs make of its folder."""
    (tmp_path / "two.toml").write_text(write_config(two()))
    done = recurate_here("run", "two.toml", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "own_reward ours" in done.stdout
    assert "0.7 ours, 0.3 theirs" in done.stdout
    page = (tmp_path / "out" / "report.html").read_text()
    for text in ("The models beside each other", "Where curation is reversed", "70 %", "by the law"):
        assert text in page
    assert "Model theirs, one of 2" in (tmp_path / "out" / "models" / "theirs" / "report.html").read_text()
    law = recurate_here("forecast", "out", "--rounds", 2, "--out", "law")
    assert law.returncode == 0, law.stderr
    forecast, run = (Trajectory.read(tmp_path / name / "trajectory.parquet") for name in ("law", "out"))
    for name in ("ours", "theirs"):
        for source in (FORECAST, MEASURED):
            values = [t.values("own_reward", group=name, source=source) for t in (forecast, run)]
            np.testing.assert_allclose(*values, rtol=1e-9)
    assert "not those of the run" not in law.stderr
    (tmp_path / "what.toml").write_text(
        '[[models]]\nname = "ours"\nrewards = "east"\n[[models]]\nname = "theirs"\nrewards = "west"\n'
    )
    asked = recurate_here("forecast", "out", "--models", "what.toml", "--out", "asked")
    assert "not those of the run" in asked.stderr
    alone = Trajectory.read(tmp_path / "asked" / "trajectory.parquet").values("own_reward", group="ours")
    assert alone[1] > forecast.values("own_reward", group="ours")[1]
    audited = recurate_here("audit", "out/models/ours")
    assert audited.returncode == 0, audited.stdout
    assert "changes were not decomposed" in audited.stderr
    assert recurate_here("compare", "out/models/ours", "out/models/theirs").returncode == 0
    assert recurate_here("report", "out").returncode == 0
    assert "several models" in refused(recurate_here("plan", "out"))
    assert "recurate forecast" in refused(recurate_here("forecast", "out/models/ours"))
    assert "goes on with all of them" in refused(recurate_here("run", "--resume", "out/models/ours"))
    assert "which recurate wrote" in refused(
        recurate_here("run", "out/models/ours/config.toml", "--out", "new")
    )
    assert "not empty" in refused(recurate_here("run", "two.toml", "--out", "out"))
    assert recurate_here("run", "--resume", "out").returncode == 0
