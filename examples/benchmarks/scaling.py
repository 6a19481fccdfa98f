"""How long fits take: by samples, in a grid search, and the time of the import.

``python -m examples.benchmarks fits`` measures minutes of fits with the defaults, by
the shape of a sample. ``python -m examples.benchmarks scaling`` measures seconds of an
epoch and memory by the number of samples, from arrays in memory and from a
memory-mapped file; the time of a grid search with two workers, compared with two
processes that fit on their own; seconds of the import.
"""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from pnl_sklearn import PNLClassifier
from pnl_sklearn.estimator._trainer import steps_per_epoch
from pnl_sklearn.model_selection import SemiSupervisedSplit, hide_labels

from .runs import circumstances, in_a_process

# Shape of a sample and numbers of samples of the fits with the defaults.
_FITS = {
    (20,): [5000],
    (100,): [5000],
    (1280,): [5000],
    (8, 8): [5000],
    (28, 28): [5000, 60_000],
    (3, 32, 32): [5000],
    (3, 64, 64): [5000],
}
_N_FEATURES = 20
_N_REPETITIONS = 5
_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
_MAPPED = (1_000_000, 10_000_000)
_BATCH = 1024
_LEARNING_RATES = [0.0005, 0.001, 0.002, 0.003, 0.004, 0.005]
_IMPORTS = {"pnl_sklearn": "pnl_sklearn", "its parts": "torch, skorch, sklearn"}


def _anonymous_mb():
    """Return the memory of this process that no file backs, in MB (Linux only)."""
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


class _Peak:
    """Context that measures the peak memory of this process beyond that before."""

    def __enter__(self):
        self.before, self.mb, self._done = _anonymous_mb(), 0.0, Event()
        self._watcher = Thread(target=self._watch)
        self._watcher.start()
        return self

    def _watch(self):
        while not self._done.wait(0.005):
            self.mb = max(self.mb, _anonymous_mb() - self.before)

    def __exit__(self, *_):
        self._done.set()
        self._watcher.join()


def of_fit(shape, n_samples, **params):
    """Return minutes of a fit with the defaults to noisy copies of ten samples.

    Images are uint8, tables float32. Ten samples of each class are labeled.
    """
    rng = np.random.default_rng(0)
    centers = rng.integers(0, 200, (10, *shape))
    truth = np.arange(n_samples) % 10
    X = centers[truth] + rng.integers(0, 56, (n_samples, *shape))
    X = X.astype(np.float32 if len(shape) == 1 else np.uint8)
    y = np.where(np.arange(n_samples) < 100, truth, -1)
    model = PNLClassifier(random_state=0, **params)
    begin = time.perf_counter()
    model.fit(X, y)
    return {
        "shape": shape,
        "samples": n_samples,
        "steps": model.max_epochs * steps_per_epoch(model, y),
        "minutes": (time.perf_counter() - begin) / 60,
    }


def of_samples(n_samples, folder=None):
    """Measure a fit of two epochs, without a graph, and predictions on a table.

    With a folder the table is a memory-mapped file there. Memory is beyond that of the
    process with X and y; seconds are of one pass over the samples.
    """
    rng = np.random.default_rng(0)
    shape = n_samples, _N_FEATURES
    if folder is None:
        X = rng.standard_normal(shape, np.float32)
    else:
        path = Path(folder) / "samples"
        X = np.memmap(path, np.float32, "w+", shape=shape)
        for part in np.array_split(X, 100):
            part[:] = rng.standard_normal(part.shape, np.float32)
        X.flush()
        X = np.memmap(path, np.float32, "r", shape=shape)
    y = np.full(n_samples, -1, dtype=np.int8)
    y[:_N_FEATURES] = np.arange(_N_FEATURES) % 2
    model = PNLClassifier(
        batch_size=_BATCH,
        steps_per_epoch=-(-n_samples // _BATCH),
        max_epochs=2,
        graph=None,
    )
    with _Peak() as of_fit:
        model.set_params(random_state=0).fit(X, y)
    with _Peak() as of_predict:
        begin = time.perf_counter()
        model.predict(X)
        seconds = time.perf_counter() - begin
    return {
        "rows": n_samples,
        "mapped": folder is not None,
        "input_mb": X.nbytes / 2**20,
        "fit_mb": of_fit.mb,
        "predict_mb": of_predict.mb,
        "epoch_seconds": model.history_[-1]["seconds"],
        "predict_seconds": seconds,
    }


def _search_seconds(rates, n_jobs):
    """Return seconds of a grid search on digits, without those of the imports."""
    X, y = load_digits(return_X_y=True)
    X, y = X.reshape(-1, 8, 8), hide_labels(y, 40, random_state=0)
    seconds = []
    for n_epochs in (1, 4):
        search = GridSearchCV(
            PNLClassifier(max_epochs=n_epochs, random_state=0),
            {"lr": rates},
            cv=SemiSupervisedSplit(2),
            n_jobs=n_jobs,
            refit=False,
        )
        begin = time.perf_counter()
        search.fit(X, y)
        seconds.append(time.perf_counter() - begin)
    return seconds[-1]


def of_grid_search():
    """Return seconds of a grid search by two workers, and by two processes.

    The processes have half of the grid each, and all have one thread.
    """
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        halves = _LEARNING_RATES[::2], _LEARNING_RATES[1::2]
        apart = max(pool.map(_search_seconds, halves, [1, 1]))
    return {"search": _search_seconds(_LEARNING_RATES, 2), "processes": apart}


def of_import():
    """Return seconds of the import in a new process, and of its dependencies."""
    seconds = {name: [] for name in _IMPORTS}
    for _ in range(_N_REPETITIONS):
        for name, modules in _IMPORTS.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def measure_fits(fits=_FITS):
    """Measure minutes of fits, each in a process of its own; return the record."""
    found = [
        in_a_process(of_fit, shape, n) for shape, counts in fits.items() for n in counts
    ]
    return {"fits": found, **circumstances("cpu")}


def measure_scaling(sizes=_SIZES, mapped=_MAPPED):
    """Measure growth with samples, grid searches and the import; return the record."""
    tables = [in_a_process(of_samples, n) for n in sizes]
    for n in mapped:
        with tempfile.TemporaryDirectory() as folder:
            tables.append(in_a_process(of_samples, n, folder))
    return {
        "tables": tables,
        "grid_search": [of_grid_search() for _ in range(3)],
        "imports": of_import(),
        **circumstances("cpu"),
    }


def exponent(record):
    """Return e of seconds = constant * samples^e, by least squares of logarithms."""
    tables = [table for table in record["tables"] if not table["mapped"]]
    counts, seconds = (
        np.log([table[key] for table in tables]) for key in ("rows", "epoch_seconds")
    )
    return np.polyfit(counts, seconds, 1)[0]
