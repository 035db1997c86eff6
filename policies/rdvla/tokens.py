"""The prompt, and a tokenizer that needs no download.

The wording is the released one: Qwen2.5's chat template with its default system line. The tokenizer is not: words
and punctuation are hashed into the vocabulary, which is all that untrained weights need. Released weights bring
Qwen2.5's own byte-pair vocabulary.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."  # Qwen2.5-Instruct, chat_template
_PIECES = re.compile(r"<\|\w+\|>|\w+|[^\w\s]|\n")


def prompt(instruction: str) -> str:
    """Return the chat in which the robot's instruction is the user's question."""
    return (
        f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n"
        f"<|im_start|>user\nWhat action should the robot take to {instruction.lower()}?<|im_end|>\n"
        f"<|im_start|>assistant\n"
    )


def _token(piece: str, vocab: int) -> int:
    digest = hashlib.sha256(piece.encode()).digest()
    return int.from_bytes(digest[:8], "big") % vocab


@lru_cache(maxsize=1024)
def hashed_words(text: str, vocab: int) -> tuple[int, ...]:
    """Return one token below ``vocab`` for each word, punctuation mark, newline and ``<|marker|>``."""
    return tuple(_token(piece, vocab) for piece in _PIECES.findall(text))
