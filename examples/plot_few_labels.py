"""
Cross-validation with few labels
================================

This example shows how to estimate the accuracy of a semi-supervised classifier, and
whether the unlabeled data raised it. scikit-learn's cross-validation treats -1, the
mark of an unlabeled sample, as a class, so that its scores mean nothing. With
:class:`~pnl_sklearn.model_selection.SemiSupervisedSplit` test sets are labeled.
"""

# %%
# Three estimators
# ----------------
# Each digit is a sample of 64 features, since not all estimators accept images.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    RepeatedStratifiedKFold,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from pnl_sklearn import PNLClassifier
from pnl_sklearn.inspection import unlabeled_gain
from pnl_sklearn.model_selection import SemiSupervisedSplit, hide_labels

parser = argparse.ArgumentParser()
parser.add_argument("--splits", type=int, default=3)
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()

logistic = LogisticRegression(max_iter=1000)
self_training = make_pipeline(StandardScaler(), SelfTrainingClassifier(logistic))
searches = {
    "PNLClassifier": (
        PNLClassifier(max_epochs=options.epochs),
        {"selection__tolerance": [0.05], "random_state": [0]},
    ),
    "LabelSpreading": (
        LabelSpreading(kernel="knn", max_iter=1000),
        {"n_neighbors": [7, 10], "alpha": [0.2, 0.9]},
    ),
    "SelfTraining": (self_training, {"selftrainingclassifier__threshold": [0.75, 0.9]}),
}

# %%
# Score of the search and test accuracy
# -------------------------------------
# For each label split, a search reports the mean cross-validated score of its best
# parameters. The truth is the accuracy of the refitted model on a test set. "Naive" is
# the same search with scikit-learn's default splitter, whose test sets are mostly -1.

X, y = load_digits(return_X_y=True)
results = []
for seed in range(100, 100 + options.splits):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=seed
    )
    y_few = hide_labels(y_train, n_labeled=60, random_state=seed)
    for name, (estimator, grid) in searches.items():
        search = GridSearchCV(estimator, grid, cv=SemiSupervisedSplit(5))
        search.fit(X_train, y_few)
        truth = search.score(X_test, y_test)
        results.append([name, search.best_score_, truth])
        print(
            f"seed {seed}, {name}: {search.best_score_:.3f}, truth {truth:.3f}",
            flush=True,
        )
    naive = GridSearchCV(self_training, searches["SelfTraining"][1]).fit(X_train, y_few)
    truth = naive.score(X_test, y_test)
    results.append(["SelfTraining, naive", naive.best_score_, truth])

table = pd.DataFrame(results, columns=["model", "reported", "truth"])
table["difference"] = table["reported"] - table["truth"]
means = table.groupby("model").mean()
print(means.round(3).to_string())

# %%
# Did the unlabeled data help?
# ----------------------------
# :func:`~pnl_sklearn.inspection.unlabeled_gain` compares the estimator on the same
# folds with a supervised baseline, which learns from the labeled samples only.

folds = RepeatedStratifiedKFold(n_splits=3, n_repeats=5, random_state=0)
gain = unlabeled_gain(
    LabelSpreading(kernel="knn", n_neighbors=7, alpha=0.9, max_iter=1000),
    X_train,
    y_few,
    baseline=make_pipeline(StandardScaler(), logistic),
    cv=folds,
)
print("LabelSpreading against logistic regression:", gain)

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for (name, of_model), mark in zip(table.groupby("model"), "osD^", strict=True):
    left.scatter(of_model["truth"], of_model["reported"], marker=mark, label=name)
left.axline((0.9, 0.9), slope=1, color="0.6", lw=1)
left.set(xlabel="test accuracy", ylabel="score of the search")
left.set(xlim=(0.75, 1), ylim=(0, 1.02), title="Scores from 60 labels")
left.legend(frameon=False)
gain.plot(right)
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")
