"""Nothing is read from the device between the ends of two epochs."""

import warnings

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pnl_sklearn import PNLClassifier
from pnl_sklearn.views import AdversarialView, RandAugmentView

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(60, 1, 8, 8), dtype=np.uint8)
TABLE = RNG.standard_normal((60, 7), dtype=np.float32)
Y = np.where(np.arange(60) < 12, np.arange(60) % 3, -1)
EXCLUDED = np.eye(3, dtype=bool)[(Y + 1) % 3] & (Y < 0)[:, None]

SETTINGS = [
    (IMAGES, {}),
    (TABLE, {"graph": "auto"}),
    (IMAGES, {"exchange": "alternating", "selection": "random"}),
    (IMAGES, {"consistency": "mean_teacher", "selection": "lowest"}),
    (TABLE, {"consistency": "dual_student", "class_prior": "labeled"}),
    (TABLE, {"strong_view": AdversarialView(noise=0.1)}),
    (IMAGES, {"strong_view": RandAugmentView(), "precision": "bfloat16"}),
]
each_setting = pytest.mark.parametrize(
    ("inputs", "params"),
    SETTINGS,
    ids=[
        "images",
        "table",
        "alternating",
        "mean teacher",
        "dual student",
        "adversarial view",
        "bfloat16",
    ],
)


class Reads(TorchDispatchMode):
    """Counts the operations that need a value of a tensor in Python."""

    names = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in self.names
        return func(*args, **(kwargs or {}))


def fit(inputs, n_steps, **params):
    defaults = {
        "graph": None,
        "max_epochs": 2,
        "batch_size": 8,
        "labeled_batch_size": 4,
        "random_state": 0,
    }
    estimator = PNLClassifier(**(defaults | params), steps_per_epoch=n_steps)
    return estimator.fit(inputs, Y, negative_labels=EXCLUDED)


@each_setting
def test_reads_do_not_grow_with_the_steps(inputs, params):
    counts = []
    for n_steps in (3, 9):
        with Reads() as reads:
            fit(inputs, n_steps, **params)
        counts.append(reads.count)
    assert counts[0] == counts[1] > 0


def test_read_in_a_step_is_counted():
    def view(x):
        return x + float(x.sum() > 0)

    with Reads() as few:
        fit(TABLE, 3, strong_view=view)
    with Reads() as many:
        fit(TABLE, 9, strong_view=view)
    assert many.count - few.count == 2 * 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@each_setting
@pytest.mark.parametrize("compile", [False, "auto"])
def test_steps_do_not_wait_for_the_gpu(inputs, params, compile):
    counts = []
    for n_steps in (30, 60) if compile else (3, 12):  # each captures two steps
        params = params | {"device": "cuda", "compile": compile}
        fit(inputs, n_steps, **params)  # what happens once in a process
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                fit(inputs, n_steps, **params)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits = [w for w in caught if "synchronizing CUDA" in str(w.message)]
        counts.append(len(waits))
    assert counts[0] == counts[1] > 0, [str(w) for w in waits[-2:]]
