import assert from "node:assert/strict";
import { test } from "node:test";
import { licenceAccepted, licenceOfPackage, parseLicence } from "../../src/data/licence.ts";

const permissive = { allow: ["MIT", "Apache-2.0", "BSD-*", "ISC"] };

test("licence expressions are accepted when their terms can be met", () => {
  const cases: [licence: string, accepted: boolean][] = [
    ["MIT", true],
    ["mit", true],
    ["(MIT OR GPL-3.0-only)", true],
    ["MIT AND GPL-3.0-only", false],
    ["GPL-3.0-only OR MIT AND Apache-2.0", true],
    ["(GPL-3.0-only OR MIT) AND CC-BY-4.0", false],
    ["MIT AND (GPL-2.0 OR BSD-3-Clause)", true],
    ["(MIT AND CC-BY-3.0)", false],
    ["BSD-2-Clause", true],
    ["BSD", false],
    ["Apache-2.0 WITH LLVM-exception", true],
    ["NOASSERTION", false],
    ["UNLICENSED", false],
    ["not a licence", false],
    ["MIT-0", false],
  ];
  for (const [licence, accepted] of cases) assert.equal(licenceAccepted(licence, permissive), accepted, licence);
});

test("denied licences, with and without an allow list", () => {
  const deny = ["GPL-*", "AGPL-*"];
  assert.equal(licenceAccepted("GPL-3.0-or-later", { deny }), false);
  assert.equal(licenceAccepted("LGPL-3.0-only", { deny }), true);
  assert.equal(licenceAccepted("MIT OR GPL-3.0-only", { deny }), true);
  assert.equal(licenceAccepted("MIT AND GPL-3.0-only", { deny }), false);
  assert.equal(licenceAccepted("NOASSERTION", { deny }), true);
  assert.equal(licenceAccepted("MIT", { allow: ["MIT"], deny: ["MIT"] }), false);
});

test("old and new spellings of GNU licences are the same", () => {
  assert.ok(licenceAccepted("GPL-2.0", { allow: ["GPL-2.0-only"] }));
  assert.ok(licenceAccepted("GPL-2.0+", { allow: ["GPL-2.0-or-later"] }));
  assert.ok(licenceAccepted("LGPL-2.1-or-later", { allow: ["LGPL-2.1+"] }));
  assert.ok(licenceAccepted("GPL-2.0-only WITH Classpath-exception-2.0", { allow: ["GPL-2.0-only"] }));
  assert.ok(!licenceAccepted("GPL-2.0-only", { allow: ["GPL-2.0-or-later"] }));
});

test("expressions parse, malformed ones do not", () => {
  assert.deepEqual(parseLicence("(MIT)"), { kind: "licence", id: "MIT" });
  for (const bad of [
    "",
    "MIT OR",
    "OR MIT",
    "(MIT",
    "MIT)",
    "MIT Apache-2.0",
    "MIT WITH",
    "SEE LICENSE IN LICENSE.txt",
    "()",
  ]) {
    assert.equal(parseLicence(bad), undefined, bad);
  }
});

test("the licence of a package.json in all its historical forms", () => {
  assert.equal(licenceOfPackage({ license: "MIT" }), "MIT");
  assert.equal(licenceOfPackage({ license: "(MIT OR Apache-2.0)" }), "(MIT OR Apache-2.0)");
  assert.equal(licenceOfPackage({ license: { type: "ISC", url: "x" } }), "ISC");
  assert.equal(licenceOfPackage({ licenses: [{ type: "MIT" }, { type: "GPL-2.0" }] }), "(MIT OR GPL-2.0)");
  assert.equal(licenceOfPackage({ licenses: ["MIT", "BSD-3-Clause"] }), "(MIT OR BSD-3-Clause)");
  assert.equal(licenceOfPackage({ license: "UNLICENSED" }), "UNLICENSED");
  for (const silent of [
    {},
    { license: "" },
    { license: "SEE LICENSE IN LICENSE" },
    { license: 7 },
    { licenses: [] },
    { license: null },
  ]) {
    assert.equal(licenceOfPackage(silent), "NOASSERTION");
  }
});
