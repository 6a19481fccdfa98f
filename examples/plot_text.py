"""
Texts: which package is a docstring from?
=========================================

This example classifies texts with few labels. It compares
:class:`~pnl_sklearn.PNLClassifier` with a logistic regression on the labeled texts, and
shows what ``evidence_`` tells about the neighbors.

The texts are docstrings of installed packages, so that nothing is downloaded. Eight
texts of each package are labeled.
"""

# %%
# The texts
# ---------
# A text is the beginning of the docstring of a public function or class. Names of
# packages are removed, since they would tell the class.

import argparse
import importlib
import inspect
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.semi_supervised import SelfTrainingClassifier

from pnl_sklearn import PNLClassifier, supervised_baseline
from pnl_sklearn.model_selection import hide_labels

parser = argparse.ArgumentParser(description="Texts.")
parser.add_argument("--splits", type=int, default=3, help="label splits (3)")
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()

MODULES = {
    "numpy": "numpy numpy.linalg numpy.fft numpy.random numpy.ma numpy.polynomial",
    "scipy": """scipy.stats scipy.signal scipy.optimize scipy.linalg scipy.special
        scipy.ndimage scipy.interpolate scipy.sparse scipy.spatial scipy.integrate""",
    "sklearn": """sklearn.cluster sklearn.datasets sklearn.decomposition sklearn.svm
        sklearn.ensemble sklearn.linear_model sklearn.manifold sklearn.metrics
        sklearn.model_selection sklearn.preprocessing sklearn.feature_selection""",
    "pandas": "pandas pandas.DataFrame pandas.Series pandas.Index",
    "torch": """torch torch.nn torch.nn.functional torch.optim torch.distributions
        torch.linalg torch.utils.data""",
}
NAMES = re.compile(r"numpy|np|scipy|sklearn|scikit|learn|pandas|pd|torch|pytorch")


def docstrings(modules):
    """Return the first 60 words of the docstrings of some modules."""
    found = set()
    for name in modules.split():
        parent, _, last = name.rpartition(".")
        owner = getattr(importlib.import_module(parent or name), last or name, None)
        module = owner if inspect.isclass(owner) else importlib.import_module(name)
        for public in filter(lambda public: public[0] != "_", dir(module)):
            value = getattr(module, public, None)
            text = inspect.getdoc(value) if callable(value) else None
            words = re.findall("[a-z]{2,}", (text or "").lower())
            words = [word for word in words[:60] if not NAMES.fullmatch(word)]
            if len(words) >= 10:
                found.add(" ".join(words))
    return sorted(found)


parts = [docstrings(modules) for modules in MODULES.values()]
texts = np.concatenate(parts)
y = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
print(pd.Series(np.array(list(MODULES))[y]).value_counts().to_string())

# %%
# Vectors
# -------
# The frequencies of the words (TF-IDF) are reduced to 100 features by a truncated
# singular value decomposition. It is fitted to all texts, since it needs no labels.

vectorizer = make_pipeline(
    TfidfVectorizer(sublinear_tf=True, min_df=2),
    TruncatedSVD(100, random_state=0),
    Normalizer(),
)
X = vectorizer.fit_transform(texts)

# %%
# Comparison
# ----------
# Logistic regression learns from the labeled texts only. Self-training adds its
# confident predictions to the labels. The error is that of the unlabeled texts.

logistic = LogisticRegression(C=10, max_iter=1000)
model = PNLClassifier(max_epochs=args.epochs, random_state=0)
methods = {
    "LogisticRegression": SelfTrainingClassifier(logistic, max_iter=0),
    "SelfTraining": SelfTrainingClassifier(logistic),
    "supervised baseline": supervised_baseline(model),
    "PNLClassifier": model,
}
errors = {name: [] for name in methods}
for seed in range(args.splits):
    y_few = hide_labels(y, 8 * len(parts), random_state=seed)
    unlabeled = y_few == -1
    for name, method in methods.items():
        method.fit(X, y_few)
        wrong = method.predict(X[unlabeled]) != y[unlabeled]
        errors[name].append(100 * wrong.mean())
errors = pd.DataFrame(errors).T
print("\nError on unlabeled texts in %, by label split:\n")
print(errors.assign(mean=errors.mean(axis=1)).round(1).to_string())

# %%
# What the labels tell
# --------------------
# Before the training, a linear classifier and the graph posterior predict held-out
# labels. The attribute ``evidence_`` says how well, and what follows for the fit.

print(f"\n{model.evidence_}")

fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
ax.barh(errors.index, errors.mean(axis=1), color="lightsteelblue")
for k in errors:
    ax.plot(errors[k], errors.index, "k.", ms=4)
ax.set(xlabel="error on unlabeled texts (%)", title=f"{8 * len(parts)} labels")
ax.invert_yaxis()

path = Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=100)
print(f"Figure: {path}")

# %%
# .. image:: /gallery/plot_text.png
#     :alt: Errors of four methods on unlabeled texts.
#     :width: 100%

# sphinx_gallery_thumbnail_path = "gallery/plot_text.png"
