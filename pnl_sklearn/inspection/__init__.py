"""What to trust, and what to label next, where most labels are missing."""

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
