import numpy as np
import pytest
import torch

from pnl_sklearn.objectives import (
    balance_loss,
    candidate_loss,
    consistency_loss,
    negative_learning_loss,
    supervised_loss,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4))
NEGATIVES = np.array(
    [
        [0, 1, 1, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 1, 1, 1],
        [1, 1, 0, 0],
        [0, 0, 0, 1],
    ],
    dtype=bool,
)


def softmax(logits):
    exp = np.exp(logits)
    return exp / exp.sum(axis=1, keepdims=True)


def test_negative_learning_loss_equals_equation_2_of_nlnl():
    # Kim et al. 2019, eq. 2: -log(1 - p_k), averaged over a sample's negative labels.
    p = softmax(LOGITS)
    per_sample = [
        np.mean([-np.log(1 - p[i, k]) for k in np.flatnonzero(NEGATIVES[i])])
        if NEGATIVES[i].any()
        else 0.0
        for i in range(6)
    ]
    loss = negative_learning_loss(torch.tensor(LOGITS), torch.tensor(NEGATIVES))
    assert loss.item() == pytest.approx(np.mean(per_sample), rel=1e-6)


def test_candidate_loss_equals_log_of_candidate_probability():
    # Jin and Ghahramani 2002: the label is one of a set; maximize its probability.
    p = softmax(LOGITS)
    expected = np.mean([-np.log(p[i, ~NEGATIVES[i]].sum()) for i in range(6)])
    loss = candidate_loss(torch.tensor(LOGITS), torch.tensor(NEGATIVES))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_candidate_loss_with_one_candidate_equals_cross_entropy():
    labels = torch.tensor([0, 3, 1, 1, 2, 0])
    negatives = torch.nn.functional.one_hot(labels, 4) == 0
    logits = torch.tensor(LOGITS)
    expected = torch.nn.functional.cross_entropy(logits, labels).item()
    assert candidate_loss(logits, negatives).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("prior", [[0.25, 0.25, 0.25, 0.25], [0.7, 0.2, 0.1, 0.0]])
def test_balance_loss_equals_kullback_leibler_divergence(prior):
    mean = softmax(LOGITS).mean(axis=0)
    expected = sum(q * np.log(q / m) for q, m in zip(prior, mean, strict=True) if q)
    loss = balance_loss(torch.tensor(LOGITS), torch.tensor(prior))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_balance_loss_with_running_mean():
    prior, running = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
    logits = torch.tensor(LOGITS, requires_grad=True)
    loss = balance_loss(logits, torch.tensor(prior), torch.tensor(running))
    loss.backward()
    assert loss.item() == pytest.approx((prior * np.log(prior / running)).sum())
    # d loss / d mean_k = -prior_k / running_k; d p_k / d z = p_k (e_k - p).
    p = softmax(LOGITS)
    by_mean = -prior / running
    expected = p * (by_mean - (p * by_mean).sum(axis=1, keepdims=True)) / len(p)
    np.testing.assert_allclose(logits.grad, expected, rtol=1e-4, atol=1e-7)


def test_balance_loss_of_collapsed_class_is_finite():
    logits = torch.tensor([[0.0, -1e4]], requires_grad=True)
    loss = balance_loss(logits, torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(0.5) - 0.5 * np.log(1e-3 / 2), rel=1e-5)
    assert logits.grad.isfinite().all()


def test_balance_loss_is_zero_at_the_prior():
    prior = torch.tensor([0.5, 0.3, 0.2])
    assert balance_loss(prior.log().expand(5, 3), prior).item() == pytest.approx(
        0, abs=1e-6
    )


def test_supervised_loss_equals_weighted_cross_entropy():
    labels, weights = np.array([0, 1, 2, 3, 0, 1]), np.array([1, 2, 0, 0.5, 1, 1.5])
    p = softmax(LOGITS)
    expected = np.mean(-weights * np.log(p[np.arange(6), labels]))
    loss = supervised_loss(
        torch.tensor(LOGITS), torch.tensor(labels), torch.tensor(weights).float()
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_consistency_loss_equals_weighted_mean_squared_difference():
    p = softmax(LOGITS)
    targets = softmax(RNG.normal(size=(2 * 6, 4))).reshape(2, 6, 4)
    weights = RNG.random((2, 6))
    expected = sum(
        weights[t, i] * np.mean((p[i] - targets[t, i]) ** 2)
        for t in range(2)
        for i in range(6)
    )
    loss = consistency_loss(*map(torch.from_numpy, (LOGITS, targets, weights)))
    assert loss.item() == pytest.approx(expected / 6, rel=1e-5)


@pytest.mark.parametrize("loss", [negative_learning_loss, candidate_loss])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [0.0, 30.0, 1e4])
def test_losses_are_finite_for_any_finite_logits(loss, dtype, size):
    # At 30 a float32 probability rounds to 1, at 1e4 the others underflow to 0.
    logits = torch.tensor([[size, 0, -size], [0, size, 0]], dtype=dtype)
    logits.requires_grad_()
    negatives = torch.tensor([[True, False, False], [True, True, False]])
    value = loss(logits, negatives)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    if size:  # a confident mistake: the gradient must lower the logit
        assert logits.grad[0, 0] > 0


def test_negative_learning_loss_of_confident_mistake_is_exact():
    # 1 - p_0 = 2 / (e^40 + 2); 1 - p_0 itself rounds to 0 in float32.
    loss = negative_learning_loss(
        torch.tensor([[40.0, 0.0, 0.0]]), torch.tensor([[True, False, False]])
    )
    assert loss.item() == pytest.approx(40 - np.log(2), rel=1e-6)


@pytest.mark.parametrize("loss", [negative_learning_loss, candidate_loss])
def test_loss_without_negatives_or_samples_is_zero(loss):
    logits = torch.tensor(LOGITS, requires_grad=True)
    value = loss(logits, torch.zeros(6, 4, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()
    assert loss(logits[:0], torch.zeros(0, 4, dtype=torch.bool)).item() == 0


def test_other_losses_of_empty_batch_are_zero():
    empty = torch.zeros(0, 3)
    assert balance_loss(empty, torch.full((3,), 1 / 3)).item() == 0
    nothing = torch.zeros(0)
    assert supervised_loss(empty, nothing.long(), nothing).item() == 0
    assert consistency_loss(empty, torch.zeros(1, 0, 3), nothing[None]).item() == 0
