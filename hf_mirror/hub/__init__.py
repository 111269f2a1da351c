"""The embedded offline Hub: the Hub's HTTP API on one folder, for one machine, CI and air-gapped labs.

See docs/offline_hub.md for what it offers and what it does not.
"""

from hf_mirror.hub.server import EmbeddedHub, serve

__all__ = ["EmbeddedHub", "serve"]
