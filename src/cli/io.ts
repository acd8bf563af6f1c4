import type { CommandIo } from "./command.ts";

/** Where output goes; the process's own streams outside tests. */
export interface Streams {
  readonly out: { write(text: string): unknown };
  readonly err: { write(text: string): unknown; readonly isTTY?: boolean; readonly columns?: number };
}

/** Seconds between progress lines when standard error is not a terminal. */
const pipedProgressSeconds = 5;

/** The voice of a command: results on standard output, everything else on standard error. */
export function createIo(
  streams: Streams,
  options: { readonly json: boolean; readonly verbose: boolean; readonly signal: AbortSignal },
): CommandIo {
  const { out, err } = streams;
  let openLine = false;
  let lastPiped = Number.NEGATIVE_INFINITY;
  const closeLine = (): void => {
    if (openLine) err.write("\r\u001b[K");
    openLine = false;
  };
  return {
    ...options,
    print: (text) => {
      closeLine();
      if (!options.json) out.write(`${text}\n`);
    },
    write: (text) => {
      closeLine();
      if (!options.json) out.write(text);
    },
    result: (document) => {
      closeLine();
      if (options.json) out.write(`${JSON.stringify(document, undefined, 2)}\n`);
    },
    note: (text) => {
      closeLine();
      err.write(`${text}\n`);
    },
    progress: (text) => {
      if (err.isTTY === true) {
        const width = (err.columns ?? 80) - 1;
        err.write(`\r\u001b[K${text.length > width ? text.slice(0, width) : text}`);
        openLine = true;
        return;
      }
      const now = performance.now() / 1000;
      if (now - lastPiped < pipedProgressSeconds) return;
      lastPiped = now;
      err.write(`${text}\n`);
    },
  };
}
