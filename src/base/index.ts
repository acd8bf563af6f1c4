export { nearestName, PlinthError } from "./error.ts";
export {
  explainReadError,
  explainWriteError,
  makeFolder,
  packageRoot,
  readJson,
  sha256,
  sha256File,
  syncFolder,
  writeFileAtomic,
  writeJsonAtomic,
} from "./files.ts";
export { packageVersion } from "./version.ts";
export { readZip, type ZipEntry } from "./zip.ts";
