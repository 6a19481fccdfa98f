"""Sphinx configuration: the site builds without the network."""

import dataclasses
import inspect

import torch

import pnl_sklearn
from pnl_sklearn.estimator._trainer import _MIN_STEPS
from pnl_sklearn.objectives._class_prior import ClassPrior
from pnl_sklearn.training._submodel import _MEAN_DECAY
from pnl_sklearn.views import auto_views, identity

project = "pnl_sklearn"
author = "The pnl_sklearn developers"
project_copyright = author
version = release = pnl_sklearn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/*.ipynb", "auto_examples/*.py"]
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc states the types
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "plot_gallery": False,  # shown, not run; figures are in docs/gallery
    "ignore_pattern": r"\.ipynb$|__init__\.py|label_splits\.py",
    "remove_config_comments": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "pnl_sklearn"
html_show_sourcelink = False
# Pages beside the guide have no neighbors to navigate to, and wide code or tables.
_WIDE = ("index", "api", "benchmarks", "study", "speed", "changelog", "auto_examples/*")
html_sidebars = {page: [] for page in _WIDE}
html_theme_options = {
    "show_prev_next": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 4,
    "footer_start": ["copyright"],
    "footer_end": [],
}

# Defaults are read from the code, so that no page can state another one: a page writes
# |default_lr|, |weak_image|, ...
_CONSTANTS = {
    "min_steps": str(_MIN_STEPS),  # least number of steps per epoch
    "prior_decay": str(ClassPrior.momentum),  # of the mean prediction, prior "auto"
    "mean_decay": str(_MEAN_DECAY),  # of the mean prediction, balance loss
}


def _substitutions() -> dict[str, str]:
    """Text of each substitution, ready for an inline literal."""
    texts = dict(_CONSTANTS)
    for name, parameter in inspect.signature(
        pnl_sklearn.PNLClassifier
    ).parameters.items():
        default = parameter.default
        is_type = isinstance(default, type)
        texts[f"default_{name}"] = default.__name__ if is_type else repr(default)
    for name in (
        "AdaptiveNegatives",
        "RandomNegatives",
        "LowestNegatives",
        "DistributionAlignment",
        "GraphPosterior",
    ):
        parameters = inspect.signature(getattr(pnl_sklearn, name)).parameters.values()
        texts[f"default_{name}"] = ", ".join(
            f"{parameter.name}={parameter.default!r}" for parameter in parameters
        )
    samples = {
        "table": torch.zeros(1000, 4),
        "gray": torch.zeros(2, 1, 8, 8),
        "color": torch.zeros(2, 3, 8, 8),
    }
    for kind, sample in samples.items():
        weak, strong = auto_views(sample)
        texts[f"weak_{kind}"] = _view_text(weak)
        texts[f"strong_{kind}"] = _view_text(strong)
    return texts


def _view_text(view) -> str:
    if view is identity:
        return "the batch as it is"
    changed = [
        f"{field.name}={getattr(view, field.name)!r}"
        for field in dataclasses.fields(view)
        if field.init
        and field.name not in ("fill", "reference", "units")
        and getattr(view, field.name) != field.default
    ]
    return f"{type(view).__name__}({', '.join(changed)})"


rst_epilog = "\n".join(
    f".. |{name}| replace:: ``{text}``" for name, text in _substitutions().items()
)
