"""`mirror …`: parses arguments, calls the stages, prints what they return. Nothing else happens here.

Exit codes: 0 done, 1 the input or a remote is at fault (one line on standard error, or the problems of a result),
2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from hf_mirror.cli.arguments import parser
from hf_mirror.errors import MirrorError


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of the `mirror` command."""
    try:
        options = parser().parse_args(arguments)
        result = options.call(options)
        if getattr(options, "json", False):
            shown = json.dumps(result, ensure_ascii=False, sort_keys=True, default=str)
        else:
            shown = options.show(result)
    except MirrorError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("error: stopped; run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        raise SystemExit(1) from None
    print(shown)
    if result.get("problems"):
        raise SystemExit(1)
