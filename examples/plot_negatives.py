"""
How often is a pseudo-negative label right?
===========================================

The method rests on one claim: "this is not a 7" is right far more often than "this is a
3". Here it is checked epoch by epoch, on digits of which twenty are labeled. The labels
of the others are hidden from ``fit``, but not from the one who looks on: a skorch
callback that asks each network for its pseudo-labels, and its pseudo-negative labels,
at the end of each epoch.
"""

# %%
# Looking on
# ----------
# A callback sees the net it belongs to. A selection turns its probabilities into a mask
# of negative labels. Asked are the averaged weights, since to ask the network as it
# trains would leave traces in its batch normalization.

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


class Onlooker(Callback):
    """Collect how often labels of each kind are right, of the rows not labeled."""

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
                row[f"{name}: labels a row"] = negatives.sum() / len(truth)
        self.rows.append({name: float(value) for name, value in row.items()})


# %%
# One fit
# -------
# Each submodel gets a copy of the callback, so the rows are collected in a list of our
# own, outside of it.


class Seen(list):
    """A list that stays the same one when a callback is copied."""

    def __deepcopy__(self, memo):
        return self


seen = Seen()
PNLClassifier(
    max_epochs=options.epochs, callbacks=[Onlooker(seen)], random_state=100
).fit(images, y_few)
shares = pd.DataFrame(seen)
shares["epoch"] = np.arange(len(shares)) // 2 + 1  # of two submodels
shares = shares.groupby("epoch").mean()
print((100 * shares[["pseudo-label", *selections]]).round(2).to_string())

# %%
# How often they are wrong, and how much they say
# -----------------------------------------------
# Every kind of negative label is right more often than the pseudo-label, but they do
# not say the same. Two labels of nine say little. The adaptive selection names as many
# as the network is sure of: soon nine, for most digits.

styles = {"random, m = 2": "C0s-", "lowest, m = 2": "C1^-", "adaptive": "C3D-"}
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
wrong = 100 * (1 - shares)
left.plot(wrong["pseudo-label"], "ko-", label="pseudo-label", markersize=4)
for name, style in styles.items():
    left.plot(wrong[name], style, label=name, markersize=4)
    n_labels = shares[f"{name}: labels a row"]
    right.plot(n_labels, style, label=name, markersize=4)
left.set_yscale("symlog", linthresh=0.01)
left.set(xlabel="epoch", ylabel="wrong labels (%)", title="How often a label is wrong")
right.set(xlabel="epoch", ylabel="negative labels a row", title="How much they say")
right.set_ylim(0, 9.2)
fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")
