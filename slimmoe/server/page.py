"""The page: plain files of this package, and the three requests that are its own."""

import json
import os
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.errors import SlimmoeError
from runtime.measure.memory import read_memory
from runtime.text.languages import LANGUAGES
from runtime.text.lines import split_lines
from runtime.translate.documents import FORMATS
from slimmoe.server.api import Api, events
from slimmoe.server.asked import Ask, Chosen, Refused
from slimmoe.server.deepl import MOST_TERMS
from slimmoe.server.fields import Fields
from slimmoe.server.libretranslate import AUTO
from slimmoe.server.service import Work

Tell = Callable[[dict[str, Any]], object]
FILES = {
    "/": ("index.html", "text/html"),
    "/page/app.js": ("app.js", "text/javascript"),
    "/page/style.css": ("style.css", "text/css"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}


def routes(api: Api) -> list[Route]:
    """Its routes."""
    models = api.service.models

    def shown(path: str, name: str, kind: str) -> Route:
        data = (files("slimmoe.server") / "page" / name).read_bytes()

        async def show(request: Request, fields: Fields) -> Response:
            return Response(data, media_type=f"{kind}; charset=utf-8")

        return api.route(path, show, public=True)

    async def state(request: Request, fields: Fields) -> Response:
        codes = {code for pair in models.pairs for code in (pair.source, pair.target)}
        return JSONResponse(
            {
                "models": [
                    {"name": each.name, "pairs": [[pair.source, pair.target] for pair in each.pairs], "cut": each.cut,
                     "kind": each.kind, "size": each.size}
                    for each in models.all.values()
                ],
                "languages": {code: LANGUAGES[code] for code in sorted(codes, key=LANGUAGES.__getitem__)},
                "open": models.opened,
                "formats": list(FORMATS),
                "characters": api.limits.characters,
                "memory": read_memory(os.getpid()).total,
                "speed": round(api.metrics.speed(), 1),
            }
        )  # fmt: skip

    def asked(fields: Fields, texts: tuple[str, ...]) -> Ask:
        source = fields.text("source")
        terms = tuple(
            (source.strip(), (target if tab else source).strip())
            for source, tab, target in (line.partition("=") for line in split_lines(fields.text("glossary")))
            if source.strip() and (target.strip() or not tab)
        )
        if len(terms) > MOST_TERMS or any(len(part) > 200 for term in terms for part in term):
            raise Refused(400, f"A glossary has at most {MOST_TERMS} terms, of at most 200 characters each.")
        source = "" if source == AUTO else source
        return Ask(texts, fields.required("target"), source, fields.text("model"), terms=terms)

    async def translate(request: Request, fields: Fields) -> Response:
        ask = asked(fields, api.check_texts([fields.required("text")]))

        def told(work: Work, tell: Tell) -> None:
            for piece in api.service.stream(ask, work, lambda draft: tell({"draft": draft})):
                tell(_row(piece) if isinstance(piece, Chosen) else {"text": piece})

        return events(_told(await api.desk.stream(told, lambda piece: "draft" in piece)))

    async def document(request: Request, fields: Fields) -> Response:
        ask = asked(fields, ())
        if "file" not in fields.files:
            raise Refused(400, "Invalid request: missing file parameter")
        name, data = fields.files["file"]

        def told(work: Work, tell: Tell) -> None:
            done, translation, chosen = api.service.translate_document(
                name, data, ask, work, lambda share: tell({"share": round(share, 3)})
            )
            tell(_row(chosen) | {"name": done, "url": f"download_file/{api.kept.put_translation(done, translation)}"})

        return events(_told(await api.desk.stream(told)))

    return [
        *(shown(path, name, kind) for path, (name, kind) in FILES.items()),
        api.route("/page/state", state),
        api.route("/page/translate", translate, "POST"),
        api.route("/page/document", document, "POST"),
    ]


def _row(chosen: Chosen) -> dict[str, Any]:
    pair = chosen.pair
    return {"model": chosen.model, "source": pair.source, "target": pair.target, "confidence": chosen.confidence}


async def _told(pieces: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """The pieces as JSON; of a failure, ``error`` says what it is."""
    try:
        async for piece in pieces:
            yield json.dumps(piece, ensure_ascii=False)
    except (Refused, SlimmoeError) as error:
        yield json.dumps({"error": error.sentence})
