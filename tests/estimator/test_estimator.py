"""PNLClassifier among scikit-learn's tools, and what its parameters do."""

import copy
import functools
import io
import math
import os
import pickle
import random
import subprocess
import sys
import threading
from collections import Counter

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import TensorDataset

from pnl_sklearn import (
    AdaptiveNegatives,
    LowestNegatives,
    PNLClassifier,
    RandomNegatives,
    supervised_baseline,
)
from pnl_sklearn.training._callbacks import COLUMNS
from pnl_sklearn.training._metrics import VALIDATED
from pnl_sklearn.views import AdversarialView, NeighborView, RandAugmentView

TINY = {
    "max_epochs": 2,
    "steps_per_epoch": 3,
    "batch_size": 16,
    "labeled_batch_size": 8,
    "random_state": 0,
}


def tiny(**params):
    return PNLClassifier(**(TINY | params))


TRUTH = np.arange(60) % 3
Y = np.where(np.arange(60) < 18, TRUTH, -1)
X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
X += 3 * np.eye(5, dtype=np.float32)[TRUTH]
IMAGES = np.random.default_rng(1).normal(size=(60, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    return tiny().fit(X, Y)


@pytest.fixture(scope="module")
def expected(fitted):
    return fitted.predict_proba(X)


def predictions(**params):
    return tiny(**params).fit(X, Y).predict_proba(X)


same = np.testing.assert_array_equal


# Parameters.


def test_nested_parameters_have_names():
    estimator = tiny(selection=LowestNegatives(), net_params={"module__hidden": 8})
    params = estimator.get_params()
    assert params["module__hidden"] == 8
    assert params["selection__n_negatives"] == 2
    assert params["selection"] is estimator.selection
    shallow = estimator.get_params(deep=False)
    assert not {"module__hidden", "selection__n_negatives"} & set(shallow)


def test_set_params_leaves_the_dict_that_was_given():
    given = {"module__hidden": 8, "optimizer__weight_decay": 0.1}
    estimator = tiny(net_params=given)
    assert estimator.set_params(module__hidden=16, lr=0.1) is estimator
    assert given == {"module__hidden": 8, "optimizer__weight_decay": 0.1}
    assert estimator.net_params == given | {"module__hidden": 16}
    assert estimator.lr == 0.1


@pytest.mark.parametrize(
    ("name", "kind"), [("adaptive", AdaptiveNegatives), ("random", RandomNegatives)]
)
def test_set_params_of_a_selection_given_by_name(name, kind):
    parameter = "tolerance" if name == "adaptive" else "n_negatives"
    estimator = tiny(selection=name).set_params(**{f"selection__{parameter}": 1})
    assert isinstance(estimator.selection, kind)
    assert clone(estimator).get_params()[f"selection__{parameter}"] == 1
    estimator.set_params(selection="lowest", selection__n_negatives=3)
    assert isinstance(estimator.selection, LowestNegatives)
    assert estimator.selection.n_negatives == 3


def test_net_params_reach_the_nets():
    estimator = tiny(net_params={"optimizer__weight_decay": 0.25})
    estimator.set_params(module__hidden=7).fit(X, Y)
    for submodel in estimator.submodels_:
        assert submodel.module_.network.head.in_features == 7
        assert submodel.optimizer_.param_groups[0]["weight_decay"] == 0.25


def test_clone_keeps_parameters_and_nothing_fitted(fitted):
    estimator = clone(fitted.set_params(verbose=0))
    assert estimator.get_params() == fitted.get_params()
    assert not [name for name in vars(estimator) if name.endswith("_")]
    nested = tiny(net_params={"module__hidden": 8}, module=nn.Linear(5, 3))
    copied = clone(nested)
    assert copied.net_params == nested.net_params
    assert copied.net_params is not nested.net_params
    assert copied.module is not nested.module


@pytest.mark.parametrize("params", [{}, {"module": nn.Linear(5, 3)}])
def test_fit_changes_no_parameter(params):
    estimator = tiny(**params)
    before = {n: (id(v), repr(v)) for n, v in estimator.get_params().items()}
    estimator.fit(X, Y)
    after = {n: (id(v), repr(v)) for n, v in estimator.get_params().items()}
    assert after == before


# scikit-learn's tools.


def test_pipeline(expected):
    scaled = StandardScaler().fit_transform(X)
    pipeline = make_pipeline(StandardScaler(), tiny())
    pipeline.set_params(pnlclassifier__module__hidden=16).fit(X, Y)
    reference = tiny(net_params={"module__hidden": 16}).fit(scaled, Y)
    same(pipeline.predict_proba(X), reference.predict_proba(scaled))


@pytest.mark.smoke
def test_grid_search_scores_known_rows_only():
    grid = {"negative_weight": [0, 1], "selection__tolerance": [0.1]}
    folds = StratifiedKFold(2)
    estimator = tiny(steps_per_epoch=10)
    search = GridSearchCV(estimator, grid, cv=folds).fit(X, Y)
    for i, params in enumerate(search.cv_results_["params"]):
        for k, (train, test) in enumerate(folds.split(X, Y)):
            model = clone(estimator).set_params(**params).fit(X[train], Y[train])
            known = test[Y[test] >= 0]
            score = np.mean(model.predict(X[known]) == Y[known])
            assert search.cv_results_[f"split{k}_test_score"][i] == score


def test_grid_search_in_two_processes():
    grid = {
        "negative_weight": [0, 1],
        "selection__tolerance": [0.05, 0.3],
        "module__hidden": [4, 16],
    }
    search = GridSearchCV(tiny(), grid, cv=2, n_jobs=2, error_score="raise").fit(X, Y)
    assert len(search.cv_results_["params"]) == 8
    best = search.best_estimator_
    head = best.submodels_[0].module_.network.head
    assert head.in_features == search.best_params_["module__hidden"]
    assert best.selection.tolerance == search.best_params_["selection__tolerance"]
    same(search.predict(X), best.predict(X))


def test_cross_val_predict():
    folds = StratifiedKFold(2)
    for y, method in [(Y, "predict"), (TRUTH, "predict"), (TRUTH, "predict_proba")]:
        given = cross_val_predict(tiny(), X, y, cv=folds, method=method)
        for train, test in folds.split(X, y):
            model = tiny().fit(X[train], y[train])
            same(given[test], getattr(model, method)(X[test]))


def test_sample_weight_through_a_pipeline():
    weights = np.random.default_rng(0).random(60)
    scaled = StandardScaler().fit_transform(X)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        classifier = tiny().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(scaler, classifier).fit(X, Y, sample_weight=weights)
    reference = tiny().fit(scaled, Y, sample_weight=weights)
    same(pipeline.predict_proba(X), reference.predict_proba(scaled))


def through_joblib(estimator, path):
    joblib.dump(estimator, path / "estimator.joblib")
    return joblib.load(path / "estimator.joblib")


COPIES = {
    "pickle": lambda estimator, path: pickle.loads(pickle.dumps(estimator)),
    "joblib": through_joblib,
    "deepcopy": lambda estimator, path: copy.deepcopy(estimator),
}


@pytest.mark.smoke
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("ema_decay", [0.9, None])
def test_copies_predict_and_go_on_the_same(copied, ema_decay, tmp_path):
    original = tiny(warm_start=True, ema_decay=ema_decay).fit(X, Y)
    other = copied(original, tmp_path)
    before = original.predict_proba(X)
    same(other.predict_proba(X), before)
    same(other.transduction_, original.transduction_)
    assert other.history_ == original.history_
    original.fit(X, Y)
    same(other.predict_proba(X), before)
    same(other.fit(X, Y).predict_proba(X), original.predict_proba(X))
    assert not np.array_equal(other.predict_proba(X), before)


def test_pickle_of_images():
    estimator = tiny().fit(IMAGES, Y)
    other = pickle.loads(pickle.dumps(estimator))
    same(other.predict_proba(IMAGES), estimator.predict_proba(IMAGES))


# Randomness.


@pytest.mark.parametrize(
    "params",
    [{}, {"selection": "random"}, {"exchange": "alternating"}, {"module": nn.Linear}],
)
def test_refit_gives_the_same_bits(params):
    estimator = tiny(**params).fit(X, Y)
    first = estimator.predict_proba(X)
    same(estimator.fit(X, Y).predict_proba(X), first)
    same(predictions(**params), first)


def test_random_state_may_be_an_instance():
    instance = np.random.RandomState(3)
    first, second = (predictions(random_state=instance) for _ in range(2))
    same(predictions(random_state=np.random.RandomState(3)), first)
    assert not np.array_equal(first, second)


def test_other_seeds_differ(expected):
    assert not np.array_equal(predictions(random_state=1), expected)


def run_python(code, *arguments, **variables):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    subprocess.run(command, check=True, env=os.environ | variables)


def test_another_process_gives_the_same_bits(tmp_path, expected):
    code = """
import sys
import numpy as np
import torch
from pnl_sklearn import PNLClassifier

torch.set_num_threads(int(sys.argv[2]))
data = np.load(sys.argv[1])
for name in ("X", "images"):
    estimator = PNLClassifier(**eval(sys.argv[3])).fit(data[name], data["y"])
    np.save(sys.argv[1] + name, estimator.predict_proba(data[name]))
"""
    path = tmp_path / "data.npz"
    np.savez(path, X=X, images=IMAGES, y=Y)
    run_python(code, path, torch.get_num_threads(), TINY)
    same(np.load(f"{path}X.npy"), expected)
    images = tiny().fit(IMAGES, Y).predict_proba(IMAGES)
    same(np.load(f"{path}images.npy"), images)


@pytest.mark.parametrize(
    "inputs",
    [X, IMAGES, TensorDataset(torch.from_numpy(X))],
    ids=["table", "images", "Dataset"],
)
def test_global_random_states_are_left_as_found(inputs):
    def states():
        name, keys, *rest = np.random.get_state()  # noqa: NPY002
        generator = torch.random.get_rng_state().tolist()
        return random.getstate(), (name, keys.tolist(), *rest), generator

    before = states()
    estimator = tiny(selection="random").fit(inputs, Y)
    assert states() == before
    estimator.predict(inputs)
    assert states() == before


# Weights.


def test_weights_of_unlabeled_rows_and_their_scale_mean_nothing(expected):
    weights = np.where(Y < 0, np.arange(60), 2.0)
    same(tiny().fit(X, Y, sample_weight=weights).predict_proba(X), expected)


def test_a_row_of_weight_zero_has_no_label(expected):
    weights = np.ones(60)
    weights[0] = 0
    given = []
    for label in range(3):
        y = Y.copy()
        y[0] = label
        given.append(tiny().fit(X, y, sample_weight=weights).predict_proba(X))
    same(given[0], given[1])
    same(given[0], given[2])
    assert not np.array_equal(given[0], expected)


def test_class_weight(expected):
    y = Y.copy()
    y[[2, 5, 8]] = -1  # so that the classes are not balanced
    labeled = y >= 0
    for class_weight in ["balanced", {0: 3, 1: 1, 2: 0.5}]:
        weights = np.ones(60)
        weights[labeled] = compute_sample_weight(class_weight, y[labeled])
        reference = tiny().fit(X, y, sample_weight=weights)
        estimator = tiny(class_weight=class_weight).fit(X, y)
        same(estimator.predict_proba(X), reference.predict_proba(X))
    plain = tiny(class_weight=None).fit(X, y).predict_proba(X)
    assert not np.array_equal(estimator.predict_proba(X), plain)


def test_class_weight_names_labels():
    names = np.array(["a", "b", "c", "-1"])
    estimator = tiny(class_weight={"a": 3, "b": 1, "c": 0.5}).fit(X, names[Y])
    reference = tiny(class_weight={0: 3, 1: 1, 2: 0.5}).fit(X, Y)
    same(estimator.predict_proba(X), reference.predict_proba(X))


# What a fitted estimator tells.


def test_predictions_are_consistent(fitted, expected):
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-12)
    assert expected.dtype == np.float64
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), expected)
    same(fitted.predict(X), fitted.classes_[expected.argmax(axis=1)])
    np.testing.assert_allclose(fitted.predict_proba(X[7:8])[0], expected[7], rtol=1e-5)


def test_submodels_are_skorch_nets(fitted, expected):
    assert len(fitted.submodels_) == 2
    assert all(isinstance(net, NeuralNet) for net in fitted.submodels_)
    each = [net.predict_proba(X) for net in fitted.submodels_]
    np.testing.assert_allclose(np.mean(each, axis=0), expected, rtol=1e-5)
    assert not np.allclose(*each)


def test_score_leaves_out_unlabeled_rows(fitted):
    predicted = fitted.predict(X)
    assert 0 < np.mean(predicted == TRUTH) < 1
    weights = np.random.default_rng(0).random(60)
    known = Y >= 0
    score = accuracy_score(Y[known], predicted[known])
    assert fitted.score(X, Y) == score
    assert fitted.score(X, np.where(known, Y, np.nan)) == score
    assert fitted.score(X, [label if label >= 0 else None for label in Y]) == score
    assert fitted.score(X, TRUTH) == accuracy_score(TRUTH, predicted)
    score = accuracy_score(Y[known], predicted[known], sample_weight=weights[known])
    np.testing.assert_allclose(fitted.score(X, Y, sample_weight=weights), score)


@pytest.mark.parametrize("names", [["a", "b", "c"], ["+", "-", "0"], [0, 1, 2]])
def test_score_of_labels_that_fit_has_not_seen(names):
    names = np.array(names)
    estimator = tiny(classes=names).fit(X, names[TRUTH])
    predicted = estimator.predict(X)
    others = [f"{name}b" for name in names] if names.dtype.kind == "U" else names + 3.0
    y = np.where(np.arange(60) < 20, names[TRUTH], np.array(others)[TRUTH])
    assert estimator.score(X, y) == np.sum(predicted[:20] == y[:20]) / 60
    score = accuracy_score(names[TRUTH], predicted)
    assert estimator.score(X, names[TRUTH]) == score


def test_history():
    estimator = tiny(
        max_epochs=4,
        rampup=0.5,
        negative_weight=0.7,
        balance_weight=0.2,
        class_prior="uniform",
    )
    history = estimator.fit(X, Y).history_
    assert estimator.n_iter_ == len(history) == 4
    losses = ["train_loss", "supervised_loss", "negative_loss", "balance_loss"]
    losses.append("consistency_loss")
    shares = ["teacher_student_agreement", "negative_coverage"]
    others = ["epoch", "class_distribution", "class_coverage"]
    others += ["negative_weight", "seconds"]
    for epoch, row in enumerate(history, 1):
        assert sorted(row) == sorted(losses + shares + others)
        assert row["epoch"] == epoch
        assert all(0 <= row[name] <= 1 for name in shares)
        assert all(row[name] >= 0 for name in losses)
        assert len(row["class_distribution"]) == 3
        assert sum(row["class_distribution"]) == pytest.approx(1)
        # The coverage of all rows is between that of the classes.
        assert min(row["class_coverage"]) <= row["negative_coverage"]
        assert max(row["class_coverage"]) >= row["negative_coverage"] - 1e-6
        total = row["supervised_loss"] + 0.7 * row["negative_loss"]
        if epoch > 2:  # after the ramp
            assert row["negative_weight"] == 0.7
            total += 0.2 * row["balance_loss"]
            assert row["train_loss"] == pytest.approx(total, rel=1e-5)
    # exp(-5 (1 - t)^2) at the last step of the first epoch, two of six.
    weight = 0.7 * math.exp(-5 * (1 - 2 / 6) ** 2)
    assert history[0]["negative_weight"] == pytest.approx(weight)


def test_coverage_by_class():
    def select(p):  # teaches about rows that it takes for class 1 only
        return (torch.arange(3) == 0) & (p.argmax(dim=1, keepdim=True) == 1)

    row = tiny(selection=select, max_epochs=1).fit(X, Y).history_[0]
    assert row["class_coverage"] == [0, 1, 0]


def test_submodels_keep_a_history_of_their_own(fitted):
    for net in fitted.submodels_:
        assert net.history[:, "epoch"] == [1, 2]
        losses = [row["train_loss"] for row in fitted.history_]
        assert net.history[:, "train_loss"] == losses
        assert [len(row["batches"]) for row in net.history] == [3, 3]


def test_verbose_prints_a_line_an_epoch(capfd):
    estimator = tiny(verbose=1, max_epochs=3, warm_start=True).fit(X, Y)
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["epoch", "train_loss"]
    assert [line.split()[0] for line in lines[2:]] == ["1", "2", "3"]
    assert float(lines[2].split()[1]) == pytest.approx(
        estimator.history_[0]["train_loss"], abs=1e-4
    )
    estimator.fit(X, Y)
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["4", "5", "6"]


def test_silence(capfd):
    stop = EarlyStopping(monitor="train_loss", patience=1, threshold=1e9)
    for inputs in (X, IMAGES):
        estimator = tiny(callbacks=[stop, LRScheduler()], max_epochs=3).fit(inputs, Y)
        estimator.score(inputs, Y)
    assert capfd.readouterr() == ("", "")


# Which rows enter the losses.


def far_unlabeled(**params):
    """Predictions of a network whose rows do not meet, with unlabeled samples moved."""
    moved = np.where((Y < 0)[:, None], 3 * X + 1, X)
    estimator = tiny(module=nn.Linear, standardize=False, strong_view=None, **params)
    for model in (estimator, supervised_baseline(estimator)):
        first = model.fit(X, Y).predict_proba(X)
        yield np.array_equal(first, model.fit(moved, Y).predict_proba(X))


def test_unlabeled_rows_do_not_enter_the_loss_of_the_twin():
    given, twin = far_unlabeled()
    assert not given
    assert twin


@pytest.mark.parametrize("params", [{"module": "mlp"}, {"selection": "random"}])
def test_supervised_twin(params):
    estimator = tiny(**params).fit(X, Y)
    twin = supervised_baseline(estimator)
    assert not hasattr(twin, "submodels_")
    off = {"negative_weight": 0, "class_prior": None}
    assert twin.get_params(deep=False).keys() == estimator.get_params(deep=False).keys()
    assert twin.get_params() | off == twin.get_params()
    twin.fit(X, Y)
    for row in twin.history_:
        assert row["train_loss"] == row["supervised_loss"]
    steps = [net.n_steps_ for net in estimator.submodels_]
    assert [net.n_steps_ for net in twin.submodels_] == steps


def test_supervised_twin_of_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), tiny()).fit(X, Y)
    twin = supervised_baseline(pipeline)
    assert twin[-1].get_params() == supervised_baseline(tiny()).get_params()
    assert twin[0] is not pipeline[0]
    assert pipeline[-1].negative_weight == 1  # as it was
    expected = supervised_baseline(tiny()).fit(StandardScaler().fit_transform(X), Y)
    scaled = pipeline[0].transform(X)
    same(twin.fit(X, Y).predict_proba(X), expected.predict_proba(scaled))


@pytest.mark.parametrize("inputs", [X, IMAGES + 3 * TRUTH[:, None, None]])
def test_all_rows_labeled(inputs):
    options = {"weak_view": None, "steps_per_epoch": 10, "lr": 0.01}
    estimator = tiny(**options).fit(inputs, TRUTH)
    assert estimator.score(inputs, TRUTH) > 0.9
    same(estimator.transduction_, TRUTH)
    for row in estimator.history_:
        assert row["train_loss"] == row["supervised_loss"]


def test_one_unlabeled_row():
    y = np.where(np.arange(60) == 7, -1, TRUTH)
    estimator = tiny(steps_per_epoch=30).fit(X, y)
    assert estimator.score(X, TRUTH) > 0.9


def test_one_labeled_row_a_step():
    estimator = tiny(labeled_batch_size=1, steps_per_epoch=30).fit(X, Y)
    assert estimator.score(X, TRUTH) > 0.9


# Training: how it ends, goes on and is scheduled.


class Interrupt(Callback):
    """Raises KeyboardInterrupt at the end of a step."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, net, training=None, **kwargs):
        if net.n_steps_ == self.step:
            raise KeyboardInterrupt


def test_an_interrupted_fit_can_be_used():
    # The fifth step is the second one of the second epoch.
    options = {"warm_start": True, "max_epochs": 4, "graph_weight": 0}
    estimator = tiny(callbacks=[Interrupt(5)], **options)
    with pytest.warns(UserWarning, match="interrupted in epoch 2"):
        estimator.fit(X, Y)
    assert estimator.n_iter_ == len(estimator.history_) == 1
    probabilities = estimator.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    same(pickle.loads(pickle.dumps(estimator)).predict_proba(X), probabilities)
    known = Y >= 0
    same(estimator.transduction_[known], Y[known])
    same(estimator.transduction_[~known], estimator.predict(X)[~known])
    for net in estimator.submodels_:
        net.set_params(callbacks__Interrupt__step=None)
    assert estimator.fit(X, Y).n_iter_ == 5


class Fails(Callback):
    def __init__(self, method):
        self.method = method

    def fail(self, method, n_epochs):
        if method == self.method and n_epochs == 3:
            raise RuntimeError("a disk is full")

    def on_batch_end(self, net, **kwargs):
        self.fail("on_batch_end", len(net.history))

    def on_epoch_end(self, net, **kwargs):
        self.fail("on_epoch_end", len(net.history))

    def on_train_begin(self, net, **kwargs):
        self.fail("on_train_begin", len(net.history) + 1)


@pytest.mark.parametrize(
    ("method", "n_epochs"),
    [("on_train_begin", 2), ("on_batch_end", 2), ("on_epoch_end", 3)],
)
def test_a_callback_that_fails_leaves_a_consistent_estimator(method, n_epochs):
    estimator = tiny(warm_start=True, max_epochs=2).fit(X, Y)
    with pytest.raises(RuntimeError, match="disk is full"):
        estimator.set_params(callbacks=[Fails(method)]).fit(X, Y)
    assert estimator.n_iter_ == len(estimator.history_) == n_epochs
    for net in estimator.submodels_:
        assert [row["epoch"] for row in net.history] == [*range(1, n_epochs + 1)]
    for net in estimator.submodels_:
        assert not {"_tensors", "_ranks", "_best_averages"} & vars(net).keys()
    assert estimator.set_params(callbacks=None).fit(X, Y).n_iter_ == n_epochs + 2


class Distance(Callback):
    """Records how far an epoch is from the second, or ends the fit there."""

    def __init__(self, ends=False):
        self.ends = ends

    def on_epoch_end(self, net, **kwargs):
        epoch = len(net.history)
        net.history.record("distance", abs(epoch - 2))
        if self.ends and epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("ema_decay", [0.9, None])
@pytest.mark.parametrize("patience", [1, 10])
def test_early_stopping_loads_the_best_epoch(patience, ema_decay):
    """The weights and the averages are those at the end of that epoch."""
    params = {"max_epochs": 4, "ema_decay": ema_decay}
    until_then = tiny(callbacks=[Distance(ends=True)], **params).fit(X, Y)
    stop = EarlyStopping(monitor="distance", patience=patience, load_best=True)
    estimator = tiny(callbacks=[Distance(), stop], **params).fit(X, Y)
    assert estimator.n_iter_ == (3 if patience == 1 else 4)
    same(estimator.predict_proba(X), until_then.predict_proba(X))
    same(estimator.transduction_, until_then.transduction_)
    for net, other in zip(estimator.submodels_, until_then.submodels_, strict=True):
        for name in ("module_", "ema_module_"):
            states = [getattr(n, name).state_dict() for n in (net, other)]
            assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_early_stopping():
    # Of the loss, only a fall by more than 1e9 would count as progress.
    stop = EarlyStopping(
        monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs"
    )
    estimator = tiny(callbacks=[stop], max_epochs=10).fit(X, Y)
    assert estimator.n_iter_ == 3
    assert stop.misses_ == 0
    patient = EarlyStopping(monitor="train_loss", patience=20)
    assert tiny(callbacks=[patient], max_epochs=4).fit(X, Y).n_iter_ == 4


@pytest.mark.parametrize("net_params", [None, {"callbacks__schedule__gamma": 0.1}])
def test_a_scheduler_of_the_user_replaces_the_cosine(net_params):
    policy = torch.optim.lr_scheduler.StepLR
    schedule = LRScheduler(policy=policy, step_size=1, gamma=0.5)
    callbacks = [("schedule", schedule)]
    estimator = tiny(callbacks=callbacks, lr=0.1, max_epochs=3, net_params=net_params)
    gamma = 0.1 if net_params else 0.5
    for net in estimator.fit(X, Y).submodels_:
        rates = net.history[:, "event_lr"]
        np.testing.assert_allclose(rates, 0.1 * gamma ** np.arange(3))
        assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(0.1 * gamma**3)
    assert schedule.gamma == 0.5


class WithoutTensors(pickle.Pickler):
    """Refuses tensors, of which one on a GPU could not be read elsewhere."""

    def reducer_override(self, obj):
        assert not isinstance(obj, torch.Tensor)
        return NotImplemented


def test_callbacks_hold_no_tensors_after_the_fit():
    callbacks = [LRScheduler(), EarlyStopping("train_loss", load_best=True)]
    estimator = tiny(callbacks=callbacks).fit(X, Y)
    for net in estimator.submodels_:
        WithoutTensors(io.BytesIO()).dump(net.callbacks_)
    with pytest.raises(AssertionError):
        WithoutTensors(io.BytesIO()).dump(net.optimizer_)


def test_the_learning_rate_falls_along_a_cosine(fitted):
    for net in fitted.submodels_:
        rate = 0.002 * (1 + math.cos(math.pi * 5 / 6)) / 2  # the last of six steps
        assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(rate)


class Count(Callback):
    """Counts the calls of skorch's hooks."""

    def initialize(self):
        self.calls = Counter()
        return self

    def on_train_begin(self, net, **kwargs):
        self.calls["train begin"] += 1

    def on_train_end(self, net, **kwargs):
        self.calls["train end"] += 1

    def on_epoch_begin(self, net, **kwargs):
        self.calls["epoch begin"] += 1

    def on_epoch_end(self, net, **kwargs):
        self.calls["epoch end"] += 1

    def on_batch_begin(self, net, **kwargs):
        self.calls["batch begin"] += 1

    def on_batch_end(self, net, **kwargs):
        self.calls["batch end"] += 1

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.calls["gradient"] += 1
        self.names = [name for name, _ in named_parameters]


def test_callbacks_are_called_as_by_skorch():
    given = Count()
    estimator = tiny(callbacks=[("count", given)]).fit(X, Y)
    assert not hasattr(given, "calls")
    callbacks = [dict(net.callbacks_)["count"] for net in estimator.submodels_]
    assert callbacks[0] is not callbacks[1]
    for callback, net in zip(callbacks, estimator.submodels_, strict=True):
        ends = {f"{what} {end}" for what in ("train",) for end in ("begin", "end")}
        assert {callback.calls[name] for name in ends} == {1}
        assert callback.calls["epoch begin"] == callback.calls["epoch end"] == 2
        assert callback.calls["batch begin"] == callback.calls["batch end"] == 6
        assert callback.calls["gradient"] == 6
        assert callback.names == [name for name, _ in net.module_.named_parameters()]


def test_warm_start_goes_on():
    estimator = tiny(warm_start=True).fit(X, Y)
    nets, first = list(estimator.submodels_), list(estimator.history_)
    before = estimator.predict_proba(X)
    estimator.set_params(max_epochs=1).fit(X, Y)
    assert all(a is b for a, b in zip(estimator.submodels_, nets, strict=True))
    assert estimator.history_[:2] == first
    assert [row["epoch"] for row in estimator.history_] == [1, 2, 3]
    assert estimator.n_iter_ == 3
    assert not np.array_equal(estimator.predict_proba(X), before)
    assert [net.n_steps_ for net in nets] == [9, 9]
    estimator.set_params(warm_start=False).fit(X, Y)
    assert estimator.n_iter_ == 1
    assert estimator.submodels_[0] is not nets[0]


def test_warm_start_has_no_second_ramp():
    estimator = tiny(warm_start=True, rampup=1, negative_weight=0.5).fit(X, Y)
    assert estimator.history_[0]["negative_weight"] < 0.1
    for row in estimator.fit(X, Y).history_[2:]:
        assert row["negative_weight"] == 0.5


def test_warm_start_on_new_rows_with_classes_missing():
    estimator = tiny(warm_start=True, classes=[0, 1, 2]).fit(X, Y)
    same(estimator.fit(X, np.where(Y == 2, -1, Y)).classes_, [0, 1, 2])
    assert estimator.n_iter_ == 4


# Parts: modules, selections, optimizers, priors.


class Net(nn.Module):
    """Takes what is inferred, under other names; the head can be drawn anew."""

    def __init__(self, in_features, num_classes, hidden=6):
        super().__init__()
        self.body = nn.Linear(in_features, hidden)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, x):
        return self.head(self.body(x).relu())


class NetWithReset(Net):
    def reset_head(self):
        self.head.reset_parameters()


def make_net(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, n_classes))


class ImageNet(nn.Module):
    def __init__(self, image_shape, n_channels, n_classes):
        super().__init__()
        assert n_channels == image_shape[0]
        self.convolution = nn.Conv2d(n_channels, 4, 3)
        self.head = nn.Linear(4, n_classes)

    def forward(self, x):
        return self.head(self.convolution(x).amax(dim=(2, 3)))


@pytest.mark.parametrize(
    "module",
    ["auto", "mlp", Net, nn.Linear, make_net, functools.partial(Net, hidden=3)],
)
def test_modules_get_what_is_inferred(module):
    estimator = tiny(module=module, steps_per_epoch=30, lr=0.03).fit(X, Y)
    assert estimator.score(X, TRUTH) > 0.9
    first, second = (list(net.module_.parameters()) for net in estimator.submodels_)
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("module", ["auto", "cnn", ImageNet])
def test_modules_for_images(module):
    images = np.stack([IMAGES, -IMAGES], axis=1)
    estimator = tiny(module=module, image_shape=(2, 8, 8)).fit(images, Y)
    weight = next(estimator.submodels_[0].module_.parameters())
    assert weight.shape[1] == 2
    assert estimator.predict_proba(images).shape == (60, 3)


def test_auto_is_what_it_says(expected):
    same(predictions(module="mlp"), expected)
    assert not np.array_equal(predictions(module=nn.Linear), expected)
    cnn, auto = (tiny(module=m).fit(IMAGES, Y) for m in ("cnn", "auto"))
    same(cnn.predict_proba(IMAGES), auto.predict_proba(IMAGES))


def test_an_instance_is_copied_and_left_alone():
    module = Net(5, 3).eval()
    before = copy.deepcopy(module.state_dict())
    estimator = tiny(module=module, lr=1e-30, standardize=False).fit(X, Y)
    for net in estimator.submodels_:
        assert net.module_.network is not module
        for name, value in net.module_.network.state_dict().items():
            assert torch.equal(value, before[name])  # lr=1e-30 leaves it as it was
    with torch.no_grad():
        logits = module(torch.from_numpy(X)).softmax(dim=1)
    np.testing.assert_allclose(estimator.predict_proba(X), logits, rtol=1e-5)

    estimator.set_params(lr=0.1).fit(X, Y)
    bodies = [net.module_.network.body.weight for net in estimator.submodels_]
    assert not torch.equal(bodies[0], before["body.weight"])
    assert not torch.equal(*bodies)
    assert not module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_reset_head():
    module = NetWithReset(5, 3)
    before = copy.deepcopy(module.state_dict())
    estimator = tiny(module=module, lr=1e-30).fit(X, Y)
    networks = [net.module_.network for net in estimator.submodels_]
    for network in networks:
        assert torch.equal(network.body.weight, before["body.weight"])
        assert not torch.equal(network.head.weight, before["head.weight"])
    assert not torch.equal(networks[0].head.weight, networks[1].head.weight)
    assert torch.equal(module.head.weight, before["head.weight"])


def test_frozen_parameters_stay():
    module = Net(5, 3)
    module.body.requires_grad_(False)
    estimator = tiny(module=module, lr=0.1).fit(X, Y)
    for net in estimator.submodels_:
        assert torch.equal(net.module_.network.body.weight, module.body.weight)
        assert not torch.equal(net.module_.network.head.weight, module.head.weight)


def test_exchange():
    steps = {"simultaneous": [6, 6], "alternating": [3, 3]}
    for exchange, expected_steps in steps.items():
        estimator = tiny(exchange=exchange).fit(X, Y)
        assert [net.n_steps_ for net in estimator.submodels_] == expected_steps
    twin = supervised_baseline(estimator).fit(X, Y)
    assert [net.n_steps_ for net in twin.submodels_] == [3, 3]


@pytest.mark.parametrize(
    ("name", "selection"),
    [
        ("adaptive", AdaptiveNegatives(tolerance=0.05)),
        ("random", RandomNegatives(n_negatives=2)),
        ("lowest", LowestNegatives(n_negatives=2)),
    ],
)
def test_selections_by_name(name, selection):
    same(predictions(selection=name), predictions(selection=selection))


@pytest.mark.parametrize(
    "selection",
    [AdaptiveNegatives(0.3), RandomNegatives(1), LowestNegatives(1)],
    ids=repr,
)
def test_selections_learn(selection, expected):
    estimator = tiny(selection=selection, steps_per_epoch=25, lr=0.01).fit(X, Y)
    assert estimator.score(X, TRUTH) > 0.9
    if not isinstance(selection, AdaptiveNegatives):
        assert estimator.history_[-1]["negative_coverage"] == 1


def test_selection_may_be_any_callable():
    seen = []

    def least_probable(probabilities):
        seen.append(probabilities)
        mask = torch.zeros_like(probabilities, dtype=torch.bool)
        return mask.scatter_(1, probabilities.argmin(dim=1, keepdim=True), True)

    given = predictions(selection=least_probable)
    same(given, predictions(selection=LowestNegatives(n_negatives=1)))
    # It is tried once; then a call for each of two students in each of six steps.
    assert len(seen) == 13
    for probabilities in seen[1:]:
        assert probabilities.shape == (16, 3)
        assert not probabilities.requires_grad
        np.testing.assert_allclose(probabilities.sum(dim=1), 1, rtol=1e-5)


def test_two_classes():
    y = np.where(Y == 2, -1, Y)
    for selection in ["adaptive", "random", "lowest"]:
        estimator = tiny(selection=selection, steps_per_epoch=20, lr=0.01).fit(X, y)
        assert estimator.score(X, np.where(TRUTH == 2, -1, TRUTH)) > 0.9


def test_optimizer():
    params = {"optimizer": torch.optim.SGD, "lr": 0.1}
    net_params = {"optimizer__momentum": 0.9}
    estimator = tiny(**params, net_params=net_params).fit(X, Y)
    for net in estimator.submodels_:
        assert isinstance(net.optimizer_, torch.optim.SGD)
        assert net.optimizer_.param_groups[0]["momentum"] == 0.9
    assert not np.array_equal(estimator.predict_proba(X), predictions(**params))


def test_without_average():
    estimator = tiny(ema_decay=None).fit(X, Y)
    for net in estimator.submodels_:
        assert net.ema_module_ is net.module_
    x = torch.from_numpy(X)
    with torch.no_grad():
        logits = [net.module_.eval()(x) for net in estimator.submodels_]
    mean = torch.stack(logits).softmax(dim=2).mean(dim=0)
    np.testing.assert_allclose(estimator.predict_proba(X), mean, rtol=1e-5)
    same(predictions(ema_decay=0.0), estimator.predict_proba(X))


def test_average_of_weights():
    estimator = tiny(module=nn.Linear, ema_decay=0.9, max_epochs=1, steps_per_epoch=1)
    net = estimator.fit(X, Y).submodels_[0]
    fresh = tiny(module=nn.Linear, lr=1e-30, max_epochs=1, steps_per_epoch=1).fit(X, Y)
    start = fresh.submodels_[0].module_.network.weight
    now, average = net.module_.network.weight, net.ema_module_.network.weight
    share = 2 / 11  # of the old weights at the first step: (1 + 1) / (10 + 1)
    torch.testing.assert_close(average, share * start + (1 - share) * now)


def test_class_prior():
    y = np.where((Y == 2) & (np.arange(60) > 5), -1, Y)
    shares = np.bincount(y[y >= 0]) / np.sum(y >= 0)

    def fit(**params):
        return tiny(rampup=0, **params).fit(X, y).predict_proba(X)

    same(fit(class_prior="uniform"), fit(class_prior=[2, 2, 2]))
    same(fit(class_prior="labeled"), fit(class_prior=shares))
    same(fit(class_prior="labeled"), fit(class_prior=np.bincount(y[y >= 0])))
    by_class = dict(zip([2, 0, 1], shares[[2, 0, 1]], strict=True))
    same(fit(class_prior=shares), fit(class_prior=by_class))
    pandas = pytest.importorskip("pandas")
    same(fit(class_prior=shares), fit(class_prior=pandas.Series(by_class)))
    named = tiny(rampup=0, class_prior=pandas.Series(shares))
    same(
        fit(class_prior=shares),
        named.fit(X, np.array([*"abc", -1])[y]).predict_proba(X),
    )
    same(fit(class_prior=None), fit(balance_weight=0))
    different = [fit(class_prior=kind) for kind in ("uniform", "labeled", None)]
    for i, first in enumerate(different):
        for second in different[i + 1 :]:
            assert not np.array_equal(first, second)


def test_a_prior_draws_mean_predictions():
    options = {
        "rampup": 0,
        "lr": 0.02,
        "max_epochs": 4,
        "steps_per_epoch": 50,
        "graph": None,
    }
    estimator = tiny(class_prior=[0.8, 0.1, 0.1], **options).fit(X, Y)
    distribution = estimator.history_[-1]["class_distribution"]
    np.testing.assert_allclose(distribution, [0.8, 0.1, 0.1], atol=0.05)


def test_views_get_batches_in_the_units_of_the_inputs():
    seen = {"weak": [], "strong": []}

    def view(name):
        return lambda x: seen[name].append(x) or x

    tiny(weak_view=view("weak"), strong_view=view("strong")).fit(X, Y)
    rows = {row.tobytes() for row in X}
    for batches in seen.values():
        for batch in batches:
            assert {row.tobytes() for row in batch.numpy()} <= rows
    # They are tried on as many rows. One call for both pairs of student and partner:
    # 8 labeled samples, 16 unlabeled.
    assert {len(batch) for batch in seen["weak"][1:]} == {2 * (8 + 16)}
    assert {len(batch) for batch in seen["strong"][1:]} == {2 * 16}


@pytest.mark.parametrize("which", ["weak_view", "strong_view"])
@pytest.mark.parametrize("inputs", [X, IMAGES], ids=["table", "images"])
def test_a_view_that_writes_does_not_write_to_the_inputs(which, inputs):
    def halved(x):
        return x.mul_(0.5)

    inputs = inputs.astype(np.float32)
    kept = inputs.copy()
    inputs.flags.writeable = False
    tiny(**{which: halved}).fit(inputs, Y)
    same(inputs, kept)


def test_without_unlabeled_rows_a_strong_view_is_not_asked():
    sizes = []
    tiny(strong_view=lambda x: sizes.append(len(x)) or x).fit(X, TRUTH)
    assert len(sizes) == 1  # it is tried


class Witness(Callback):
    """Has a state that is no parameter, and records a column of its own."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(len(net.history))
        net.history.record("valid_f1", 1 / len(net.history))


def test_a_callback_may_have_a_state_and_record_columns():
    witness = Witness()
    stop = EarlyStopping("valid_f1", patience=1, lower_is_better=False)
    estimator = tiny(callbacks=[witness, ("stop", stop)], max_epochs=5).fit(X, Y)
    assert estimator.n_iter_ == 2
    assert not witness.seen
    seen = [dict(net.callbacks_)["Witness"].seen for net in estimator.submodels_]
    assert seen == [[1, 2], [1, 2]]


def test_entries_change_callbacks():
    def n_epochs(**entries):
        stop = EarlyStopping("train_loss", patience=1, threshold=1e9)
        stop.threshold_mode = "abs"
        model = tiny(callbacks=[("stop", stop)], max_epochs=5).set_params(**entries)
        return model.fit(X, Y).n_iter_

    assert n_epochs() == 2
    assert n_epochs(callbacks__stop__patience=3) == 4
    assert n_epochs(callbacks__stop=None) == 5
    assert n_epochs(callbacks__stop=None, callbacks__stop__patience=1) == 5
    other = EarlyStopping(
        "teacher_student_agreement", threshold=1e9, threshold_mode="abs"
    )
    assert n_epochs(callbacks__stop=other, callbacks__stop__patience=2) == 3


def test_a_scheduler_that_an_entry_puts_in_replaces_the_cosine():
    steady = LRScheduler(StepLR, step_size=100)
    named = [("schedule", EarlyStopping("train_loss"))]
    model = tiny(callbacks=named, net_params={"callbacks__schedule": steady}, lr=0.01)
    for net in model.fit(X, Y).submodels_:
        assert net.optimizer_.param_groups[0]["lr"] == 0.01
    model = tiny(callbacks=[("s", steady)], net_params={"callbacks__s": None}, lr=0.01)
    for net in model.fit(X, Y).submodels_:
        assert net.optimizer_.param_groups[0]["lr"] < 0.005


def test_callbacks_that_were_changed_are_renewed():
    stop = EarlyStopping("train_loss", patience=1, threshold=1e9, threshold_mode="abs")
    model = tiny(callbacks=[stop], warm_start=True, max_epochs=5).fit(X, Y)
    assert model.n_iter_ == 2
    stop.patience = 3
    assert model.fit(X, Y).n_iter_ == 2 + 4
    model.set_params(callbacks__EarlyStopping__patience=2)
    assert model.fit(X, Y).n_iter_ == 2 + 4 + 3


def test_what_callbacks_record_in_the_submodels_can_be_monitored():
    schedule = LRScheduler(StepLR, step_size=100)
    for monitor in ("dur", "event_lr"):
        stop = EarlyStopping(monitor, patience=9)
        assert tiny(callbacks=[schedule, stop]).fit(X, Y).n_iter_ == 2


@pytest.mark.parametrize("n_classes", [2, 10])
def test_views_and_selections_that_look_across_a_batch(n_classes):
    """They are tried on as many rows as a step has."""

    class Locked:
        def __init__(self):
            self.lock = threading.Lock()

        def __call__(self, probabilities):
            sure = probabilities.max(dim=1).values.topk(16).indices
            mask = probabilities < probabilities.mean(dim=1, keepdim=True)
            mask[sure] = mask[sure].clone()
            return mask

    def view(x):
        neighbors = torch.cdist(x, x).topk(30, largest=False).indices
        return x[neighbors[:, 1]]

    y = np.where(np.arange(60) < 20, np.arange(60) % n_classes, -1)
    tiny(selection=Locked(), weak_view=view, strong_view=view).fit(X, y)


def test_what_a_callback_can_monitor_is_in_the_history():
    watch = EarlyStopping("label_change")
    row = tiny(validation_fraction=0.5, callbacks=[watch]).fit(X, Y).history_[-1]
    numbers = [name for name, value in row.items() if not isinstance(value, list)]
    assert sorted([*COLUMNS, *VALIDATED, "label_change"]) == sorted(numbers)


# On a CUDA device.

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no CUDA device"
)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("inputs", [X, IMAGES], ids=["table", "images"])
def test_cuda(inputs):
    estimator = tiny(device="cuda", selection="random").fit(inputs, Y)
    for net in estimator.submodels_:
        assert next(net.module_.parameters()).is_cuda
    first = estimator.predict_proba(inputs)
    np.testing.assert_allclose(first.sum(axis=1), 1)
    before = torch.cuda.get_rng_state()
    copied = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_allclose(copied.predict_proba(inputs), first, atol=1e-4)
    refitted = estimator.fit(inputs, Y).predict_proba(inputs)
    np.testing.assert_allclose(refitted, first, atol=1e-3)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    "params",
    [
        {"consistency": "mean_teacher"},
        {"consistency": "dual_student"},
        {"strong_view": AdversarialView(noise=0.1)},
        {"weak_view": NeighborView(torch.from_numpy(X), n_neighbors=3)},
        {"strong_view": RandAugmentView()},
    ],
    ids=repr,
)
def test_companions_and_views_on_cuda(params):
    inputs = IMAGES if isinstance(params.get("strong_view"), RandAugmentView) else X
    estimator = tiny(device="cuda", **params).fit(inputs, Y)
    np.testing.assert_allclose(estimator.predict_proba(inputs).sum(axis=1), 1)


@pytest.mark.gpu
@needs_cuda
def test_predictions_and_measures_on_cuda(monkeypatch):
    """What is copied part by part is what is copied at once, and labels are of it."""
    excluded = np.zeros((len(Y), 3), dtype=bool)
    excluded[Y < 0, 1] = True
    watch = EarlyStopping("label_change")
    estimator = tiny(device="cuda", callbacks=[watch])
    estimator.fit(X, Y, X_val=X, y_val=TRUTH, negative_labels=excluded)
    assert {"valid_accuracy", "label_change"} <= estimator.history_[-1].keys()
    assert not (estimator.transduction_[Y < 0] == 1).any()
    expected = estimator.predict_proba(X)
    np.testing.assert_array_equal(estimator.predict(X), expected.argmax(axis=1))
    monkeypatch.setattr("pnl_sklearn.training._predict._N_HELD", 1)
    monkeypatch.setattr(
        "pnl_sklearn.estimator._classifier.chunks", lambda i, *_: [i[:9], i[9:]]
    )
    np.testing.assert_allclose(estimator.predict_proba(X), expected, atol=1e-4)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("params", [{}, {"callbacks": [LRScheduler()]}])
def test_cuda_model_loads_without_cuda(params, tmp_path):
    estimator = tiny(device="cuda", **params).fit(X, Y)
    (tmp_path / "estimator").write_bytes(pickle.dumps(estimator))
    np.save(tmp_path / "X.npy", X)
    code = """
import pickle, sys
import numpy as np
import torch

assert not torch.cuda.is_available()
with open(sys.argv[1] + "/estimator", "rb") as file:
    estimator = pickle.load(file)
X = np.load(sys.argv[1] + "/X.npy")
np.save(sys.argv[1] + "/probabilities.npy", estimator.predict_proba(X))
"""
    run_python(code, tmp_path, CUDA_VISIBLE_DEVICES="")
    given = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(given, estimator.predict_proba(X), atol=1e-4)
