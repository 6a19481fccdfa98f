"""Companions against rules written out row by row."""

import re

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from torch import nn

from pnl_sklearn import DualStudent, MeanTeacher, PNLClassifier, supervised_baseline
from pnl_sklearn.objectives import ConsistencyTargets, consistency_loss

N_ROWS, N_CLASSES = 400, 3


def probabilities(seed, sharpness=6):
    logits = sharpness * np.random.default_rng(seed).normal(size=(N_ROWS, N_CLASSES))
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def follows_row_by_row(own, other, threshold):
    """The rules of Ke et al. 2019, section 3.2, one row and one sentence at a time."""
    follows = []
    for i in range(N_ROWS):
        stable, distance = [], []
        for first, second in (own, other):
            same_class = first[i].argmax() == second[i].argmax()
            is_sure = first[i].max() > threshold or second[i].max() > threshold
            stable.append(same_class and is_sure)
            distance.append(((first[i] - second[i]) ** 2).sum())
        if stable[0] and stable[1]:
            follows.append(distance[0] > distance[1])
        else:
            follows.append(stable[1] and not stable[0])
    return np.array(follows)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.99])
def test_dual_student_follows_by_the_rules_of_the_paper(threshold):
    # Views of one submodel resemble each other, so that all four cases occur.
    own = probabilities(0), 0.7 * probabilities(0) + 0.3 * probabilities(1)
    other = probabilities(2), 0.7 * probabilities(2) + 0.3 * probabilities(3)
    expected = follows_row_by_row(own, other, threshold)
    assert 0.1 < expected.mean() < 0.9
    tensors = [tuple(map(torch.from_numpy, pair)) for pair in (own, other)]
    found = DualStudent(threshold=threshold).follows(*tensors)
    np.testing.assert_array_equal(found.numpy(), expected)
    # No row on which each follows the other.
    assert not (found & DualStudent(threshold=threshold).follows(*tensors[::-1])).any()


def test_consistency_loss_is_the_weighted_mean_squared_difference():
    logits = np.log(probabilities(0, sharpness=1))
    targets = np.stack([probabilities(1), probabilities(2)])
    weights = np.random.default_rng(0).random((2, N_ROWS))
    p = probabilities(0, sharpness=1)
    expected = sum(
        weights[t, i] * np.mean((p[i] - targets[t, i]) ** 2)
        for t in range(2)
        for i in range(N_ROWS)
    )
    loss = consistency_loss(*map(torch.from_numpy, (logits, targets, weights)))
    assert loss.item() == pytest.approx(expected / N_ROWS, rel=1e-5)
    assert consistency_loss(
        torch.zeros(0, 3), torch.zeros(1, 0, 3), torch.zeros(1, 0)
    ).item() == pytest.approx(0)


@pytest.fixture
def blobs():
    """Three well separated classes, four labels each, as (X, y, y_few)."""
    X, y = make_blobs(150, n_features=4, centers=3, random_state=0)
    y_few = np.full_like(y, -1)
    for k in range(3):
        y_few[np.flatnonzero(y == k)[:4]] = k
    return X, y, y_few


class Linear(nn.Module):
    """Logits (a x, b x) of a single feature x."""

    def __init__(self, start=(0.3, -0.2)):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start))

    def forward(self, x):
        return x * self.weight


X = np.array([[1.0], [-2.0], [3.0]], dtype=np.float32)
Y = np.array([0, 1, -1])


def one_step(companion, whole=False, **params):
    """Return the weights of the first submodel after a step, or its whole network."""
    defaults = {
        "module": Linear(),
        "standardize": False,
        "weak_view": None,
        "strong_view": lambda x: 2 * x,
        "optimizer": torch.optim.SGD,
        "lr": 0.1,
        "max_epochs": 1,
        "steps_per_epoch": 1,
        "batch_size": 1,
        "labeled_batch_size": 2,
        "rampup": 0,
        "negative_weight": 0,
        "class_prior": None,
        "consistency": companion,
        "random_state": 0,
    }
    classifier = PNLClassifier(**(defaults | params)).fit(X, Y)
    network = classifier.submodels_[0].module_.network
    return network if whole else network.weight.detach().numpy()


def softmax(z):
    exp = np.exp(z)
    return exp / exp.sum()


def supervised_gradient(w):
    gradient = np.zeros(2)
    for x, label in zip(X[:2, 0], Y[:2], strict=True):
        gradient += (softmax(w * x) - np.eye(2)[label]) * x / 2
    return gradient


def consistency_gradient(w, x, target, weight):
    """Of weight * mean over classes of (softmax(w x) - target)^2, by hand."""
    p = softmax(w * x)
    slope = 2 * weight * (p - target) / 2
    return p * (slope - slope @ p) * x


def test_one_step_with_mean_teacher_by_hand():
    # The average starts as the network: its target is the prediction on the weak view.
    w = np.array([0.3, -0.2])
    target = softmax(w * X[2, 0])
    gradient = supervised_gradient(w)
    gradient += consistency_gradient(w, 2 * X[2, 0], target, weight=10)
    found = one_step(MeanTeacher(consistency_weight=10, rampup=0))
    np.testing.assert_allclose(found, w - 0.1 * gradient, rtol=1e-5)


def test_one_step_with_dual_student_by_hand():
    # Both submodels are equal copies: equally stable, so that none follows the other,
    # and each is consistent with itself and learns negatives.
    w = np.array([0.3, -0.2])
    target = softmax(w * X[2, 0])
    gradient = supervised_gradient(w)
    gradient += consistency_gradient(w, 2 * X[2, 0], target, weight=4)
    companion = DualStudent(consistency_weight=4, threshold=0.6, rampup=0)
    np.testing.assert_allclose(one_step(companion), w - 0.1 * gradient, rtol=1e-5)
    lesson = {"selection": "lowest", "negative_weight": 1}
    assert not np.allclose(one_step(companion, **lesson), one_step(companion))


class TwoHeads(nn.Module):
    """Logits w x of a single feature x, and in training those of a second head, v x."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor([0.3, -0.2]))
        self.second = nn.Parameter(torch.tensor([-0.1, 0.4]))

    def forward(self, x):
        return (x * self.first, x * self.second) if self.training else x * self.first


def test_one_step_with_a_second_head_by_hand():
    # The labels teach the first head, the companion the second; 0.01 times the mean
    # squared difference of their logits, over the three rows, draws both together.
    companion = MeanTeacher(consistency_weight=10, rampup=0)
    w, v = np.array([0.3, -0.2]), np.array([-0.1, 0.4])
    x = np.array([1.0, -2.0, 2 * 3.0])
    tie = 0.01 * 2 * (w - v) * (x**2).mean() / 2
    target = softmax(w * X[2, 0])
    taught = consistency_gradient(v, 2 * X[2, 0], target, weight=10)
    network = one_step(companion, module=TwoHeads(), whole=True)
    first, second = (p.detach().numpy() for p in network.parameters())
    expected = w - 0.1 * (supervised_gradient(w) + tie)
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    np.testing.assert_allclose(second, v - 0.1 * (taught - tie), rtol=1e-5)


class Fixed:
    """A submodel that predicts what it was given for each input."""

    def __init__(self, weak, strong):
        self.predictions = {"weak": weak, "strong": strong}

    def probabilities(self, x):
        return self.predictions[x]


def test_guidance_of_dual_student():
    own = probabilities(0), 0.7 * probabilities(0) + 0.3 * probabilities(1)
    other = probabilities(2), 0.7 * probabilities(2) + 0.3 * probabilities(3)
    follows = follows_row_by_row(own, other, 0.8)
    own, other = ([torch.from_numpy(p) for p in pair] for pair in (own, other))
    companion = DualStudent(consistency_weight=3, stabilization_weight=50)
    guidance = companion.guide(Fixed(*own), Fixed(*other), "weak", "strong", other[0])
    assert torch.equal(guidance.targets[0], own[0])
    assert torch.equal(guidance.targets[1], other[0])
    assert (guidance.weights[0] == 3).all()
    np.testing.assert_array_equal(guidance.weights[1].numpy(), 50 * follows)
    np.testing.assert_array_equal(guidance.learns.numpy(), ~follows)


class Silent:
    """Guides nowhere, and lets no row learn negatives."""

    rampup = 0.0

    def guide(self, student, partner, weak, strong, partner_weak):
        return ConsistencyTargets(
            partner_weak[None],
            torch.zeros(1, len(weak)),
            torch.zeros(len(weak), dtype=torch.bool),
        )


def test_a_companion_of_ones_own_decides_which_rows_learn_negatives():
    np.testing.assert_array_equal(
        one_step(Silent(), negative_weight=5), one_step(None, negative_weight=0)
    )


def test_the_companions_weight_ramps_up_apart():
    # At step 0 of a ramp the weight is exp(-5) of what it is without one.
    w = np.array([0.3, -0.2])
    target = softmax(w * X[2, 0])
    gradient = supervised_gradient(w)
    gradient += consistency_gradient(w, 2 * X[2, 0], target, 100 * np.exp(-5))
    found = one_step(MeanTeacher(consistency_weight=100, rampup=1.0))
    np.testing.assert_allclose(found, w - 0.1 * gradient, rtol=1e-5)


@pytest.mark.parametrize("consistency", ["mean_teacher", "dual_student"])
@pytest.mark.parametrize("exchange", ["simultaneous", "alternating"])
def test_companions_in_a_fit(companion, exchange, blobs):
    X, y, y_few = blobs
    fits = [
        PNLClassifier(
            consistency=companion,
            exchange=exchange,
            max_epochs=3,
            steps_per_epoch=50,
            random_state=0,
        ).fit(X, y_few)
        for _ in range(2)
    ]
    assert fits[0].score(X, y) > 0.9
    assert all(row["consistency_loss"] > 0 for row in fits[0].history_)
    np.testing.assert_array_equal(*(fit.predict_proba(X) for fit in fits))


def test_without_a_companion_there_is_no_consistency_loss(blobs):
    X, _, y_few = blobs
    classifier = PNLClassifier(max_epochs=1, random_state=0).fit(X, y_few)
    assert classifier.history_[0]["consistency_loss"] == 0
    twin = supervised_baseline(PNLClassifier(consistency="mean_teacher"))
    assert twin.companion is None


def test_a_companion_on_labeled_rows_only(blobs):
    X, y, _ = blobs
    for companion in ("mean_teacher", "dual_student"):
        classifier = PNLClassifier(consistency=companion, max_epochs=1, random_state=0)
        assert classifier.fit(X, y).score(X, y) > 0.9


def test_knobs_of_a_companion_are_set_by_name():
    classifier = PNLClassifier(consistency="dual_student")
    classifier.set_params(companion__threshold=0.9, selection__tolerance=0.1)
    assert classifier.companion.threshold == 0.9
    assert classifier.get_params()["companion__threshold"] == 0.9
    with pytest.raises(ValueError, match="Invalid parameter"):
        PNLClassifier(consistency="mean_teacher").set_params(companion__threshold=0.9)


def test_mean_teacher_needs_an_average(blobs):
    X, _, y_few = blobs
    with pytest.raises(ValueError, match="were built with ema_decay=None"):
        PNLClassifier(consistency="mean_teacher", ema_decay=None).fit(X, y_few)


def test_going_on_with_mean_teacher_needs_an_average_too(blobs):
    X, _, y_few = blobs
    classifier = PNLClassifier(
        ema_decay=None, warm_start=True, max_epochs=1, steps_per_epoch=2
    ).fit(X, y_few)
    classifier.set_params(ema_decay=0.9, consistency="mean_teacher")
    with pytest.raises(ValueError, match="were built with ema_decay=None"):
        classifier.fit(X, y_few)


@pytest.mark.parametrize(
    ("consistency", "match"),
    [
        ("teacher", "'companion' parameter of PNLClassifier"),
        (MeanTeacher, "is a class. Give an object of it: consistency=MeanTeacher()"),
        (MeanTeacher(rampup=-3), "'rampup' parameter of MeanTeacher"),
        (DualStudent(threshold=2), "'threshold' parameter of DualStudent"),
    ],
)
def test_what_is_no_companion_is_refused(companion, match, blobs):
    X, _, y_few = blobs
    with pytest.raises(ValueError, match=re.escape(match)):
        PNLClassifier(consistency=companion).fit(X, y_few)
