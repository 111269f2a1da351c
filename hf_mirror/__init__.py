"""hf_mirror: recommender feedback in, versioned Hub repos of mirrored users out."""

__version__ = "0.1.0"
