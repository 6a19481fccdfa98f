"""
Trusting a score of few labels
==============================

Sixty digits of 1,257 are labeled. How good is a model on new digits? scikit-learn's
cross-validation takes -1, the mark of an unlabeled row, for a class, and answers with a
number that means nothing. Tested on labeled rows only, and trained with all others, the
same models are scored as they will do.
"""

# %%
# Three estimators
# ----------------
# Digits as a table, so that all take the same rows.

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
parser.add_argument("--draws", type=int, default=3)
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()

logistic = LogisticRegression(max_iter=1000)
training = make_pipeline(StandardScaler(), SelfTrainingClassifier(logistic))
searches = {
    "PNLClassifier": (
        PNLClassifier(max_epochs=options.epochs),
        {"selection__tolerance": [0.05], "random_state": [0]},
    ),
    "LabelSpreading": (
        LabelSpreading(kernel="knn", max_iter=1000),
        {"n_neighbors": [7, 10], "alpha": [0.2, 0.9]},
    ),
    "SelfTraining": (training, {"selftrainingclassifier__threshold": [0.75, 0.9]}),
}

# %%
# What is reported, and what is true
# ----------------------------------
# For each draw of labels a search reports the mean score of its best setting. The truth
# is the accuracy of the model it ends with, on 540 digits kept apart. "Naive" is the
# search as it comes, where a fold is as likely -1 as the pool is.

X, y = load_digits(return_X_y=True)
rows = []
for draw in range(100, 100 + options.draws):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=draw
    )
    y_few = hide_labels(y_train, n_labeled=60, random_state=draw)
    for name, (estimator, grid) in searches.items():
        search = GridSearchCV(estimator, grid, cv=SemiSupervisedSplit(5))
        search.fit(X_train, y_few)
        truth = search.score(X_test, y_test)
        rows.append([name, draw, search.best_score_, truth])
        print(f"draw {draw}, {name}: {rows[-1][2]:.3f}, truth {truth:.3f}", flush=True)
    naive = GridSearchCV(training, searches["SelfTraining"][1]).fit(X_train, y_few)
    truth = naive.score(X_test, y_test)
    rows.append(["SelfTraining, naive", draw, naive.best_score_, truth])

table = pd.DataFrame(rows, columns=["model", "draw", "reported", "truth"])
table["difference"] = table["reported"] - table["truth"]
means = table.drop(columns="draw").groupby("model").mean()
print(means.round(3).to_string())

# %%
# Did the unlabeled rows help?
# ----------------------------
# :func:`~pnl_sklearn.inspection.unlabeled_gain` compares with a classifier that learns
# the labeled rows only, on the same folds.

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
left.set(xlabel="accuracy on new digits", ylabel="score reported by the search")
left.set(xlim=(0.75, 1), ylim=(0, 1.02), title="Scores from 60 labels")
left.legend(frameon=False)
gain.plot(right)
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")
