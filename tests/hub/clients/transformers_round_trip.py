"""transformers: a tiny model and its configuration, pushed and loaded back."""

import sys

import torch
from huggingface_hub import HfApi
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

repo = sys.argv[1]
config = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)
model = LlamaForCausalLM(config)
model.push_to_hub(repo)
HfApi().create_tag(repo, tag="v1.0.0")
loaded = AutoModelForCausalLM.from_pretrained(repo, revision="v1.0.0")
for name, weight in model.state_dict().items():
    assert torch.equal(weight, loaded.state_dict()[name]), name
assert "model.safetensors" in HfApi().list_repo_files(repo)
