"""
What people know a row is not
=============================

Someone cannot say which digit this is, but it is no 1 and no 7. ``negative_labels``
takes such answers. What are they worth, next to labels?
"""

# %%
# Answers
# -------
# Twenty rows are labeled. Then people are asked about rows drawn at random: for their
# label, or for one class, drawn at random, that they are not.

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
parser.add_argument("--draws", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--answers", type=int, nargs="+", default=[30, 100, 300, 1000])
options = parser.parse_args()

X, y = load_digits(return_X_y=True)
rows = []
for draw in range(100, 100 + options.draws):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=draw
    )
    few = hide_labels(y_train, n_labeled=20, random_state=draw)
    rng = np.random.default_rng(draw)
    asked = rng.permutation(np.flatnonzero(few == -1))
    wrong = (y_train + rng.integers(1, 10, size=len(y_train))) % 10
    model = PNLClassifier(max_epochs=options.epochs, random_state=draw)
    error = 100 * (1 - model.fit(X_train, few).score(X_test, y_test))
    rows += [[draw, 0, "label", error], [draw, 0, "not this class", error]]
    for n in options.answers:
        # Labels of people join y; the other answers are a mask, a column a class.
        labels = few.copy()
        labels[asked[:n]] = y_train[asked[:n]]
        model.fit(X_train, labels)
        rows.append([draw, n, "label", 100 * (1 - model.score(X_test, y_test))])
        mask = np.zeros((len(y_train), 10), dtype=bool)
        mask[asked[:n], wrong[asked[:n]]] = True
        model.fit(X_train, few, negative_labels=mask)
        assert not mask[np.arange(len(mask)), model.transduction_].any()
        error = 100 * (1 - model.score(X_test, y_test))
        rows.append([draw, n, "not this class", error])
    print(f"draw {draw} done", flush=True)

table = pd.DataFrame(rows, columns=["draw", "answers", "answer", "error"])
means = table.pivot_table(index="answers", columns="answer", values="error")
print("Test error in %, mean over draws")
print(means.round(2).to_string())

# %%
# A label says as much as nine different answers of the other kind. What people know a
# row is not is for knowledge that comes for nothing, or where nobody can tell more.

fig, ax = plt.subplots(figsize=(9.5, 4), layout="constrained")
for name, color in [("label", "C0"), ("not this class", "C3")]:
    ax.plot(means.index, means[name], "o-", color=color, label=name)
    of_draws = table[table["answer"] == name]
    ax.plot(of_draws["answers"], of_draws["error"], ".", color=color, alpha=0.4)
ax.set_xscale("symlog", linthresh=30)
ax.set_xticks([0, *options.answers], ["0", *map(str, options.answers)])
ax.minorticks_off()
ax.set(xlabel="answers of people, beside 20 labels", ylabel="test error (%)")
ax.set_ylim(bottom=0)
ax.legend(frameon=False)
path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")
