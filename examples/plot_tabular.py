"""
Tables: a pipeline, a grid search and probabilities
===================================================

Two small tables, most of whose labels are hidden: breast cancer with ten labels and
wine with nine. The tables are pandas DataFrames in raw units and the targets are
strings, ``None`` where a row is unlabeled. :class:`~pnl_sklearn.PNLClassifier` is used
here as any other classifier of scikit-learn is: in a pipeline, next to a logistic
regression, and in a grid search.
"""

# %%
# Two tables
# ----------
# A few rows of each class keep their label. All columns keep their units: in
# ``breast_cancer`` one column is near 1,000 and another near 0.01. Since real tables
# have holes, we make some.

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pnl_sklearn import PNLClassifier


def load(loader, n_per_class, seed=0):
    """Return X_train, X_test, y_train and y_test; most of y_train is None."""
    rng = np.random.default_rng(seed)
    table = loader(as_frame=True)
    X = table.data.mask(rng.random(table.data.shape) < 0.01)
    y = table.target.map(dict(enumerate(map(str, table.target_names)))).astype(object)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=seed
    )
    kept = y_train.groupby(y_train).sample(n_per_class, random_state=seed).index
    return X_train, X_test, y_train.where(y_train.index.isin(kept), None), y_test


tables = {
    "breast cancer": load(load_breast_cancer, n_per_class=5),
    "wine": load(load_wine, n_per_class=3),
}
_, _, y_train, _ = tables["wine"]
print(y_train.value_counts(dropna=False).to_string())

# %%
# A pipeline
# ----------
# ``PNLClassifier`` refuses missing values in X, so an imputer goes first. No scaler is
# needed: ``standardize=True`` is the default, and the scale is that of all rows,
# labeled or not. A table gets a multilayer perceptron.

pipeline = Pipeline(
    [
        ("imputer", SimpleImputer().set_output(transform="pandas")),
        ("pnl", PNLClassifier(steps_per_epoch=50, random_state=0)),
    ]
)
fitted = {
    name: clone(pipeline).fit(X_train, y_train)
    for name, (X_train, _, y_train, _) in tables.items()
}

# %%
# Probabilities
# -------------
# The columns of ``predict_proba`` are in the order of ``classes_``. They are the mean
# of the two networks.

_, X_test, _, y_test = tables["wine"]
probabilities = pd.DataFrame(
    fitted["wine"].predict_proba(X_test),
    index=X_test.index,
    columns=fitted["wine"].classes_,
)
print("\nProbabilities of the first rows of wine:\n")
print(probabilities.assign(true=y_test).head().round(3).to_string())

# %%
# Against logistic regression
# ---------------------------
# The usual choice for a handful of labels is a linear model of the labeled rows. It
# gets the same imputer, and a scaler. One draw of the labels decides little: on tables
# as easy as these, either method can be ahead.

rows = []
for name, (X_train, X_test, y_train, y_test) in tables.items():
    known = y_train.notna()
    linear = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    linear.fit(X_train[known], y_train[known])
    models = {"LogisticRegression": linear, "PNLClassifier": fitted[name]}
    for method, model in models.items():
        error = 100 * (1 - model.score(X_test, y_test))
        rows.append({"table": name, "method": method, "error": error})
errors = pd.DataFrame(rows).pivot(index="method", columns="table", values="error")
print("\nTest error in %:\n")
print(errors.round(1).to_string())

# %%
# The history
# -----------
# ``history_`` is a list with a dict for each epoch, so it makes a DataFrame.
# *Agreement* is the share of unlabeled rows on which student and partner name the same
# class, *coverage* the share that got at least one pseudo-negative label.

histories = {
    name: pd.DataFrame(model["pnl"].history_) for name, model in fitted.items()
}
columns = [
    "epoch",
    "supervised_loss",
    "negative_loss",
    "teacher_student_agreement",
    "negative_coverage",
]
print("\nHistory of the fit to wine:\n")
print(histories["wine"][columns].round(3).to_string(index=False))

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for (name, history), color in zip(histories.items(), ("C0", "C1"), strict=True):
    for column, style in {
        "teacher_student_agreement": "o-",
        "negative_coverage": "s--",
    }.items():
        label = f"{column}, {name}"
        left.plot("epoch", column, style, color=color, label=label, data=history, ms=4)
left.set(xlabel="epoch", ylabel="share of unlabeled rows", ylim=(0, 1.02))
left.set_title("PNLClassifier in training")
left.legend(loc="lower right")
errors.T.plot.bar(ax=right, rot=0, color=["lightsteelblue", "slategray"])
for bars in right.containers:
    right.bar_label(bars, fmt="%.1f %%")
right.set(xlabel="", ylabel="test error (%)", title="Ten and nine labels")
right.margins(y=0.25)
right.legend(title=None, loc="upper right")

path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"\nFigure: {path}")

# %%
# A grid search
# -------------
# Only labeled rows can be validated on, and the unlabeled rows belong in every training
# part. Scikit-learn's splitters know nothing of this: to them ``None``, or -1, is one
# more class. So we split the labeled rows and hand over the pairs of indices.
#
# With nine labels a grid search is a blunt tool: each fold is judged on three rows. It
# is here to show the names of the parameters. ``selection__tolerance`` belongs to the
# selection of pseudo-negative labels, ``module__hidden`` to the network.

X_train, X_test, y_train, y_test = tables["wine"]
labeled = np.flatnonzero(y_train.notna())
unlabeled = np.flatnonzero(y_train.isna())
folds = StratifiedKFold(3, shuffle=True, random_state=0)
splits = [
    (np.concatenate([labeled[train], unlabeled]), labeled[validation])
    for train, validation in folds.split(labeled, y_train.iloc[labeled])
]
search = GridSearchCV(
    pipeline.set_params(pnl__max_epochs=2),
    {"pnl__selection__tolerance": [0.05, 0.2], "pnl__module__hidden": [128, 512]},
    cv=splits,
    refit=False,
)
search.fit(X_train, y_train)
results = pd.DataFrame(search.cv_results_)
results = results[[*results.filter(like="param_"), "mean_test_score"]]
print("\nGrid search on wine:\n")
print(results.round(2).to_string(index=False))
