"""How Sphinx builds these pages: `nox -s docs`. A warning is an error there."""

from importlib.metadata import version as installed_version

project = "trio-process"
author = "the contributors to trio-process"
copyright = "2026, the contributors to trio-process"  # noqa: A001 - Sphinx's name
version = release = installed_version("trio-process")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "examples"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Docstrings set every name in single backticks: a link where the name is one of ours, plain code where it is not.
default_role = "py:obj"
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# A word such as `result` may be a parameter in one docstring and an attribute of two classes; it is then shown, not linked.
suppress_warnings = ["ref.python"]

autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": False}
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes are described by their class, not once more as objects of their own

html_theme = "furo"
html_title = "trio-process"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
