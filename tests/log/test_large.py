"""Logs that are read in parts: the same numbers as of the whole, and what cannot be read so is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recurate
from recurate.core.errors import InputError
from recurate.core.limits import ROWS
from recurate.log import large
from recurate.log.candidates import Candidates
from recurate.log.reading.mapping import Given
from recurate.log.schema import as_log, write_log
from recurate.metrics.estimates import Repeats, entropy, mean, shares, standard_error, variance
from recurate.metrics.partition import partition
from recurate.verbs.audit.declared import Declared

ITEMS, K = 12, 4


def made(slates: int, rounds: int = 2, seed: int = 0, real: int = 0, **more) -> pa.Table:
    """A log of Luce picks, sorted by round and slate, with rewards that groups and items shift."""
    rng = np.random.default_rng(seed)
    worth = np.linspace(-1, 1, ITEMS)
    parts = []
    for t in range(rounds):
        items = rng.integers(ITEMS, size=(slates, K))
        rewards = worth[items] + rng.normal(0.2 * t, 0.5, size=(slates, K))
        picks = (rewards + rng.gumbel(size=rewards.shape)).argmax(axis=1)
        parts.append(
            pa.table(
                {
                    "round": np.full(slates * K, t),
                    "slate": np.repeat(np.arange(slates), K),
                    "item": items.ravel(),
                    "reward": rewards.ravel(),
                    "length": rng.poisson(20, size=slates * K).astype(float) + 3 * rewards.ravel(),
                    "kind": np.where(items.ravel() % 3 == 0, "a", "b"),
                    "source": np.full(slates * K, "model"),
                    "picked": (np.arange(K) == picks[:, None]).ravel().astype(int),
                }
                | more
            )
        )
    if real:
        parts.append(real_rows(real, rng))
    return pa.concat_tables(parts, promote_options="default")


def real_rows(count: int, rng: np.random.Generator) -> pa.Table:
    return pa.table(
        {
            "round": np.zeros(count, int),
            "slate": pa.nulls(count, pa.int64()),  # as in a run's own log
            "reward": rng.normal(0.5, 0.7, count),
            "length": rng.poisson(20, size=count).astype(float),
            "kind": rng.choice(["a", "b"], count),
            "source": np.full(count, "real"),
            "picked": np.zeros(count, int),
        }
    )


@pytest.fixture
def parts(monkeypatch):
    """Logs of more than 1,000 rows are read in parts, with samples of 4,000 rows."""
    monkeypatch.setattr(large, "SAMPLE", 4000)
    return lambda: monkeypatch.setenv(ROWS, "1000")


def files(table: pa.Table, folder, count: int = 3, cut: int = 997):
    """Write a table as several files whose row groups end within slates; whole slates per file."""
    folder.mkdir()
    size = table.num_rows // K // count * K
    for i in range(count):
        piece = table.slice(i * size, size if i < count - 1 else None)
        pq.write_table(piece, folder / f"part-{i}.parquet", row_group_size=cut)
    return folder


def rows_of(result) -> dict:
    return {(r.round, r.source, r.quantity, r.reward, r.group): r for r in result.trajectory.rows}


def same_forecasts(part, whole, error: float) -> None:
    mine, theirs = rows_of(part), rows_of(whole)
    assert mine.keys() == theirs.keys()
    for key, row in mine.items():
        # The cells of the divergence may be cut elsewhere between two candidates that are nearly equal.
        near = 2e-5 if row.quantity == "kl_to_reference" else error
        near = 5e-5 if row.key[0] == "kl_to_reference" and row.source != "forecast" else near
        assert row.value == pytest.approx(theirs[key].value, rel=near, abs=near), key
        if row.source == "measured" and row.lower is not None:
            ends = theirs[key].lower, theirs[key].upper
            assert (row.lower, row.upper) == pytest.approx(ends, rel=1e-6, abs=near)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"group": "kind", "track": "length"},
        {"real_fraction": 0.3, "group": "kind"},
        {"k": 3, "temperature": 0.5, "then": [2], "rounds": 4},
        {"renew": True},
    ],
)
@pytest.mark.usefixtures("few_replicates")
def test_forecasts_are_those_of_the_whole(tmp_path, parts, asked):
    real = 3000 if "real_fraction" in asked else 0
    source = files(made(3000, real=real), tmp_path / "log")
    asked = {"k": K, "temperature": 1.0} | asked
    whole = recurate.forecast(source, **asked)
    parts()
    part = recurate.forecast(source, **asked)
    assert part.candidates == whole.candidates == 12_000
    assert part.setting.picks == whole.setting.picks
    assert any("are read in parts" in note for note in part.opened.notes)
    assert any("atoms in cells of" in warning for warning in part.warnings)
    same_forecasts(part, whole, 1e-8)


@pytest.mark.usefixtures("few_replicates")
def test_equal_rewards_stay_exact(tmp_path, parts):
    rng = np.random.default_rng(1)
    values = np.array([0.1, 0.3, 0.7])[rng.integers(3, size=8000)]
    table = pa.table({"round": np.zeros(8000, int), "slate": np.repeat(np.arange(2000), K), "reward": values})
    source = files(table, tmp_path / "log")
    whole = recurate.forecast(source, threshold=0.3, rounds=1)
    parts()
    part = recurate.forecast(source, threshold=0.3, rounds=1)
    same_forecasts(part, whole, 1e-12)
    assert part.law.size == 3


def test_bands_know_the_size_of_the_pool(tmp_path, parts):
    source = files(made(6000, rounds=1), tmp_path / "log")
    asked = {"k": K, "temperature": 1.0, "picks": 500, "rounds": 3}
    whole = rows_of(recurate.forecast(source, **asked))
    parts()
    part = rows_of(recurate.forecast(source, **asked))
    widths = [
        (part[key].upper - part[key].lower) / (row.upper - row.lower)
        for key, row in whole.items()
        if row.lower is not None and row.upper > row.lower
    ]
    assert len(widths) > 5
    assert 0.7 < min(widths) <= max(widths) < 1.4  # both are simulated, by other cells


@pytest.mark.parametrize("model", ["items", "score"])
def test_estimates_are_those_of_the_whole(tmp_path, parts, model):
    table = made(4000, rounds=1)
    source = files(table, tmp_path / "log")
    asked = {"model": "items", "item": "item"} if model == "items" else {"score": "reward"}
    whole = recurate.fit(source, **asked)
    parts()
    part = recurate.fit(source, **asked)
    mine, theirs = (part.items, whole.items) if model == "items" else (part.logit, whole.logit)
    assert mine.slates == theirs.slates > 3990
    assert mine.log_likelihood == pytest.approx(theirs.log_likelihood, rel=1e-9)
    assert mine.null_log_likelihood == pytest.approx(theirs.null_log_likelihood, rel=1e-12)
    np.testing.assert_allclose(mine.errors, theirs.errors, rtol=1e-4)
    if model == "items":
        np.testing.assert_allclose(mine.rewards, theirs.rewards, atol=1e-5)
    else:
        np.testing.assert_allclose(mine.coefficients, theirs.coefficients, rtol=1e-6)
        assert part.temperature == pytest.approx(whole.temperature, rel=1e-5)


def test_items_may_be_words_and_slates_of_several_sizes(tmp_path, parts):
    table = made(3000, rounds=1)
    words = pa.array([f"item {i}" for i in table.column("item").to_pylist()])
    table = table.set_column(2, "item", words).drop_columns(["reward", "length", "kind"])
    picked = table.column("picked").to_numpy()
    keep = ~((np.arange(table.num_rows) % 12 == 3) & (picked == 0))  # some slates lose a candidate
    source = files(table.filter(pa.array(keep)), tmp_path / "log", count=1)
    whole = recurate.fit(source, model="items")
    assert len(set(whole.reading.slates.sizes)) == 2
    parts()
    part = recurate.fit(source, model="items")
    assert part.items.slates == whole.items.slates
    np.testing.assert_allclose(part.items.rewards, whole.items.rewards, atol=1e-5)


def test_an_estimate_that_stays_the_samples_is_said(tmp_path, parts):
    table = made(3000, rounds=1)
    people = pa.array([f"p{s % 50}" for s in table.column("slate").to_pylist()])
    source = files(table.append_column("chooser", people), tmp_path / "log")
    parts()
    found = recurate.fit(source, score="reward", groups=0)
    assert found.logit.slates == 1000
    assert any("rest on the sample alone: choosers pick several times" in w for w in found.warnings)


def test_an_audit_judges_the_sample_and_says_so(tmp_path, parts):
    source = files(made(3000), tmp_path / "log")
    parts()
    found = recurate.audit(source, declared=Declared(k=K, temperature=1.0, picks=3000))
    verdicts = {f.aspect: f for f in found.findings}
    assert verdicts["slate size K"].verdict == "ok"
    assert verdicts["picks per round"].verdict == "not verified"
    assert "read in parts" in verdicts["picks per round"].recovered + verdicts["picks per round"].evidence
    assert not any(f.verdict == "mismatch" for f in found.findings)
    assert found.opened.log.table.num_rows == 4000


@pytest.mark.usefixtures("few_replicates")
def test_a_plan_rests_on_the_sample(tmp_path, parts):
    source = files(made(3000, rounds=1), tmp_path / "log")
    parts()
    found = recurate.plan(source, rounds=2, kl=0.5)
    assert any("are read in parts" in note for note in found.opened.notes)


def test_slates_are_counted_where_parts_cut_them(tmp_path, parts):
    table = made(3000, rounds=2)
    source = files(table, tmp_path / "log", cut=1001)
    parts()
    found = large.open_large(source, Given(picks=False))
    assert found is not None
    assert found.sizes == {K: 6000}
    assert (found.rows, found.first) == (24_000, (0, 3000))
    assert found.sample.num_rows == 4000
    sizes = np.unique(found.sample.column("round").to_numpy(), return_counts=True)[1]
    assert sizes.tolist() == [2000, 2000]
    offsets = [o for o, _ in large.slate_blocks(found, ["picked"])]
    assert sum(len(o) - 1 for o in offsets) == 6000
    assert all((np.diff(o) == K).all() for o in offsets)


@pytest.mark.usefixtures("few_replicates")
def test_rounds_and_slates_may_be_absent(tmp_path, parts):
    table = made(3000, rounds=1)
    rows = np.arange(table.num_rows)
    pool = table.drop_columns(["slate", "picked", "source", "kind"])  # the best fifth of every round's pool
    best = table.column("reward").to_numpy() > np.quantile(table.column("reward").to_numpy(), 0.8)
    for name, one in {
        "no round": table.drop_columns(["round"]),
        "a pool": pool.append_column("picked", pa.array(best)),
        "rewards": pool.drop_columns(["round"]),
        "real data later": pa.concat_tables(
            [table, real_rows(500, np.random.default_rng(0)).set_column(0, "round", pa.array([1] * 500))],
            promote_options="default",
        ),
    }.items():
        source = files(one, tmp_path / name)
        asked = {"temperature": 1.0, "rounds": 2, "rule": None if name == "a pool" else "luce"}
        if name == "a pool":
            del asked["temperature"]
        whole = recurate.forecast(source, **asked)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(ROWS, "1000")
            part = recurate.forecast(source, **asked)
        assert part.candidates == whole.candidates == rows.size, name
        assert part.setting.picks == (whole.setting.picks and pytest.approx(whole.setting.picks, rel=0.05)), (
            name
        )
        assert type(part.ruling.rule) is type(whole.ruling.rule), name
        if name != "a pool":
            same_forecasts(part, whole, 1e-8)


def shifted(table: pa.Table, first: int, **columns) -> pa.Table:
    """Return a table with other values in some columns from a row on."""
    for name, values in columns.items():
        own = np.asarray(table.column(name).to_pylist(), object)
        own[first:] = values
        table = table.set_column(table.column_names.index(name), name, pa.array(own.tolist()))
    return table


def real_slates(count: int) -> pa.Table:
    """Real data that have slates of their own, of two."""
    own = made(count, rounds=1, seed=8)
    own = own.filter(pa.array(np.arange(own.num_rows) % K < 2))
    own = shifted(own, 0, source="real", slate=(np.arange(own.num_rows) // 2 + 10**6).tolist())
    return shifted(own, 0, picked=0)


@pytest.mark.usefixtures("few_replicates")
@pytest.mark.parametrize("case", ["real slates", "outliers", "bool groups", "file without source", "wide"])
def test_kinds_that_a_reader_found(tmp_path, parts, case):
    table, asked = made(3000), {"rule": "luce", "temperature": 1.0, "rounds": 2}
    if case == "real slates":
        table, asked = (
            pa.concat_tables([made(3000, rounds=1), real_slates(500)]),
            asked | {"real_fraction": 0.3},
        )
    elif case == "outliers":
        table = shifted(
            shifted(table, 9000, reward=table.column("reward").to_pylist()[9000:]), 23_999, reward=-1e6
        )
    elif case == "bool groups":
        table = table.set_column(5, "kind", pa.array(table.column("item").to_numpy() > 5))
        asked["group"] = "kind"
    elif case == "wide":
        table, asked = shifted(table, 23_990, reward=[300.0] * 10), asked | {"lapse": 0.0}
    source = files(table, tmp_path / "log")
    if case == "file without source":
        path = tmp_path / "log" / "part-1.parquet"
        pq.write_table(pq.read_table(path).drop_columns(["source"]), path)
    whole = recurate.forecast(source, **asked)
    parts()
    part = recurate.forecast(source, **asked)
    assert part.candidates == whole.candidates
    assert part.setting.rule == whole.setting.rule
    same_forecasts(part, whole, 1e-7)


def test_rows_of_a_slate_that_are_apart_behind_the_sample_are_refused(tmp_path, parts):
    table = made(3000, rounds=1)
    order = np.r_[:6000, 6000 + np.random.default_rng(0).permutation(6000)]
    source = files(table.take(order), tmp_path / "log", count=1)
    parts()
    with pytest.raises(InputError, match="not together"):
        recurate.forecast(source, k=K, temperature=1.0)


def test_whole_slates_in_any_order_are_read(tmp_path, parts):
    table = made(3000, rounds=1)
    order = (np.random.default_rng(0).permutation(3000)[:, None] * K + np.arange(K)).ravel()
    source = files(table.take(order), tmp_path / "log")
    parts()
    assert recurate.forecast(source, temperature=1.0, rule="luce").setting.rule.k == K


def test_slates_without_picks_do_not_set_k(tmp_path, parts):
    table = made(3000, rounds=1)
    apart = made(600, rounds=1, seed=3)
    apart = shifted(apart, 0, picked=0, slate=np.repeat(np.arange(300), 8).tolist())
    order = np.r_[:600]  # every eleventh slate has eight candidates and no pick
    pieces = []
    for i in order[:300]:
        pieces += [table.slice(40 * i, 40), shifted(apart.slice(8 * i, 8), 0, slate=10_000 + int(i))]
    source = files(pa.concat_tables(pieces), tmp_path / "log", count=1)
    whole = recurate.forecast(source, rounds=1)
    parts()
    part = recurate.forecast(source, rounds=1)
    assert part.setting.rule.k == whole.setting.rule.k == K
    assert any("slates without a pick may have other sizes" in w for w in part.warnings)


def test_a_fit_leaves_out_real_data(tmp_path, parts):
    table = pa.concat_tables([made(1500, rounds=1), shifted(real_slates(400), 0, picked=[1, 0] * 400)])
    source = files(table, tmp_path / "log", count=1)
    parts()
    assert recurate.fit(source, score="reward").logit.slates == 1500


def test_sums_that_do_not_converge_leave_the_samples_estimate(tmp_path, parts, monkeypatch):
    source = files(made(3000, rounds=1), tmp_path / "log")
    parts()
    monkeypatch.setattr("recurate.verbs.fit.parts.STEPS", 1)
    found = recurate.fit(source, score="reward")
    assert found.logit.slates == 1000
    assert any("have not converged after 1 passes" in w for w in found.warnings)


def test_prompts_that_differ_behind_the_sample_are_refused(tmp_path, parts):
    table = made(3000, rounds=1)
    text = ["" if i < 8000 else f"p{i // 40}" for i in range(table.num_rows)]
    (tmp_path / "log").mkdir()
    write_log(as_log(table.append_column("context", [text])), tmp_path / "log" / "log.parquet")
    parts()
    with pytest.raises(InputError, match="have prompts"):
        recurate.forecast(tmp_path / "log" / "log.parquet", k=2, temperature=1.0)


@pytest.mark.parametrize("picks", [True, False])
def test_real_data_of_this_size_are_read_in_parts(tmp_path, parts, picks):
    source, real = files(made(3000, rounds=1), tmp_path / "log"), made(2000, rounds=1, seed=5)
    real = shifted(real, 4000, reward=(real.column("reward").to_numpy()[4000:] + 0.5).tolist())
    other = files(real if picks else real.drop_columns(["picked"]), tmp_path / "real", count=1)
    asked = {
        "context": "none",
        "reference": other,
        "real_fraction": 0.3,
        "k": 2,
        "temperature": 1.0,
        "rounds": 1,
    }
    whole = recurate.forecast(source, **asked)
    parts()
    same_forecasts(recurate.forecast(source, **asked), whole, 1e-7)


def test_cells_too_wide_for_the_temperature_are_refused(tmp_path, parts, monkeypatch):
    source = files(made(3000, rounds=1), tmp_path / "log")
    parts()
    monkeypatch.setattr(large, "CELLS", 64)
    with pytest.raises(InputError, match="too far apart for this temperature"):
        recurate.forecast(source, k=K, temperature=0.05, rounds=20)


def test_a_reward_made_of_columns_is_refused(tmp_path, parts):
    table = made(3000, rounds=1)
    total = table.column("reward").to_numpy() + table.column("length").to_numpy()
    source = files(table.append_column("total", pa.array(total)), tmp_path / "log", count=1)
    parts()
    with pytest.raises(InputError, match="needs one row per candidate and plain columns"):
        recurate.forecast(source, reward="reward+length", k=K, temperature=1.0)


def test_other_sizes_beyond_the_sample_are_used(tmp_path, parts):
    table = made(3000, rounds=1)
    late = made(1000, rounds=1, seed=3).set_column(1, "slate", pa.array(np.repeat(np.arange(5000, 5500), 8)))
    source = files(pa.concat_tables([table, late]), tmp_path / "log", count=1)
    parts()
    found = recurate.forecast(source, rule="luce", temperature=1.0, rounds=1)
    assert dict(found.ruling.rule.sizes) == pytest.approx({4.0: 6 / 7, 8.0: 1 / 7})


@pytest.mark.usefixtures("few_replicates")
def test_arrow_files_are_read_in_parts_too(tmp_path, parts):
    table = made(3000, rounds=1)
    with pa.OSFile(str(tmp_path / "log.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=1003)
    whole = recurate.forecast(tmp_path / "log.arrow", k=2, temperature=1.0, rounds=2)
    parts()
    part = recurate.forecast(tmp_path / "log.arrow", k=2, temperature=1.0, rounds=2)
    for key, row in rows_of(part).items():
        assert row.value == pytest.approx(rows_of(whole)[key].value, rel=1e-8, abs=1e-8)


def test_a_runs_own_logs_are_read_in_parts_unless_they_have_prompts(tmp_path, parts):
    table = made(1500, rounds=2)
    for prompts in (False, True):
        text = np.array(["ask", "tell"])[np.arange(1500) % 2].repeat(K) if prompts else [""] * (1500 * K)
        for t in (0, 1):
            own = table.filter(pa.array(table.column("round").to_numpy() == t)).append_column(
                "context", [text]
            )
            folder = tmp_path / str(prompts) / f"{t:03d}"
            folder.mkdir(parents=True)
            write_log(as_log(own), folder / "log.parquet")
    parts()
    found = recurate.forecast(str(tmp_path / "False" / "*" / "log.parquet"), k=2, temperature=1.0, rounds=1)
    assert found.candidates == 6000
    with pytest.raises(InputError, match="have prompts"):
        recurate.forecast(str(tmp_path / "True" / "*" / "log.parquet"), k=2, temperature=1.0, rounds=1)
    asked = {"k": 2, "temperature": 1.0, "rounds": 1, "context": "none"}
    assert recurate.forecast(str(tmp_path / "True" / "*" / "log.parquet"), **asked).candidates == 6000


def _without(table: pa.Table, name: str, row: int, value) -> pa.Table:
    values = table.column(name).to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: _without(t, "reward", 9000, float("nan")), "'reward' is not a finite number"),
        (lambda t: _without(t, "reward", 9000, None), "'reward' is not a finite number"),
        (lambda t: _without(t, "source", 9000, "other"), "neither 'model' nor 'real'"),
        (lambda t: _without(t, "round", 9000, None), "'round' is empty in some rows"),
        (lambda t: t.append_column("prompt", pa.array(["a", "b"] * (t.num_rows // 2))), "--context none"),
        (
            lambda t: t.take(np.random.default_rng(0).permutation(t.num_rows)),
            "sort the rows by round and slate",
        ),
    ],
)
def test_what_cannot_be_read_in_parts_is_refused(tmp_path, parts, change, said):
    source = files(change(made(3000, rounds=1)), tmp_path / "log", count=1)
    parts()
    with pytest.raises(InputError) as error:
        recurate.forecast(source, k=K, temperature=1.0)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: _without(t, "picked", 9000, 1), "exactly one pick"),
        (lambda t: _without(t, "item", 9000, 77), "does not occur in its sample"),
    ],
)
def test_slates_that_cannot_be_estimated_from_are_refused(tmp_path, parts, change, said):
    table = made(3000, rounds=1)
    table = _without(table, "picked", 9000, 0) if "item" in said else table
    table = _without(table, "picked", 9001, table.column("picked")[9001].as_py())
    rows = table.column("picked").to_numpy()[9000:9004]
    if "pick" in said and rows[0] == 1:
        table = _without(_without(table, "picked", 9000, 0), "picked", 9001, 1)
    elif rows.sum() == 0:
        table = _without(table, "picked", 9001, 1)
    source = files(change(table), tmp_path / "log", count=1)
    parts()
    with pytest.raises(InputError) as error:
        recurate.fit(source, model="items", item="item")
    assert said in str(error.value)


def test_values_that_repeat_are_estimated_as_if_each_were_there():
    rng = np.random.default_rng(4)
    values, counts = rng.normal(size=50), rng.integers(1, 9, size=50)
    codes = rng.integers(3, size=50)
    long, own = np.repeat(values, counts), Repeats(counts.astype(float))
    many = np.repeat(codes, counts)
    for estimate in (mean, variance):
        mine, theirs = estimate(values, None, own), estimate(long)
        assert (mine.value, mine.se) == pytest.approx((theirs.value, theirs.se), rel=1e-12)
    for mine, theirs in zip(shares(codes, 3, None, own), shares(many, 3), strict=True):
        assert (mine.value, mine.se) == pytest.approx((theirs.value, theirs.se), rel=1e-12)
    mine, theirs = entropy(codes, 3, None, own), entropy(many, 3)
    assert (mine.value, mine.se) == pytest.approx((theirs.value, theirs.se), rel=1e-12)
    assert standard_error(values, own) == pytest.approx(standard_error(long), rel=1e-12)


def test_cells_of_repeated_points_have_the_same_divergence():
    rng = np.random.default_rng(5)
    points, counts = rng.normal(size=(400, 1)), rng.integers(1, 5, size=400).astype(float)
    cells = partition(points, counts)
    assert cells.reference_size == counts.sum()
    assert cells.reference.min() * counts.sum() >= 25
    long = np.repeat(points, counts.astype(int), axis=0)
    mine, theirs = cells.kl(cells.assign(points), counts=counts), cells.kl(cells.assign(long))
    assert (mine.value, mine.se) == pytest.approx((theirs.value, theirs.se), rel=1e-10)


def test_candidates_count_as_often_as_they_stand_for():
    some = Candidates(np.zeros((2, 1)), ("r",), counts=np.array([3.0, 1.0]))
    both = some.join(Candidates(np.ones((2, 1)), ("r",)))
    assert (some.size, both.size) == (4, 6)
    assert both.take(np.array([0, 2])).counts.tolist() == [3.0, 1.0]
