"""llama.cpp's types with our advice: what ``slimmoe gguf --help`` lists. A test holds the names against the built tool's.

A type is a mix: most tensors have its base, some more bits (llama_tensor_get_type in llama-quant.cpp).
"""

from dataclasses import dataclass
from typing import Literal

from runtime.formats.gguf_types import bits_per_weight

# What an importance matrix is to a type: llama.cpp refuses without one, it lessens the loss, or it is not looked at.
Imatrix = Literal["needed", "helps", "unused"]
IMATRIX_BITS = 5.0  # below so many bits per weight, one is computed where the pair is given


@dataclass(frozen=True)
class Type:
    """A type of file: the base of its mix, what an importance matrix is to it, and one line of advice."""

    base: str
    imatrix: Imatrix
    advice: str

    @property
    def bits(self) -> float:
        """Bits per weight of the base."""
        return bits_per_weight(self.base)

    @property
    def wants_imatrix(self) -> bool:
        """Whether one should be computed where the pair is given."""
        return self.imatrix == "needed" or (self.imatrix == "helps" and self.bits < IMATRIX_BITS)


# From the largest to the smallest.
TYPES = {
    "F32": Type("F32", "unused", "exact; for comparisons, not for use"),
    "BF16": Type("BF16", "unused", "a bf16 checkpoint bit by bit; slow on most CPUs"),
    "F16": Type("F16", "unused", "half precision; the source for other quantisers"),
    "Q8_0": Type("Q8_0", "unused", "no loss one can measure, fast; where memory allows"),
    "Q6_K": Type("Q6_K", "helps", "nearly no loss; the best below Q8_0"),
    "Q5_1": Type("Q5_1", "helps", "older; only where rows are no multiple of 256"),
    "Q5_K_M": Type("Q5_K", "helps", "hardly any loss; one step safer than Q4_K_M"),
    "Q5_K_S": Type("Q5_K", "helps", "Q5_K_M without its larger tensors"),
    "Q5_0": Type("Q5_0", "helps", "older; Q5_K_S is better at this size"),
    "Q4_1": Type("Q4_1", "helps", "older; Q4_K_M is better at this size"),
    "Q4_K_M": Type("Q4_K", "helps", "the default: small loss, fast everywhere"),
    "Q4_K_S": Type("Q4_K", "helps", "with an importance matrix as good as Q4_K_M"),
    "IQ4_NL": Type("IQ4_NL", "helps", "IQ4_XS for rows that are no multiple of 256"),
    "Q4_0": Type("Q4_0", "helps", "older; fast on ARM, more loss than Q4_K_S"),
    "MXFP4_MOE": Type("MXFP4", "unused", "for gpt-oss; elsewhere between Q4_K_S and IQ4_XS"),
    "IQ4_XS": Type("IQ4_XS", "helps", "the best below 4.5 bits; slower on old CPUs"),
    "Q3_K_L": Type("Q3_K", "helps", "the largest of 3 bits; IQ4_XS is often as small"),
    "Q3_K_M": Type("Q3_K", "helps", "noticeable loss; where Q4_K_S does not fit"),
    "IQ3_M": Type("IQ3_S", "helps", "the best of 3 bits below Q3_K_M, slower"),
    "IQ3_S": Type("IQ3_S", "helps", "better than Q3_K_S at the same size, slower"),
    "Q3_K_S": Type("Q3_K", "helps", "the fastest of 3 bits; IQ3_M is better at its size"),
    "IQ3_XS": Type("IQ3_S", "needed", "between IQ3_S and IQ3_XXS"),
    "IQ3_XXS": Type("IQ3_XXS", "needed", "clear loss; compare it with IQ2_M on your text"),
    "Q2_K": Type("Q2_K", "helps", "large loss; IQ2_M is better and smaller, but slower"),
    "Q2_K_S": Type("Q2_K", "needed", "larger loss than Q2_K; only for speed"),
    "IQ2_M": Type("IQ2_S", "needed", "the best below 3 bits; rather prune more"),
    "IQ2_S": Type("IQ2_XS", "needed", "large loss"),
    "IQ2_XS": Type("IQ2_XS", "needed", "large loss"),
    "Q2_0": Type("Q2_0", "unused", "for models trained in it; ruins others"),
    "IQ2_XXS": Type("IQ2_XXS", "needed", "very large loss; for huge models alone"),
    "TQ2_0": Type("TQ2_0", "unused", "for ternary models (BitNet); ruins others"),
    "IQ1_M": Type("IQ1_M", "needed", "broken text from most models"),
    "TQ1_0": Type("TQ1_0", "unused", "for ternary models (BitNet); ruins others"),
    "IQ1_S": Type("IQ1_S", "needed", "broken text from most models"),
    "Q1_0": Type("Q1_0", "unused", "for models trained in it; ruins others"),
}  # fmt: skip
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}


def list_types() -> str:
    """A line for each type: name, bits per weight, what an importance matrix is to it, advice."""
    rows = [("type", "bits", "imatrix", "")]
    rows += [(name, f"{kind.bits:.2f}", kind.imatrix, kind.advice) for name, kind in TYPES.items()]
    return "\n".join(f"{name:<9} {bits:>5}  {imatrix:<7}  {advice}".rstrip() for name, bits, imatrix, advice in rows)
