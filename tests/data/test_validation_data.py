from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback, EarlyStopping
from torch.utils.data import TensorDataset

from pnl_sklearn import PNLClassifier
from pnl_sklearn.estimator._classifier import _spawn_seeds
from pnl_sklearn.utils._distributed import SINGLE_PROCESS

TRUTH = np.arange(90) % 3
X = np.random.default_rng(0).normal(size=(90, 4)) + 3 * np.eye(4)[TRUTH]
X = X.astype(np.float32)
Y = np.where(np.arange(90) < 18, TRUTH, -1)
VALIDATION = {"X_val": X[60:], "y_val": TRUTH[60:]}


def tiny(**params):
    defaults = {
        "max_epochs": 1,
        "steps_per_epoch": 10,
        "random_state": 0,
        "graph": None,
    }
    return PNLClassifier(**(defaults | params))


def split_labels(y, fraction, random_state=0):
    """Labeled samples that a fit learns, and those that it holds out."""
    seed = np.random.RandomState(random_state).randint(np.iinfo(np.int32).max)
    labeled = np.flatnonzero(y >= 0)
    return train_test_split(
        labeled,
        test_size=fraction,
        stratify=y[labeled],
        random_state=_spawn_seeds(seed, SINGLE_PROCESS)[0],
    )


# X_val and y_val.


def test_validation_metrics_do_not_change_the_fit():
    y_val = np.where(np.arange(30) < 20, TRUTH[60:], -1)
    classifier = tiny(max_epochs=2)
    expected = classifier.fit(X[:60], Y[:60]).predict_proba(X)
    classifier.fit(X[:60], Y[:60], X_val=X[60:], y_val=y_val)
    p = classifier.predict_proba(X)
    np.testing.assert_array_equal(p, expected)
    # The last row of the history is that of the fitted model.
    row, known = classifier.history_[-1], slice(60, 80)
    p = p**classifier.temperature_
    p /= p.sum(axis=1, keepdims=True)
    loss = log_loss(TRUTH[known], p[known], labels=[0, 1, 2])
    assert row["valid_loss"] == pytest.approx(loss)
    accuracy = accuracy_score(TRUTH[known], classifier.predict(X[known]))
    assert row["valid_accuracy"] == pytest.approx(accuracy)
    assert classifier.history_[0]["valid_loss"] != row["valid_loss"]


@pytest.mark.parametrize("selection", ["adaptive", "random", "lowest"])
def test_valid_negative_precision(selection):
    # Of each submodel's own predictions, since each is the other's teacher.
    n_negatives = {"adaptive": None, "random": 2, "lowest": 2}[selection]
    classifier = tiny(selection=selection, ema_decay=None, max_epochs=2)
    expected = classifier.fit(X[:60], Y[:60]).predict_proba(X)
    classifier.fit(X[:60], Y[:60], **VALIDATION)
    # Random numbers of the selection are not those of the fit.
    np.testing.assert_array_equal(classifier.predict_proba(X), expected)
    n_all = n_wrong = 0
    for submodel in classifier.submodels_:
        p = submodel.log_probabilities(torch.from_numpy(X[60:])).exp().numpy()
        if n_negatives == 2:  # of three classes: all but the first
            mask = p < p.max(axis=1, keepdims=True)
            if selection == "lowest":
                mask = p <= np.sort(p)[:, [1]]
        else:
            order = np.argsort(-p)
            before = np.cumsum(np.take_along_axis(p, order, 1), axis=1)
            before = np.pad(before[:, :-1], ((0, 0), (1, 0)))
            mask = np.zeros_like(p, dtype=bool)
            np.put_along_axis(mask, order, before >= 0.95, axis=1)
        n_all += mask.sum()
        n_wrong += mask[np.arange(30), TRUTH[60:]].sum()
    precision = classifier.history_[-1]["valid_negative_precision"]
    assert precision == pytest.approx(1 - n_wrong / n_all)


def test_valid_negative_precision_without_negatives_is_nan():
    classifier = tiny(selection=lambda p: torch.zeros_like(p, dtype=torch.bool))
    classifier.fit(X[:60], Y[:60], **VALIDATION)
    assert np.isnan(classifier.history_[-1]["valid_negative_precision"])
    assert classifier.history_[-1]["class_coverage"] == [0, 0, 0]


def test_validation_does_not_change_the_state_of_a_selection():
    class Adapting:
        calls = 0

        def __call__(self, p):
            self.calls += 1
            return p < 0.02 * self.calls

    fits = [
        tiny(selection=Adapting(), max_epochs=2).fit(X[:60], Y[:60], **validation)
        for validation in ({}, VALIDATION)
    ]
    np.testing.assert_array_equal(*(fitted.predict_proba(X) for fitted in fits))


@pytest.mark.parametrize(
    ("y_val", "message"),
    [
        (None, "belong together"),
        (np.full(30, -1), "no labeled sample"),
        (np.full(30, 7), r"labels \[7\], which are not in classes"),
        (TRUTH[:5], "inconsistent numbers"),
    ],
)
def test_invalid_y_val(y_val, message):
    with pytest.raises(ValueError, match=message):
        tiny().fit(X, Y, X_val=X[60:], y_val=y_val)


def test_y_val_without_x_val():
    with pytest.raises(ValueError, match="belong together"):
        tiny().fit(X, Y, y_val=TRUTH)


# validation_fraction.


@pytest.mark.parametrize("form", [np.asarray, lambda X: TensorDataset(torch.tensor(X))])
def test_validation_fraction_equals_fit_without_the_held_out_labels(form):
    params = {"max_epochs": 2, "graph": "auto"}
    classifier = tiny(validation_fraction=1 / 3, **params)
    p = classifier.fit(form(X), Y).predict_proba(form(X))
    learned, held_out = split_labels(Y, 1 / 3)
    assert sorted(Y[held_out]) == [0, 0, 1, 1, 2, 2]
    y = np.full(90, -1)
    y[learned] = Y[learned]
    same = tiny(**params).fit(form(X), y)
    np.testing.assert_array_equal(same.predict_proba(form(X)), p)
    loss = log_loss(Y[held_out], p[held_out], labels=[0, 1, 2])
    assert classifier.history_[-1]["valid_loss"] == pytest.approx(loss)


def test_transduction_has_held_out_labels():
    wrong = np.array([1, 0, *Y[2:18]])  # which no prediction would repeat
    y = np.concatenate([wrong, Y[18:]])
    classifier = tiny(validation_fraction=0.5, random_state=3).fit(X, y)
    np.testing.assert_array_equal(classifier.transduction_[:18], wrong)


@pytest.mark.parametrize(
    ("counts", "fraction"), [([18, 2], 0.9), ([50, 3], 0.9), ([48, 2], 0.2)]
)
def test_validation_fraction_that_leaves_a_class_without_labels(counts, fraction):
    y = np.full(90, -1)
    y[: sum(counts)] = np.repeat([0, 1], counts)
    with pytest.raises(ValueError, match="leaves a class without a label"):
        tiny(validation_fraction=fraction).fit(X, y)


def test_sample_weight_of_held_out_labels_has_no_effect():
    held_out = split_labels(Y, 0.5)[1]
    weights = np.ones(90)
    weights[held_out] = 100.0
    fits = [
        tiny(validation_fraction=0.5, graph="auto").fit(X, Y, w).predict_proba(X)
        for w in (None, weights)
    ]
    np.testing.assert_array_equal(*fits)
    weights = np.zeros(90)
    weights[held_out] = 1.0
    with pytest.raises(ValueError, match="weights of the labeled samples are all zero"):
        tiny(validation_fraction=0.5).fit(X, Y, weights)


@pytest.mark.parametrize(("fraction", "n"), [(0.1, 18), (0.9, 18), (0.5, 3)])
def test_validation_fraction_of_too_few_labels(fraction, n):
    y = np.where(np.arange(90) < n, TRUTH, -1)
    message = f"of {n} labeled samples of 3 classes leaves a class.*'label_change'"
    with pytest.raises(ValueError, match=message):
        tiny(validation_fraction=fraction).fit(X, y)


def test_validation_fraction_and_x_val():
    with pytest.raises(ValueError, match="both set the validation samples"):
        tiny(validation_fraction=0.5).fit(X, Y, **VALIDATION)


def test_held_out_samples_may_be_all_that_is_unlabeled():
    classifier = tiny(validation_fraction=0.3, steps_per_epoch=2)
    classifier.fit(X, TRUTH, unlabeled_weight=np.ones(90))
    assert classifier.history_[0]["negative_coverage"] >= 0


# Early stopping, and changes of predicted labels.


def test_early_stopping_on_x_val():
    stop = EarlyStopping(monitor="valid_accuracy", lower_is_better=False, patience=2)
    classifier = tiny(max_epochs=30, callbacks=[stop])
    classifier.fit(X[:60], Y[:60], **VALIDATION)
    accuracy = [row["valid_accuracy"] for row in classifier.history_]
    assert 3 <= len(accuracy) < 30
    assert max(accuracy[-2:]) <= max(accuracy[:-2])


def test_early_stopping_on_validation_fraction():
    stop = EarlyStopping(patience=2)
    classifier = tiny(max_epochs=30, callbacks=[stop], validation_fraction=0.5)
    assert classifier.fit(X, Y).n_iter_ < 30


def test_early_stopping_on_label_change():
    stop = EarlyStopping(monitor="label_change", patience=3)
    classifier = tiny(max_epochs=40, rampup=0.25, callbacks=[stop])
    change = [row["label_change"] for row in classifier.fit(X, Y).history_]
    assert np.isnan(change[0])
    assert len(change) < 40
    assert min(change[-3:]) >= np.nanmin(change)


def test_label_change_is_the_fraction_of_changed_predictions():
    recorded = []

    class Recorder(Callback):
        def on_epoch_end(self, net, **kwargs):
            recorded.append(net.predict_proba(X[18:]).argmax(axis=1))

    callbacks = [Recorder(), EarlyStopping("label_change", patience=9)]
    classifier = tiny(max_epochs=3, steps_per_epoch=2, lr=0.1, callbacks=callbacks)
    history = classifier.fit(X, Y).history_
    expected = [np.mean(a != b) for a, b in pairwise(recorded)]
    assert max(expected) > 0
    assert [row["label_change"] for row in history][1:] == pytest.approx(expected)


def test_label_change_without_unlabeled_samples_is_nan():
    watch = EarlyStopping("label_change")
    classifier = tiny(max_epochs=2, callbacks=[watch]).fit(X[:18], Y[:18])
    assert np.isnan([row["label_change"] for row in classifier.history_]).all()
    assert classifier.n_iter_ == 2
