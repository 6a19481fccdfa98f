"""The measurements of speed and scaling, on what takes no time."""

import json

import numpy as np
import pytest
import torch

from examples.benchmarks import speed
from examples.benchmarks.__main__ import main
from examples.benchmarks.runs import append
from examples.benchmarks.scaling import exponent, of_rows
from examples.benchmarks.speed import PAIRS, Workload, measure, ratios
from examples.benchmarks.speed_page import scaling_lines, write_speed
from pnl_sklearn import PNLClassifier


@pytest.fixture
def tiny(monkeypatch):
    """Workloads of a few steps."""
    sizes = {"batch_size": 8, "labeled_batch_size": 8}
    workloads = {
        "images": Workload("images", 150, (1, 8, 8), 3, sizes),
        "table": Workload("table", 1200, (5,), 3, sizes),
        "low": Workload("low", 150, (1, 8, 8), 3, sizes | {"precision": "bfloat16"}),
    }
    monkeypatch.setattr(speed, "WORKLOADS", workloads)
    monkeypatch.setattr("examples.benchmarks.speed_page.WORKLOADS", workloads)
    return workloads


@pytest.mark.parametrize("name", ["images", "table", "low"])
def test_a_workload_is_timed_beside_its_references(name, tiny):
    record = measure(name, "cpu", n_repetitions=2)
    json.dumps(record)
    assert record["rows"]["fit"] == record["rows"]["floor"] == 3 * 16
    parts = {*record["rows"], "fixed"}
    assert {"fit", "plain loop", "floor", "predict_proba", "plain forward"} <= parts
    assert ("MLPClassifier, supervised" in parts) == (name == "table")
    assert ("floor, bfloat16" in parts) == (name == "low")
    for part, seconds in record["seconds"].items():
        assert part in parts
        assert len(seconds) == 2
        assert min(seconds) > 0
    assert record["teraflops"] > 0


def test_the_plain_loop_is_a_fit(tiny):
    """It learns: what is timed beside the package does the same work."""
    X = np.repeat(np.eye(10, 64, dtype=np.float32)[None], 30, axis=0).reshape(300, 64)
    X += 0.1 * np.random.default_rng(0).standard_normal(X.shape, np.float32)
    truth = np.tile(np.arange(10), 30)
    X = 255 * X.reshape(300, 1, 8, 8)
    y = np.where(np.arange(300) < 100, truth, -1)
    model = PNLClassifier(steps_per_epoch=80, max_epochs=1, random_state=0).fit(X, y)
    reference = speed._Reference(model, X, y)
    for network in [*reference.networks, *reference.averages]:
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    torch.manual_seed(0)
    before = (reference.forward(300).argmax(axis=1) == truth).mean()
    reference.plain_loop()
    after = (reference.forward(300).argmax(axis=1) == truth).mean()
    assert before < 0.5
    assert after > 0.95


def test_the_plain_forward_predicts_what_the_classifier_does(tiny):
    X, y = tiny["images"].data()
    model = PNLClassifier(steps_per_epoch=3, max_epochs=1, random_state=0).fit(X, y)
    expected = speed._Reference(model, X, y).forward(50)
    np.testing.assert_allclose(model.predict_proba(X[:50]), expected, atol=1e-6)


def test_ratios_are_of_the_same_turn():
    record = {"seconds": {"fit": [2.0, 6.0], "floor": [1.0, 2.0]}}
    assert ratios(record, "fit", "floor").tolist() == [2, 3]


def test_the_exponent_of_rows():
    tables = [
        {"rows": n, "epoch_seconds": 3e-5 * n**1.5, "mapped": False}
        for n in (10, 1000, 10**6)
    ]
    mapped = {"rows": 10, "epoch_seconds": 1e9, "mapped": True}
    assert exponent({"tables": [*tables, mapped]}) == pytest.approx(1.5)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_table_is_measured(mapped, tmp_path):
    record = of_rows(2000, tmp_path if mapped else None)
    assert record["rows"] == 2000
    assert record["mapped"] == mapped
    assert min(record["epoch_seconds"], record["predict_seconds"]) > 0


def test_the_page_shows_what_was_measured(tiny, tmp_path, capsys):
    records = tmp_path / "speed.jsonl"
    for name in ("images", "low"):
        record = measure(name, "cpu", n_repetitions=1)
        append(record, records)
    scaling = {
        "tables": [
            of_rows(n, folder) for n in (1000, 2000) for folder in (None, tmp_path)
        ],
        "grid_search": [{"search": 2.0, "processes": 1.0}],
        "imports": {"pnl_sklearn": [3.0], "its parts": [2.0]},
    }
    circumstances = ("device", "threads", "versions", "commit")
    append(scaling | {key: record[key] for key in circumstances}, records)
    other = record | {"device": "A GPU", "peak_gpu_memory_mb": 1}
    append(other, records)
    main(["report", "--docs", str(tmp_path), "--speed-records", str(records)])
    page = (tmp_path / "speed.md").read_text()
    assert "| images, 16 rows a step | float32 |" in page
    assert page.count("| low, 16 rows a step | bfloat16 |") == 2
    assert "## A GPU" in page
    assert "Not run." not in page
    assert "did 0.50 (0.50 to 0.50) times the fits a second" in page
    assert "took 3.00 s, 1.50 (1.50 to 1.50) times" in page
    assert (tmp_path / "speed.png").stat().st_size > 0
    assert all(part in page for pair in PAIRS for part in pair)
    assert len(list(scaling_lines(scaling))) == 1 + 4 + 3


def test_a_page_of_nothing_says_so(tmp_path):
    write_speed([], tmp_path)
    assert "## CUDA\n\nNot run." in (tmp_path / "speed.md").read_text()
