"""The class prior that a fit estimates from the teachers' predictions."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from pnl_sklearn import DistributionAlignment, PNLClassifier
from pnl_sklearn.objectives._class_prior import ClassPrior


def estimated_prior(distribution, n_updates=2000):
    """Return a prior that was updated with the same predictions many times."""
    n_classes = len(distribution)
    prior = ClassPrior(torch.full((n_classes,), 1 / n_classes), is_estimated=True)
    for _ in range(n_updates):
        prior.update(torch.tensor([distribution, distribution]))
    return prior


@pytest.mark.parametrize(
    "distribution", [[0.25] * 4, [0.3, 0.2, 0.25, 0.25], [0.6, 0.3, 0.09, 0.01]]
)
def test_estimated_prior_follows_predictions_as_far_as_they_are_unbalanced(
    distribution,
):
    m = np.array(distribution)
    deficit = 1 + (m * np.log(m)).sum() / np.log(4)
    exponent = deficit**4 / (deficit**4 + 0.01**4)
    expected = m**exponent / (m**exponent).sum()
    prior = estimated_prior(distribution)
    assert prior.target.tolist() == pytest.approx(expected, rel=1e-3)
    assert prior.initial.tolist() == [0.25] * 4
    weight = (1 - exponent) * (3 / 9) ** 2
    assert prior.weight.item() == pytest.approx(weight, abs=1e-4)


def test_estimated_prior_is_near_uniform_or_near_the_predictions():
    balanced = estimated_prior([0.28, 0.22, 0.25, 0.25]).target
    assert balanced.tolist() == pytest.approx([0.25] * 4, abs=0.01)
    unbalanced = [0.6, 0.3, 0.09, 0.01]
    target = estimated_prior(unbalanced).target
    assert target.tolist() == pytest.approx(unbalanced, abs=0.01)


@pytest.mark.parametrize(("n_classes", "weight"), [(2, 1 / 81), (10, 1), (100, 1)])
def test_alignment_weight_is_lower_for_few_classes(n_classes, weight):
    prior = estimated_prior([1 / n_classes] * n_classes, n_updates=10)
    assert prior.weight.item() == pytest.approx(weight)


@pytest.mark.parametrize("prior", ["auto", "uniform"])
def test_alignment_weight_of_an_estimated_prior_falls_late(prior):
    """To a quarter, at each step the same for both submodels; of a given one never."""

    class Weights(Callback):
        def on_grad_computed(self, net, batch=None, **kwargs):
            weights.append(float(batch.balance_weight))

    weights = []
    X = np.random.default_rng(0).normal(size=(200, 4))
    y = np.where(np.arange(200) < 100, np.arange(200) % 10, -1)
    PNLClassifier(
        class_prior=DistributionAlignment(prior),
        callbacks=[Weights()],
        graph=None,
        net_params={"module__hidden": 32},
        rampup=0,
        max_epochs=1,
        steps_per_epoch=20,
        random_state=0,
    ).fit(X, y)
    factors = np.interp(np.arange(20) / 20, [0.3, 0.6], [1, 0.25])
    expected = 4 * (factors if prior == "auto" else np.ones(20))
    np.testing.assert_allclose(weights, np.repeat(expected, 2), rtol=0.02)


def test_frozen_prior_keeps_its_exponent():
    prior = estimated_prior([0.25] * 4)
    prior.frozen = True
    for _ in range(2000):
        prior.update(torch.tensor([[0.7, 0.1, 0.1, 0.1]]))
    assert prior.target.tolist() == pytest.approx([0.25] * 4, abs=1e-4)


def test_given_prior_stays():
    prior = ClassPrior(torch.tensor([0.6, 0.4]), is_estimated=False)
    prior.update(torch.tensor([[0.9, 0.1]]))
    assert prior.target.tolist() == pytest.approx([0.6, 0.4])
    assert prior.weight.item() == 1


def test_prior_without_unlabeled_samples_stays():
    prior = ClassPrior(torch.tensor([0.5, 0.5]), is_estimated=True)
    prior.update(torch.zeros(0, 2))
    assert prior.target.tolist() == [0.5, 0.5]


def test_prior_state_dict_restores_the_estimate():
    """Further updates have the same bits as without the round trip."""
    prior = estimated_prior([0.4, 0.3, 0.2, 0.1], n_updates=20)
    state = prior.state_dict()
    restored = ClassPrior(prior.initial, is_estimated=True)
    restored.load_state_dict(state)
    for each in (prior, restored):
        each.update(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    assert torch.equal(restored.target, prior.target)
    assert torch.equal(restored.weight, prior.weight)
    # The state is a copy, and a prior that was given takes nothing over.
    assert not torch.equal(state["target"], prior.target)
    given = ClassPrior(torch.full((4,), 0.25), is_estimated=False)
    given.load_state_dict(state)
    assert given.target.tolist() == [0.25] * 4
