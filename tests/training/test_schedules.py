"""Schedules by tables of their values."""

import math

import pytest

from pnl_sklearn.training._schedules import (
    ScheduleValues,
    cosine_decay,
    ema_decay_at,
    late_decay,
    sigmoid_rampup,
)


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
def test_sigmoid_rampup(step, length, expected):
    assert sigmoid_rampup(step, length) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1.0), (25, 0.5 + math.sqrt(0.125)), (50, 0.5), (100, 0)]
)
def test_cosine_decay(step, expected):
    assert cosine_decay(step, 100) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.1), (1, 2 / 11), (90, 0.91), (10_000, 0.99)]
)
def test_ema_decay_at(step, expected):
    assert ema_decay_at(step, 0.99) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1.0), (30, 1.0), (45, 0.625), (60, 0.25), (100, 0.25)]
)
def test_late_decay(step, expected):
    assert late_decay(step, 100) == pytest.approx(expected)


def test_schedule_values_to_list_and_back():
    values = ScheduleValues(0.1, 0.2, 0.3, 0.4, [0.5, 0.6])
    assert values.to_list() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert ScheduleValues.from_list(values.to_list()) == values
