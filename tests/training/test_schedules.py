import math

import pytest

from pnl_sklearn.training._schedules import cosine, ema_decay_at, rampup, relaxation


@pytest.mark.parametrize(
    ("step", "length", "expected"),
    [
        (0, 10, math.exp(-5)),
        (5, 10, math.exp(-1.25)),
        (10, 10, 1.0),
        (11, 10, 1.0),
        (0, 0, 1.0),
    ],
)
def test_rampup(step, length, expected):
    assert rampup(step, length) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1.0), (25, 0.5 + math.sqrt(0.125)), (50, 0.5), (100, 0)]
)
def test_cosine(step, expected):
    assert cosine(step, 100) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.1), (1, 2 / 11), (90, 0.91), (10_000, 0.99)]
)
def test_average_decay(step, expected):
    assert ema_decay_at(step, 0.99) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1.0), (30, 1.0), (45, 0.625), (60, 0.25), (100, 0.25)]
)
def test_relaxation(step, expected):
    assert relaxation(step, 100) == pytest.approx(expected)
