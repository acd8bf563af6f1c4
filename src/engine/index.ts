export { grad, valueAndGrad } from "./autodiff/index.ts";
export {
  type Backend,
  type BackendName,
  backendNames,
  createBackend,
  defaultBackend,
  type Executable,
  type ExecutableStats,
  type ProfileEntry,
} from "./backends/index.ts";
export {
  type Compiled,
  type Concrete,
  type ConcreteResult,
  type JitOptions,
  type Jitted,
  jit,
  type Specs,
} from "./compile/jit.ts";
export { formatBytes } from "./compile/memory-limit.ts";
export { operandsOfPrecision, type Precision, precisions } from "./compile/precision.ts";
export { allocateBytes, type HostInfo, hostInfo, type MachineLimits, mapFile, measureLimits } from "./host-info.ts";
export * from "./ir/index.ts";
export * from "./ops/index.ts";
export { chromeTrace, groupProfile, type NamedProfile, operationName, type ProfileGroup } from "./profile.ts";
export * from "./quantize/index.ts";
export { fillNormal, HostRandom, type HostRandomState } from "./random.ts";
export { flatten, isBranch, mapTree, type Tree, unflatten } from "./tree.ts";
