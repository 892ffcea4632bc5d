"""Programs that were written for the services themselves, each with its packages in an environment of its own."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TEXT = "Save the file."
# What to install, and a program that is given the address and prints one line of JSON.
CLIENTS = {
    "libretranslate-aio": (
        ["libretranslate-aio"],
        """
import asyncio, json, pathlib, sys
from libretranslate_aio import AsyncLibreTranslate
from libretranslate_aio.exceptions import BadRequestError
async def main():
    async with AsyncLibreTranslate(sys.argv[1]) as client:
        assert await client.health()
        assert {each.code for each in await client.languages()} >= {"en", "de"}
        assert (await client.detect("Die Datei ist nicht da."))[0].language == "de"
        assert await client.suggest("a", "b", "en", "de")
        assert ".docx" in (await client.frontend_settings()).supported_files_format
        several = await client.translate([TEXT, TEXT], "auto", "de", alternatives=2)
        path = pathlib.Path("letter.txt")
        path.write_text(TEXT)
        assert "/download_file/" in (await client.translate_file(path, "en", "de")).translated_file_url
        try:
            await client.translate(TEXT, "en", "zz")
        except BadRequestError as error:
            assert "zz is not supported" in str(error)
        print(json.dumps(several.translated_text))
asyncio.run(main())
""",
    ),
    "deepl": (
        ["deepl"],
        """
import deepl, json, pathlib, sys
client = deepl.DeepLClient("any", server_url=sys.argv[1])
assert {str(each) for each in client.get_target_languages()} >= {"DE", "EN-GB"}
assert "EN" in {str(each) for each in client.get_source_languages()}
assert not client.get_usage().any_limit_reached
glossary = client.create_glossary("g", "EN", "DE", {"file": "Akte"})
assert glossary.entry_count == 1 and client.get_glossary_entries(glossary) == {"file": "Akte"}
assert client.translate_text(TEXT, source_lang="EN", target_lang="DE", glossary=glossary).text
client.delete_glossary(glossary)
pathlib.Path("a.txt").write_text(TEXT)
done = client.translate_document_from_filepath("a.txt", "b.txt", target_lang="DE")
assert done.done and pathlib.Path("b.txt").read_text()
try:
    client.translate_text(TEXT, target_lang="XX")
    raise SystemExit("no error")
except deepl.DeepLException as error:
    assert "XX is not supported" in str(error)
print(json.dumps([each.text for each in client.translate_text([TEXT] * 2, source_lang="EN", target_lang="DE")]))
""",
    ),
    "openai": (
        ["openai"],
        """
import json, sys
from openai import BadRequestError, OpenAI
client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="any")
assert any(each.id.endswith(":en-de") for each in client.models.list())
system = {"role": "system", "content": "Translate from English into German."}
asked = dict(model="gpt-4o", messages=[system, {"role": "user", "content": TEXT}])
whole = client.chat.completions.create(**asked)
streamed = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
pieces = [each.choices[0].delta.content or "" for each in streamed if each.choices]
assert whole.usage.completion_tokens > 0
try:
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi."}])
    raise SystemExit("no error")
except BadRequestError as error:
    assert "Say what to translate into" in str(error)
print(json.dumps([whole.choices[0].message.content, "".join(pieces)]))
""",
    ),
    "translate": (
        ["translate", "setuptools"],
        """
import json, sys
from translate import Translator
client = Translator(provider="libre", from_lang="en", to_lang="de", base_url=sys.argv[1] + "/", secret_access_key=None)
print(json.dumps([client.translate(TEXT)] * 2))
""",
    ),
}
# LibreTranslate's tests ask a client of its web framework; this one asks a server.
CONFTEST = """
import json, os, urllib.error, urllib.parse, urllib.request
import pytest
class Client:
    def _ask(self, method, path, body=None, kind=None):
        request = urllib.request.Request(os.environ["SERVER"] + path, body, {"Content-Type": kind} if kind else {}, method=method)
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        data = answer.read()
        return type("Response", (), {"status_code": answer.status, "data": data, "json": json.loads(data)})
    def get(self, path):
        return self._ask("GET", path)
    def post(self, path, data=None, json=None):
        if json is not None:
            return self._ask("POST", path, __import__("json").dumps(json).encode(), "application/json")
        return self._ask("POST", path, urllib.parse.urlencode(data or {}).encode(), "application/x-www-form-urlencoded")
@pytest.fixture
def client():
    return Client()
"""


ALONE = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def environment(folder: Path, *packages: str) -> Path:
    """The Python of a new environment with packages from the registry."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], env=ALONE, check=True)
    return python


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_translates(name: str, client, tmp_path: Path) -> None:
    packages, program = CLIENTS[name]
    python = environment(tmp_path / "venv", *packages)
    words = [python, "-c", f"TEXT = {TEXT!r}\n{program}", client.address]
    done = subprocess.run(words, cwd=tmp_path, env=ALONE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = client.post("/translate", {"q": TEXT, "source": "en", "target": "de"}).json["translatedText"]
    found = json.loads(done.stdout)
    assert len(found) == 2 and [each.split() for each in found] == [expected.split()] * 2


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
def test_the_npm_package_translates(client, tmp_path: Path) -> None:
    subprocess.run(["npm", "install", "--silent", "--prefix", tmp_path, "libretranslate@1"], check=True)
    program = """
require("libretranslate").translate({query: process.argv[2], source: "en", target: "de", apiurl: process.argv[1]})
  .then((text) => console.log(JSON.stringify(text)));
"""
    words = ["node", "-e", program, client.address, TEXT]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = client.post("/translate", {"q": TEXT, "source": "en", "target": "de"}).json["translatedText"]
    assert json.loads(done.stdout) == expected


@pytest.mark.slow
def test_libretranslate_s_own_tests(client, tmp_path: Path) -> None:
    """Of its interface, 14, from its package, which is downloaded for this and read as data."""
    fetch = [sys.executable, "-m", "pip", "download", "-q", "libretranslate", "--no-deps", "-d", tmp_path]
    subprocess.run(fetch, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("libretranslate-*.whl"))) as wheel:
        names = [name for name in wheel.namelist() if "/test_api/test_" in name]
        (tmp_path / "tests").mkdir()
        for name in names:
            (tmp_path / "tests" / Path(name).name).write_bytes(wheel.read(name))
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        tmp_path,
        tmp_path / "tests",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"SERVER": client.address}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "14 passed" in done.stdout, done.stdout
