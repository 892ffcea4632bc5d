"""What can be told of a GGUF file's weights without running it: routers, and the bytes of a cut."""

from prune.checkpoint import Checkpoint
from prune.gguf_model import GgufModel
from prune.plan.plan import Plan
from prune.rewrite.shape import PADDED_EXPERT, cut_shape


def router_mismatch(artefact: GgufModel, reference: Checkpoint | GgufModel) -> str:
    """Why the artefact is no model of the reference's experts; empty where it may be one.

    llama.cpp keeps routers in float32, so that they are the same numbers whatever the type of the other weights.
    """
    if artefact.moe_layers != reference.moe_layers:
        found, expected = (sorted(set(model.moe_layers.values())) for model in (artefact, reference))
        return f"it has {found} experts in its layers, and not {expected}"
    types = {
        tensor.type.name
        for name, tensor in artefact.file.tensors.items()
        if artefact.place(name).tensor_role == "router"
    }
    if types == {"F32"} and artefact.fingerprint != reference.fingerprint:
        return "its routers are others"
    return ""


def byte_mismatch(artefact: GgufModel, source: GgufModel, plan: Plan, kept: list[int] | None = None) -> str:
    """The first tensor of a cut file that is not the source's, or not its kept rows; empty where all are.

    Tensors in float32 are compared, which are the routers, their biases and the norms; all of them where the types are
    the same throughout and no importance matrix was used, so that cutting and quantising may have come in any order.

    Args:
        kept: ids in ``source`` of the tokens that stay; None: all.
    """
    file, whole, rows = artefact.file, source.file, cut_shape(source, plan).rows
    places = {name: source.place(name) for name in whole.tensors} | source.draft_places()
    experts = source.moe_layers | source.draft_layers
    known = {name: whole.tensors[name] for name in file.tensors if name in whole.tensors}
    if missing := file.tensors.keys() - known.keys():
        return f"its source has no tensor {min(missing)}"
    anew = any("quantize.imatrix.file" in each.metadata for each in (file, whole))
    same = all(file.tensors[name].type == tensor.type for name, tensor in known.items()) and not anew
    for name, tensor in known.items():
        if file.tensors[name].type != tensor.type or not (same or tensor.type.name == "F32"):
            continue
        place, data, expected = places[name], file.read(name), whole.read(name)
        if place.layer in rows and place.tensor_role != "other":
            size = len(expected) // experts[place.layer]
            there = [(at, row) for at, row in enumerate(rows[place.layer]) if row != PADDED_EXPERT]
            data = b"".join(data[at * size : (at + 1) * size] for at, _ in there)
            expected = b"".join(expected[row * size : (row + 1) * size] for _, row in there)
        elif kept and file.tensors[name].shape[:1] == (len(kept),) != tensor.shape[:1]:
            size = len(expected) // tensor.shape[0]
            expected = b"".join(expected[row * size : (row + 1) * size] for row in kept)
        if data != expected:
            return f"the bytes of its tensor {name} are not those of the experts and tokens that stay"
    return ""
