"""Warnings that name the line of the user's code."""

import sys
import warnings


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the line that called this package, directly or through scikit-learn."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _is_skipped(frame.f_globals["__name__"]):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_skipped(module: str) -> bool:
    return module.split(".")[0] in ("pnl_sklearn", "sklearn")
