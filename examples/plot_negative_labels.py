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
# Twenty digits are labeled. Other digits, chosen at random, then get either a label or
# one negative label. The negative label is a random class that is not theirs.
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

from pnl_sklearn import PNLClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--splits", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--answers", type=int, nargs="+", default=[30, 100, 300, 1000])
options = parser.parse_args()

X, y = load_digits(return_X_y=True)
results = []
for seed in range(100, 100 + options.splits):
    X_train, X_test, y_train, y_test, y_few = make_label_split(X, y, 20, seed)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.flatnonzero(y_few == -1))
    other_class = (y_train + rng.integers(1, 10, size=len(y_train))) % 10
    model = PNLClassifier(max_epochs=options.epochs, random_state=seed)
    error = 100 * (1 - model.fit(X_train, y_few).score(X_test, y_test))
    results += [[0, "label", error], [0, "negative label", error]]
    for n in options.answers:
        y_more = y_few.copy()
        y_more[chosen[:n]] = y_train[chosen[:n]]
        model.fit(X_train, y_more)
        results.append([n, "label", 100 * (1 - model.score(X_test, y_test))])
        # Negative labels are a mask of shape (n_samples, n_classes).
        mask = np.zeros((len(y_train), 10), dtype=bool)
        mask[chosen[:n], other_class[chosen[:n]]] = True
        model.fit(X_train, y_few, negative_labels=mask)
        assert not mask[np.arange(len(mask)), model.transduction_].any()
        error = 100 * (1 - model.score(X_test, y_test))
        results.append([n, "negative label", error])
    print(f"seed {seed} done", flush=True)

# %%
# Test errors
# -----------
# The table and the figure show the test error by the number of additional labels or
# negative labels. A label says more: it excludes nine of ten classes, and a negative
# label excludes one. But hundreds of negative labels lower the error, too. They are
# useful if they are cheap, or if nobody knows the label.

table = pd.DataFrame(results, columns=["answers", "kind", "error"])
means = table.pivot_table(index="answers", columns="kind", values="error")
print("Test error in %, mean over label splits")
print(means.round(2).to_string())

fig, ax = plt.subplots(figsize=(9.5, 4), layout="constrained")
for name, color in [("label", "C0"), ("negative label", "C3")]:
    ax.plot(means.index, means[name], "o-", color=color, label=name)
    by_seed = table[table["kind"] == name]
    ax.plot(by_seed["answers"], by_seed["error"], ".", color=color, alpha=0.4)
ax.set_xscale("symlog", linthresh=30)
ax.set_xticks([0, *options.answers], ["0", *map(str, options.answers)])
ax.minorticks_off()
ax.set(
    xlabel="labels or negative labels, in addition to 20 labels",
    ylabel="test error (%)",
)
ax.set_ylim(bottom=0)
ax.legend(frameon=False)
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_negative_labels.png
#     :alt: Test error by number of labels and of negative labels.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_negative_labels.png"
