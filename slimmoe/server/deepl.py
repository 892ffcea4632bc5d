"""DeepL's version 2 (developers.deepl.com/docs), as far as its Python package uses it."""

import asyncio
import csv
import io
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from runtime.text.languages import LANGUAGES
from slimmoe.server.api import Api, download
from slimmoe.server.asked import Ask, Refused
from slimmoe.server.fields import Fields
from slimmoe.server.jobs import ACCEPTED, FAILED
from slimmoe.server.kept import GLOSSARY, JOB, Record

PREFIX = "/v2/"
MOST_GLOSSARIES, MOST_TERMS = 100, 5000
_VARIANTS = {"en": ["EN-GB", "EN-US"], "pt": ["PT-PT"]}  # as targets, for which the package refuses EN and PT
_UNLIMITED = 10**12


def error_form(status: int, sentence: str) -> Any:
    """DeepL's form."""
    return {"message": sentence}


def _row(glossary: Record) -> dict[str, Any]:
    told = glossary.told
    return {
        "glossary_id": glossary.id, "name": told["name"], "ready": True, "source_lang": told["source"].lower(),
        "target_lang": told["target"].lower(), "creation_time": told["made"], "entry_count": len(told["terms"]),
    }  # fmt: skip


def routes(api: Api) -> list[Route]:
    """Its routes."""
    pairs = api.service.models.pairs

    def asked(fields: Fields, texts: tuple[str, ...]) -> Ask:
        tags = fields.text("tag_handling").lower()
        if tags not in ("", "xml", "html"):
            raise Refused(400, "Value for 'tag_handling' not supported.")
        glossary = fields.text("glossary_id")
        terms = tuple(map(tuple, api.kept.get(GLOSSARY, glossary).told["terms"])) if glossary else ()
        return Ask(texts, fields.required("target_lang"), fields.text("source_lang"), html=bool(tags), terms=terms)

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
        return JSONResponse({"glossaries": [_row(each) for each in api.kept.all(GLOSSARY)]})

    async def make_glossary(request: Request, fields: Fields) -> Response:
        source, target = (fields.required(f"{which}_lang") for which in ("source", "target"))
        api.service.models.choose(source, target)
        if len(api.kept.all(GLOSSARY)) >= MOST_GLOSSARIES:
            raise Refused(400, f"There are {MOST_GLOSSARIES} glossaries already: delete one.")
        delimiter = "," if fields.text("entries_format") == "csv" else "\t"
        terms = _terms(fields.required("entries"), delimiter)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        told = {"name": fields.required("name")[:200], "source": source, "target": target, "terms": terms, "made": now}
        made = await asyncio.to_thread(api.kept.put, GLOSSARY, told)
        return JSONResponse(_row(api.kept.get(GLOSSARY, made)), 201)

    async def one_glossary(request: Request, fields: Fields) -> Response:
        found = api.kept.get(GLOSSARY, request.path_params["id"])
        if request.method == "DELETE":
            api.kept.drop(found.id)
            return Response(status_code=204)
        return JSONResponse(_row(found))

    async def entries(request: Request, fields: Fields) -> Response:
        terms = api.kept.get(GLOSSARY, request.path_params["id"]).told["terms"]
        return PlainTextResponse("\n".join("\t".join(each) for each in terms), media_type="text/tab-separated-values")

    async def send_document(request: Request, fields: Fields) -> Response:
        if "file" not in fields.files:
            raise Refused(400, "Parameter 'file' not specified.")
        name, data = fields.files["file"]
        ask = replace(asked(fields, ()), html=False)
        name = fields.text("filename") or name
        key = secrets.token_hex(32)
        return JSONResponse({"document_id": await api.jobs.accept(name, data, ask, key), "document_key": key})

    def document_of(request: Request, fields: Fields) -> Record:
        found = api.kept.get(JOB, request.path_params["id"])
        if not secrets.compare_digest(found.told["key"].encode(), fields.text("document_key").encode()):
            raise Refused(404, "There is no such document.")
        return found

    async def document_state(request: Request, fields: Fields) -> Response:
        found = document_of(request, fields)
        state = {"document_id": found.id}
        if found.told["state"] == ACCEPTED:
            return JSONResponse({**state, "status": "translating", "seconds_remaining": 5})
        if found.told["state"] == FAILED:
            return JSONResponse({**state, "status": "error", "error_message": found.told["error"]})
        return JSONResponse({**state, "status": "done", "billed_characters": 0})

    async def document_result(request: Request, fields: Fields) -> Response:
        found = document_of(request, fields)
        if found.told["state"] == ACCEPTED:
            raise Refused(503, "The document is not translated yet.", 1)
        if found.told["state"] == FAILED:
            raise Refused(404, found.told["error"])

        data = api.kept.pieces(found)

        def pieces() -> Iterator[bytes]:
            left = found.size
            for piece in data:
                left -= len(piece)
                if not left:  # a client that goes away before can come again
                    api.kept.drop(found.id)
                yield piece

        return download(found.told["name"], found.size, pieces())

    return [
        api.route("/v2/translate", translate, "POST"),
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
