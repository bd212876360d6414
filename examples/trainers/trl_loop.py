"""TRL behind the external generator: `train` runs SFTTrainer on a round's training set, `answer` samples.

    python trl_loop.py train  --data FILE --load FOLDER --save FOLDER --seed N
    python trl_loop.py answer --prompts FILE --out FILE --load FOLDER --seed N

Data are JSON lines with "context" (the prompt) and "sample" (the completion), as recurate writes them. This
script does not import recurate. Completions alone are trained on, and nothing is truncated in silence.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

LONGEST, BATCH = 24, 32  # tokens per completion, at most; rows per forward pass


def read(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def train(data: str, load: str, save: str, epochs: float, learning_rate: float, seed: int) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": row["context"], "completion": row["sample"]} for row in read(data)]
    tokenizer = AutoTokenizer.from_pretrained(load)
    with tempfile.TemporaryDirectory() as scratch:
        settings = SFTConfig(
            scratch, seed=seed, num_train_epochs=epochs, learning_rate=learning_rate, save_strategy="no",
            per_device_train_batch_size=BATCH, completion_only_loss=True, max_length=None, report_to="none",
            bf16=torch.cuda.is_available(), use_cpu=not torch.cuda.is_available(),
        )  # fmt: skip
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(load, dtype=torch.float32), settings,
            train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        )  # fmt: skip
        trainer.train()
        trainer.save_model(save)
    tokenizer.save_pretrained(save)


def answer(prompts: str, out: str, load: str, seed: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(load, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(load, dtype=torch.float32).eval()
    rows = read(prompts)
    set_seed(seed)
    with Path(out).open("w", encoding="utf-8") as file, torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            asked = tokenizer([row["context"] for row in part], return_tensors="pt", padding=True)
            asked.pop("token_type_ids", None)
            found = model.generate(
                **asked, do_sample=True, top_k=0, max_new_tokens=LONGEST, pad_token_id=tokenizer.pad_token_id
            )
            texts = tokenizer.batch_decode(found[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
            for row, text in zip(part, texts):
                file.write(json.dumps({"item": row["item"], "sample": text}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "answer"])
    for name in ("data", "load", "save", "prompts", "out"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    if args.what == "train":
        train(args.data, args.load, args.save, args.epochs, args.learning_rate, args.seed)
    else:
        answer(args.prompts, args.out, args.load, args.seed)


if __name__ == "__main__":
    main()
