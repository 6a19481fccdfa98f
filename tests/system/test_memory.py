"""Memory that a fit and its predictions take, as Linux reports it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pnl_sklearn import PNLClassifier
from pnl_sklearn.data._inputs import check_inputs

_STATUS = Path("/proc/self/status")
_SCRIPT = """
import sys, threading, time
import numpy as np
import torch
from pnl_sklearn import PNLClassifier

torch.set_num_threads(1)


def anonymous_mb():
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


n_samples = int(sys.argv[2])
X = np.memmap(sys.argv[1], np.float32, "r", shape=(n_samples, 20))
y = np.full(n_samples, -1, dtype=np.int8)
y[:20] = np.arange(20) % 2
before, peak, done = anonymous_mb(), [0.0], threading.Event()


def watch():
    while not done.wait(0.005):
        peak[0] = max(peak[0], anonymous_mb())


watcher = threading.Thread(target=watch)
watcher.start()
classifier = PNLClassifier(
    max_epochs=1, steps_per_epoch=10, batch_size=1024, graph=None, random_state=0
).fit(X, y)
classifier.predict(X)
done.set()
watcher.join()
print(peak[0] - before)
"""


@pytest.mark.skipif(not _STATUS.exists(), reason="/proc reports the memory")
def test_memory_mapped_table_is_never_in_memory(tmp_path):
    # What grows: codes of 8 bytes a sample and its prediction, at 1 each.
    limit = 1_200_000 * 30 / 2**20
    small, large = (_write_table(tmp_path, n) for n in (100_000, 1_300_000))
    growth = np.inf
    for _ in range(3):  # peaks of equal fits differ by some 10 MB
        growth = min(growth, _peak_mb(*large) - _peak_mb(*small))
        if growth < limit:
            break
    assert growth < limit


def _write_table(folder, n_samples):
    """Write 80 bytes a sample; return the arguments of the script."""
    path = folder / f"{n_samples}.dat"
    X = np.memmap(path, np.float32, "w+", shape=(n_samples, 20))
    X[:] = np.random.default_rng(0).standard_normal((n_samples, 20), np.float32)
    X.flush()
    return str(path), str(n_samples)


def _peak_mb(*arguments):
    """Return the largest memory beyond what the process begins with."""
    command = [sys.executable, "-c", _SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "int32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 5, 6), (5, 6, 3)])
def test_arrays_are_not_copied(dtype, shape):
    X = np.random.default_rng(0).integers(0, 100, size=(9, *shape)).astype(dtype)
    inputs = check_inputs(PNLClassifier(), X, reset=True)
    assert inputs.data.dtype == dtype
    assert np.shares_memory(inputs.data, X)


def test_other_dtypes_become_float32():
    X = np.random.default_rng(0).random((9, 4)).astype(np.float16)
    assert check_inputs(PNLClassifier(), X, reset=True).data.dtype == np.float32


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_fit_is_the_same_for_each_dtype(dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 50, size=(60, 4))
    y = np.where(np.arange(60) < 12, X[:, 0] > 25, -1)
    params = {"max_epochs": 1, "steps_per_epoch": 10, "random_state": 0}
    expected, other = (
        PNLClassifier(**params).fit(X.astype(d), y).predict_proba(X.astype(d))
        for d in ("float32", dtype)
    )
    np.testing.assert_array_equal(other, expected)
