"""
Learn from classes that a sample is not
=======================================

This example shows how to train with ``negative_labels``, and how much they lower the
error compared with labels.

A negative label says that a sample is not of a class. For example, a person may not
recognize a digit, but see that it is not a 1.
"""

# %%
# Labels and negative labels
# --------------------------
# Twenty digits are labeled. Other digits, chosen at random, then get either a label, or
# one negative label, or five of them. Negative labels are random classes other than the
# class of the digit. They are given to ``fit`` as a mask of shape (n_samples,
# n_classes).
#
# The helper ``make_label_split`` of ``examples/label_splits.py`` splits off a test set
# and hides most labels.

import argparse
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from label_splits import make_label_split
from sklearn.datasets import load_digits

from pnl_sklearn import PNLClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--splits", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--digits", type=int, nargs="+", default=[100, 300, 1000])
options = parser.parse_args()

X, y = load_digits(return_X_y=True)
kinds = {"label": 0, "1 negative label": 1, "5 negative labels": 5}
results = []
for seed in range(100, 100 + options.splits):
    X_train, X_test, y_train, y_test, y_few = make_label_split(X, y, 20, seed)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.flatnonzero(y_few == -1))
    # The classes in random order, the true class last.
    order = rng.random((len(y_train), 10))
    order[np.arange(len(y_train)), y_train] = 1
    others = order.argsort(axis=1)
    model = PNLClassifier(max_epochs=options.epochs, random_state=seed)
    error = 100 * (1 - model.fit(X_train, y_few).score(X_test, y_test))
    results += [[0, kind, error] for kind in kinds]
    for n, (kind, n_negatives) in product(options.digits, kinds.items()):
        answered = chosen[:n]
        labels = y_few.copy()
        if kind == "label":
            labels[answered] = y_train[answered]
        mask = np.zeros((len(y_train), 10), dtype=bool)
        mask[answered[:, None], others[answered, :n_negatives]] = True
        model.fit(X_train, labels, negative_labels=mask)
        results.append([n, kind, 100 * (1 - model.score(X_test, y_test))])
    print(f"seed {seed} done", flush=True)

# %%
# Test errors
# -----------
# The table and the figure show the test error by the number of digits that get a label
# or negative labels. In the figure a small dot is a label split.
#
# A label lowers the error most, since it excludes all other classes. Five negative
# labels of a digit also lower it. A single one has little effect: most often it
# excludes a class that the classifier would not predict anyway. So negative labels are
# useful if several are given, and if the label is unknown or expensive.

table = pd.DataFrame(results, columns=["digits", "kind", "error"])
means = table.pivot_table(index="digits", columns="kind", values="error")[[*kinds]]
print("Test error in %, mean over label splits")
print(means.round(2).to_string())

fig, ax = plt.subplots(figsize=(9.5, 4), layout="constrained")
for name, color in zip(kinds, ("C0", "C3", "C1"), strict=True):
    ax.plot(means.index, means[name], "o-", color=color, label=name)
    by_seed = table[table["kind"] == name]
    ax.plot(by_seed["digits"], by_seed["error"], ".", color=color, alpha=0.4)
ax.set_xscale("symlog", linthresh=min(options.digits))
ax.set_xticks([0, *options.digits], ["0", *map(str, options.digits)])
ax.minorticks_off()
ax.set(
    xlabel="digits with a label or negative labels, in addition to 20 labels",
    ylabel="test error (%)",
)
ax.set_ylim(bottom=0)
ax.legend(frameon=False)
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_negative_labels.png
#     :alt: Test error by number of digits with a label or negative labels.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_negative_labels.png"
