"""The prompt, and a tokenizer that needs no download.

The wording is the released one: Qwen2.5's chat template with its default system line. The tokenizer is not: words
and punctuation are hashed into the vocabulary, which is all that untrained weights need. Released weights bring
Qwen2.5's own byte-pair vocabulary. The convolutional nano reads the instruction alone: the chat around it is the same
for every task, and longer than the instruction.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from rdvla_bench.errors import PolicyFault

BARE = "instruction-words@1"
_SALT = "4"
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


def words_of(instruction: str, tokenizer: str, vocab: int) -> tuple[int, ...]:
    """Return the hashed words that a model with ``tokenizer`` reads: of the whole chat, or of the instruction alone.

    Those of LIBERO's and CALVIN's instructions all differ in a vocabulary of 4096, which a test checks; the chat's do
    not (lift and turn share a token), and untrained weights do not care.

    Raises:
        PolicyFault: the model reads the instruction alone, and there is no word in it.
    """
    if tokenizer != BARE:
        return hashed_words(prompt(instruction), vocab)
    words = _PIECES.findall(instruction.lower())
    if not words:
        raise PolicyFault(f"instruction {instruction!r}: this model reads its words alone, and there are none")
    return tuple(_token(f"{_SALT} {word}", vocab) for word in words)
