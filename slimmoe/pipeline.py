"""The way from a model to its report, as stages (slimmoe/stages.py): make, sweeps, benchmarks and the API all go this way.

HOME/run.json                         whose run this is
HOME/own.tsv, own-dev.tsv             the model's own translations, where source text was given
HOME/stats.safetensors                computed once, for every ratio and criterion
HOME/unpruned/                        artefacts and measurements of the unpruned model, shared by all variants
HOME/gate-0.75/plan.json, checkpoint  and the artefacts of its types, verify.json, bench.jsonl, report.html, report.md
HOME/gate-0.75-recovered/             the same after recovery
HOME/gate-0.75-vocabulary-0.5/        the same with half of the tokens
"""

from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from runtime.formats.onnx_folder import FILES as ONNX_FILES
from runtime.llama_paths import VERSION as LLAMA_VERSION
from slimmoe.hashes import Files
from slimmoe.stages import Stage
from slimmoe.texts import RunTexts, Tell, model_files, text_files
from slimmoe.variants import Request, Texts, Variant


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class Pipeline:
    """Builds the stages of one run folder's variants. Nothing is done here: ``Runner`` does them.

    Args:
        home: of one model and pair.
        name: of the model, for file names.
    """

    home: Path
    name: str
    texts: Texts
    tell: Tell = lambda _: None

    @property
    def _text(self) -> RunTexts:
        return RunTexts(self.home, self.texts, self.tell)

    def _asked(self) -> dict[str, Any]:
        """What stages that ask the model depend on."""
        return {"prompt": self.texts.prompt.to_dict() if self.texts.prompt else None}

    def statistics(self, variant: Variant) -> Stage:
        """What each expert does on the pair's text."""
        corpus, text = self._text.corpus(variant)

        def make(output: Path) -> None:
            from prune.calibrate.from_checkpoint import calibrate

            stats, _ = calibrate(variant.model, variant.pair, corpus, output=output, prompt=self.texts.prompt)
            used = stats.calibration
            self.tell(
                f"calibrated on {used['segments']} segments, {used['prompt_tokens'] + used['response_tokens']} tokens"
            )

        inputs = {"model": model_files(variant.model), "corpus": text}
        options = {"pair": str(variant.pair)} | self._asked()
        return Stage("statistics", self.home / "stats.safetensors", inputs, options, make, resumes=True)

    def plan(self, variant: Variant) -> Stage:
        """Which experts stay, and which tokens."""
        from prune.plan.budget import SEARCH

        before, searches = self.statistics(variant), variant.allocation == SEARCH
        (corpus, text), (counted, tokens) = self._text.corpus(variant), self._text.vocabulary(variant)

        def make(output: Path) -> None:
            from prune.calibrate.stats import Stats
            from prune.plan.plan import make_plan
            from prune.vocabulary.choose import add_vocabulary

            stats = Stats.load(before.output)
            if searches:
                from prune.trials.search import search_by_overlap
                from prune.trials.trial import Trial

                trial = Trial(variant.model, variant.pair, corpus)
                made, overlap = search_by_overlap(trial, stats, variant.ratio, variant.criterion, output)
                self.tell(f"{overlap:.4f} of the next-token probability stays where it was")
            else:
                made = make_plan(stats, variant.ratio, variant.criterion, allocation=variant.allocation)
            if variant.vocabulary:
                made = add_vocabulary(made, variant.model, variant.vocabulary, counted)
            made.save(output)
            self.tell(f"{made.kept} (plan {made.hash})")

        inputs: dict[str, Stage | Files] = {"statistics": before}
        if searches:
            inputs |= {"model": model_files(variant.model), "corpus": text}
        options = {"ratio": variant.ratio, "criterion": variant.criterion, "allocation": variant.allocation}
        if variant.vocabulary:
            inputs |= {"model": model_files(variant.model), "vocabulary": tokens}
            options |= {"vocabulary": variant.vocabulary}
        return Stage("plan", self.home / variant.cut.name / "plan.json", inputs, options, make, resumes=searches)

    def cut(self, variant: Variant) -> Stage:
        """The checkpoint without the experts that the plan drops."""
        plan = self.plan(variant)

        def make(output: Path) -> None:
            from prune.checkpoint import Checkpoint
            from prune.plan.plan import Plan
            from prune.rewrite import prune

            prune(variant.model, Plan.load(plan.output), output, ragged=not Checkpoint(variant.model).can_pad)

        inputs = {"model": model_files(variant.model), "plan": plan}
        return Stage("cut", self.home / variant.cut.name / "checkpoint", inputs, {}, make)

    def recovered(self, variant: Variant) -> Stage:
        """The checkpoint after the variant's last recovery."""
        *earlier, recovery = variant.recoveries
        first = replace(variant, recoveries=tuple(earlier))
        before = self.recovered(first) if earlier else self.cut(first)
        corpus, text = self._text.recovery(variant)
        dev, dev_text = self._text.dev(variant)

        def make(output: Path) -> None:
            from prune.recovery.recover import recover
            from prune.recovery.settings import Settings

            wanted = Settings(
                steps=recovery.steps, rate=recovery.rate, method=recovery.method, freeze_router=recovery.freeze_router
            )
            teacher = variant.model if recovery.teaches else None
            about = recover(before.output, variant.pair, corpus, dev, output, wanted, teacher, prompt=self.texts.prompt)
            self.tell(
                f"recovered in {about['seconds']:.0f} s: dev loss {about['dev_loss_before']:.3f} -> "
                f"{about['dev_loss_after']:.3f} (step {about['best_step']} of {about['steps']})"
            )

        inputs: dict[str, Stage | Files] = {"checkpoint": before}
        inputs |= {"corpus": text, "dev": dev_text}
        if recovery.teaches:
            inputs["model"] = model_files(variant.model)
        return Stage(
            "recovery",
            self.home / variant.name / "checkpoint",
            inputs,
            vars(recovery) | self._asked(),
            make,
            repeatable=False,
            resumes=True,
        )

    def checkpoint(self, variant: Variant) -> Stage | Files:
        """The variant as a checkpoint: the unpruned one is where it was."""
        if variant.is_unpruned:
            return model_files(variant.model)
        return self.recovered(variant) if variant.recoveries else self.cut(variant)

    def folder(self, variant: Variant) -> Path:
        """Where the variant's checkpoint is."""
        last = self.checkpoint(variant)
        return last.output if isinstance(last, Stage) else variant.model

    def gguf(self, variant: Variant, kind: str) -> Stage:
        """A GGUF file of one type, with its Modelfile."""
        from export.gguf.metadata import file_name
        from export.gguf.types import TYPES

        before, (corpus, text) = self.checkpoint(variant), self._text.corpus(variant)
        path = self.home / variant.name / file_name(self.name, variant.pair, round(100 * variant.ratio), kind)

        def make(output: Path) -> None:
            from export.gguf import export_gguf

            folder = self.folder(variant)
            asked = {"pair": variant.pair, "prompt": self.texts.prompt}
            export_gguf(folder, output, kind, corpus=corpus, **asked, tell=self.tell)

        inputs: dict[str, Stage | Files] = {"checkpoint": before}
        if TYPES[kind].wants_imatrix:
            inputs["corpus"] = text
        options = {"type": kind, "pair": str(variant.pair), "llama.cpp": LLAMA_VERSION} | self._asked()
        return Stage("GGUF", path, inputs, options, make)

    def onnx(self, variant: Variant, kind: str) -> Stage:
        """An ONNX folder with one type."""
        before = self.checkpoint(variant)

        def make(output: Path) -> None:
            from export.onnx import export_onnx

            export_onnx(self.folder(variant), output, kind, prompt=self.texts.prompt)

        options, path = {"type": kind} | self._asked(), self.home / variant.name / f"onnx-{kind}"
        return Stage("ONNX", path, {"checkpoint": before}, options, make)

    def artefact(self, variant: Variant, kind: str) -> Stage:
        """By the type's name: ``Q4_K_M`` is one of GGUF, ``int4`` one of ONNX."""
        return self.onnx(variant, kind) if kind in ONNX_FILES else self.gguf(variant, kind)

    def verification(self, request: Request) -> Stage:
        """The cut against the masked model, and what was written, unquantised as well, against the checkpoint."""
        variant = request.variant
        artefacts = {kind: self.artefact(variant, kind) for kind in request.types}
        cut, final = self.cut(variant), self.checkpoint(variant)
        dev, dev_text = self._text.dev(variant)

        def make(output: Path) -> None:
            from slimmoe.verification import verify_all

            folder = self.folder(variant)
            paths = {kind: stage.output for kind, stage in artefacts.items()}
            verify_all(variant, cut.output, folder, paths, dev, output)
            self.tell("verified: the cut equals the masked model, each format equals the cut")

        inputs: dict[str, Stage | Files] = {"model": model_files(variant.model), "cut": cut, "checkpoint": final}
        inputs |= {"dev": dev_text} | artefacts
        return Stage("verification", self.home / variant.name / "verify.json", inputs, {}, make)

    def row(self, variant: Variant, kind: str, threads: int | None) -> Stage:
        """One measurement; its hypotheses are in it."""
        artefact = self.artefact(variant, kind)

        def make(output: Path) -> None:
            from runtime.measure.bench import bench
            from runtime.measure.rows import write_rows

            write_rows(output, [bench(artefact.output, variant.pair, self.texts.test, threads)])

        options: dict[str, Any] = {"threads": threads}
        options |= {package: _version(package) for package in ("llama_cpp_python", "onnxruntime")}
        inputs = {"artefact": artefact, "test": text_files(self.texts.test, variant.pair)}
        path = self.home / variant.name / "rows" / f"{kind}.json"
        return Stage("measurement", path, inputs, options, make, repeatable=False)

    def rows(self, request: Request) -> dict[tuple[Variant, str], Stage]:
        """Of the unpruned model and of the variant, in each type."""
        unpruned = Variant(request.variant.model, request.variant.pair)
        variants = dict.fromkeys((unpruned, request.variant))
        return {(each, kind): self.row(each, kind, request.threads) for each in variants for kind in request.types}

    def bench(self, request: Request) -> Stage:
        """The rows in one file, compared with the unpruned ones, and their hypotheses beside it."""
        rows = self.rows(request)

        def make(output: Path) -> None:
            from runtime.measure.compare import compare, keep_hypotheses
            from runtime.measure.rows import finished_rows, write_rows

            found = [finished_rows(stage.output)[0] for stage in rows.values()]
            write_rows(output, compare([keep_hypotheses(row, output.parent) for row in found], output.parent))

        inputs = {f"{each.name} {kind}": stage for (each, kind), stage in rows.items()}
        return Stage("bench", self.home / request.variant.name / "bench.jsonl", inputs, {}, make, repeatable=False)

    def report(self, request: Request) -> Stage:
        """The page, with report.md beside it; what was written is verified before it is measured."""
        inputs: dict[str, Stage | Files] = {}
        if not request.variant.is_unpruned:
            inputs["plan"] = self.plan(request.variant)
            if request.verify:
                inputs["verification"] = self.verification(request)
        inputs["bench"] = self.bench(request)
        folder = self.home / request.variant.name

        def make(output: Path) -> None:
            from runtime.report import read_run, write

            run = read_run(folder)
            if "verification" not in inputs:  # one that is there may be of an earlier cut
                run = replace(run, checks=[])
            for path in (output, output.with_suffix(".md")):
                write(run, path, f"slimmoe: {folder}")

        return Stage("report", folder / "report.html", inputs, {}, make, repeatable=False)
