"""Ranking of samples to label next."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.stats import entropy
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading

from pnl_sklearn import PNLClassifier
from pnl_sklearn.inspection import rank_for_labeling
from pnl_sklearn.model_selection import hide_labels

X, TRUTH = make_moons(600, noise=0.1, random_state=0)
Y = hide_labels(TRUTH, 40, random_state=0)
LABELED = np.flatnonzero(Y != -1)
# Without its graph, which takes most of the time of a small fit.
TINY = PNLClassifier(max_epochs=1, steps_per_epoch=5, graph=None, random_state=0)


@pytest.fixture(scope="module")
def fitted():
    return clone(TINY).fit(X, Y)


def test_disagreement_is_the_jensen_shannon_divergence(fitted):
    inputs = X.astype(np.float32)
    both = [net.predict_proba(inputs).astype(float) for net in fitted.submodels_]
    # The mean Kullback-Leibler divergence of the predictions from their mean.
    divergence = np.mean([entropy(p, np.mean(both, 0), axis=1) for p in both], axis=0)
    indices = rank_for_labeling(fitted, X, 20, diverse=False)
    assert (np.diff(divergence[indices]) <= 1e-7).all()
    assert divergence[indices].min() >= np.sort(divergence)[-20] - 1e-7
    model = make_pipeline(StandardScaler(), fitted)
    model[0].fit(X)
    scaled = model[0].transform(X)
    expected = rank_for_labeling(fitted, scaled, 20, diverse=False)
    np.testing.assert_array_equal(
        rank_for_labeling(model, X, 20, diverse=False), expected
    )


def test_entropy_and_margin_of_logistic_regression():
    model = LogisticRegression().fit(X[LABELED], Y[LABELED])
    p = model.predict_proba(X)
    expected = np.argsort(-entropy(p, axis=1), kind="stable")[:15]
    found = rank_for_labeling(model, X, 15, strategy="entropy", diverse=False)
    np.testing.assert_array_equal(found, expected)
    margins = np.abs(p[:, 0] - p[:, 1])
    found = rank_for_labeling(model, X, 15, strategy="margin", diverse=False)
    np.testing.assert_allclose(margins[found], np.sort(margins)[:15])


class Undecided(BaseEstimator):
    """Predict equal probabilities for all samples."""

    classes_ = (0, 1)

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def test_diverse_samples_are_of_all_clusters():
    rng = np.random.default_rng(0)
    centers = 20 * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    cluster = np.repeat(np.arange(4), [25, 5, 5, 5])
    samples = centers[cluster] + rng.normal(size=(40, 2))
    chosen = rank_for_labeling(
        Undecided(), samples, 4, strategy="entropy", random_state=0
    )
    assert set(cluster[chosen]) == {0, 1, 2, 3}
    images = samples.reshape(40, 1, 1, 2)
    again = rank_for_labeling(
        Undecided(), images, 4, strategy="entropy", random_state=0
    )
    np.testing.assert_array_equal(again, chosen)
    equal = np.zeros((12, 2))  # in one cluster, but five are returned
    chosen = rank_for_labeling(Undecided(), equal, 5, strategy="margin", random_state=0)
    assert len(set(chosen)) == 5


def test_pipeline_transforms_before_clustering():
    texts = np.array(
        [f"{word} {word}s" for word in ("ant", "bee", "cow", "dog", "elk")]
    )
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    pipeline.fit(texts[:4], [0, 1, 0, 1])
    indices = rank_for_labeling(pipeline, texts, 3, strategy="entropy", random_state=0)
    assert len(set(indices)) == 3
    alone = make_pipeline(LogisticRegression()).fit(X[LABELED], Y[LABELED])
    indices = rank_for_labeling(
        alone, coo_array(X), 4, strategy="margin", random_state=0
    )
    assert len(set(indices)) == 4


def test_ranking_errors(fitted):
    with pytest.raises(NotFittedError):
        rank_for_labeling(clone(TINY), X)
    with pytest.raises(ValueError, match="n_instances=601, but X has 600 samples"):
        rank_for_labeling(fitted, X, 601)
    with pytest.raises(TypeError, match="PNLClassifier, but LabelSpreading has none"):
        rank_for_labeling(LabelSpreading().fit(X, Y), X)
    with pytest.raises(ValueError, match="strategy"):
        rank_for_labeling(fitted, X, strategy="random")


@pytest.mark.parametrize("value", [np.nan, "a word"])
def test_diverse_needs_finite_numbers(value):
    class Fixed(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

        def predict_proba(self, X):
            return np.column_stack([np.linspace(0, 0.5, len(X))] * 2)

    samples = np.full((30, 2), value, dtype=object)
    model = Fixed().fit(samples, np.arange(30) % 2)
    with pytest.raises(ValueError, match=r"distances.*Use diverse=False"):
        rank_for_labeling(model, samples, n_instances=2, strategy="entropy")
    chosen = rank_for_labeling(
        model, samples, n_instances=2, strategy="entropy", diverse=False
    )
    assert len(chosen) == 2
