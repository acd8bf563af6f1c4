import { PlinthError } from "../base/index.ts";

/** What SPDX calls "no claim": the licence of material that declares none. */
export const noAssertion = "NOASSERTION";

/** A parsed SPDX licence expression (SPDX specification 3.0, annex B). */
export type LicenceExpression =
  | SingleLicence
  | { readonly kind: "and" | "or"; readonly left: LicenceExpression; readonly right: LicenceExpression };

interface SingleLicence {
  readonly kind: "licence";
  readonly id: string;
  readonly exception?: string;
}

/** Which licences a dataset accepts. Patterns are SPDX ids in any case; `*` stands for any characters (`BSD-*`). */
export interface LicencePolicy {
  /** Absent or empty: every licence not denied. */
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
}

/** Parses `(MIT OR Apache-2.0)`, `GPL-2.0-only WITH Classpath-exception-2.0` and the like; undefined when malformed. */
export function parseLicence(text: string): LicenceExpression | undefined {
  const tokens = text.match(/[()]|[^\s()]+/g) ?? [];
  let next = 0;
  const take = (word: string): boolean => {
    if (tokens[next]?.toUpperCase() !== word) return false;
    next++;
    return true;
  };
  const primary = (): LicenceExpression | undefined => {
    if (take("(")) {
      const inner = either();
      return inner !== undefined && take(")") ? inner : undefined;
    }
    const id = tokens[next];
    if (id === undefined || !/^[A-Za-z0-9][A-Za-z0-9.:-]*\+?$/.test(id) || /^(AND|OR|WITH)$/i.test(id))
      return undefined;
    next++;
    if (!take("WITH")) return { kind: "licence", id };
    const exception = tokens[next++];
    return exception === undefined ? undefined : { kind: "licence", id, exception };
  };
  const chain = (word: "AND" | "OR", operand: () => LicenceExpression | undefined): LicenceExpression | undefined => {
    let left = operand();
    while (left !== undefined && take(word)) {
      const right = operand();
      if (right === undefined) return undefined;
      left = { kind: word === "AND" ? "and" : "or", left, right };
    }
    return left;
  };
  const both = () => chain("AND", primary); // AND binds tighter than OR
  const either = (): LicenceExpression | undefined => chain("OR", both);
  const expression = either();
  return next === tokens.length ? expression : undefined;
}

/**
 * The licence of a package.json as one SPDX expression: the string as it is, the legacy `{type}` object, the legacy
 * `licenses` array (alternatives, hence OR), otherwise `NOASSERTION`. `UNLICENSED` (no rights given) stays as it is;
 * `SEE LICENSE IN file` and other prose become `NOASSERTION`.
 */
export function licenceOfPackage(manifest: { license?: unknown; licence?: unknown; licenses?: unknown }): string {
  const one = (value: unknown): string | undefined => {
    if (typeof value === "string") return parseLicence(value) === undefined ? undefined : value.trim();
    if (typeof value === "object" && value !== null && "type" in value) return one(value.type);
    return undefined;
  };
  const listed = manifest.license ?? manifest.licence ?? manifest.licenses;
  const ids = (Array.isArray(listed) ? listed : [listed]).map(one).filter((id) => id !== undefined);
  if (ids.length === 0) return noAssertion;
  return ids.length === 1 ? (ids[0] as string) : `(${ids.join(" OR ")})`;
}

/**
 * Whether material under the expression may be used: OR needs one usable side, AND both; a licence is usable when it is
 * allowed (or nothing is listed) and not denied. An exception (`WITH`) only adds permissions, so allowing the licence
 * itself allows it too. An expression that does not parse counts as one licence of that name.
 */
export function licenceAccepted(licence: string, policy: LicencePolicy): boolean {
  const allow = (policy.allow ?? []).map(pattern);
  const deny = (policy.deny ?? []).map(pattern);
  const usable = (names: readonly string[]): boolean => {
    const matches = (patterns: readonly RegExp[]) => patterns.some((p) => names.some((name) => p.test(name)));
    return (allow.length === 0 || matches(allow)) && !matches(deny);
  };
  const visit = (node: LicenceExpression): boolean => {
    if (node.kind === "licence") return usable(licenceNames(node));
    return node.kind === "and" ? visit(node.left) && visit(node.right) : visit(node.left) || visit(node.right);
  };
  const expression = parseLicence(licence);
  return expression === undefined ? usable([licence]) : visit(expression);
}

/** The names under which a licence may be listed: with and without exception, old and new spelling of GNU licences. */
function licenceNames(node: SingleLicence): string[] {
  const base = node.id.replace(/\+$/, "").replace(/-(only|or-later)$/, "");
  const later = node.id.endsWith("+") || node.id.endsWith("-or-later");
  const names = later ? [node.id, `${base}+`, `${base}-or-later`, base] : [node.id, base];
  if (/^(A?GPL|LGPL)-/i.test(base) && !later) names.push(`${base}-only`);
  return node.exception === undefined ? names : [`${node.id} WITH ${node.exception}`, ...names];
}

function pattern(text: string): RegExp {
  const source = text
    .trim()
    .replace(/[.+?^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*");
  return new RegExp(`^${source}$`, "i");
}

/** Checks a list given by the user: every entry must be a licence id or pattern, not an expression. */
export function checkLicenceList(flag: string, list: readonly string[]): void {
  for (const entry of list) {
    if (!/^[A-Za-z0-9*][A-Za-z0-9.*+-]*( WITH [A-Za-z0-9.*-]+)?$/.test(entry.trim())) {
      throw new PlinthError(
        `${flag}: ${JSON.stringify(entry)} is not an SPDX licence id`,
        "list ids such as MIT,Apache-2.0,BSD-*",
      );
    }
  }
}
