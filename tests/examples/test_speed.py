"""Measurements of speed and scaling, on tiny workloads."""

import gc
import json
from functools import partial

import numpy as np
import pytest
import torch

from examples.benchmarks import speed
from examples.benchmarks.__main__ import main
from examples.benchmarks.runs import append
from examples.benchmarks.scaling import exponent, of_fit, of_samples
from examples.benchmarks.speed import PAIRS, Workload, measure, ratios
from examples.benchmarks.speed_page import fits_lines, scaling_lines, write_speed
from pnl_sklearn import PNLClassifier

SIZES = {"batch_size": 8, "labeled_batch_size": 8}
WORKLOADS = {
    "images": Workload("images", 150, (1, 8, 8), 3, SIZES),
    "table": Workload("table", 1200, (5,), 3, SIZES),
    "low": Workload("low", 150, (1, 8, 8), 3, SIZES | {"precision": "bfloat16"}),
}


@pytest.fixture(scope="module")
def records():
    """Records of workloads of a few steps, measured once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "WORKLOADS", WORKLOADS)
        patch.setattr("examples.benchmarks.speed_page.WORKLOADS", WORKLOADS)
        patch.setattr(speed, "_matmul_rate", partial(speed._matmul_rate, size=128))
        try:
            yield {name: measure(name, "cpu", n_repetitions=2) for name in WORKLOADS}
        finally:
            gc.unfreeze()


@pytest.mark.parametrize("name", WORKLOADS)
def test_measure_times_fit_and_its_references(name, records):
    record = records[name]
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


def test_plain_loop_learns():
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


def test_plain_forward_equals_predict_proba():
    X, y = WORKLOADS["images"].data()
    model = PNLClassifier(steps_per_epoch=3, max_epochs=1, random_state=0).fit(X, y)
    expected = speed._Reference(model, X, y).forward(50)
    np.testing.assert_allclose(model.predict_proba(X[:50]), expected, atol=1e-6)


def test_ratios_are_of_the_same_repetition():
    record = {"seconds": {"fit": [2.0, 6.0], "floor": [1.0, 2.0]}}
    assert ratios(record, "fit", "floor").tolist() == [2, 3]


def test_the_exponent_of_samples():
    tables = [
        {"rows": n, "epoch_seconds": 3e-5 * n**1.5, "mapped": False}
        for n in (10, 1000, 10**6)
    ]
    mapped = {"rows": 10, "epoch_seconds": 1e9, "mapped": True}
    assert exponent({"tables": [*tables, mapped]}) == pytest.approx(1.5)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Measurements of tables in memory and in a memory-mapped file."""
    folders = None, tmp_path_factory.mktemp("mapped")
    return [of_samples(n, folder) for n in (1000, 2000) for folder in folders]


def test_of_samples_measures_a_table(tables):
    assert [record["rows"] for record in tables] == [1000, 1000, 2000, 2000]
    assert [record["mapped"] for record in tables] == [False, True, False, True]
    for record in tables:
        assert min(record["epoch_seconds"], record["predict_seconds"]) > 0


@pytest.mark.parametrize("shape", [(3,), (8, 8)])
def test_of_fit_times_a_whole_fit(shape):
    fit = of_fit(shape, 200, max_epochs=2, steps_per_epoch=3)
    assert fit | {"minutes": 0} == {
        "shape": shape,
        "samples": 200,
        "steps": 6,
        "minutes": 0,
    }
    assert 0 < fit["minutes"] < 1


def test_report_writes_the_speed_page(records, tables, tmp_path):
    path = tmp_path / "speed.jsonl"
    for name in ("images", "low"):
        record = records[name]
        append(record, path)
    fits = {
        "fits": [{"shape": [3, 8, 8], "samples": 2000, "steps": 10, "minutes": 0.52}]
    }
    scaling = {
        "tables": tables,
        "grid_search": [{"search": 2.0, "processes": 1.0}],
        "imports": {"pnl_sklearn": [3.0], "its parts": [2.0]},
    }
    circumstances = ("device", "threads", "versions", "commit")
    for kind in (fits, scaling):
        append(kind | {key: record[key] for key in circumstances}, path)
    other = record | {"device": "A GPU", "peak_gpu_memory_mb": 1}
    append(other, path)
    main(["report", "--docs", str(tmp_path), "--speed-records", str(path)])
    page = (tmp_path / "speed.md").read_text()
    assert "| images, 16 samples per step | float32 |" in page
    assert page.count("| low, 16 samples per step | bfloat16 |") == 2
    assert "## A GPU" in page
    assert "Not run." not in page
    assert "| 3 x 8 x 8 | 2,000 | 10 | 0.5 |" in page
    assert "did 0.50 (0.50 to 0.50) times the fits per second" in page
    assert "took 3.00 s, 1.50 (1.50 to 1.50) times" in page
    assert (tmp_path / "speed.png").stat().st_size > 0
    assert all(part in page for pair in PAIRS for part in pair)
    assert len(list(scaling_lines(scaling))) == 1 + 4 + 3
    assert len(list(fits_lines(fits))) == 1 + 1


def test_speed_page_without_records(tmp_path):
    write_speed([], tmp_path)
    assert "## CUDA\n\nNot run." in (tmp_path / "speed.md").read_text()
