"""Exchange, selections, class priors and views in a fit."""

import threading

import numpy as np
import pytest
import torch
from small_fits import IMAGES, TRUTH, X, Y, predictions, same, tiny

from pnl_sklearn import (
    AdaptiveNegatives,
    DistributionAlignment,
    LowestNegatives,
    RandomNegatives,
    supervised_baseline,
)


def test_exchange_determines_steps_of_each_submodel():
    steps = {"simultaneous": [6, 6], "alternating": [3, 3]}
    for exchange, expected_steps in steps.items():
        estimator = tiny(exchange=exchange).fit(X, Y)
        assert [net.n_steps_ for net in estimator.submodels_] == expected_steps
    baseline = supervised_baseline(estimator).fit(X, Y)
    assert [net.n_steps_ for net in baseline.submodels_] == [3, 3]


@pytest.mark.parametrize(
    ("name", "selection"),
    [
        ("adaptive", AdaptiveNegatives(tolerance=0.05)),
        ("random", RandomNegatives(n_negatives=2)),
        ("lowest", LowestNegatives(n_negatives=2)),
    ],
)
def test_selection_by_name_equals_object(name, selection):
    same(predictions(selection=name), predictions(selection=selection))


@pytest.mark.parametrize(
    "selection",
    [AdaptiveNegatives(0.3), RandomNegatives(1), LowestNegatives(1)],
    ids=repr,
)
def test_selections_learn(selection):
    estimator = tiny(selection=selection, steps_per_epoch=10, lr=0.01).fit(X, Y)
    assert estimator.score(X, TRUTH) > 0.9
    if not isinstance(selection, AdaptiveNegatives):
        assert estimator.history_[-1]["negative_coverage"] == 1


def test_selection_may_be_any_callable():
    seen = []

    def least_probable(probabilities):
        seen.append(probabilities)
        mask = torch.zeros_like(probabilities, dtype=torch.bool)
        return mask.scatter_(1, probabilities.argmin(dim=1, keepdim=True), True)

    given = predictions(selection=least_probable)
    same(given, predictions(selection=LowestNegatives(n_negatives=1)))
    # It is tried once; then a call for each of two students in each of six steps.
    assert len(seen) == 13
    for probabilities in seen[1:]:
        assert probabilities.shape == (16, 3)
        assert not probabilities.requires_grad
        np.testing.assert_allclose(probabilities.sum(dim=1), 1, rtol=1e-5)


def test_two_classes_learn():
    y = np.where(Y == 2, -1, Y)
    for selection in ["adaptive", "random", "lowest"]:
        estimator = tiny(selection=selection, steps_per_epoch=10, lr=0.01).fit(X, y)
        assert estimator.score(X, np.where(TRUTH == 2, -1, TRUTH)) > 0.9


def test_forms_of_class_prior():
    y = np.where((Y == 2) & (np.arange(60) > 5), -1, Y)
    shares = np.bincount(y[y >= 0]) / np.sum(y >= 0)

    def fit(**params):
        return tiny(rampup=0, **params).fit(X, y).predict_proba(X)

    for graph in (None, "auto"):
        uniform = fit(class_prior="uniform", graph=graph)
        same(uniform, fit(class_prior=[2, 2, 2], graph=graph))
        same(uniform, fit(class_prior=DistributionAlignment("uniform"), graph=graph))
        off = DistributionAlignment(weight=0)
        same(fit(class_prior=None, graph=graph), fit(class_prior=off, graph=graph))
    same(fit(class_prior="labeled"), fit(class_prior=shares))
    same(fit(class_prior="labeled"), fit(class_prior=np.bincount(y[y >= 0])))
    by_class = dict(zip([2, 0, 1], shares[[2, 0, 1]], strict=True))
    same(fit(class_prior=shares), fit(class_prior=by_class))
    pandas = pytest.importorskip("pandas")
    same(fit(class_prior=shares), fit(class_prior=pandas.Series(by_class)))
    named = tiny(rampup=0, class_prior=pandas.Series(shares))
    same(
        fit(class_prior=shares),
        named.fit(X, np.array([*"abc", -1])[y]).predict_proba(X),
    )
    different = [fit(class_prior=kind) for kind in ("uniform", "labeled", None)]
    for i, first in enumerate(different):
        for second in different[i + 1 :]:
            assert not np.array_equal(first, second)


def test_class_prior_regularizes_mean_prediction():
    options = {"rampup": 0, "lr": 0.03, "max_epochs": 3, "steps_per_epoch": 40}
    estimator = tiny(class_prior=[0.8, 0.1, 0.1], **options).fit(X, Y)
    distribution = estimator.history_[-1]["class_distribution"]
    np.testing.assert_allclose(distribution, [0.8, 0.1, 0.1], atol=0.05)


def test_views_get_batches_in_the_units_of_the_inputs():
    seen = {"weak": [], "strong": []}

    def view(name):
        return lambda x: seen[name].append(x) or x

    tiny(weak_view=view("weak"), strong_view=view("strong")).fit(X, Y)
    samples = {sample.tobytes() for sample in X}
    for batches in seen.values():
        for batch in batches:
            assert {sample.tobytes() for sample in batch.numpy()} <= samples
    # They are tried once on as many samples. Then one call serves both pairs of student
    # and teacher: 8 labeled samples, 16 unlabeled.
    assert {len(batch) for batch in seen["weak"][1:]} == {2 * (8 + 16)}
    assert {len(batch) for batch in seen["strong"][1:]} == {2 * 16}


@pytest.mark.parametrize("which", ["weak_view", "strong_view"])
@pytest.mark.parametrize("inputs", [X, IMAGES], ids=["table", "images"])
def test_in_place_view_leaves_inputs_unchanged(which, inputs):
    def halved(x):
        return x.mul_(0.5)

    inputs = inputs.astype(np.float32)
    kept = inputs.copy()
    inputs.flags.writeable = False
    tiny(**{which: halved}).fit(inputs, Y)
    same(inputs, kept)


def test_strong_view_is_not_called_without_unlabeled_samples():
    sizes = []
    tiny(strong_view=lambda x: sizes.append(len(x)) or x).fit(X, TRUTH)
    assert len(sizes) == 1  # it is tried


@pytest.mark.parametrize("n_classes", [2, 10])
def test_views_and_selections_may_use_the_whole_batch(n_classes):
    """They are tried on as many samples as a step has."""

    class Locked:
        def __init__(self):
            self.lock = threading.Lock()

        def __call__(self, probabilities):
            sure = probabilities.max(dim=1).values.topk(16).indices
            mask = probabilities < probabilities.mean(dim=1, keepdim=True)
            mask[sure] = mask[sure].clone()
            return mask

    def view(x):
        neighbors = torch.cdist(x, x).topk(30, largest=False).indices
        return x[neighbors[:, 1]]

    y = np.where(np.arange(60) < 20, np.arange(60) % n_classes, -1)
    fitted = tiny(selection=Locked(), weak_view=view, strong_view=view).fit(X, y)
    assert np.isfinite(fitted.predict_proba(X)).all()
