"""
Calibrate the predicted probabilities
=====================================

This example shows how to calibrate a fitted classifier with a few held-out labels, and
how to measure whether that helped.

Semi-supervised classifiers learn from their own predictions. So their probabilities may
be too high: the classifier is overconfident. Temperature scaling corrects this. It
divides the logarithms of the probabilities by one number, the temperature. The
predicted classes stay the same.

:class:`~pnl_sklearn.PNLClassifier` does so itself for tables, by the accuracy that the
labels let expect (``temperature_``). Do held-out labels add to that?
"""

# %%
# Expected calibration error
# --------------------------
# The confidence of a prediction is the probability of the predicted class. A classifier
# is calibrated if the confidence equals the accuracy: of the predictions with a
# confidence of 0.8, four out of five are correct.
#
# To measure this, samples are put into ten bins by confidence. The expected calibration
# error is the difference between the mean confidence and the accuracy of a bin,
# averaged over the bins. Each bin is weighted by its number of samples.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from label_splits import make_label_split
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator

from pnl_sklearn import PNLClassifier
from pnl_sklearn.model_selection import hide_labels

parser = argparse.ArgumentParser()
parser.add_argument("--splits", type=int, default=10)
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()


def reliability(model, X, y):
    """Return confidence, accuracy and share of samples of ten bins."""
    probabilities = model.predict_proba(X)
    confidence = probabilities.max(axis=1)
    correct = model.classes_[probabilities.argmax(axis=1)] == y
    bins = np.minimum((10 * confidence).astype(int), 9)
    counts = np.bincount(bins, minlength=10)
    sums = [np.bincount(bins, values, minlength=10) for values in (confidence, correct)]
    with np.errstate(invalid="ignore"):  # empty bins
        return sums[0] / counts, sums[1] / counts, counts / len(y)


def calibration_error(curve):
    """Return the mean difference between confidence and accuracy."""
    confidence, accuracy, share = curve
    return np.nansum(share * abs(confidence - accuracy))


# %%
# Calibration
# -----------
# The classifier learns from twenty labels. Twenty or fifty other labels are held out
# from the fit and determine the temperature. ``FrozenEstimator`` keeps the classifier
# as it is, so that the calibration does not fit it again.
#
# The digits are samples of 64 features here. The results are the mean over several
# label splits. Each is made by ``make_label_split`` of ``examples/label_splits.py``: it
# splits off a test set and hides most labels.

X, y = load_digits(return_X_y=True)
errors = []
for seed in range(100, 100 + options.splits):
    X_train, X_test, y_train, y_test, y_few = make_label_split(X, y, 20, seed)
    model = PNLClassifier(max_epochs=options.epochs, random_state=seed)
    model.fit(X_train, y_few)
    curves = [reliability(model, X_test, y_test)]
    unlabeled = np.flatnonzero(y_few == -1)
    for n_held_out in (20, 50):
        kept = hide_labels(y_train[unlabeled], n_held_out, random_state=seed + 1)
        held_out = unlabeled[kept != -1]
        calibrated = CalibratedClassifierCV(
            FrozenEstimator(model), method="temperature", cv=2
        ).fit(X_train[held_out], y_train[held_out])
        curves.append(reliability(calibrated, X_test, y_test))
    errors.append([calibration_error(curve) for curve in curves])
    print(f"seed {seed}: " + " ".join(f"{e:.3f}" for e in errors[-1]), flush=True)

# %%
# Before and after
# ----------------
# With fifty held-out labels the error is about as low as before. With twenty the
# temperature is less exact, and the error rises. So these labels are better used in the
# fit. Images have no ``temperature_``: there, held-out labels can help.
#
# The figure shows the bins of the last label split. On the gray line confidence equals
# accuracy. Below the line the classifier is overconfident.

names = ["temperature_ only", "20 held-out labels", "50 held-out labels"]
print("Expected calibration error, mean over label splits")
print(pd.DataFrame(errors, columns=names).mean().round(3).to_string())

fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
for ax, curve, name in zip(axes, curves[::2], names[::2], strict=True):
    confidence, accuracy, share = curve
    ax.axline((0, 0), slope=1, color="0.6", lw=1)
    ax.plot(confidence, accuracy, color="C3", lw=1)
    ax.scatter(confidence, accuracy, s=300 * share + 6, color="C3", alpha=0.6)
    ax.set(xlim=(0, 1.05), ylim=(0, 1.05), xlabel="confidence")
    ax.set_title(f"{name}: error {calibration_error(curve):.3f}")
axes[0].set_ylabel("accuracy (area: number of samples)")
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_calibration.png
#     :alt: Reliability diagrams before and after calibration.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_calibration.png"
