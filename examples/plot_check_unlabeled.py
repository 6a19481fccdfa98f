"""
Find unlabeled samples of unknown classes
=========================================

This example shows how to find unlabeled samples that are of no labeled class, and how
to train when there are such samples.

Twenty images of the digits 0 to 4 are labeled. But the unlabeled images are of all ten
digits. A classifier assigns the digits 5 to 9 to wrong classes and learns from them.
"""

# %%
# Check the unlabeled data
# ------------------------
# :func:`~pnl_sklearn.inspection.check_unlabeled` computes the novelty of each sample by
# random walks on a kNN graph. The novelty is high if a walk from the sample seldom
# meets a labeled sample. A warning is issued if the novelty of many samples is high.
#
# Three fits are compared:
#
# - with all unlabeled samples;
# - with the weights of the report, which are low for samples of high novelty;
# - without the digits 5 to 9. This needs the hidden labels, so that it is only possible
#   in an experiment.
#
# The helper ``make_label_split`` of ``examples/label_splits.py`` splits off a test set
# and hides most labels.

import argparse
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from label_splits import make_label_split
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from pnl_sklearn import PNLClassifier, UnlabeledDataWarning
from pnl_sklearn.inspection import check_unlabeled

parser = argparse.ArgumentParser()
parser.add_argument("--splits", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()

images, y = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8)
results = []
for seed in range(100, 100 + options.splits):
    X, X_test, y_train, y_test, y_few = make_label_split(images, y, 40, seed)
    in_class, in_class_test = y_train < 5, y_test < 5
    y_few[~in_class] = -1  # twenty labels remain
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnlabeledDataWarning)
        report = check_unlabeled(X, y_few)
    print(caught[0].message if caught else "no warning")
    unlabeled = y_few == -1
    auc = roc_auc_score(~in_class[unlabeled], report.novelty[unlabeled])
    model = PNLClassifier(max_epochs=options.epochs, random_state=seed)
    X_test, y_test = X_test[in_class_test], y_test[in_class_test]
    scores = [
        model.fit(X, y_few).score(X_test, y_test),
        model.fit(X, y_few, unlabeled_weight=report.weights).score(X_test, y_test),
        model.fit(X[in_class], y_few[in_class]).score(X_test, y_test),
    ]
    errors = [100 * (1 - score) for score in scores]
    results.append([report.out_of_class, auc, *errors])
    print(f"seed {seed}: " + " ".join(f"{e:.2f}" for e in errors), flush=True)

# %%
# Test errors
# -----------
# The test images are those of the digits 0 to 4. The table also has the estimated share
# of unlabeled samples that are of no labeled class, and the area under the ROC curve
# (AUC) of the novelty.
#
# With the weights, the error is as low as without the digits 5 to 9. The difference to
# the fit with all unlabeled samples is small here.

names = ["all unlabeled", "weighted", "digits 0 to 4 only"]
table = pd.DataFrame(results, columns=["out of class", "AUC", *names])
print("Test error in % on the digits 0 to 4, mean over label splits")
print(table.mean().round(3).to_string())

# %%
# Novelty of the unlabeled images
# -------------------------------
# The novelty is higher for the images of the digits 5 to 9. The panel on the right
# shows the images of highest novelty, with their true labels.

fig = plt.figure(figsize=(10, 4), layout="constrained")
left, right = fig.subfigures(1, 2)
ax = left.subplots()
bins = np.linspace(0, np.quantile(report.novelty, 0.99), 40)
for mask, label in [(in_class, "digits 0 to 4"), (~in_class, "digits 5 to 9")]:
    ax.hist(report.novelty[unlabeled & mask], bins, alpha=0.6, label=label)
ax.set(xlabel="novelty", ylabel="unlabeled images", title="Novelty of the images")
ax.legend(frameon=False)
right.suptitle("The images of highest novelty", fontsize=12)
by_novelty = report.novelty.argsort()[::-1]
for ax, index in zip(right.subplots(3, 6).flat, by_novelty, strict=False):
    ax.imshow(X[index], cmap="gray_r")
    ax.set_title(y_train[index], fontsize=9)
    ax.set_axis_off()
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_check_unlabeled.png
#     :alt: Novelty of images of known and of unknown classes.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_check_unlabeled.png"
