"""llama.cpp's graph of a layer of multi-token prediction, which its own tools draft with (common/speculative.cpp)."""

import contextlib
import ctypes
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from runtime.engines.llama_graph import ExpertMask, GraphWatch
from runtime.engines.llama_library import library, use_devices


@contextlib.contextmanager
def _context(file: Path, watch: GraphWatch) -> Iterator[int]:
    lib = library()
    params = lib.llama_model_default_params()
    params.n_gpu_layers, params.load_mtp = 0, True
    use_devices(params)
    model = lib.llama_model_load_from_file(os.fsencode(file), params)
    assert model, file
    params = lib.llama_context_default_params()
    params.ctx_type = lib.LLAMA_CONTEXT_TYPE_MTP
    params.n_ctx, params.n_threads, params.n_threads_batch = 256, 1, 1
    params.type_k = params.type_v = lib.GGML_TYPE_F32
    params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cb_eval = watch.callback
    context = lib.llama_init_from_model(model, params)
    assert context, file
    yield context
    lib.llama_free(context)
    lib.llama_model_free(model)


def draft_logits(
    file: Path, ids: list[int], hidden: np.ndarray, dropped: Mapping[int, Collection[int]] | None = None
) -> np.ndarray:
    """Logits [T, V] of the layer of multi-token prediction, with the experts ``dropped`` by layer masked.

    Args:
        hidden: float32 [T, H], what the model's last layer would have given for the token before each of ``ids``.
    """
    lib = library()
    watch = GraphWatch(lib)
    with _context(file, watch) as context, watch.watch(ExpertMask(dropped or {})):
        batch = lib.llama_batch_ext_init(context)
        for position, token in enumerate(ids):
            index = lib.llama_batch_ext_add_token(batch, 0, token)
            row = np.ascontiguousarray(hidden[position]).ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            assert lib.llama_batch_ext_set_embd_token(batch, index, lib.llama_embd(row, 1, hidden.shape[1]))
            assert lib.llama_batch_ext_set_pos(batch, index, ctypes.byref(ctypes.c_int32(position)))
            assert lib.llama_batch_ext_set_output_logits(batch, index, True)
        assert watch.run(lambda: lib.llama_process(context, lib.LLAMA_PROCESS_TYPE_DECODE, batch)) == 0
        width = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(lib.llama_get_model(context)))
        rows = [np.ctypeslib.as_array(lib.llama_get_logits_ith(context, i), (width,)).copy() for i in range(len(ids))]
        lib.llama_batch_ext_free(batch)
    return np.stack(rows)
