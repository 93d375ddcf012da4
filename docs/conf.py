"""The documentation site: these pages, the gallery of examples/, and the reference from the docstrings.

sphinx-build -W docs build/site
"""

import re

import interp_fast

project = "interp_fast"
author = "interp_fast contributors"
version = release = interp_fast.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["examples", "gallery/**/*.ipynb", "gallery/**/*.py", "gallery/**/*.md5"]
html_theme = "furo"
html_title = f"interp_fast {version}"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_mock_imports = ["torch"]
autodoc_typehints = "none"  # the docstrings say more
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "",  # all of them run while the site is built,
    "ignore_pattern": r"audit_a_trained_model|_setting",  # but for one that trains for minutes, and what others share
    "write_computation_times": False,
    "abort_on_example_error": True,
    "show_memory": False,
    "download_all_examples": False,
}


def escape(app, what, name, obj, options, lines):
    """Formulas of the docstrings are plain text, in which |x| and x_ would be links."""
    literal = example = False
    for k, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and line.strip() != "")
        literal = literal and (not line.strip() or line[0].isspace())
        if not (literal or example):
            parts = re.split(r"(``.*?``|:\w+:`.*?`)", line)
            parts[::2] = [re.sub(r"\||(?<=\w)_(?=\W|$)", r"\\\g<0>", part) for part in parts[::2]]
            lines[k] = "".join(parts)
        literal = literal or line.endswith("::")


def setup(app):
    app.connect("autodoc-process-docstring", escape, priority=0)
