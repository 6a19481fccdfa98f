"""
Cross-validation with few labels
================================

This example shows how to cross-validate a semi-supervised classifier, and how to find
out whether the unlabeled data raised its accuracy.

An unlabeled sample has the label -1. scikit-learn's cross-validation treats -1 as a
class, so that its scores are wrong. The test sets of
:class:`~pnl_sklearn.model_selection.SemiSupervisedSplit` contain labeled samples only.
"""

# %%
# Three estimators
# ----------------
# Three semi-supervised classifiers are fitted to scikit-learn's digits, each with a
# small grid of parameters. A digit is a sample of 64 features here, since two of the
# classifiers do not accept images.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from label_splits import make_label_split
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from pnl_sklearn import PNLClassifier
from pnl_sklearn.inspection import unlabeled_gain
from pnl_sklearn.model_selection import SemiSupervisedSplit

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
# For each label split, a grid search reports the cross-validated score of its best
# parameters. The table compares this score with the accuracy of the refitted model on
# the test set. ``make_label_split`` of ``examples/label_splits.py`` splits off the test
# set and keeps 60 labels of the training set.
#
# "Naive" is a search with scikit-learn's default splitter. Most samples of its test
# sets are unlabeled, and any prediction for them counts as an error. So the reported
# score is near zero, although the model is accurate.

X, y = load_digits(return_X_y=True)
results = []
for seed in range(100, 100 + options.splits):
    X_train, X_test, _, y_test, y_few = make_label_split(X, y, 60, seed)
    for name, (estimator, grid) in searches.items():
        search = GridSearchCV(estimator, grid, cv=SemiSupervisedSplit(5))
        search.fit(X_train, y_few)
        test = search.score(X_test, y_test)
        results.append([name, search.best_score_, test])
        print(
            f"seed {seed}, {name}: score {search.best_score_:.3f}, test {test:.3f}",
            flush=True,
        )
    naive = GridSearchCV(self_training, searches["SelfTraining"][1]).fit(X_train, y_few)
    test = naive.score(X_test, y_test)
    results.append(["SelfTraining, naive", naive.best_score_, test])

table = pd.DataFrame(results, columns=["model", "score", "test"])
table["difference"] = table["score"] - table["test"]
means = table.groupby("model").mean()
print(means.round(3).to_string())

# %%
# Did the unlabeled data help?
# ----------------------------
# :func:`~pnl_sklearn.inspection.unlabeled_gain` compares a classifier on the same folds
# with a supervised baseline, which learns from the labeled samples only. The gain is
# the mean difference of their scores. It comes with a confidence interval.

folds = RepeatedStratifiedKFold(n_splits=3, n_repeats=5, random_state=0)
gain = unlabeled_gain(
    LabelSpreading(kernel="knn", n_neighbors=7, alpha=0.9, max_iter=1000),
    X_train,
    y_few,
    baseline=make_pipeline(StandardScaler(), logistic),
    cv=folds,
)
print("LabelSpreading against logistic regression:", gain)

# %%
# The left panel compares the scores of the searches with the accuracy on the test set.
# On the gray line they are equal. The right panel shows the scores behind the gain. A
# gray line is a fold, and the red line is the mean.

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for (name, of_model), mark in zip(table.groupby("model"), "osD^", strict=True):
    left.scatter(of_model["test"], of_model["score"], marker=mark, label=name)
left.axline((0.9, 0.9), slope=1, color="0.6", lw=1)
left.set(xlabel="accuracy on the test set", ylabel="score of the search")
left.set(xlim=(0.75, 1), ylim=(0, 1.02), title="Scores from 60 labels")
left.legend(frameon=False)
gain.plot(right)
right.set_title(f"LabelSpreading: {right.get_title()}", fontsize=12)
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_few_labels.png
#     :alt: Scores of searches beside test accuracies, and the gain from unlabeled data.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_few_labels.png"
