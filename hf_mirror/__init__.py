"""hf_mirror: recommender feedback in, versioned Hub repos of mirrored users out."""

from pathlib import Path

__version__ = "0.1.0"

# The folders beside the library (builders, recipes, evals, card templates, pipelines): found by path, never imported.
PROJECT = Path(__file__).resolve().parent.parent
