/** Scripts that pieces of words keep apart; letters of others count as one more. Japanese and Chinese mix theirs. */
const scripts = [
  /\p{Script=Latin}/u,
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}ー]/u,
  /\p{Script=Cyrillic}/u,
  /\p{Script=Greek}/u,
  /\p{Script=Hangul}/u,
  /\p{Script=Arabic}/u,
  /\p{Script=Hebrew}/u,
  /\p{Script=Devanagari}/u,
  /\p{Script=Bengali}/u,
  /\p{Script=Tamil}/u,
  /\p{Script=Telugu}/u,
  /\p{Script=Thai}/u,
  /\p{Script=Georgian}/u,
  /\p{Script=Armenian}/u,
];

/** Goes with any script: combining marks, and `▁` for the space. */
export const anyScript = 0;
const common = 1;

/**
 * Number of the script of a character: letters by their script; numbers, punctuation and symbols together;
 * {@link anyScript} for what goes with any. As sentencepiece's `split_by_unicode_script` has it.
 */
export function scriptOf(character: string): number {
  if (character === "▁" || /\p{Script=Inherited}/u.test(character)) return anyScript;
  const index = scripts.findIndex((script) => script.test(character));
  if (index >= 0) return common + 1 + index;
  return /[\p{L}\p{M}]/u.test(character) ? common + 1 + scripts.length : common;
}
