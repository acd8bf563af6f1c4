/** One command of the command line. A file per command exports one of these as `command`. */
export interface Command {
  /** Words after `plinth`, e.g. `data build`. */
  readonly name: string;
  readonly summary: string;
  /** A line that works as written. */
  readonly example: string;
  /** Positional arguments, as shown in the usage line. */
  readonly positionals?: readonly { readonly name: string; readonly required: boolean; readonly summary: string }[];
  readonly options: Readonly<Record<string, OptionSpec>>;
  readonly run: (args: CommandArgs, io: CommandIo) => Promise<void>;
}

/** A flag. Names are kebab-case without dashes; `--json`, `--verbose` and `--help` exist on every command. */
export interface OptionSpec {
  readonly type: "string" | "number" | "integer" | "boolean";
  readonly summary: string;
  readonly repeatable?: boolean;
  readonly required?: boolean;
  /** Shown in help; the command applies it. */
  readonly default?: string | number | boolean;
  readonly choices?: readonly string[];
}

export interface CommandArgs {
  readonly positionals: readonly string[];
  /** Values given on the command line, already converted and checked. */
  string(name: string): string | undefined;
  strings(name: string): readonly string[];
  number(name: string): number | undefined;
  boolean(name: string): boolean;
  /** The value, or a PlinthError naming the flag. */
  required(name: string): string;
}

/** Where a command speaks. Results go through `result`; everything else is progress on standard error. */
export interface CommandIo {
  readonly json: boolean;
  readonly verbose: boolean;
  /** Aborted by the first Ctrl-C; commands save what they have and say how to resume. */
  readonly signal: AbortSignal;
  /** Text for people on standard output; nothing in `--json` mode. */
  print(text: string): void;
  /** Raw text without a newline (streamed generation); nothing in `--json` mode. */
  write(text: string): void;
  /** The one JSON document of `--json` mode; nothing otherwise. */
  result(document: unknown): void;
  /** A line that stays, on standard error. */
  note(text: string): void;
  /** A line that is replaced by the next on a terminal, or printed now and then when piped. */
  progress(text: string): void;
}
