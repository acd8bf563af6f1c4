/** A pair of ids as one number that orders like the pair, how often it occurs, and the words it occurs in. */
export interface Merge {
  readonly pair: number;
  readonly count: number;
  readonly words: readonly number[];
}

/** Binary heap of merges: the highest count first, ties by the smaller pair (first by its left id, then its right). */
export class MergeHeap {
  readonly #items: Merge[] = [];

  push(merge: Merge): void {
    const items = this.#items;
    let at = items.push(merge) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(merge, items[parent] as Merge)) break;
      items[at] = items[parent] as Merge;
      at = parent;
    }
    items[at] = merge;
  }

  pop(): Merge | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (top === undefined || last === undefined || items.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && before(items[child + 1] as Merge, items[child] as Merge)) child++;
      if (!before(items[child] as Merge, last)) break;
      items[at] = items[child] as Merge;
      at = child;
    }
    items[at] = last;
    return top;
  }
}

function before(a: Merge, b: Merge): boolean {
  return a.count === b.count ? a.pair < b.pair : a.count > b.count;
}
