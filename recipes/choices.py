"""How well a model in training tells choices: one forward pass per validation scene, in `direct` form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset

from hf_mirror import prompts
from hf_mirror.backends.tokens import CLOSING, Question
from hf_mirror.errors import ConfigError


@dataclass(frozen=True)
class Choices:
    """Prompts up to the open bracket of the answer line, the tokens of their labels, and which of them was chosen."""

    questions: list[Question]
    chosen: list[int]

    @classmethod
    def of(cls, rows: Dataset, answer: str, tokenizer: Any, limit: int, max_length: int | None) -> Choices | None:
        """`limit` scenes at most whose chosen decision has an answer line, drawn from all rows, since domains come one
        after the other; None if there is none. ConfigError where it takes more than one token to tell labels apart.
        """
        questions: list[Question] = []
        chosen: list[int] = []
        seen: set[str] = set()
        rows = rows.select_columns([n for n in ("prompt", answer, "n_options") if n in rows.column_names])
        for row in rows.shuffle(seed=0, keep_in_memory=True):
            if len(questions) == limit or "n_options" not in row:
                break
            messages = prompts.direct_messages(row["prompt"])
            stated = prompts.parse(row[answer][-1]["content"], row["n_options"]).stated_choice
            scene = messages[-1]["content"]
            if stated is None or scene in seen:
                continue
            seen.add(scene)
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            labels = prompts.LABELS[: row["n_options"]]
            texts = [text + prompts.ANSWER_PREFIX + label + CLOSING for label in labels]
            question = Question.of(tokenizer(texts, add_special_tokens=False)["input_ids"])
            if not question.one_token_each:
                raise ConfigError("this tokenizer needs several tokens for an option's label; set choice_scenes: 0")
            if max_length is None or question.longest <= max_length:
                questions.append(question)
                chosen.append(stated)
        return cls(questions, chosen) if questions else None

    def read(self, trainer: Any) -> dict[str, float]:
        """`eval_choice_accuracy`, and `eval_choice_log_loss` in nats, over the options alone."""
        model, size = trainer.model, trainer.args.per_device_eval_batch_size
        was_training = model.training
        model.eval()
        losses, hits = [], []
        with torch.no_grad(), trainer.compute_loss_context_manager():
            for start in range(0, len(self.questions), size):
                part = self.questions[start : start + size]
                logits = _next_token(model, part, trainer.args.device)
                for row, question, truth in zip(logits, part, self.chosen[start : start + size], strict=True):
                    labels = torch.tensor([tail[0] for tail in question.tails], device=row.device)
                    logprobs = torch.log_softmax(row[labels].double(), dim=0)
                    losses.append(-logprobs[truth].item())
                    hits.append(int(logprobs.argmax()) == truth)
        model.train(was_training)
        return {
            "eval_choice_accuracy": sum(hits) / len(hits),
            "eval_choice_log_loss": sum(losses) / len(losses),
        }


def _next_token(model: Any, questions: list[Question], device: torch.device) -> torch.Tensor:
    """Logits of what follows each context, [rows, vocabulary]; rows are padded on the left, so only these are made."""
    width = max(len(question.context) for question in questions)
    ids, mask = torch.zeros(2, len(questions), width, dtype=torch.long)
    for i, question in enumerate(questions):
        place = slice(width - len(question.context), width)
        ids[i, place], mask[i, place] = torch.tensor(question.context), 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        logits_to_keep=1,
        use_cache=False,
    )
    return out.logits[:, -1]
