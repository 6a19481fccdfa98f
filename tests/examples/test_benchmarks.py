"""The benchmarks: label splits, records, checkpoints, tables and page."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

from examples.benchmarks.__main__ import main
from examples.benchmarks.checkpoints import Checkpoint
from examples.benchmarks.hard_tables import GENERATED
from examples.benchmarks.methods import TITLES, estimators
from examples.benchmarks.report import (
    _differences,
    _overview,
    _ranks,
    errors_of,
    summarize,
    table,
)
from examples.benchmarks.runs import circumstances, read, run, run_all
from examples.benchmarks.study import FACTORS, ConfidentPseudoLabels
from examples.benchmarks.tables import TABLES, two_normals, waves
from examples.benchmarks.tasks import GROUPS, TASKS, Data, Options
from pnl_sklearn import PNLClassifier
from pnl_sklearn.estimator._trainer import steps_per_epoch


def test_groups_hold_all_tasks():
    names = [name for group in GROUPS.values() for name in group]
    assert set(names) | {"usps2mnist", "mnist-20-short"} == set(TASKS)


@pytest.mark.parametrize("name", GENERATED)
def test_generated_data_keep_the_labels_asked_for(name):
    data = TASKS[name].load(3, Options())
    labeled = data.y_few >= 0
    np.testing.assert_array_equal(data.y_few[labeled], data.y[labeled])
    expected = {"rare_class": [9, 1], "mixed_table": [15] * 3, "xor": [10] * 2}
    if name in expected:
        assert np.bincount(data.y_few[labeled]).tolist() == expected[name]
    assert len(data.X) == len(data.y) > 2 * len(data.X_test) - 5


def test_the_class_of_xor_is_that_of_the_signs():
    X, y = GENERATED["xor"][0](np.random.default_rng(0))
    np.testing.assert_array_equal(y, (X[:, 0] > 0) != (X[:, 1] > 0))


def test_logistic_regression_learns_the_labels_alone():
    task = TASKS["mixed_table"]
    data = task.load(0, Options())
    ((_, model),) = estimators("logistic", task, data, 0)
    labeled = data.y_few >= 0
    alone = clone(model).fit(data.X, data.y_few)
    base = alone[-1].estimator_.best_estimator_
    scaled = alone[:-1].transform(data.X[labeled])
    again = clone(base).fit(scaled, data.y_few[labeled])
    np.testing.assert_allclose(again.coef_, base.coef_, atol=1e-4)


@pytest.mark.parametrize("name", ["digits-20", "digits-imbalanced", *TABLES])
def test_label_splits_are_repeatable_and_hide_labels(name):
    data, again = (TASKS[name].load(100, Options()) for _ in range(2))
    for first, second in zip(data, again, strict=True):
        np.testing.assert_array_equal(first, second)
    labeled = data.y_few >= 0
    np.testing.assert_array_equal(data.y_few[labeled], data.y[labeled])
    counts = np.bincount(data.y_few[labeled])
    assert len(set(counts)) == 1
    assert len(counts) == len(set(data.y))
    assert set(data.y_test) == set(data.y)
    other = TASKS[name].load(101, Options())
    assert not np.array_equal(other.X, data.X)


def test_imbalanced_classes_are_ten_to_one():
    counts = np.bincount(TASKS["digits-imbalanced"].load(100, Options()).y)
    assert (counts[5:] == 12).all()
    assert (counts[:5] > 110).all()


def test_two_normals_have_the_bayes_error_of_breiman():
    # Breiman 1996: the theoretical misclassification rate is 2.3 %.
    X, y = two_normals(200_000, np.random.default_rng(0))
    assert np.mean((X.sum(axis=1) > 0) != y) == pytest.approx(0.023, abs=0.002)


def test_waves_are_mixtures_of_triangles():
    X, y = waves(60_000, np.random.default_rng(0))
    h = [np.maximum(6 - abs(np.arange(1, 22) - c), 0) for c in (11, 15, 7)]
    for k, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        np.testing.assert_allclose(X[y == k].mean(0), (h[i] + h[j]) / 2, atol=0.1)


def test_confident_pseudo_labels_equal_fixmatch_rule():
    p = torch.tensor([[0.96, 0.03, 0.01], [0.94, 0.03, 0.03], [0.01, 0.01, 0.98]])
    expected = torch.tensor(
        [[False, True, True], [False, False, False], [True, True, False]]
    )
    assert torch.equal(ConfidentPseudoLabels()(p), expected)


@pytest.mark.parametrize("method", [m for m in TITLES if m != "best"])
def test_methods_take_the_same_number_of_steps(method, monkeypatch):
    taken = []
    monkeypatch.setattr(
        PNLClassifier,
        "fit",
        lambda self, X, y: taken.append((self, steps_per_epoch(self, y))) or self,
    )
    monkeypatch.setattr(
        PNLClassifier, "predict", lambda self, X: np.arange(len(X)) % 10
    )
    # 3,000 samples with all of their labels would be 188 batches of labeled samples.
    task = TASKS["ten_classes"]
    if method in ("label_spreading", "self_training", "logistic"):
        data = task.load(100, Options())
        settings = [setting for setting, _ in estimators(method, task, data, 100)]
        assert len(set(settings)) == len(settings) >= (1 if method == "logistic" else 6)
        return
    record = run("ten_classes", 100, method, Options())
    ((estimator, n_steps),) = taken
    assert (n_steps, estimator.max_epochs) == (110, 10)
    assert estimator.random_state == record["seed"] == 100
    assert record["errors"][""] > 50


RECORD = {"task": "digits-20", "method": "label_spreading", "small": False}


def test_grid_counts_with_its_best_setting_on_all_splits():
    records = [
        RECORD | {"split": 100, "errors": {"a": 9.0, "b": 6.0, "c": 1.0}},
        RECORD | {"split": 101, "errors": {"a": 5.0, "b": 6.0}},
    ]
    (setting, splits, values) = summarize(records)["digits-20"]["label_spreading"]
    assert (setting, splits, values.tolist()) == ("b", [100, 101], [6, 6])
    lines = list(table(records, ["digits-20"]))
    assert any("LabelSpreading" in line and "6.00" in line for line in lines)
    # Without a better setting, the best one is the default.
    assert sum("not run" in line for line in lines) == len(TITLES) - 2
    assert sum("the default" in line for line in lines) == 1


def test_best_setting_runs_only_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("examples.benchmarks.runs.ProcessPoolExecutor", None)
    run_all(["wine"], ["best"], [100], tmp_path / "r", Options())
    task = replace(TASKS["wine"], best={"net_params": {"module__hidden": 8}})
    monkeypatch.setitem(TASKS, "wine", task)
    with pytest.raises(TypeError):  # it would be run
        run_all(["wine"], ["best"], [100], tmp_path / "r", Options())
    ((_, estimator),) = estimators("best", task, task.load(100, Options()), 100)
    assert estimator.net_params == {"module__hidden": 8}
    assert estimator.random_state == 100


def threads(n, mp_context):
    """Return an executor in this process."""
    return ThreadPoolExecutor(n)


@pytest.mark.slow
def test_small_run_is_recorded_and_continued(tmp_path, capsys, monkeypatch):
    records = tmp_path / "records.jsonl"
    arguments = ["digits-20", "--small", "--records", str(records), "--methods"]
    main([*arguments, "default"])
    monkeypatch.setattr("examples.benchmarks.runs.ProcessPoolExecutor", threads)
    main([*arguments, "default,label_spreading"])
    output = capsys.readouterr().out
    assert "[1/1] digits-20, split 100, default" in output
    assert "[1/1] digits-20, split 100, label_spreading" in output
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert [line["method"] for line in lines] == ["default", "label_spreading"]
    assert [len(line["errors"]) for line in lines] == [1, 4]
    assert all(0 < error < 50 for line in lines for error in line["errors"].values())
    assert lines[0]["peak_memory_mb"] > 100
    assert {"seed", "parameters", "seconds", "device", "commit"} < set(lines[0])
    main([*arguments, "default", "--table"])
    output = capsys.readouterr().out
    assert f"{lines[0]['errors']['']:.2f}" in output
    assert "[1/" not in output
    with pytest.raises(SystemExit, match="Nothing is recorded"):
        main(["report", "--records", str(records), "--docs", str(tmp_path)])
    full = [json.dumps(line | {"small": False}) for line in lines]
    records.write_text("\n".join(full) + "\n")
    main(["report", "--records", str(records), "--docs", str(tmp_path)])
    page = (tmp_path / "benchmarks.md").read_text()
    assert f"{lines[0]['errors']['']:.2f}** (1)" in page
    assert "not run" in page
    assert (tmp_path / "benchmarks.png").stat().st_size > 10_000


def test_tasks_without_their_data_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="mnist needs its data: --data FOLDER"):
        TASKS["mnist-20"].load(100, Options())
    with pytest.raises(SystemExit):
        main(["mnits", "--records", str(tmp_path / "records.jsonl")])


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr("examples.benchmarks.runs.ProcessPoolExecutor", threads)


@pytest.mark.usefixtures("in_this_process")
def test_run_stops_at_the_deadline_and_is_resumed(tmp_path, capsys):
    records, folder = tmp_path / "records.jsonl", tmp_path / "checkpoints"
    arguments = ["digits-20", "--small", "--records", str(records), "--methods"]
    arguments += ["default,baseline", "--minutes", "0"]  # an epoch a call

    main(arguments)
    output = capsys.readouterr().out
    assert "[1/2] digits-20, split 100, default: time is up" in output
    assert "split 100, baseline" not in output
    assert not records.exists()
    assert [path.name for path in folder.iterdir()] == [
        "digits-20-100-default-small.joblib"
    ]
    so_far = joblib.load(folder / "digits-20-100-default-small.joblib")
    assert (so_far.estimator.n_iter_, so_far.errors) == (1, {})

    main(arguments)
    output = capsys.readouterr().out
    assert "[1/2] digits-20, split 100, default: " in output
    assert "time is up; the same call continues with the next" in output
    assert not list(folder.iterdir())
    (record,) = map(json.loads, records.read_text().splitlines())
    whole = run("digits-20", 100, "default", Options(small=True))
    assert record["errors"] == whole["errors"]
    assert record["parameters"] == whole["parameters"]
    assert record["seconds"] > so_far.seconds > 0
    assert record.keys() == whole.keys()


@pytest.mark.usefixtures("in_this_process")
def test_grids_stop_between_their_fits(tmp_path):
    records, n = tmp_path / "records.jsonl", 0
    while not records.exists():
        n += 1
        methods, options = ["label_spreading"], Options(small=True)
        run_all(["digits-20"], methods, [100], records, options, minutes=0)
    (record,) = map(json.loads, records.read_text().splitlines())
    whole = run("digits-20", 100, "label_spreading", options)
    assert len(record["errors"]) == n > 1
    assert record["errors"] == whole["errors"]


def test_checkpoint_of_another_run_is_not_used(tmp_path, capsys):
    path = tmp_path / "checkpoint"
    arguments = "digits-20", 100, "baseline", Options(small=True), "cpu", path
    assert run(*arguments, deadline=0) is None
    found = joblib.load(path)
    joblib.dump(Checkpoint("other", {"": 99.0}), path)
    assert run(*arguments, deadline=0) is None
    assert f"{path} has other parameters" in capsys.readouterr().out
    again = joblib.load(path)
    assert again.identity == found.identity
    assert (again.estimator.n_iter_, again.errors) == (1, {})


def test_cuda_parameters_apply_on_cuda_only(monkeypatch):
    task = TASKS["cifar10-1000"]
    y = np.where(np.arange(50_000) < 1000, np.arange(50_000) % 10, -1)
    data = Data(None, y, y, None, None)
    n_steps = {}
    for is_available in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda a=is_available: a)
        for method in ("default", "baseline", "paper_style", "all_labels"):
            ((_, estimator),) = estimators(method, task, data, 100)
            n = estimator.max_epochs * steps_per_epoch(estimator, y)
            n_steps.setdefault(is_available, set()).add(n)
            larger = is_available and method != "paper_style"
            assert estimator.precision == ("bfloat16" if larger else "float32")
    assert n_steps == {False: {7660}, True: {38_400}}


def test_recorded_settings_are_those_of_the_study():
    """All recorded factors and methods are known."""
    records = read(Path(main.__code__.co_filename).with_name("results.jsonl"))
    assert {record["method"] for record in records} <= {*TITLES, *FACTORS}


def errors_by_run(runs):
    """Return the errors of runs (task, method, split, errors by setting)."""
    names = ["task", "method", "split", "errors"]
    records = [dict(zip(names, run, strict=True)) | {"small": False} for run in runs]
    return errors_of(records)


def test_differences_are_paired_by_label_splits():
    runs = [("moons", "default", split, {"": split}) for split in (1, 2, 6)]
    runs += [("moons", "baseline", split, {"": 3 * split}) for split in (1, 2)]
    grid = {1: {"a": 0, "b": 9}, 2: {"a": 4, "b": 9}, 6: {"a": 5, "b": 9}}
    runs += [("moons", "label_spreading", split, grid[split]) for split in grid]
    (line,) = [part for part in _differences(errors_by_run(runs)) if "moons" in part]
    # To the baseline -2 and -4, to setting "a" of the grid 1, -2 and 1.
    assert line.split(" | ")[1:] == [
        "3",
        "-3.00 (1.00)",
        "LabelSpreading",
        "+0.00 (1.00) |",
    ]


def ranks(runs):
    """Return lines about ranks of runs (table, method, split, errors by setting)."""
    return list(_ranks(errors_by_run(runs)))


@pytest.mark.parametrize("has_it", [True, False])
def test_circumstances_name_amx(has_it, monkeypatch):
    monkeypatch.setattr(
        "torch.cpu.get_capabilities", lambda: {"amx_bf16": has_it}, raising=False
    )
    assert circumstances("cpu")["device"].endswith(" with AMX") == has_it


def test_ranks_use_label_splits_of_all_methods():
    """The mean of the default is 5 % on its splits, 2 % on those of all methods."""
    runs = [("wine", "default", d, {"": e}) for d, e in [(100, 1), (101, 3), (102, 11)]]
    for i, method in enumerate(["baseline", "self_training", "label_spreading"]):
        runs += [("wine", method, 100, {"": 2.5 + i}), ("wine", method, 101, {"": 3})]
    lines = ranks(runs)
    assert sum(line.endswith("| 1.00 | 2.00 | 3.00 | 4.00 |") for line in lines) == 2


def test_grids_count_with_their_best_settings_and_with_one():
    """Each of two settings is best on one table; setting b is better in the mean."""
    runs = []
    for name, of_grid in [("iris", {"a": 1, "b": 5}), ("wine", {"a": 7, "b": 2})]:
        runs += [(name, "label_spreading", 100, of_grid)]
        others = [("default", 3), ("baseline", 6), ("self_training", 4)]
        runs += [(name, method, 100, {"": error}) for method, error in others]
    best, means_at_best, at_one, means = ranks(runs)[4:8]
    assert best.endswith("| 2.00 | 4.00 | 3.00 | 1.00 |")
    assert means_at_best.endswith("| 3.00 | 6.00 | 4.00 | 1.50 |")
    # With b: 3, 6, 4, 5 on iris and 3, 6, 4, 2 on wine.
    assert at_one.endswith("| 1.50 | 4.00 | 2.50 | 2.00 |")
    assert means.endswith("| 3.00 | 6.00 | 4.00 | 3.50 |")


def test_settings_not_run_on_all_splits_do_not_count():
    runs = []
    for split in (100, 101):
        runs += [("wine", method, split, {"": 5}) for method in ("default", "baseline")]
        runs += [("wine", "self_training", split, {"": 6})]
    runs += [("wine", "label_spreading", 100, {"a": 1, "b": 7})]
    runs += [("wine", "label_spreading", 101, {"b": 7})]
    assert ranks(runs)[4].endswith("| 1.00 | 1.00 | 3.00 | 4.00 |")


def test_overview_has_the_paper_style_of_either_network():
    found = {"default": ("", [100], np.array([2.0]))}
    small = {"paper_style_small": ("", [100], np.array([3.5]))}
    whole = {"paper_style": ("", [100], np.array([9.0]))}
    for methods, cell in [
        (small, r"| 3.50 (1) \* |"),
        (whole, "| 9.00 (1) |"),
        (small | whole, "| 9.00 (1) |"),
        ({}, "| not run |"),
    ]:
        row = list(_overview({"mnist-20": found | methods}, ["mnist-20"]))[-3]
        assert "| **2.00** (1) | not run " + cell in row
