"""Cross-validation, scorers and experiments for partly labeled data.

scikit-learn's splitters and scorers treat -1, the mark of an unlabeled sample, as a
class. :class:`SemiSupervisedSplit` tests on labeled samples and trains on all unlabeled
samples. :func:`make_labeled_scorer` ignores unlabeled samples. :func:`hide_labels`
keeps some labels of a data set and hides the other labels. They can be used with any
semi-supervised classifier that has the API of scikit-learn.
"""

from ._hide_labels import hide_labels
from ._scorer import make_labeled_scorer
from ._split import SemiSupervisedSplit

__all__ = ["SemiSupervisedSplit", "hide_labels", "make_labeled_scorer"]
