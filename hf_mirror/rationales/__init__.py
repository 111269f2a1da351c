"""Scenes become rationales: a role writes n decisions per scene, then one fixed reader reads them all.

Both stages work in shards. A shard is a whole file or no file, so that a killed run goes on where it stopped and ends
with the same bytes: each sample has a seed of its own (build seed, scene, role, sample), whatever shard, batch, task
or machine it is in.
"""

from hf_mirror.rationales.meter import Meter
from hf_mirror.rationales.notes import instruction_digest
from hf_mirror.rationales.reading import ReadSettings, count_read, read
from hf_mirror.rationales.shards import ROLES, SPLITS, count_scenes, domain_folders
from hf_mirror.rationales.tasks import Engine, read_by, write_by
from hf_mirror.rationales.writing import WriteSettings, count_written, write

__all__ = [
    "ROLES",
    "SPLITS",
    "Engine",
    "Meter",
    "ReadSettings",
    "WriteSettings",
    "count_read",
    "count_scenes",
    "count_written",
    "domain_folders",
    "instruction_digest",
    "read",
    "read_by",
    "write",
    "write_by",
]
