"""A small model from random weights, and its own tokenizer: no pretrained file is needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, set_seed

from hf_mirror.errors import DataError
from hf_mirror.files import read_json
from recipes.arguments import find_file

# How texts are cut before tokens are made of their parts: into words, or into what a scene's lines are made of: an
# option's label, a bracketed list, the end of a line with the marker of the next, and what is left, such as a title.
WORDS = None
PHRASES = r"(?<=\n)[A-Z](?=\. )|(?<=\n[A-Z])\. |\[[^\[\]\n]{2,}\]\n?|[^\[\]\n]+\n(?:- )?|[^\[\]\n]+|[\s\S]"

WRITERS = ("o_proj.weight", "down_proj.weight")  # a layer's weights that write to what the next layer reads

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"

# No white space beside the markers: evaluation harnesses strip it from the end of a context.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
<|assistant|>{%- generation -%}{{ message['content'] }}<|end|>{%- endgeneration -%}
{%- else -%}
<|user|>{{ message['content'] }}<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, context: int, parts: str | None = WORDS
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `vocab_size` tokens: every text can be written, and an option's label is one token
    after an open bracket as well as before a full stop, whether texts are cut into WORDS or PHRASES. With the latter
    a token may be a whole title (cf. SuperBPE, https://arxiv.org/abs/2503.13423).
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=parts is None)
    if parts is not None:
        cut = pre_tokenizers.Split(Regex(parts), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, tokenizer.pre_tokenizer])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, END, USER, ASSISTANT]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def read_config(path: str) -> dict[str, Any]:
    """The model configuration in a JSON file, in the words of transformers; DataError if it is not one."""
    settings = read_json(find_file(path))
    needed = ("model_type", "vocab_size", "max_position_embeddings")
    missing = [name for name in needed if not isinstance(settings, dict) or name not in settings]
    if missing:
        raise DataError(f"{path} lacks {missing}; expected a model configuration such as recipes/tiny/model.json")
    return settings


def random_model(settings: dict[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int) -> Any:
    """The model that `settings` describe, with random weights from `seed` and the tokenizer's vocabulary and ends."""
    settings = {
        **settings,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    set_seed(seed)
    try:
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    except (ValueError, TypeError) as error:
        raise DataError(f"from_scratch: no causal LM can be made of {settings}: {str(error).splitlines()[0]}") from None


def grow(model: Any, layers: int, seed: int) -> Any:
    """The model with `layers` new ones on top, which add nothing until they learn: what they write begins at zero
    (block expansion, https://arxiv.org/abs/2401.02415). DataError for an architecture with other names of weights."""
    config = model.config.__class__.from_dict(model.config.to_dict())
    config.num_hidden_layers += layers
    set_seed(seed)
    grown = AutoModelForCausalLM.from_config(config)
    new = set(grown.load_state_dict(model.state_dict(), strict=False).missing_keys)
    last = [weight for name, weight in grown.named_parameters() if name in new and name.endswith(WRITERS)]
    if len(last) != layers * len(WRITERS):
        raise DataError(f"new_layers: layers of {config.model_type} cannot be added; expected weights named {WRITERS}")
    for weight in last:
        torch.nn.init.zeros_(weight)
    return grown
