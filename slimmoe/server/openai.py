"""OpenAI's chat completions, as far as they are asked for translations (platform.openai.com/docs/api-reference/chat)."""

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.errors import RequestError, SlimmoeError
from runtime.text.pairs import parse_pair
from slimmoe.server.api import Api, events
from slimmoe.server.asked import Ask, Chosen, Refused
from slimmoe.server.fields import Fields
from slimmoe.server.service import Work
from slimmoe.server.wordings import wanted

PREFIX = "/v1/"
ROLES = ("system", "developer", "user", "assistant", "tool")


def error_form(status: int, sentence: str) -> Any:
    """OpenAI's form; a wrong key has another status there."""
    kinds = {403: "authentication_error", 429: "rate_limit_error", 404: "not_found_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    status = 401 if status == 403 else status
    return status, {"error": {"message": sentence, "type": kind, "param": None, "code": None}}


def routes(api: Api) -> list[Route]:
    """Its routes."""
    models = api.service.models
    began = int(time.time())

    def card(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": began, "owned_by": "slimmoe"}

    def ids() -> list[str]:
        return [
            each for model in models.all.values() for each in (model.name, *(f"{model.name}:{p}" for p in model.pairs))
        ]

    async def list_models(request: Request, fields: Fields) -> Response:
        return JSONResponse({"object": "list", "data": [card(each) for each in ids()]})

    async def one_model(request: Request, fields: Fields) -> Response:
        if (name := request.path_params["name"]) not in ids():
            raise Refused(404, f"The model {name[:80]!r} does not exist.")
        return JSONResponse(card(name))

    def asked(fields: Fields) -> Ask:
        """The request: its model may be one of ours, a pair, or both; any other name is taken for whatever is here."""
        name, _, code = fields.text("model").rpartition(":")
        name, code = (name, code) if name in models.all else ("", fields.text("model"))
        source = target = ""
        if code in models.all:
            name = code
        else:
            try:
                pair = parse_pair(code)
                source, target = pair.source, pair.target
            except RequestError:
                pass
        pairs = [pair for model in models.named(name) for pair in model.pairs]
        found = wanted(_messages(fields), source, target)
        if not found.target and len(pairs) == 1:
            return Ask((found.text,), pairs[0].target, pairs[0].source, name)
        if not found.target:
            raise Refused(
                400,
                f"Say what to translate into, in a message or by the model's name: {', '.join(map(str, pairs[:20]))}.",
            )
        return Ask((found.text,), found.target, found.source or _only_source(found.target, pairs), name)

    async def complete(request: Request, fields: Fields) -> Response:
        ask = asked(fields)
        head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": fields.text("model")}
        if fields.truth("stream"):
            options = fields.values.get("stream_options")
            usage = isinstance(options, dict) and bool(options.get("include_usage"))
            api.check_texts(list(ask.texts))
            return events(await _chunks(api, ask, head, usage))
        answer = await api.translate(request, ask)
        message = {"role": "assistant", "content": answer.texts[0], "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return JSONResponse(
            {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(answer.read, answer.written)}
        )

    return [
        api.route("/v1/models", list_models),
        api.route("/v1/models/{name}", one_model),
        api.route("/v1/chat/completions", complete, "POST"),
    ]


def _only_source(target: str, pairs: list[Any]) -> str:
    sources = {pair.source for pair in pairs if pair.base.target == target.partition("-")[0]}
    return sources.pop() if len(sources) == 1 else ""


def _usage(read: int, written: int) -> dict[str, int]:
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _messages(fields: Fields) -> list[tuple[str, str]]:
    """Role and text of each message."""
    found = fields.values.get("messages")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Refused(400, "messages must be a list of objects with role and content.")
    messages = [(each.get("role"), _text(each.get("content"))) for each in found]
    for role, text in messages:
        if role not in ROLES:
            raise Refused(400, f"A message's role is one of {', '.join(ROLES)}.")
        if role == "user" and not text.strip():
            raise Refused(400, "A message of the user's has no text.")
    return messages


def _text(content: Any) -> str:
    """The text of a message; of one in parts, what they say on lines of their own."""
    if not isinstance(content, list):
        return Fields({"content": content}).text("content")
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        raise Refused(400, "Of a message's content, only text can be translated.")
    return "\n".join(Fields({"content": [part.get("text") for part in content]}).texts("content") or [])


async def _chunks(api: Api, ask: Ask, head: dict[str, Any], with_usage: bool) -> AsyncIterator[str]:
    """The translation a sentence at a time, as chunks of an answer."""
    counts = [0, 0]

    def pieces(work: Work, tell: Callable[[str], object]) -> None:
        for piece in api.service.stream(ask, work):
            if not isinstance(piece, Chosen):
                tell(piece)
        counts[:] = [work.read, work.written]

    def event(delta: dict[str, Any] | None, end: str | None = None, **more: Any) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": end, "logprobs": None}]
        told = {**head, "object": "chat.completion.chunk", "choices": choices, **more}
        return json.dumps(told, ensure_ascii=False)

    stream = await api.desk.stream(pieces)  # what is wrong is raised here, before an answer has begun

    async def told() -> AsyncIterator[str]:
        yield event({"role": "assistant", "content": ""})
        try:
            async for piece in stream:
                yield event({"content": piece})
        except (Refused, SlimmoeError) as error:
            yield json.dumps(error_form(500, error.sentence)[1])
            return
        yield event({}, "stop")
        if with_usage:
            yield event(None, usage=_usage(*counts))
        yield "[DONE]"

    return told()
