/**
 * Plinth in one import. The same names are in the subpaths (`plinth/engine`, `plinth/data`, ...), which also hold what is
 * only of use to those who extend Plinth.
 */

export * from "./adapt/index.ts";
export { PlinthError } from "./base/index.ts";
export * from "./data/index.ts";
export * from "./engine/index.ts";
// of two functions of this name, the op
export { logSoftmax } from "./engine/index.ts";
export * from "./evaluate/index.ts";
export * from "./generate/index.ts";
export * from "./models/index.ts";
export * from "./pipelines/index.ts";
export * from "./sandbox/index.ts";
export * from "./train/index.ts";
