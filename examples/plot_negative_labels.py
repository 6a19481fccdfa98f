"""
Learn from classes that a sample is not
=======================================

This example shows how to use ``negative_labels``, and how much they help compared with
labels. A negative label says that a sample is not of a class: someone may not recognize
a digit, but see that it is neither a 1 nor a 7.
"""

# %%
# Labels and negative labels
# --------------------------
# Twenty samples are labeled. Random other samples then get either a label or one
# negative label, a random class that is not theirs.

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pnl_sklearn import PNLClassifier
from pnl_sklearn.model_selection import hide_labels

parser = argparse.ArgumentParser()
parser.add_argument("--splits", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--answers", type=int, nargs="+", default=[30, 100, 300, 1000])
options = parser.parse_args()

X, y = load_digits(return_X_y=True)
results = []
for seed in range(100, 100 + options.splits):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=seed
    )
    y_few = hide_labels(y_train, n_labeled=20, random_state=seed)
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

table = pd.DataFrame(results, columns=["answers", "kind", "error"])
means = table.pivot_table(index="answers", columns="kind", values="error")
print("Test error in %, mean over label splits")
print(means.round(2).to_string())

# %%
# A label excludes nine of ten classes, a negative label only one. Negative labels are
# useful if they cost nothing, or if nobody knows the label.

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
