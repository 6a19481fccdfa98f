import re

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from torch import nn

from pnl_sklearn import DualStudent, MeanTeacher, PNLClassifier, supervised_baseline
from pnl_sklearn.objectives import Consistency, ConsistencyTargets

N_SAMPLES, N_CLASSES = 400, 3


def probabilities(seed, sharpness=6):
    logits = sharpness * np.random.default_rng(seed).normal(size=(N_SAMPLES, N_CLASSES))
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def follows_by_hand(own, other, threshold):
    """The rules of Ke et al. 2019, section 3.2, sample by sample."""
    follows = []
    for i in range(N_SAMPLES):
        stable, distance = [], []
        for first, second in (own, other):
            same_class = first[i].argmax() == second[i].argmax()
            is_confident = first[i].max() > threshold or second[i].max() > threshold
            stable.append(same_class and is_confident)
            distance.append(((first[i] - second[i]) ** 2).sum())
        if stable[0] and stable[1]:
            follows.append(distance[0] > distance[1])
        else:
            follows.append(stable[1] and not stable[0])
    return np.array(follows)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.99])
def test_dual_student_follows_equals_rules_of_the_paper(threshold):
    # Views of one submodel resemble each other, so that all four cases occur.
    own = probabilities(0), 0.7 * probabilities(0) + 0.3 * probabilities(1)
    other = probabilities(2), 0.7 * probabilities(2) + 0.3 * probabilities(3)
    expected = follows_by_hand(own, other, threshold)
    assert 0.1 < expected.mean() < 0.9
    tensors = [tuple(map(torch.from_numpy, pair)) for pair in (own, other)]
    found = DualStudent(threshold=threshold).follows(*tensors)
    np.testing.assert_array_equal(found.numpy(), expected)
    # On no sample does each follow the other.
    assert not (found & DualStudent(threshold=threshold).follows(*tensors[::-1])).any()


@pytest.fixture(scope="module")
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


def one_step(consistency, whole=False, **params):
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
        "consistency": consistency,
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


def test_mean_teacher_step_by_hand():
    # The EMA starts as the network: its target is the prediction on the weak view.
    w = np.array([0.3, -0.2])
    target = softmax(w * X[2, 0])
    gradient = supervised_gradient(w)
    gradient += consistency_gradient(w, 2 * X[2, 0], target, weight=10)
    found = one_step(MeanTeacher(consistency_weight=10, rampup=0))
    np.testing.assert_allclose(found, w - 0.1 * gradient, rtol=1e-5)


def test_dual_student_step_by_hand():
    # Both submodels are equal copies: equally stable, so that none follows the other,
    # and each is consistent with itself and learns negatives.
    w = np.array([0.3, -0.2])
    target = softmax(w * X[2, 0])
    gradient = supervised_gradient(w)
    gradient += consistency_gradient(w, 2 * X[2, 0], target, weight=4)
    consistency = DualStudent(consistency_weight=4, threshold=0.6, rampup=0)
    found = one_step(consistency)
    np.testing.assert_allclose(found, w - 0.1 * gradient, rtol=1e-5)
    with_negatives = one_step(consistency, selection="lowest", negative_weight=1)
    assert not np.allclose(with_negatives, found)


class TwoHeads(nn.Module):
    """Logits w x of a single feature x, and in training those of a second head, v x."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor([0.3, -0.2]))
        self.second = nn.Parameter(torch.tensor([-0.1, 0.4]))

    def forward(self, x):
        return (x * self.first, x * self.second) if self.training else x * self.first


def test_two_heads_step_by_hand():
    # The first head learns the labels, the second the consistency targets. The loss has
    # 0.01 times the mean squared difference of their logits on the three samples.
    consistency = MeanTeacher(consistency_weight=10, rampup=0)
    w, v = np.array([0.3, -0.2]), np.array([-0.1, 0.4])
    x = np.array([1.0, -2.0, 2 * 3.0])
    tie = 0.01 * 2 * (w - v) * (x**2).mean() / 2
    target = softmax(w * X[2, 0])
    taught = consistency_gradient(v, 2 * X[2, 0], target, weight=10)
    network = one_step(consistency, module=TwoHeads(), whole=True)
    first, second = (p.detach().numpy() for p in network.parameters())
    expected = w - 0.1 * (supervised_gradient(w) + tie)
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    np.testing.assert_allclose(second, v - 0.1 * (taught - tie), rtol=1e-5)


class Fixed:
    """A submodel with given predictions on each view."""

    def __init__(self, weak, strong):
        self.predictions = {"weak": weak, "strong": strong}

    def probabilities(self, x):
        return self.predictions[x]


def test_dual_student_targets():
    own = probabilities(0), 0.7 * probabilities(0) + 0.3 * probabilities(1)
    other = probabilities(2), 0.7 * probabilities(2) + 0.3 * probabilities(3)
    follows = follows_by_hand(own, other, 0.8)
    own, other = ([torch.from_numpy(p) for p in pair] for pair in (own, other))
    consistency = DualStudent(consistency_weight=3, stabilization_weight=50)
    student, teacher = Fixed(*own), Fixed(*other)
    targets = consistency.targets(student, teacher, "weak", "strong", other[0])
    assert torch.equal(targets.probabilities[0], own[0])
    assert torch.equal(targets.probabilities[1], other[0])
    assert (targets.weights[0] == 3).all()
    np.testing.assert_array_equal(targets.weights[1].numpy(), 50 * follows)
    np.testing.assert_array_equal(targets.use_negatives.numpy(), ~follows)


class NoNegatives:
    """Targets of weight 0, and no sample whose negatives are used."""

    rampup = 0.0
    needs_ema = False

    def targets(self, student, teacher, weak, strong, teacher_weak):
        return ConsistencyTargets(
            teacher_weak[None],
            torch.zeros(1, len(weak)),
            torch.zeros(len(weak), dtype=torch.bool),
        )


def test_custom_consistency_decides_on_use_of_negatives():
    assert isinstance(NoNegatives(), Consistency)
    np.testing.assert_array_equal(
        one_step(NoNegatives(), negative_weight=5), one_step(None, negative_weight=0)
    )


def test_consistency_rampup():
    # At step 0 of a ramp-up the weight is exp(-5) of what it is without one.
    w = np.array([0.3, -0.2])
    target = softmax(w * X[2, 0])
    gradient = supervised_gradient(w)
    gradient += consistency_gradient(w, 2 * X[2, 0], target, 100 * np.exp(-5))
    found = one_step(MeanTeacher(consistency_weight=100, rampup=1.0))
    np.testing.assert_allclose(found, w - 0.1 * gradient, rtol=1e-5)


@pytest.mark.parametrize("consistency", ["mean_teacher", "dual_student"])
@pytest.mark.parametrize("exchange", ["simultaneous", "alternating"])
def test_fit_is_accurate_and_repeatable(consistency, exchange, blobs):
    X, y, y_few = blobs
    fits = [
        PNLClassifier(
            consistency=consistency,
            exchange=exchange,
            graph=None,
            max_epochs=2,
            steps_per_epoch=20,
            random_state=0,
        ).fit(X, y_few)
        for _ in range(2)
    ]
    assert fits[0].score(X, y) > 0.9
    assert all(row["consistency_loss"] > 0 for row in fits[0].history_)
    np.testing.assert_array_equal(*(fit.predict_proba(X) for fit in fits))


def test_consistency_none_has_loss_zero(blobs):
    X, _, y_few = blobs
    classifier = PNLClassifier(max_epochs=1, steps_per_epoch=2, random_state=0)
    assert classifier.fit(X, y_few).history_[0]["consistency_loss"] == 0


def test_supervised_baseline_has_no_consistency():
    baseline = supervised_baseline(PNLClassifier(consistency="mean_teacher"))
    assert baseline.consistency is None


@pytest.mark.parametrize("consistency", ["mean_teacher", "dual_student"])
def test_fit_without_unlabeled_samples(consistency, blobs):
    X, y, _ = blobs
    classifier = PNLClassifier(
        consistency=consistency, max_epochs=1, steps_per_epoch=20, random_state=0
    )
    assert classifier.fit(X, y).score(X, y) > 0.9


def test_set_params_of_consistency_given_by_name():
    classifier = PNLClassifier(consistency="dual_student")
    classifier.set_params(consistency__threshold=0.9, selection__tolerance=0.1)
    assert classifier.consistency.threshold == 0.9
    assert classifier.selection.tolerance == 0.1
    assert classifier.get_params()["consistency__threshold"] == 0.9
    with pytest.raises(ValueError, match="Invalid parameter"):
        PNLClassifier(consistency="mean_teacher").set_params(consistency__threshold=0.9)


def test_mean_teacher_without_ema(blobs):
    X, _, y_few = blobs
    with pytest.raises(ValueError, match="were built with ema_decay=None"):
        PNLClassifier(consistency="mean_teacher", ema_decay=None).fit(X, y_few)


def test_mean_teacher_with_warm_start_of_submodels_without_ema(blobs):
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
        ("teacher", "'consistency' parameter of PNLClassifier"),
        (MeanTeacher, "is a class. Pass an instance of it: consistency=MeanTeacher()"),
        (MeanTeacher(rampup=-3), "'rampup' parameter of MeanTeacher"),
        (DualStudent(threshold=2), "'threshold' parameter of DualStudent"),
    ],
)
def test_invalid_consistency(consistency, match, blobs):
    X, _, y_few = blobs
    with pytest.raises(ValueError, match=re.escape(match)):
        PNLClassifier(consistency=consistency).fit(X, y_few)


@pytest.mark.parametrize("missing", ["rampup", "needs_ema"])
def test_consistency_without_an_attribute_names_the_protocol(missing, blobs):
    names = {"rampup", "needs_ema", "targets"} - {missing}
    incomplete = type("Incomplete", (), {n: vars(NoNegatives)[n] for n in names})()
    X, _, y_few = blobs
    message = r"Incomplete.* is no pnl_sklearn\.objectives\.Consistency: it needs"
    with pytest.raises(TypeError, match=message):
        PNLClassifier(consistency=incomplete).fit(X, y_few)


def test_consistency_without_targets_is_refused(blobs):
    X, _, y_few = blobs
    with pytest.raises(ValueError, match="'consistency' parameter of PNLClassifier"):
        PNLClassifier(consistency=object()).fit(X, y_few)
