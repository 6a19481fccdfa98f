import numpy as np
import pytest
import torch
from sklearn.base import clone

from pnl_sklearn import AdaptiveNegatives, LowestNegatives, RandomNegatives
from pnl_sklearn.objectives import candidate_loss, negative_learning_loss
from pnl_sklearn.objectives._selection import product_of_experts

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet(np.full(6, 0.4), size=200)


def adaptive_by_hand(p, tolerance):
    """Smallest set of most probable classes whose mass reaches 1 - tolerance."""
    mask = np.ones_like(p, dtype=bool)
    for i, row in enumerate(p):
        mass = 0.0
        for k in np.argsort(-row):
            mask[i, k] = False
            mass += row[k]
            if mass >= 1 - tolerance:
                break
    return mask


@pytest.mark.parametrize("tolerance", [0.01, 0.05, 0.3, 0.9])
def test_adaptive_negatives_against_a_loop(tolerance):
    mask = AdaptiveNegatives(tolerance)(torch.tensor(PROBABILITIES))
    assert (mask.numpy() == adaptive_by_hand(PROBABILITIES, tolerance)).all()


def test_adaptive_negatives_of_the_sure_and_of_the_clueless():
    p = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    mask = AdaptiveNegatives(0.05)(p)
    assert mask.tolist() == [[False, True, True], [False, False, False]]


def test_adaptive_negatives_always_leave_a_candidate():
    mask = AdaptiveNegatives(0.999)(torch.tensor(PROBABILITIES))
    assert (~mask).sum(dim=1).min() == 1


@pytest.mark.parametrize("n_negatives", [1, 2, 5])
def test_lowest_negatives_against_argsort(n_negatives):
    mask = LowestNegatives(n_negatives)(torch.tensor(PROBABILITIES))
    expected = np.zeros_like(PROBABILITIES, dtype=bool)
    lowest = np.argsort(PROBABILITIES, axis=1)[:, :n_negatives]
    np.put_along_axis(expected, lowest, True, axis=1)
    assert (mask.numpy() == expected).all()


@pytest.mark.parametrize("n_negatives", [1, 2, 5])
def test_random_negatives_are_distinct_and_never_the_pseudo_label(n_negatives):
    mask = RandomNegatives(n_negatives)(torch.tensor(PROBABILITIES)).numpy()
    assert (mask.sum(axis=1) == n_negatives).all()
    assert not mask[np.arange(200), PROBABILITIES.argmax(axis=1)].any()


def test_random_negatives_are_uniform_over_the_other_classes():
    p = torch.tensor([[0.1, 0.6, 0.2, 0.1]]).expand(30_000, 4)
    mask = RandomNegatives(2)(p, generator=torch.Generator().manual_seed(0))
    shares = mask.float().mean(dim=0)
    # m / (C - 1) = 2/3; four standard errors of a share are 0.011.
    assert shares.tolist() == pytest.approx([2 / 3, 0, 2 / 3, 2 / 3], abs=0.011)


@pytest.mark.parametrize("selection", [RandomNegatives(3), LowestNegatives(3)])
def test_binary_problems_have_one_other_class(selection):
    mask = selection(torch.tensor([[0.3, 0.7], [0.9, 0.1]]))
    assert mask.tolist() == [[True, False], [False, True]]


def test_random_negatives_follow_their_generator():
    p = torch.tensor(PROBABILITIES)

    def draw(seed):
        return RandomNegatives()(p, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize(
    "selection", [RandomNegatives(), LowestNegatives(), AdaptiveNegatives()]
)
def test_an_empty_batch_gives_an_empty_mask(selection):
    assert selection(torch.zeros(0, 3)).shape == (0, 3)


def test_selections_name_their_losses():
    assert RandomNegatives().loss is negative_learning_loss
    assert LowestNegatives().loss is negative_learning_loss
    assert AdaptiveNegatives().loss is candidate_loss


def test_selections_have_parameters_like_estimators():
    selection = clone(AdaptiveNegatives(tolerance=0.2))
    assert selection.get_params() == {"tolerance": 0.2}


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, -0.1])
def test_a_tolerance_outside_0_and_1_is_refused(tolerance):
    with pytest.raises(ValueError, match=r"tolerance=.* is not between 0 and 1"):
        AdaptiveNegatives(tolerance)(torch.tensor(PROBABILITIES))


@pytest.mark.parametrize("selection", [RandomNegatives(0), LowestNegatives(-1)])
def test_less_than_one_negative_is_refused(selection):
    with pytest.raises(ValueError, match=r"n_negatives=.* is less than 1"):
        selection(torch.tensor(PROBABILITIES))


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_product_of_experts_against_a_formula(weight):
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(4), size=(2, 20))
    p[0] = [0, 0.5, 0.5, 0]
    expected = p * q**weight
    expected /= expected.sum(axis=1, keepdims=True)
    found = product_of_experts(torch.from_numpy(p), weight * torch.from_numpy(q).log())
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
