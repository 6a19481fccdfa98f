"""Memory that a fit and its predictions take, on Linux, which tells."""

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


n_rows = int(sys.argv[2])
X = np.memmap(sys.argv[1], np.float32, "r", shape=(n_rows, 20))
y = np.full(n_rows, -1, dtype=np.int8)
y[:20] = np.arange(20) % 2
before, peak, done = anonymous_mb(), [0.0], threading.Event()


def watch():
    while not done.wait(0.005):
        peak[0] = max(peak[0], anonymous_mb())


watcher = threading.Thread(target=watch)
watcher.start()
classifier = PNLClassifier(
    max_epochs=1, steps_per_epoch=10, batch_size=1024, random_state=0
).fit(X, y)
classifier.predict(X)
done.set()
watcher.join()
print(peak[0] - before)
"""


@pytest.mark.skipif(not _STATUS.exists(), reason="/proc tells the memory")
def test_a_memory_mapped_table_is_never_in_memory(tmp_path):
    peaks = []
    for n_rows in (100_000, 2_000_000):  # 8 and 160 MB
        path = tmp_path / f"{n_rows}.dat"
        X = np.memmap(path, np.float32, "w+", shape=(n_rows, 20))
        X[:] = np.random.default_rng(0).standard_normal((n_rows, 20), np.float32)
        X.flush()
        command = [sys.executable, "-c", _SCRIPT, str(path), str(n_rows)]
        runs = [
            subprocess.run(command, capture_output=True, text=True, check=True)
            for _ in range(2)
        ]
        # The lower one: peaks of equal fits differ by some 10 MB.
        peaks.append(min(float(run.stdout) for run in runs))
    # What is left to grow: codes of 8 bytes a row and what is predicted, at 1 each.
    assert peaks[1] - peaks[0] < 2_000_000 * 30 / 2**20


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "int32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 5, 6), (5, 6, 3)])
def test_arrays_are_taken_as_they_are(dtype, shape):
    X = np.random.default_rng(0).integers(0, 100, size=(9, *shape)).astype(dtype)
    inputs = check_inputs(PNLClassifier(), X, reset=True)
    assert inputs.data.dtype == dtype
    assert np.shares_memory(inputs.data, X)


def test_other_dtypes_become_float32():
    X = np.random.default_rng(0).random((9, 4)).astype(np.float16)
    assert check_inputs(PNLClassifier(), X, reset=True).data.dtype == np.float32


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_a_fit_is_the_same_whatever_the_dtype(dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 50, size=(60, 4))
    y = np.where(np.arange(60) < 12, X[:, 0] > 25, -1)
    params = {"max_epochs": 1, "steps_per_epoch": 10, "random_state": 0}
    same, other = (
        PNLClassifier(**params).fit(X.astype(d), y).predict_proba(X.astype(d))
        for d in ("float32", dtype)
    )
    np.testing.assert_array_equal(same, other)
