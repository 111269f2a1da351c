"""lighteval: a task reads its documents from a dataset of the Hub, at a tag."""

import sys

from datasets import Dataset
from huggingface_hub import HfApi
from lighteval.metrics.metrics import Metrics
from lighteval.tasks.lighteval_task import LightevalTask, LightevalTaskConfig
from lighteval.tasks.requests import Doc

repo = sys.argv[1]
rows = {"question": ["One?", "Two?"], "answer": ["a", "b"]}
Dataset.from_dict(rows).push_to_hub(repo, config_name="all", split="test")
HfApi().create_tag(repo, tag="v1", repo_type="dataset")
HfApi().delete_folder("all", repo, repo_type="dataset")


def document(row, task_name):
    """One question."""
    return Doc(query=row["question"], choices=[row["answer"]], gold_index=0, task_name=task_name)


config = LightevalTaskConfig(
    name="questions", prompt_function=document, hf_repo=repo, hf_subset="all", hf_revision="v1",
    hf_avail_splits=["test"], evaluation_splits=["test"], metrics=[Metrics.exact_match],
)  # fmt: skip
task = LightevalTask(config)
LightevalTask.load_datasets({"questions": task})
assert [(doc.query, doc.choices) for doc in task.eval_docs()] == list(
    zip(rows["question"], [["a"], ["b"]], strict=True)
)
