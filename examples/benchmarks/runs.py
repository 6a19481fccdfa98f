"""Runs of a method on a label split of a task, each recorded as a line of JSON."""

import json
import math
import platform
import re
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
from pnl_sklearn.estimator._networks import check_device

from .checkpoints import read_checkpoint, write_checkpoint
from .methods import estimators, quick
from .tasks import TASKS, Options

_ROOT = Path(__file__).resolve().parents[2]


def read(path):
    """Return the records of a file; none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def append(record, path):
    """Add a record to a file."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def in_a_process(function, *arguments):
    """Call a function in a process of its own, to measure its peak memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run_all(names, methods, splits, path, options, device="auto", minutes=math.inf):
    """Run what the file does not hold yet, and append each record as its run ends.

    After so many minutes it stops, at the end of an epoch; the next call resumes it.
    """
    deadline = time.time() + 60 * minutes
    done = {_key(record) for record in read(path)}
    wanted = [
        (name, split, method)
        for name in names
        for split in splits
        for method in methods
        if (name, split, method, options.small) not in done
        and (method != "best" or TASKS[name].best)
    ]
    seconds = []
    for i, (name, split, method) in enumerate(wanted, 1):
        begin = time.perf_counter()
        form = "-small" if options.small else ""
        checkpoint = (
            path.parent / "checkpoints" / f"{name}-{split}-{method}{form}.joblib"
        )
        arguments = name, split, method, options, device, checkpoint, deadline
        record = in_a_process(run, *arguments)
        if record is None:
            print(
                f"[{i}/{len(wanted)}] {name}, split {split}, {method}: time is up; "
                "the same call resumes it",
                flush=True,
            )
            break
        append(record, path)
        checkpoint.unlink(missing_ok=True)
        seconds.append(time.perf_counter() - begin)
        left = np.mean(seconds) * (len(wanted) - i) / 60
        best = min(record["errors"].values())
        print(
            f"[{i}/{len(wanted)}] {name}, split {split}, {method}: {best:.2f} % in "
            f"{seconds[-1]:.0f} s; about {left:.0f} min left",
            flush=True,
        )
        if time.time() >= deadline and i < len(wanted):
            print("time is up; the same call continues with the next", flush=True)
            break


def _key(record):
    return record["task"], record["split"], record["method"], record["small"]


def run(
    name,
    split,
    method,
    options: Options,
    device="auto",
    checkpoint=None,
    deadline=math.inf,
):
    """Run one method on one label split; return the record.

    It has the error of each setting. If the deadline comes first, return None and write
    the file `checkpoint`, from which a later call resumes the run.
    """
    task = quick(TASKS[name]) if options.small else TASKS[name]
    data = task.load(split, options)
    y = data.y if method == "all_labels" else data.y_few
    score = balanced_accuracy_score if task.balanced else accuracy_score
    settings = estimators(method, task, data, split, device)
    parameters = repr(settings[0][1])
    named = re.sub(" at 0x[0-9a-f]+", "", repr(settings))  # no addresses in memory
    identity = named, check_device(device), _versions()
    so_far = read_checkpoint(checkpoint, identity)
    left = [pair for pair in settings if pair[0] not in so_far.errors]
    for setting, estimator in left:
        begin = time.perf_counter()
        with warnings.catch_warnings():
            # Some settings of the grids do not converge.
            warnings.simplefilter("ignore")
            fitted = so_far.fit(estimator, data.X, y, deadline)
            if fitted is not None:
                predicted = fitted.predict(data.X_test)
                error = 1 - float(score(data.y_test, predicted))
                so_far.errors[setting] = round(100 * error, 4)
        so_far.seconds += time.perf_counter() - begin
        if fitted is None or time.time() >= deadline:
            break
    so_far.calls.append(circumstances(device))
    if any(setting not in so_far.errors for setting, _ in left):
        write_checkpoint(so_far, checkpoint)
        return None
    return {
        "task": name,
        "split": split,
        "seed": split,
        "method": method,
        "small": options.small,
        "parameters": parameters,
        "errors": so_far.errors,
        "seconds": round(so_far.seconds / len(settings), 2),
        **_joined(so_far.calls),
    }


def _joined(calls):
    """Circumstances of the last call, with the devices and commits of all calls."""
    several = {
        key: ", ".join(dict.fromkeys(call[key] for call in calls))
        for key in ("device", "commit")
    }
    return calls[-1] | several


def circumstances(device):
    """Return device, memory, versions and commit of a run."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    flags = getattr(torch.cpu, "get_capabilities", dict)()
    matrices = " with AMX" if flags.get("amx_bf16") else ""
    record = {
        "device": platform.machine() + matrices,
        "threads": torch.get_num_threads(),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if device.startswith("cuda"):
        record["device"] = torch.cuda.get_device_name(device)
        record["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) >> 20
    record["versions"] = _versions()
    record["commit"] = _commit()
    return record


def _versions():
    return {
        "python": platform.python_version(),
        "pnl_sklearn": pnl_sklearn.__version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
    }


def _commit():
    """Return the commit of this clone, with a mark if files differ from it."""
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
