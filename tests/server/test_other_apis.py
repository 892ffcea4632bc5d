"""The interfaces of OpenAI, DeepL and Apertium, by HTTP."""

import json

import pytest

from slimmoe.server.asked import Refused
from slimmoe.server.wordings import Wanted, wanted


def by_libretranslate(client, text: str, source: str = "en", target: str = "de") -> str:
    return client.post("/translate", {"q": text, "source": source, "target": target}).json["translatedText"]


def chat(client, *messages: str, model: str = "any", **more):
    """Messages, the last one of the user's, those before it of the system's."""
    roles = ["system"] * (len(messages) - 1) + ["user"]
    rows = [{"role": role, "content": text} for role, text in zip(roles, messages)]
    return client.post("/v1/chat/completions", {"model": model, "messages": rows, **more})


@pytest.mark.parametrize(
    ("system", "user", "expected"),
    [
        ("", "Translate the following segment into German, without additional explanation.\n\nHi: you.", ("", "de", "Hi: you.")),
        ("", "Translate to German (output translation only):\n\nHi.\nYou.", ("", "de", "Hi.\nYou.")),
        ("", "Translate from English to Brazilian Portuguese: Hi.", ("en", "pt-BR", "Hi.")),
        ("", "Please translate the text below from German to English:\n```\nHallo.\n```", ("de", "en", "Hallo.")),
        ("", "translate English to German: That is good.", ("en", "de", "That is good.")),
        ("", 'Translate "Save the file." to French.', ("", "fr", "Save the file.")),
        ("", "Translate into zh-Hans: Hi", ("", "zh-Hans", "Hi")),
        ("", "Save it.\n\nTranslate the above into Spanish.", ("", "es", "Save it.")),
        (
            "",
            "Translate the following source text to German, Output translation directly without any additional text.\n"
            "Source Text: Hi.\nTranslated Text:",
            ("", "de", "Hi."),
        ),
        ("You are a professional German native translator.\nTarget language: German", "Hi.", ("", "de", "Hi.")),
        ("You translate from English into Simplified Chinese.", "Translate it.", ("en", "zh-Hans", "Translate it.")),
        ("You are an English to German translator.", "Hi.", ("en", "de", "Hi.")),
        ("Translate everything to German.", "Translate to German:\nHi.", ("", "de", "Hi.")),
        ("Translate everything to German.", "He said: translate to French: no.", ("", "de", "He said: translate to French: no.")),
        ("Be brief.", "Hi.", ("", "", "Hi.")),
    ],
)  # fmt: skip
def test_what_a_message_wants(system: str, user: str, expected: tuple[str, str, str]) -> None:
    found = wanted([("system", system), ("user", user)])
    assert found == Wanted(expected[2], expected[0], expected[1])


def test_no_text_is_told() -> None:
    for messages in ([], [("system", "Translate to German.")], [("user", "Translate to German.")], [("user", " ")]):
        with pytest.raises(Refused, match=r"no (text|message)"):
            wanted(messages)


def test_a_long_message_is_read_once() -> None:
    """Where each of its line ends began a search to the end, this would take hours."""
    text = "x" + "\n" * 3_000_000 + "y"
    assert wanted([("user", f"Translate to German:\n{text}")]).text == text


def test_a_chat_is_a_translation(client) -> None:
    text = "Save the file. Print it."
    done = by_libretranslate(client, text)
    reply = chat(client, "You translate from English to German.", text).json
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": done, "refusal": None}
    assert reply["choices"][0]["finish_reason"] == "stop" and reply["usage"]["completion_tokens"] > 0
    assert reply["object"] == "chat.completion"
    by_name = chat(client, text, model="en-de").json["choices"][0]["message"]["content"]
    by_both = chat(client, text, model="model.onnx:en-de").json["choices"][0]["message"]["content"]
    parts = {"role": "user", "content": [{"type": "text", "text": each} for each in ("Save the file.", "Print it.")]}
    rows = [{"role": "assistant", "content": None}, {"role": "system", "content": ""}, parts]
    by_parts = client.post("/v1/chat/completions", {"model": "en-de", "messages": rows}).json["choices"][0]["message"][
        "content"
    ]
    assert by_name == by_both == done and by_parts == by_libretranslate(client, "Save the file.\nPrint it.")


def test_a_chat_is_streamed_by_sentence(client) -> None:
    text = "Save the file. Print it.\n\nOpen it."
    reply = chat(client, text, model="en-de", stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in reply.body.decode().split("\n\n") if line]
    assert events.pop() == "[DONE]"
    rows = [json.loads(each) for each in events]
    pieces = [row["choices"][0]["delta"].get("content") for row in rows if row["choices"]]
    assert "".join(piece or "" for piece in pieces) == by_libretranslate(client, text) and len(pieces) >= 5
    assert rows[-2]["choices"][0]["finish_reason"] == "stop" and rows[-1]["usage"]["completion_tokens"] > 0
    assert {row["object"] for row in rows} == {"chat.completion.chunk"} and len({row["id"] for row in rows}) == 1


def test_models_are_named_with_their_pairs(client) -> None:
    names = [each["id"] for each in client.get("/v1/models").json["data"]]
    assert names[:2] == ["model.onnx", "model.onnx:en-de"] and "model.onnx:zh-Hans-en" in names
    assert client.get("/v1/models/model.onnx:en-de").json["object"] == "model"
    assert client.get("/v1/models/other").status == 404


@pytest.mark.parametrize(
    ("values", "status", "said"),
    [
        ({"model": "x", "messages": [{"role": "user", "content": "Hi."}]}, 400, "Say what to translate into"),
        ({"model": "x", "messages": "Hi."}, 400, "messages must be a list"),
        ({"model": "x", "messages": ["Hi."]}, 400, "messages must be a list"),
        ({"model": "x"}, 400, "messages must be a list"),
        ({"model": "en-de", "messages": [{"role": "user", "content": 5}]}, 400, "content parameter is not text"),
        ({"model": "en-de", "messages": [{"role": "user", "content": " "}]}, 400, "has no text"),
        ({"model": "en-de", "messages": [{"role": "x", "content": "Hi."}]}, 400, "role is one of"),
        ({"model": "en-de", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "only text"),
        ({"model": "en-de", "messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "not text"),
        ({"model": "de-es", "messages": [{"role": "user", "content": "Hi."}], "stream": True}, 400, "not available"),
        ({"model": "en-ja", "messages": [{"role": "user", "content": "Hi."}]}, 400, "ja is not supported"),
    ],
)
def test_a_wrong_chat_is_told_what_is_wrong(client, values: dict, status: int, said: str) -> None:
    reply = client.post("/v1/chat/completions", values)
    assert reply.status == status and said in reply.json["error"]["message"] and reply.json["error"]["type"]


def test_deepl_translates(client) -> None:
    texts = ["Save the file.", "Print it."]
    reply = client.post("/v2/translate", {"text": texts, "target_lang": "DE", "source_lang": "EN"}).json
    assert [each["text"] for each in reply["translations"]] == [by_libretranslate(client, text) for text in texts]
    assert {each["detected_source_language"] for each in reply["translations"]} == {"EN"}
    assert [each["billed_characters"] for each in reply["translations"]] == [14, 9]
    form = client.form("/v2/translate", text=texts, target_lang="DE", source_lang="EN").json
    assert form == reply
    tagged = client.form("/v2/translate", text="<p>Save it.</p>", target_lang="pt-br", tag_handling="html").json
    assert tagged["translations"][0]["text"].startswith("<p>")
    targets = {each["language"] for each in client.get("/v2/languages?type=target").json}
    assert targets == {"DE", "EN-GB", "EN-US", "ES", "PT-BR"}
    assert {each["language"] for each in client.get("/v2/languages").json} == {"EN", "DE", "ZH"}
    assert client.get("/v2/usage").json["character_limit"] > 0
    assert client.form("/v2/translate", text="x", target_lang="XX").json == {"message": "XX is not supported"}
    assert client.form("/v2/translate", target_lang="DE").status == 400


def test_deepl_glossaries_are_followed(speaker) -> None:
    made = speaker.post(
        "/v2/glossaries",
        {"name": "g", "source_lang": "en", "target_lang": "de", "entries_format": "tsv", "entries": "file\tund\n"},
    )
    assert made.status == 201 and made.json["entry_count"] == 1
    path = f"/v2/glossaries/{made.json['glossary_id']}"
    assert speaker.get(path).json == made.json and speaker.get("/v2/glossaries").json["glossaries"] == [made.json]
    assert speaker.get(f"{path}/entries").body == b"file\tund"
    asked = {
        "text": "Save the file.",
        "source_lang": "EN",
        "target_lang": "DE",
        "glossary_id": made.json["glossary_id"],
    }
    without = {**asked, "glossary_id": ""}
    for values, expected in ((asked, "und."), (without, "die.")):
        assert speaker.post("/v2/translate", values).json["translations"][0]["text"] == expected
    assert speaker.ask("DELETE", path).status == 204
    assert speaker.get(path).status == speaker.post("/v2/translate", asked).status == 404


def test_deepl_documents(client) -> None:
    sent = client.upload("/v2/document", "a.txt", b"Save the file.\n", target_lang="DE", source_lang="EN").json
    path, key = f"/v2/document/{sent['document_id']}", {"document_key": sent["document_key"]}
    while (state := client.post(path, key).json)["status"] == "translating":
        pass
    assert state["status"] == "done" and client.post(path, {"document_key": "x"}).status == 404
    done = client.post(f"{path}/result", key)
    assert done.body.endswith(b"\n") and "a.de.txt" in done.headers["content-disposition"]
    assert client.post(f"{path}/result", key).status == 404
    bad = client.upload("/v2/document", "a.docx", b"x", target_lang="DE", source_lang="EN").json
    path, key = f"/v2/document/{bad['document_id']}", {"document_key": bad["document_key"]}
    while (state := client.post(path, key).json)["status"] == "translating":
        pass
    assert state["status"] == "error" and "a.docx" in state["error_message"]


def test_apertium_translates(client) -> None:
    done = by_libretranslate(client, "Save the file.")
    for pair in ("en%7Cde", "eng%7Cdeu"):
        reply = client.get(f"/translate?langpair={pair}&q=Save%20the%20file.").json
        assert reply == {"responseData": {"translatedText": done}, "responseDetails": None, "responseStatus": 200}
    pairs = client.get("/listPairs").json["responseData"]
    assert {"sourceLanguage": "eng", "targetLanguage": "deu"} in pairs
    assert {"sourceLanguage": "eng", "targetLanguage": "por_BR"} in pairs
    assert client.get("/translate?langpair=eng%7Cpor_BR&q=1").json["responseData"]["translatedText"] == "1"
    assert client.get("/translate?langpair=en&q=x").status == client.get("/translate?q=x").status == 400
