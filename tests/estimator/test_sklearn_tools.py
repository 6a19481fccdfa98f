"""PNLClassifier in pipelines, searches and cross-validation."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_fits import TRUTH, X, Y, same, tiny


def test_pipeline_equals_its_steps():
    scaled = StandardScaler().fit_transform(X)
    pipeline = make_pipeline(StandardScaler(), tiny())
    pipeline.set_params(pnlclassifier__module__hidden=16).fit(X, Y)
    reference = tiny(net_params={"module__hidden": 16}).fit(scaled, Y)
    same(pipeline.predict_proba(X), reference.predict_proba(scaled))


@pytest.mark.smoke
def test_grid_search_scores_labeled_samples_only():
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
