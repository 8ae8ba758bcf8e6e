"""transformers: folders with zeros, folders with fewer neurons, a pruned head that was tied."""

import torch
import transformers
from common import example, row, same

TOOL = "transformers"
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
x, y = (torch.from_numpy(part) for part in example("bert"))
kind = transformers.BertForSequenceClassification
model = kind.from_pretrained("bert").eval()
row(TOOL, "hf folder of BERT", "loads", same(model(x).logits.detach(), y.numpy()))
inner = [p for n, p in model.named_parameters() if p.ndim > 1 and ".layer." in n]
zeros = sum(int((p == 0).sum()) for p in inner), round(0.75 * sum(p.numel() for p in inner))
row(TOOL, "hf folder of BERT", "zeros", f"{zeros[0]} of {zeros[1]}")
model.save_pretrained("bert_again")
again = kind.from_pretrained("bert_again").eval()
row(TOOL, "hf folder of BERT", "saved and loaded again", same(again(x).logits.detach(), y.numpy()))
half = kind.from_pretrained("bert", dtype=torch.float16)
count = sum(
    int((p == 0).sum()) for n, p in half.named_parameters() if p.ndim > 1 and ".layer." in n
)
row(TOOL, "hf folder of BERT", "zeros as float16", f"{count} of {zeros[1]}")
for options in ({}, {"ignore_mismatched_sizes": True}):
    text = "loads, ignore_mismatched_sizes" if options else "loads"
    try:
        loaded = kind.from_pretrained("cropped", **options).eval()
        answer = same(loaded(x).logits.detach(), example("cropped")[1])
        answer += "; the cropped layers are random" if "NO" in answer else ""
    except Exception as error:
        answer = f"refused, {type(error).__name__}"
    row(TOOL, "cropped folder", text, answer)

config = transformers.LlamaConfig(
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=64,
    vocab_size=64,
    tie_word_embeddings=True,
)
model = transformers.LlamaForCausalLM(config).eval()
head = model.lm_head.weight.detach().clone()
head[head.abs() < head.abs().median()] = 0
model.lm_head.weight = torch.nn.Parameter(head)
words = torch.arange(8)[None]
wanted = model(words).logits.detach()
model.save_pretrained("tied")
again = transformers.LlamaForCausalLM.from_pretrained("tied").eval()
row(
    TOOL,
    "pruned head of a tied network",
    "saved and loaded again",
    same(again(words).logits.detach(), wanted.numpy()),
)
