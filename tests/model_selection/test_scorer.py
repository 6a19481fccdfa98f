"""Scorers that use labeled samples only."""

import numpy as np
import pytest
import sklearn
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, make_scorer, roc_auc_score
from sklearn.model_selection import KFold, cross_val_score, cross_validate
from sklearn.semi_supervised import LabelSpreading

from pnl_sklearn.model_selection import make_labeled_scorer

rng = np.random.default_rng(0)
TRUTH = np.arange(120) % 2
X = (rng.normal(size=(120, 3)) + 2 * TRUTH[:, None]).astype(np.float32)
Y = np.full(120, -1)
LABELED = np.sort(rng.permutation(120)[:24])
Y[LABELED] = TRUTH[LABELED]


class FirstFeature:
    """Classifier whose probability of class 1 is the first feature."""

    _estimator_type = "classifier"

    def __init__(self):
        self.classes_ = np.array([0, 1])

    def __sklearn_tags__(self):
        return LogisticRegression().__sklearn_tags__()

    def predict_proba(self, X):
        return np.stack([1 - X[:, 0], X[:, 0]], axis=1)

    def predict(self, X):
        return (X[:, 0] > 0.5).astype(int)

    def fit(self, X, y):
        return self


PROBABILITIES = np.array([[0.1], [0.9], [0.6], [0.7], [0.2]])
TARGETS = np.array([0, 1, 0, -1, -1])
WEIGHTS = np.array([3.0, 2.0, 1.0, 8.0, 9.0])


def test_scorer_ignores_unlabeled_samples():
    def score(name, **params):
        return make_labeled_scorer(name)(
            FirstFeature(), PROBABILITIES, TARGETS, **params
        )

    # Of the samples 0, 1 and 2 the third is wrong; 1 is ranked above both others.
    assert score("accuracy") == pytest.approx(2 / 3)
    assert score("accuracy", sample_weight=WEIGHTS) == pytest.approx(5 / 6)
    assert score("roc_auc") == 1.0
    # F1 of class 1: precision 1/2, recall 1; of class 0: precision 1, recall 1/2.
    assert score("f1_macro") == pytest.approx(2 / 3)
    assert score(make_scorer(f1_score)) == pytest.approx(2 / 3)
    assert score(lambda model, X, y: len(X)) == 3
    assert score(lambda model, X, y, by: by * len(X), by=np.float64(2)) == 6
    unknown = np.full(5, np.nan)
    with pytest.raises(ValueError, match="None of the 5 samples to score is labeled"):
        make_labeled_scorer("accuracy")(FirstFeature(), PROBABILITIES, unknown)


def test_scorer_from_the_score_method():
    y = np.array([0, 1, 1, -1])
    model = DummyClassifier(strategy="constant", constant=1).fit(np.zeros((4, 1)), y)
    scorer = make_labeled_scorer(None)
    assert scorer(model, np.zeros((4, 1)), y) == pytest.approx(2 / 3)
    weights = np.array([2.0, 1, 1, 5])
    assert scorer(model, np.zeros((4, 1)), y, sample_weight=weights) == 0.5


@pytest.mark.parametrize(
    "scoring", [["accuracy", "roc_auc"], {"accuracy": "accuracy", "roc_auc": "roc_auc"}]
)
def test_several_scores_of_plain_folds(scoring):
    folds = KFold(3)
    scores = cross_validate(
        LabelSpreading(), X, Y, cv=folds, scoring=make_labeled_scorer(scoring)
    )
    for i, (train, test) in enumerate(folds.split(X)):
        model = LabelSpreading().fit(X[train], Y[train])
        known = test[Y[test] != -1]
        accuracy = accuracy_score(Y[known], model.predict(X[known]))
        area = roc_auc_score(Y[known], model.predict_proba(X[known])[:, 1])
        assert scores["test_accuracy"][i] == pytest.approx(accuracy)
        assert scores["test_roc_auc"][i] == pytest.approx(area)


def test_sample_weight_is_routed_to_the_scorer():
    weights = np.where(TRUTH == 1, 5.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        accuracy = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        scores = cross_val_score(
            LabelSpreading(),
            X,
            Y,
            cv=KFold(2),
            scoring=make_labeled_scorer(accuracy),
            params={"sample_weight": weights},
        )
    for score, (train, test) in zip(scores, KFold(2).split(X), strict=True):
        model = LabelSpreading().fit(X[train], Y[train])
        known = test[Y[test] != -1]
        correct = model.predict(X[known]) == Y[known]
        assert score == pytest.approx(np.average(correct, weights=weights[known]))
