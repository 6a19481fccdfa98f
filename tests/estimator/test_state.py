"""The state of a fit in pickles and in files of skops."""

import copy
import io
import pickle
import re

import numpy as np
import pytest
import torch
from skorch.callbacks import EarlyStopping
from small_fits import IMAGES, X, Y, same, tiny
from test_pickle import WithoutTensors
from torch import nn

from pnl_sklearn.estimator._state import fit_state, restore_fit


def state_of(estimator):
    return fit_state(estimator.submodels_, estimator._checkpoint)


@pytest.fixture
def state(fitted):
    return copy.deepcopy(state_of(fitted))


@pytest.mark.parametrize(
    "params", [{}, {"callbacks": [EarlyStopping("train_loss", load_best=True)]}]
)
def test_pickles_hold_no_tensors_and_little_more_than_the_weights(params):
    """The weights are stored four times: with their EMA and two moments of AdamW."""
    estimator = tiny(**params).fit(IMAGES, Y)
    file = io.BytesIO()
    WithoutTensors(file).dump(estimator)
    n_weights = sum(
        weight.numel()
        for submodel in estimator.submodels_
        for weight in submodel.module_.parameters()
    )
    assert file.tell() < 1.02 * 4 * 4 * n_weights


def narrow(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 8), nn.ReLU(), nn.Linear(8, n_classes))


MOMENTUM = {
    "optimizer__momentum": 0.9,
    "optimizer__param_groups": [("network.0.*", {"lr": 0.01})],
}


@pytest.mark.parametrize(
    "params",
    [
        {"module": narrow(5, 3)},
        {"module": narrow},
        {"module": narrow, "optimizer": torch.optim.SGD, "net_params": MOMENTUM},
    ],
    ids=["instance", "function", "SGD"],
)
def test_own_modules_and_optimizers_continue_alike(params):
    original = tiny(warm_start=True, **params).fit(X, Y)
    random_state = torch.get_rng_state()
    other = pickle.loads(pickle.dumps(original))
    assert torch.equal(torch.get_rng_state(), random_state)
    same(other.predict_proba(X), original.predict_proba(X))
    same(other.fit(X, Y).predict_proba(X), original.fit(X, Y).predict_proba(X))


def test_state_can_be_restored_twice(fitted, state, expected):
    for _ in range(2):
        submodels, checkpoint = restore_fit(state)
        restored = copy.copy(fitted)
        restored.submodels_, restored._checkpoint = submodels, checkpoint
        same(restored.predict_proba(X), expected)
        restored.set_params(warm_start=True).fit(X, Y)
    same(fitted.predict_proba(X), expected)


def test_device_that_is_not_available_is_replaced_by_the_cpu(fitted, expected):
    """A fit on the second GPU is loaded where there is none, and continued."""
    estimator = copy.deepcopy(fitted)
    for submodel in estimator.submodels_:
        submodel.device = "cuda:63"
    loaded = pickle.loads(pickle.dumps(estimator))
    assert [submodel.device for submodel in loaded.submodels_] == ["cpu", "cpu"]
    same(loaded.predict_proba(X), expected)
    loaded.set_params(warm_start=True, device="cpu").fit(X, Y)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.update(format_version=99), "format version 99, but .* reads 1"),
        (lambda s: s.pop("format_version"), "got an object of type dict"),
        (lambda s: s.pop("checkpoint"), "lacks 'checkpoint'"),
        (lambda s: s["submodels"][1].pop("weights"), "lacks 'weights'"),
        (lambda s: s["submodels"][1].update(module="cnn99"), "lacks 'cnn99'"),
        (
            lambda s: s["submodels"][0]["net_params"].update(module__hidden=3),
            "size mismatch for network.body.0.weight",
        ),
        (
            lambda s: s["submodels"][0]["weights"]["module_"].pop("network.head.bias"),
            "Missing key.*network.head.bias",
        ),
        (
            lambda s: s["submodels"][0]["weights"]["optimizer_"].update(state=3),
            "damaged",
        ),
    ],
)
def test_damaged_state_is_refused(damage, message, fitted, state):
    damage(state)
    loaded = fitted.__getstate__() | {"submodels_": state}
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        copy.copy(fitted).__setstate__(loaded)


def test_foreign_state_is_refused(fitted):
    loaded = fitted.__getstate__() | {"submodels_": fitted.submodels_}
    with pytest.raises(ValueError, match="got an object of type list"):
        copy.copy(fitted).__setstate__(loaded)


def test_parameters_of_later_versions_have_their_defaults(fitted, expected):
    loaded, state = copy.copy(fitted), fitted.__getstate__()
    del state["compile"]
    loaded.__setstate__(state)
    assert loaded.get_params()["compile"] == "auto"
    same(loaded.predict_proba(X), expected)


class Fails(EarlyStopping):
    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("a disk is full")


def test_estimator_of_a_failed_fit_is_pickled_as_unfitted():
    estimator = tiny(callbacks=[Fails("train_loss")])
    with pytest.raises(RuntimeError, match="disk is full"):
        estimator.fit(X, Y)
    loaded = pickle.loads(pickle.dumps(estimator))
    assert not loaded.__sklearn_is_fitted__()
    assert loaded.set_params(callbacks=None).fit(X, Y).n_iter_ == 2


# What the guide says.
TRUSTED = [
    "pnl_sklearn.estimator._classifier.PNLClassifier",
    "pnl_sklearn.evidence._evidence.Evidence",
    "torch.optim.adamw.AdamW",
]


@pytest.mark.parametrize("inputs", [X, IMAGES], ids=["table", "images"])
@pytest.mark.parametrize("labels", [Y, np.array(["-1", "a", "b", "c"])[Y + 1]])
def test_skops_round_trip(inputs, labels):
    skops = pytest.importorskip("skops.io")
    original = tiny(warm_start="resume", max_epochs=1).fit(inputs, labels)
    file = skops.dumps(original)
    assert skops.get_untrusted_types(data=file) == TRUSTED
    other = skops.loads(file, trusted=TRUSTED)
    same(other.predict(inputs), original.predict(inputs))
    same(other.transduction_, original.transduction_)
    assert str(other.evidence_) == str(original.evidence_)
    for estimator in (original, other):
        estimator.set_params(max_epochs=2).fit(inputs, labels)
    same(other.predict_proba(inputs), original.predict_proba(inputs))
