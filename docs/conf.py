"""How Sphinx builds these pages: `nox -s docs`. A warning is an error there."""

import re
import sys
from pathlib import Path

import trio_process

sys.path.insert(0, str(Path(__file__).parent))  # for `members`, the extension beside this file

import members

project = "trio-process"
author = "the contributors to trio-process"
copyright = "2026, the contributors to trio-process"  # noqa: A001 - Sphinx's name
version = release = trio_process.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "members"]
exclude_patterns = ["_build", "examples"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Docstrings set names, and nothing else, in single backticks: a link where the name is one of this package's, else plain code.
default_role = "py:obj"
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# A word such as `result` may be a parameter in one docstring and an attribute of two classes; it is then shown, not linked.
suppress_warnings = ["ref.python"]

autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "trio-process"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False


# These are made by the package, of parts that are private.
MADE_HERE = {
    "trio_process.Action",
    "trio_process.ManagedProcess",
    "trio_process.OutputLines",
    "trio_process.Probe",  # by its class methods
    "trio_process.Subscription",
    "trio_process.Unit",
    "trio_process.UnitLines",
    "trio_process.cluster.Agent",
    "trio_process.exec.Lines",
    "trio_process.testing.Recorder",
    "trio_process.testing.Rule",
}


def shorten_defaults(app, what, name, obj, options, signature, returns):  # noqa: ARG001
    """Show defaults as they would be typed, and no constructor for classes that only the package makes."""
    if signature:
        if name in MADE_HERE:
            return "", None
        signature = re.sub(r"<([\w.]+): [^>]+>", r"\1", signature).replace("NOTHING", "...")
        signature = signature.replace("Signals.SIG", "signal.SIG")
        signature = re.sub(
            r"RestartPolicy\(mode=RestartMode\.(\w+)[^)]*\)",
            lambda made: f"RestartPolicy.{made[1].lower()}()",
            signature,
        )
        signature = re.sub(r", masker: \S+ = <[^>]*>", "", signature)  # for this package alone
        signature = members.readable(signature)
    return signature, returns and members.readable(returns)


class Sentences:
    """Keeps the docstrings of properties from napoleon, which reads a sentence with a colon as a type and a description."""

    def __init__(self):
        self.kept = []

    def take(self, app, what, name, obj, options, lines):  # noqa: ARG002
        if what in {"property", "attribute", "data"}:
            self.kept = lines[:]
            lines.clear()

    def put_back(self, app, what, name, obj, options, lines):  # noqa: ARG002
        if what in {"property", "attribute", "data"}:
            lines[:] = self.kept


def setup(app):
    """Connect the above; napoleon comes between the two."""
    sentences = Sentences()
    app.connect("autodoc-process-signature", shorten_defaults)
    app.connect("autodoc-process-docstring", sentences.take, priority=100)
    app.connect("autodoc-process-docstring", sentences.put_back, priority=900)
