"""The book: https://www.sphinx-doc.org with MyST. `make book-html` builds it without a network.

The source directory is the repository root, so that notebooks keep their paths in the launch
buttons: sphinx-build -c book . book/_build/html
"""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

repository_url = "https://github.com/recdrop/recdrop"

project = "recdrop"
author = "the recdrop authors"
copyright = f"2026, {author}"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_external_toc",
    "sphinx_multitoc_numbering",  # chapters are counted on from part to part
    "sphinx_togglebutton",
    "sphinxcontrib.bibtex",
    "citations",
    "claims_ledger",
    "run_times",
    "docstrings",
    "figure_data",
    "named_tests",
    "results",
    "widget",
]
include_patterns = ["book/**", "notebooks/**"]
exclude_patterns = ["book/_build", "**/.ipynb_checkpoints"]
external_toc_path = "book/_toc.yml"
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
numfig = True

# Every reference must lead somewhere. Other projects' names are listed in small inventories of our
# own, in Sphinx's text format: the build needs no network, and what it links to can be reviewed.
nitpicky = True
inventories = {
    "python": "https://docs.python.org/3/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "others": "https://",
}
intersphinx_mapping = {
    name: (url, str(Path(__file__).parent / f"inventories/{name}.txt"))
    for name, url in inventories.items()
}
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
add_module_names = False
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"

# Notebooks are committed executed: what the book shows is what was reviewed.
nb_execution_mode = "off"
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]  # a figure's CSV, which figure_data.py links
nb_render_markdown_format = "myst"  # tables in outputs; the default knows none
# Without this, a page with a widget loads require.js and the widgets' code from a CDN. Ours need
# 2 kB, on every page, as not only notebooks hold widgets.
nb_ipywidgets_js = {}
scripts = ("widgets-boot.js", "scroll.js", "print.js")
html_js_files = [(name, {"defer": "defer"}) for name in scripts]

# One file that holds all of MathJax, so that readers' browsers ask no CDN for it. We take it from
# the package directly: enabled as an extension, the package copies 24 MB to show the same.
mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax"
mathjax_path = "tex-svg-full.js"

templates_path = ["_templates"]
html_theme = "sphinx_book_theme"
html_title = "recdrop"
html_domain_indices = False  # the reference is a page, in the order of the layers
html_use_index = False  # nothing is indexed; the page would be empty
html_favicon = "_static/favicon.svg"
html_static_path = ["_static", str(mathjax / mathjax_path)]
html_css_files = ["custom.css"]
html_context = {"default_mode": "auto"}  # unset, the theme complains in the console of every page
html_theme_options = {
    "repository_url": repository_url,
    "repository_branch": "main",
    "path_to_docs": "",
    "use_repository_button": True,
    "use_issues_button": True,
    "use_download_button": True,
    "navbar_persistent": [],  # the search field stands in the sidebar already
    # Binder installs environment.yml; on Colab a notebook's first cell fetches the repository.
    "launch_buttons": {
        "notebook_interface": "jupyterlab",
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
    },
}
