"""Warnings name the line of the user's code, however deep they are issued."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from pnl_sklearn import PNLClassifier

X = np.random.default_rng(0).normal(size=(30, 3)) + 1e9
Y = np.where(np.arange(30) < 6, np.arange(30) % 2, -1)


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_warnings_of_fit_name_its_caller(in_pipeline):
    model = PNLClassifier(max_epochs=1, steps_per_epoch=1, graph=None, random_state=0)
    if in_pipeline:
        model = make_pipeline(FunctionTransformer(), model)
    with pytest.warns(UserWarning, match="vary by less than a millionth") as caught:
        model.fit(X, Y)
    assert caught[0].filename == __file__
