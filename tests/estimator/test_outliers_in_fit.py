"""A broken sample does not lower the accuracy of a fit."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from small_fits import X as SMALL
from small_fits import Y, same, tiny

from pnl_sklearn import PNLClassifier
from pnl_sklearn.model_selection import hide_labels

X, TRUTH = load_digits(return_X_y=True)
FEW = hide_labels(TRUTH, n_labeled=20, random_state=0)
LABELED, UNLABELED = np.flatnonzero(FEW >= 0)[5], np.flatnonzero(FEW < 0)[5]


def fit(X, y=FEW):
    return PNLClassifier(max_epochs=2, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def accuracy():
    return fit(X).score(X, TRUTH)


@pytest.mark.parametrize("value", [1e4, 1e9])
@pytest.mark.parametrize(
    ("sample", "features", "warned"),
    [
        (UNLABELED, slice(None), " features 1, 2, "),
        (UNLABELED, 20, " feature 20 "),
        (LABELED, slice(None), " features 1, 2, "),
    ],
)
def test_accuracy_with_a_broken_sample(sample, features, warned, value, accuracy):
    broken = X.astype(np.float32 if value == 1e9 else np.float64)
    broken[sample, features] = value
    with pytest.warns(UserWarning, match=warned):
        classifier = fit(broken)
    found = classifier.score(np.delete(broken, sample, 0), np.delete(TRUTH, sample))
    assert abs(found - accuracy) < 0.03
    assert np.isfinite(classifier.predict_proba(broken)).all()


def broken_frame():
    frame = pd.DataFrame(SMALL, columns=["age", "b", "c", "d", "e"])
    frame.loc[40, "age"] = 1e9
    return frame


def test_warning_names_the_feature_of_a_data_frame():
    with pytest.warns(UserWarning, match="^1 sample has .* feature 'age' ") as found:
        tiny().fit(broken_frame(), Y)
    assert found[0].filename == __file__


def test_memory_mapped_array_equals_array(tmp_path):
    broken = broken_frame().to_numpy()
    np.save(tmp_path / "X.npy", broken)
    predicted = []
    for each in broken, np.load(tmp_path / "X.npy", mmap_mode="r"):
        with pytest.warns(UserWarning, match="far beyond"):
            predicted.append(tiny().fit(each, Y).predict_proba(SMALL))
    same(*predicted)


def test_fit_equals_that_of_the_clipped_samples():
    broken = broken_frame().to_numpy()
    others = np.delete(SMALL, 40, 0)
    clipped = broken.clip(others.min(axis=0), others.max(axis=0))
    graph = {"graph": "auto"}
    with pytest.warns(UserWarning, match="far beyond"):
        found = tiny(**graph).fit(broken, Y)
    expected = tiny(**graph).fit(clipped, Y)
    same(found.predict_proba(SMALL), expected.predict_proba(SMALL))
    same(found.transduction_, expected.transduction_)


def test_broken_sample_of_a_sparse_matrix_and_of_x_unlabeled():
    positive = np.abs(SMALL)
    broken = positive.copy()
    broken[50, 3] = 1e9
    others = np.delete(positive, 50, 0)
    clipped = broken.clip(others.min(axis=0), others.max(axis=0))
    first, last = (sparse.csr_matrix(part) for part in (broken[:35], broken[35:]))
    with pytest.warns(UserWarning, match="^1 sample has .* feature 3 "):
        found = tiny().fit(first, Y[:35], X_unlabeled=last)
    expected = tiny().fit(sparse.csr_matrix(clipped), Y)
    same(found.predict_proba(positive), expected.predict_proba(positive))


def test_values_are_clipped_without_standardization():
    with pytest.warns(UserWarning, match="far beyond"):
        classifier = tiny(standardize=False).fit(broken_frame().to_numpy(), Y)
    assert np.isfinite(classifier.history_[-1]["train_loss"])
