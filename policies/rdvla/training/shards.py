"""Demonstrations on disk: uncompressed ``.npz`` shards beside a ``manifest.json`` with their hashes.

    manifest.json     format, chunk: [K, A], proprio: P, instructions, statistics, shards: [{file, n_samples, sha256}]
    shard-00000.npz   image_<camera> (n, H, W, 3) uint8 | proprio (n, P) float32 | chunk (n, K, A) float32
                      instruction (n,) int32, an index into the manifest's list | goal (n, P) float32, if there is one

Shards are memory-mapped: a sample costs the pages it lies on, not its shard. The manifest is written last and at
once, so a folder whose writing was interrupted has none and is refused.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.plan import differences
from rdvla_bench.policies.rdvla.statistics import Statistics, parse
from rdvla_bench.policies.rdvla.training.dataset import DatasetError, Sample
from rdvla_bench.policies.rdvla.training.statistics import measure, to_document

FORMAT = "rdvla-bench/samples@1"
MANIFEST = "manifest.json"
IMAGE = "image_"
LOCAL_HEADER = 30  # bytes of a zip member's header before its name (APPNOTE 4.3.7)

Arrays = dict[str, NDArray[Any]]


def write_shards(folder: Path, samples: Iterable[Sample], *, samples_per_shard: int = 1024) -> None:
    """Write ``samples`` to a new folder; at most one shard is in memory. All images of a camera have one size.

    Raises:
        DatasetError: the folder already holds a data set, or there are no samples.
    """
    if (folder / MANIFEST).exists():
        raise DatasetError(f"{folder} already holds a data set: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    instructions: dict[str, int] = {}
    shards, chunks, proprios = [], [], []
    stream = iter(samples)
    for number, group in enumerate(_groups(stream, samples_per_shard)):
        arrays = _columns(group, instructions)
        path = folder / f"shard-{number:05d}.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        shards.append({"file": path.name, "n_samples": len(group), "sha256": _sha256(path)})
        chunks.append(arrays["chunk"])
        proprios.append(arrays["proprio"])
    if not shards:
        raise DatasetError("no samples to write")
    proprio = np.concatenate(proprios)
    chunk = np.concatenate(chunks)
    manifest = {
        "format": FORMAT,
        "chunk": chunk.shape[1:],
        "proprio": proprio.shape[1],
        "instructions": list(instructions),
        "statistics": to_document(measure(chunk.reshape(-1, chunk.shape[-1]), proprio)),
        "shards": shards,
    }
    unfinished = folder / f"{MANIFEST}.tmp"
    unfinished.write_text(json.dumps(manifest, indent=1))
    unfinished.replace(folder / MANIFEST)


def _groups(stream: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    while group := list(islice(stream, size)):
        yield group


def _columns(group: list[Sample], instructions: dict[str, int]) -> Arrays:
    """Stack samples column by column, numbering new instructions."""
    columns: Arrays = {
        IMAGE + camera: np.stack([sample["images"][camera] for sample in group]) for camera in group[0]["images"]
    }
    columns["proprio"] = np.stack([sample["proprio"] for sample in group]).astype(np.float32)
    columns["chunk"] = np.stack([sample["chunk"] for sample in group]).astype(np.float32)
    if "goal" in group[0]:
        columns["goal"] = np.stack([sample["goal"] for sample in group]).astype(np.float32)
    numbers = [instructions.setdefault(sample["instruction"], len(instructions)) for sample in group]
    columns["instruction"] = np.array(numbers, np.int32)
    return columns


class ShardedDataset:
    """A folder that ``write_shards`` wrote, read lazily."""

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        """Read the manifest and, with ``verify``, hash every shard.

        Raises:
            DatasetError: the folder is no complete data set of this format, or a shard is not what the manifest says.
        """
        self.folder = folder
        manifest = _read_manifest(folder)
        try:
            self._shards: list[dict[str, Any]] = manifest["shards"]
            self._instructions: list[str] = manifest["instructions"]
            width, proprio = int(manifest["chunk"][1]), int(manifest["proprio"])
            self._statistics = parse(manifest["statistics"], None, width, proprio, str(folder / MANIFEST))
            self._ends = list(accumulate(int(shard["n_samples"]) for shard in self._shards))
            hashes = {shard["file"]: shard["sha256"] for shard in self._shards}
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{folder / MANIFEST} lacks a field or has a wrong one: {error}") from error
        self.fingerprint = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        for name, sha256 in hashes.items():
            if not (folder / name).is_file():
                raise DatasetError(f"{folder} lacks the shard {name} that its {MANIFEST} lists")
            if verify and (found := _sha256(folder / name)) != sha256:
                raise DatasetError(f"{folder / name} is damaged: SHA-256 {found[:12]}, expected {sha256[:12]}")

    @property
    def statistics(self) -> Statistics:
        """Return the bounds measured when the folder was written."""
        return self._statistics

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index``, its arrays copied out of the map."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard = bisect_right(self._ends, index)
        columns = self._columns[shard]
        row = index - (self._ends[shard - 1] if shard else 0)
        images = {name.removeprefix(IMAGE): np.array(c[row]) for name, c in columns.items() if name.startswith(IMAGE)}
        sample: Sample = {
            "images": images,
            "proprio": np.array(columns["proprio"][row]),
            "instruction": self._instructions[columns["instruction"][row]],
            "chunk": np.array(columns["chunk"][row]),
        }
        if "goal" in columns:
            sample["goal"] = np.array(columns["goal"][row])
        return sample

    def motions(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return all actions (n K, A) and all proprioceptions (n, P)."""
        chunk = np.concatenate([columns["chunk"] for columns in self._columns])
        return chunk.reshape(-1, chunk.shape[-1]), np.concatenate([columns["proprio"] for columns in self._columns])

    @cached_property
    def _columns(self) -> list[Arrays]:
        return [map_npz(self.folder / shard["file"]) for shard in self._shards]


class JoinedDataset:
    """Several folders as one data set, in the order given; its bounds are those of all their samples together."""

    def __init__(self, folders: Sequence[Path], *, verify: bool = True) -> None:
        """Open every folder.

        Raises:
            DatasetError: a folder is named twice or is no data set, or its cameras, images, chunks or proprioception
                are not the first one's.
        """
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise DatasetError(f"a folder is named twice in {','.join(map(str, folders))}")
        self._parts = [ShardedDataset(folder, verify=verify) for folder in folders]
        first = _layout(self._parts[0])
        for part in self._parts[1:]:
            if differs := differences(first, _layout(part)):
                raise DatasetError(f"{part.folder} does not join {folders[0]}: {'; '.join(differs)}")
        self._ends = list(accumulate(map(len, self._parts)))
        chunks, proprios = zip(*(part.motions() for part in self._parts), strict=True)
        self._statistics = measure(np.concatenate(chunks), np.concatenate(proprios))
        self.fingerprint = joined_fingerprint([part.fingerprint for part in self._parts])

    @property
    def statistics(self) -> Statistics:
        """Return the bounds of all samples."""
        return self._statistics

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index``, counted on from folder to folder."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        part = bisect_right(self._ends, index)
        return self._parts[part][index - (self._ends[part - 1] if part else 0)]


def joined_fingerprint(fingerprints: Sequence[str]) -> str:
    """Return the fingerprint of folders joined in this order, of one alone its own."""
    if len(fingerprints) == 1:
        return fingerprints[0]
    return hashlib.sha256(json.dumps(list(fingerprints)).encode()).hexdigest()


def _layout(data: ShardedDataset) -> dict[str, Any]:
    """Return the shapes that joined data sets share."""
    if not len(data):
        raise DatasetError(f"{data.folder} holds no sample")
    sample = data[0]
    images = {f"camera {camera}": image.shape for camera, image in sample["images"].items()}
    return {**images, "chunk": sample["chunk"].shape, "proprio": sample["proprio"].shape}


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise DatasetError(f"{folder} is no data set of samples: it has no {MANIFEST}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise DatasetError(f"{path} is no JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        given = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise DatasetError(f"{path}: expected format '{FORMAT}', got '{given}'")
    return manifest


def map_npz(path: Path) -> Arrays:
    """Return the arrays of an uncompressed ``.npz`` as read-only memory maps.

    NumPy maps ``.npy`` files only; an uncompressed member of the archive is one, at an offset.

    Raises:
        DatasetError: it is no zip archive, or a member is compressed or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise DatasetError(f"{path} is no .npz archive: {error}") from error
    return {member.filename.removesuffix(".npy"): _map_member(path, member) for member in members}


def _map_member(path: Path, member: zipfile.ZipInfo) -> NDArray[Any]:
    if member.compress_type != zipfile.ZIP_STORED:
        raise DatasetError(f"{path}: {member.filename} is compressed; write it with numpy.savez")
    with path.open("rb") as file:
        file.seek(member.header_offset)
        name, extra = struct.unpack("<HH", file.read(LOCAL_HEADER)[26:])  # lengths of the two fields that follow
        file.seek(name + extra, 1)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read(file)
        if dtype.hasobject:
            raise DatasetError(f"{path}: {member.filename} holds Python objects, expected numbers")
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran_order else "C")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
