"""Is every expert used? ``python -m models.recipe.balance MODEL WORK``.

Routes a sample of all text that the recipe trains on, in its shares, and prints for each layer what the rarest and the
busiest expert get, as multiples of the mean load. Writes ``WORK/balance.json``.
"""

import argparse
import itertools
import json
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from models.recipe.batches import batches
from models.recipe.network import new_usage, training_loss
from models.recipe.train import BATCH


def loads(model: Path, tokens: Path, passes: int, seed: int = 1) -> Tensor:
    """Tokens routed to each expert, [layers, experts]."""
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.inference_mode():
        usage = new_usage(loaded)
        found = [
            training_loss(loaded, batch, usage).loads
            for batch in itertools.islice(batches(tokens, BATCH, seed), passes)
        ]
    return torch.stack(found).sum(0).double()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("work", type=Path, help="where models.recipe.prepare wrote")
    parser.add_argument("--passes", type=int, default=24, help=f"of {BATCH} tokens")
    chosen = parser.parse_args()
    load = loads(chosen.model, chosen.work / "tokens", chosen.passes)
    relative = load / load.mean(-1, keepdim=True)
    rows = [{"rarest": round(float(row.min()), 3), "busiest": round(float(row.max()), 3)} for row in relative]
    for number, row in enumerate(rows):
        print(f"layer {number}: rarest expert {row['rarest']:.2f} of the mean load, busiest {row['busiest']:.2f}")
    told = {"choices": int(load[0].sum()), "layers": rows}
    (chosen.work / "balance.json").write_text(json.dumps(told, indent=1) + "\n")
