import numpy as np
import pytest
import torch
from sklearn.base import clone

from pnl_sklearn import (
    AdaptiveNegatives,
    LowestNegatives,
    PNLClassifier,
    RandomNegatives,
)
from pnl_sklearn.objectives import (
    Selection,
    candidate_loss,
    negative_learning_loss,
)
from pnl_sklearn.objectives._selection import product_of_experts, selection_loss

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet(np.full(6, 0.4), size=200)


def adaptive_by_hand(p, tolerance):
    """All but the most probable classes whose probability sums to 1 - tolerance."""
    mask = np.ones_like(p, dtype=bool)
    for i, probabilities in enumerate(p):
        total = 0.0
        for k in np.argsort(-probabilities):
            mask[i, k] = False
            total += probabilities[k]
            if total >= 1 - tolerance:
                break
    return mask


@pytest.mark.parametrize("tolerance", [0.01, 0.05, 0.3, 0.9])
def test_adaptive_negatives_equal_a_loop(tolerance):
    mask = AdaptiveNegatives(tolerance)(torch.tensor(PROBABILITIES))
    assert (mask.numpy() == adaptive_by_hand(PROBABILITIES, tolerance)).all()


def test_adaptive_negatives_of_certain_and_of_uniform_predictions():
    p = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    mask = AdaptiveNegatives(0.05)(p)
    assert mask.tolist() == [[False, True, True], [False, False, False]]


def test_adaptive_negatives_leave_one_candidate():
    mask = AdaptiveNegatives(0.999)(torch.tensor(PROBABILITIES))
    assert (~mask).sum(dim=1).min() == 1


@pytest.mark.parametrize("n_negatives", [1, 2, 5])
def test_lowest_negatives_equal_argsort(n_negatives):
    mask = LowestNegatives(n_negatives)(torch.tensor(PROBABILITIES))
    expected = np.zeros_like(PROBABILITIES, dtype=bool)
    lowest = np.argsort(PROBABILITIES, axis=1)[:, :n_negatives]
    np.put_along_axis(expected, lowest, True, axis=1)
    assert (mask.numpy() == expected).all()


@pytest.mark.parametrize("n_negatives", [1, 2, 5])
def test_random_negatives_are_distinct_and_exclude_the_pseudo_label(n_negatives):
    mask = RandomNegatives(n_negatives)(torch.tensor(PROBABILITIES)).numpy()
    assert (mask.sum(axis=1) == n_negatives).all()
    assert not mask[np.arange(200), PROBABILITIES.argmax(axis=1)].any()


def test_random_negatives_are_uniform_over_other_classes():
    p = torch.tensor([[0.1, 0.6, 0.2, 0.1]]).expand(30_000, 4)
    mask = RandomNegatives(2)(p, generator=torch.Generator().manual_seed(0))
    shares = mask.float().mean(dim=0)
    # m / (C - 1) = 2/3; four standard errors of a share are 0.011.
    assert shares.tolist() == pytest.approx([2 / 3, 0, 2 / 3, 2 / 3], abs=0.011)


@pytest.mark.parametrize("selection", [RandomNegatives(3), LowestNegatives(3)])
def test_binary_problem_has_one_negative(selection):
    mask = selection(torch.tensor([[0.3, 0.7], [0.9, 0.1]]))
    assert mask.tolist() == [[True, False], [False, True]]


def test_random_negatives_with_generator():
    p = torch.tensor(PROBABILITIES)

    def draw(seed):
        return RandomNegatives()(p, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize(
    "selection", [RandomNegatives(), LowestNegatives(), AdaptiveNegatives()]
)
def test_empty_batch_gives_empty_mask(selection):
    assert selection(torch.zeros(0, 3)).shape == (0, 3)


def test_loss_of_each_selection():
    assert RandomNegatives().loss is negative_learning_loss
    assert LowestNegatives().loss is negative_learning_loss
    assert AdaptiveNegatives().loss is candidate_loss


def test_parameters_are_cloned():
    selection = clone(AdaptiveNegatives(tolerance=0.2))
    assert selection.get_params() == {"tolerance": 0.2}


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, -0.1])
def test_invalid_tolerance(tolerance):
    with pytest.raises(ValueError, match=r"tolerance=.* is not between 0 and 1"):
        AdaptiveNegatives(tolerance)(torch.tensor(PROBABILITIES))


@pytest.mark.parametrize(
    "selection", [RandomNegatives(0), LowestNegatives(-1), LowestNegatives(1.5)]
)
def test_invalid_n_negatives(selection):
    with pytest.raises(ValueError, match=r"n_negatives=.* is less than 1"):
        selection(torch.tensor(PROBABILITIES))


def test_loss_of_a_function_and_of_a_selection_of_ones_own():
    class Own:
        loss = staticmethod(candidate_loss)

        def __call__(self, probabilities):
            return probabilities < 0.1

    assert isinstance(Own(), Selection)
    assert isinstance(AdaptiveNegatives(), Selection)
    assert selection_loss(Own()) is candidate_loss
    assert selection_loss(lambda p: p < 0.1) is negative_learning_loss


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (lambda p: p, r"returns a Tensor of dtype torch\.float32 and shape \(64, 2\)"),
        (lambda p: (p < 0.1).any(dim=1), r"dtype torch\.bool and shape \(64,\)"),
        (lambda p: p.numpy() < 0.1, "returns an object of type ndarray"),
    ],
)
def test_selection_without_a_mask_names_the_protocol(selection, message):
    message += r".*A pnl_sklearn\.objectives\.Selection returns a bool Tensor"
    with pytest.raises(ValueError, match=message):
        PNLClassifier(selection=selection).fit([[0.0], [1.0], [2.0]], [0, 1, -1])


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("highest", "'selection' parameter of PNLClassifier"),
        (3, "'selection' parameter of PNLClassifier"),
        (AdaptiveNegatives, r"is a class\..*selection=AdaptiveNegatives\(\)"),
        (lambda p: p < 2, "excludes every class of a sample"),
    ],
)
def test_invalid_selection(selection, message):
    with pytest.raises(ValueError, match=message):
        PNLClassifier(selection=selection).fit([[0.0], [1.0], [2.0]], [0, 1, -1])


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_product_of_experts_against_a_formula(weight):
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(4), size=(2, 20))
    p[0] = [0, 0.5, 0.5, 0]
    expected = p * q**weight
    expected /= expected.sum(axis=1, keepdims=True)
    found = product_of_experts(torch.from_numpy(p), weight * torch.from_numpy(q).log())
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
