"""The examples run from beginning to end, and print and draw what they promise."""

import bz2
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from nbclient import NotebookClient
from sklearn.datasets import load_digits
from torch.nn import functional as F

EXAMPLES = Path(__file__).parents[2] / "examples"
# One thread each: with pytest-xdist the examples run side by side.
ENVIRONMENT = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}


def run_script(name, folder, *options):
    """Run a copy of the script, which saves its figure next to itself."""
    script = Path(shutil.copy(EXAMPLES / name, folder))
    process = subprocess.run(
        [sys.executable, script, *options],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "Warning" not in process.stderr, process.stderr
    figure = script.with_suffix(".png")
    assert f"Figure: {figure}" in process.stdout
    height, width = imread(figure).shape[:2]
    assert (height, width) >= (300, 900)
    assert imread(figure).std() > 0.05
    return process.stdout


def table_rows(output, *names):
    """Return the numbers of the last printed line that begins with each name."""
    rows = []
    for name in names:
        lines = [line for line in output.splitlines() if line.startswith(name + "  ")]
        assert lines, f"no row {name!r} in:\n{output}"
        rows.append([float(cell) for cell in lines[-1].removeprefix(name).split()])
    return rows


@pytest.mark.slow
def test_few_labels(tmp_path):
    output = run_script("plot_few_labels.py", tmp_path, "--draws", "1", "--epochs", "1")
    names = ["LabelSpreading", "PNLClassifier", "SelfTraining", "SelfTraining, naive"]
    *right, naive = table_rows(output, *names)
    for reported, truth, difference in right:
        assert reported - truth == pytest.approx(difference, abs=0.002)
        assert abs(difference) < 0.15
    assert naive[0] < 0.2
    assert "LabelSpreading against logistic regression: Mean score" in output


@pytest.mark.slow
def test_label_next(tmp_path):
    output = run_script("plot_label_next.py", tmp_path, "--draws", "1", "--epochs", "1")
    first, chosen, drawn = table_rows(
        output, "20 labels", "20 + 20 chosen", "20 + 20 at random"
    )
    assert 0 < min(chosen[0], drawn[0]) < first[0] < 50
    assert "of the 20 wrong ones" in output


@pytest.mark.slow
def test_calibration(tmp_path):
    output = run_script("plot_calibration.py", tmp_path)
    names = ["as it is", "scaled by 20 labels", "scaled by 50 labels"]
    (before,), (few,), (more,) = table_rows(output, *names)
    assert 0 < more < before < 0.3
    assert 0 < few < 0.3


@pytest.mark.slow
def test_negative_labels(tmp_path):
    options = "--draws", "1", "--epochs", "2", "--answers", "300", "1000"
    output = run_script("plot_negative_labels.py", tmp_path, *options)
    none, some, many = table_rows(output, "0", "300", "1000")
    assert none[0] == none[1] < 50
    label, negative = many
    assert 0 <= label < negative < none[0]
    assert some[0] < none[0]


@pytest.mark.slow
def test_check_pool(tmp_path):
    output = run_script(
        "plot_check_unlabeled.py", tmp_path, "--draws", "1", "--epochs", "1"
    )
    names = ["outside", "AUC", "whole pool", "weighted", "without strangers"]
    outside, auc, *errors = (row[0] for row in table_rows(output, *names))
    assert 0.3 < outside < 0.7
    assert 0.95 < auc <= 1
    assert all(0 <= error < 30 for error in errors)
    assert "seem to be of classes that no label names" in output


@pytest.mark.slow
def test_digits(tmp_path):
    output = run_script("plot_digits.py", tmp_path, "--draws", "100", "--epochs", "1")
    twin, *baselines, pnl = table_rows(
        output,
        "supervised twin",
        "SelfTrainingClassifier",
        "LabelSpreading",
        "PNLClassifier",
    )
    assert all(len(row) == 3 for row in [twin, *baselines, pnl])
    assert pnl[0] == pnl[1] < twin[0]
    assert "PNLClassifier, draw 100 ..." in output


@pytest.mark.slow
def test_tabular(tmp_path):
    output = run_script("plot_tabular.py", tmp_path)
    rows = table_rows(output, "LogisticRegression", "PNLClassifier")
    assert all(0 <= error < 30 for row in rows for error in row)
    assert "param_pnl__selection__tolerance" in output
    assert "class_0  class_1  class_2" in output
    assert "agreement  coverage" in output


@pytest.mark.slow
def test_own_network(tmp_path):
    output = run_script("plot_own_network.py", tmp_path, "--epochs", "3")
    (twin,), (pnl,) = table_rows(output, "supervised twin", "PNLClassifier")
    assert 0 <= pnl <= twin < 80
    assert "negative_loss" in output  # verbose=1


@pytest.mark.slow
def test_pretrained(tmp_path):
    output = run_script("plot_pretrained.py", tmp_path, "--steps", "8")
    rows = table_rows(
        output,
        "backbone, all trained",
        "embeddings, PNLClassifier",
        "embeddings, LogisticRegression",
    )
    assert all(0 <= error <= 100 for (error,) in rows)


@pytest.mark.slow
def test_negatives(tmp_path):
    output = run_script("plot_negatives.py", tmp_path, "--epochs", "2")
    for row in table_rows(output, "1", "2"):
        pseudo_label, *negatives = row
        assert len(negatives) == 3
        assert all(50 < pseudo_label < share <= 100 for share in negatives)


def write_usps_and_mnist(folder):
    """Write scikit-learn's digits in the files that torchvision reads."""
    images, y = load_digits(return_X_y=True)
    images = torch.tensor(images.reshape(-1, 1, 8, 8) / 16)
    (folder / "USPS").mkdir()
    usps = F.interpolate(images[:600], (16, 16), mode="bilinear").flatten(1) * 2 - 1
    with bz2.open(folder / "USPS" / "usps.bz2", "wt") as file:
        for row, label in zip(usps.tolist(), y, strict=False):
            cells = " ".join(f"{i}:{value:.3f}" for i, value in enumerate(row, 1))
            file.write(f"{label + 1} {cells}\n")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    inner = F.interpolate(images[600:], (20, 20), mode="bilinear")
    mnist = (255 * F.pad(inner, (4, 4, 4, 4))).round().byte().numpy()
    for part, rows in {"train": slice(800), "t10k": slice(800, None)}.items():
        n = len(y[600:][rows])
        header = np.array([0x803, n, 28, 28], dtype=">i4").tobytes()
        pixels = raw / f"{part}-images-idx3-ubyte"
        pixels.write_bytes(header + mnist[rows].tobytes())
        header = np.array([0x801, n], dtype=">i4").tobytes()
        labels = raw / f"{part}-labels-idx1-ubyte"
        labels.write_bytes(header + y[600:][rows].astype(np.uint8).tobytes())


@pytest.mark.slow
def test_domain_adaptation(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write_usps_and_mnist(data)
    output = run_script("plot_domain_adaptation.py", tmp_path, "--epochs", "1")
    names = ["source only", "both", "target, all labels"]
    accuracies = [
        float(line.split(":")[1].removesuffix("%"))
        for line in output.splitlines()
        if line.startswith(tuple(names)) and "accuracy" in line
    ]
    assert len(accuracies) == 3
    assert all(50 < accuracy <= 100 for accuracy in accuracies)
    assert "% of the gap" in output


def executed(name, folder, monkeypatch):
    """Return what a notebook prints, and its figures."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel sets its own
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "strip the outputs"
    client = NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    text = "".join(out["text"] for out in outputs if out.output_type == "stream")
    return text, [out for out in outputs if "image/png" in out.get("data", {})]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Jupyter's own are not ours to mend.
def test_quickstart(tmp_path, monkeypatch):
    text, figures = executed("quickstart.ipynb", tmp_path, monkeypatch)
    assert "20 labeled" in text
    assert "Accuracy on the test images" in text
    assert len(figures) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_grid_search(tmp_path, monkeypatch):
    text, figures = executed("grid_search.ipynb", tmp_path, monkeypatch)
    found = re.findall(r"reported: ([0-9.]+), true: ([0-9.]+)", text)
    naive, split, networks = np.array(found, dtype=float)
    assert naive[0] < 0.2 < 0.6 < naive[1]
    assert abs(split[0] - split[1]) < 0.1
    assert networks[1] > 0.9
    assert "Of other classes: 0%" in text
    assert float(text.split("%")[-2].split()[-1]) > 95  # negative labels
    assert len(figures) == 1
