"""Check unlabeled data and labels, and plot what a fit learned from them.

For users with few labels. `check_unlabeled` runs before a fit: may the unlabeled data
mislead it? `unlabeled_gain` compares the scores with and without unlabeled data.
`rank_for_labeling` proposes samples to label next, `find_label_issues` labels to
correct. `HistoryDisplay` and `LabelBudgetDisplay` draw the epochs of a fit and the
score by the number of labels.
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
