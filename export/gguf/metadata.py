"""What a GGUF file says of itself: keys ``general.*`` and ``slimmoe.*``, and a file name that tells the same."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gguf import Metadata

from prune.plan.plan import Plan
from runtime.formats.provenance import Provenance, read_provenance
from runtime.text.pairs import Pair, planned_pair
from runtime.text.prompt_templates import DEFAULT, PromptTemplate

_HUB_CACHE = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/")


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint comes from: its folder, the plan in it (None for a model that keeps its experts), its pair.

    Raises:
        WorkError: ``slimmoe.json`` is damaged.
    """

    folder: Path
    pair: Pair | None = None  # as asked for; the plan's otherwise

    @cached_property
    def provenance(self) -> Provenance | None:
        """None for a model that slimmoe did not cut."""
        return read_provenance(self.folder)

    @property
    def plan(self) -> Plan | None:
        return Plan.of_checkpoint(self.folder) if self.provenance and self.provenance.hash else None

    @property
    def known_pair(self) -> Pair | None:
        """The pair asked for, or the one that the plan was made for; None where that is none or several."""
        return self.pair or planned_pair(self.provenance.pair if self.provenance else "")

    @property
    def percent(self) -> int:
        """Of the experts that were cut."""
        return round(100 * self.provenance.ratio) if self.provenance else 0

    @property
    def _source_place(self) -> str:
        """Folder or name of the unpruned model; empty where it is not known."""
        return self.provenance.model if self.provenance else ""

    @cached_property
    def _source(self) -> tuple[str, str]:
        """Organisation ('' where it is not known) and name of the model, the unpruned one of a pruned."""
        place = self._source_place or str(self.folder.absolute())
        if cached := _HUB_CACHE.search(f"{place}/"):
            return cached[1], cached[2]
        return "", Path(place).name or self.folder.absolute().name

    @property
    def model(self) -> str:
        """The model's name without its organisation."""
        return self._source[1]

    @cached_property
    def _card(self) -> dict[str, Any]:
        """The head of the model card, of the unpruned model where it is still there."""
        source = Path(self._source_place or self.folder)
        return next((card for folder in (self.folder, source) if (card := Metadata.load_model_card(folder))), {})

    def general(self) -> dict[str, Any]:
        """Attributes of gguf-py's ``Metadata``. What is not known is left to the converter, which reads the model card."""
        pair, organisation = self.known_pair, self._source[0]
        found: dict[str, Any] = {"name": self.model, "quantized_by": "slimmoe"}
        tags = ["translation", "mixture-of-experts"]
        if isinstance(license := self._card.get("license"), str):
            found["license"] = license
        if pair is not None:
            found["languages"] = [pair.source, pair.target]
            found["name"] += f" {pair}"
        if self.provenance:
            base = {"name": self.model}
            if organisation:
                base |= {
                    "organization": organisation,
                    "repo_url": f"https://huggingface.co/{organisation}/{self.model}",
                }
            found |= {
                "basename": self.model,
                "base_models": [base],
                "finetune": None,
                "version": None,
                "size_label": None,
            }
            cut = self._cut(self.provenance)
            found["name"] += "".join(f" {mark}" for mark, *_ in cut)
            found["description"] = f"{self.model} without {' and '.join(what for _, what, _ in cut)}" + (
                f", for translation from {pair.source_name} into {pair.target_name}." if pair else "."
            )
            tags += [tag for *_, tag in cut]
        return found | {"tags": tags}

    def _cut(self, provenance: Provenance) -> list[tuple[str, str, str]]:
        """What was cut: as a mark in the name, in words, and as a tag."""
        experts, tokens = f"{self.percent} % of its experts", provenance.tokens
        cut = [(f"p{self.percent}", experts, "expert-pruning")] if provenance.hash or not tokens else []
        if tokens:
            after, before = tokens
            cut.append(
                (f"v{after}", f"{1 - after / before:.0%} of its tokens".replace("%", " %"), "vocabulary-pruning")
            )
        return cut

    def gguf_keys(self, prompt: PromptTemplate) -> dict[str, str | float | bool]:
        """The keys ``slimmoe.*``; those of a model that was not cut say only how it is asked, if other than the usual."""
        known = (self.provenance or Provenance()) if self.provenance or prompt != DEFAULT else None
        return replace(known, prompt=prompt.to_dict()).gguf_keys() if known else {}

    def file_name(self, quant: str) -> str:
        """See ``file_name``."""
        return file_name(self.model, self.known_pair, self.percent, quant)


def file_name(model: str, pair: Pair | None, percent: int, quant: str) -> str:
    """``<model>-<pair>-p75-Q4_K_M.gguf``, without what is not known, and without the share of an unpruned model."""
    parts = [model, str(pair or ""), f"p{percent}" if percent else "", quant]
    return re.sub(r"[^\w.-]+", "_", "-".join(part for part in parts if part)) + ".gguf"
