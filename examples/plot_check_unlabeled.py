"""
Unlabeled rows of other classes
===============================

Twenty images of the digits 0 to 4 are labeled, but the pool of unlabeled images holds
all ten digits. A classifier presses the strangers into the classes that it knows. Can
they be told before?
"""

# %%
# Asking the pool
# ---------------
# :func:`~pnl_sklearn.inspection.check_unlabeled` follows walks from neighbor to neighbor.
# Source from which no walk meets a label are novel. It warns if there are many.
#
# Then three fits: with the whole pool, with the weights of the report, and, what nobody
# can do who has no labels, with the strangers taken out.

import argparse
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from pnl_sklearn import PNLClassifier, UnlabeledDataWarning
from pnl_sklearn.inspection import check_unlabeled
from pnl_sklearn.model_selection import hide_labels

parser = argparse.ArgumentParser()
parser.add_argument("--draws", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()

images, y = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8)
rows = []
for draw in range(100, 100 + options.draws):
    X, X_test, y_train, y_test = train_test_split(
        images, y, test_size=0.3, stratify=y, random_state=draw
    )
    known, known_test = y_train < 5, y_test < 5
    few = hide_labels(np.where(known, y_train, -1), 20, random_state=draw)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnlabeledDataWarning)
        report = check_unlabeled(X, few)
    print(caught[0].message if caught else "no warning")
    pool = few == -1
    auc = roc_auc_score(~known[pool], report.novelty[pool])
    model = PNLClassifier(max_epochs=options.epochs, random_state=draw)
    fits = [
        model.fit(X, few).score(X_test[known_test], y_test[known_test]),
        model.fit(X, few, unlabeled_weight=report.weights).score(
            X_test[known_test], y_test[known_test]
        ),
        model.fit(X[known], few[known]).score(X_test[known_test], y_test[known_test]),
    ]
    errors = [100 * (1 - score) for score in fits]
    rows.append([report.outside, auc, *errors])
    print(f"draw {draw}: " + " ".join(f"{e:.2f}" for e in errors), flush=True)

names = ["whole pool", "weighted", "without strangers"]
table = pd.DataFrame(rows, columns=["outside", "AUC", *names])
print("Test error in % on the digits 0 to 4, mean over draws")
print(table.mean().round(3).to_string())

# %%
# What is novel
# -------------

fig = plt.figure(figsize=(10, 4), layout="constrained")
left, right = fig.subfigures(1, 2)
ax = left.subplots()
bins = np.linspace(0, np.quantile(report.novelty, 0.99), 40)
for mask, label in [(pool & known, "digits 0 to 4"), (pool & ~known, "digits 5 to 9")]:
    ax.hist(report.novelty[mask], bins, alpha=0.6, label=label)
ax.set(xlabel="novelty", ylabel="unlabeled images", title="Far from every label")
ax.legend(frameon=False)
right.suptitle("The most novel images", fontsize=12)
most_novel = report.novelty.argsort()[::-1]
for ax, row in zip(right.subplots(3, 6).flat, most_novel, strict=False):
    ax.imshow(X[row], cmap="gray_r")
    ax.set_title(y_train[row], fontsize=9)
    ax.set_axis_off()
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")
