"""fit: random numbers, sample weights, few labeled or unlabeled samples."""

import copy
import random

import joblib
import numpy as np
import pytest
import torch
from sklearn.utils import compute_sample_weight
from small_fits import IMAGES, TRUTH, X, Y, predictions, same, tiny
from torch import nn
from torch.utils.data import TensorDataset


@pytest.mark.parametrize(
    "params",
    [
        {"graph": "auto"},
        {"selection": "random"},
        {"exchange": "alternating"},
        {"module": nn.Linear},
    ],
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


def fit_and_predict(inputs, n_threads):
    torch.set_num_threads(n_threads)
    return tiny(graph="auto").fit(inputs, Y).predict_proba(inputs)


def test_another_process_gives_the_same_bits():
    inputs, n_threads = [X, IMAGES], torch.get_num_threads()
    call = joblib.delayed(fit_and_predict)
    for x, given in zip(
        inputs, joblib.Parallel(2)(call(x, n_threads) for x in inputs), strict=True
    ):
        same(given, fit_and_predict(x, n_threads))


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
    estimator = tiny(selection="random", graph="auto").fit(inputs, Y)
    assert states() == before
    estimator.predict(inputs)
    assert states() == before


def test_sample_weight_of_unlabeled_samples_and_scale_are_ignored():
    weights = np.where(Y < 0, np.arange(60), 2.0)
    estimator = tiny(graph="auto").fit(X, Y, sample_weight=weights)
    same(estimator.predict_proba(X), predictions(graph="auto"))


def test_sample_of_weight_zero_has_no_label():
    weights = np.ones(60)
    weights[0] = 0
    given = []
    estimator = tiny(graph="auto")
    for label in range(3):
        y = Y.copy()
        y[0] = label
        given.append(estimator.fit(X, y, sample_weight=weights).predict_proba(X))
    same(given[0], given[1])
    same(given[0], given[2])
    assert not np.array_equal(given[0], predictions(graph="auto"))


def test_class_weight_equals_sample_weight(expected):
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


@pytest.mark.parametrize("inputs", [X, IMAGES + 3 * TRUTH[:, None, None]])
def test_all_samples_labeled(inputs):
    options = {"weak_view": None, "steps_per_epoch": 10, "lr": 0.01}
    estimator = tiny(**options).fit(inputs, TRUTH)
    assert estimator.score(inputs, TRUTH) > 0.9
    same(estimator.transduction_, TRUTH)
    for row in estimator.history_:
        assert row["train_loss"] == row["supervised_loss"]


def test_one_unlabeled_sample():
    y = np.where(np.arange(60) == 7, -1, TRUTH)
    estimator = tiny(graph="auto", steps_per_epoch=15, lr=0.01).fit(X, y)
    assert estimator.score(X, TRUTH) > 0.9


def test_one_labeled_sample_per_step():
    estimator = tiny(labeled_batch_size=1, steps_per_epoch=15, lr=0.01).fit(X, Y)
    assert estimator.score(X, TRUTH) > 0.9


def test_fit_in_inference_mode(expected):
    with torch.inference_mode():
        x = torch.from_numpy(X) * 1
        same(tiny().fit(x, Y).predict_proba(x), expected)
        assert torch.is_inference_mode_enabled()
        module = torch.nn.Linear(5, 3)
    same(predictions(module=module), predictions(module=copy.deepcopy(module)))


@pytest.mark.parametrize("name", ["sample_weight", "unlabeled_weight"])
@pytest.mark.parametrize("scale", [5e-324, 2.0**1020])
def test_weights_of_any_scale_give_the_same_fit(name, scale):
    weights = np.arange(60) % 4 + 1.0
    expected, found = (
        tiny().fit(X, Y, **{name: w}).predict_proba(X)
        for w in (weights, weights * scale)
    )
    same(found, expected)
