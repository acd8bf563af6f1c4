"""What the peers of bench/peer.ts share: one JSON request a line in, one JSON answer a line out."""

import json
import resource
import sys
import time


def serve(answer):
    """Answers every line of standard input with `answer(request)`. An exception is answered too, {"error": "..."}, for
    the bench to say in its table: a compiler or a library may be missing, memory may not suffice."""
    for line in sys.stdin:
        try:
            result = answer(json.loads(line))
        except Exception as error:
            first_line = (str(error).strip().splitlines() or [""])[0]
            result = {"error": f"{type(error).__name__}: {first_line}"}
        print(json.dumps(result), flush=True)


def serve_kernels(work):
    """Times PyTorch's kernels. {"threads": n} sets the threads and gives {"version"}; any other request is prepared by
    `work(request)`, which gives a function to be called `repeats` times: {"seconds": seconds per call}."""
    import torch

    def answer(request):
        if "threads" in request:
            torch.set_num_threads(request["threads"])
            return {"version": torch.__version__}
        return {"seconds": seconds_of(work(request), request["repeats"]) / request["repeats"]}

    with torch.inference_mode():
        serve(answer)


def serve_steps(build, version):
    """Training steps. {"steps": n} runs n steps of what the last request built: {"seconds", "loss", "peakBytes" of this
    process}. Any other request is built by `build(request)`, whose `run()` is a step that gives the loss; the first
    step happens at once: {"version", "parameters" that it trains}."""
    step = loss = None

    def run():
        nonlocal loss
        loss = step.run()

    def answer(request):
        nonlocal step
        if "steps" in request:
            seconds = seconds_of(run, request["steps"])
            peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            return {"seconds": seconds, "loss": loss, "peakBytes": peak_bytes}
        step = build(request)
        run()
        return {"version": version, "parameters": sum(p.numel() for p in step.parameters)}

    serve(answer)


def seconds_of(call, repeats=1):
    """Seconds that `repeats` calls take. What a call gives is dropped before the next: its memory is used again."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start
