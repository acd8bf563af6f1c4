/** node write-cases.js KIND FILE [SEED COUNT]: cases for native/driver; KIND is contract, graphs, steps or hostile. */
import { writeFileSync } from "node:fs";
import { contractCases, encodeCases, graphCases, hostileCases, stepCases } from "./driver-cases.ts";

const [kind = "", file = "", seedText = "1", countText = "20"] = process.argv.slice(2);
const [seed, count] = [Number(seedText), Number(countText)];
const kinds = {
  contract: contractCases,
  graphs: () => graphCases(seed, count),
  steps: () => stepCases(seed, count),
  hostile: () => hostileCases(seed, count),
};
const make = kinds[kind as keyof typeof kinds];
if (make === undefined) throw new Error(`kind "${kind}": expected one of ${Object.keys(kinds).join(", ")}`);
const cases = await make();
writeFileSync(file, encodeCases(cases));
console.log(`${cases.length} ${kind} cases in ${file}`);
