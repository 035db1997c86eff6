"""Reading what the authors released, strictly read-only: a folder, or ``hf://owner/name`` on the Hugging Face hub.

    model.safetensors (or its shards)         the VLM, LoRA merged        config.json
    action_head--{step}_checkpoint.pt         the head                    action_head_config--{step}_checkpoint.json
    proprio_projector--{step}_checkpoint.pt   the proprio projector       dataset_statistics.json
    tokenizer.json                            Qwen2.5's byte pairs

Everything else in the folder is left alone: no code in it is imported, and ``.pt`` files are read weights-only. Each
way in which a folder can be wrong is one ``UsageError`` that names the file and what is wrong in it.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla import statistics
from rdvla_bench.policies.rdvla.config import HeadConfig, RdvlaConfig
from rdvla_bench.policies.rdvla.keymap import Part, from_released
from rdvla_bench.policies.rdvla.model import RdvlaModel, with_weights
from rdvla_bench.policies.rdvla.released import ReleasedInterface

TOKENIZER = "qwen2.5"
HUB = "hf://"
FILES = {
    "vlm": "model.safetensors",
    "vlm config": "config.json",
    "head": "action_head--*checkpoint.pt",
    "head config": "action_head_config--*checkpoint.json",
    "proprio": "proprio_projector--*checkpoint.pt",
    "statistics": "dataset_statistics.json",
    "tokenizer": "tokenizer.json",
}
INDEX, SHARDS = "model.safetensors.index.json", "model-*.safetensors"
_REPOSITORY = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")

_HEAD_FIELDS = {  # released name -> ours
    **{"hidden_dim": "width", "num_heads": "heads", "action_chunk_len": "chunk", "action_dim": "action"},
    **{"prelude_vlm_layers": "prelude_taps", "recurrent_vlm_layers": "core_taps", "coda_vlm_layers": "coda_taps"},
    **{"mean_recurrence": "mean_recurrence", "init_std": "init_std"},
}
_HEAD_CONSTANTS = {"rms_norm_eps": 1e-6, "rope_base": 1e4}  # built into the head
_HEAD_UNUSED = {"_type", "backprop_depth", "random_iterations"}  # training alone
_TIMM = {"rdvla-0.5b": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"]}

_BROKEN_JSON = (OSError, ValueError)
_BROKEN_PICKLE = (OSError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError)
_BROKEN_SAFETENSORS = (OSError, SafetensorError)

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Released:
    """A model with the weights of a folder, and the conventions it was trained in."""

    name: str  # the folder's own name, or hf://owner/name@commit
    model: RdvlaModel
    interface: ReleasedInterface


@dataclass(frozen=True)
class Folder:
    """A checkpoint on disk and what it calls itself."""

    path: Path
    name: str

    def file(self, what: str) -> Path:
        """Return the one file that holds ``what``, a key of ``FILES``.

        Raises:
            UsageError: none matches, or several.
        """
        found = sorted(self.path.glob(FILES[what]))
        if len(found) != 1:
            names = f": {', '.join(path.name for path in found)}" if found else ""
            raise UsageError(f"{self.path}: expected one file {FILES[what]}, found {len(found) or 'none'}{names}")
        return found[0]


def load(checkpoint: str, sizes: RdvlaConfig, unnorm_key: str | None) -> Released:
    """Read ``checkpoint``, a path or ``hf://owner/name[@revision]``, into a model of ``sizes``.

    The head's taps and depth come from the folder. ``unnorm_key`` may be None where the statistics have one key alone.

    Raises:
        UsageError: naming the file and what is wrong in it.
    """
    folder = locate(checkpoint)
    config = _config(folder, sizes)
    head = config.head
    source, words = folder.file("statistics"), folder.file("tokenizer")
    interface = ReleasedInterface(
        statistics.parse(_json(source), unnorm_key, head.action, head.proprio, str(source)),
        _tokenizer(words, config.backbone.vocab),
        hashlib.sha256(words.read_bytes()).hexdigest(),
        config.backbone.image_size,
        config.convention,
    )
    return Released(folder.name, with_weights(config, _state(folder, config)), interface)


@dataclass(frozen=True, eq=False)
class ReleasedWeights:
    """What training may begin with: no statistics, which belong to the data."""

    config: RdvlaConfig
    state: Mapping[str, Tensor]
    vocabulary: str  # tokenizer.json


def read_weights(checkpoint: str, sizes: RdvlaConfig) -> ReleasedWeights:
    """Read the weights of ``checkpoint``, as ``load`` does, and its tokenizer.

    Raises:
        UsageError: naming the file and what is wrong in it.
    """
    folder = locate(checkpoint)
    config = _config(folder, sizes)
    vocabulary = _tokenizer(folder.file("tokenizer"), config.backbone.vocab).to_str()
    return ReleasedWeights(config, _state(folder, config), vocabulary)


def _state(folder: Folder, config: RdvlaConfig) -> dict[str, Tensor]:
    """Return the state of ``RdvlaModel(config)`` from the folder's three files of weights."""
    vlm, where = _vlm(folder)
    files = {Part.VLM: vlm}
    names = {Part.VLM: str(where)}
    for part, what in ((Part.HEAD, "head"), (Part.PROPRIO, "proprio")):
        source = folder.file(what)
        files[part], names[part] = _pickled(source), str(source)
    return from_released(files, config, names)


def locate(checkpoint: str) -> Folder:
    """Return the folder of ``checkpoint``, downloaded where it names one on the hub.

    Raises:
        UsageError: it is no folder, or the hub has none or cannot be reached.
    """
    if not checkpoint.startswith(HUB):
        path = Path(checkpoint).expanduser()
        if not path.is_dir():
            kind = "is a file, not a folder" if path.exists() else "does not exist"
            raise UsageError(f"checkpoint {checkpoint}: {kind}; expected a folder or hf://owner/name")
        return Folder(path, path.resolve().name)
    matched = _REPOSITORY.fullmatch(checkpoint)
    if matched is None:
        raise UsageError(f"checkpoint {checkpoint}: expected hf://owner/name or hf://owner/name@revision")
    repository, revision = matched.groups()
    from huggingface_hub import snapshot_download

    try:
        path = Path(snapshot_download(repository, revision=revision, allow_patterns=[*FILES.values(), INDEX, SHARDS]))
    except (OSError, ValueError) as error:  # every error of the hub's client is one of the two
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(
            f"checkpoint {checkpoint}: the hub cannot be reached or has no such repository ({reason}). Download the "
            f"folder on a machine that reaches it (hf download {repository} --local-dir FOLDER) and give its path"
        ) from error
    return Folder(path, f"{HUB}{repository}@{path.name}")  # a snapshot's folder is named by its commit


def _config(folder: Folder, sizes: RdvlaConfig) -> RdvlaConfig:
    """Return ``sizes`` with the folder's head, after checking the folder's VLM against ``sizes``."""
    source = folder.file("vlm config")
    document = _json(source)
    backbone, llm = sizes.backbone, sizes.backbone.llm
    text = document.get("text_config")
    for name, value in (
        *(("hidden_size", llm.width), ("num_hidden_layers", llm.layers), ("num_attention_heads", llm.heads)),
        *(("num_key_value_heads", llm.kv_heads or llm.heads), ("intermediate_size", llm.ffn)),
        *(("vocab_size", backbone.vocab), ("rope_theta", 1e6)),
    ):
        given = text.get(name) if isinstance(text, Mapping) else None
        if given != value:
            raise UsageError(f"{source}: text_config.{name} is {given}, config {sizes.name} expects {value}")
    images = [backbone.image_size] * 2
    if document.get("image_sizes") != images:
        raise UsageError(
            f"{source}: image_sizes is {document.get('image_sizes')}, config {sizes.name} expects {images}"
        )
    towers = _TIMM.get(sizes.name)
    if towers is not None and document.get("timm_model_ids") != towers:
        raise UsageError(f"{source}: timm_model_ids is {document.get('timm_model_ids')}, expected {towers}")
    return replace(sizes, backbone=replace(backbone, tokenizer=TOKENIZER), head=_head(folder, sizes.head))


def _head(folder: Folder, expected: HeadConfig) -> HeadConfig:
    source = folder.file("head config")
    document = _json(source)
    for name in document:
        if name not in {*_HEAD_FIELDS, *_HEAD_CONSTANTS, *_HEAD_UNUSED}:
            raise UsageError(f"{source}: field '{name}' is not known: a head of another kind?")
    for name, value in _HEAD_CONSTANTS.items():
        if document.get(name, value) != value:
            raise UsageError(f"{source}: {name} is {document[name]}, expected {value}")
    fields: dict[str, Any] = {}
    for name, ours in _HEAD_FIELDS.items():
        if name not in document:
            raise UsageError(f"{source}: no field '{name}'")
        given, like = document[name], getattr(expected, ours)
        if isinstance(like, tuple):
            if not isinstance(given, list) or not all(type(tap) is int for tap in given):
                raise UsageError(f"{source}: {name} is {given}, expected a list of layers")
            given = tuple(given)
        elif isinstance(given, bool) or not isinstance(given, int | float):
            raise UsageError(f"{source}: {name} is {given!r}, expected a number")
        elif ours in ("width", "heads", "chunk", "action") and given != like:
            other = ": a checkpoint of another embodiment" if ours in ("chunk", "action") else ""
            raise UsageError(f"{source}: {name} is {given}, expected {like}{other}")
        fields[ours] = given
    if not fields["core_taps"]:
        raise UsageError(f"{source}: recurrent_vlm_layers is empty: a head without a core")
    return replace(expected, **fields)


def _tokenizer(source: Path, vocab: int) -> Tokenizer:
    _json(source)
    try:
        tokenizer = Tokenizer.from_file(str(source))
    except Exception as error:  # tokenizers raises nothing narrower
        raise UsageError(f"{source}: no tokenizer can be built of it: {error}") from error
    tokenizer.no_padding()  # a saved tokenizer keeps the settings of its last call
    tokenizer.no_truncation()
    if tokenizer.get_vocab_size() > vocab:
        raise UsageError(f"{source}: {tokenizer.get_vocab_size()} tokens, the model embeds {vocab}")
    for marker in ("<|im_start|>", "<|im_end|>"):
        if tokenizer.token_to_id(marker) is None:
            raise UsageError(f"{source}: no token '{marker}': not Qwen2.5's tokenizer")
    return tokenizer


def _vlm(folder: Folder) -> tuple[dict[str, Tensor], Path]:
    """Return the VLM's tensors and the file that lists them, whole or in shards."""
    index = folder.path / INDEX
    whole = folder.path / FILES["vlm"]
    if whole.exists() or not index.exists():
        source = folder.file("vlm")
        return _read(source, lambda: load_file(source), _BROKEN_SAFETENSORS), source
    listed = _json(index).get("weight_map")
    if not isinstance(listed, Mapping) or not all(Path(str(name)).name == name for name in listed.values()):
        raise UsageError(f"{index}: expected 'weight_map', tensor names to file names")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(listed.values())):
        shard = folder.path / name
        if not shard.exists():
            raise UsageError(f"{index}: its shard {name} is missing")
        tensors |= _read(shard, lambda path=shard: load_file(path), _BROKEN_SAFETENSORS)  # type: ignore[misc]
    return tensors, index


def _pickled(source: Path) -> dict[str, Tensor]:
    def read() -> Any:
        return torch.load(source, map_location="cpu", weights_only=True)

    found = _read(source, read, _BROKEN_PICKLE)
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UsageError(f"{source}: expected tensors by name")
    return dict(found)


def _json(source: Path) -> dict[str, Any]:
    found = _read(source, lambda: json.loads(source.read_text("utf-8")), _BROKEN_JSON)
    if not isinstance(found, dict):
        raise UsageError(f"{source}: expected a JSON object")
    return found


def _read(source: Path, read: Callable[[], T], errors: tuple[type[Exception], ...]) -> T:
    """Return ``read()``, its ``errors`` in one line."""
    try:
        return read()
    except errors as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"{source}: cannot be read: {reason}") from error
