"""Networks that users bring: from a folder of Hugging Face's transformers, or timm by name."""
