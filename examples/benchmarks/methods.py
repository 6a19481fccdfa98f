"""The methods: (setting, estimator) pairs that are run on the same label splits."""

from dataclasses import replace

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from pnl_sklearn import PNLClassifier, paper_style, supervised_baseline
from pnl_sklearn.estimator._networks import check_device
from pnl_sklearn.estimator._trainer import steps_per_epoch
from pnl_sklearn.views import ImageView

from .study import FACTORS, ConfidentPseudoLabels, variations

TITLES = {
    "default": "PNLClassifier()",
    "best": "best setting found",
    "baseline": "supervised baseline",
    "paper_style": "paper style",
    "paper_style_small": "paper style, small network",
    "all_labels": "supervised, all labels",
    "pseudo_labels": "confident pseudo-labels (0.95)",
    "mean_teacher": "Mean Teacher alone",
    "dual_student": "Dual Student alone",
    "label_spreading": "LabelSpreading",
    "self_training": "SelfTrainingClassifier",
    "logistic": "LogisticRegression",
}
# Methods that the reported results are about; the others explain them.
REPORTED = ["default", "baseline", "paper_style"]


def estimators(method, task, data, split, device="auto"):
    """Return the (setting, estimator) pairs of a method, for a label split."""
    if method == "label_spreading":
        return list(_label_spreading(task))
    if method == "self_training":
        return list(_self_training(task))
    if method == "logistic":
        return [("", _logistic(data.y_few))]
    common = {"random_state": split, "device": device} | task.params
    if check_device(device).startswith("cuda"):
        common |= task.cuda
    default = PNLClassifier(**common)
    off = {"negative_weight": 0, "class_prior": None}
    n_steps = steps_per_epoch(default, data.y_few)
    if method in FACTORS:
        return variations(method, default, data, is_large=task.large)
    if method == "default":
        estimator = default
    elif method == "best":
        estimator = default.set_params(**task.best)
    elif method == "baseline":
        estimator = supervised_baseline(default)
    elif method == "all_labels":
        # The labeled samples take the place of the unlabeled ones in each step.
        sizes = {"labeled_batch_size": default.batch_size, "steps_per_epoch": n_steps}
        estimator = supervised_baseline(default).set_params(**sizes)
    elif method == "pseudo_labels":
        rule = {"selection": ConfidentPseudoLabels(), "class_prior": None}
        estimator = PNLClassifier(**common | rule | {"graph": None})
    elif method in ("mean_teacher", "dual_student"):
        estimator = PNLClassifier(**common | off | {"consistency": method})
    elif method in ("paper_style", "paper_style_small"):
        length = {"max_epochs": default.max_epochs, "steps_per_epoch": n_steps}
        estimator = paper_style(task.style).set_params(
            random_state=split, device=device, **length
        )
        if method == "paper_style_small":
            estimator = _with_small_network(estimator)
    else:
        raise SystemExit(f"unknown method {method!r}; there are: {', '.join(TITLES)}")
    return [("", estimator)]


def _with_small_network(estimator):
    """Replace cnn13, which takes too long on a CPU, by the default network."""
    params = estimator.net_params
    noise = ImageView(noise=params.get("module__noise", 0.0))
    return estimator.set_params(
        module="auto",
        net_params={n: v for n, v in params.items() if not n.startswith("module__")},
        lr=paper_style("digits").lr,
        weak_view=estimator.weak_view or noise,
        strong_view=estimator.strong_view or noise,
    )


def _flat(scaled):
    """Return a transformer of samples to flat features, standardized or not."""
    flatten = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    return make_pipeline(flatten, StandardScaler() if scaled else "passthrough")


def _logistic(y):
    """Return a logistic regression on the labels, with C by cross-validation of them.

    Self-training without iterations leaves the unlabeled samples out.
    """
    n_folds = min(5, np.bincount(y[y >= 0]).min())
    logistic = LogisticRegression(max_iter=1000)
    if n_folds > 1:
        grid = {"C": [0.001, 0.01, 0.1, 1.0, 10.0]}
        logistic = GridSearchCV(logistic, grid, scoring="neg_log_loss", cv=n_folds)
    return make_pipeline(_flat(True), SelfTrainingClassifier(logistic, max_iter=0))


def _label_spreading(task):
    alphas = (0.2, 0.9) if task.large else (0.2, 0.5, 0.9, 0.99)
    common = {"max_iter": 500, "tol": 1e-2}
    images = task.large and task.style != "table"
    for scaled in (False,) if images else (False, True):
        form = "scaled" if scaled else "raw"
        for alpha in alphas:
            for k in (7, 20) if task.large else (5, 7, 10):
                spreading = LabelSpreading(
                    kernel="knn", n_neighbors=k, alpha=alpha, **common
                )
                setting = f"{form}, knn {k}, alpha {alpha}"
                yield setting, make_pipeline(_flat(scaled), spreading)
            if task.large:  # the graph would be dense
                continue
            for gamma in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0):
                spreading = LabelSpreading(gamma=gamma, alpha=alpha, **common)
                setting = f"{form}, rbf {gamma}, alpha {alpha}"
                yield setting, make_pipeline(_flat(scaled), spreading)


def _self_training(task):
    for threshold in (0.9,) if task.large else (0.6, 0.75, 0.9):
        logistic = LogisticRegression(max_iter=task.max_iter)
        forest = RandomForestClassifier(200, random_state=0)
        for name, base in [("logistic", logistic), ("forest", forest)]:
            training = SelfTrainingClassifier(base, threshold=threshold)
            yield f"{name}, {threshold}", make_pipeline(_flat(True), training)


def quick(task):
    """Return a version of the task that takes seconds."""
    module = {"module": "cnn"} if task.params.get("module") else {}
    short = {"max_epochs": 2, "steps_per_epoch": 60}
    style = "table" if task.style == "table" else "digits"
    params = task.params | module | short
    return replace(task, params=params, cuda={}, style=style, large=True, max_iter=50)
