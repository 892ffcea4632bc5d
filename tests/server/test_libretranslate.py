"""LibreTranslate's interface, by HTTP."""

import pytest


def test_languages_are_those_of_the_models(client) -> None:
    found = {each["code"]: each for each in client.get("/languages").json}
    assert set(found) == {"en", "de", "es", "pt-BR", "zh-Hans"}
    assert set(found["en"]["targets"]) == {"en", "de", "es", "pt-BR"} and found["pt-BR"]["targets"] == ["pt-BR"]
    assert found["zh-Hans"]["name"] == "Simplified Chinese"


def test_a_form_and_json_give_the_same(client) -> None:
    asked = {"q": "Save the file.\nPrint it.", "source": "en", "target": "de", "format": "text"}
    by_json, by_form = client.post("/translate", asked), client.form("/translate", **asked)
    assert by_json.status == by_form.status == 200 and by_json.json == by_form.json
    assert by_json.json["translatedText"].count("\n") == 1 and list(by_json.json) == ["translatedText"]


def test_a_list_is_translated_one_by_one(client) -> None:
    texts = ["Save the file.", "", "Print the page.", " \n"]
    several = client.post("/translate", {"q": texts, "source": "en", "target": "de"}).json["translatedText"]
    alone = [client.post("/translate", {"q": [each], "source": "en", "target": "de"}).json for each in texts]
    assert several == [each["translatedText"][0] for each in alone] and several[1] == "" and several[3] == " \n"
    assert (
        client.form("/translate", q=texts[:1] * 2, source="en", target="de").json["translatedText"] == several[:1] * 2
    )


def test_html_keeps_its_tags_and_what_is_no_text(client) -> None:
    page = '<p class="x">Save <b>the file</b>.<br/>Print it.</p><script>let a = 1 < 2;</script><pre>Save it.</pre>'
    done = client.post("/translate", {"q": page, "source": "en", "target": "de", "format": "html"}).json[
        "translatedText"
    ]
    for kept in ('<p class="x">', "<b>", "</b>", "<br/>", "<script>let a = 1 < 2;</script><pre>Save it.</pre>"):
        assert done.count(kept) == 1
    assert done != page


def test_placeholders_come_out_once(client) -> None:
    text = "The file {name} at https://example.org/a?b=1 has %d pages."
    done = client.post("/translate", {"q": text, "source": "en", "target": "de"}).json["translatedText"]
    assert all(done.count(each) == 1 for each in ("{name}", "https://example.org/a?b=1", "%d"))


def test_the_source_is_told_by_the_text(client) -> None:
    text = "Die Datei konnte nicht geöffnet werden, weil sie nicht da ist."
    done = client.post("/translate", {"q": text, "source": "auto", "target": "en"}).json
    assert done["detectedLanguage"]["language"] == "de" and done["detectedLanguage"]["confidence"] > 90
    several = client.post("/translate", {"q": [text, text], "source": "auto", "target": "en"}).json
    assert several["detectedLanguage"] == [done["detectedLanguage"]] * 2
    assert client.form("/detect", q=text).json[0]["language"] == "de"
    assert client.form("/detect", q="123").json == [{"confidence": 0.0, "language": "en"}]


def test_alternatives_begin_otherwise(speaker) -> None:
    asked = {"q": "Save it.", "source": "en", "target": "de", "alternatives": 3}
    done = speaker.post("/translate", asked).json
    assert done["translatedText"] == "die." and "und." in done["alternatives"] and "die." not in done["alternatives"]
    several = speaker.post("/translate", {**asked, "q": ["Save it.", "1"]}).json
    assert several["alternatives"] == [done["alternatives"], []]
    assert speaker.post("/translate", {**asked, "format": "html"}).json["alternatives"] == []
    for none in (0, -1, "-3401287101137171251200"):
        assert "alternatives" not in speaker.form("/translate", **{**asked, "alternatives": none}).json
    assert (
        "alternatives parameter must be <= 5" in speaker.post("/translate", {**asked, "alternatives": 6}).json["error"]
    )


def test_what_is_in_the_target_s_language_stays(client) -> None:
    text = "Die Datei konnte nicht geöffnet werden, weil sie nicht da ist."
    assert client.post("/translate", {"q": text, "source": "de", "target": "DE"}).json == {"translatedText": text}
    done = client.post("/translate", {"q": text, "source": "auto", "target": "de"}).json
    assert done["translatedText"] == text and done["detectedLanguage"]["language"] == "de"
    file = client.upload("/translate_file", "a.txt", text.encode(), source="auto", target="de").json
    assert client.get(file["translatedFileUrl"].removeprefix(client.address)).body == text.encode()
    assert client.post("/translate", {"q": "Datei", "source": "auto", "target": "de"}).json["translatedText"] != "Datei"


@pytest.mark.parametrize(
    ("source", "target"),
    [("en", "pt-BR"), ("EN", "pb"), ("en-US", "pt"), ("zh", "en"), ("zh-CN", "en_GB"), ("en", "ES")],
)
def test_languages_may_be_spelt_otherwise(client, source: str, target: str) -> None:
    assert client.post("/translate", {"q": "1", "source": source, "target": target}).json == {"translatedText": "1"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"source": "en", "target": "de"}, "Invalid request: missing q parameter"),
        ({"q": "", "source": "en", "target": "de"}, "Invalid request: missing q parameter"),
        ({"q": "x", "target": "de"}, "Invalid request: missing source parameter"),
        ({"q": "x", "source": "en"}, "Invalid request: missing target parameter"),
        ({"q": "x", "source": "en", "target": "zz"}, "zz is not supported"),
        ({"q": "x", "source": "auto", "target": "zz"}, "zz is not supported"),
        ({"q": "x", "source": "zz", "target": "de"}, "zz is not supported"),
        ({"q": "x", "source": "de", "target": "es"}, "Spanish (es) is not available as a target language from German"),
        ({"q": "x", "source": "en", "target": "de", "format": "rtf"}, "rtf format is not supported"),
        ({"q": "x", "source": "en", "target": "de", "alternatives": "x"}, "alternatives parameter is not a number"),
        ({"q": 5, "source": "en", "target": "de"}, "q parameter is not text"),
        ({"q": ["x", 5], "source": "en", "target": "de"}, "q parameter is not text"),
        ({"q": "\ud800", "source": "en", "target": "de"}, "q parameter is not valid Unicode"),
        ({"q": "x" * 200_001, "source": "en", "target": "de"}, "request (200001) exceeds text limit (200000)"),
        ({"q": ["x"] * 2001, "source": "en", "target": "de"}, "request (2001) exceeds text limit (2000)"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(client, values: dict, said: str) -> None:
    reply = client.post("/translate", values)
    assert reply.status == 400 and said in reply.json["error"] and list(reply.json) == ["error"]


def test_a_document_is_translated_and_fetched(client) -> None:
    text = b"Save the file.\r\n\r\n    Print it.\r\n"
    reply = client.upload("/translate_file", "../../etc/letter ü.txt", text, source="auto", target="de")
    assert reply.status == 200
    address = reply.json["translatedFileUrl"]
    assert address.startswith(client.address) and address.endswith(".txt")
    done = client.get(address.removeprefix(client.address))
    assert done.body != text and done.body.count(b"\r\n") == 3 and b"\r\n\r\n    " in done.body
    assert done.headers["content-disposition"].endswith("filename*=UTF-8''letter%20%C3%BC.de.txt")
    assert client.upload("/translate_file", "a.exe", b"x", source="en", target="de").status == 400
    assert client.form("/translate_file", source="en", target="de").json == {
        "error": "Invalid request: missing file parameter"
    }
    damaged = client.upload("/translate_file", "a.docx", b"x", source="en", target="de")
    assert damaged.status == 400 and "a.docx" in damaged.json["error"]


@pytest.mark.parametrize(("told", "scheme"), [({}, "http"), ({"X-Forwarded-Proto": "https"}, "https")])
def test_behind_a_proxy_a_document_s_address_is_the_proxy_s(client, told: dict, scheme: str) -> None:
    """Its name is the one that was asked for, its scheme what the proxy says."""
    head = '--xx\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    fields = (("source", "", "en"), ("target", "", "de"), ("file", '; filename="a.txt"', "Save."))
    body = "".join(head.format(*each) for each in fields) + "--xx--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=xx", "Host": "localhost:8443", **told}
    address = client.ask("POST", "/translate_file", body, headers).json["translatedFileUrl"]
    assert address.startswith(f"{scheme}://localhost:8443/download_file/")


def test_what_clients_ask_beside_it(client) -> None:
    assert client.get("/health").json == {"status": "ok"}
    settings = client.get("/frontend/settings").json
    assert settings["keyRequired"] is False and ".docx" in settings["supportedFilesFormat"]
    assert client.form("/suggest", q="a", s="b", source="en", target="de").json == {"success": True}
    assert client.form("/suggest", q="a", source="en", target="de").status == 400
    metrics = client.get("/metrics").body.decode()
    assert 'slimmoe_requests_total{route="/health",status="200"}' in metrics
    told = client.get("/spec").json
    assert told["info"]["title"] == "LibreTranslate"  # by which Dialect knows that an address is a server's
    assert told["components"]["schemas"]["Source"]["enum"] == ["auto", "de", "en", "zh-Hans"]
    asked = {(method.upper(), path) for path, methods in told["paths"].items() for method in methods}
    assert asked <= {(method, route.path) for route in client.routes for method in route.methods}
    for method, path in (("POST", "/languages"), ("GET", "/detect"), ("POST", "/health"), ("PUT", "/translate")):
        reply = client.ask(method, path)
        assert reply.status == 405 and reply.json["error"] == "Method Not Allowed"
        assert method not in reply.headers["allow"]
    assert client.ask("PUT", "/translate").headers["allow"] == "GET, HEAD, POST"
    assert client.get("/nothing").json == {"error": "Not Found"}
