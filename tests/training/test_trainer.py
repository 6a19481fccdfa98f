"""The training loop against steps taken by hand."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from torch import nn

from pnl_sklearn import AdaptiveNegatives, LowestNegatives, PNLClassifier
from pnl_sklearn.objectives import ConsistencyTargets
from pnl_sklearn.objectives._class_prior import ClassPrior
from pnl_sklearn.objectives._selection import mask_and_renormalize
from pnl_sklearn.training._metrics import RunningMean

LR, LAMBDA, BETA = 0.1, 2.0, 0.5
X = np.array([[1.0], [-2.0], [3.0]], dtype=np.float32)
Y = np.array([0, 1, -1])


class TwoParameters(nn.Module):
    """Logits (a x, b x) of a single feature x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, x):
        return x * self.weight


def fit(negative_labels=None, **params):
    defaults = {
        "module": TwoParameters(),
        "standardize": False,
        "weak_view": None,
        "strong_view": None,
        "optimizer": torch.optim.SGD,
        "lr": LR,
        "max_epochs": 1,
        "steps_per_epoch": 1,
        "batch_size": 1,
        "labeled_batch_size": 2,
        "rampup": 0,
        "negative_weight": LAMBDA,
        "balance_weight": BETA,
        "class_prior": "uniform",
        "ema_decay": None,
        "random_state": 0,
    }
    classifier = PNLClassifier(**(defaults | params))
    return classifier.fit(X, Y, negative_labels=negative_labels)


def weights(classifier):
    return [
        submodel.module_.network.weight.detach().numpy()
        for submodel in classifier.submodels_
    ]


def softmax(z):
    exp = np.exp(z)
    return exp / exp.sum(axis=-1, keepdims=True)


def mean(p):
    """Running mean prediction after the first step; it starts at the uniform prior."""
    return 0.97 * 0.5 + 0.03 * p


def gradient(w, mask, kind):
    """d loss / d w of one lesson, from dL/dz = p - target for each cross-entropy."""
    labeled = softmax(X[:2] * w) - np.eye(2)[Y[:2]]
    supervised = (labeled * X[:2]).mean(axis=0)
    p = softmax(X[2] * w)
    if kind == "candidates":  # -log of the candidates' mass
        target = np.where(mask, 0, p)
        negative = (p - target / target.sum()) * X[2]
    else:  # mean of -log(1 - p_k) over negatives k; d p_k / d z = p_k (e_k - p)
        rows = [p[k] / (1 - p[k]) * (np.eye(2)[k] - p) for k in np.flatnonzero(mask)]
        negative = np.mean(rows, axis=0) * X[2]
    # KL(uniform || m), whose derivative by m reaches p unscaled; dp_k / dz as above.
    terms = [
        -0.5 / m * q * (e - p) for m, q, e in zip(mean(p), p, np.eye(2), strict=True)
    ]
    balance = np.sum(terms, axis=0) * X[2]
    return supervised + LAMBDA * negative + BETA * balance


@pytest.mark.parametrize(
    ("selection", "kind", "mask"),
    [
        # The partner says p = (0.82, 0.18) of x = 3.
        (AdaptiveNegatives(0.2), "candidates", [False, True]),
        (AdaptiveNegatives(0.05), "candidates", [False, False]),
        (LowestNegatives(1), "negatives", [False, True]),
        (lambda p: p > 0.5, "negatives", [True, False]),
    ],
)
def test_one_student_step_by_hand(selection, kind, mask):
    start = np.array([0.3, -0.2])
    expected = start - LR * gradient(start, np.array(mask), kind)
    for weight in weights(fit(selection=selection)):
        np.testing.assert_allclose(weight, expected, rtol=1e-5)


def test_alternating_teaches_one_submodel_a_step():
    start = np.array([0.3, -0.2])
    mask = np.array([False, True])
    expected = start - LR * gradient(start, mask, "candidates")
    first, second = weights(
        fit(exchange="alternating", selection=AdaptiveNegatives(0.2))
    )
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    np.testing.assert_allclose(second, start, rtol=1e-6)


def test_the_student_learns_from_the_partner_not_from_itself():
    """In the second alternating step the partner is the first submodel, updated."""
    start, mask = np.array([0.3, -0.2]), np.array([False, True])
    seen = []

    def selection(probabilities):
        seen.append(probabilities.numpy().ravel())
        return torch.tensor(mask).expand(len(probabilities), 2)

    first, _ = weights(
        fit(exchange="alternating", selection=selection, steps_per_epoch=2)
    )
    _, *seen = seen  # it is tried before
    np.testing.assert_allclose(seen[0], softmax(X[2] * start), rtol=1e-5)
    np.testing.assert_allclose(seen[1], softmax(X[2] * first), rtol=1e-5)


def test_history_is_that_of_the_step():
    row = fit(selection=AdaptiveNegatives(0.2)).history_[0]
    start = np.array([0.3, -0.2])
    p = softmax(X[:2] * start)
    q = softmax(X[2] * start)
    supervised = -np.log(p[[0, 1], Y[:2]]).mean()
    negative, balance = -np.log(q[0]), -np.log(2) - 0.5 * np.log(mean(q)).sum()
    assert row["supervised_loss"] == pytest.approx(supervised, rel=1e-5)
    assert row["negative_loss"] == pytest.approx(negative, rel=1e-5)
    assert row["balance_loss"] == pytest.approx(balance, abs=1e-6)
    total = supervised + LAMBDA * negative + BETA * balance
    assert row["train_loss"] == pytest.approx(total, rel=1e-5)
    assert row["teacher_student_agreement"] == 1
    assert row["negative_coverage"] == 1
    assert row["negative_weight"] == LAMBDA
    assert row["class_distribution"] == pytest.approx(q, rel=1e-5)


def test_the_rampup_and_the_cosine_reach_the_step():
    lr = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            lr.append(self.param_groups[0]["lr"])
            return super().step(closure)

    classifier = fit(rampup=0.5, max_epochs=4, optimizer=Spy)
    ramp = [LAMBDA * np.exp(-5 * (1 - t / 2) ** 2) for t in (0, 1)] + [LAMBDA] * 2
    assert [row["negative_weight"] for row in classifier.history_] == pytest.approx(
        ramp
    )
    cosine = [LR * 0.5 * (1 + np.cos(np.pi * t / 4)) for t in range(4)]
    assert lr[::2] == pytest.approx(cosine)


def test_the_average_is_exponential_with_a_warm_start():
    """average <- d average + (1 - d) weights, d = min(0.3, (1 + t) / (10 + t))."""
    path = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            loss = super().step(closure)
            path.append(self.param_groups[0]["params"][0].detach().numpy().copy())
            return loss

    classifier = fit(ema_decay=0.3, steps_per_epoch=5, optimizer=Spy)
    average = np.array([0.3, -0.2])
    for t, weight in enumerate(path[::2], start=1):
        decay = min(0.3, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * weight
    submodel = classifier.submodels_[0]
    np.testing.assert_allclose(
        submodel.ema_module_.network.weight.numpy(), average, rtol=1e-5
    )
    expected = softmax(X * average)
    np.testing.assert_allclose(submodel.predict_proba(X), expected, rtol=1e-4)


def test_the_average_takes_buffers_along():
    module = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    classifier = fit(module=module, ema_decay=0.5, steps_per_epoch=30, batch_size=2)
    for submodel in classifier.submodels_:
        current, average = (
            submodel.module_.network[1],
            submodel.ema_module_.network[1],
        )
        assert not torch.equal(average.running_mean, torch.zeros(4))
        assert not torch.equal(average.running_mean, current.running_mean)
        assert average.num_batches_tracked == current.num_batches_tracked


def test_predictions_are_the_mean_of_both_submodels():
    classifier = fit(exchange="alternating", steps_per_epoch=3)
    expected = np.mean([softmax(X * weight) for weight in weights(classifier)], axis=0)
    np.testing.assert_allclose(classifier.predict_proba(X), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("selection", "kind", "mask"),
    [
        # Without class 0 the partner is sure of class 1, whatever it says of x = 3.
        (AdaptiveNegatives(0.05), "candidates", [True, False]),
        (LowestNegatives(1), "negatives", [True, False]),
    ],
)
def test_one_step_with_a_human_negative_label_by_hand(selection, kind, mask):
    start = np.array([0.3, -0.2])
    mask = np.array(mask)
    # The label counts once at full weight, as supervision: -log p_1, with d/dz = p - e.
    human = (softmax(X[2] * start) - np.eye(2)[1]) * X[2]
    expected = start - LR * (gradient(start, mask, kind) + human)
    classifier = fit(selection=selection, negative_labels=[[], None, [0]])
    for weight in weights(classifier):
        np.testing.assert_allclose(weight, expected, rtol=1e-5)
    assert classifier.transduction_[2] == 1


def test_excluded_classes_are_taken_out_of_predictions():
    p = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]])
    mask = torch.tensor([[True, False, False], [True, False, False], [False] * 3])
    expected = torch.tensor([[0, 0.6, 0.4], [0, 0.5, 0.5], [0.2, 0.2, 0.6]])
    torch.testing.assert_close(mask_and_renormalize(p, mask), expected)


class Witness:
    """A companion that teaches nothing and notes who teaches whom."""

    rampup = 0.0

    def __init__(self):
        self.pairs = []

    def guide(self, student, partner, weak, strong, probabilities):
        self.pairs.append((student, partner))
        np.testing.assert_array_equal(
            probabilities, partner.module_(weak).detach().softmax(dim=1)
        )
        learns = torch.ones(len(weak), dtype=torch.bool)
        return ConsistencyTargets(
            probabilities[None], torch.zeros(1, len(weak)), learns
        )


@pytest.mark.parametrize(
    ("exchange", "taught_by"),
    [("simultaneous", [1, 0, 1, 0]), ("alternating", [1, 0]), (None, [0, 1, 0, 1])],
)
def test_who_teaches_whom(exchange, taught_by):
    witness = Witness()
    nets = fit(exchange=exchange, consistency=witness, steps_per_epoch=2).submodels_
    students = [nets.index(student) for student, _ in witness.pairs]
    assert students == [0, 1] * (len(taught_by) // 2)
    assert [nets.index(partner) for _, partner in witness.pairs] == taught_by


def observed(shares, n=2000):
    prior = ClassPrior(torch.full((len(shares),), 1 / len(shares)), follows=True)
    for _ in range(n):
        prior.observe(torch.tensor([shares, shares]))
    return prior


@pytest.mark.parametrize(
    "shares", [[0.25] * 4, [0.3, 0.2, 0.25, 0.25], [0.6, 0.3, 0.09, 0.01]]
)
def test_the_automatic_prior_follows_as_far_as_classes_are_unbalanced(shares):
    m = np.array(shares)
    deficit = 1 + (m * np.log(m)).sum() / np.log(4)
    exponent = deficit**4 / (deficit**4 + 0.01**4)
    expected = m**exponent / (m**exponent).sum()
    prior = observed(shares)
    assert prior.prior.tolist() == pytest.approx(expected, rel=1e-3)
    strength = (1 - exponent) * (3 / 9) ** 2
    assert prior.strength.item() == pytest.approx(strength, abs=1e-4)


def test_the_automatic_prior_is_near_uniform_or_near_the_predictions():
    balanced = observed([0.28, 0.22, 0.25, 0.25]).prior
    assert balanced.tolist() == pytest.approx([0.25] * 4, abs=0.01)
    unbalanced = [0.6, 0.3, 0.09, 0.01]
    assert observed(unbalanced).prior.tolist() == pytest.approx(unbalanced, abs=0.01)


@pytest.mark.parametrize(("n_classes", "strength"), [(2, 1 / 81), (10, 1), (100, 1)])
def test_the_pull_to_equal_shares_is_weaker_for_few_classes(n_classes, strength):
    prior = observed([1 / n_classes] * n_classes, n=10)
    assert prior.strength.item() == pytest.approx(strength)


def test_the_pull_of_an_automatic_prior_lessens_late():
    """To a quarter, at each step the same for both; that to a given one does not."""

    class Weights(Callback):
        def on_batch_begin(self, net, batch=None, training=None):
            weights.append(float(batch.balance_weight))

    X = np.random.default_rng(0).normal(size=(200, 4))
    y = np.where(np.arange(200) < 100, np.arange(200) % 10, -1)
    params = {"rampup": 0, "max_epochs": 1, "steps_per_epoch": 20, "random_state": 0}
    for prior in ("auto", "uniform"):
        weights = []
        PNLClassifier(class_prior=prior, callbacks=[Weights()], **params).fit(X, y)
        shares = np.interp(np.arange(20) / 20, [0.3, 0.6], [1, 0.25])
        expected = 4 * (shares if prior == "auto" else np.ones(20))
        np.testing.assert_allclose(weights, np.repeat(expected, 2), rtol=0.02)


def test_a_settled_prior_keeps_its_exponent():
    prior = observed([0.25] * 4)
    prior.settled = True
    for _ in range(2000):
        prior.observe(torch.tensor([[0.7, 0.1, 0.1, 0.1]]))
    assert prior.prior.tolist() == pytest.approx([0.25] * 4, abs=1e-4)


def test_a_given_prior_stays():
    prior = ClassPrior(torch.tensor([0.6, 0.4]), follows=False)
    prior.observe(torch.tensor([[0.9, 0.1]]))
    assert prior.prior.tolist() == pytest.approx([0.6, 0.4])
    assert prior.strength.item() == 1


def test_no_unlabeled_rows_tell_the_prior_nothing():
    prior = ClassPrior(torch.tensor([0.5, 0.5]), follows=True)
    prior.observe(torch.zeros(0, 2))
    assert prior.prior.tolist() == [0.5, 0.5]


@pytest.fixture(scope="module")
def digits():
    images, y = load_digits(return_X_y=True)
    return images[:300].reshape(-1, 8, 8), np.where(np.arange(300) < 60, y[:300], -1)


@pytest.mark.parametrize("module", ["cnn", "mlp"])
def test_bfloat16_computes_the_same_up_to_its_rounding(digits, module):
    """Losses step by step, of the same weights at first, batches and views."""
    images, y = digits
    X = images if module == "cnn" else images.reshape(300, -1)
    fits = [
        PNLClassifier(
            module,
            net_params={"module__dropout": 0.0},
            max_epochs=5,
            steps_per_epoch=1,
            rampup=0,
            lr=0.0005,
            precision=precision,
            random_state=0,
        ).fit(X, y)
        for precision in ("float32", "bfloat16")
    ]
    for exact, rough in zip(*(fitted.history_ for fitted in fits), strict=True):
        for name in ("train_loss", "supervised_loss", "negative_loss", "balance_loss"):
            # Eight bits of mantissa: 2^-8 a rounding, of which several add up.
            assert rough[name] == pytest.approx(exact[name], rel=0.03, abs=2e-3)
        assert rough["supervised_loss"] != exact["supervised_loss"]
    p, q = (fitted.predict_proba(X) for fitted in fits)
    assert p.dtype == q.dtype == np.float64
    np.testing.assert_allclose(p, q, atol=0.05)
    assert np.abs(p - q).max() > 0
    loaded = pickle.loads(pickle.dumps(fits[1]))
    np.testing.assert_array_equal(loaded.predict_proba(X), q)


def test_the_precision_is_float32_on_any_processor(digits):
    images, y = digits
    large = np.kron(images, np.ones((2, 2)))
    fitted = PNLClassifier(max_epochs=1, steps_per_epoch=1, graph=None).fit(large, y)
    assert {submodel.precision for submodel in fitted.submodels_} == {"float32"}


def test_layers_compute_in_bfloat16_and_weights_stay_float32(digits):
    seen = set()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x):
            logits = self.layer(x.flatten(1))
            seen.add((x.dtype, logits.dtype, self.training))
            return logits

    images, y = digits
    fit = PNLClassifier(
        Net,
        max_epochs=2,
        steps_per_epoch=20,
        precision="bfloat16",
        consistency="mean_teacher",
        random_state=0,
    ).fit(images, y)
    fit.predict(images)
    types = torch.float32, torch.bfloat16
    assert seen == {(*types, True), (*types, False)}
    for submodel in fit.submodels_:
        for module in (submodel.module_, submodel.ema_module_):
            assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert fit.score(images[:60], y[:60]) > 0.6


def test_running_mean_is_torchs_mean():
    rows = torch.randn(26, 3, generator=torch.Generator().manual_seed(0))
    mean = RunningMean()
    for pair in rows.view(13, 2, 3):  # of both students of a step
        mean.add(list(pair))
    torch.testing.assert_close(mean.value(), rows.mean(dim=0))
