"""Temperatures bring the mean confidence to the expected accuracy."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from pnl_sklearn.objectives._temperature import TeacherTemperature, fit_temperature

LOGITS = 5 * np.random.default_rng(0).normal(size=(200, 4))


@pytest.mark.parametrize("confidence", [0.4, 0.7])
def test_mean_confidence(confidence):
    temperature = fit_temperature(log_softmax(LOGITS, axis=1), confidence)
    scaled = softmax(LOGITS / temperature, axis=1)
    assert scaled.max(axis=1).mean() == pytest.approx(confidence, abs=1e-3)


def test_predictions_are_not_made_more_confident():
    assert fit_temperature(log_softmax(LOGITS, axis=1), 0.99) == 1


def test_limit_of_the_temperature():
    assert fit_temperature(log_softmax(LOGITS, axis=1), 0.25) == 100


def test_temperature_of_teachers_follows_their_confidence():
    predictions = [torch.from_numpy(softmax(LOGITS, axis=1)).float()] * 2
    temperature = TeacherTemperature(0.6, "cpu")
    for _ in range(300):
        scaled = temperature(predictions)
    assert scaled[0].amax(dim=1).mean() == pytest.approx(0.6, abs=0.01)
    assert torch.equal(scaled[0].argmax(dim=1), predictions[0].argmax(dim=1))
    again = TeacherTemperature(0.6, "cpu")
    again.load_state_dict(temperature.state_dict())
    torch.testing.assert_close(again(predictions), temperature(predictions))


def test_unconfident_teachers_are_unchanged():
    flat = [torch.full((5, 2), 0.5)]
    torch.testing.assert_close(TeacherTemperature(0.9, "cpu")(flat), flat)


def test_without_a_target():
    predictions = [torch.rand(5, 3)]
    assert TeacherTemperature(None, "cpu")(predictions) is predictions
