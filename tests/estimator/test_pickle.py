"""Copies of a fitted classifier: pickle, joblib, deepcopy."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import torch
from skorch.callbacks import EarlyStopping, LRScheduler
from small_fits import IMAGES, X, Y, same, tiny


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
@pytest.mark.parametrize("params", [{"graph": "auto"}, {"ema_decay": None}], ids=repr)
def test_copies_predict_and_continue_alike(copied, params, tmp_path):
    original = tiny(warm_start=True, **params).fit(X, Y)
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
