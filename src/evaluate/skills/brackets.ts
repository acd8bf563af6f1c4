import { defineSkill } from "./skill.ts";

const pairs = ["()", "[]", "{}"] as const;

export const brackets = defineSkill({
  name: "brackets",
  summary: "the brackets that close those that are open",
  difficulty: "n brackets left open, and as many closed on the way",
  make(difficulty, random) {
    let text = "";
    let open = "";
    let closed = 0;
    let depth = 0;
    // Opened and closed at random until n have been closed and n are open.
    while (closed < difficulty || depth < difficulty) {
      const mayOpen = depth < difficulty + (closed < difficulty ? 1 : 0);
      const closes = depth > 0 && closed < difficulty && (!mayOpen || random.uniform() < 0.5);
      if (closes) {
        text += open[0];
        open = open.slice(1);
        closed++;
        depth--;
      } else {
        const [left, right] = pairs[random.int(pairs.length)] as unknown as [string, string];
        text += left;
        open = right + open;
        depth++;
      }
    }
    return { prompt: `close ${text} >`, answer: open };
  },
});
