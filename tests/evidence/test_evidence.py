"""Neighbors are used if they predict held-out labels as well as a linear classifier."""

import warnings

import numpy as np
import pytest
from scipy.special import softmax

from pnl_sklearn.evidence._evidence import weigh_evidence
from pnl_sklearn.exceptions import UnlabeledDataWarning

LABELS = np.arange(60) % 3
UNIFORM = np.full((60, 3), 1 / 3)


def predictions(accuracy):
    """Return confident predictions of which a share is correct."""
    n_wrong = round(60 * (1 - accuracy))
    predicted = np.r_[(LABELS[:n_wrong] + 1) % 3, LABELS[n_wrong:]]
    return 0.85 * np.eye(3)[predicted] + 0.05


def test_neighbors_that_predict_better_are_used():
    evidence = weigh_evidence(LABELS, 3, predictions(0.6), predictions(0.9))
    assert evidence.uses_neighbors
    assert evidence.graph_weight > evidence.linear_weight
    assert evidence.expected_accuracy == pytest.approx(0.9, abs=0.05)
    assert "and are used.\nUse PNLClassifier" in str(evidence)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evidence.warn()


def test_neighbors_that_predict_worse_are_not_used():
    evidence = weigh_evidence(LABELS, 3, predictions(0.9), UNIFORM)
    assert not evidence.uses_neighbors
    assert evidence.graph_weight == 0
    assert evidence.pvalue < 0.001
    assert "LogisticRegression" in str(evidence)
    with pytest.warns(UnlabeledDataWarning, match="held-out labels worse"):
        evidence.warn()


def test_posterior_that_adds_to_the_linear_classifier_has_a_weight():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 60, 3))  # independent errors
    linear, graph = (
        softmax(scale * np.eye(3)[LABELS] + part, axis=1)
        for scale, part in zip((2, 1), noise, strict=True)
    )
    evidence = weigh_evidence(LABELS, 3, linear, graph)
    assert not evidence.uses_neighbors
    assert evidence.log_likelihood["product"] > evidence.log_likelihood["linear"]
    assert 0 < evidence.graph_weight < evidence.linear_weight
    assert "only their graph posterior is used" in str(evidence)


def test_labels_of_one_class_tell_nothing():
    labels = np.zeros(9, dtype=int)
    sure, unsure = ([[p, 1 - p]] * np.ones((9, 1)) for p in (0.99, 0.9))
    assert weigh_evidence(labels, 2, sure, unsure).uses_neighbors


def test_pvalue_is_that_of_mcnemar():
    # Nine labels are predicted by the linear classifier only, none by neighbors only.
    evidence = weigh_evidence(LABELS, 3, predictions(0.9), predictions(0.75))
    assert evidence.pvalue == pytest.approx(0.5**9)


def test_log_likelihood_is_a_mean_over_labels():
    evidence = weigh_evidence(LABELS, 3, predictions(0.5), UNIFORM)
    expected = (np.log(0.9) + np.log(0.05)) / 2
    assert evidence.log_likelihood["linear"] == pytest.approx(expected)
    assert evidence.log_likelihood["uniform"] == pytest.approx(-np.log(3))


def test_graph_posterior_alone_is_used_as_it_is():
    evidence = weigh_evidence(LABELS, 3, neighbors=predictions(0.8))
    assert (evidence.linear_weight, evidence.graph_weight) == (0, 1)
    assert np.isnan(evidence.expected_accuracy)


def test_without_held_out_labels():
    evidence = weigh_evidence(LABELS[:0], 3, UNIFORM[:0])
    assert evidence.uses_neighbors
    assert (evidence.linear_weight, evidence.graph_weight) == (1, 0)
    assert "Label two samples" in str(evidence)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:0]])
def test_summary_without_linear_classifier_and_neighbors(labels):
    summary = str(weigh_evidence(labels, 3))
    assert summary == "Neither a linear classifier nor neighbors are used."
