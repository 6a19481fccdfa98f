"""Model selection where most labels are missing.

scikit-learn's splitters and scorers take the mark of an unlabeled row, -1, for a class.
What is here puts that right, for any semi-supervised estimator, not for
:class:`~pnl_sklearn.PNLClassifier` alone.
"""

from ._hide_labels import hide_labels
from ._scorer import make_labeled_scorer
from ._split import SemiSupervisedSplit

__all__ = ["SemiSupervisedSplit", "hide_labels", "make_labeled_scorer"]
