"""Hugging Face, token classification: a label for each word, -100 where none counts."""

import torch
from transformers import BertConfig, BertForTokenClassification

from ws_learner import prune

torch.manual_seed(0)
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
config = BertConfig(**sizes, vocab_size=50, intermediate_size=64, num_labels=4)
model = BertForTokenClassification(config)  # yours: .from_pretrained(...)
words = torch.randint(1, 50, (96, 10))
labels = words % 4
labels[:, 0] = -100  # such as [CLS]
mask = torch.ones_like(words)
data = [
    {"input_ids": x, "attention_mask": m, "labels": y}
    for x, m, y in zip(words, mask, labels, strict=True)
]

quick = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}  # a short search, for the example
result = prune(model, data, 0.8, epochs=2, config=quick)
