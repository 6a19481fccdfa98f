"""Fits on a CUDA device."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from skorch.callbacks import EarlyStopping, LRScheduler
from small_fits import IMAGES, TRUTH, X, Y, tiny

from pnl_sklearn.views import AdversarialView, NeighborView, RandAugmentView

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no CUDA device"
)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("inputs", [X, IMAGES], ids=["table", "images"])
def test_refit_and_pickle_on_cuda(inputs):
    estimator = tiny(device="cuda", graph="auto", selection="random").fit(inputs, Y)
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
def test_consistency_and_views_on_cuda(params):
    inputs = IMAGES if isinstance(params.get("strong_view"), RandAugmentView) else X
    estimator = tiny(device="cuda", graph="auto", **params).fit(inputs, Y)
    np.testing.assert_allclose(estimator.predict_proba(inputs).sum(axis=1), 1)


@pytest.mark.gpu
@needs_cuda
def test_predictions_and_metrics_on_cuda(monkeypatch):
    """Predictions copied in several parts equal those copied at once."""
    excluded = np.zeros((len(Y), 3), dtype=bool)
    excluded[Y < 0, 1] = True
    watch = EarlyStopping("label_change")
    estimator = tiny(device="cuda", graph="auto", callbacks=[watch])
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
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"callbacks": [LRScheduler()]},
        {"weak_view": NeighborView(torch.from_numpy(X), n_neighbors=3)},
    ],
)
def test_cuda_model_loads_without_cuda(params, tmp_path):
    estimator = tiny(device="cuda", graph="auto", **params).fit(X, Y)
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
    subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        check=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    given = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(given, estimator.predict_proba(X), atol=1e-4)
