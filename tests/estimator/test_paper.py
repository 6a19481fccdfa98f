"""paper_style: each number against the public scripts."""

import numpy as np
import pytest
import torch

from pnl_sklearn import PNLClassifier, RandomNegatives, paper_style


def test_numbers_of_the_public_scripts():
    classifier = paper_style("cifar10")
    assert isinstance(classifier, PNLClassifier)
    assert classifier.module == "cnn13"
    assert isinstance(classifier.selection, RandomNegatives)
    assert classifier.selection.n_negatives == 2
    assert classifier.optimizer is torch.optim.SGD
    assert classifier.lr == 0.1
    assert classifier.net_params == {
        "module__second_head": True,
        "optimizer__momentum": 0.9,
        "optimizer__nesterov": True,
        "optimizer__weight_decay": 1e-4,
    }
    assert (classifier.batch_size, classifier.labeled_batch_size) == (50, 50)
    assert classifier.max_epochs == 100
    assert classifier.negative_weight == 2
    assert classifier.rampup * classifier.max_epochs == pytest.approx(16)
    assert classifier.consistency == "dual_student"
    assert classifier.class_prior is None
    assert classifier.graph is None
    assert classifier.weak_view == classifier.strong_view
    assert classifier.strong_view.shift * 32 == 4
    assert classifier.strong_view.flip


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        ("cifar10", (3, 32, 32)),
        ("mnist", (1, 28, 28)),
        ("mnist_plain", (1, 28, 28)),
        ("digits", (1, 8, 8)),
        ("table", (5,)),
    ],
)
def test_paper_style_of_every_task_fits(task, shape):
    X = np.random.default_rng(0).random((6, *shape), dtype=np.float32)
    y = np.array([0, 1, -1, -1, -1, -1])
    sizes = {"batch_size": 2, "labeled_batch_size": 2}
    short = {"max_epochs": 1, "steps_per_epoch": 1, "random_state": 0}
    classifier = paper_style(task).set_params(**sizes, **short).fit(X, y)
    assert classifier.predict_proba(X).shape == (6, 2)
    if task == "mnist_plain":
        assert classifier.submodels_[0].module_.network.noise == 0.15
        assert classifier.weak_view is None


def test_unknown_task_is_refused():
    with pytest.raises(ValueError, match="'task' parameter of paper_style must be"):
        paper_style("imagenet")
