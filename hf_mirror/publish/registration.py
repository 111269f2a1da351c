"""eval.yaml: how the Hub and inspect-ai run the benchmark, by letting a model write its answer line and searching it.

https://huggingface.co/docs/hub/eval-results and inspect_ai/_eval/task/hf.py, which reads it: a task is a config and a
split of the repo, a field per column, a solver and a scorer from inspect-ai's own. A task asks the split `headline`
(staging.py), a row per scene, since nothing there averages over the orders of a scene.
"""

from __future__ import annotations

from hf_mirror.prompts import search_pattern
from hf_mirror.publish.staging import HEADLINE, Staged

FILE = "eval.yaml"
NAME = "Mirror bench"
DESCRIPTION = (
    "Which option did a real user choose, given what the user did before? Accuracy over scenes, each asked once, with "
    "its options in a random order; an answer that cannot be read is wrong."
)


def write_registration(staged: Staged) -> None:
    """Writes it beside the rows of a benchmark repo: a task per open subset. None where all are closed: without text
    there is nothing to ask."""
    import yaml

    open_ones = [subset for subset in staged.rows if HEADLINE in staged.rows[subset]]
    if not open_ones:
        return
    tasks = [
        {
            "id": subset,
            "config": subset,
            "split": HEADLINE,
            "field_spec": {"input": "prompt", "target": "gold_index", "choices": "choices"},
            "solvers": [{"name": "generate"}],
            "scorers": [{"name": "pattern", "args": {"pattern": search_pattern()}}],
        }
        for subset in open_ones
    ]
    about = {"name": NAME, "description": DESCRIPTION, "evaluation_framework": "inspect-ai", "tasks": tasks}
    text = yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=120)
    (staged.folder / FILE).write_text(text, encoding="utf-8")
