"""
How often is a pseudo-negative label right?
===========================================

This example shows that pseudo-negative labels are right far more often than
pseudo-labels. It also shows how to measure such a quantity during training with a
skorch callback.

A pseudo-label says "this is a 3", and a pseudo-negative label says "this is not a 7".
The data are digits of which twenty are labeled. ``fit`` does not get the other labels.
Only the callback has them. At the end of each epoch it compares them with the
predictions of both submodels.
"""

# %%
# A callback
# ----------
# A callback gets the submodel that it belongs to. The submodel predicts with the
# exponential moving average (EMA) of its weights. A selection maps the predicted
# probabilities to a mask of pseudo-negative labels. Three selections are compared:
#
# - "random" selects two random classes other than the predicted one;
# - "lowest" selects the two classes with the lowest probabilities;
# - "adaptive", the default, selects all classes but the most probable ones, whose
#   probabilities add up to at least 0.95.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from skorch.callbacks import Callback

from pnl_sklearn import (
    AdaptiveNegatives,
    LowestNegatives,
    PNLClassifier,
    RandomNegatives,
)
from pnl_sklearn.model_selection import hide_labels

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()

images, y = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8)
y_few = hide_labels(y, n_labeled=20, random_state=100)
unlabeled = y_few == -1

selections = {
    "random": RandomNegatives(n_negatives=2),
    "lowest": LowestNegatives(n_negatives=2),
    "adaptive": AdaptiveNegatives(),
}


class Precision(Callback):
    """Collect the precision of labels of each kind, on unlabeled data."""

    def __init__(self, rows):
        self.rows = rows

    def on_epoch_end(self, net, **kwargs):
        x = images[unlabeled, None].astype(np.float32)
        predicted = torch.tensor(net.predict_proba(x))
        truth = torch.tensor(y[unlabeled])
        with torch.random.fork_rng():
            row = {"pseudo-label": (predicted.argmax(dim=1) == truth).float().mean()}
            for name, select in selections.items():
                negatives = select(predicted)
                wrong = negatives.gather(1, truth[:, None]).sum()
                row[name] = 1 - wrong / negatives.sum().clamp(min=1)
                row[f"{name}: labels per sample"] = negatives.sum() / len(truth)
        self.rows.append({name: float(value) for name, value in row.items()})


# %%
# One fit
# -------
# The callback is called at the end of each epoch, and collects its results in a list.

rows = []
PNLClassifier(
    max_epochs=options.epochs, callbacks=[Precision(rows)], random_state=100
).fit(images, y_few)
means = pd.DataFrame(rows)
means.index += 1
print((100 * means[["pseudo-label", *selections]]).round(2).to_string())

# %%
# Errors and number of labels
# ---------------------------
# With every selection, pseudo-negative labels are wrong far less often than
# pseudo-labels (left). The selections differ in the number of labels (right). "Random"
# and "lowest" select two classes of each sample. "Adaptive" selects the more classes,
# the more certain the predictions are.

styles = {"random": "C0s-", "lowest": "C1^--", "adaptive": "C3D-"}
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
wrong = 100 * (1 - means)
left.plot(wrong["pseudo-label"], "ko-", label="pseudo-label", markersize=4)
for name, style in styles.items():
    left.plot(wrong[name], style, label=name, markersize=4)
    n_labels = means[f"{name}: labels per sample"]
    right.plot(n_labels, style, label=name, markersize=4)
left.set_yscale("symlog", linthresh=0.01)
left.set_yticks([0, 0.01, 0.1, 1, 10], ["0", "0.01", "0.1", "1", "10"])
left.set(xlabel="epoch", ylabel="wrong labels (%)", title="Errors of labels")
right.set(xlabel="epoch", ylabel="pseudo-negative labels per sample")
right.set_title("Number of labels")
right.set_ylim(0, 9.2)
fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_negatives.png
#     :alt: Errors and number of pseudo-negative labels by epoch.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_negatives.png"
