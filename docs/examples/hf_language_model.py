"""Hugging Face, a language model: labels are the words themselves, the metric is perplexity."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ws_learner import prune

torch.manual_seed(0)
words = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 0}
config = GPT2Config(**words, n_positions=12, n_embd=32, n_layer=2, n_head=2)
model = GPT2LMHeadModel(config)  # yours: GPT2LMHeadModel.from_pretrained("gpt2")
starts = torch.randint(0, 40, (96, 1))
sentences = starts + torch.arange(10)  # each word follows from the one before
data = [{"input_ids": words, "labels": words} for words in sentences]

quick = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}  # a short search, for the example
result = prune(model, data, 0.8, epochs=2, config=quick)
