"""YAML: string values are units; keys, comments, anchors, aliases and the way a scalar is written stay.

PyYAML, which comes with huggingface_hub, finds the ranges; nothing is constructed and no tag is run.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from runtime.errors import RequestError
from runtime.text.lines import one_line
from runtime.text.pairs import Pair
from runtime.translate.documents.base import Edit, TextDocument, Unit, decode_document, to_change
from runtime.translate.documents.strings import NAME_LIKE, line_spans

_STRING = "tag:yaml.org,2002:str"
_WRITTEN = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"})
# What would make a plain scalar another one, or something else than a string.
_NOT_PLAIN = re.compile(
    r"[\s&*!|>'\"%@`#{}\[\],?:-]|.*(?::(?:\s|$)|\s#|[\x00-\x08\x0b-\x1f\x85\u2028\u2029\ufeff])", re.DOTALL
)
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+(?:#[^\n]*\n\s*)?)+")  # anchors and tags, which stand before a value
_IN_FLOW = re.compile(r"[\[\]{},]")
_INDICATOR = re.compile(r"[?:-](?=[^\s\[\]{},])")  # may begin a plain scalar with text behind it


def _double(text: str) -> str:
    return "".join(c if c.isprintable() or c > "\xa0" else f"\\x{ord(c):02X}" for c in text.translate(_WRITTEN))


def _plain(resolves: Callable[[str], bool], in_flow: bool) -> Callable[[str], str]:
    """A function that writes text without quotes where it is a string then, else with them."""

    def finish(text: str) -> str:
        starts_well = not _NOT_PLAIN.match(text) or bool(_INDICATOR.match(text) and not _NOT_PLAIN.match("x" + text))
        fits = (
            starts_well and text == text.strip() and text and not (in_flow and _IN_FLOW.search(text)) and resolves(text)
        )
        return text if fits else f'"{_double(text)}"'

    return finish


class _Reader:
    def __init__(self, text: str, name: str, pair: Pair) -> None:
        import yaml

        self._text, self._pair, self._scalar = text, pair, yaml.ScalarNode
        self._seen: set[int] = set()
        self.edits: list[Edit] = []
        self.units: list[Unit] = []
        try:
            loader = yaml.SafeLoader(text)
            self._resolve: Callable[..., str] = loader.resolve
            while loader.check_node():
                self._node(loader.get_node(), True, False)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" in line {mark.line + 1}" if mark else ""
            raise RequestError(f"{name} is damaged YAML{where}.") from None
        except RecursionError:
            raise RequestError(f"{name} is nested too deeply.") from None

    def _node(self, node: Any, outermost: bool, in_flow: bool) -> None:
        import yaml

        if id(node) in self._seen:  # an alias: its anchor's text is translated once
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            self.units += self._units(node, in_flow)
        elif isinstance(node, yaml.SequenceNode):
            for each in node.value:
                self._node(each, False, in_flow or bool(node.flow_style))
        elif isinstance(node, yaml.MappingNode):
            if outermost and len(node.value) == 1 and isinstance(node.value[0][1], yaml.MappingNode):
                self._language(node.value[0][0])
            for _, value in node.value:
                self._node(value, False, in_flow or bool(node.flow_style))

    def _language(self, key: Any) -> None:
        """Of a file of messages, the outermost key is the language."""
        start, end = key.start_mark.index, key.end_mark.index
        if isinstance(key, self._scalar) and key.style is None and to_change(self._text[start:end], self._pair):
            self.edits.append((start, end, self._pair.target))

    def _units(self, node: Any, in_flow: bool) -> Iterator[Unit]:
        start, end = node.start_mark.index, node.end_mark.index
        if node.tag != _STRING or NAME_LIKE.fullmatch(node.value) or start == end:
            return
        if properties := _PROPERTIES.match(self._text, start, end):
            start = properties.end()
        raw = self._text[start:end]
        if node.style in ("|", ">"):
            yield from self._block(start, end, node.style)
        elif node.style == '"':
            for begin, stop in line_spans(self._text, start + 1, end - 1):
                yield Unit((_unescaped(self._text[begin:stop]),), begin, stop, _double)
        elif node.style == "'":
            yield Unit((node.value,), start + 1, end - 1, lambda text: one_line(text).replace("'", "''"))
        elif "\n" not in node.value:
            resolves = self._resolves
            yield Unit((node.value,), start, start + len(raw.rstrip()), one_line, _plain(resolves, in_flow))

    def _resolves(self, text: str) -> bool:
        return self._resolve(self._scalar, text, (True, False)) == _STRING

    def _block(self, start: int, end: int, style: str) -> Iterator[Unit]:
        """Of ``|`` each line is a unit, of ``>`` each run of lines that is folded into one."""
        head = self._text.index("\n", start) + 1 if "\n" in self._text[start:end] else end
        lines = [match.span() for match in re.finditer(r"[^\r\n]*\S[^\r\n]*|(?<=\n)\r?(?=\n)", self._text[head:end])]
        texts = [(head + a, head + b) for a, b in lines]
        indents = [len(self._text[a:b]) - len(self._text[a:b].lstrip(" ")) for a, b in texts if b > a]
        indent = int(found[0]) if (found := re.findall(r"\d", self._text[start:head].partition("#")[0])) else 0
        indent = min(indents, default=0) if not indent else max(indent, min(indents, default=0))
        runs: list[list[tuple[int, int]]] = []
        last_folds = False
        for a, b in texts:
            line = self._text[a:b]
            own = len(line) - len(line.lstrip())
            folds = style == ">" and bool(line.strip()) and own == indent
            if line.strip():
                span = (a + own, a + len(line.rstrip()))
                if folds and last_folds:
                    runs[-1].append(span)
                else:
                    runs.append([span])
            last_folds = folds
        for run in runs:
            words = " ".join(self._text[a:b] for a, b in run)
            yield Unit((words,), run[0][0], run[-1][1], one_line)


def _unescaped(raw: str) -> str:
    """The text of a part of a double-quoted scalar on however many lines."""
    import yaml

    folded = re.sub(r"[ \t]*\r?\n((?:[ \t]*\r?\n)*)[ \t]*", lambda m: "\n" * m[1].count("\n") or " ", raw)
    node = yaml.compose(f'"{folded}"', Loader=yaml.SafeLoader)
    return node.value


def read_yaml(data: bytes, name: str, pair: Pair) -> TextDocument:
    """A YAML file of messages, or any other with text in its values.

    Raises:
        RequestError: it is damaged.
    """
    text, codec = decode_document(data, name)
    reader = _Reader(text, name, pair)
    return TextDocument(name, text, codec, reader.units, reader.edits)
