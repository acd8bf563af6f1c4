"""Peer of bench/suites/decode.ts: llama.cpp on a GGUF file. One JSON request a line, one JSON answer a line:

{"model": path, "threads": n, "context": n}     opens the file; gives the version
{"prefill": n}                                  reads n tokens into an empty cache; gives seconds
{"decode": n, "from": p}                        reads p tokens, then n more one by one, the likeliest each; seconds of the n
{"logits": [ids]}                               logits after these tokens

An error is answered too: {"error": "..."}.
"""

import ctypes

import llama_cpp as lib
import numpy as np

from serve import seconds_of, serve


class Model:
    def __init__(self, request):
        quiet = lib.llama_log_callback(lambda level, text, data: None)
        lib.llama_log_set(quiet, ctypes.c_void_p(0))
        self.quiet = quiet
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(request["model"].encode(), lib.llama_model_default_params())
        if not self.model:
            raise RuntimeError("llama.cpp does not load the file")
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = request["context"], request["context"], 512
        params.n_threads = params.n_threads_batch = request["threads"]
        self.context = lib.llama_init_from_model(self.model, params)
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))

    def clear(self):
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)

    def read(self, tokens):
        ids = (lib.llama_token * len(tokens))(*tokens)
        if lib.llama_decode(self.context, lib.llama_batch_get_one(ids, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")
        logits = lib.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(logits, shape=(self.vocab,))

    def prefill(self, n):
        self.clear()
        tokens = [(7 * i) % self.vocab for i in range(n)]
        return seconds_of(lambda: self.read(tokens))

    def decode(self, n, first):
        self.clear()
        token = int(self.read([(7 * i) % self.vocab for i in range(first)]).argmax())

        def step():
            nonlocal token
            token = int(self.read([token]).argmax())

        return seconds_of(step, n)

    def logits(self, tokens):
        self.clear()
        return self.read(tokens)


model = None


def answer(request):
    global model
    if "model" in request:
        model = Model(request)
        return {"version": lib.__version__}
    if "prefill" in request:
        return {"seconds": model.prefill(request["prefill"])}
    if "decode" in request:
        return {"seconds": model.decode(request["decode"], request["from"])}
    return {"logits": model.logits(request["logits"]).tolist()}


serve(answer)
