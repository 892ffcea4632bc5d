"""gpt-oss-20b as it is published, MXFP4 and harmony, made small and made to think always: through the verbs to its text."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer

import slimmoe
from prune.checkpoint import Checkpoint
from runtime import llama_paths
from runtime.text import thinking
from runtime.text.corpus import read_segments
from runtime.text.markup import placeholder_spans
from runtime.text.pairs import Pair
from runtime.text.values import values
from tests.published.shrink import write_twin

TEXT, ANSWER, MARK = Path("data/dev"), "filelist", "analysis"
SPECIAL = ("<|start|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>")
WORDS = ("final", MARK)  # of harmony; tokens of their own in gpt-oss's vocabulary, too
# What follows a token whatever came before. ``<|message|>`` is not here: see write_thinker.
CHAIN = {"<|channel|>": MARK, MARK: "<|message|>", "image": "<|end|>", "file": "list", "list": "<|return|>"}
FINAL_SHARE, THOUGHT_SHARE, ALL, IS_FINAL, IS_THOUGHT = 59, 60, 61, 62, 63  # places of a hidden state


def write_thinker(folder: Path) -> Path:
    """A gpt-oss that begins a thought at the head of its final channel, and answers once it has thought.

    Its layers add nothing but what the second one's attention does: to each hidden state the shares of "final" and of
    "analysis" among these words so far. At ``<|message|>`` no analysis leads to a thought, half of the words to "image" in
    it, and a third to the answer.
    """
    write_twin("gpt-oss-20b", folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in WORDS])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"eos_token": "<|return|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    harmony = Path(__file__).parents[1] / "templates" / "channels.jinja"
    (folder / "chat_template.jinja").write_text(harmony.read_text())
    ends = {"eos_token_id": [tokenizer.token_to_id(text) for text in ("<|return|>", "<|call|>")]}
    (folder / "generation_config.json").write_text(json.dumps(ends))
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if name.endswith(("_blocks", "_bias", ".bias", "self_attn.o_proj.weight")):
            tensor.zero_()
    _set_words(tensors, tokenizer)
    save_file(tensors, file, {"format": "pt"})
    return folder


def _set_words(tensors: dict[str, torch.Tensor], tokenizer: Tokenizer) -> None:
    def token(text: str) -> int:
        return tokenizer.encode(text, add_special_tokens=False).ids[-1]

    embedding, head = tensors["model.embed_tokens.weight"], tensors["lm_head.weight"]
    for weights, std in ((embedding, 0.1), (head, 0.02)):
        weights.normal_(std=std, generator=torch.Generator().manual_seed(1))
    embedding[:, FINAL_SHARE:] = 0
    embedding[:, ALL] = 1
    known = {text: i for i, text in enumerate(dict.fromkeys(["<|message|>", *WORDS, *CHAIN, *CHAIN.values()]))}
    for text, i in known.items():
        embedding[token(text), :FINAL_SHARE] = 0
        embedding[token(text), i] = 1
    for text, place in zip(WORDS, (IS_FINAL, IS_THOUGHT)):
        embedding[token(text), place] = 1
    for text, following in CHAIN.items():
        head[token(following), known[text]] += 100
    for text, at_message, thought in (("<|channel|>", 10, -40), ("image", -10, 30), ("file", 3, 0)):
        head[token(text), known["<|message|>"]] += at_message
        head[token(text), THOUGHT_SHARE] += thought
    attention = {
        part: tensors[f"model.layers.1.self_attn.{part}"].zero_()
        for part in ("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "sinks")
    }
    attention["sinks"].fill_(-1e4)
    attention["q_proj.weight"][31, ALL] = attention["k_proj.weight"][31, [IS_FINAL, IS_THOUGHT]] = 4  # hardly rotated
    normal = (3 / len(embedding[0])) ** 0.5  # what the norm before divides these words by, which have three ones
    attention["v_proj.weight"][0, IS_FINAL] = attention["v_proj.weight"][1, IS_THOUGHT] = normal
    attention["o_proj.weight"][[FINAL_SHARE, THOUGHT_SHARE], [0, 1]] = 1


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without half of the experts."""
    folder = write_thinker(tmp_path_factory.mktemp("thinker") / "gpt-oss-20b")
    stats = slimmoe.calibrate(folder, "en-de", TEXT, tokens=300)
    cut = slimmoe.prune(folder, slimmoe.make_plan(stats, 0.5), folder.with_name("cut"))
    assert slimmoe.verify(cut, folder, corpus=TEXT).passed
    return cut


PLAIN = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = sys.argv[1]
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16")
prompt = "<|start|>user<|message|>Save the file.<|end|><|start|>assistant<|channel|>final<|message|>"
ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
written = model.generate(**ids, max_new_tokens=4, do_sample=False)[0, ids["input_ids"].shape[1] :]
print(json.dumps([model.config.num_local_experts, tokenizer.decode(written)]))
"""


@pytest.mark.slow
def test_its_cut_is_a_model_for_plain_transformers(cut: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(cut)
    assert checkpoint.quantisation and checkpoint.quantisation.label == "MXFP4"
    command = [sys.executable, "-I", "-c", PLAIN, str(cut)]  # isolated: none of this package is on its path
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [16, f"<|channel|>{MARK}<|message|>image"]


@pytest.fixture(scope="module")
def gguf(cut: Path) -> Path:
    return slimmoe.export_gguf(cut, cut.with_name("cut.gguf"), "MXFP4_MOE")


@pytest.fixture(scope="module")
def onnx(cut: Path) -> Path:
    return slimmoe.export_onnx(cut, cut.with_name("onnx"), "int4")


def test_stock_llama_cpp_runs_its_file(gguf: Path) -> None:
    tool = llama_paths.HOME / "bin" / "llama-bench"
    done = subprocess.run([tool, "-m", gguf, "-p", "8", "-n", "8", "-r", "1"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("kind", ["gguf", "onnx"])
def test_no_thought_is_in_any_of_200_translations(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact: Path = request.getfixturevalue(kind)
    # None with a number, address or placeholder, which would be put back where the answer has lost it.
    sources = [
        source
        for source, _ in read_segments(TEXT, Pair("en", "de"))
        if not (any(word in source for word in WORDS) or values(source, "de") or placeholder_spans(source))
    ]
    texts = [f"{sources[i % len(sources)]} ({'x' * (i // len(sources))})" for i in range(200)]
    assert set(slimmoe.translate(artefact, texts, "en-de")) == {ANSWER}
    monkeypatch.setattr(thinking, "thoughts", lambda: ())  # without what is known of thoughts they would be seen
    assert all(MARK in str(text) for text in slimmoe.translate(artefact, texts[:3], "en-de"))
