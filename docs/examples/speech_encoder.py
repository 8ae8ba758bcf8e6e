"""A speech encoder: wav2vec 2.0 names the command in a sound."""

import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from ws_learner import prune

torch.manual_seed(0)
config = Wav2Vec2Config(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    conv_dim=(16, 16),
    conv_stride=(5, 4),
    conv_kernel=(10, 8),
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    classifier_proj_size=16,
    num_labels=3,
)
model = Wav2Vec2ForSequenceClassification(config)  # yours: .from_pretrained(...)
labels = torch.arange(72) % 3
tones = (torch.arange(800) * 0.05 * (1 + labels[:, None])).sin()
sounds = tones + 0.1 * torch.randn(72, 800)
data = [{"input_values": x, "labels": y} for x, y in zip(sounds, labels, strict=True)]

quick = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}  # a short search, for the example
result = prune(model, data, 0.8, epochs=2, config=quick)
