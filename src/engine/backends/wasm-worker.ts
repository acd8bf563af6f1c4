/** The WebAssembly engine's thread in Node. */
import { parentPort, workerData } from "node:worker_threads";
import { WasmEngine, type WasmModule } from "./wasm-engine.ts";
import { type WasmRequest, WasmServer } from "./wasm-protocol.ts";

const server = new WasmServer(new WasmEngine(workerData as WasmModule));
parentPort?.on("message", (request: WasmRequest) => {
  const reply = server.handle(request);
  if (reply === undefined) return;
  const memory = "outputs" in reply ? reply.outputs.map((data) => data.buffer) : [];
  parentPort?.postMessage(reply, memory);
});
