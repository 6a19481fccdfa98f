"""The snippets of the documentation run, one after the other."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.datasets import load_digits

from pnl_sklearn import PNLClassifier
from pnl_sklearn.estimator import _trainer
from pnl_sklearn.model_selection import hide_labels

DOCS = Path(__file__).parents[2] / "docs"


def snippets(page):
    """Return the code blocks of a page, each below as many blank lines as precede it.

    So the line numbers of a traceback are those of the page.
    """
    text = (DOCS / page).read_text()
    blocks = re.finditer(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text)
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        yield "\n" * line + textwrap.dedent(block[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Optuna itself
def test_snippets_of_few_labels_run(monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Short fits: fewer and shorter epochs.
    monkeypatch.setitem(PNLClassifier.__init__.__kwdefaults__, "max_epochs", 4)
    monkeypatch.setattr(_trainer, "_MIN_STEPS", 8)
    X, y = (part[:400] for part in load_digits(return_X_y=True))
    y_few = hide_labels(y, 60, random_state=0)
    names = {"X": X, "y": y_few, "np": np}
    blocks = list(snippets("few_labels.rst"))
    with sklearn.config_context():  # a snippet turns routing on
        for block in blocks:
            exec(compile(block, "few_labels.rst", "exec"), names)
    assert len(blocks) >= 10
    assert names["report"].out_of_class < 0.1
    assert 0.3 < names["search"].best_score_ <= 1
    assert set(names["study"].best_params) == {
        "class_prior__weight",
        "selection__tolerance",
    }
    assert names["scaled"].predict_proba(X).shape == (len(X), 10)
    assert names["stack"].score(X, y) > 0.3
    assert len(names["gain"].scores) == 6
    assert 0.5 < names["audited"].history_[-1]["valid_negative_precision"] <= 1
    assert len(names["ask"]) == 10
    assert (y_few[names["doubtful"]] >= 0).all()
