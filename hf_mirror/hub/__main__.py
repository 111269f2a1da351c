"""`python -m hf_mirror.hub --root DIR [--host 127.0.0.1] [--port 0]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hf_mirror.errors import MirrorError
from hf_mirror.hub.server import serve


def main() -> int:
    """Serves until interrupted; a setting that cannot be used is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m hf_mirror.hub", description="Serve the offline Hub on one folder.")
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the repos; created when missing")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args()
    try:
        serve(arguments.root, arguments.host, arguments.port, arguments.until_stdin_closes)
    except MirrorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
