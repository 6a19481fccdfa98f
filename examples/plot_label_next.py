"""
What to label next
==================

Twenty digits are labeled, and there is time for twenty more. Which? And which of the
labels there are should be looked at again?
"""

# %%
# Twenty more labels
# ------------------
# :func:`~pnl_sklearn.inspection.rank_for_labeling` names digits on which the two networks disagree.
# They are labeled, and a new classifier is fitted; beside it one with twenty more
# labels drawn at random. Labels asked for so are of unequal classes, mostly of those
# that are hard to tell; ``class_weight="balanced"`` keeps the others from being lost.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.semi_supervised import LabelSpreading

from pnl_sklearn import PNLClassifier
from pnl_sklearn.inspection import find_label_issues, rank_for_labeling
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
    few = hide_labels(y_train, n_labeled=20, random_state=draw)
    pool = np.flatnonzero(few == -1)
    model = PNLClassifier(
        max_epochs=options.epochs, class_weight="balanced", random_state=draw
    )
    errors = [1 - model.fit(X, few).score(X_test, y_test)]
    chosen = pool[rank_for_labeling(model, X[pool], n_instances=20, random_state=draw)]
    drawn = np.random.default_rng(draw).choice(pool, size=20, replace=False)
    for more in (chosen, drawn):
        asked = few.copy()
        asked[more] = y_train[more]
        errors.append(1 - model.fit(X, asked).score(X_test, y_test))
    rows.append(errors)
    print(f"draw {draw}: " + " ".join(f"{100 * e:.2f}" for e in errors), flush=True)

names = ["20 labels", "20 + 20 chosen", "20 + 20 at random"]
table = 100 * pd.DataFrame(rows, columns=names)
print("Test error in %, mean over draws")
print(table.mean().round(2).to_string())

# %%
# Labels to doubt
# ---------------
# Of 200 labels 20 are made wrong. :func:`~pnl_sklearn.inspection.find_label_issues` lists
# those that a fit without them disputes. The graph of LabelSpreading takes a second.

few = hide_labels(y, n_labeled=200, random_state=0)
labeled = np.flatnonzero(few != -1)
rng = np.random.default_rng(0)
wrong = rng.choice(labeled, size=20, replace=False)
few[wrong] = (few[wrong] + rng.integers(1, 10, size=20)) % 10
spreading = LabelSpreading(kernel="knn", n_neighbors=7, alpha=0.5, max_iter=1000)
suspects = find_label_issues(spreading, images.reshape(len(y), -1), few).rows
found = np.isin(suspects, wrong)
print(
    f"{len(suspects)} labels are disputed; of the 20 wrong ones {found.sum()} are "
    f"among them, {found[:20].sum()} among the first 20"
)

fig = plt.figure(figsize=(10, 4), layout="constrained")
left, right = fig.subfigures(1, 2)
ax = left.subplots()
for name, color, words in [(names[1], "C3", "chosen"), (names[2], "C0", "at random")]:
    pairs = table[[names[0], name]].T
    ax.plot([20, 40], pairs, color=color, lw=0.8, alpha=0.6)
    ax.plot([20, 40], pairs.mean(axis=1), color=color, marker="o", lw=2, label=words)
ax.set(xticks=[20, 40], xlabel="labels", ylabel="test error (%)")
ax.set_title("Twenty more labels")
ax.legend(frameon=False)
right.suptitle("The labels most in doubt (red: wrong)", fontsize=12)
for ax, row in zip(right.subplots(2, 6).flat, suspects, strict=False):
    ax.imshow(images[row], cmap="gray_r")
    ax.set_title(f"“{few[row]}”", color="C3" if row in wrong else "k", fontsize=9)
for ax in right.axes:
    ax.set_axis_off()
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")
