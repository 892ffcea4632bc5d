"""Apertium-APy (wiki.apertium.org/wiki/Apertium-apy): translate and listPairs, by codes of two letters or three."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.text.languages import FLORES
from slimmoe.server.api import Api
from slimmoe.server.asked import Ask, Refused
from slimmoe.server.fields import Fields

_WORDS = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests"}


def three_letters(code: str) -> str:
    """The code of ISO 639-3, with the region that it has: ``por_BR`` of ``pt-BR``."""
    base, _, region = code.partition("-")
    names = FLORES.get(base, ())
    long = names[-1].partition("_")[0] if names else base
    return f"{long}_{region}" if region else long


_LONG = {three_letters(code).lower(): code for code in FLORES}


def routes(api: Api) -> list[Route]:
    """Its routes."""

    async def translate(request: Request, fields: Fields) -> Response:
        source, bar, target = fields.required("langpair").partition("|")
        if not bar or "q" not in fields.values:
            raise Refused(400, "langpair is en|de, and q the text.")
        codes = [_LONG.get(each.strip().lower(), each) for each in (source, target)]
        text = fields.text("q")
        ask = Ask((text,), codes[1], codes[0], html=fields.text("format") == "html")
        answer = await api.translate(request, ask)
        return _answer({"translatedText": answer.texts[0]})

    async def list_pairs(request: Request, fields: Fields) -> Response:
        pairs = api.service.models.pairs
        return _answer(
            [
                {"sourceLanguage": three_letters(pair.source), "targetLanguage": three_letters(pair.target)}
                for pair in pairs
            ]
        )

    return [api.route("/translate", translate), api.route("/listPairs", list_pairs)]


def _answer(data: Any) -> Response:
    return JSONResponse({"responseData": data, "responseDetails": None, "responseStatus": 200})
