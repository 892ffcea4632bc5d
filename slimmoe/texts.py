"""The text that stages read, with what it depends on: files that were given, or the model's own translations."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.text.corpus import corpus_files
from runtime.text.pairs import Pair
from slimmoe.hashes import Files
from slimmoe.stages import Stage
from slimmoe.variants import DEV, Texts, Variant

Tell = Callable[[str], object]
Text = tuple[Path, Stage | Files]  # a corpus, and what it depends on
MODEL_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors", "README.md")


def model_files(folder: Path) -> Files:
    """What is read of a checkpoint's folder."""
    return Files(tuple(sorted({each for pattern in MODEL_FILES for each in folder.glob(pattern) if each.is_file()})))


def text_files(corpus: Path, pair: Pair) -> Files:
    """What is read of a corpus for one pair."""
    return Files(tuple(corpus_files(corpus, pair)), str(pair))


@dataclass(frozen=True)
class RunTexts:
    """The text of one run folder's variants."""

    home: Path
    texts: Texts
    tell: Tell

    def corpus(self, variant: Variant) -> Text:
        """For statistics, importance matrices and searches."""
        return self._own(variant) if self.texts.source else self._given(self.texts.corpus, variant)

    def recovery(self, variant: Variant) -> Text:
        """For recovery."""
        return self._given(self.texts.recovery, variant) if self.texts.recovery else self.corpus(variant)

    def vocabulary(self, variant: Variant) -> Text:
        """Whose tokens are counted."""
        return self._given(self.texts.vocabulary, variant) if self.texts.vocabulary else self.corpus(variant)

    def dev(self, variant: Variant) -> Text:
        """Held out, for recovery and verification."""
        if self.texts.dev is None and self.texts.source:
            from slimmoe.own_translations import dev_file

            own, before = self._own(variant)
            return dev_file(own), before
        return self._given(self.texts.dev or DEV, variant)

    def _given(self, path: Path, variant: Variant) -> Text:
        return path, text_files(path, variant.pair)

    def _own(self, variant: Variant) -> Text:
        stage = self.own_translations(variant)
        return stage.output, stage

    def own_translations(self, variant: Variant) -> Stage:
        """The unpruned model's translations of the source text, in two files: for statistics and recovery, and held out."""
        source, prompt = self.texts.source, self.texts.prompt
        assert source is not None

        def make(output: Path) -> None:
            from prune.checkpoint import Checkpoint
            from slimmoe.own_translations import own_translations

            own_translations(Checkpoint(variant.model), variant.pair, source, output, self.tell, prompt=prompt)

        inputs = {"model": model_files(variant.model), "source": Files((source,))}
        options = {"pair": str(variant.pair), "prompt": prompt.to_dict() if prompt else None}
        return Stage("own translations", self.home / "own.tsv", inputs, options, make, repeatable=False, resumes=True)
