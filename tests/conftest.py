import math
import os

# Before torch is imported: several test processes must not fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from torch import nn

from pnl_sklearn import _rounds
from pnl_sklearn._dropout import ReLUDropout


@pytest.fixture
def draws_as_on_a_gpu(monkeypatch):
    """Perceptron and views draw from torch's generator, as on any device but a CPU."""
    monkeypatch.setattr(_rounds, "_MANY_VALUES", math.inf)
    monkeypatch.setattr(
        ReLUDropout, "forward", lambda layer, x: nn.Dropout.forward(layer, x.relu())
    )
