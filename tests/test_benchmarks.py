"""The benchmarks on tiny models: same numbers on all sides, no timing asserted."""

import sys
from functools import cache
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks import __main__ as command
from benchmarks import (
    bottleneck,
    inputs,
    jensen_shannon,
    profile,
    race,
    record,
    rips,
    scaling,
    sides,
    wasserstein,
    whole,
)
from pipeline import store
from pipeline.errors import InputError
from tests import tiny

TOKENS = 16
PAIRS = 24 * 23 // 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A conf/model/ of two tiny models, of 3 layers and 4 heads each, and a work folder."""
    home = tmp_path_factory.mktemp("benchmarks")
    (home / "model").mkdir()
    for kind, name in (("bert", "minilm"), ("gpt2", "smollm2")):
        spec = vars(tiny.spec(tiny.save(kind, home / kind)))
        (home / "model" / f"{name}.yaml").write_text(yaml.safe_dump(spec), "utf-8")
    return home


@pytest.fixture(scope="module")
def load(folder):
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(inputs, "CONF", folder)
        changed.setenv("ATTENTION_TOPOLOGY_WORK", str(folder / "work"))
        yield cache(inputs.load)


@pytest.fixture(scope="module")
def work(load):
    return whole.prepare(load, whole.Job(inputs.MODELS, TOKENS, texts=2))


@pytest.fixture(scope="module")
def ours(work):
    return sides.ours(work)


@pytest.fixture(scope="module")
def libraries():
    with sides.worker_pool(1) as pool:
        yield sides.libraries(pool, 1)


# ---- inputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [8, 17, 40])
def test_inputs_have_exactly_the_tokens_asked_for(load, tokens):
    maps = inputs.attention_maps(load, inputs.MODELS, [tokens])
    assert list(maps) == [("minilm", tokens), ("smollm2", tokens)]
    for A in maps.values():
        assert A.shape == (12, tokens, tokens)
        assert A.dtype == np.float64
        np.testing.assert_allclose(A.sum(-1), 1, rtol=1e-15)
    assert np.triu(maps["smollm2", tokens], 1).max() == 0 < np.triu(maps["minilm", tokens], 1).max()


def test_kept_inputs_need_no_model_and_are_the_same(load):
    made = inputs.attention_maps(load, ["minilm"], [12])["minilm", 12]
    kept = inputs.attention_maps(lambda name: pytest.fail(name), ["minilm"], [12])["minilm", 12]
    np.testing.assert_array_equal(made, kept)


def test_a_model_of_many_heads_gives_layers_spread_over_all(load, monkeypatch):
    monkeypatch.setattr(inputs, "ALL_HEADS", 11)
    monkeypatch.setattr(inputs, "SPREAD", 2)
    assert inputs.chosen_layers(load("minilm")) == [0, 2]


def test_of_long_texts_some_heads_are_taken_evenly():
    maps = {("a", n): np.arange(10)[:, None, None] * np.ones((n, n)) for n in (2, 3, 4)}
    some = inputs.spread(maps, {3: 4, 4: 20})
    assert [A[:, 0, 0].tolist() for A in some.values()] == [
        list(range(10)),
        [0, 3, 6, 9],
        list(range(10)),
    ]


def test_texts_too_short_are_refused(load):
    with pytest.raises(InputError, match="ask for fewer with --sizes"):
        inputs.text([load("minilm")], 10**6)


# ---- the three sides --------------------------------------------------------------------------


def test_all_sides_give_the_same_numbers(work, ours, libraries):
    theirs, notebook = libraries(work), sides.notebook(work)
    assert ours.distances.shape == theirs.distances.shape == (2, 2, PAIRS)
    assert ours.distances.max() > 0.01
    np.testing.assert_allclose(theirs.distances, ours.distances, rtol=0, atol=1e-7)
    whole.check_distances(ours, theirs, "libraries")
    whole.check_diagrams(ours, theirs, "libraries")
    # Of the notebook all but the last step: gudhi.bottleneck_distance is wrong on some small
    # diagrams (above the exact distance, by up to a third in MATHS.md's example).
    whole.check_diagrams(ours, notebook, "notebook")
    assert notebook.distances.shape == ours.distances.shape


def test_samples_are_of_the_same_numbers(work, ours, libraries):
    some = sides.notebook(sides.some_heads(work, 5, seed=3))
    assert [len(shapes) for shapes in some.shapes] == [5, 5]
    assert some.distances.shape == (2, 2, 10)
    assert set(some.work.first) | set(some.work.second) == set(some.work.heads)
    whole.check_diagrams(ours, some, "notebook")
    pairs = libraries(sides.some_pairs(work, 30, seed=3))
    assert pairs.distances.shape == (2, 2, 30)
    whole.check_distances(ours, pairs, "libraries")


def test_a_bar_moved_fails_loudly(ours):
    shapes = [[[bars.copy() for bars in shape] for shape in text] for text in ours.shapes]
    shapes[1][7][0][0, 1] += 1e-6
    with pytest.raises(InputError, match="text 1, head 7, dimension 0"):
        whole.check_diagrams(ours, ours._replace(shapes=shapes), "others")
    shapes = [[[bars[:-1] for bars in shape] for shape in text] for text in ours.shapes]
    with pytest.raises(InputError, match="inf from ours"):
        whole.check_diagrams(ours, ours._replace(shapes=shapes), "others")


@pytest.mark.parametrize("change", [1e-6, -1e-6, np.nan])
def test_a_distance_moved_fails_loudly(ours, change):
    distances = ours.distances.copy()
    distances[1, 0, 5] += change
    with pytest.raises(InputError, match=f"1 of {4 * PAIRS} distances"):
        whole.check_distances(ours, ours._replace(distances=distances), "others")


def test_sampled_times_are_scaled_to_all(load, monkeypatch):
    work = whole.prepare(load, whole.Job(("minilm",), 8))
    seconds = iter([0.0, 1.0, 3.0, 6.0])  # forward 1, heads 2, pairs 3
    monkeypatch.setattr(sides.time, "perf_counter", lambda: next(seconds))
    found = sides.notebook(sides.some_heads(work, 4, seed=0))
    assert found.seconds == pytest.approx(1 + 2 * 12 / 4 + 3 * 66 / 6)


def test_ratios_are_over_ours_round_by_round(load):
    job = whole.Job(("minilm",), 8)
    work = whole.prepare(load, job)
    ours = sides.ours(work)
    rounds = [
        {"ours": ours._replace(seconds=a), "others": ours._replace(seconds=b)}
        for a, b in [(1.0, 30.0), (2.0, 20.0), (4.0, 50.0)]
    ]
    row = whole._row(job, work, "others", rounds)
    assert (row["best_s"], row["median_s"], row["ratio"]) == (20, 30, 15)
    assert (row["ratio_min"], row["ratio_max"]) == (10, 30)
    assert row["distances_not_ours"] == "0 of 396"


# ---- where time goes, and how it grows --------------------------------------------------------


def test_a_step_does_not_count_what_it_calls(monkeypatch):
    now = iter([0, 1, 3, 7, 15, 31])  # turns: outer in, inner in, inner out, outer out, end
    monkeypatch.setattr(profile.time, "perf_counter", lambda: next(now))
    clock = profile.Clock()
    inner = clock.timed("inner", lambda value: value + 1)
    assert clock.timed("outer", lambda value: inner(value))(1) == 2
    clock.turn()
    assert clock.seconds == {profile.REST: 1 + 16, "outer": 2 + 8, "inner": 4}


def test_every_step_of_the_profile_is_met(load):
    rows = profile.run(load, [whole.Job(("minilm",), 8)], 1)
    assert [row["step"] for row in rows] == [*profile.STEPS, profile.REST]
    assert all(row["median_s"] > 0 for row in rows)
    assert sum(row["percent"] for row in rows) == pytest.approx(100)


def test_exponents_of_power_laws():
    def rows(model, name, law):
        return [
            {"model": model, "tokens": n, "implementation": name, "median_ms": law(n), "ratio": 1}
            for n in (32, 64, 128)
        ]

    cubic, flat = rows("minilm", "ours", lambda n: 5 * n**2.5), rows("smollm2", "x", lambda n: 7.0)
    given = {"jensen_shannon": cubic + flat, "rips": cubic[:2], "whole": [{"model": "minilm"}]}
    steep, level = scaling.run(given)
    assert (steep["kernel"], steep["model"], steep["implementation"]) == (
        "jensen_shannon",
        "minilm",
        "ours",
    )
    assert steep["sizes"] == "32, 64, 128"
    assert steep["exponent"] == pytest.approx(2.5, abs=1e-12)
    assert level["exponent"] == pytest.approx(0, abs=1e-12)
    assert steep["standard_error"] == pytest.approx(0, abs=1e-12)


def test_timings_without_a_median_are_refused():
    with pytest.raises(InputError, match="must say median"):
        scaling.median({"tokens": 32, "best_ms": 1.0})


def test_timings_that_cannot_be_told_apart_are_refused():
    row = {"model": "a", "tokens": 32, "implementation": "ours", "median_ms": 1.0}
    with pytest.raises(InputError, match="name what tells them apart"):
        scaling.run({"rips": [row, row]})


# ---- the command ------------------------------------------------------------------------------


def test_rows_of_many_kinds_are_kept_and_shown(tmp_path):
    results = {
        "rips": [{"model": "a", "tokens": 32, "median_ms": 0.123456, "peer": None, "x": 1}],
        "bottleneck": [{"model": "a", "dimension": "both", "median_us": 12345.6, "x": 0.5}],
    }
    page = record.write(tmp_path, results, record.setting())
    assert page == (tmp_path / "results.md").read_text("utf-8")
    assert "| a | 32 | 0.123 |  | 1 |" in page
    assert "| a | both | 12,346 | 0.5 |" in page
    table = pq.read_table(tmp_path / "results.parquet")
    assert table["benchmark"].to_pylist() == ["rips", "bottleneck"]
    assert table["median_ms"].to_pylist() == [0.123456, None]
    assert table["x"].to_pylist() == [1.0, 0.5]
    assert b'"cpu"' in table.schema.metadata[store.PROVENANCE]


def test_the_command_runs_every_part_it_finds(load, tmp_path, monkeypatch, capsys):
    seen = {}
    module = ModuleType("benchmarks.rips")
    module.__spec__ = object()

    def run(given):
        seen.update(given)
        return [
            {"model": m, "tokens": n, "implementation": "ours", "median_ms": float(n**2)}
            for m, n in given
        ]

    module.run = run
    monkeypatch.setitem(sys.modules, "benchmarks.rips", module)
    monkeypatch.setattr(whole, "QUICK", (whole.Job(("minilm",), 8, 1, 5, 20),))
    command.main(["--quick", "--sizes", "6", "8", "12", "--to", str(tmp_path), *parts()])
    assert list(seen) == [("minilm", n) for n in (6, 8, 12)]
    for (_, n), D in seen.items():
        assert D.shape == (12, n, n)
        np.testing.assert_array_equal(D, D.transpose(0, 2, 1))
    out = capsys.readouterr()
    assert "| rips | minilm | ours | 6, 8, 12 | 2 |" in out.out
    assert "whole, minilm, 8 tokens, round 1: notebook" in out.err


def parts():
    return ["rips", "scaling", "whole", "profile"]


def test_a_part_that_fails_leaves_what_was_measured(load, monkeypatch, capsys):
    def broken(plan, results):
        raise InputError("a side's numbers are not ours")

    monkeypatch.setitem(command.PARTS, "rips", lambda plan, results: [{"tokens": 7}])
    monkeypatch.setitem(command.PARTS, "whole", broken)
    with pytest.raises(SystemExit):
        command.main(["--quick", "rips", "whole"])
    assert "error: a side's numbers are not ours" in capsys.readouterr().err
    kept = store.work_folder() / "benchmarks" / "results" / "results.md"
    assert "| 7 |" in kept.read_text("utf-8")


def test_a_kernel_that_is_not_there_is_named(monkeypatch, capsys):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert command.kernel("rips", None, {}) == []
    assert "there is no benchmarks/rips.py" in capsys.readouterr().err


def test_an_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        command.main(["rip"])
    assert "there is no part rip" in capsys.readouterr().err


def test_only_a_whole_run_replaces_the_kept_results(monkeypatch):
    kept = []
    monkeypatch.setattr(command, "measure", lambda chosen, plan, keep: {})
    monkeypatch.setattr(record, "write", lambda folder, results, about: kept.append(folder))
    for words in ([], ["whole"], ["--quick"], ["--sizes", "32"]):
        command.main(words)
    assert kept[0] == command.RESULTS
    assert command.RESULTS not in kept[1:]


# ---- kernels beside their peers ---------------------------------------------------------------


@pytest.fixture(scope="module")
def metric():
    random = np.random.default_rng(5)
    places = random.random((6, 9, 2))
    return np.sqrt(((places[:, :, None] - places[:, None]) ** 2).sum(-1))


def test_a_race_gives_every_side_its_row():
    sides = {race.OURS: race.Side(lambda: None, 1), "other": race.Side(lambda: None, 2)}
    rows = race.race(sides, 3, "us")
    assert [row["implementation"] for row in rows] == [race.OURS, "other"]
    assert rows[0]["ratio"] == rows[0]["ratio_min"] == rows[0]["ratio_max"] == 1
    assert rows[1]["ratio_min"] <= rows[1]["ratio_max"]


def test_a_peer_that_is_missing_is_named(capsys):
    assert race.peer("no_such_peer") is None
    assert "no_such_peer left out" in capsys.readouterr().err


def test_rips_beside_its_peers(metric):
    rows = rips.run({("m", 9): metric}, repeats=1)
    for dimension in ("0", "0 and 1"):
        names = {row["implementation"] for row in rows if row["dimension"] == dimension}
        assert {race.OURS, "GUDHI RipsPersistence", "ripser.py"} <= names


@pytest.mark.filterwarnings("ignore")
def test_bottleneck_beside_its_peers_gives_the_same_numbers(metric):
    rows = bottleneck.run({("m", 9): metric}, repeats=1)
    exact = [row for row in rows if row["implementation"] in (race.OURS, "Hera", "Topp")]
    assert {row["dimension"] for row in exact} == {0, 1}
    assert {row["differ"] for row in exact} == {"0 of 15"}


@pytest.mark.filterwarnings("ignore")
def test_wasserstein_beside_its_peers_gives_the_same_numbers(metric):
    rows = wasserstein.run({("m", 9): metric}, repeats=1)
    assert {(row["dimension"], row["order"]) for row in rows} == {(0, 1), (0, 2), (1, 1), (1, 2)}
    assert {"Hera, delta 0.01", "Hera, delta 1e-09"} <= {row["implementation"] for row in rows}
    assert {row["differ"] for row in rows} == {"0 of 15"}


def test_jensen_shannon_beside_its_peers(metric):
    rows = metric / metric.sum(-1, keepdims=True)
    found = jensen_shannon.run({("m", 9): rows}, repeats=1)
    assert {row["distribution"] for row in found} == {"attention", "resoftmax"}
    assert all(row["largest_difference"] < 1e-7 for row in found)
