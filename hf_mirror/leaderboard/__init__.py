"""The leaderboard: results as a table in plain text, and as a static page that needs no server.

`gather` and `hub` read and check results (files here, or what is on the Hub), `ranks` and `board` put them into blocks
that may be compared, `site` writes the page and publishes it as a Space.
"""

from hf_mirror.leaderboard.board import board
from hf_mirror.leaderboard.gather import Gathered, from_files
from hf_mirror.leaderboard.hub import from_hub
from hf_mirror.leaderboard.site import publish_space, write_site
from hf_mirror.leaderboard.statuses import Statuses
from hf_mirror.leaderboard.text import table

__all__ = ["Gathered", "Statuses", "board", "from_files", "from_hub", "publish_space", "table", "write_site"]
