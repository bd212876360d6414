"""Causal language models of transformers: tokens, sampling and fine-tuning."""
