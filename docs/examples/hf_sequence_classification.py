"""Hugging Face, text classification: sentences of any length, padded by the loader's collate_fn."""

import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

from ws_learner import prune


def pad(examples):  # or DataCollatorWithPadding(tokenizer)
    words = torch.nn.utils.rnn.pad_sequence([x for x, _ in examples], batch_first=True)
    labels = torch.tensor([y for _, y in examples])
    return {"input_ids": words, "attention_mask": (words > 0).long(), "labels": labels}


torch.manual_seed(0)
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
config = BertConfig(**sizes, vocab_size=50, intermediate_size=64, num_labels=2)
model = BertForSequenceClassification(config)  # yours: .from_pretrained(...)
sentences = [torch.randint(1, 50, (4 + i % 6,)) for i in range(120)]
examples = [(words, int(words[0] > 25)) for words in sentences]
train = DataLoader(examples[:80], batch_size=16, shuffle=True, collate_fn=pad)
validation = DataLoader(examples[80:], batch_size=16, collate_fn=pad)

quick = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}  # a short search, for the example
result = prune(model, (train, validation), 0.8, epochs=2, config=quick)
