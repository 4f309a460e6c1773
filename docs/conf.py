"""Documentation: `make docs` builds it into build/docs, with every warning an error."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent)]

# autodoc imports modules with TYPE_CHECKING set, which Prefect's own do not survive: they are imported before.
import mathquarry.flows.served.deploy  # noqa: E402
import mathquarry.flows.served.flows  # noqa: E402, F401

project = "MathQuarry"
author = "the MathQuarry authors"
html_title = "MathQuarry"
extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.coverage",
    "docstrings",
    "mathml_math",
    "recipe_reference",
]
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["api/modules.rst"]
html_theme = "furo"
templates_path: list[str] = []
# Several modules have a `Verdict` or a `Selection` of their own.
suppress_warnings = ["ref.python"]

apidoc_modules = [
    {
        "path": str(HERE.parent / "mathquarry"),
        "destination": "api",
        "follow_links": True,  # the four rooms
        "implicit_namespaces": False,
        "module_first": True,
        "separate_modules": False,  # one page per folder: a page per module makes every page list 500 others
    }
]
autodoc_mock_imports = ["vllm", "docker", "prefect_docker"]
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}

# `make docs` builds this too: a public name that has no docstring, or stands on no page, is an error.
# Not importable without vLLM, or without Prefect's Docker worker.
coverage_ignore_modules = [r"mathquarry\.models\.rollout\.(vllm|handover\.(ipc|nccl|transfer))", r"mathquarry\.flows\.served\.worker"]
coverage_ignore_pyobjects = [r"mathquarry\.flows\.served\.flows\.State"]  # Prefect's, with its result's type
coverage_show_missing_items = True
coverage_statistics_to_stdout = False

linkcheck_timeout = 20
linkcheck_ignore = [r"http://127\.0\.0\.1", r"http://localhost"]
