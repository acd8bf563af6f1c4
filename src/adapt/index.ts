import "./full.ts";
import "./qlora.ts";

export { type AdaptOptions, adapt } from "./adapt.ts";
export {
  type Adaptation,
  type Adapter,
  type AdapterOptions,
  adapterMethods,
  defineAdapter,
  findAdapter,
} from "./adapter.ts";
export {
  checkInstruction,
  encodeInstructions,
  holdOut,
  type Instruction,
  type InstructionData,
  type InstructionReport,
  readInstructions,
} from "./instructions.ts";
export {
  checkLabelled,
  encodeLabelled,
  headOfRecords,
  type LabelledData,
  type LabelledRecord,
  type QuestionRecord,
  type SimilarRecord,
  type TextRecord,
  type WordsRecord,
} from "./labelled.ts";
export { initLora, loadAdapter, lora, withLora } from "./lora.ts";
export { editLora, type LoraScale } from "./lora-edit.ts";
export { type LinearModule, type Lora, linearModules, loraScale } from "./lora-modules.ts";
export { mergeLora, unmergeLora } from "./merge.ts";
export { readPeft, writePeft } from "./peft.ts";
