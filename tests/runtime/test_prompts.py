"""What a model is sent: its chat template as transformers renders it, in the words of its card, and nothing parsed in a segment.

Published templates are not part of the repository: SLIMMOE_TEMPLATES names a folder of them (``*.jinja``) to be compared
as well.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from runtime.errors import RequestError, WorkError
from runtime.text.languages import FLORES, LANGUAGES
from runtime.text.pairs import Pair, parse_pair
from runtime.text.prompt_templates import DEFAULT, PromptTemplate, find_prompt_template, parse_prompt
from runtime.text.prompts import ChatTemplate
from runtime.text.special_tokens import encode_all, pattern_of, special_of, take_apart
from runtime.text.thinking import is_empty_thought, thoughts

OWN = Path(__file__).parents[1] / "templates"
PUBLISHED = sorted(Path(os.environ.get("SLIMMOE_TEMPLATES", "/nonexistent")).glob("*.jinja"))
EN_DE = Pair("en", "de")
SOURCE, TARGET = 'Save <b>"Größe"</b> & more.', "Speichern {{ x }} <ü>."


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_checkpoint)


def template_of(path: Path, folder: Path) -> ChatTemplate:
    source = path.read_text(encoding="utf-8")
    return replace(ChatTemplate.from_folder(folder), source=source, asking=find_prompt_template([], source))


def conversations(template: ChatTemplate) -> dict[str, list[dict[str, Any]]]:
    asked, answer = template.messages(EN_DE, SOURCE), {"role": "assistant", "content": TARGET}
    system = {"role": "system", "content": " Be brief. "}
    return {
        "asked": asked, "answered": [*asked, answer], "with a system prompt": [system, *asked],
        "two turns": [*asked, answer, *asked, answer],
    }  # fmt: skip


@pytest.mark.parametrize("path", [*sorted(OWN.glob("*.jinja")), *PUBLISHED], ids=lambda path: path.stem)
def test_templates_render_as_in_transformers(path: Path, tokenizer: Any, tiny_checkpoint: Path) -> None:
    template, refused = template_of(path, tiny_checkpoint), 0
    for messages in conversations(template).values():
        for opened in (True, False):
            options = {"add_generation_prompt": opened, "tokenize": False, **template.switches}
            try:
                expected = tokenizer.apply_chat_template(messages, chat_template=template.source, **options)
            except Exception:
                with pytest.raises(WorkError, match="chat template"):
                    template.render(messages, opened)
                refused += 1
                continue
            assert template.render(messages, opened) == expected
    assert refused < 8 or path in PUBLISHED


@pytest.mark.parametrize("path", [*sorted(OWN.glob("*.jinja")), *PUBLISHED], ids=lambda path: path.stem)
def test_prompt_and_completion_are_the_whole_conversation(path: Path, tokenizer: Any, tiny_checkpoint: Path) -> None:
    """But for an end where a template writes none, and for a thought that it closes when it asks, or leaves open."""
    template = template_of(path, tiny_checkpoint)
    messages = template.messages(EN_DE, SOURCE)
    options = {"chat_template": template.source, "tokenize": False, **template.switches}
    try:
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, **options)
        whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": TARGET}], **options)
    except Exception as error:
        if path in PUBLISHED:
            pytest.skip(f"not a template for translation: {error}")
        raise
    prompt, completion = template.prompt(EN_DE, SOURCE), template.completion(EN_DE, SOURCE, TARGET)
    before, _, end = whole.partition(TARGET)
    assert completion == TARGET + (end if end.strip() else end + tokenizer.eos_token)
    if asked.startswith(before) and is_empty_thought(asked[len(before) :]):
        assert prompt == asked and path.stem not in ("channels", "always_thinks", "no_end")
    elif prompt != before:
        assert prompt.removeprefix(before) in {each.close for each in thoughts()}
        assert path.stem == "within_a_thought" or path in PUBLISHED


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("channels", "<|start|>assistant<|channel|>final<|message|>"),
        ("thinks_if_told", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("always_thinks", "<|assistant|>"),
        ("says_no_thought", "<|turn>model\n<|channel>thought\n<channel|>"),
        ("within_a_thought", "<|assistant|><think>\n\n\n</think>\n\n"),
        ("no_end", "<|assistant|></think>"),
        ("effort", "<|assistant|>"),
    ],
)
def test_a_prompt_ends_where_the_answer_begins(name: str, opening: str, tiny_checkpoint: Path) -> None:
    prompt = template_of(OWN / f"{name}.jinja", tiny_checkpoint).prompt(EN_DE, SOURCE)
    assert prompt.rpartition(SOURCE)[2].endswith(opening)
    assert name != "effort" or prompt.startswith("<|reasoning:no_think|>")


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("channels", {"<|return|>", "<|end|>"}),  # the second ends an answer before a next turn, or any message
        ("thinks_if_told", {"<|im_end|>", "<|end|>"}),  # the second is eos_token
        ("no_end", {"<|user|>", "<|end|>"}),
    ],
)
def test_ends_of_turn_are_the_template_s(name: str, ends: set[str], tiny_checkpoint: Path) -> None:
    special = pattern_of(["<|return|>", "<|end|>", "<|im_end|>", "<|im_start|>", "<|user|>", "<|start|>"])
    assert set(template_of(OWN / f"{name}.jinja", tiny_checkpoint).ends_of_turn(special)) == ends


def test_special_tokens_in_a_segment_are_text(tokenizer: Any, tiny_checkpoint: Path) -> None:
    from tokenizers import Tokenizer

    own = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))
    template, special = ChatTemplate.from_folder(tiny_checkpoint), special_of(own)

    def encode(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in own.encode_batch(texts, add_special_tokens=False)]

    plain, marked = "Save the file.", "Save<|end|> the <|user|>file<|end|><|end|>."
    prompts = [template.prompt(EN_DE, text) for text in (plain, marked)]
    ids = encode_all(prompts, encode, special)
    marks = set(tokenizer.all_special_ids) | {own.token_to_id("<|user|>"), own.token_to_id("<|assistant|>")}
    kept = [[own.id_to_token(each) for each in row if each in marks] for row in ids]
    assert kept == [["<|user|>", "<|assistant|>"]] * 2
    assert own.decode(ids[1], skip_special_tokens=False) == prompts[1]
    assert ids[0] == tokenizer(str(prompts[0]), add_special_tokens=False).input_ids
    assert len(take_apart(template.completion(EN_DE, plain, marked), special)) == 5  # the end of the turn stays whole


@pytest.mark.parametrize(
    ("names", "template", "expected"),
    [
        (["models--tencent--Hy-MT2-30B-A3B"], "", "hy-mt"),
        (["Qwen3-30B-A3B"], "", "default"),
        (["nllb-moe-54b"], "", "nllb"),
        ([""], "{{ m['content'][0]['source_lang_code'] }}", "translategemma"),
    ],
)
def test_a_model_is_asked_as_its_card_says(names: list[str], template: str, expected: str) -> None:
    assert find_prompt_template(names, template).name == expected


def test_translation_models_get_their_own_words(tmp_path: Path) -> None:
    for name in ("Hy-MT2-30B-A3B", "nllb-moe-54b"):
        (tmp_path / name).mkdir()
    hunyuan = ChatTemplate.from_folder(tmp_path / "Hy-MT2-30B-A3B")
    sentence = "Translate the following segment into Brazilian Portuguese, without additional explanation.\n\nHello."
    assert hunyuan.messages(Pair("en", "pt-BR"), "Hello.") == [{"role": "user", "content": sentence}]
    assert hunyuan.asking.repetition_penalty == 1.05
    nllb = ChatTemplate.from_folder(tmp_path / "nllb-moe-54b")
    assert nllb.prompt(EN_DE, "Hello.") == "eng_LatnHello.</s></s>deu_Latn"
    typed = ChatTemplate((OWN / "typed.jinja").read_text(), asking=find_prompt_template(["translategemma-27b"], ""))
    assert typed.prompt(Pair("en", "pt-BR"), "Hi") == "<|user|>From English (en) to Portuguese:\nHi<|end|><|assistant|>"


def test_a_prompt_of_the_user_s_own_is_read_from_text_or_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("{source_name} ({source_code}): {text}\n{target_name} ({target_code}):\n")
    (tmp_path / "p.toml").write_text('system = "To {target_name}."\nuser = "{text}"\nrepetition_penalty = 1.1\n')
    own = ChatTemplate(
        "{% for m in messages %}{{ m.content if m.role == 'assistant' else '[' ~ m.content ~ ']' }}{% endfor %}"
    )
    assert own.asked(parse_prompt(str(tmp_path / "p.txt"))).prompt(EN_DE, "Hi") == "[English (en): Hi\nGerman (de):]"
    assert own.asked(parse_prompt(str(tmp_path / "p.toml"))).prompt(EN_DE, "Hi") == "[To German.][Hi]"
    kept = parse_prompt(str(tmp_path / "p.toml"))
    assert PromptTemplate.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept
    for wrong in ("Translate {txt}", "Translate", "{text} {target}", str(tmp_path / "none.txt")):
        with pytest.raises(RequestError, match="prompt"):
            parse_prompt(wrong)
    assert own.asked(parse_prompt("{ x } {text}")).prompt(EN_DE, "{target_name}") == "[{ x } {target_name}]"


def test_languages_of_wmt24_and_their_variants_are_known() -> None:
    wmt = """
        ar_EG ar_SA bg_BG bn_IN ca_ES cs_CZ da_DK de_DE el_GR es_MX et_EE fa_IR fi_FI fil_PH fr_CA fr_FR gu_IN he_IL hi_IN
        hr_HR hu_HU id_ID is_IS it_IT ja_JP kn_IN ko_KR lt_LT lv_LV ml_IN mr_IN nl_NL no_NO pa_IN pl_PL pt_BR pt_PT ro_RO
        ru_RU sk_SK sl_SI sr_RS sv_SE sw_KE sw_TZ ta_IN te_IN th_TH tr_TR uk_UA ur_PK vi_VN zh_CN zh_TW zu_ZA
    """.split()  # noqa: SIM905
    pairs = [parse_pair(f"en-{code}") for code in wmt]
    assert len(set(pairs)) == 55 and all(parse_pair(str(pair)) == pair for pair in pairs)
    assert str(parse_pair("ZH_hant-SR-latn")) == "zh-Hant-sr-Latn"
    names = [parse_pair(f"en-{code}").target_name for code in ("pt-BR", "pt-PT", "zh-Hans", "zh-TW")]
    assert names == ["Brazilian Portuguese", "European Portuguese", "Simplified Chinese", "Traditional Chinese"]
    assert FLORES.keys() == LANGUAGES.keys() and DEFAULT.name == "default"
