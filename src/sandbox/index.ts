export { sandboxIsolation } from "./detect.ts";
export type { Isolation } from "./isolation.ts";
export { type Language, languages } from "./languages.ts";
export { defaultLimits, type SandboxLimits } from "./limits.ts";
export { type Outcome, type Program, type ProgramResult, runProgram, type SandboxOptions } from "./run.ts";
