"""One domain a file: `<name>.py` (what to load) and `<name>.jinja` (how a scene reads)."""
