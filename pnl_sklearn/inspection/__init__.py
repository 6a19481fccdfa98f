"""Tools to inspect unlabeled data, labels and fits.

- :func:`check_unlabeled` checks before a fit whether unlabeled data may lower the
  accuracy.
- :func:`unlabeled_gain` compares the scores with and without unlabeled data.
- :func:`rank_for_labeling` ranks samples to label next (active learning).
- :func:`find_label_issues` lists labels that are probably wrong.
- :class:`HistoryDisplay` plots the metrics of a fit by epoch.
- :class:`LabelBudgetDisplay` plots the score by the number of labels.

Most of them can be used with any semi-supervised classifier that has the API of
scikit-learn.
"""

from ._check_unlabeled import check_unlabeled
from ._displays import HistoryDisplay, LabelBudgetDisplay
from ._label_issues import find_label_issues
from ._rank_for_labeling import rank_for_labeling
from ._unlabeled_gain import UnlabeledGain, unlabeled_gain

__all__ = [
    "HistoryDisplay",
    "LabelBudgetDisplay",
    "UnlabeledGain",
    "check_unlabeled",
    "find_label_issues",
    "rank_for_labeling",
    "unlabeled_gain",
]
