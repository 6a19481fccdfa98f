"""supervised_baseline: the same training without the unlabeled terms."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_fits import X, Y, same, tiny
from torch import nn

from pnl_sklearn import supervised_baseline


def equal_with_unlabeled_moved(**params):
    """Yield, for classifier and baseline, if unlabeled samples make no difference.

    No layer of the network mixes samples.
    """
    moved = np.where((Y < 0)[:, None], 3 * X + 1, X)
    estimator = tiny(module=nn.Linear, standardize=False, strong_view=None, **params)
    for model in (estimator, supervised_baseline(estimator)):
        first = model.fit(X, Y).predict_proba(X)
        yield np.array_equal(first, model.fit(moved, Y).predict_proba(X))


def test_unlabeled_samples_do_not_change_the_supervised_baseline():
    given, baseline = equal_with_unlabeled_moved()
    assert not given
    assert baseline


@pytest.mark.parametrize(
    "params",
    [{"consistency": "mean_teacher"}, {"graph": "auto", "selection": "random"}],
)
def test_supervised_baseline_has_the_supervised_loss_only(params):
    estimator = tiny(**params).fit(X, Y)
    baseline = supervised_baseline(estimator)
    assert not hasattr(baseline, "submodels_")
    off = {"negative_weight": 0, "class_prior": None, "consistency": None}
    assert (
        baseline.get_params(deep=False).keys()
        == estimator.get_params(deep=False).keys()
    )
    assert baseline.get_params() | off == baseline.get_params()
    baseline.fit(X, Y)
    for row in baseline.history_:
        assert row["train_loss"] == row["supervised_loss"]
    steps = [net.n_steps_ for net in estimator.submodels_]
    assert [net.n_steps_ for net in baseline.submodels_] == steps


def test_supervised_baseline_of_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), tiny()).fit(X, Y)
    baseline = supervised_baseline(pipeline)
    assert baseline[-1].get_params() == supervised_baseline(tiny()).get_params()
    assert baseline[0] is not pipeline[0]
    assert pipeline[-1].negative_weight == 1  # as it was
    expected = supervised_baseline(tiny()).fit(StandardScaler().fit_transform(X), Y)
    scaled = pipeline[0].transform(X)
    same(baseline.fit(X, Y).predict_proba(X), expected.predict_proba(scaled))


def test_without_unlabeled_samples_the_default_is_its_baseline():
    y = np.arange(60) % 3
    baseline = supervised_baseline(tiny(graph="auto")).fit(X, y)
    same(tiny(graph="auto").fit(X, y).predict_proba(X), baseline.predict_proba(X))
