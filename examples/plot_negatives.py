"""
How often is a pseudo-negative label right?
===========================================

This example measures the precision of pseudo-negative labels during training, and shows
how to write a skorch callback that does so.

The method is based on one assumption: a pseudo-negative label ("this is not a 7") is
right far more often than a pseudo-label ("this is a 3"). We test it on digits of which
twenty are labeled. ``fit`` does not get the labels of the unlabeled data. The callback
has them, and compares them with the predictions of each network at the end of each
epoch.
"""

# %%
# A callback
# ----------
# A callback gets the submodel that it belongs to. A selection maps the predicted
# probabilities to a mask of negative labels. The predictions are those of the
# exponential moving average (EMA) of the weights.

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

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
options = parser.parse_args()

images, y = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8)
rng = np.random.default_rng(100)
labeled = np.concatenate(
    [rng.permutation(np.flatnonzero(y == k))[:2] for k in range(10)]
)
y_few = np.full_like(y, -1)
y_few[labeled] = y[labeled]
unlabeled = y_few == -1

selections = {
    "random, m = 2": RandomNegatives(n_negatives=2),
    "lowest, m = 2": LowestNegatives(n_negatives=2),
    "adaptive": AdaptiveNegatives(),
}


class Precision(Callback):
    """Collect the precision of labels of each kind, on unlabeled data."""

    def __init__(self, rows):
        self.rows = rows

    def on_epoch_end(self, net, **kwargs):
        x = torch.tensor(images[unlabeled, None], device=net.device).float()
        truth = torch.tensor(y[unlabeled], device=net.device)
        with torch.random.fork_rng():
            predicted = net.log_probabilities(x).exp()
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
# Each submodel gets a copy of the callback. So the results are collected in a list that
# all copies share.


class SharedList(list):
    """A list that is shared by the copies of a callback."""

    def __deepcopy__(self, memo):
        return self


rows = SharedList()
PNLClassifier(
    max_epochs=options.epochs, callbacks=[Precision(rows)], random_state=100
).fit(images, y_few)
means = pd.DataFrame(rows)
means["epoch"] = np.arange(len(means)) // 2 + 1  # two submodels per epoch
means = means.groupby("epoch").mean()
print((100 * means[["pseudo-label", *selections]]).round(2).to_string())

# %%
# Errors and number of labels
# ---------------------------
# Negative labels of every selection are right more often than the pseudo-label. But the
# selections differ in how many labels they give. Random and lowest selection give two
# per sample. Adaptive selection gives as many as the network is sure of.

styles = {"random, m = 2": "C0s-", "lowest, m = 2": "C1^-", "adaptive": "C3D-"}
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
wrong = 100 * (1 - means)
left.plot(wrong["pseudo-label"], "ko-", label="pseudo-label", markersize=4)
for name, style in styles.items():
    left.plot(wrong[name], style, label=name, markersize=4)
    n_labels = means[f"{name}: labels per sample"]
    right.plot(n_labels, style, label=name, markersize=4)
left.set_yscale("symlog", linthresh=0.01)
left.set(xlabel="epoch", ylabel="wrong labels (%)", title="Errors of labels")
right.set(xlabel="epoch", ylabel="negative labels per sample", title="Number of labels")
right.set_ylim(0, 9.2)
fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")
