"""LibreTranslate 1.9, by its documentation (docs.libretranslate.com): one adapter of the service."""

import asyncio
import json
import os
from importlib.resources import files
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from runtime.measure.memory import read_memory
from runtime.text.languages import LANGUAGES
from runtime.translate.documents import FORMATS
from slimmoe.server.api import Api, download
from slimmoe.server.asked import Ask, Refused
from slimmoe.server.fields import Fields
from slimmoe.server.kept import TRANSLATION

AUTO = "auto"


def routes(api: Api) -> list[Route]:
    """Its routes."""
    service = api.service
    pairs = service.models.pairs

    def source_of(fields: Fields) -> str:
        source = fields.required("source")
        return "" if source.lower() == AUTO else source

    async def languages(request: Request, fields: Fields) -> Response:
        codes = dict.fromkeys([*(pair.source for pair in pairs), *(pair.target for pair in pairs)])
        return JSONResponse(
            [
                {
                    "code": code,
                    "name": LANGUAGES[code],
                    "targets": [code, *(pair.target for pair in pairs if pair.source == code)],
                }
                for code in codes
            ]
        )

    async def translate(request: Request, fields: Fields) -> Response:
        texts = fields.texts("q")
        if not texts or not fields.values["q"]:
            raise Refused(400, "Invalid request: missing q parameter")
        source, target = source_of(fields), fields.required("target")
        kind = fields.text("format") or "text"
        if kind not in ("text", "html"):
            raise Refused(400, f"{kind[:40]} format is not supported")
        alternatives = fields.number("alternatives")
        if alternatives > api.limits.alternatives:
            raise Refused(400, f"Invalid request: alternatives parameter must be <= {api.limits.alternatives}")
        ask = Ask(tuple(texts), target, source, html=kind == "html", alternatives=alternatives)
        answer = await api.translate(request, ask)
        several = isinstance(fields.values["q"], list)
        found: dict[str, object] = {"translatedText": answer.texts if several else answer.texts[0]}
        if not source:
            told = {"confidence": answer.chosen.confidence, "language": answer.chosen.pair.source}
            found["detectedLanguage"] = [told] * len(texts) if several else told
        if alternatives:
            found["alternatives"] = answer.alternatives if several else answer.alternatives[0]
        return JSONResponse(found)

    async def detect(request: Request, fields: Fields) -> Response:
        texts = fields.texts("q")
        if not texts or not fields.values["q"]:
            raise Refused(400, "Invalid request: missing q parameter")
        texts = api.check_texts(texts)
        ranked = await api.desk.run(request, lambda work: service.detect(texts))
        likely = [each for each in ranked if each[1] >= 1] or ranked[:1]
        return JSONResponse([{"confidence": confidence, "language": code} for code, confidence in likely])

    async def translate_file(request: Request, fields: Fields) -> Response:
        if "file" not in fields.files:
            raise Refused(400, "Invalid request: missing file parameter")
        ask = Ask((), fields.required("target"), source_of(fields))
        name, data = fields.files["file"]
        if not name:
            raise Refused(400, "Invalid request: empty file")
        name, done, _ = await api.desk.run(request, lambda work: service.translate_document(name, data, ask, work))
        token = await asyncio.to_thread(api.kept.put_translation, name, done)
        suffix = PurePosixPath(name).suffix  # clients name their file by it
        return JSONResponse({"translatedFileUrl": f"{request.base_url}download_file/{token}{suffix}"})

    async def download_file(request: Request, fields: Fields) -> Response:
        found = api.kept.get(TRANSLATION, request.path_params["name"].partition(".")[0])
        return download(found.told["name"], found.size, api.kept.pieces(found))

    async def suggest(request: Request, fields: Fields) -> Response:
        for name in ("q", "s", "source", "target"):
            fields.required(name)
        return JSONResponse({"success": True})  # and forgotten: nothing here learns from it

    async def settings(request: Request, fields: Fields) -> Response:
        first = pairs[0]
        return JSONResponse(
            {
                "apiKeys": bool(api.rules.key),
                "charLimit": api.limits.characters,
                "filesTranslation": True,
                "frontendTimeout": 500,
                "keyRequired": bool(api.rules.key),
                "language": {
                    "source": {"code": first.source, "name": first.source_name},
                    "target": {"code": first.target, "name": first.target_name},
                },
                "suggestions": False,
                "supportedFilesFormat": list(FORMATS),
            }
        )

    async def health(request: Request, fields: Fields) -> Response:
        return JSONResponse({"status": "ok"})

    async def metrics(request: Request, fields: Fields) -> Response:
        gauges = {
            "requests_under_way": float(api.desk.waiting),
            "models_open": float(len(service.models.opened)),
            "memory_bytes": float(read_memory(os.getpid()).total),
            "tokens_per_second": api.metrics.speed(),
        }
        return PlainTextResponse(api.metrics.text(gauges), media_type="text/plain; version=0.0.4")

    async def spec(request: Request, fields: Fields) -> Response:
        found = json.loads((files("slimmoe.server") / "openapi.json").read_text(encoding="utf-8"))
        schemas = found["components"]["schemas"]
        schemas["Source"]["enum"] += sorted({pair.source for pair in pairs})
        schemas["KnownSource"]["enum"] += sorted({pair.source for pair in pairs})
        schemas["Target"]["enum"] += sorted({pair.target for pair in pairs})
        schemas["Pair"]["enum"] += [f"{pair.source}|{pair.target}" for pair in pairs]
        return JSONResponse(found)

    return [
        api.route("/languages", languages),
        api.route("/translate", translate, "POST"),
        api.route("/detect", detect, "POST"),
        api.route("/translate_file", translate_file, "POST"),
        api.route("/download_file/{name}", download_file, public=True),  # its name is the key
        api.route("/suggest", suggest, "POST"),
        api.route("/frontend/settings", settings, public=True),
        api.route("/health", health, public=True),
        api.route("/metrics", metrics),
        api.route("/spec", spec, public=True),
    ]
