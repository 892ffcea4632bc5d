"""DeepL's version 2 (developers.deepl.com/docs), as far as its Python package uses it. Glossaries are kept until the end."""

import csv
import io
import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from runtime.text.languages import LANGUAGES
from slimmoe.server.api import Api, download
from slimmoe.server.asked import Ask, Refused
from slimmoe.server.desk import Job
from slimmoe.server.fields import Fields
from slimmoe.server.service import Work

PREFIX = "/v2/"
MOST_GLOSSARIES, MOST_TERMS, MOST_JOBS = 100, 5000, 1000
_VARIANTS = {"en": ["EN-GB", "EN-US"], "pt": ["PT-PT"]}  # as targets, for which the package refuses EN and PT
_UNLIMITED = 10**12


def error_form(status: int, sentence: str) -> Any:
    """DeepL's form."""
    return {"message": sentence}


@dataclass(frozen=True)
class _Glossary:
    name: str
    source: str
    target: str
    terms: tuple[tuple[str, str], ...]
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    made: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

    def row(self) -> dict[str, Any]:
        return {
            "glossary_id": self.id, "name": self.name, "ready": True, "source_lang": self.source.lower(),
            "target_lang": self.target.lower(), "creation_time": self.made, "entry_count": len(self.terms),
        }  # fmt: skip


@dataclass
class _Document:
    job: Job[str]  # gives the token of its translation
    key: str


def routes(api: Api) -> list[Route]:
    """Its routes."""
    glossaries: dict[str, _Glossary] = {}
    documents: dict[str, _Document] = {}
    pairs = api.service.models.pairs

    def glossary_of(name: str) -> _Glossary:
        if (found := glossaries.get(name)) is None:
            raise Refused(404, "There is no such glossary; they are kept until the server ends.")
        return found

    def asked(fields: Fields, texts: tuple[str, ...]) -> Ask:
        html = fields.text("tag_handling").lower() in ("xml", "html")
        glossary = fields.text("glossary_id")
        terms = glossary_of(glossary).terms if glossary else ()
        return Ask(texts, fields.required("target_lang"), fields.text("source_lang"), html=html, terms=terms)

    async def translate(request: Request, fields: Fields) -> Response:
        texts = fields.texts("text")
        if not texts:
            raise Refused(400, "Parameter 'text' not specified.")
        answer = await api.translate(request, asked(fields, tuple(texts)))
        source = answer.chosen.pair.base.source.upper()
        return JSONResponse(
            {
                "translations": [
                    {"detected_source_language": source, "text": done, "billed_characters": len(text)}
                    for text, done in zip(texts, answer.texts)
                ]
            }
        )

    async def languages(request: Request, fields: Fields) -> Response:
        targets = fields.text("type") == "target"
        codes = dict.fromkeys(pair.target if targets else pair.base.source for pair in pairs)
        rows = [
            {"language": spelt, "name": LANGUAGES[code]} | ({"supports_formality": False} if targets else {})
            for code in codes
            for spelt in (_VARIANTS.get(code) if targets else None) or [code.upper()]
        ]
        return JSONResponse(rows)

    async def usage(request: Request, fields: Fields) -> Response:
        return JSONResponse({"character_count": 0, "character_limit": _UNLIMITED})

    async def glossary_pairs(request: Request, fields: Fields) -> Response:
        rows = [{"source_lang": pair.base.source, "target_lang": pair.base.target} for pair in pairs]
        return JSONResponse({"supported_languages": rows})

    async def list_glossaries(request: Request, fields: Fields) -> Response:
        return JSONResponse({"glossaries": [each.row() for each in glossaries.values()]})

    async def make_glossary(request: Request, fields: Fields) -> Response:
        source, target = (fields.required(f"{which}_lang") for which in ("source", "target"))
        api.service.models.choose(source, target)
        if len(glossaries) >= MOST_GLOSSARIES:
            raise Refused(400, f"There are {MOST_GLOSSARIES} glossaries already: delete one.")
        delimiter = "," if fields.text("entries_format") == "csv" else "\t"
        made = _Glossary(fields.required("name")[:200], source, target, _terms(fields.required("entries"), delimiter))
        glossaries[made.id] = made
        return JSONResponse(made.row(), 201)

    async def one_glossary(request: Request, fields: Fields) -> Response:
        found = glossary_of(request.path_params["id"])
        if request.method == "DELETE":
            del glossaries[found.id]
            return Response(status_code=204)
        return JSONResponse(found.row())

    async def entries(request: Request, fields: Fields) -> Response:
        terms = glossary_of(request.path_params["id"]).terms
        return PlainTextResponse("\n".join("\t".join(each) for each in terms), media_type="text/tab-separated-values")

    async def send_document(request: Request, fields: Fields) -> Response:
        if "file" not in fields.files:
            raise Refused(400, "Parameter 'file' not specified.")
        name, data = fields.files["file"]
        ask = replace(asked(fields, ()), html=False)
        name = fields.text("filename") or name
        if len(documents) >= MOST_JOBS:
            oldest = next(iter(documents))
            documents.pop(oldest).job.work.end()  # its translation goes after its hour

        def do(work: Work) -> str:
            done, translation, _ = api.service.translate_document(name, data, ask, work)
            return api.kept.put(done, translation)

        job = api.desk.start(do)
        made, key = secrets.token_hex(16), secrets.token_hex(32)
        documents[made] = _Document(job, key)
        return JSONResponse({"document_id": made, "document_key": key})

    def document_of(request: Request, fields: Fields) -> _Document:
        found = documents.get(request.path_params["id"])
        if found is None or not secrets.compare_digest(found.key.encode(), fields.text("document_key").encode()):
            raise Refused(404, "There is no such document.")
        return found

    async def document_state(request: Request, fields: Fields) -> Response:
        found, state = document_of(request, fields), {"document_id": request.path_params["id"]}
        if not found.job.future.done():
            return JSONResponse({**state, "status": "translating", "seconds_remaining": 5})
        if error := found.job.future.exception():
            return JSONResponse({**state, "status": "error", "error_message": getattr(error, "sentence", "It failed.")})
        return JSONResponse({**state, "status": "done", "billed_characters": 0})

    async def document_result(request: Request, fields: Fields) -> Response:
        found = document_of(request, fields)
        if not found.job.future.done():
            raise Refused(503, "The document is not translated yet.", 1)
        token = await found.job.future
        name, data = api.kept.get(token)
        api.kept.drop(token)
        del documents[request.path_params["id"]]
        return download(name, data)

    return [
        api.route("/v2/translate", translate, "GET", "POST"),
        api.route("/v2/languages", languages, "GET", "POST"),
        api.route("/v2/usage", usage, "GET", "POST"),
        api.route("/v2/glossary-language-pairs", glossary_pairs),
        api.route("/v2/glossaries", list_glossaries),
        api.route("/v2/glossaries", make_glossary, "POST"),
        api.route("/v2/glossaries/{id}", one_glossary, "GET", "DELETE"),
        api.route("/v2/glossaries/{id}/entries", entries),
        api.route("/v2/document", send_document, "POST"),
        api.route("/v2/document/{id}", document_state, "GET", "POST"),
        api.route("/v2/document/{id}/result", document_result, "GET", "POST"),
    ]


def _terms(text: str, delimiter: str) -> tuple[tuple[str, str], ...]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True) if any(row)]
    except csv.Error as error:
        raise Refused(400, f"The entries cannot be read as a table: {error}.") from None
    terms = tuple(
        (row[0].strip(), row[1].strip()) for row in rows if len(row) > 1 and row[0].strip() and row[1].strip()
    )
    if not terms or len(terms) > MOST_TERMS or max(len(part) for term in terms for part in term) > 200:
        raise Refused(400, f"A glossary has 1 to {MOST_TERMS} pairs of terms, of at most 200 characters each.")
    return terms
