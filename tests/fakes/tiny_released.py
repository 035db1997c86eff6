"""A folder in the layout that the authors released, at a small size and with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from rdvla_bench.policies.rdvla.config import BackboneConfig, HeadConfig, RdvlaConfig, Transformer
from rdvla_bench.policies.rdvla.keymap import Part, to_released
from rdvla_bench.policies.rdvla.model import RdvlaModel
from rdvla_bench.policies.rdvla.tokens import prompt

TINY = RdvlaConfig(
    name="tiny",
    backbone=BackboneConfig(
        dino=Transformer(width=24, layers=3, heads=2, ffn=96),
        siglip=Transformer(width=40, layers=3, heads=4, ffn=72),
        llm=Transformer(width=32, layers=3, heads=4, ffn=56, kv_heads=2),
        image_size=24,
        patch=8,
        vocab=96,
    ),
    head=HeadConfig(width=32, heads=4, prelude_taps=(0,), core_taps=(1, 1), coda_taps=(1,)),
)
INSTRUCTION = "pick up the milk"
HEAD, PROPRIO = "action_head--40000_checkpoint.pt", "proprio_projector--40000_checkpoint.pt"
HEAD_CONFIG = "action_head_config--40000_checkpoint.json"


def statistics() -> dict[str, Any]:
    low, high = [-0.9, -0.8, -0.7, -0.1, -0.2, -0.3, 0.0], [0.9, 0.6, 0.7, 0.1, 0.2, 0.4, 1.0]
    state = {"q01": [-0.5 - i / 10 for i in range(8)], "q99": [0.5 + i / 10 for i in range(8)]}
    return {
        "libero_spatial_no_noops": {
            "action": {"q01": low, "q99": high, "mask": [True] * 6 + [False], "min": low, "max": high},
            "proprio": state,
            "num_trajectories": 432,
        }
    }


def tokenizer() -> Tokenizer:
    words = sorted({"[UNK]", *prompt(INSTRUCTION).replace("<|im_start|>", " ").replace("<|im_end|>", " ").split()})
    built = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    built.add_special_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
    return built


def build(folder: Path, model: RdvlaModel) -> Path:
    """Write ``model`` as the released training script saves it."""
    folder.mkdir()
    files = to_released(model.state_dict(), model.config.backbone)
    tied = files[Part.VLM] | {"vision_backbone.fused_featurizer.attn_pool.latent": torch.zeros(1, 1, 40)}
    save_file({name: tensor.contiguous() for name, tensor in tied.items()}, folder / "model.safetensors")
    torch.save(files[Part.HEAD], folder / HEAD)
    torch.save({f"module.{name}": tensor for name, tensor in files[Part.PROPRIO].items()}, folder / PROPRIO)
    head, llm = model.config.head, model.config.backbone.llm
    document: dict[str, Any] = {
        **{"hidden_dim": head.width, "num_heads": head.heads, "action_chunk_len": 8, "action_dim": 7},
        **{"prelude_vlm_layers": [0], "recurrent_vlm_layers": [1, 1], "coda_vlm_layers": [1]},
        **{"mean_recurrence": 32, "backprop_depth": 8, "random_iterations": True, "init_std": 0.632},
        **{"rms_norm_eps": 1e-06, "rope_base": 10000.0, "_type": "ActionHeadRecurrentPro"},
    }
    (folder / HEAD_CONFIG).write_text(json.dumps(document))
    text = {
        **{"hidden_size": llm.width, "num_hidden_layers": llm.layers, "num_attention_heads": llm.heads},
        **{"num_key_value_heads": llm.kv_heads, "intermediate_size": llm.ffn, "vocab_size": 96, "rope_theta": 1e6},
    }
    (folder / "config.json").write_text(json.dumps({"image_sizes": [24, 24], "text_config": text}))
    (folder / "dataset_statistics.json").write_text(json.dumps(statistics()))
    saved = tokenizer()
    saved.enable_padding(length=64)
    saved.enable_truncation(4)
    saved.save(str(folder / "tokenizer.json"))
    (folder / "modeling_prismatic.py").write_text("raise SystemExit('code of a checkpoint was run')")
    return folder
