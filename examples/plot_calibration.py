"""
Probabilities to rely on
========================

Networks that teach each other grow sure of themselves, and of some mistakes. Labels
that the fit has not seen put that right, by one number: the temperature.
"""

# %%
# Expected calibration error
# --------------------------
# Of the predictions made with a confidence of 0.8, four of five should be right. Source
# are put into ten bins by confidence; the error is the mean distance between the
# confidence of a bin and its accuracy, weighted by the number of rows.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from pnl_sklearn import PNLClassifier
from pnl_sklearn.model_selection import hide_labels

parser = argparse.ArgumentParser()
parser.add_argument("--draws", type=int, default=10)
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()


def reliability(model, X, y):
    """Return confidence, accuracy and share of rows of ten bins."""
    probabilities = model.predict_proba(X)
    confidence = probabilities.max(axis=1)
    right = model.classes_[probabilities.argmax(axis=1)] == y
    bins = np.minimum((10 * confidence).astype(int), 9)
    counts = np.bincount(bins, minlength=10)
    sums = [np.bincount(bins, values, minlength=10) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):  # empty bins
        return sums[0] / counts, sums[1] / counts, counts / len(y)


def calibration_error(curve):
    """Return the mean distance between confidence and accuracy."""
    confidence, accuracy, share = curve
    return np.nansum(share * abs(confidence - accuracy))


# %%
# Before and after
# ----------------
# Digits as a table: twenty labels to learn from, and twenty or fifty more to find the
# temperature with. The model is frozen, so that ``cv`` has nothing to fit.

X, y = load_digits(return_X_y=True)
rows = []
for draw in range(100, 100 + options.draws):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=draw
    )
    few = hide_labels(y_train, n_labeled=20, random_state=draw)
    model = PNLClassifier(max_epochs=options.epochs, random_state=draw)
    model.fit(X_train, few)
    curves = [reliability(model, X_test, y_test)]
    pool = np.flatnonzero(few == -1)
    for n_held_out in (20, 50):
        drawn = hide_labels(y_train[pool], n_held_out, random_state=draw + 1)
        held_out = pool[drawn != -1]
        scaled = CalibratedClassifierCV(
            FrozenEstimator(model), method="temperature", cv=2
        ).fit(X_train[held_out], y_train[held_out])
        curves.append(reliability(scaled, X_test, y_test))
    rows.append([calibration_error(curve) for curve in curves])
    print(f"draw {draw}: " + " ".join(f"{e:.3f}" for e in rows[-1]), flush=True)

names = ["as it is", "scaled by 20 labels", "scaled by 50 labels"]
print("Expected calibration error, mean over draws")
print(pd.DataFrame(rows, columns=names).mean().round(3).to_string())

fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
for ax, curve, name in zip(axes, curves[::2], names[::2], strict=True):
    confidence, accuracy, share = curve
    ax.axline((0, 0), slope=1, color="0.6", lw=1)
    ax.plot(confidence, accuracy, color="C3", lw=1)
    ax.scatter(confidence, accuracy, s=600 * share + 4, color="C3", alpha=0.6)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence")
    ax.set_title(f"{name}: error {calibration_error(curve):.3f}")
axes[0].set_ylabel("accuracy (points by number of rows)")
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")
