"""The examples run from beginning to end, and print and plot what they promise."""

import bz2
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from nbclient import NotebookClient
from sklearn.datasets import load_digits
from torch.nn import functional as F

from pnl_sklearn.estimator import _trainer

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))


@pytest.fixture
def run_script(tmp_path, monkeypatch, capsys):
    """Return a function that runs a copy of a script and returns what it prints.

    The figure is saved next to the copy. Warnings are errors. Epochs are short:
    one pass over the unlabeled samples, but at least `min_steps` steps.
    """

    def run(name, *options, min_steps=30):
        script = shutil.copy(EXAMPLES / name, tmp_path)
        monkeypatch.syspath_prepend(EXAMPLES)  # for the helper modules
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MPLBACKEND", "Agg")
        monkeypatch.setattr(sys, "argv", [script, *options])
        monkeypatch.setattr(_trainer, "_MIN_STEPS", min_steps)
        try:
            runpy.run_path(script, run_name="__main__")
        finally:
            plt.close("all")
        output = capsys.readouterr().out
        figure = Path(script).with_suffix(".png")
        assert f"Figure: {figure}" in output
        height, width = imread(figure).shape[:2]
        assert (height, width) >= (300, 900)
        assert imread(figure).std() > 0.05
        return output

    return run


def table_rows(output, *names):
    """Return the numbers of the last printed line that begins with each name."""
    rows = []
    for name in names:
        lines = [line for line in output.splitlines() if line.startswith(name + "  ")]
        assert lines, f"no row {name!r} in:\n{output}"
        rows.append([float(cell) for cell in lines[-1].removeprefix(name).split()])
    return rows


@pytest.mark.slow
def test_plot_few_labels(run_script):
    output = run_script("plot_few_labels.py", "--splits", "1", "--epochs", "1")
    names = ["LabelSpreading", "PNLClassifier", "SelfTraining", "SelfTraining, naive"]
    *right, naive = table_rows(output, *names)
    for score, test, difference in right:
        assert score - test == pytest.approx(difference, abs=0.002)
        assert abs(difference) < 0.15
    assert naive[0] < 0.2
    assert "LabelSpreading against logistic regression: Mean score" in output


@pytest.mark.slow
def test_plot_label_next(run_script):
    output = run_script("plot_label_next.py", "--splits", "1", "--epochs", "1")
    first, chosen, at_random = table_rows(
        output, "20 labels", "20 + 20 chosen", "20 + 20 at random"
    )
    assert 0 < min(chosen[0], at_random[0]) < first[0] < 50
    assert "of the 20 wrong ones" in output


@pytest.mark.slow
def test_plot_calibration(run_script):
    output = run_script("plot_calibration.py", "--splits", "8", min_steps=30)
    names = ["temperature_ only", "20 held-out labels", "50 held-out labels"]
    (before,), (few,), (more,) = table_rows(output, *names)
    assert 0 < before < few + 0.03 < 0.2
    assert 0 < more < few


@pytest.mark.slow
def test_plot_text(run_script):
    output = run_script("plot_text.py", "--splits", "1", "--epochs", "1", min_steps=30)
    names = "LogisticRegression", "SelfTraining", "supervised baseline", "PNLClassifier"
    linear, self_training, baseline, ours = table_rows(output, *names)
    assert all(0 < row[0] == row[1] < 60 for row in (self_training, baseline))
    assert ours[1] < linear[1] + 5
    assert "Mean log-likelihood of 40 held-out labels" in output


@pytest.mark.slow
def test_plot_negative_labels(run_script):
    options = "--splits", "1", "--epochs", "2", "--digits", "300", "1000"
    output = run_script("plot_negative_labels.py", *options)
    none, some, many = table_rows(output, "0", "300", "1000")
    assert none[0] == none[1] == none[2] < 50
    label, one, five = many
    assert 0 <= label < five < min(one, none[0])
    assert some[0] < none[0]


@pytest.mark.slow
def test_plot_check_unlabeled(run_script):
    output = run_script("plot_check_unlabeled.py", "--splits", "1", "--epochs", "1")
    names = ["out of class", "AUC", "all unlabeled", "weighted", "digits 0 to 4 only"]
    out_of_class, auc, *errors = (row[0] for row in table_rows(output, *names))
    assert 0.3 < out_of_class < 0.7
    assert 0.95 < auc <= 1
    assert all(0 <= error < 30 for error in errors)
    assert "seem to be of classes without labels" in output


@pytest.mark.slow
def test_plot_digits(run_script):
    output = run_script(
        "plot_digits.py", "--splits", "100", "--epochs", "1", min_steps=110
    )
    baseline, *others, pnl = table_rows(
        output,
        "supervised baseline",
        "SelfTrainingClassifier",
        "LabelSpreading",
        "PNLClassifier",
    )
    assert all(len(row) == 3 for row in [baseline, *others, pnl])
    assert pnl[0] == pnl[1] < baseline[0]
    assert "PNLClassifier, label split 100 ..." in output


@pytest.mark.slow
def test_plot_tabular(run_script):
    output = run_script("plot_tabular.py", "--epochs", "3")
    of_tables, of_mixed = output.split("Mixed columns:")
    for part in (of_tables, of_mixed):
        rows = table_rows(part, "LogisticRegression", "PNLClassifier")
        assert all(0 <= error < 30 for row in rows for error in row)
    assert "not numbers in columns 'plan', 'city', and NaN in columns" in of_mixed
    assert "neighbors: they are not used" in of_mixed
    assert "param_pnl__selection__tolerance" in output
    assert "param_pnl__graph__weight" in output
    assert "class_0  class_1  class_2" in output
    assert "teacher_student_agreement  negative_coverage" in output


@pytest.mark.slow
def test_plot_image_folder(run_script):
    output = run_script("plot_image_folder.py", "--epochs", "1", min_steps=20)
    assert "X: (600, 3, 16, 16), torch.uint8" in output
    assert "30 labeled, 570 unlabeled" in output
    written = output.split("name,label,probability\n")[1]
    rows = re.findall(r"^scan\d+\.png,[a-z]+,([\d.]+)$", written, re.MULTILINE)
    assert len(rows) == 5
    assert sorted(rows, key=float) == rows
    (linear,), (pnl,) = table_rows(output, "LogisticRegression", "PNLClassifier")
    assert 50 < linear < pnl <= 100


@pytest.mark.slow
def test_plot_own_network(run_script):
    output = run_script("plot_own_network.py", "--epochs", "3")
    (baseline,), (pnl,) = table_rows(output, "supervised baseline", "PNLClassifier")
    assert 0 <= pnl <= baseline < 80
    assert "train_loss" in output  # verbose=2


@pytest.mark.slow
def test_plot_pretrained(run_script):
    output = run_script("plot_pretrained.py", "--steps", "4")
    rows = table_rows(
        output,
        "backbone, all trained",
        "embeddings, PNLClassifier",
        "embeddings, LogisticRegression",
    )
    assert all(0 <= error <= 100 for (error,) in rows)


@pytest.mark.slow
def test_plot_negatives(run_script):
    output = run_script("plot_negatives.py", "--epochs", "2")
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
def test_plot_domain_adaptation(run_script, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write_usps_and_mnist(data)
    output = run_script("plot_domain_adaptation.py", "--epochs", "1", min_steps=60)
    names = ["source only", "source and target", "target, all labels"]
    accuracies = [
        float(line.split(":")[1].removesuffix("%"))
        for line in output.splitlines()
        if line.startswith(tuple(names)) and "accuracy" in line
    ]
    assert len(accuracies) == 3
    assert all(50 < accuracy <= 100 for accuracy in accuracies)
    assert "% of the gap" in output


def output_kinds(cell):
    """Return the kinds of outputs of a cell, such as "stdout" and "image/png"."""
    kinds = set()
    for output in cell.get("outputs", []):
        kinds |= {output.get("name", output.output_type)} | set(output.get("data", {}))
    return kinds


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_stored_outputs_are_of_a_clean_run(name):
    path = EXAMPLES / name
    assert path.stat().st_size < 150_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # From a new kernel, from the first cell to the last.
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(cell.metadata for cell in cells), "with times of execution"
    assert not any(output_kinds(cell) & {"error", "stderr"} for cell in cells)
    outputs = json.dumps([cell.outputs for cell in cells])
    assert not re.search(r"/(home|root|tmp|work|Users)/", outputs), "with paths"


def run_notebook(name, folder, monkeypatch, min_steps):
    """Return what a notebook prints, and its figures; epochs are short.

    Each cell has stored outputs of the same kinds as it has here.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel sets its own
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    stored = [output_kinds(cell) for cell in notebook.cells]
    shorten = (
        f"from pnl_sklearn.estimator import _trainer as t; t._MIN_STEPS = {min_steps}"
    )
    notebook.cells.insert(0, nbformat.v4.new_code_cell(shorten))
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=900, resources=resources).execute()
    assert [output_kinds(cell) for cell in notebook.cells[1:]] == stored
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    text = "".join(out["text"] for out in outputs if out.output_type == "stream")
    return text, [out for out in outputs if "image/png" in out.get("data", {})]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter itself
def test_quickstart_notebook(tmp_path, monkeypatch):
    text, figures = run_notebook("quickstart.ipynb", tmp_path, monkeypatch, 10)
    assert "20 labeled" in text
    assert "Accuracy on the test images" in text
    losses = re.search(r"train_loss: (.+)", text)[1].split()
    assert len(losses) == 10
    assert all(0 < float(loss) < 5 for loss in losses)
    assert len(figures) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_grid_search_notebook(tmp_path, monkeypatch):
    text, figures = run_notebook("grid_search.ipynb", tmp_path, monkeypatch, 40)
    found = re.findall(r"score of the search: ([0-9.]+), test accuracy: (.+)", text)
    naive, split, networks = np.array(found, dtype=float)
    assert naive[0] < 0.2 < 0.6 < naive[1]
    assert abs(split[0] - split[1]) < 0.1
    assert networks[1] > 0.9
    assert "of other classes: 0%" in text
    assert float(re.search(r"(.+)% of the pseudo-negative", text)[1]) > 95
    assert len(figures) == 1
