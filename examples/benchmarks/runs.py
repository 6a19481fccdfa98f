"""Runs of a method on a draw of a task, each recorded as a line of JSON."""

import json
import platform
import resource
import subprocess
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

import pnl_sklearn

from .methods import estimators, quick
from .tasks import TASKS, Options

_ROOT = Path(__file__).resolve().parents[2]


def read(path):
    """Return the records of a file, or none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_all(names, methods, draws, path, options, device="auto"):
    """Run what the file does not hold yet, and append each as it ends."""
    done = {_key(record) for record in read(path)}
    wanted = [
        (name, draw, method)
        for name in names
        for draw in draws
        for method in methods
        if (name, draw, method, options.small) not in done
        and (method != "best" or TASKS[name].best)
    ]
    seconds = []
    for i, (name, draw, method) in enumerate(wanted, 1):
        begin = time.perf_counter()
        # A process of its own, so that its peak of memory is that of this run.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            record = pool.submit(run, name, draw, method, options, device).result()
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        seconds.append(time.perf_counter() - begin)
        left = np.mean(seconds) * (len(wanted) - i) / 60
        best = min(record["errors"].values())
        print(
            f"[{i}/{len(wanted)}] {name}, draw {draw}, {method}: {best:.2f} % in "
            f"{seconds[-1]:.0f} s; about {left:.0f} min left",
            flush=True,
        )


def _key(record):
    return record["task"], record["draw"], record["method"], record["small"]


def run(name, draw, method, options: Options, device="auto"):
    """Run one method on one draw; return the record, with the error of each setting."""
    task = quick(TASKS[name]) if options.small else TASKS[name]
    data = task.load(draw, options)
    y = data.y if method == "all_labels" else data.y_few
    score = balanced_accuracy_score if task.balanced else accuracy_score
    settings = estimators(method, task, data, draw, device)
    errors = {}
    begin = time.perf_counter()
    for setting, estimator in settings:
        with warnings.catch_warnings():
            # Grids of the baselines hold settings that do not converge.
            warnings.simplefilter("ignore")
            estimator.fit(data.X, y)
            predicted = estimator.predict(data.X_test)
        errors[setting] = round(100 * (1 - float(score(data.y_test, predicted))), 4)
    return {
        "task": name,
        "draw": draw,
        "seed": draw,
        "method": method,
        "small": options.small,
        "parameters": repr(settings[0][1]),
        "errors": errors,
        "seconds": round((time.perf_counter() - begin) / len(settings), 2),
        **circumstances(device),
    }


def circumstances(device):
    """What a figure depends on beside the method."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    record = {
        "device": platform.machine(),
        "threads": torch.get_num_threads(),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if device.startswith("cuda"):
        record["device"] = torch.cuda.get_device_name(device)
        record["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) >> 20
    record["versions"] = {
        "python": platform.python_version(),
        "pnl_sklearn": pnl_sklearn.__version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
    }
    record["commit"] = _commit()
    return record


def _commit():
    """The commit of this clone, with a mark if files differ from it."""
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
