"""A language model of 30,000 parameters and its trainers of TRL, offline; imports wait until needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
PROMPTS = [f"say {i}" for i in range(6)]
COMMON: dict[str, Any] = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "logging_strategy": "no"}


def tokenizer() -> Any:
    """Return a tokenizer of printable ASCII characters."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    signs = ["<e>", "<p>", *map(chr, range(32, 127))]
    own = Tokenizer(models.BPE(vocab={sign: i for i, sign in enumerate(signs)}, merges=[]))
    own.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<e>", pad_token="<p>")


def model() -> Any:
    """Return a GPT-2 with random weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, pad_token_id=1))


def length(completions: Any, **more: Any) -> list[float]:
    """Return the lengths of completions."""
    return [float(len(c)) for c in completions]


def vowels(completions: Any, **more: Any) -> list[float | None]:
    """Return the number of vowels, or None where the first character is no letter."""
    return [sum(x in "aeiou" for x in c) if c[:1].isalpha() else None for c in completions]


def digits(completions: Any, **more: Any) -> list[float]:
    """Return the share of digits, with NaN for completions that end in a digit."""
    return [float("nan") if c[-1:].isdigit() else sum(map(str.isdigit, c)) / 8 for c in completions]


def grpo(folder: Path, rewards: Any = (length, vowels), kind: str = "GRPO", **options: Any) -> Any:
    """Return a GRPOTrainer, or RLOOTrainer, of two prompts a step with four completions each."""
    import trl
    from datasets import Dataset

    options = {"max_steps": 2, "save_strategy": "no", "reward_weights": [1.0, 0.5], **COMMON, **options}
    args = getattr(trl, f"{kind}Config")(
        str(folder), per_device_train_batch_size=8, num_generations=4, max_completion_length=8, **options
    )
    data = Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS])
    return getattr(trl, f"{kind}Trainer")(
        model(), reward_funcs=list(rewards), args=args, train_dataset=data, eval_dataset=data.select([0]),
        processing_class=tokenizer(),
    )  # fmt: skip


def sft(folder: Path, of: Any, rows: list[dict[str, Any]], **options: Any) -> Any:
    """Return an SFTTrainer of a model on rows."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    options = {"max_steps": 1, "save_strategy": "no", **options}
    args = SFTConfig(str(folder), per_device_train_batch_size=4, max_length=32, **COMMON, **options)
    return SFTTrainer(of, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer())


def sampled(of: Any, prompts: list[str], k: int) -> list[dict[str, str]]:
    """Return k completions of each prompt."""
    import torch

    signs, rows = tokenizer(), []
    for prompt in prompts:
        with torch.inference_mode():
            ids = torch.tensor([signs(prompt)["input_ids"]])
            out = of.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                max_new_tokens=8,
                num_return_sequences=k,
            )
        texts = signs.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        rows += [{"prompt": prompt, "completion": text} for text in texts]
    return rows
