"""Hugging Face, image classification: examples are dicts, the output holds `logits`."""

import torch
from transformers import ViTConfig, ViTForImageClassification

from ws_learner import prune

torch.manual_seed(0)
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
config = ViTConfig(**sizes, intermediate_size=64, image_size=16, patch_size=4, num_labels=3)
model = ViTForImageClassification(config)  # yours: ViTForImageClassification.from_pretrained(...)
labels = torch.arange(96) % 3
images = torch.randn(96, 3, 16, 16) + labels.reshape(-1, 1, 1, 1)
data = [{"pixel_values": x, "labels": y} for x, y in zip(images, labels, strict=True)]

quick = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}  # a short search, for the example
result = prune(model, data, 0.8, epochs=2, config=quick)
