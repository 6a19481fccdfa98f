"""A fit uses neighbors as far as they predict labels, and is calibrated."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler

from pnl_sklearn import PNLClassifier, supervised_baseline
from pnl_sklearn.exceptions import UnlabeledDataWarning
from pnl_sklearn.model_selection import hide_labels
from pnl_sklearn.networks import MLP


def misleading_clusters(seed, n=400):
    """Two clusters far apart, which the linear classes cut in half."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 10))
    X[:, 0] += 8 * rng.integers(2, size=n)
    return X, (X[:, 1] > 0).astype(int)


def short(**params):
    params = {"max_epochs": 2, "steps_per_epoch": 60, "random_state": 0} | params
    return PNLClassifier(**params)


@pytest.fixture(scope="module")
def misled():
    X, y = misleading_clusters(0)
    y_few = hide_labels(y, 80, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlabeledDataWarning)
        return X, y, y_few, short().fit(X, y_few)


def test_misleading_neighbors_are_not_used(misled):
    X, y, y_few, classifier = misled
    assert not classifier.evidence_.uses_neighbors
    assert "LogisticRegression" in str(classifier.evidence_)
    unlabeled = y_few == -1
    linear = LogisticRegression().fit(X[~unlabeled], y_few[~unlabeled])
    accuracy = classifier.score(X[unlabeled], y[unlabeled])
    assert accuracy > linear.score(X[unlabeled], y[unlabeled]) - 0.05


def test_given_class_prior_is_used_without_neighbors(misled):
    X, _, y_few, classifier = misled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlabeledDataWarning)
        skewed = short(class_prior=[0.9, 0.1]).fit(X, y_few)
    assert not skewed.evidence_.uses_neighbors
    shares = [np.mean(model.predict(X) == 0) for model in (skewed, classifier)]
    assert shares[0] > shares[1] + 0.03


def test_warning_of_misleading_neighbors(misled):
    X, _, y_few, _ = misled
    with pytest.warns(UnlabeledDataWarning, match="held-out labels worse"):
        short(max_epochs=1, steps_per_epoch=1).fit(X, y_few)


def test_neighbors_that_follow_the_classes_are_used():
    X, y = make_moons(400, noise=0.1, random_state=0)
    classifier = short().fit(X, hide_labels(y, 20, random_state=0))
    assert classifier.evidence_.uses_neighbors
    each = classifier.evidence_.log_likelihood
    assert each["neighbors"] > each["linear"] > each["uniform"]
    assert classifier.score(X, y) > 0.9
    # The networks may predict better than both experts, so that confidence is between.
    raw = classifier.predict_log_proba(X) * classifier.temperature_
    raw = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    expected = classifier.evidence_.expected_accuracy
    confidence = classifier.predict_proba(X).max(axis=1).mean()
    middle = (raw.max(axis=1).mean() + expected) / 2
    assert confidence == pytest.approx(min(middle, raw.max(axis=1).mean()), abs=0.01)


def test_evidence_of_the_baseline_is_the_linear_classifier(misled):
    X, y, y_few, _ = misled
    baseline = supervised_baseline(short()).fit(X, y_few)
    assert set(baseline.evidence_.log_likelihood) == {"uniform", "linear"}
    assert baseline.evidence_.graph_weight == 0
    X_labeled = StandardScaler().fit(X).transform(X[y_few >= 0])
    linear = LogisticRegression().fit(X_labeled, y_few[y_few >= 0])
    found = accuracy_score(y, linear.predict(StandardScaler().fit_transform(X)))
    assert baseline.score(X, y) > found - 0.05


def test_network_starts_as_the_linear_classifier(misled):
    X, _, y_few, _ = misled
    classifier = supervised_baseline(
        short(max_epochs=1, steps_per_epoch=1, lr=1e-8, net_params=None)
    ).fit(X, y_few)
    module = classifier.submodels_[0].module_
    logits = StandardScaler().fit_transform(X) @ module.coef.numpy().T
    logits += module.intercept.numpy()
    expected = logits - logits.mean(axis=1, keepdims=True)
    log_proba = classifier.predict_log_proba(X) * classifier.temperature_
    found = log_proba - log_proba.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_own_network_has_no_linear_part(misled):
    X, _, y_few, _ = misled
    once = {"max_epochs": 1, "steps_per_epoch": 1}

    class Own(MLP):
        pass

    classifier = short(module=Own, **once).fit(X, y_few)
    assert not hasattr(classifier.submodels_[0].module_, "coef")
    assert "linear" not in classifier.evidence_.log_likelihood
    assert classifier.temperature_ == 1


def test_mean_confidence_is_the_expected_accuracy(misled):
    X, _, y_few, classifier = misled
    proba = classifier.predict_proba(X[y_few == -1])
    assert classifier.temperature_ > 1
    expected = classifier.evidence_.expected_accuracy
    assert proba.max(axis=1).mean() == pytest.approx(expected, abs=0.01)


def test_temperature_keeps_the_predicted_classes(misled):
    X, _, _, classifier = misled
    each = np.mean(
        [net.predict_proba(X.astype(np.float32)) for net in classifier.submodels_], 0
    )
    np.testing.assert_array_equal(classifier.predict(X), each.argmax(axis=1))


def test_resumed_fit_without_neighbors_has_the_same_bits(misled):
    X, _, y_few, classifier = misled

    from skorch.callbacks import Callback

    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 1:
                raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        again = short(callbacks=[Stop()]).fit(X, y_few)
        assert again.n_iter_ == 1
        again.set_params(callbacks=None, warm_start="resume").fit(X, y_few)
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))


def test_verbose_prints_the_evidence(misled, capsys):
    X, _, y_few, _ = misled
    once = short(max_epochs=1, steps_per_epoch=1, graph=None, verbose=1)
    once.fit(X, y_few)
    assert "for a linear classifier" in capsys.readouterr().out
