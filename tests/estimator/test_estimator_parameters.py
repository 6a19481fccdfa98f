"""Parameters by name: get_params, set_params, clone, searches, documentation."""

import inspect
import re

import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from small_fits import X, Y, same, tiny
from torch import nn

from pnl_sklearn import (
    AdaptiveNegatives,
    DistributionAlignment,
    LowestNegatives,
    PNLClassifier,
    RandomNegatives,
)
from pnl_sklearn.graph import GraphPosterior
from pnl_sklearn.objectives import DualStudent, MeanTeacher


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
    estimator = clone(fitted)
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


OBJECTS = {
    "selection": AdaptiveNegatives(),
    "class_prior": DistributionAlignment(),
    "graph": GraphPosterior(),
    "consistency": MeanTeacher(),
}
SHORT_FORMS = {
    "selection": "adaptive",
    "class_prior": "auto",
    "graph": "auto",
    "consistency": "mean_teacher",
}


def nested_params(estimator):
    """Return the nested parameters alone, and none of `net_params`."""
    prefixes = tuple(f"{name}__" for name in OBJECTS)
    params = estimator.get_params()
    return {name: v for name, v in params.items() if name.startswith(prefixes)}


def test_get_params_of_short_forms_equals_that_of_objects():
    short, objects = tiny(**SHORT_FORMS), tiny(**OBJECTS)
    assert nested_params(short) == nested_params(objects)
    assert nested_params(short).keys() > {
        "selection__tolerance",
        "class_prior__weight",
        "graph__weight",
        "consistency__consistency_weight",
    }
    assert not [name for name in short.get_params(deep=False) if "__" in name]
    for prior in ([0.2, 0.3, 0.5], {0: 1, 1: 1, 2: 2}):
        params = tiny(class_prior=prior).get_params()
        assert params["class_prior__prior"] == prior
        assert params["class_prior__weight"] == DistributionAlignment().weight


def test_none_has_no_nested_parameters():
    off = tiny(class_prior=None, graph=None, consistency=None)
    names = {name.split("__")[0] for name in nested_params(off)}
    assert names == {"selection"}
    with pytest.raises(ValueError, match=r"graph=None has no param.*graph__weight"):
        off.set_params(graph__weight=1)
    off.set_params(graph="auto", graph__weight=2)
    assert off.graph.weight == 2


@pytest.mark.parametrize("name", OBJECTS)
def test_set_params_replaces_a_short_form_by_an_object(name):
    nested = {n: v for n, v in nested_params(tiny(**OBJECTS)).items() if name in n}
    estimator = tiny(**SHORT_FORMS).set_params(**nested)
    assert repr(getattr(estimator, name)) == repr(OBJECTS[name])
    assert type(getattr(estimator, name)) is type(OBJECTS[name])
    for other in OBJECTS.keys() - {name}:
        assert getattr(estimator, other) == SHORT_FORMS[other]


def test_set_params_repairs_an_unknown_name():
    estimator = tiny(selection="adaptiv")
    assert estimator.get_params()["selection"] == "adaptiv"
    with pytest.raises(ValueError, match=r"selection='adaptiv' is unknown.*'adaptive'"):
        estimator.set_params(selection__tolerance=0.1)
    estimator.set_params(selection="adaptive", selection__tolerance=0.1)
    assert estimator.selection.tolerance == 0.1


def test_clone_and_set_params_of_get_params_fit_the_same():
    original = tiny(**SHORT_FORMS, net_params={"module__hidden": 8})
    assert clone(original).get_params() == original.get_params()
    other = tiny(random_state=1).set_params(**original.get_params())
    assert nested_params(other) == nested_params(original)
    assert other.net_params == original.net_params
    expected = original.fit(X, Y).predict_proba(X)
    for estimator in (clone(original), other, clone(other)):
        same(estimator.fit(X, Y).predict_proba(X), expected)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("graph__weight", [0, 1]),
        ("selection__tolerance", [0.01, 0.5]),
        ("class_prior__weight", [0, 50]),
        ("consistency__consistency_weight", [0, 50]),
    ],
)
def test_grid_search_over_nested_parameters(name, values):
    short = {
        "consistency": "mean_teacher",
        "graph": "auto" if "graph" in name else None,
    }
    estimator = tiny(**short, max_epochs=1, rampup=0, class_prior="uniform")
    folds = StratifiedShuffleSplit(1, test_size=0.5, random_state=0)
    search = GridSearchCV(estimator, {name: values}, cv=folds, error_score="raise")
    search.fit(X, Y)
    assert search.cv_results_[f"param_{name}"].tolist() == values
    best = search.best_estimator_
    assert best.get_params()[name] == search.best_params_[name]
    assert estimator.get_params(deep=False)["selection"] == "adaptive"  # as it was
    (other,) = set(values) - {search.best_params_[name]}
    changed = clone(best).set_params(**{name: other}).fit(X, Y)
    assert (changed.predict_proba(X) != best.predict_proba(X)).any()


@pytest.mark.parametrize("params", [SHORT_FORMS, OBJECTS], ids=["names", "objects"])
def test_html_repr(params):
    html = tiny(**params)._repr_html_()
    assert "PNLClassifier" in html
    for name in params:
        assert name in html


# Documentation.

MAIN = [
    "module",
    "weak_view",
    "strong_view",
    "selection",
    "class_prior",
    "graph",
    "max_epochs",
    "batch_size",
    "lr",
    "class_weight",
    "device",
    "random_state",
    "verbose",
]


def signature_of(owner):
    parameters = inspect.signature(owner).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def documented(owner, section):
    """Return names and defaults of a section of a docstring."""
    pattern = rf"^{section}\n-+\n(.*?)(?=^[A-Z][\w ]+\n--|\Z)"
    found = re.search(pattern, inspect.getdoc(owner), re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^(\w[\w, ]*) : (.*)$", found[1], re.MULTILINE)
    return {
        name: types.split("default=")[-1]
        for names, types in entries
        for name in names.split(", ")
    }


def test_main_parameters_come_first_and_all_are_documented():
    names = list(signature_of(PNLClassifier))
    assert len(names) <= 32
    assert names[: len(MAIN)] == MAIN
    assert list(documented(PNLClassifier, "Parameters")) == MAIN
    others = documented(PNLClassifier, "Other Parameters")
    assert list(others) == names[len(MAIN) :]


@pytest.mark.parametrize(
    "owner",
    [
        PNLClassifier,
        AdaptiveNegatives,
        RandomNegatives,
        LowestNegatives,
        DistributionAlignment,
        GraphPosterior,
        MeanTeacher,
        DualStudent,
    ],
)
def test_documented_defaults_are_those_of_the_signature(owner):
    given = documented(owner, "Parameters")
    if owner is PNLClassifier:
        given |= documented(owner, "Other Parameters")
    adamw = repr(torch.optim.AdamW)
    defaults = {
        name: text.replace("torch.optim.AdamW", adamw).replace('"', "'")
        for name, text in given.items()
    }
    assert defaults == {n: repr(v) for n, v in signature_of(owner).items()}


@pytest.mark.parametrize(
    "method", ["fit", "predict", "predict_proba", "predict_log_proba", "score"]
)
def test_documented_arguments_are_those_of_the_method(method):
    method = getattr(PNLClassifier, method)
    given = list(documented(method, "Parameters"))
    assert ["self", *given] == list(signature_of(method))
