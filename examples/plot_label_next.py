"""
Choose samples to label, and find wrong labels
==============================================

This example shows how to choose the samples to label next (active learning), and how to
find labels that are probably wrong.
"""

# %%
# Twenty more labels
# ------------------
# Twenty digits are labeled, and there is time to label twenty more.
# :func:`~pnl_sklearn.inspection.rank_for_labeling` returns the indices of samples for
# which the predictions of the two submodels differ. A fit with the labels of these
# samples is compared with a fit with twenty more random labels.
#
# Some classes get more of the chosen labels than others.
# ``class_weight="balanced"`` gives all classes the same weight in the loss, so that no
# class is lost.
#
# The helper ``make_label_split`` of ``examples/label_splits.py`` splits off a test set
# and hides most labels.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from label_splits import make_label_split
from sklearn.datasets import load_digits
from sklearn.semi_supervised import LabelSpreading

from pnl_sklearn import PNLClassifier
from pnl_sklearn.inspection import find_label_issues, rank_for_labeling
from pnl_sklearn.model_selection import hide_labels

parser = argparse.ArgumentParser()
parser.add_argument("--splits", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()

images, y = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8)
results = []
for seed in range(100, 100 + options.splits):
    X, X_test, y_train, y_test, y_few = make_label_split(images, y, 20, seed)
    unlabeled = np.flatnonzero(y_few == -1)
    model = PNLClassifier(
        max_epochs=options.epochs, class_weight="balanced", random_state=seed
    )
    errors = [1 - model.fit(X, y_few).score(X_test, y_test)]
    chosen = rank_for_labeling(model, X[unlabeled], n_instances=20, random_state=seed)
    chosen = unlabeled[chosen]
    at_random = np.random.default_rng(seed).choice(unlabeled, size=20, replace=False)
    for indices in (chosen, at_random):
        y_more = y_few.copy()
        y_more[indices] = y_train[indices]
        errors.append(1 - model.fit(X, y_more).score(X_test, y_test))
    results.append(errors)
    print(f"seed {seed}: " + " ".join(f"{100 * e:.2f}" for e in errors), flush=True)

names = ["20 labels", "20 + 20 chosen", "20 + 20 at random"]
table = 100 * pd.DataFrame(results, columns=names)
print("Test error in %, mean over label splits")
print(table.mean().round(2).to_string())

# %%
# Wrong labels
# ------------
# Here 200 digits are labeled, and we replace twenty labels by wrong ones.
# :func:`~pnl_sklearn.inspection.find_label_issues` returns the labels that differ from
# the out-of-fold prediction. The largest difference comes first. The function works
# with any semi-supervised classifier. LabelSpreading is a fast one.

y_few = hide_labels(y, n_labeled=200, random_state=0)
labeled = np.flatnonzero(y_few != -1)
rng = np.random.default_rng(0)
wrong = rng.choice(labeled, size=20, replace=False)
y_few[wrong] = (y_few[wrong] + rng.integers(1, 10, size=20)) % 10
spreading = LabelSpreading(kernel="knn", n_neighbors=7, alpha=0.5, max_iter=1000)
issues = find_label_issues(spreading, images.reshape(len(y), -1), y_few).indices
found = np.isin(issues, wrong)
print(
    f"{len(issues)} labels differ from the prediction; of the 20 wrong ones "
    f"{found.sum()} are among them, {found[:20].sum()} among the first 20"
)

# %%
# Results
# -------
# In the left panel a thin line is a label split and a thick line is the mean. The
# chosen labels lower the error more than random labels. The right panel shows the first
# labels that differ from the prediction. Most of them are wrong.

fig = plt.figure(figsize=(10, 4), layout="constrained")
left, right = fig.subfigures(1, 2)
ax = left.subplots()
for name, color, label in [(names[1], "C3", "chosen"), (names[2], "C0", "at random")]:
    pairs = table[[names[0], name]].T
    ax.plot([20, 40], pairs, color=color, lw=0.8, alpha=0.6)
    ax.plot([20, 40], pairs.mean(axis=1), color=color, marker="o", lw=2, label=label)
ax.set(xticks=[20, 40], xlabel="labels", ylabel="test error (%)")
ax.set_title("Twenty more labels")
ax.legend(frameon=False)
right.suptitle("Labels that differ from the prediction (red: wrong)", fontsize=12)
for ax, index in zip(right.subplots(3, 4).flat, issues, strict=False):
    ax.imshow(images[index], cmap="gray_r")
    color = "C3" if index in wrong else "k"
    ax.set_title(f"label {y_few[index]}", color=color, fontsize=9)
for ax in right.axes:
    ax.set_axis_off()
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_label_next.png
#     :alt: Test errors with chosen and with random labels, and doubtful labels.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_label_next.png"
