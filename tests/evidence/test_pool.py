"""Exponents of the log-linear pool maximize the posterior density."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from pnl_sklearn.evidence._pool import log_linear_pool

rng = np.random.default_rng(0)
LABELS = rng.integers(3, size=60)


def expert(sharpness):
    """Return log-probabilities that are correct on average."""
    logits = sharpness * np.eye(3)[LABELS] + rng.normal(size=(60, 3))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("prior_mean", "prior_precision"), [(0.5, 4.0), (1.0, 1.0)])
def test_maximum_of_the_posterior_density(prior_mean, prior_precision):
    experts = np.stack([expert(2.0), expert(0.7)])

    def loss(exponents):
        product = np.exp(np.einsum("e,enc->nc", exponents, experts))
        product /= product.sum(axis=1, keepdims=True)
        prior = norm(prior_mean, prior_precision**-0.5).logpdf(exponents).sum()
        return -prior - np.log(product[np.arange(60), LABELS]).sum()

    expected = minimize(loss, [1.0, 1.0], method="Nelder-Mead", tol=1e-8).x
    found = log_linear_pool(experts, LABELS, prior_mean, prior_precision)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_exponents_are_not_negative():
    wrong = expert(3.0)[:, [1, 2, 0]]
    assert log_linear_pool(np.stack([expert(3.0), wrong]), LABELS)[1] == 0


def test_expert_that_tells_nothing_keeps_the_mean_of_the_prior():
    uniform = np.full((60, 3), -np.log(3))
    found = log_linear_pool(np.stack([expert(2.0), uniform]), LABELS)
    assert found[1] == pytest.approx(0.5, abs=1e-4)
