"""What the graph posterior changes in a fit."""

import pickle
import sys

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs, make_moons
from sklearn.neighbors import KNeighborsTransformer
from torch.utils.data import TensorDataset

from pnl_sklearn import (
    AdaptiveNegatives,
    DistributionAlignment,
    GraphPosterior,
    PNLClassifier,
)
from pnl_sklearn.graph import HOG
from pnl_sklearn.graph._stack import stratified_folds
from pnl_sklearn.model_selection import hide_labels
from pnl_sklearn.objectives._class_prior import ClassPrior


def short(**params):
    settings = {"max_epochs": 1, "steps_per_epoch": 3, "random_state": 0}
    return PNLClassifier(**settings | params)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X, y = X[:400].reshape(-1, 8, 8).astype(np.float32), y[:400]
    return X, hide_labels(y, 40, random_state=0), y


@pytest.fixture
def few():
    X, y = make_blobs(80, centers=[[0, 0], [1, 0], [0, 1]], random_state=0)
    return X, hide_labels(y, 9, random_state=0)


@pytest.fixture
def posteriors(monkeypatch):
    """Logarithm of every graph posterior that fits compute, or None."""
    found = []
    compute = GraphPosterior.posterior

    def kept(self, *args, **kwargs):
        result = compute(self, *args, **kwargs)
        found.append(None if result is None else np.log(result[0]))
        return result

    monkeypatch.setattr(GraphPosterior, "posterior", kept)
    return found


# Which samples have a posterior.


def doubled(X):
    """Images of 16 x 16 pixels."""
    return X.repeat(2, axis=-2).repeat(2, axis=-1)


def test_data_with_an_automatic_graph(posteriors, digits):
    X, y, truth = digits
    tables = X.reshape(400, 64)
    colored = np.stack([doubled(X)] * 3, axis=1)
    for inputs, has_graph in [
        (X, False),
        (tables, True),
        (doubled(X), True),
        (colored, True),
    ]:
        posteriors.clear()
        short().fit(inputs, y)
        assert any(p is not None for p in posteriors) == has_graph
    posteriors.clear()
    short(graph=None).fit(tables, y)
    short(graph=GraphPosterior(weight=0)).fit(tables, y)
    short(negative_weight=0).fit(tables, y)
    short().fit(tables, truth)
    assert all(p is None for p in posteriors)


FORMS = {
    "channels first": lambda X: X[:, None],
    "channels last": lambda X: X[..., None],
    "bytes": lambda X: (10 * X).astype(np.uint8),
    "flat": lambda X: X.reshape(len(X), -1),
    "sparse": lambda X: sparse.csr_matrix(X.reshape(len(X), -1)),
    "dataset": lambda X: TensorDataset(torch.from_numpy(X)),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_of_any_form_have_the_same_posterior(form, posteriors, digits):
    images = doubled(digits[0])
    shape = (1, 16, 16) if form in ("flat", "sparse") else None
    short().fit(images, digits[1])
    short(image_shape=shape).fit(FORMS[form](images), digits[1])
    expected, found = posteriors
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-4)


def test_too_many_samples_for_features_raise(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    codes = np.full(100_001, -1)
    codes[:4] = [0, 0, 1, 1]
    X = np.random.default_rng(0).normal(size=(100_001, 2)).astype(np.float32)
    model = short(graph=GraphPosterior(features=lambda x: x))
    with pytest.raises(ValueError, match=r"100,001 samples need faiss"):
        model.fit(X, codes)


def test_hog_of_a_table_raises(digits):
    X, y, _ = digits
    model = short(graph=GraphPosterior(features=HOG()))
    with pytest.raises(ValueError, match=r"takes images.*image_shape=\(channels"):
        model.fit(X.reshape(400, 64), y)


def test_fits_with_a_graph_are_cloned_and_pickled(digits):
    X, y, _ = digits
    model = short(graph=GraphPosterior(features=HOG(6))).fit(X, y)
    loaded = pickle.loads(pickle.dumps(model))
    assert loaded.graph.features == clone(model).graph.features == HOG(6)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_fits_with_a_search_for_neighbors(digits):
    X, y, _ = digits
    X = X.reshape(400, 64)
    neighbors = KNeighborsTransformer(mode="distance", n_neighbors=5)
    graph = GraphPosterior(neighbors=neighbors.fit_transform)
    first, second = (short(graph=graph).fit(X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    without = short(graph=None).fit(X, y).predict_proba(X)
    assert abs(first - without).max() > 1e-4


def test_the_weight_is_a_nested_parameter(digits):
    model = short(graph=GraphPosterior(features=HOG()))
    assert model.set_params(graph__weight=3.0).graph.weight == 3.0
    assert clone(model).get_params()["graph__weight"] == 3.0


@pytest.mark.parametrize("verbose", [0, 1])
def test_a_long_search_is_announced(capsys, verbose):
    codes = np.full(10_001, -1)
    codes[:4] = [0, 0, 1, 1]
    X = np.random.default_rng(0).normal(size=(10_001, 2)).astype(np.float32)
    graph = GraphPosterior(features=lambda x: x, n_neighbors=2)
    short(graph=graph, verbose=verbose).fit(X, codes)
    printed = capsys.readouterr().out
    announced = printed.startswith("Searching the neighbors of 10,001 samples.\n")
    assert announced == (verbose == 1)


# Which class prior it has.


@pytest.mark.parametrize(
    ("params", "prior", "odds"),
    [
        # Three classes are seldom equally frequent: (2 / 9)^2.
        ({}, [1 / 3] * 3, 4 / 81),
        ({"class_prior": "uniform"}, [1 / 3] * 3, 1),
        ({"class_prior": "labeled"}, [0.5, 0.3, 0.2], 1),
        ({"class_prior": [2, 1, 1]}, [0.5, 0.25, 0.25], 1),
        ({"class_prior": None}, None, None),
        ({"class_prior": DistributionAlignment(weight=0)}, None, None),
    ],
)
def test_the_posterior_has_the_class_prior(monkeypatch, params, prior, odds):
    given = []

    def stub(
        self,
        source,
        shape,
        codes,
        n_classes,
        class_prior=None,
        prior_odds=1.0,
        verbose=False,
    ):
        given.extend([class_prior, prior_odds])

    monkeypatch.setattr(GraphPosterior, "posterior", stub)
    X, truth = make_blobs(80, centers=[[0, 0], [1, 0], [0, 1]], random_state=0)
    y = np.full(80, -1)
    for k, n in enumerate([5, 3, 2]):
        y[np.flatnonzero(truth == k)[:n]] = k
    short(**params).fit(X, y)
    if prior is None:
        assert given[0] is None
    else:
        np.testing.assert_allclose(given[0], prior, rtol=1e-6)
        np.testing.assert_allclose(given[1], odds, rtol=1e-6)


# What it changes.


class Spy(AdaptiveNegatives):
    seen: list = []  # noqa: RUF012

    def __call__(self, probabilities):
        self.seen.append(probabilities.argmax(dim=1))
        return super().__call__(probabilities)


def selected_by(monkeypatch, X, y, negative_labels=None, **params):
    """Return the classes that the selection sees if the posterior says class 1."""

    def stub(self, source, shape, codes, n_classes, *args, **kwargs):
        certain = np.full((len(codes), n_classes), 1e-9, dtype=np.float32)
        certain[:, 1] = 1
        # It predicts held-out labels, so that it is used.
        samples = np.concatenate(stratified_folds(codes, n_classes))
        right = np.eye(n_classes)[codes[samples]].clip(1e-3)
        return certain, right

    monkeypatch.setattr(GraphPosterior, "posterior", stub)
    Spy.seen.clear()
    model = short(selection=Spy(), **params)
    model.fit(X, y, negative_labels=negative_labels)
    # The first call tries the selection before the first step.
    return torch.cat(Spy.seen[1:])


def test_the_selection_sees_predictions_times_the_posterior(monkeypatch, few):
    assert (selected_by(monkeypatch, *few) == 1).all()
    for weight, is_certain in [(np.float64(2), True), (0.01, False)]:
        seen = selected_by(monkeypatch, *few, graph=GraphPosterior(weight=weight))
        assert (seen == 1).all() == is_certain
    assert (selected_by(monkeypatch, *few, graph=None) != 1).any()


def test_negative_labels_take_precedence_over_the_posterior(monkeypatch, few):
    X, y = few
    excluded = np.zeros((80, 3), dtype=bool)
    excluded[y < 0, 1] = True
    assert (selected_by(monkeypatch, X, y, excluded) != 1).all()


def test_the_automatic_prior_follows_predictions_times_the_posterior(monkeypatch, few):
    seen = []
    update = ClassPrior.update
    monkeypatch.setattr(
        ClassPrior, "update", lambda self, p: seen.append(p) or update(self, p)
    )
    selected = selected_by(monkeypatch, *few)
    assert (torch.cat(seen).argmax(dim=1) == 1).all()
    assert len(torch.cat(seen)) == len(selected)


def test_consistency_regularization_sees_predictions_without_the_posterior(
    monkeypatch, few
):
    seen = []

    class Consistency:
        rampup, needs_ema = 0.0, False

        def targets(self, student, teacher, weak, strong, teacher_weak):
            seen.append((teacher_weak, teacher.probabilities(weak)))
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        selected_by(
            monkeypatch,
            *few,
            consistency=Consistency(),
            weak_view=None,
            net_params={"module__dropout": 0.0},
        )
    torch.testing.assert_close(*seen[0])


def test_the_graph_helps_where_classes_are_dense_regions():
    X, truth = make_moons(300, noise=0.1, random_state=0)
    few = [hide_labels(truth, 10, random_state=seed) for seed in range(2)]
    scores = []
    for graph in (None, "auto"):
        model = PNLClassifier(graph=graph, max_epochs=2, random_state=0)
        scores.append(np.mean([model.fit(X, y).score(X, truth) for y in few]))
    assert scores[1] > scores[0] + 0.03


def test_transduction_is_predictions_times_the_posterior(posteriors):
    """But what predicts later has no graph."""
    X, truth = make_moons(600, noise=0.1, random_state=0)
    y = hide_labels(truth, 10, random_state=0)
    graph = GraphPosterior(weight=2.0)
    model = PNLClassifier(graph=graph, max_epochs=1, random_state=0).fit(X, y)
    predicted = model.predict(X)
    exponent = 2.0 * model.evidence_.graph_weight
    logits = model.temperature_ * model.predict_log_proba(X) + exponent * posteriors[0]
    expected = np.where(y < 0, logits.argmax(axis=1), y)
    np.testing.assert_array_equal(model.transduction_, expected)
    assert (expected == truth).mean() > (predicted == truth).mean() + 0.02
    model.set_params(graph=None).fit(X, y)
    found = model.transduction_[y < 0]
    np.testing.assert_array_equal(found, model.predict(X)[y < 0])


def test_classes_without_labels_are_found_by_negative_labels():
    X, truth = make_blobs(300, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    y = hide_labels(np.where(truth < 2, truth, -1), 10, random_state=0)
    excluded = np.zeros((300, 3), dtype=bool)
    excluded[np.flatnonzero(truth == 2)[:20], :2] = True
    model = PNLClassifier(classes=[0, 1, 2], max_epochs=2, random_state=0)
    model.fit(X, y, negative_labels=excluded)
    assert model.score(X, truth) > 0.95
