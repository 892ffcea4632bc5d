import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.capabilities import formats_of, require_writable
from export.fit import RATIOS, TYPES, fit
from export.gguf import export_gguf
from export.onnx import export_onnx
from export.sizes import cache_bytes
from prune.checkpoint import Checkpoint
from prune.families import families, load_family
from prune.gguf_model import GgufModel
from prune.rewrite import prune
from prune.vocabulary.choose import choose_vocabulary
from prune.vocabulary.selection import Amount
from runtime.engines.split import MARGIN, gguf_bytes, plan_split
from runtime.errors import RequestError, SlimmoeError, WorkError
from runtime.formats.gguf_file import GgufFile
from runtime.measure.bench import file_size
from runtime.text.pairs import Pair
from tests.gguf_files import write_moe
from tests.prune.test_cut import plan_for
from tests.tiny import VOCABULARY, add_mtp_layer, write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "models" / "default"


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Path:
    """The default model with half of its experts."""
    folder = tmp_path_factory.mktemp("half") / "half"
    prune(DEFAULT, plan_for(DEFAULT, *[[*range(16)]] * 6), folder)
    return folder


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_K_M"])
def test_the_file_size_of_a_gguf_is_foretold(kind: str, half: Path, tmp_path) -> None:
    (foretold,) = (c for c in fit(Checkpoint(DEFAULT), 2**33).choices if (c.ratio, c.type) == (0.5, kind))
    size = export_gguf(half, tmp_path / "model.gguf", kind).stat().st_size
    assert foretold.file_bytes == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_a_second_copy_of_the_embedding_is_counted_where_llama_cpp_needs_one(kind: str, tmp_path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "olmoe", tie_word_embeddings=True, vocab_size=VOCABULARY)
    (foretold,) = (c for c in fit(Checkpoint(folder), 2**33).choices if (c.ratio, c.type) == (0, kind))
    size = export_gguf(folder, tmp_path / "model.gguf", kind).stat().st_size
    assert foretold.file_bytes == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("kind", ["F16", "Q4_K_M"])
def test_a_split_over_a_card_is_foretold(kind: str, half: Path, tmp_path) -> None:
    """From a checkpoint, and from the whole GGUF file, as from the header of the file that becomes of them."""
    whole = export_gguf(DEFAULT, tmp_path / "whole.gguf", kind)
    header = gguf_bytes(GgufFile(export_gguf(half, tmp_path / "half.gguf", kind)), 1024)
    everything = plan_split(header, 2**40).device_bytes
    card = MARGIN + everything - header.layers[0].experts - header.layers[1].experts // 2  # two must leave it
    for model in (Checkpoint(DEFAULT), GgufModel(whole)):
        (found,) = (c for c in fit(model, 2**33, vram=card).choices if (c.ratio, c.type) == (0.5, kind))
        assert found.split and found.fits
        assert (found.split.gpu_layers, found.split.cpu_experts) == (7, 2)
        wanted = plan_split(header, card - MARGIN)
        assert found.split.device_bytes == pytest.approx(wanted.device_bytes, rel=0.01)
        assert found.split.host_bytes == pytest.approx(wanted.host_bytes, rel=0.01)


def test_a_window_on_a_part_of_the_layers_counts_in_the_cache(tmp_path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "gpt_oss")
    header = gguf_bytes(GgufFile(export_gguf(folder, tmp_path / "model.gguf", "F16")), 4096)
    (found,) = (c for c in fit(Checkpoint(folder), 2**33, 4096, vram=2**33).choices if (c.ratio, c.type) == (0, "F16"))
    assert len({layer.cache for layer in header.layers}) == 2
    assert found.split and found.split.device_bytes == pytest.approx(plan_split(header, 2**33).device_bytes, rel=0.01)


def test_a_latent_cache_may_come_without_a_rotated_part(tmp_path) -> None:
    sizes = {"embedding_length": 32, "attention.head_count": 4, "attention.kv_lora_rank": 16, "block_count": 2}
    path = write_moe(tmp_path / "latent.gguf", {f"tiny.{name}": value for name, value in sizes.items()})
    assert all(choice.fits for choice in fit(GgufModel(path), 2**33, vram=2**33).choices)


def test_what_a_card_has_no_room_for_needs_the_machine(half: Path) -> None:
    def choice(memory: int, vram: int | None):
        return next(c for c in fit(Checkpoint(half), memory, vram=vram).choices if (c.ratio, c.type) == (0, "F16"))

    tight = int(choice(2**33, None).memory_bytes / 0.75 * 0.8)  # of which the system has a quarter
    assert not choice(tight, None).fits
    assert choice(tight, 2**33).fits
    without = choice(2**33, MARGIN // 2).split
    assert without and (without.gpu_layers, without.device_bytes) == (0, 0)
    assert not choice(10**7, MARGIN // 2).fits


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_the_size_of_an_onnx_folder_is_foretold(kind: str, half: Path, tmp_path) -> None:
    (foretold,) = (c for c in fit(Checkpoint(DEFAULT), 2**33).choices if (c.ratio, c.type) == (0.5, kind))
    size = file_size(export_onnx(half, tmp_path / "onnx", kind))
    assert foretold.file_bytes == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("family", [name for name in families() if load_family(name).unloaded])
def test_layers_that_are_not_loaded_are_not_counted(family: str, tmp_path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", family)
    before = fit(Checkpoint(folder), 2**33)
    add_mtp_layer(folder)
    assert fit(Checkpoint(folder), 2**33) == before


@pytest.mark.parametrize("family", families())
def test_every_family_can_be_fitted(family: str, tmp_path) -> None:
    """Whatever its config says by null, as published configs do of what a model does not have."""
    folder = write_tiny_checkpoint(tmp_path / "model", family)
    checkpoint = Checkpoint(folder)
    if checkpoint.config.get("is_encoder_decoder"):
        return
    config = {"kv_lora_rank": None, "n_group": None, "head_dim": None, "sliding_window": None} | checkpoint.config
    (folder / "config.json").write_text(json.dumps(config))
    assert all(choice.memory_bytes > choice.file_bytes > 0 for choice in fit(Checkpoint(folder), 2**33).choices)


def test_no_weights_are_read(tmp_path) -> None:
    """Every byte behind the headers is replaced, and nothing changes."""
    shutil.copytree(DEFAULT, tmp_path / "model")
    for shard in (tmp_path / "model").glob("*.safetensors"):
        size = shard.stat().st_size
        with shard.open("r+b") as file:
            header = int.from_bytes(file.read(8), "little")
            file.truncate(8 + header)
            file.truncate(size)  # zeros
    assert fit(Checkpoint(tmp_path / "model"), 2**30) == fit(Checkpoint(DEFAULT), 2**30)


def test_the_least_pruning_that_fits_at_a_good_type_is_recommended() -> None:
    choices = fit(Checkpoint(DEFAULT), 2**33).choices
    everything = fit(Checkpoint(DEFAULT), 2**33).recommended
    assert everything and (everything.ratio, everything.type) == (0, "F16")
    wanted = next(c for c in choices if (c.ratio, c.type) == (0.5, "Q4_K_M"))
    found = fit(Checkpoint(DEFAULT), round(wanted.memory_bytes / 0.75) + 10)  # a quarter is the system's
    assert found.recommended and found.recommended.fits
    assert found.recommended.ratio == 0.5 and found.recommended.memory_bytes <= found.usable_bytes
    assert not any(c.fits for c in found.choices if c.ratio < 0.5 and c.type not in ("Q3_K_M", "Q2_K"))
    nothing = fit(Checkpoint(DEFAULT), 10**7)
    assert nothing.recommended is None and not any(c.fits for c in nothing.choices)


def test_more_pruning_and_fewer_bits_are_smaller() -> None:
    size = {(c.ratio, c.type): c.memory_bytes for c in fit(Checkpoint(DEFAULT), 2**33).choices}
    assert len(size) == len(RATIOS) * len(TYPES)
    for kind in TYPES:
        assert all(size[a, kind] > size[b, kind] for a, b in zip(RATIOS, RATIOS[1:]))
    gguf = [kind for kind in TYPES if not kind.startswith("int")]
    assert all(size[0, a] > size[0, b] for a, b in zip(gguf, gguf[1:]))


def test_cuts_of_a_gguf_file_are_foretold(tmp_path) -> None:
    whole = export_gguf(DEFAULT, tmp_path / "whole.gguf", "Q4_K_M")
    cut = prune(whole, plan_for(DEFAULT, *[[*range(16)]] * 6), tmp_path / "cut.gguf")
    found = {choice.ratio: choice for choice in fit(GgufModel(whole), 2**33).choices}
    as_checkpoint = {(c.ratio, c.type): c.memory_bytes for c in fit(Checkpoint(DEFAULT), 2**33).choices}
    assert found[0.5].type == "Q4_K_M" and found[0.5].experts == 16
    assert found[0.0].file_bytes == pytest.approx(whole.stat().st_size, rel=0.001)
    assert found[0.5].file_bytes == pytest.approx(cut.stat().st_size, rel=0.005)
    assert found[0.5].memory_bytes == pytest.approx(as_checkpoint[0.5, "Q4_K_M"], rel=0.02)


@pytest.mark.parametrize(
    ("family", "changes", "kinds", "sentence"),
    [
        ("qwen3_moe", {"norm_topk_prob": False}, ("F16", "Q4_K_M"), "norm_topk_prob False"),
        ("phimoe", {}, ("F16",), "layer norm and sparsemixer"),
        ("gpt_oss", {}, ("int8", "int4"), "rows of 48"),
        ("qwen3_moe", {"hidden_act": "gelu"}, ("none", "int4"), "hidden_act"),
        (
            "qwen3_moe",
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            ("fp16",),
            "linear",
        ),
        ("qwen2_moe", {"use_sliding_window": True}, ("F16",), "use_sliding_window True"),
    ],
    ids=str,
)
def test_what_the_writers_refuse_is_foretold_and_never_recommended(
    family: str, changes: dict, kinds: tuple[str, ...], sentence: str, tmp_path
) -> None:
    checkpoint = Checkpoint(write_tiny_checkpoint(tmp_path / "model", family, **changes))
    able = formats_of(checkpoint)
    for kind in kinds:
        assert sentence in str(able.refusal(kind))
        with pytest.raises(SlimmoeError, match=sentence):
            require_writable(checkpoint, [kind])
        with pytest.raises(SlimmoeError, match=sentence):
            if kind in ("none", "fp16", "int8", "int4"):
                export_onnx(checkpoint.folder, tmp_path / "onnx", kind)
            else:
                export_gguf(checkpoint.folder, tmp_path / "x.gguf", kind)
    found = fit(checkpoint, 2**33)
    assert {c.type for c in found.choices if c.refused} >= {*kinds} & {*TYPES}
    assert found.recommended is None or not found.recommended.refused


def test_a_cut_that_dissolves_the_groups_is_no_longer_refused_for_them(tmp_path) -> None:
    checkpoint = Checkpoint(write_tiny_checkpoint(tmp_path / "model", "deepseek_v2"))
    experts = max(checkpoint.moe_layers.values())
    assert "n_group" in str(formats_of(checkpoint, experts).gguf)
    assert formats_of(checkpoint, experts - 1).gguf is None


def test_a_layerwise_plan_needs_a_router_that_can_be_padded_or_onnx(tiny_checkpoint) -> None:
    require_writable(Checkpoint(tiny_checkpoint), ["int4"], "layerwise")
    with pytest.raises(RequestError, match="no bias"):
        require_writable(Checkpoint(tiny_checkpoint), ["int4", "Q8_0"], "layerwise")


@pytest.mark.parametrize(
    "changes",
    [
        [], {"num_experts_per_tok": 0}, {"num_experts": 0}, {"num_hidden_layers": 10**9}, {"num_experts_per_tok": 99},
        {"num_attention_heads": 0}, {"num_experts": "8"}, {"num_hidden_layers": -1},
    ],
    ids=str,
)  # fmt: skip
def test_numbers_that_no_model_has_are_one_sentence(changes: dict | list, tiny_checkpoint, tmp_path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | changes if isinstance(changes, dict) else changes))
    with pytest.raises(WorkError, match=r"config\.json is "):
        Checkpoint(tmp_path / "model")


def test_the_context_counts() -> None:
    plain = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 256}
    assert cache_bytes(plain, 10, 2) == 2 * (2 * 2 * 64) * 10 * 2
    assert cache_bytes(plain | {"head_dim": 32}, 10, 4) == 2 * (2 * 2 * 32) * 10 * 4
    assert cache_bytes(plain | {"kv_lora_rank": 16, "qk_rope_head_dim": 8}, 10, 2) == 2 * 24 * 10 * 2


def test_few_experts_and_rows_that_no_k_quant_divides(tmp_path) -> None:
    """llama.cpp stores the rows of 96 in a larger type than was asked for."""
    folder = write_tiny_checkpoint(tmp_path / "few", num_experts=3, moe_intermediate_size=96)
    choices = fit(Checkpoint(folder), 2**33).choices
    assert {c.experts for c in choices} == {3, 2, 1}
    (foretold,) = (c for c in choices if (c.ratio, c.type) == (0, "Q4_K_M"))
    size = export_gguf(folder, tmp_path / "model.gguf", "Q4_K_M").stat().st_size
    assert foretold.file_bytes == pytest.approx(size, rel=0.01)


def test_the_command(tmp_path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "slimmoe", "fit", "models/default", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    shown = run("--memory", "8GiB").stdout
    assert all(kind in shown for kind in TYPES)  # nothing is cut off at 80 columns
    assert "next: make export PAIR=en-de RATIO=0 MODEL=models/default QUANT=F16" in shown
    answer = json.loads(run("--memory", "8GiB", "--pair", "de-en", "--json").stdout)
    assert answer["recommended"]["type"] == "F16" and answer["pair"] == "de-en"
    split = json.loads(run("--memory", "8GiB", "--vram", "1.05GiB", "--json").stdout)["recommended"]
    assert split["split"]["cpu_experts"] and not split["type"].startswith("int")
    shown = run("--memory", "8GiB", "--vram", "1.05GiB").stdout
    assert "1 GiB of the card's 1.05GiB" in shown and "on, the card holds all of it in F16" in shown
    small = run("--memory", "10MB")
    assert small.returncode == 1 and "does not fit into 10MB" in small.stderr and "Traceback" not in small.stderr
    wrong = run("--memory", "lots")
    assert wrong.returncode == 2 and "not a size of memory" in wrong.stderr
    code = "import sys, export.fit; assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_fewer_tokens_are_foretold(tmp_path) -> None:
    chosen = choose_vocabulary(Checkpoint(DEFAULT), Amount.parse("0.5"), Pair("en", "de"), Path("data/calibration"))
    small = prune(DEFAULT, None, tmp_path / "small", vocabulary=chosen)
    (foretold,) = (c for c in fit(Checkpoint(DEFAULT), 2**33, tokens=0.5).choices if (c.ratio, c.type) == (0, "Q4_K_M"))
    written = export_gguf(small, tmp_path / "small.gguf", "Q4_K_M").stat().st_size
    whole = export_gguf(DEFAULT, tmp_path / "whole.gguf", "Q4_K_M")
    (of_file,) = (c for c in fit(GgufModel(whole), 2**33, tokens=0.5).choices if c.ratio == 0)
    assert written < 0.95 * whole.stat().st_size
    assert [each.file_bytes for each in (foretold, of_file)] == pytest.approx([written] * 2, rel=0.01)
