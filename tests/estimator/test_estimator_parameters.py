"""Parameters by name: get_params, set_params, clone, searches, documentation."""

import pytest
from sklearn.base import clone
from small_fits import X, Y, tiny
from torch import nn

from pnl_sklearn import AdaptiveNegatives, LowestNegatives, RandomNegatives


def test_get_params_lists_nested_parameters():
    estimator = tiny(selection=LowestNegatives(), net_params={"module__hidden": 8})
    params = estimator.get_params()
    assert params["module__hidden"] == 8
    assert params["selection__n_negatives"] == 2
    assert params["selection"] is estimator.selection
    shallow = estimator.get_params(deep=False)
    assert not {"module__hidden", "selection__n_negatives"} & set(shallow)


def test_set_params_leaves_the_given_net_params_unchanged():
    given = {"module__hidden": 8, "optimizer__weight_decay": 0.1}
    estimator = tiny(net_params=given)
    assert estimator.set_params(module__hidden=16, lr=0.1) is estimator
    assert given == {"module__hidden": 8, "optimizer__weight_decay": 0.1}
    assert estimator.net_params == given | {"module__hidden": 16}
    assert estimator.lr == 0.1


@pytest.mark.parametrize(
    ("name", "kind"), [("adaptive", AdaptiveNegatives), ("random", RandomNegatives)]
)
def test_set_params_of_a_selection_in_short_form(name, kind):
    parameter = "tolerance" if name == "adaptive" else "n_negatives"
    estimator = tiny(selection=name).set_params(**{f"selection__{parameter}": 1})
    assert isinstance(estimator.selection, kind)
    assert clone(estimator).get_params()[f"selection__{parameter}"] == 1
    estimator.set_params(selection="lowest", selection__n_negatives=3)
    assert isinstance(estimator.selection, LowestNegatives)
    assert estimator.selection.n_negatives == 3


def test_net_params_reach_the_submodels():
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
