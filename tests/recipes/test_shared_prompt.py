"""Shared prompts change what is computed, and nothing of what comes out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from trl.trainer.utils import add_fused_lm_head

from recipes.shared_prompt import IGNORED, share_prompts

SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "attn_implementation": "sdpa",
}  # fmt: skip


def model() -> Any:
    torch.manual_seed(0)
    made = LlamaForCausalLM(LlamaConfig(**SIZES))
    add_fused_lm_head(made, outputs=("log_probs", "entropy", "is_top1"))
    return made


def batch(pairs: list[tuple[list[int], list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """As TRL's collator has it: prompts with chosen answers, then prompts with rejected ones, padded at the right."""
    rows = [(prompt, chosen) for prompt, chosen, _ in pairs] + [(prompt, rejected) for prompt, _, rejected in pairs]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, mask = torch.zeros(2, len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


CASES = {
    "several lengths": [
        ([5, 6, 7, 8], [1, 2, 3], [1, 9]),
        ([4, 4], [7], [8, 8, 8, 8, 8]),
        ([3] * 9, [2, 2], [2, 2, 1]),
    ],
    "equal answers": [([5, 6, 7], [1, 2], [1, 2])],
    "an answer begins like the other": [([5, 6], [1, 2, 3], [1, 2])],
    "a prompt of one token": [([5], [1], [2])],
}


@pytest.mark.parametrize("pairs", CASES.values(), ids=CASES)
def test_log_probabilities_and_gradients_are_those_of_rows_apart(pairs: Any) -> None:
    apart, shared = model(), model()
    assert share_prompts(shared)
    given, weights = batch(pairs), torch.linspace(0.5, 1.5, 2 * len(pairs))[:, None]
    found = [m(**given, use_cache=False, fused_lm_head=True) for m in (apart, shared)]
    for name in ("log_probs", "entropy", "is_top1", "label_mask"):
        one, two = (getattr(outputs, name) for outputs in found)
        assert one.shape == two.shape
        assert torch.allclose(one.float(), two.float(), atol=1e-5), name
    for outputs in found:
        (outputs.log_probs * weights).sum().backward()
    for one, two in zip(apart.parameters(), shared.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, atol=1e-5)


def test_fewer_tokens_are_computed() -> None:
    shared, seen = model(), []
    shared.model.register_forward_pre_hook(lambda _, __, given: seen.append(given["input_ids"].shape), with_kwargs=True)
    given = batch([(list(range(1, 31)), [1, 2], [3, 4])] * 2)
    shared(**given, use_cache=False, fused_lm_head=True)
    share_prompts(shared)
    shared(**given, use_cache=False, fused_lm_head=True)
    assert seen == [(4, 32), (2, 35)]  # 29 tokens of the prompt, its last one twice, and both answers


def test_generation_and_plain_forwards_stay_as_they_were() -> None:
    apart, shared = model().eval(), model().eval()
    share_prompts(shared)
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]])
    assert torch.equal(apart(input_ids=ids).logits, shared(input_ids=ids).logits)
    assert torch.equal(*(m.generate(ids, max_new_tokens=4, do_sample=False) for m in (apart, shared)))


def test_models_that_would_read_the_mask_otherwise_are_left_alone() -> None:
    windowed = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4))
    eager = LlamaForCausalLM(LlamaConfig(**SIZES | {"attn_implementation": "eager"}))
    for other in (windowed, eager):
        add_fused_lm_head(other)
        assert not share_prompts(other)
