"""Runs of a method on a draw of a task, each recorded as a line of JSON."""

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
    """Return the records of a file, or none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def append(record, path):
    """Add a record to a file."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def in_a_process(function, *arguments):
    """Call a function in a process of its own, whose peak of memory is of this call."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run_all(names, methods, draws, path, options, device="auto", minutes=math.inf):
    """Run what the file does not hold yet, and append each as it ends.

    After so many minutes it ends, at the end of an epoch; the next call goes on.
    """
    deadline = time.time() + 60 * minutes
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
        form = "-small" if options.small else ""
        checkpoint = (
            path.parent / "checkpoints" / f"{name}-{draw}-{method}{form}.joblib"
        )
        arguments = name, draw, method, options, device, checkpoint, deadline
        record = in_a_process(run, *arguments)
        if record is None:
            print(
                f"[{i}/{len(wanted)}] {name}, draw {draw}, {method}: time is up; the "
                "same call goes on with it",
                flush=True,
            )
            break
        append(record, path)
        checkpoint.unlink(missing_ok=True)
        seconds.append(time.perf_counter() - begin)
        left = np.mean(seconds) * (len(wanted) - i) / 60
        best = min(record["errors"].values())
        print(
            f"[{i}/{len(wanted)}] {name}, draw {draw}, {method}: {best:.2f} % in "
            f"{seconds[-1]:.0f} s; about {left:.0f} min left",
            flush=True,
        )
        if time.time() >= deadline and i < len(wanted):
            print("time is up; the same call goes on with the next", flush=True)
            break


def _key(record):
    return record["task"], record["draw"], record["method"], record["small"]


def run(
    name,
    draw,
    method,
    options: Options,
    device="auto",
    checkpoint=None,
    deadline=math.inf,
):
    """Run one method on one draw; return the record, with the error of each setting.

    Where time is up first, write how far it got to the file `checkpoint`, which a later
    call goes on from, and return None.
    """
    task = quick(TASKS[name]) if options.small else TASKS[name]
    data = task.load(draw, options)
    y = data.y if method == "all_labels" else data.y_few
    score = balanced_accuracy_score if task.balanced else accuracy_score
    settings = estimators(method, task, data, draw, device)
    parameters = repr(settings[0][1])
    named = re.sub(" at 0x[0-9a-f]+", "", repr(settings))  # no places in memory
    identity = named, check_device(device), _versions()
    so_far = read_checkpoint(checkpoint, identity)
    left = [pair for pair in settings if pair[0] not in so_far.errors]
    for setting, estimator in left:
        begin = time.perf_counter()
        with warnings.catch_warnings():
            # Grids of the baselines hold settings that do not converge.
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
        "draw": draw,
        "seed": draw,
        "method": method,
        "small": options.small,
        "parameters": parameters,
        "errors": so_far.errors,
        "seconds": round(so_far.seconds / len(settings), 2),
        **_joined(so_far.calls),
    }


def _joined(calls):
    """Circumstances of the last call, with all devices and commits there were."""
    several = {
        key: ", ".join(dict.fromkeys(call[key] for call in calls))
        for key in ("device", "commit")
    }
    return calls[-1] | several


def circumstances(device):
    """What a figure depends on beside the method."""
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
    """The commit of this clone, with a mark if files differ from it."""
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
